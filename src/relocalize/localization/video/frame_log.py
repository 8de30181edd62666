"""A clip's frames as they were localized, written down one by one: a killed run resumes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from relocalize.absolute_pose.shared_camera import SharedCamera
from relocalize.localization import PoseEstimate
from relocalize.place.row_log import RowLog
from relocalize.plain import from_plain, to_plain


@dataclass(frozen=True, eq=False)
class LoggedFrame:
    """One frame's own estimate.

    Attributes:
        number: of the frame in the video, from 0.
        time_s: since the video's first frame.
        estimate: what is not exactly known of the clip's camera is part of its covariance.
    """

    number: int
    time_s: float
    estimate: PoseEstimate

    def __post_init__(self) -> None:
        if self.number < 0 or not math.isfinite(self.time_s):
            raise ValueError(f"no frame: {self.number!r} at {self.time_s!r} s")
        for matrix in (self.estimate.covariance, self.estimate.shared_covariance):
            if matrix is not None and np.shape(matrix) != (6, 6):
                raise ValueError(f"frame {self.number} has no 6 x 6 covariance")

    @classmethod
    def of(cls, number: int, time_s: float, estimate: PoseEstimate) -> LoggedFrame:
        """From an estimate."""
        milliseconds = round(estimate.milliseconds, 2)
        stored = replace(estimate, milliseconds=milliseconds, camera=None, inlier_points=None)
        return cls(number, time_s, stored)


class FrameLog(RowLog[LoggedFrame]):
    """The frames of a clip.

    Attributes:
        camera: the clip's, as it was found when the log was begun; None where it is not known.
        has_begun: whether that was.
    """

    def __init__(self, path: Path, inputs: str) -> None:
        """Frames of other ``inputs`` are dropped."""
        super().__init__(path, inputs, LoggedFrame)
        self.has_begun = self.noted is not None
        stored = (self.noted or {}).get("camera")
        self.camera = None if stored is None else from_plain(SharedCamera, stored)

    @property
    def frames(self) -> list[LoggedFrame]:
        """That are there, in order."""
        return self.rows

    def begin(self, camera: SharedCamera | None) -> None:
        """Note the clip's camera, before the first frame."""
        self.camera, self.has_begun = camera, True
        self.noted = {"camera": to_plain(camera)}

    def add(self, frame: LoggedFrame) -> None:
        """Write a frame down."""
        self.append(frame)
