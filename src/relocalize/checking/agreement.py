"""How far matches are from where claimed relative poses put them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from relocalize.checking.measuring import MeasuredPair, evenly
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray

ERROR_FLOOR = 0.2  # pixels at 640: what keypoints are good for
_MATCHES_PER_PAIR = 60


class PairMatches:
    """The matches of P pairs as arrays, for testing many poses against them.

    Attributes:
        first: [P] rows of the first views.
        second: [P] rows of the second views.
        rotation: [P, 3, 3] measured, of ``second_from_first``.
        direction: [P, 3] measured, of its translation.
        moving: [P] whether the pair has enough parallax for a direction.
    """

    def __init__(self, measured: Sequence[MeasuredPair]) -> None:
        self.first = np.array([pair.pair[0] for pair in measured], dtype=int)
        self.second = np.array([pair.pair[1] for pair in measured], dtype=int)
        poses = [pair.second_from_first for pair in measured]
        self.rotation = np.array([pose.rotation for pose in poses]).reshape(-1, 3, 3)
        self.direction = np.array([pose.translation for pose in poses]).reshape(-1, 3)
        self.moving = np.array([pair.is_moving for pair in measured])
        chosen = [pair.rays[evenly(len(pair.rays), _MATCHES_PER_PAIR)] for pair in measured]
        rays = np.concatenate([np.zeros((0, 2, 2)), *chosen])
        ones = np.ones((len(rays), 1))
        self._first_rays = np.concatenate([rays[:, 0], ones], axis=1)
        self._second_rays = np.concatenate([rays[:, 1], ones], axis=1)
        self._pair_of = np.repeat(np.arange(len(measured)), [len(rows) for rows in chosen])
        ends = np.cumsum([0, *(len(rows) for rows in chosen)])
        self._slices = [slice(start, end) for start, end in pairwise(ends)]
        # An epipolar bound is 2 pixels at 640, so this is one pixel on the image plane.
        self._pixel = np.array([pair.max_error / 2 for pair in measured])[self._pair_of]

    def __len__(self) -> int:
        return len(self.first)

    def touching(self, rows: Collection[int]) -> NDArray[np.bool_]:
        """[P] whether a pair has one of these rows."""
        wanted = sorted(rows)
        return np.isin(self.first, wanted) | np.isin(self.second, wanted)

    def per_row(self, chosen: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
        """How many of the chosen pairs [P] each of ``count`` rows has."""
        ends = np.concatenate([self.first[chosen], self.second[chosen]])
        return np.bincount(ends, minlength=count)

    def claimed(self, world_from_cam: Sequence[Rigid3]) -> tuple[FloatArray, FloatArray]:
        """``second_from_first`` of claimed poses: rotations [P, 3, 3], unit directions [P, 3]."""
        rotations = np.array([pose.rotation for pose in world_from_cam])
        centres = np.array([pose.translation for pose in world_from_cam])
        back = np.swapaxes(rotations[self.second], 1, 2)
        baselines = centres[self.first] - centres[self.second]
        return back @ rotations[self.first], unit(np.einsum("pij,pj->pi", back, baselines))

    def rotation_angles_deg(self, rotation: FloatArray) -> FloatArray:
        """[P] between claimed rotations [P, 3, 3] and the measured ones."""
        return angle_deg(np.einsum("pij,pij->p", self.rotation, rotation))

    def direction_angles_deg(self, direction: FloatArray) -> FloatArray:
        """[P] between claimed unit directions [P, 3] and the measured; NaN without parallax."""
        cosines = np.einsum("pi,pi->p", direction, self.direction)
        angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
        return np.where(self.moving, angles, np.nan)

    def errors(self, rotation: FloatArray, direction: FloatArray, *, cap: float) -> FloatArray:
        """[P] median over its matches of the Sampson error, in pixels at 640 pixels of size.

        Errors lie between `ERROR_FLOOR` and ``cap``; a match whose point would be behind a camera
        counts as ``cap``.
        """
        essential = np.cross(direction[:, None, :], np.swapaxes(rotation, 1, 2))
        essential = np.swapaxes(essential, 1, 2)[self._pair_of]
        errors = np.abs(sampson(essential, self._first_rays, self._second_rays)) / self._pixel
        turned = np.einsum("mij,mj->mi", rotation[self._pair_of], self._first_rays)
        behind = _is_behind(turned, self._second_rays, direction[self._pair_of])
        # A point at infinity has no side; only a pair with parallax says that it is behind.
        errors = np.where(behind & self.moving[self._pair_of], cap, errors)
        errors = np.clip(np.nan_to_num(errors, nan=cap), ERROR_FLOOR, cap)
        return np.array([float(np.median(errors[rows])) for rows in self._slices])


def sampson(essential: FloatArray, first: FloatArray, second: FloatArray) -> FloatArray:
    """[M] signed Sampson errors of rays [M, 3] with depth 1 under essential matrices [M, 3, 3].

    Source: Hartley and Zisserman, Multiple View Geometry, equation 11.9.
    """
    lines = np.einsum("mij,mj->mi", essential, first)
    back = np.einsum("mji,mj->mi", essential, second)
    slope = np.sqrt((lines[:, :2] ** 2).sum(axis=1) + (back[:, :2] ** 2).sum(axis=1))
    errors: FloatArray = np.einsum("mi,mi->m", second, lines) / np.maximum(slope, 1e-12)
    return errors


def unit(vectors: FloatArray) -> FloatArray:
    """Vectors [..., 3] scaled to length 1; zeros stay zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: FloatArray = vectors / np.maximum(lengths, 1e-12)
    return result


def angle_deg(traces: FloatArray) -> FloatArray:
    """Angles of rotations from the traces of their matrices."""
    return np.asarray(np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1))))


def _is_behind(
    turned: FloatArray, second: FloatArray, translation: FloatArray
) -> NDArray[np.bool_]:
    """Whether ``z2 second = z1 turned + translation`` [M, 3] has a negative depth."""
    # Least squares in the depths: the normal equations of [turned, -second] [z1, z2] = -t.
    aa = np.einsum("mi,mi->m", turned, turned)
    bb = np.einsum("mi,mi->m", second, second)
    ab = np.einsum("mi,mi->m", turned, second)
    at = np.einsum("mi,mi->m", turned, translation)
    bt = np.einsum("mi,mi->m", second, translation)
    return np.asarray((ab * bt - bb * at < 0) | (aa * bt - ab * at < 0))
