"""The poses of a clip's frames: smoothed, with whose word each of them is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from relocalize.errors import GeometryError
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray, worst_sigma
from relocalize.localization import PoseEstimate
from relocalize.localization.trajectory import smooth

# A bridged pose that is less sure than this says nothing any more: its standard deviation as a
# share of all the way that the camera was seen to go, and in degrees.
_LOST_SHARE, _LOST_DEG = 0.25, 20.0

Status = Literal["localized", "rejected", "bridged", "lost"]


@dataclass(frozen=True, eq=False)
class LoggedFrame:
    """One frame's own estimate."""

    number: int  # of the frame in the video, from 0
    time_s: float  # since the video's first frame
    # what is not exactly known of the clip's camera is part of its covariance
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


@dataclass(frozen=True, eq=False)
class ClipPose:
    """One frame of a localized clip."""

    frame: LoggedFrame  # its own estimate
    # ``localized``; ``rejected`` where the motion contradicts that estimate, or ``bridged`` where
    # it failed: both have the pose that the frames around them say; ``lost`` where these say
    # nothing
    status: Status
    world_from_cam: Rigid3 | None  # smoothed, or None where it is lost
    covariance: FloatArray | None  # [6, 6] as in `PoseEstimate`, or None

    @property
    def position_sigma(self) -> float | None:
        """Standard deviation of the centre along its worst axis."""
        return None if self.covariance is None else worst_sigma(self.covariance[:3, :3])

    @property
    def rotation_sigma_deg(self) -> float | None:
        """Standard deviation of the rotation about its worst axis, in degrees."""
        if self.covariance is None:
            return None
        return float(np.degrees(worst_sigma(self.covariance[3:, 3:])))

    def to_json(self) -> dict[str, Any]:
        """As plain values, keys in reading order."""
        pose, own = self.world_from_cam, self.frame.estimate
        raw = own.world_from_cam
        return {
            "frame": self.frame.number,
            "time_s": self.frame.time_s,
            "status": self.status,
            "reason": own.reason,
            "position": pose and pose.translation.tolist(),
            "quat_wxyz": pose and pose.quat_wxyz.tolist(),
            "position_sigma": self.position_sigma,
            "rotation_sigma_deg": self.rotation_sigma_deg,
            "raw_position": raw and raw.translation.tolist(),
            "raw_quat_wxyz": raw and raw.quat_wxyz.tolist(),
            "inliers": own.inliers,
            "milliseconds": own.milliseconds,
        }


def smoothed(
    frames: Sequence[LoggedFrame],
) -> tuple[tuple[ClipPose, ...], float | None, str | None]:
    """Poses, how much of their stated variances is jitter, and why they are not smoothed, if so."""
    estimates = [frame.estimate.world_from_cam for frame in frames]
    covariances = [frame.estimate.covariance for frame in frames]
    times, shared = (
        [frame.time_s for frame in frames],
        [frame.estimate.shared_covariance for frame in frames],
    )
    try:
        found = smooth(times, estimates, covariances, shared)
    except GeometryError as error:
        raw = tuple(
            ClipPose(frame, "lost" if pose is None else "localized", pose, covariance)
            for frame, pose, covariance in zip(frames, estimates, covariances, strict=True)
        )
        return raw, None, f"not smoothed: {error}"
    seen = [one.world_from_cam.translation for one in found.poses if one.status == "localized"]
    extent = float(np.linalg.norm(np.ptp(seen, axis=0))) if seen else 0.0
    poses = tuple(
        _unless_lost(ClipPose(frame, one.status, one.world_from_cam, one.covariance), extent)
        for frame, one in zip(frames, found.poses, strict=True)
    )
    return poses, found.jitter, None


def _unless_lost(pose: ClipPose, extent: float) -> ClipPose:
    position, rotation = pose.position_sigma or 0.0, pose.rotation_sigma_deg or 0.0
    if pose.status == "localized" or (position <= _LOST_SHARE * extent and rotation <= _LOST_DEG):
        return pose
    return replace(pose, status="lost", world_from_cam=None, covariance=None)
