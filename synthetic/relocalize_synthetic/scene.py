"""A world of textured rectangles, and the order in which a painter may paint them.

World frame: metres, z up. A surface is seen from the side from which its texture reads as a
image: columns grow to the right (u), rows grow downwards (v).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from relocalize.geometry.transforms import FloatArray

Image = NDArray[np.uint8]

COARSEST = 6  # levels of halving per axis; 64 texels to one is enough for any corridor


class Texture:
    """An image with its halvings per axis ("ripmap"), made when first asked for.

    Halving the axes apart keeps walls that are seen at a grazing angle sharp across the short
    direction; each level is the exact mean of its texels, so nothing moves between levels.
    """

    def __init__(self, pixels: Image) -> None:
        self.pixels = np.ascontiguousarray(pixels)
        self._levels: dict[tuple[int, int], Image] = {(0, 0): self.pixels}

    @property
    def width(self) -> int:
        """Columns at full resolution."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows at full resolution."""
        return int(self.pixels.shape[0])

    def level(self, across: int, down: int) -> Image:
        """The image with columns halved ``across`` times and rows ``down`` times."""
        across, down = min(across, COARSEST), min(down, COARSEST)
        found = self._levels.get((across, down))
        if found is None:
            if across > 0:
                found = _halved(self.level(across - 1, down), 1)
            else:
                found = _halved(self.level(across, down - 1), 0)
            self._levels[across, down] = found
        return found


def _halved(image: Image, axis: int) -> Image:
    if image.shape[axis] % 2:
        image = np.concatenate([image, image.take([-1], axis=axis)], axis=axis)
    height, width = image.shape[:2]
    size = (width // 2, height) if axis == 1 else (width, height // 2)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


class Layer(IntEnum):
    """Painting order within a cell, far to near."""

    RECESS = 0  # behind the shell, seen through its openings: doors, windows
    SHELL = 1  # walls, floor, ceiling
    OBJECT = 2  # in front of the shell


@dataclass(frozen=True, eq=False)
class Surface:
    """A rectangle that shows a part of a texture.

    Attributes:
        texture: its image.
        part: (left, top, right, bottom) in texels of the full resolution; where the part ends
            and the texture goes on, filtering looks at the neighbours, so parts join unseen.
        origin: world point [3] of the texture's own top-left corner.
        column_step: world vector [3] of one texel to the right.
        row_step: world vector [3] of one texel down.
        cell: index of the convex room that it belongs to.
        layer: see `Layer`.
        group: where the body that it is a side of is [3], for ordering bodies by distance.
    """

    texture: Texture
    part: tuple[float, float, float, float]
    origin: FloatArray
    column_step: FloatArray
    row_step: FloatArray
    cell: int
    layer: Layer
    group: FloatArray

    @property
    def corners(self) -> FloatArray:
        """[4, 3] world points, clockwise from the top left as seen."""
        left, top, right, bottom = self.part
        texels = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        return self.origin + texels[:, :1] * self.column_step + texels[:, 1:] * self.row_step

    @property
    def away(self) -> FloatArray:
        """[3] normal on the side from which it is not seen."""
        return np.cross(self.column_step, self.row_step)


def rectangle(
    texture: Texture,
    origin: ArrayLike,
    right: ArrayLike,
    down: ArrayLike,
    *,
    cell: int = 0,
    layer: Layer = Layer.OBJECT,
    group: ArrayLike | None = None,
    part: tuple[float, float, float, float] | None = None,
) -> Surface:
    """A surface whose texture spans ``right`` and ``down`` (world vectors [3]) from ``origin``."""
    corner = np.asarray(origin, dtype=np.float64)
    across, along = np.asarray(right, dtype=np.float64), np.asarray(down, dtype=np.float64)
    return Surface(
        texture,
        part or (0.0, 0.0, float(texture.width), float(texture.height)),
        corner,
        across / texture.width,
        along / texture.height,
        cell,
        layer,
        corner + (across + along) / 2 if group is None else np.asarray(group, dtype=np.float64),
    )


@dataclass(frozen=True, eq=False)
class Cell:
    """A convex room: the box between two opposite corners [3], in metres."""

    low: FloatArray
    high: FloatArray

    def distance(self, point: FloatArray) -> float:
        """From a world point [3] to the box; 0 inside."""
        return float(np.linalg.norm(point - np.clip(point, self.low, self.high)))


@dataclass(frozen=True, eq=False)
class Scene:
    """Surfaces in convex cells.

    A painter who paints farther cells first, and in each cell the recesses, the shell and then
    the bodies by distance, hides what is hidden: every ray leaves a convex cell exactly once.

    Attributes:
        surfaces: all of them.
        cells: the convex rooms; they touch only where the shell is open.
        landmarks: named world points [3] that are sharp corners in the images.
    """

    surfaces: Sequence[Surface]
    cells: Sequence[Cell]
    landmarks: dict[str, FloatArray] = field(default_factory=dict)
