"""What a camera would see from a little further on: copies of a frame at other positions.

A turned or zoomed copy is exact; a moved one needs the depth of what is seen. The map's points
give it where they are, and between them the surface is taken to be smooth. Near edges of depth the
copy is bent, which the network has to live with; its pose is exact all the same.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.regression.canonical import warp
from relocalize.regression.depths import cell_middles, inverse_depths, median_depth

_NODE_STEP = 8  # target pixels between the nodes at which depth is interpolated
_FINER = 2  # the undistorted source has so many pixels for one of the target's


def moved(
    pixels: NDArray[np.uint8],
    camera: Camera,
    target: Camera,
    target_from_cam: Rigid3,
    points_in_cam: FloatArray,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]] | None:
    """The image as ``target`` would see it from elsewhere.

    Args:
        pixels: [H, W, 3] RGB, the camera's image.
        camera: of the image, any COLMAP model with a pinhole view.
        target: an undistorted camera.
        target_from_cam: from the image's camera axes to the target's, with the shift.
        points_in_cam: [P, 3] what the image sees, in its camera axes and the shift's unit.

    Returns:
        pixels [h, w, 3] with the image's edge drawn out, and what they show [h, w]; None where
        fewer than `MIN_POINTS` points lie before the target.
    """
    inverse_depth = _inverse_depth(target, target_from_cam @ points_in_cam)
    if inverse_depth is None:
        return None
    source_camera = target.resized(_FINER * target.width, _FINER * target.height)
    source, shown = warp(pixels, camera, source_camera, fill=None)
    in_target = _rays(target) / inverse_depth[..., None]
    in_cam = target_from_cam.inverse() @ in_target.reshape(-1, 3)
    K = source_camera.calibration_matrix
    depth = in_cam[:, 2]
    in_front = depth > 1e-9
    plane = in_cam[:, :2] / np.where(in_front, depth, 1.0)[:, None]
    spots = plane * [K[0, 0], K[1, 1]] + K[:2, 2]
    shape = (target.height, target.width)
    # cv2.remap counts from pixel centres.
    x, y = ((spots[:, axis] - 0.5).reshape(shape).astype(np.float32) for axis in (0, 1))
    copy = cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    seen = cv2.remap(
        shown.astype(np.uint8), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT
    )
    return np.asarray(copy, dtype=np.uint8), (seen > 0) & in_front.reshape(shape)


def possible_shift(
    shift: FloatArray, target_from_cam: FloatArray, points_in_cam: FloatArray
) -> FloatArray:
    """The shift [3] of the camera, along its own axes, that `moved` can show.

    Args:
        shift: [3] in median depths of what the image sees, along its camera axes.
        target_from_cam: rotation [3, 3] of the copy.
        points_in_cam: [P, 3] what the image sees.

    Returns:
        The shift in the unit of the points; zeros where they are too few, before or after it.
    """
    depth = median_depth(points_in_cam)
    if depth is None:
        return np.zeros(3)
    step = depth * shift
    after = (points_in_cam - step) @ target_from_cam.T
    return step if median_depth(after) is not None else np.zeros(3)


def _inverse_depth(target: Camera, points: FloatArray) -> FloatArray | None:
    """[h, w] between points [P, 3] in the target's axes."""
    grid = -(-target.height // _NODE_STEP), -(-target.width // _NODE_STEP)
    # The middles of equal cells are also where ``cv2.resize`` takes the values to be.
    found = inverse_depths(target, points, cell_middles(target, grid))
    if found is None:
        return None
    size = (target.width, target.height)
    return np.asarray(cv2.resize(found[0].reshape(grid), size, interpolation=cv2.INTER_LINEAR))


@lru_cache(maxsize=4)
def _rays(target: Camera) -> FloatArray:
    """[h, w, 3] through the middles of the pixels, at depth 1."""
    x, y = np.meshgrid(np.arange(target.width) + 0.5, np.arange(target.height) + 0.5)
    K = target.calibration_matrix
    return np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)], axis=-1)
