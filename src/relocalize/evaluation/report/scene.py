"""The place as a report draws it from above: a plane, cameras in it, an image of the points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.report.thumbnails import webp
from relocalize.geometry.from_above import axes_across
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place, PosedImage

_MOST_POINTS = 30_000
_MARGIN = 0.05  # of the longer side, around the cameras
_AROUND = 0.3  # of the cameras' longer side: so much of the points around is shown at first
_FLATTEST = 0.4  # the shorter side of the view, of the longer one: a straight walk gets some room
_POINTS_PX = 2400  # width of the image of the points, of which the view shows half
_DOT_PX = 2  # radius of a point in it
_QUALITY = 82


@dataclass(frozen=True, eq=False)
class Scene:
    """A place from above, in the truth's frame and unit."""

    plane: FloatArray  # [2, 3] two horizontal axes, the first along the walk's longer side
    train: FloatArray  # [M, 2] camera centres of train images in that plane
    true: FloatArray  # [N, 2] of test images
    points: FloatArray  # [P, 2] map points
    colors: NDArray[np.uint8]  # [P, 3] their RGB, uint8
    # [2] the corner of what is shown at first: the cameras, and some of what is around
    low: FloatArray
    high: FloatArray  # [2] the corner across

    @classmethod
    def of(cls, place: Place, train: list[PosedImage], results: Results) -> Scene:
        """Look down on the Place that the results are about."""
        move = results.truth_from_place
        centres = [image.world_from_cam.translation for image in train]
        train_centres = move @ np.stack(centres) if centres else np.empty((0, 3))
        cameras = np.concatenate([train_centres, results.true_positions])
        up = np.array(results.raw["up"]["direction"], dtype=float)
        plane = axes_across(up / np.linalg.norm(up), cameras)
        flat = cameras @ plane.T
        points, colors = place.points.positions, place.points.colors
        known = np.isfinite(points).all(axis=1)
        points, colors = (move @ points[known]) @ plane.T, colors[known]
        low, high = _seen(flat, points)
        # Far strays, of which every map has some, would blur the image of the others.
        inside = np.flatnonzero((np.abs(points - (low + high) / 2) <= high - low).all(axis=1))
        # In one order by chance: none is on top because its track was long.
        inside = np.random.default_rng(0).permutation(inside)[:_MOST_POINTS]
        return cls(
            plane=plane,
            train=flat[: len(train_centres)],
            true=flat[len(train_centres) :],
            points=points[inside],
            colors=colors[inside],
            low=low,
            high=high,
        )

    @property
    def aspect(self) -> float:
        """Height of the view as a share of its width."""
        width, height = self.high - self.low
        return float(height / width)

    def of_world(self, positions: FloatArray) -> FloatArray:
        """Positions [N, 3] in the plane: [N, 2]."""
        flat: FloatArray = positions @ self.plane.T
        return flat

    @property
    def points_box(self) -> tuple[FloatArray, FloatArray]:
        """Two corners [2] around the points: the view and as much again beside it."""
        half = (self.high - self.low) / 2
        return self.low - half, self.high + half

    def points_image(self) -> str | None:
        """The points as an image that fills `points_box`, a ``data:`` address; None without any."""
        if not len(self.points):
            return None
        low, high = self.points_box
        width, height = _POINTS_PX, max(1, round(_POINTS_PX * self.aspect))
        canvas = np.zeros((height + 2 * _DOT_PX, width + 2 * _DOT_PX, 4), np.uint8)
        at = ((self.points - low) / (high - low) * [width - 1, height - 1]).astype(int) + _DOT_PX
        column, row = at[:, 0], height - 1 + 2 * _DOT_PX - at[:, 1]
        for dx in range(-_DOT_PX, _DOT_PX + 1):
            for dy in range(-_DOT_PX, _DOT_PX + 1):
                # A round dot whose border fades within a pixel.
                alpha = round(255 * float(np.clip(_DOT_PX + 0.5 - np.hypot(dx, dy), 0, 1)))
                y, x = row + dy, column + dx
                canvas[y, x, :3] = self.colors
                canvas[y, x, 3] = np.maximum(canvas[y, x, 3], alpha)
        canvas = canvas[_DOT_PX:-_DOT_PX, _DOT_PX:-_DOT_PX]
        return webp(Image.fromarray(canvas), quality=_QUALITY)


def train_images(place: Place, results: Results) -> list[PosedImage]:
    """The posed train images of the split that was evaluated."""
    posed = place.map.images
    return [posed[name] for name in place.split(results.split).train if name in posed]


def _seen(cameras: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The corners of a view that holds all cameras and the points next to them."""
    low, high = cameras.min(axis=0), cameras.max(axis=0)
    reach = _AROUND * max(float((high - low).max()), 1e-6)
    if len(points):
        near = np.percentile(points, [3, 97], axis=0)
        low = np.clip(near[0], low - reach, low)
        high = np.clip(near[1], high, high + reach)
    side = max(float((high - low).max()), 1e-6)
    half = np.maximum(high - low, _FLATTEST * side) / 2 + _MARGIN * side
    middle = (low + high) / 2
    return middle - half, middle + half
