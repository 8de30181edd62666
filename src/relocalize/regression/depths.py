"""Depth between the map's points, where an image needs it: the surface is taken to be smooth."""

from __future__ import annotations

import numpy as np

from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray

# Fewer points than these say too little of an image's surfaces.
MIN_POINTS = 20
_NEIGHBOURS = 6
_SOFTNESS = 4.0  # pixels; a point nearer to a spot than this does not outweigh all others
_NEAREST = 0.05  # of the median depth; what would be nearer was not meant to be seen
# Depth is trusted half as much where the nearest point is so many pixels away, on 256 of width.
_TRUSTED_WITHIN = 24.0 / 256


def median_depth(points_in_cam: FloatArray) -> float | None:
    """Median depth of the points [P, 3] before the camera, or None where there are too few."""
    depths = points_in_cam[points_in_cam[:, 2] > 0, 2]
    return float(np.median(depths)) if len(depths) >= MIN_POINTS else None


def inverse_depths(
    camera: Camera, points_in_cam: FloatArray, spots: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Inverse depth at pixels, by inverse squares of the distances to projected points.

    Inverse depth is interpolated because that of a plane is linear in pixels.

    Args:
        camera: an undistorted camera.
        points_in_cam: [P, 3] what it sees, in its axes.
        spots: [N, 2] pixels.

    Returns:
        inverse depth [N], and how many pixels away the nearest point is [N]; None where fewer
        than `MIN_POINTS` points lie before the camera.
    """
    from scipy.spatial import cKDTree  # noqa: PLC0415 - answering needs no scipy

    typical = median_depth(points_in_cam)
    if typical is None:
        return None
    points = points_in_cam[points_in_cam[:, 2] > _NEAREST * typical]
    pixels = camera.img_from_cam(points)
    distances, rows = cKDTree(pixels).query(spots, k=min(_NEIGHBOURS, len(points)))
    distances = np.asarray(distances)
    weights = 1.0 / (distances + _SOFTNESS) ** 2
    return np.average(1.0 / points[rows, 2], axis=1, weights=weights), distances[:, 0]


def cell_middles(camera: Camera, grid: tuple[int, int]) -> FloatArray:
    """[rows * columns, 2] middles of equal cells of an image, in pixels, row by row."""
    rows, columns = grid
    x = (np.arange(columns) + 0.5) * camera.width / columns
    y = (np.arange(rows) + 0.5) * camera.height / rows
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def cell_rays(camera: Camera, grid: tuple[int, int]) -> FloatArray:
    """[rows * columns, 2] normalised image coordinates of the cells' middles."""
    matrix = camera.calibration_matrix
    focal = np.array([matrix[0, 0], matrix[1, 1]])
    rays: FloatArray = (cell_middles(camera, grid) - matrix[:2, 2]) / focal
    return rays


def cell_depths(
    camera: Camera, points: FloatArray, world_from_cam: FloatArray, grid: tuple[int, int]
) -> FloatArray:
    """What points say of the depth of the cells of an image.

    Args:
        camera: an undistorted camera.
        points: [P, 3] of the world, that it sees.
        world_from_cam: [4, 4] of the image.
        grid: rows and columns of cells.

    Returns:
        [2, rows * columns]: depth, and how far it is to be trusted, 0 to 1; all 0 where the points
        are too few.
    """
    in_cam = (points - world_from_cam[:3, 3]) @ world_from_cam[:3, :3]
    found = inverse_depths(camera, in_cam, cell_middles(camera, grid))
    if found is None:
        return np.zeros((2, grid[0] * grid[1]))
    inverse, away = found
    trust = 1.0 / (1.0 + (away / (_TRUSTED_WITHIN * camera.width)) ** 2)
    return np.stack([1.0 / inverse, trust])
