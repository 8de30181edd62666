"""Errors of an evaluation, as lines from the true to the estimated camera centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relocalize.errors import GeometryError, PlaceError
from relocalize.evaluation.names import RESULTS
from relocalize.geometry import Similarity3
from relocalize.geometry.transforms import FloatArray, rotation_from_quat_wxyz
from relocalize.place import Place
from relocalize.place.folder import read_json


@dataclass(frozen=True, eq=False)
class ErrorLines:
    """One localizer on the test images of one split, in the Place's frame.

    Attributes:
        split: that was evaluated.
        localizer: its name.
        true: [N, 3] true camera centres of the images that were localized.
        estimated: [N, 3] where the localizer put them.
        failed: [F, 3] true centres of the images that it did not localize.
    """

    split: str
    localizer: str
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
    for path in sorted(place.root.glob(f"reports/*/{RESULTS}")):
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
    place_from_truth = Similarity3.identity()
    if (aligned := results.get("aligned")) is not None:
        rotation = rotation_from_quat_wxyz(aligned["quat_wxyz"])
        (shift,) = _positions([aligned["translation"]])
        place_from_truth = Similarity3(float(aligned["scale"]), rotation, shift).inverse()
    true = place_from_truth @ _positions([row["position"] for row in results["per_image"]])
    lines = []
    for localizer in results["localizers"]:
        found = [row["localizers"][localizer]["position"] for row in results["per_image"]]
        failed = np.array([position is None for position in found], dtype=np.bool_)
        estimated = place_from_truth @ _positions([one for one in found if one is not None])
        split = str(results["split"])
        lines.append(ErrorLines(split, str(localizer), true[~failed], estimated, true[failed]))
    return lines


def _positions(values: Sequence[Any]) -> FloatArray:
    positions = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    if values and (positions.shape[1] != 3 or not np.isfinite(positions).all()):
        raise ValueError(f"no positions: {str(values)[:60]}")
    return positions.reshape(-1, 3)
