"""What is drawn, as numbers: frusta and the way between, the floor's grid, an ellipsoid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray, quat_wxyz_from_rotation
from relocalize.plotting.walks import frusta, gaps, nice_length

# Of a frustum, see `frusta`: the apex is 0.
_EDGES = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]])
_MIDDLE = 0.6  # of a frustum along its axis, of its depth
# How far from where people point a click may land: far cameras are a few pixels large.
_CLUMSY = np.tan(np.radians(0.5))
_GRID_LINES = 12  # about how many cells a grid has along its longer side
_LOW = 0.02  # of the points' heights: below the floor lie only reflections in it and wrong matches
# 95% of a Gauss in three dimensions lie within this many sigmas: the square root of the 0.95
# quantile of the chi-square distribution with 3 degrees of freedom, 7.815.
_SIGMAS_95 = 2.7955


def frustum_lines(
    world_from_cams: Sequence[Rigid3], half: FloatArray, depth: float
) -> NDArray[np.float32]:
    """The edges of all `frusta` as line segments: [8 N, 2, 3] ends in the world."""
    corners = frusta(world_from_cams, half, depth)
    return corners[:, _EDGES].reshape(-1, 2, 3).astype(np.float32)


def path_lines(centres: FloatArray, *, every: int = 1) -> NDArray[np.float32]:
    """The way [S, 2, 3] between a walk's cameras [N, 3], or every so many, without its gaps."""
    gaps_before = np.concatenate([[0], np.cumsum(gaps(centres))])
    rows = np.unique([*range(0, len(centres), every), len(centres) - 1])
    starts, ends = rows[:-1], rows[1:]
    whole = gaps_before[starts] == gaps_before[ends]
    path = np.stack([centres[starts[whole]], centres[ends[whole]]], axis=1)
    return path.astype(np.float32)


def frustum_under(
    origin: FloatArray, direction: FloatArray, world_from_cams: Sequence[Rigid3], depth: float
) -> tuple[int, float] | None:
    """The camera that a click means: whose frustum's middle is nearest to the ray, for its size.

    Numbers decide, and not the browser: to test a thousand frusta for every movement of the
    pointer costs it most of its time. The row of the camera, and how well it was hit: 0 in its
    middle, 1 at its border; None where the ray, from an origin [3], missed all of them.
    """
    middles = np.stack(
        [pose.translation + _MIDDLE * depth * pose.rotation[:, 2] for pose in world_from_cams]
    )
    unit = direction / np.linalg.norm(direction)
    along = (middles - origin) @ unit
    off = np.linalg.norm(middles - origin - along[:, None] * unit, axis=1)
    allowed = _MIDDLE * depth + _CLUMSY * np.maximum(along, 0.0)
    missed = np.where(along > 0, off / allowed, np.inf)
    row = int(missed.argmin())
    return (row, float(missed[row])) if missed[row] <= 1 else None


def ellipsoid_95(covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The ellipsoid that holds 95% of positions with this covariance [3, 3].

    Returns:
        [3] its radii along its own axes, and [4] ``quat_wxyz`` that turns these into the world's.
    """
    values, axes = np.linalg.eigh(covariance)
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1
    return _SIGMAS_95 * np.sqrt(np.maximum(values, 0.0)), quat_wxyz_from_rotation(axes)


@dataclass(frozen=True, eq=False)
class Ground:
    """A grid at the height of the floor."""

    centre: FloatArray  # [3] of the grid, in the world
    along: FloatArray  # [2, 3] directions of its sides in the world, of length 1
    cell: float  # side of a cell, in the unit of positions: 1, 2 or 5 times a power of ten
    cells: tuple[int, int]  # [2] how many there are along the two sides

    @classmethod
    def under(cls, centres: FloatArray, points: FloatArray, axes: FloatArray) -> Ground:
        """The grid below cameras [N, 3] and points [P, 3].

        ``axes`` are [3, 3] rows in the world: two along the floor, then up.
        """
        inside = centres @ axes.T
        low, high = inside.min(axis=0), inside.max(axis=0)
        # Hand-held at eye's height: the camera is about as high as the walk is wide, or nobody
        # knows; a third of the extent below leaves the grid where it does not hide anything.
        floor = low[2] - 0.3 * max(float((high - low).max()), 1e-9)
        if len(points):
            seen = points @ axes.T
            most_low, most_high = np.quantile(seen, [0.05, 0.95], axis=0)
            floor = min(np.quantile(seen[:, 2], _LOW), low[2])
            low, high = np.minimum(low, most_low), np.maximum(high, most_high)
        cell = nice_length(max(float((high - low)[:2].max()), 1e-9) / _GRID_LINES)
        first = np.floor(low[:2] / cell)
        last = np.maximum(np.ceil(high[:2] / cell), first + 1)
        centre = np.array([*(cell * (first + last) / 2), floor]) @ axes
        return cls(centre, axes[:2], cell, (int(last[0] - first[0]), int(last[1] - first[1])))

    @property
    def sides(self) -> tuple[float, float]:
        """Along the two axes, in the unit of positions."""
        return self.cell * self.cells[0], self.cell * self.cells[1]

    @property
    def lines(self) -> FloatArray:
        """[cells[0] + cells[1] + 2, 2, 3] ends of the lines between the cells, in the world."""
        x, y = (np.linspace(-1, 1, count + 1) for count in self.cells)
        ends = [*([[at, -1], [at, 1]] for at in x), *([[-1, at], [1, at]] for at in y)]
        return self._at(ends)

    def corner(self, x: int, y: int) -> FloatArray:
        """[3] the corner at the low (-1) or high (1) ends of the two sides."""
        return self._at([x, y])

    def _at(self, shares: ArrayLike) -> FloatArray:
        """Places in the world from shares [..., 2] of the half sides."""
        return np.asarray(self.centre + (np.array(shares) * self.sides / 2) @ self.along)
