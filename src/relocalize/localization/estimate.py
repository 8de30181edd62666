"""What a localizer says of one photo: a pose with its uncertainty, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray


@dataclass(frozen=True, eq=False)
class PoseEstimate:
    """The result of localizing one photo.

    Attributes:
        status: ``localized`` or ``failed``; a failed one has no pose.
        unit: of positions: ``metre`` or ``map unit``.
        milliseconds: wall time from decoded pixels to this result.
        reason: why it failed, for people; None when localized.
        world_from_cam: the pose; its translation is the camera centre.
        covariance: [6, 6] of (centre in the world, rotation in the camera's axes in radians).
        inliers: matches that agree with the pose, where the method has such.
        camera: the intrinsics used, estimated where they were unknown.
        inlier_points: [M, 3] the map's points of those matches in the world, where there are such.
    """

    status: Literal["localized", "failed"]
    unit: str
    milliseconds: float
    reason: str | None = None
    world_from_cam: Rigid3 | None = None
    covariance: FloatArray | None = None
    inliers: int | None = None
    camera: Camera | None = None
    inlier_points: FloatArray | None = None

    @property
    def position_sigma(self) -> float | None:
        """Standard deviation of the centre along its worst axis, in `unit`."""
        return None if self.covariance is None else worst_sigma(self.covariance[:3, :3])

    @property
    def rotation_sigma_deg(self) -> float | None:
        """Standard deviation of the rotation about its worst axis, in degrees."""
        if self.covariance is None:
            return None
        return worst_sigma(self.covariance[3:, 3:]) * float(np.degrees(1.0))

    def to_json(self) -> dict[str, Any]:
        """The result as plain values, keys in reading order."""
        pose = self.world_from_cam
        return {
            "status": self.status,
            "reason": self.reason,
            "world_from_cam": None if pose is None else pose.matrix.tolist(),
            "position": None if pose is None else pose.translation.tolist(),
            "quat_wxyz": None if pose is None else pose.quat_wxyz.tolist(),
            "position_sigma": self.position_sigma,
            "rotation_sigma_deg": self.rotation_sigma_deg,
            "unit": self.unit,
            "inliers": self.inliers,
            "milliseconds": round(self.milliseconds, 2),
        }


def worst_sigma(covariance: FloatArray) -> float:
    """Standard deviation along the worst axis of a covariance [3, 3]."""
    return float(np.sqrt(max(0.0, float(np.linalg.eigvalsh(covariance)[-1]))))
