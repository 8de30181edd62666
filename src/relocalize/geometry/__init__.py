"""Transforms, cameras, alignment: pure functions on numbers, no files."""

import pycolmap

from relocalize.geometry.alignment import Alignment, align_camera_poses, align_points
from relocalize.geometry.cameras import Camera
from relocalize.geometry.conventions import Convention
from relocalize.geometry.pose_errors import position_error, rotation_error_deg
from relocalize.geometry.transforms import Rigid3, Similarity3

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

# COLMAP's own log, which goes to stderr, is not for our users: what fails comes back to us as an
# exception or an empty result, and we say it. Here, because every room that uses COLMAP is above.
pycolmap.logging.minloglevel = int(pycolmap.logging.Level.FATAL)
