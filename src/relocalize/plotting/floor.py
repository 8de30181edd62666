"""A floor plan from a map's points: walls are where many points lie above each other."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from relocalize.geometry.from_above import view_from_above
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place
from relocalize.plotting.figure import SOFT, draw_ground, figure_in, shortened

_CELLS = 360  # along the longer side: 3 cm in a room of 10 m, and an image of 10 kB
_REACH = (1.0, 99.0)  # percentiles of the points that are in the plan: some are far out
_BAND = 0.6  # of the height between cameras and the furthest of most points, around the cameras
_WIDTH = 7.2  # inches: two columns of a paper


@dataclass(frozen=True, eq=False)
class FloorPlan:
    """How densely points lie, seen from above."""

    # [H, W] from 0 to 1; row 0 is at the top, where the second coordinate is largest
    density: FloatArray
    axes: FloatArray  # [2, 3] rows: to the right and upwards in the plan, in the world
    labels: tuple[str, str]  # of the two axes
    words: str  # what is seen, for people
    low: FloatArray  # [2] the plan's lower left corner
    high: FloatArray  # [2] its upper right corner

    def png(self) -> bytes:
        """Black of that density over nothing, for any background."""
        alpha = (255 * self.density).astype(np.uint8)
        pixels = np.zeros((*alpha.shape, 2), np.uint8)
        pixels[:, :, 1] = alpha
        file = io.BytesIO()
        Image.fromarray(pixels, "LA").save(file, format="PNG")
        return file.getvalue()


def floor_plan(place: Place) -> FloorPlan:
    """The plan of a Place: its points about the height of the cameras, which see the walls there.

    Where nobody knows what is up, it is seen along the direction of least extent, with all points.

    Raises:
        PlaceError: there is no map.
    """
    poses = [image.world_from_cam for image in place.posed_images()]
    centres = np.stack([pose.translation for pose in poses])
    up_is_z = place.frame.up == "z"
    rotations = np.stack([pose.rotation for pose in poses])
    view = view_from_above(centres, rotations, up_is_z=up_is_z)
    points = place.points.positions
    if up_is_z and len(points):
        points = points[_about_eye_height(points[:, 2], centres[:, 2])]
    flat, walked = view.of(points), view.of(centres)
    reach = np.percentile(flat, _REACH, axis=0) if len(flat) else walked
    around = np.concatenate([walked, reach])
    low, high = around.min(axis=0), around.max(axis=0)
    cell = max(float((high - low).max()), 1e-9) / _CELLS
    low, high = low - 8 * cell, high + 8 * cell
    width, height = (int(np.ceil(side / cell)) for side in high - low)
    high = low + cell * np.array([width, height])
    return FloorPlan(
        _density(flat, low, cell, (height, width)),
        view.axes[:2],
        view.labels,
        view.words,
        low,
        high,
    )


def _about_eye_height(heights: FloatArray, eyes: FloatArray) -> NDArray[np.bool_]:
    """[P] whether points are about as high as cameras: neither floor nor ceiling, but walls."""
    eye = float(np.median(eyes))
    floor, ceiling = np.percentile(heights, (2, 98))
    near: NDArray[np.bool_] = (heights > eye - _BAND * max(eye - floor, 0)) & (
        heights < eye + _BAND * max(ceiling - eye, 0)
    )
    return near if near.any() else np.ones(len(heights), np.bool_)


def _density(flat: FloatArray, low: FloatArray, cell: float, shape: tuple[int, int]) -> FloatArray:
    columns, rows = ((flat - low) / cell).astype(np.int64).T if len(flat) else np.zeros((2, 0), int)
    inside = (columns >= 0) & (columns < shape[1]) & (rows >= 0) & (rows < shape[0])
    counts = np.zeros(shape)
    np.add.at(counts, (shape[0] - 1 - rows[inside], columns[inside]), 1.0)
    smooth = np.asarray(cv2.GaussianBlur(counts, (0, 0), 1.2), dtype=np.float64)
    seen = smooth[smooth > 1e-6]
    if not len(seen):
        return smooth
    # Walls that were looked at long have hundreds of times the points of others: square roots.
    density: FloatArray = np.sqrt(np.minimum(smooth / np.percentile(seen, 98), 1.0))
    return density


def plot_floor(place: Place, out: Path) -> None:
    """Draw the floor plan: ``.png``, ``.svg`` or ``.pdf``, to scale.

    Raises:
        PlaceError: there is no map, or no such kind of figure.
    """
    plan = floor_plan(place)
    sides = plan.high - plan.low
    height = float(np.clip(_WIDTH * sides[1] / sides[0], 2.4, 9.0)) + 0.6
    with figure_in(_WIDTH, height, out) as figure:
        axes = figure.add_subplot()
        draw_ground(axes, np.stack([plan.low, plan.high]), plan.labels, place.unit)
        extent = (plan.low[0], plan.high[0], plan.low[1], plan.high[1])
        ink = np.zeros((*plan.density.shape, 4))
        ink[:, :, 3] = plan.density
        axes.imshow(ink, extent=extent, zorder=2)
        axes.set_title(shortened(place.name), fontsize=9, color=SOFT, loc="left")
        figure.supxlabel(plan.words, fontsize=8, color=SOFT)
