"""A service's answer as the numbers of ROS's PoseWithCovariance; needs no ROS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

UNKNOWN = 1e9  # a variance where the service states none


@dataclass(frozen=True)
class PoseNumbers:
    """What goes into a PoseWithCovariance.

    The pose is of the camera's optical frame (REP 103: z forward, x right, y down), which are the
    service's own axes, in the frame ``map`` (REP 105).

    Attributes:
        position: x, y, z.
        quat_xyzw: the orientation.
        covariance: 36 numbers, row by row: of x, y, z and of rotations about map's fixed axes.
    """

    position: tuple[float, ...]
    quat_xyzw: tuple[float, ...]
    covariance: tuple[float, ...]


def pose_numbers(answer: dict[str, Any]) -> PoseNumbers | None:
    """The pose of an answer, or None where it has none.

    The service's covariance is of rotations in the camera's axes, ROS's of those about the axes of
    the parent frame: R turns the one into the other.
    """
    if answer["status"] == "failed" or answer["status"] == "lost":
        return None
    matrix = np.array(answer["world_from_cam"])
    covariance = answer["covariance"]
    turned = np.eye(6) * UNKNOWN
    if covariance is not None:
        by = np.eye(6)
        by[3:, 3:] = matrix[:3, :3]
        turned = by @ np.array(covariance) @ by.T
    w, x, y, z = answer["quat_wxyz"]
    return PoseNumbers(
        tuple(float(value) for value in matrix[:3, 3]),
        (x, y, z, w),
        tuple(float(value) for value in turned.ravel()),
    )


def camera_of(width: int, height: int, k: list[float], d: list[float], model: str) -> Any:
    """The service's ``camera`` of a CameraInfo's numbers, or None where it is not calibrated.

    ROS counts pixels from the centre of the first one, the service from its corner.

    Args:
        width: of the image.
        height: of the image.
        k: [9] row by row.
        d: distortion.
        model: ``plumb_bob`` or ``rational_polynomial``; what is neither is taken as unknown.
    """
    if not k or k[0] <= 0 or model not in ("plumb_bob", "rational_polynomial", ""):
        return None
    fx, cx, fy, cy = k[0], k[2] + 0.5, k[4], k[5] + 0.5
    known = {"known": "exact", "width": width, "height": height}
    if not any(d):
        return {"model": "PINHOLE", "params": [fx, fy, cx, cy], **known}
    k1, k2, p1, p2, k3, k4, k5, k6 = [*d[:8], *[0.0] * (8 - len(d[:8]))]
    params = [fx, fy, cx, cy, k1, k2, p1, p2, k3, k4, k5, k6]
    return {"model": "FULL_OPENCV", "params": params, **known}
