"""Which way is up: from the horizon of the cameras, then from vertical structure.

People hold cameras level on average, so the sideways axes of all cameras are near horizontal: up
is the direction that they have least of. Buildings have more vertical edges than edges of any one
other tilt: each line segment and its camera centre span a plane that contains the segment's
direction in space, and the vertical is what many of these planes near the first guess share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from relocalize.geometry import Camera, Rigid3, Similarity3
from relocalize.geometry.from_above import axes_across
from relocalize.geometry.transforms import FloatArray
from relocalize.mapping.pruning import held_cameras
from relocalize.place import Place

_MAX_IMAGES = 60  # images that are searched for lines
_LINE_IMAGE_SIZE = 800  # longer side, pixels; the edges of rooms are long enough to survive it
_MIN_LINE_SHARE = 0.06  # of the image diagonal; shorter segments have no sure direction
_SEARCH_DEG = 25.0  # how far the horizon's guess may be off
_INLIER_DEG = 1.5  # between a segment's plane and the vertical
_MIN_INLIERS = 30  # segments that must agree before they overrule the horizon


@dataclass(frozen=True, eq=False)
class Gravity:
    """The up direction."""

    up: FloatArray  # [3] unit vector in the world frame
    source: str  # what says so, for people


def estimate_gravity(place: Place, cameras: Sequence[tuple[str, Camera, Rigid3]]) -> Gravity:
    """Up in the world frame, from (image name, camera, world_from_cam) of the map's images."""
    rotations = np.stack([pose.rotation for _, _, pose in cameras])
    horizon = up_from_horizon(rotations)
    step = max(1, len(cameras) // _MAX_IMAGES)
    normals = [
        pose.rotation @ normal
        for name, camera, pose in cameras[::step]
        for normal in _segment_normals(place.read_image(name), camera)
    ]
    up, count = _refine_with_lines(horizon, np.array(normals).reshape(-1, 3))
    if count < _MIN_INLIERS:
        return Gravity(horizon, "horizon of the cameras")
    return Gravity(up, f"horizon of the cameras and {count} vertical edges")


def up_from_horizon(world_from_cam_rotations: FloatArray) -> FloatArray:
    """Up [3] from camera rotations [N, 3, 3]: least along the cameras' sideways (x) axes.

    Where the sideways axes leave it open (all cameras look one way), the mean of the cameras' own
    up (-y) axes decides.
    """
    sideways = world_from_cam_rotations[:, :, 0]
    camera_up = -world_from_cam_rotations[:, :, 1].mean(axis=0)
    camera_up = camera_up / max(float(np.linalg.norm(camera_up)), 1e-12)
    scatter = sideways.T @ sideways / len(sideways)
    # The second term is a weak pull to the cameras' own up, a tenth of a full turn's evidence.
    scatter = scatter + 0.1 * (np.eye(3) - np.outer(camera_up, camera_up))
    _, vectors = np.linalg.eigh(scatter)
    up: FloatArray = vectors[:, 0]
    return up if up @ camera_up >= 0 else -up


def _segment_normals(image: NDArray[np.uint8], camera: Camera) -> list[FloatArray]:
    """Normals [3], in camera axes, of the planes through the camera centre and long segments."""
    height, width = image.shape[:2]
    scale = min(1.0, _LINE_IMAGE_SIZE / max(height, width))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    lines = cv2.createLineSegmentDetector().detect(small)[0]
    if lines is None:
        return []
    # OpenCV counts pixel centres as whole numbers, cameras here have them at halves.
    ends = (lines.reshape(-1, 2, 2).astype(np.float64) + 0.5) / scale
    lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    ends = ends[lengths > _MIN_LINE_SHARE * np.hypot(width, height)]
    if not len(ends):
        return []
    rays = np.concatenate(
        [camera.cam_from_img(ends.reshape(-1, 2)), np.ones((2 * len(ends), 1))], 1
    )
    rays = rays.reshape(-1, 2, 3)
    normals = np.cross(rays[:, 0], rays[:, 1])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return list(normals)


def _refine_with_lines(guess: FloatArray, normals: FloatArray) -> tuple[FloatArray, int]:
    """The direction near ``guess`` that lies in most planes, and how many those are."""
    if len(normals) < _MIN_INLIERS:
        return guess, 0
    near = normals[np.abs(normals @ guess) < np.sin(np.radians(_SEARCH_DEG))]
    if len(near) < _MIN_INLIERS:
        return guess, 0
    rng = np.random.default_rng(0)
    best, best_count = guess, int((np.abs(near @ guess) < _sine(_INLIER_DEG)).sum())
    for i, j in rng.integers(0, len(near), size=(500, 2)):
        direction = np.cross(near[i], near[j])
        norm = float(np.linalg.norm(direction))
        if norm < 0.05:
            continue
        direction = direction / norm * np.sign(direction @ guess)
        if direction @ guess < np.cos(np.radians(_SEARCH_DEG)):
            continue
        count = int((np.abs(near @ direction) < _sine(_INLIER_DEG)).sum())
        if count > best_count:
            best, best_count = direction, count
    for _ in range(10):
        inliers = near[np.abs(near @ best) < _sine(_INLIER_DEG)]
        _, vectors = np.linalg.eigh(inliers.T @ inliers)
        refined = vectors[:, 0] * np.sign(vectors[:, 0] @ guess)
        if float(refined @ best) > 1 - 1e-12:
            break
        best = refined
    return best, int((np.abs(near @ best) < _sine(_INLIER_DEG)).sum())


def _sine(degrees: float) -> float:
    return float(np.sin(np.radians(degrees)))


def upright(up: FloatArray, centres: FloatArray) -> Similarity3:
    """``upright_from_world``: z up, x along the longest extent of the walk, first camera at 0.

    Args:
        up: [3] unit vector in the world.
        centres: [N, 3] camera centres in the order in which they were taken.
    """
    rotation = np.stack([*axes_across(up, centres), up])
    return Similarity3(1.0, rotation, -rotation @ centres[0])


def registered_cameras(model: pycolmap.Reconstruction) -> list[tuple[str, Camera, Rigid3]]:
    """(name, camera, world_from_cam) of a model's registered images, in name order."""
    cameras = {key: Camera.from_colmap(camera) for key, camera in held_cameras(model).items()}
    rows = [
        (i.name, cameras[i.camera_id], Rigid3.from_colmap(i.cam_from_world()).inverse())
        for i in model.images.values()
        if i.has_pose
    ]
    return sorted(rows, key=lambda row: row[0])
