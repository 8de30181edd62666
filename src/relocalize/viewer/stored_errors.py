"""Errors of an evaluation, as lines from the true to the estimated camera centre."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relocalize.errors import GeometryError, PlaceError
from relocalize.geometry import Similarity3
from relocalize.geometry.transforms import FloatArray, rotation_from_quat_wxyz
from relocalize.place import Place
from relocalize.place.folder import read_json

_RESULTS = "results.json"


@dataclass(frozen=True, eq=False)
class ErrorLines:
    """One localizer on the test images of one split, in the Place's frame.

    Attributes:
        split: that was evaluated.
        localizer: its name.
        images: [N] that were localized.
        true: [N, 3] true camera centres.
        estimated: [N, 3] where the localizer put them.
        failed: [F, 3] true centres of the images that it did not localize.
    """

    split: str
    localizer: str
    images: tuple[str, ...]
    true: FloatArray
    estimated: FloatArray
    failed: FloatArray

    @property
    def median(self) -> float:
        """Of the position errors, failures counted as infinite; NaN where there are none."""
        if not len(self.true) + len(self.failed):
            return float("nan")
        errors = np.linalg.norm(self.estimated - self.true, axis=1)
        return float(np.median(np.append(errors, np.full(len(self.failed), np.inf))))

    def lines(self, exaggeration: float) -> FloatArray:
        """[N, 2, 3] from the true centre towards the estimated one, so many times as long."""
        ends = self.true + exaggeration * (self.estimated - self.true)
        return np.stack([self.true, ends], axis=1)


def stored_errors(place: Place) -> tuple[list[ErrorLines], list[str]]:
    """The errors of every stored evaluation of a Place, and a line for each that is damaged."""
    found: list[ErrorLines] = []
    remarks: list[str] = []
    for path in sorted(place.root.glob(f"reports/*/{_RESULTS}")):
        lines = _errors_or_remark(path)
        if isinstance(lines, str):
            remarks.append(f"errors are not shown: {lines}")
        else:
            found += lines
    return found, remarks


def _errors_or_remark(path: Path) -> list[ErrorLines] | str:
    try:
        return _errors_in(read_json(path))
    except PlaceError as error:
        return str(error)
    except (KeyError, TypeError, ValueError, AttributeError, GeometryError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return f"{path} is damaged ({said})"


def _errors_in(results: dict[str, Any]) -> list[ErrorLines]:
    place_from_truth = _place_from_truth(results.get("aligned"))
    split, rows = str(results["split"]), results["per_image"]
    lines = []
    for localizer in results["localizers"]:
        images: list[str] = []
        true: list[FloatArray] = []
        estimated: list[FloatArray] = []
        failed: list[FloatArray] = []
        for row in rows:
            answer, centre = row["localizers"][localizer], _position(row["position"])
            if answer["position"] is None:
                failed.append(centre)
                continue
            images.append(str(row["image"]))
            true.append(centre)
            estimated.append(_position(answer["position"]))
        lines.append(
            ErrorLines(
                split,
                str(localizer),
                tuple(images),
                place_from_truth @ np.reshape(true, (-1, 3)),
                place_from_truth @ np.reshape(estimated, (-1, 3)),
                place_from_truth @ np.reshape(failed, (-1, 3)),
            )
        )
    return lines


def _place_from_truth(aligned: dict[str, Any] | None) -> Similarity3:
    if aligned is None:
        return Similarity3.identity()
    return Similarity3(
        float(aligned["scale"]),
        rotation_from_quat_wxyz(aligned["quat_wxyz"]),
        _position(aligned["translation"]),
    ).inverse()


def _position(value: Any) -> FloatArray:
    position = np.asarray(value, dtype=np.float64)
    if position.shape != (3,) or not np.isfinite(position).all():
        raise ValueError(f"no position: {str(value)[:60]}")
    return position
