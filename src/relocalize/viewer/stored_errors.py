"""Errors of an evaluation, as lines from the true to the estimated camera centre."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relocalize.errors import PlaceError
from relocalize.evaluation.names import RESULTS
from relocalize.evaluation.report.stored import Results
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place
from relocalize.place.folder import read_json


@dataclass(frozen=True, eq=False)
class ErrorLines:
    """One localizer on the test images of one split, in the Place's frame."""

    split: str  # that was evaluated
    localizer: str  # its name
    true: FloatArray  # [N, 3] true camera centres of the images that were localized
    estimated: FloatArray  # [N, 3] where the localizer put them
    failed: FloatArray  # [F, 3] true centres of the images that it did not localize

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
        return _errors_in(Results(path, read_json(path)))
    except PlaceError as error:
        return str(error)


def _errors_in(results: Results) -> list[ErrorLines]:
    with results.checked():
        place_from_truth = results.truth_from_place.inverse()
        true = place_from_truth @ results.true_positions
        if not np.isfinite(true).all():
            raise ValueError("a position that is no number")
        lines = []
        for localizer in results.names:
            estimated = place_from_truth @ results.positions(localizer)
            failed = np.isnan(estimated).any(axis=1)
            found = estimated[~failed]
            lines.append(ErrorLines(results.split, localizer, true[~failed], found, true[failed]))
        return lines
