"""What localizers answered, written down photo by photo so that a killed evaluation resumes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from relocalize.localization import PoseEstimate
from relocalize.place.row_log import RowLog


@dataclass(frozen=True, eq=False)
class Answer:
    """One localizer's estimate for one photo, and its cost."""

    estimate: PoseEstimate  # in the Place's frame; a covariance that is not finite is left out
    milliseconds: float  # wall time of `localize`
    cpu_milliseconds: float  # CPU time of the same, over all threads

    @classmethod
    def of(cls, estimate: PoseEstimate, milliseconds: float, cpu_milliseconds: float) -> Answer:
        """From an estimate and what it cost."""
        covariance = estimate.covariance
        if covariance is not None and not np.isfinite(covariance).all():
            covariance = None
        stored = replace(estimate, covariance=covariance, camera=None, inlier_points=None)
        return cls(stored, round(milliseconds, 2), round(cpu_milliseconds, 2))


@dataclass(frozen=True, eq=False)
class _Row:
    localizer: str
    image: str
    answer: Answer


class AnswerLog(RowLog[_Row]):
    """The answers of an evaluation under way; `remove` it when the results are stored."""

    def __init__(self, path: Path, inputs: str) -> None:
        """Answers of other ``inputs``, an evaluation's fingerprint, are dropped."""
        super().__init__(path, inputs, _Row)
        self._answers = {(row.localizer, row.image): row.answer for row in self.rows}

    def get(self, localizer: str, image: str) -> Answer | None:
        """The answer that is there already, or None."""
        return self._answers.get((localizer, image))

    def add(self, localizer: str, image: str, answer: Answer) -> None:
        """Write an answer down."""
        self._answers[localizer, image] = answer
        self.append(_Row(localizer, image, answer))
