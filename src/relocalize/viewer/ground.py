"""Where the floor of a Place is, and how it is ruled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relocalize.geometry.transforms import FloatArray

_LINES = 12  # about how many cells a grid has along its longer side
# Of the points' heights: below the floor lie only reflections in it and wrong matches.
_LOW = 0.02


@dataclass(frozen=True, eq=False)
class Ground:
    """A grid at the height of the floor.

    Attributes:
        centre: [3] of the grid, in the world.
        along: [2, 3] directions of its sides in the world, of length 1.
        cell: side of a cell, in the unit of positions: 1, 2 or 5 times a power of ten.
        cells: [2] how many there are along the two sides.
    """

    centre: FloatArray
    along: FloatArray
    cell: float
    cells: tuple[int, int]

    @property
    def sides(self) -> tuple[float, float]:
        """Along the two axes, in the unit of positions."""
        return self.cell * self.cells[0], self.cell * self.cells[1]

    @property
    def lines(self) -> FloatArray:
        """[cells[0] + cells[1] + 2, 2, 3] ends of the lines between the cells, in the world."""
        half_x, half_y = np.array(self.sides) / 2
        across = [
            [[x, -half_y], [x, half_y]] for x in np.linspace(-half_x, half_x, self.cells[0] + 1)
        ]
        upward = [
            [[-half_x, y], [half_x, y]] for y in np.linspace(-half_y, half_y, self.cells[1] + 1)
        ]
        return self.centre + np.array(across + upward) @ self.along

    def corner(self, x: int, y: int) -> FloatArray:
        """[3] the corner at the low (-1) or high (1) ends of the two sides."""
        return np.asarray(self.centre + (np.array([x, y]) * self.sides / 2) @ self.along)


def ground_under(centres: FloatArray, points: FloatArray, axes: FloatArray) -> Ground:
    """The grid below cameras and points.

    Args:
        centres: [N, 3] of the cameras.
        points: [P, 3] of the map, may be none.
        axes: [3, 3] rows in the world: two along the floor, then up.
    """
    inside = centres @ axes.T
    if len(points):
        seen = points @ axes.T
        low, high = np.quantile(seen, [0.05, 0.95], axis=0)
        extent_low = np.minimum(low, inside.min(axis=0))
        extent_high = np.maximum(high, inside.max(axis=0))
        floor = min(float(np.quantile(seen[:, 2], _LOW)), float(inside[:, 2].min()))
    else:
        extent_low, extent_high = inside.min(axis=0), inside.max(axis=0)
        # Hand-held at eye's height: the camera is about as high as the walk is wide, or nobody
        # knows; a third of the extent below leaves the grid where it does not hide anything.
        floor = float(inside[:, 2].min() - 0.3 * max(np.ptp(inside, axis=0).max(), 1e-9))
    longer = max(float((extent_high - extent_low)[:2].max()), 1e-9)
    cell = nice_length(longer / _LINES)
    first = np.floor(extent_low[:2] / cell)
    last = np.maximum(np.ceil(extent_high[:2] / cell), first + 1)
    middle = cell * (first + last) / 2
    return Ground(
        centre=np.array([*middle, floor]) @ axes,
        along=axes[:2],
        cell=cell,
        cells=(int(last[0] - first[0]), int(last[1] - first[1])),
    )


def nice_length(length: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is at most ``length`` (> 0)."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(factor * power for factor in (1, 2, 5) if factor * power <= length * 1.0001))
