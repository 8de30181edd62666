"""How far an estimated camera pose is from the true one."""

from __future__ import annotations

import numpy as np

from relocalize.geometry.transforms import Rigid3, rotation_angle_deg


def position_error(estimated_world_from_cam: Rigid3, true_world_from_cam: Rigid3) -> float:
    """Distance between the camera centres, in the world's unit."""
    difference = estimated_world_from_cam.translation - true_world_from_cam.translation
    return float(np.linalg.norm(difference))


def rotation_error_deg(estimated_world_from_cam: Rigid3, true_world_from_cam: Rigid3) -> float:
    """The angle of ``estimated^-1 * true``, in [0, 180] degrees."""
    return rotation_angle_deg(estimated_world_from_cam.rotation.T @ true_world_from_cam.rotation)
