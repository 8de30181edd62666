"""How far a long map may be stretched or bent: what its images leave open between its ends.

Each stretch of a walk is exact, and yet scale and direction wander along a corridor, where the
reprojection error shows nothing. Their covariance follows from bundle adjustment's normal
equations (see `pose_covariance`), solved for some stations along the walk, so that its cost is
proportional to the map. Errors that images have in common are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.transforms import FloatArray, skew
from relocalize.mapping.pose_covariance import Observations, normal_equations
from relocalize.mapping.report import Drift
from relocalize.place import MapModel

_STATIONS = 16  # along the walk
_STATION_IMAGES = 8  # at least, whose extent is a station's scale
_EXTENT = 0.3  # of the typical distance of points: a camera that stands still has no scale
_LEAST_IMAGES = 4 * _STATION_IMAGES
_MOST_LENSES = 32  # numbers of lenses: loose photos with a camera each are no walk
_FIRM = 1e6  # by how much the frame is held more firmly than by the images


def drift_of(model: MapModel, names: Sequence[str]) -> Drift | None:
    """The loosest of a map along a walk of images ``names``; None where it is short or open."""
    found = Observations.of(model.about(model.local_origin))
    if found is None or found.lenses.size > _MOST_LENSES:
        return None
    row_of = {image.name: row for row, image in enumerate(found.images)}
    walk = np.array([row_of[name] for name in names if name in row_of], dtype=np.int64)
    if len(walk) < _LEAST_IMAGES:
        return None
    stations = _stations(found, walk)
    if len(stations) < 2:
        return None
    looseness = Looseness.of(found)
    if looseness is None:
        return None
    covariance = looseness.of_stations(stations)
    if not np.isfinite(covariance).all():
        return None
    scales = _of_differences(covariance[:, 0, :, 0][..., None, None])
    turns = _of_differences(covariance[:, 1:, :, 1:].transpose(0, 2, 1, 3))
    one, other = np.unravel_index(int(np.argmax(scales)), scales.shape)
    middle = [found.images[station[len(station) // 2]].name for station in stations]
    first, last = sorted((int(one), int(other)))
    return Drift(
        middle[first],
        middle[last],
        float(np.sqrt(max(0.0, scales.max()))),
        float(np.degrees(np.sqrt(max(0.0, turns.max())))),
    )


def _stations(found: Observations, walk: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Runs of images all along the walk, each with an extent that gives it a scale."""
    centres = np.stack([found.images[row].world_from_cam.translation for row in walk])
    starts = np.linspace(0, len(walk), min(_STATIONS, len(walk) // _STATION_IMAGES) + 1).astype(int)
    stations = []
    for start, end in pairwise(starts):
        way = np.linalg.norm(centres[start:end] - centres[start], axis=1)
        enough = np.flatnonzero(way >= _EXTENT * found.depth)
        if len(enough):
            last = max(int(enough[0]) + 1, _STATION_IMAGES)
            stations.append(walk[start : start + last])
    return stations


def _of_differences(covariance: FloatArray) -> FloatArray:
    """[K, K] largest variance of the difference of any two of K vectors [K, K, D, D]."""
    own = np.einsum("kkij->kij", covariance)
    of_difference = own[:, None] + own[None, :] - covariance - covariance.transpose(1, 0, 2, 3)
    return np.asarray(np.linalg.eigvalsh(of_difference)[..., -1])


class Looseness:
    """What bundle adjustment's normal equations leave open of anything that poses determine."""

    def __init__(self, found: Observations, factor: Any) -> None:
        self.found = found
        self.row_of = {image.name: row for row, image in enumerate(found.images)}
        self._factor = factor
        self._centres = _centres(found)

    @classmethod
    def of(cls, found: Observations) -> Looseness | None:
        """The normal equations, factored; None where they leave poses open."""
        from scipy import sparse  # noqa: PLC0415  # takes half a second
        from scipy.sparse.linalg import splu  # noqa: PLC0415

        normal = normal_equations(found)
        centres = _centres(found)
        # What differs within the map is the same in every frame: the first image holds it, and
        # its distance to the image furthest away.
        firm = _FIRM * normal.diagonal().max()
        far = int(np.argmax(np.linalg.norm(centres - centres[0], axis=1)))
        along = np.zeros(normal.shape[0])
        along[6 * far : 6 * far + 3] = centres[far] - centres[0]
        along /= max(float(np.linalg.norm(along)), np.finfo(float).tiny)
        held = sparse.csc_array(along[:, None])
        first = np.zeros(len(along))
        first[:6] = firm
        closed = (normal + firm * (held @ held.T) + sparse.diags_array(first)).tocsc()
        try:
            factor = splu(closed, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
        except RuntimeError:  # exactly singular
            return None
        return cls(found, factor)

    def of_stations(self, stations: Sequence[NDArray[np.int64]]) -> FloatArray:
        """[K, 4, K, 4] covariance of the log of each station's scale, and of its turn (radians).

        A station is rows of images; what differs between two of them is what counts.
        """
        asked = np.stack([self._asked(rows)[:, :4] for rows in stations], axis=1)
        covariance = self._covariance(asked.reshape(len(asked), -1))
        return covariance.reshape(len(stations), 4, len(stations), 4)

    def between(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> FloatArray:
        """[7, 7] covariance of one station against another: log of scale, turn, shift."""
        one, other = self._asked(first), self._asked(second)
        difference = other - one
        arm = self._centres[second].mean(axis=0) - self._centres[first].mean(axis=0)
        # Where the first is turned and grown, the second is carried along.
        difference[:, 4:] -= one[:, 1:4] @ skew(arm) + one[:, :1] * arm
        return self._covariance(difference)

    def _asked(self, rows: NDArray[np.int64]) -> FloatArray:
        """[size, 7] what a station's log of scale, turn and shift are made of."""
        asked = np.zeros((self._factor.shape[0], 7))
        arms = self._centres[rows] - self._centres[rows].mean(axis=0)
        extent = max(float((arms**2).sum()), np.finfo(float).tiny)
        for row, arm in zip(rows, arms, strict=True):
            turn = self.found.images[row].world_from_cam.rotation
            asked[6 * row : 6 * row + 3, 0] = arm / extent
            asked[6 * row + 3 : 6 * row + 6, 1:4] = turn.T / len(rows)
            asked[6 * row : 6 * row + 3, 4:] = np.eye(3) / len(rows)
        return asked

    def _covariance(self, asked: FloatArray) -> FloatArray:
        covariance = self.found.variance * (asked.T @ self._factor.solve(asked))
        return np.asarray((covariance + covariance.T) / 2)


def _centres(found: Observations) -> FloatArray:
    return np.stack([image.world_from_cam.translation for image in found.images])
