"""A clip's frames as they were localized, written down one by one: a killed run goes on."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from typing_extensions import Self

from relocalize.absolute_pose.shared_camera import SharedCamera
from relocalize.errors import GeometryError
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.localization import PoseEstimate
from relocalize.plain import from_plain, to_plain


@dataclass(frozen=True)
class LoggedFrame:
    """One frame's own estimate.

    Attributes:
        number: of the frame in the video, from 0.
        time_s: since the video's first frame.
        status: ``localized`` or ``failed``.
        reason: why it failed, or None.
        position: [3] camera centre, or None for a failure.
        quat_wxyz: [4] of ``world_from_cam``, or None likewise.
        covariance: [36] row by row as in `PoseEstimate`, or None; what is not exactly known of
            the clip's camera is part of it.
        shared: [36] the part of it that frames have in common, or None.
        inliers: matches that agree, or None.
        milliseconds: that it took.
    """

    number: int
    time_s: float
    status: str
    reason: str | None
    position: tuple[float, ...] | None
    quat_wxyz: tuple[float, ...] | None
    covariance: tuple[float, ...] | None
    shared: tuple[float, ...] | None
    inliers: int | None
    milliseconds: float

    @classmethod
    def of(cls, number: int, time_s: float, estimate: PoseEstimate) -> LoggedFrame:
        """From an estimate."""
        pose, covariance = estimate.world_from_cam, estimate.covariance
        shared = estimate.shared_covariance
        return cls(
            number=number,
            time_s=time_s,
            status=estimate.status,
            reason=estimate.reason,
            position=None if pose is None else tuple(pose.translation.tolist()),
            quat_wxyz=None if pose is None else tuple(pose.quat_wxyz.tolist()),
            covariance=None if covariance is None else tuple(covariance.ravel().tolist()),
            shared=None if shared is None else tuple(shared.ravel().tolist()),
            inliers=estimate.inliers,
            milliseconds=round(estimate.milliseconds, 2),
        )

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> LoggedFrame:
        """From a line; raises KeyError, TypeError, ValueError or GeometryError for none of ours."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
        }
        frame = cls(**fields)
        number_is_right = isinstance(frame.number, int) and frame.number >= 0
        if not number_is_right or not math.isfinite(frame.time_s):
            raise ValueError(f"no frame: {frame.number!r} at {frame.time_s!r} s")
        if frame.status == "localized":
            if frame.world_from_cam is None:
                raise ValueError(f"frame {frame.number} is localized and has no pose")
            for matrix in (frame.covariance, frame.shared):
                if matrix is not None and len(matrix) != 36:
                    raise ValueError(f"frame {frame.number} has no 6 x 6 covariance")
        return frame

    @property
    def world_from_cam(self) -> Rigid3 | None:
        """The pose, or None for a failure."""
        if self.position is None or self.quat_wxyz is None:
            return None
        return Rigid3.from_quat_wxyz(self.quat_wxyz, self.position)

    @property
    def covariance_matrix(self) -> FloatArray | None:
        """[6, 6], or None."""
        return None if self.covariance is None else np.reshape(self.covariance, (6, 6))

    @property
    def shared_matrix(self) -> FloatArray | None:
        """[6, 6], or None."""
        return None if self.shared is None else np.reshape(self.shared, (6, 6))


class FrameLog:
    """Frames in a file of one JSON object per line, the first of which says what they depend on.

    Attributes:
        camera: the clip's, as it was found when the log was begun; None where it is not known.
        frames: that are there, in order.
    """

    def __init__(self, path: Path, inputs: str) -> None:
        """Frames of other ``inputs`` are dropped."""
        self._path, self._inputs = path, inputs
        self._file: TextIO | None = None
        self.camera: SharedCamera | None = None
        self.has_begun = False
        self.frames: list[LoggedFrame] = []
        self._read()

    def begin(self, camera: SharedCamera | None) -> None:
        """Note the clip's camera, before the first frame."""
        self.camera, self.has_begun = camera, True

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew, so that a line that a kill cut short is not continued.
        self._file = self._path.open("w", encoding="utf-8")
        self._write({"inputs": self._inputs, "camera": to_plain(self.camera)})
        for frame in self.frames:
            self._write(asdict(frame))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, frame: LoggedFrame) -> None:
        """Write a frame down."""
        self.frames.append(frame)
        self._write(asdict(frame))

    def _write(self, row: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(row, allow_nan=False) + "\n")
            self._file.flush()

    def _read(self) -> None:
        try:
            head, *lines = self._path.read_text(encoding="utf-8").splitlines()
            first = json.loads(head)
            if first["inputs"] != self._inputs:
                return
            camera = first["camera"]
            self.begin(None if camera is None else from_plain(SharedCamera, camera))
            for line in lines:
                frame = LoggedFrame.from_json(json.loads(line))
                if self.frames and frame.number <= self.frames[-1].number:
                    return
                self.frames.append(frame)
        except (OSError, ValueError, TypeError, KeyError, GeometryError):
            # No log, another version's, or a last line cut short: what was read counts.
            pass
