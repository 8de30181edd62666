"""Least squares of a similarity over matching centres and orientations, in closed form.

The scale is the ratio of the two extents, so that the transform back is the exact inverse: noise
is on both sides, and the scale of one-sided least squares comes out too small by the noise's share
of the extent, in either direction (Horn, "Closed-form solution of absolute orientation using unit
quaternions", JOSA A 1987, on symmetry in scale).

The rotation is Umeyama's ("Least-squares estimation of transformation parameters between two point
patterns", PAMI 1991) with one more term: each camera's orientation says it by itself. With noise of
sigma_p per axis of a centre and sigma_r per axis of an orientation, the rotation that maximises
the likelihood is the one nearest to ``scale * C + lever^2 / 2 * Q``, where C is the centres'
covariance, Q the sum of the rotations that the cameras say, and ``lever = sigma_p / sigma_r`` the
length at which the two noises weigh the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.transforms import (
    FloatArray,
    Similarity3,
    nearest_rotation,
    rotation_angles,
    skew,
)


@dataclass(frozen=True, eq=False)
class Matches:
    """The same cameras, or points, in two frames."""

    a: FloatArray  # [N, 3] centres in frame a
    b: FloatArray  # [N, 3] centres in frame b
    # [N, 3, 3], the rotation b_from_a that each camera alone says; None for points
    turns: FloatArray | None
    fix_scale: bool  # whether the scale is 1

    def __len__(self) -> int:
        return len(self.a)

    def of(self, rows: NDArray[np.bool_]) -> Matches:
        """Some of them."""
        turns = None if self.turns is None else self.turns[rows]
        return Matches(self.a[rows], self.b[rows], turns, self.fix_scale)

    def residuals(self, b_from_a: Similarity3) -> tuple[FloatArray, FloatArray]:
        """Distances of centres [N] in b's unit, and angles [N] in radians (0 of points)."""
        position = np.linalg.norm(b_from_a @ self.a - self.b, axis=1)
        if self.turns is None:
            return position, np.zeros(len(self))
        return position, rotation_angles(b_from_a.rotation.T @ self.turns)


class Similarities(NamedTuple):
    """Similarities ``b_from_a`` [...], as arrays."""

    scales: FloatArray
    rotations: FloatArray
    translations: FloatArray

    def of(self, row: int) -> Similarities:
        """One of a list [H] of them, as a list."""
        rows = slice(row, row + 1)
        return Similarities(self.scales[rows], self.rotations[rows], self.translations[rows])


@dataclass(frozen=True, eq=False)
class Sums:
    """What the closed form needs of a set of matches, or [...] of many sets."""

    mean_a: FloatArray  # [..., 3]
    mean_b: FloatArray  # [..., 3]
    cross: FloatArray  # [..., 3, 3], sum of (b - mean_b)(a - mean_a)^T
    square_a: FloatArray  # [...], sum of squared distances from mean_a
    square_b: FloatArray  # [...]
    turns: FloatArray  # [..., 3, 3], sum of the rotations that cameras say

    @classmethod
    def of(cls, a: FloatArray, b: FloatArray, turns: FloatArray | None) -> Sums:
        """Of sets of matches: a and b [..., N, 3], turns [..., N, 3, 3]."""
        mean_a, mean_b = a.mean(axis=-2), b.mean(axis=-2)
        off_a, off_b = a - mean_a[..., None, :], b - mean_b[..., None, :]
        cross = np.swapaxes(off_b, -1, -2) @ off_a
        return cls(
            mean_a=mean_a,
            mean_b=mean_b,
            cross=cross,
            square_a=np.square(off_a).sum(axis=(-1, -2)),
            square_b=np.square(off_b).sum(axis=(-1, -2)),
            turns=np.zeros_like(cross) if turns is None else turns.sum(axis=-3),
        )

    def solve(self, lever: float, *, fix_scale: bool) -> Similarities:
        """The transforms of the least squares."""
        tiny = np.finfo(np.float64).tiny
        scale = np.sqrt(np.maximum(self.square_b, tiny) / np.maximum(self.square_a, tiny))
        if fix_scale:
            scale = np.ones_like(scale)
        weighed = scale[..., None, None] * self.cross + 0.5 * lever**2 * self.turns
        rotation = nearest_rotation(weighed)
        turned = np.einsum("...ij,...j->...i", rotation, self.mean_a)
        return Similarities(scale, rotation, self.mean_b - scale[..., None] * turned)


def fit(matches: Matches, lever: float) -> Similarity3:
    """``b_from_a`` with the least squared residuals over all matches."""
    sums = Sums.of(matches.a, matches.b, matches.turns)
    scale, rotation, translation = sums.solve(lever, fix_scale=matches.fix_scale)
    return Similarity3(float(scale), rotation, translation)


def leave_one_out(matches: Matches, lever: float) -> tuple[FloatArray, FloatArray]:
    """The residuals [N], [N] (b's unit, radians) of each match under the fit to all others."""
    count = len(matches)
    middle_a, middle_b = matches.a.mean(axis=0), matches.b.mean(axis=0)
    a, b = matches.a - middle_a, matches.b - middle_b
    # Without one of n centred vectors x, sums have x x^T n / (n - 1) less, means x / (n - 1).
    share = count / (count - 1)
    whole = Sums.of(a, b, matches.turns)
    turns = np.zeros((count, 3, 3)) if matches.turns is None else matches.turns
    sums = Sums(
        mean_a=-a / (count - 1),
        mean_b=-b / (count - 1),
        cross=whole.cross - share * b[:, :, None] * a[:, None, :],
        square_a=whole.square_a - share * np.square(a).sum(axis=1),
        square_b=whole.square_b - share * np.square(b).sum(axis=1),
        turns=whole.turns - turns,
    )
    scale, rotation, translation = sums.solve(lever, fix_scale=matches.fix_scale)
    moved = scale[:, None] * np.einsum("nij,nj->ni", rotation, a) + translation
    position = np.linalg.norm(moved - b, axis=1)
    if not matches.fix_scale:
        # The only one that moved: without it the others have no scale.
        position[sums.square_a <= 1e-18 * whole.square_a] = np.nan
    if matches.turns is None:
        return position, np.zeros(count)
    return position, rotation_angles(np.swapaxes(rotation, 1, 2) @ matches.turns)


def information(
    matches: Matches, b_from_a: Similarity3, sigma_position: float, sigma_rotation: float
) -> FloatArray:
    """The information matrix [7, 7] of ``b_from_a`` at the middle of the matches.

    In the order: shift of the middle (b's axes), turn about the middle (b's axes, radians), log of
    the scale.
    """
    moved = b_from_a.scale * (matches.a - matches.a.mean(axis=0)) @ b_from_a.rotation.T
    jacobians = np.zeros((len(matches), 3, 7))
    jacobians[:, :, :3] = np.eye(3)
    jacobians[:, :, 3:6] = -skew(moved)
    jacobians[:, :, 6] = moved
    result: FloatArray = np.einsum("nij,nik->jk", jacobians, jacobians) / sigma_position**2
    if matches.turns is not None:
        result[3:6, 3:6] += len(matches) * np.eye(3) / sigma_rotation**2
    return result
