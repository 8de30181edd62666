"""What a localizer says of one photo: a pose with its uncertainty, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray, worst_sigma
from relocalize.place import Place
from relocalize.place.from_above import svg_from_above
from relocalize.plain import to_plain


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
        captures: of each capture of the map, the share of these matches whose points its images
            observe; None where the method has no matches.
        camera: the intrinsics used, estimated where they were unknown.
        inlier_points: [M, 3] the map's points of those matches in the world, where there are such.
        shared_covariance: [6, 6] the part of `covariance` that estimates in one map have in common,
            which no smoothing takes away; None where that is not known.
        place: whose map it is in, where `relocalize.localize` made it; for drawing.
    """

    status: Literal["localized", "failed"]
    unit: str
    milliseconds: float
    reason: str | None = None
    world_from_cam: Rigid3 | None = None
    covariance: FloatArray | None = None
    inliers: int | None = None
    captures: dict[str, float] | None = None
    camera: Camera | None = None
    inlier_points: FloatArray | None = None
    shared_covariance: FloatArray | None = None
    place: Place | None = None

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
            "covariance": None if self.covariance is None else self.covariance.tolist(),
            "unit": self.unit,
            "inliers": self.inliers,
            "captures": self.captures
            and {name: round(share, 4) for name, share in self.captures.items()},
            "camera": None if self.camera is None else to_plain(self.camera),
            "milliseconds": round(self.milliseconds, 2),
        }

    def __repr__(self) -> str:
        pose, sigma = self.world_from_cam, self.position_sigma
        if pose is None:
            return f"PoseEstimate(failed: {self.reason})"
        position = " ".join(f"{value:.3f}" for value in pose.translation)
        quat = " ".join(f"{value:.4f}" for value in pose.quat_wxyz)
        sure = "" if sigma is None else f" ± {sigma:.3f}"
        return f"PoseEstimate(position {position}{sure} {self.unit}, quat_wxyz {quat})"

    def _repr_html_(self) -> str | None:
        """In its map from above, in notebooks; None where there is no pose or no map."""
        if self.world_from_cam is None or self.place is None:
            return None
        return f"<code>{self!r}</code><br>{svg_from_above(self.place, [self.world_from_cam])}"
