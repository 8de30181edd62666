"""Transforms, cameras, alignment: pure functions on numbers, no files."""

from relocalize.geometry import colmap_setup  # noqa: F401  # before all that uses pycolmap
from relocalize.geometry.alignment import Alignment, align_camera_poses, align_points
from relocalize.geometry.cameras import Camera
from relocalize.geometry.conventions import Convention
from relocalize.geometry.transforms import Rigid3, Similarity3, position_error, rotation_error_deg

__all__ = [
    "Alignment",
    "Camera",
    "Convention",
    "Rigid3",
    "Similarity3",
    "align_camera_poses",
    "align_points",
    "position_error",
    "rotation_error_deg",
]
