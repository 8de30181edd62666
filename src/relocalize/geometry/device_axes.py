"""Poses in the axes of other programs: ARKit, WebXR, Unity, ROS.

Ours are right-handed with z up where gravity is known, and a camera's x right, y down, z forward.
Each of these has its own world and camera axes; a pose in them maps their camera to their world.
Sources: Apple's documentation of ARCamera.transform; WebXR Device API, section 4; Unity's manual,
"Coordinate systems" (left-handed); ROS REP 103 and 105.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from relocalize.errors import GeometryError
from relocalize.geometry.transforms import FloatArray, Rigid3, determinant


@dataclass(frozen=True, eq=False)
class DeviceAxes:
    """The axes of another program."""

    name: str  # of it
    # [3, 3] a signed permutation, of determinant -1 where they are left-handed
    theirs_from_world: FloatArray
    theirs_from_cam: FloatArray  # [3, 3] the same of the camera

    def pose(self, world_from_cam: Rigid3) -> Rigid3:
        """Our pose as theirs: their camera to their world."""
        return Rigid3(
            self.theirs_from_world @ world_from_cam.rotation @ self.theirs_from_cam.T,
            self.theirs_from_world @ world_from_cam.translation,
        )

    def world_from_cam(self, theirs: Rigid3) -> Rigid3:
        """Their pose as ours."""
        return Rigid3(
            self.theirs_from_world.T @ theirs.rotation @ self.theirs_from_cam,
            self.theirs_from_world.T @ theirs.translation,
        )

    def covariance(self, covariance: ArrayLike) -> FloatArray:
        """[6, 6] of (centre in the world, rotation in the camera's axes), in their axes."""
        by = np.zeros((6, 6))
        by[:3, :3] = self.theirs_from_world
        # A mirror turns a rotation's axis around.
        by[3:, 3:] = determinant(self.theirs_from_cam) * self.theirs_from_cam
        theirs: FloatArray = by @ np.asarray(covariance, dtype=np.float64) @ by.T
        return theirs


def _rows(*rows: tuple[int, int, int]) -> FloatArray:
    return np.array(rows, dtype=np.float64)


_Y_UP = _rows((1, 0, 0), (0, 0, 1), (0, -1, 0))  # x, z, -y
_Y_UP_LEFT_HANDED = _rows((1, 0, 0), (0, 0, 1), (0, 1, 0))  # x, z, y
_RIGHT_UP_BACK = _rows((1, 0, 0), (0, -1, 0), (0, 0, -1))
_RIGHT_UP_FORWARD = _rows((1, 0, 0), (0, -1, 0), (0, 0, 1))
_FORWARD_LEFT_UP = _rows((0, 0, 1), (-1, 0, 0), (0, -1, 0))

DEVICE_AXES = {
    axes.name: axes
    for axes in (
        DeviceAxes("arkit", _Y_UP, _RIGHT_UP_BACK),
        DeviceAxes("webxr", _Y_UP, _RIGHT_UP_BACK),
        DeviceAxes("unity", _Y_UP_LEFT_HANDED, _RIGHT_UP_FORWARD),
        DeviceAxes("ros_optical", np.eye(3), np.eye(3)),
        DeviceAxes("ros", np.eye(3), _FORWARD_LEFT_UP),
    )
}


def device_axes(name: str) -> DeviceAxes:
    """The axes called ``name``: arkit, webxr, unity, ros, ros_optical.

    Raises:
        GeometryError: there are none of that name.
    """
    if name not in DEVICE_AXES:
        raise GeometryError(f"no axes are called {name!r}; there are {', '.join(DEVICE_AXES)}")
    return DEVICE_AXES[name]
