"""What localizers answered, written down photo by photo so that a killed evaluation goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from typing_extensions import Self

from relocalize.evaluation.metrics import finite
from relocalize.geometry import Rigid3
from relocalize.localization import PoseEstimate


@dataclass(frozen=True)
class Answer:
    """One localizer's answer to one photo, and its cost.

    Attributes:
        status: ``localized`` or ``failed``.
        reason: why it failed, or None.
        position: [3] camera centre in the Place's frame, or None for a failure.
        quat_wxyz: [4] of ``world_from_cam``, or None likewise.
        position_sigma: as the localizer sees it, or None.
        rotation_sigma_deg: likewise.
        covariance: [36] rows of the covariance of (centre in the Place, rotation in the camera's
            axes in radians), or None likewise.
        inliers: matches that agree, or None.
        milliseconds: wall time of `localize`.
        cpu_milliseconds: CPU time of the same, over all threads.
    """

    status: str
    reason: str | None
    position: tuple[float, ...] | None
    quat_wxyz: tuple[float, ...] | None
    position_sigma: float | None
    rotation_sigma_deg: float | None
    covariance: tuple[float, ...] | None
    inliers: int | None
    milliseconds: float
    cpu_milliseconds: float

    @classmethod
    def of(cls, estimate: PoseEstimate, milliseconds: float, cpu_milliseconds: float) -> Answer:
        """From an estimate and what it cost."""
        pose, covariance = estimate.world_from_cam, estimate.covariance
        if covariance is not None and not np.isfinite(covariance).all():
            covariance = None
        return cls(
            status=estimate.status,
            reason=estimate.reason,
            position=None if pose is None else tuple(pose.translation.tolist()),
            quat_wxyz=None if pose is None else tuple(pose.quat_wxyz.tolist()),
            position_sigma=finite(estimate.position_sigma),
            rotation_sigma_deg=finite(estimate.rotation_sigma_deg),
            covariance=None if covariance is None else tuple(covariance.ravel().tolist()),
            inliers=estimate.inliers,
            milliseconds=round(milliseconds, 2),
            cpu_milliseconds=round(cpu_milliseconds, 2),
        )

    @property
    def world_from_cam(self) -> Rigid3 | None:
        """The pose in the Place's frame, or None for a failure."""
        if self.position is None or self.quat_wxyz is None:
            return None
        return Rigid3.from_quat_wxyz(self.quat_wxyz, self.position)


class AnswerLog:
    """The answers of an evaluation under way, in a file of one JSON object per line.

    The file begins with the fingerprint of the evaluation's inputs; answers from other inputs
    are dropped. `remove` it when the results are stored.
    """

    def __init__(self, path: Path, inputs: str) -> None:
        self._path, self._inputs = path, inputs
        self._answers: dict[tuple[str, str], Answer] = {}
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        self._answers = self._read()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew, so that a line that a kill cut short is not continued.
        self._file = self._path.open("w", encoding="utf-8")
        self._write({"inputs": self._inputs})
        for (localizer, image), answer in self._answers.items():
            self._write({"localizer": localizer, "image": image, **asdict(answer)})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, localizer: str, image: str) -> Answer | None:
        """The answer that is there already, or None."""
        return self._answers.get((localizer, image))

    def add(self, localizer: str, image: str, answer: Answer) -> None:
        """Write an answer down."""
        self._answers[(localizer, image)] = answer
        self._write({"localizer": localizer, "image": image, **asdict(answer)})

    def remove(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)

    def _write(self, row: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(row, allow_nan=False) + "\n")
            self._file.flush()

    def _read(self) -> dict[tuple[str, str], Answer]:
        answers: dict[tuple[str, str], Answer] = {}
        try:
            head, *lines = self._path.read_text(encoding="utf-8").splitlines()
            if json.loads(head) != {"inputs": self._inputs}:
                return {}
            for line in lines:
                row = json.loads(line)
                key = (str(row.pop("localizer")), str(row.pop("image")))
                answers[key] = Answer(**row)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            # No log, another version's, or a last line cut short: what was read counts.
            pass
        return answers
