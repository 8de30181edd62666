"""Transforms, cameras, alignment: pure functions on numbers, no files."""

from relocalize.geometry.alignment import Alignment, align_camera_poses
from relocalize.geometry.cameras import Camera
from relocalize.geometry.pose_errors import position_error, rotation_error_deg
from relocalize.geometry.transforms import Rigid3, Similarity3

__all__ = [
    "Alignment",
    "Camera",
    "Rigid3",
    "Similarity3",
    "align_camera_poses",
    "position_error",
    "rotation_error_deg",
]
