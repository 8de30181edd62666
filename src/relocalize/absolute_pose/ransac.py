"""First camera pose from 2D-3D matches among which many are wrong: RANSAC, by PoseLib."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import poselib
from numpy.typing import NDArray

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray, nearest_rotation

# Focal lengths tried for an unknown camera, as shares of the longer image side: from an
# ultra-wide (112 degrees) to a short telephoto (25 degrees). Steps of 1.2 leave at most 10%
# of error, which costs 3 pixels of 5 at two thirds of the way to the corner of a VGA image.
_FOCAL_FACTORS = tuple(float(factor) for factor in np.geomspace(0.34, 2.26, 11))
# With a focal length from EXIF only its rounding and the lens's own spread are open.
_FOCAL_AROUND_PRIOR = (0.9, 1.0, 1.1)


@dataclass(frozen=True, eq=False)
class FirstPose:
    """What RANSAC found."""

    world_from_cam: Rigid3  # the pose
    focal: float  # pixels; the given one where it was known
    inliers: NDArray[np.bool_]  # [N] bool


def ransac_pose(
    pixels: FloatArray, points: FloatArray, focal: float, *, max_error: float
) -> FirstPose | None:
    """The pose that most matches agree with, or None where no three points give one.

    Args:
        pixels: [N, 2], undistorted, relative to the principal point.
        points: [N, 3] in the world.
        focal: pixels.
        max_error: reprojection error of an inlier, pixels.
    """
    if len(pixels) < 4:
        return None
    camera = {"model": "SIMPLE_PINHOLE", "width": 0, "height": 0, "params": [focal, 0.0, 0.0]}
    # 100 iterations at least: the default of 1000 costs 4 ms more and changes no result where a
    # quarter of the matches is right; PoseLib goes on to 10000 where fewer are.
    options = {"max_reproj_error": max_error, "min_iterations": 100, "max_iterations": 10_000}
    pose, info = poselib.estimate_absolute_pose(
        pixels, points, camera, options, {"loss_type": "CAUCHY", "loss_scale": max_error / 2}
    )
    inliers = np.asarray(info["inliers"], dtype=bool)
    if len(inliers) != len(pixels) or inliers.sum() < 4 or not np.isfinite(pose.t).all():
        return None
    rotation = nearest_rotation(np.asarray(pose.R, dtype=np.float64))
    cam_from_world = Rigid3(rotation, np.asarray(pose.t, dtype=np.float64))
    return FirstPose(cam_from_world.inverse(), focal, inliers)


def ransac_pose_and_focal(
    pixels: FloatArray,
    points: FloatArray,
    *,
    longer_side: int,
    prior: float | None,
    max_error: float,
) -> FirstPose | None:
    """The pose and roughly the focal length that most matches agree with.

    Tries a range of focal lengths; each is one fast known-camera RANSAC, and the best one is
    near enough for the refinement of focal length and distortion that has to follow.

    Args:
        pixels: [N, 2] relative to the image's centre.
        points: [N, 3] in the world.
        longer_side: of the image, pixels.
        prior: roughly the focal length in pixels, or None.
        max_error: reprojection error of an inlier, pixels.
    """
    if prior is None:
        focals = [factor * longer_side for factor in _FOCAL_FACTORS]
    else:
        focals = [factor * prior for factor in _FOCAL_AROUND_PRIOR]
    found = [ransac_pose(pixels, points, focal, max_error=max_error) for focal in focals]
    usable = [pose for pose in found if pose is not None]
    return max(usable, key=lambda pose: int(pose.inliers.sum()), default=None)
