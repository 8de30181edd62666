"""How exactly a map's own images agree with it: the part of the uncertainty that no photo shows.

The matches of one photo scatter about their pose by what is random in them. Errors that they
share, of the map's points and of the poses these were made from, do not show in that scatter;
they show when images of the map are localized as if they were photos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import MappingError
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray, rotvec_from_rotation

_ARRAY = "map_noise"
# The share of errors within the ellipsoid of one sigma, as Gaussian errors of one axis have it,
# and the quantile of chi-squared with 3 degrees of freedom there. Few gross errors do not move
# it, and it is nearer to the tail that a stated uncertainty is asked about than the median.
_COVERAGE, _CHI2_3 = 0.6827, 3.527


@dataclass(frozen=True)
class MapNoise:
    """Standard deviations per axis that the map adds to a pose."""

    position: float = 0.0  # in the Place's unit
    rotation_rad: float = 0.0  # radians

    @property
    def covariance(self) -> FloatArray:
        """[6, 6] as in `PoseEstimate`."""
        return np.diag([self.position**2] * 3 + [self.rotation_rad**2] * 3)

    def to_arrays(self) -> dict[str, FloatArray]:
        """As an array, for saving."""
        return {_ARRAY: np.array([self.position, self.rotation_rad])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> MapNoise:
        """From what `to_arrays` gave.

        Raises:
            MappingError: it is missing or no pair of sigmas.
        """
        sigmas = arrays.get(_ARRAY)
        if (
            sigmas is None
            or sigmas.shape != (2,)
            or not (np.isfinite(sigmas) & (sigmas >= 0)).all()
        ):
            raise MappingError("the saved map noise is damaged: want 2 numbers >= 0")
        return cls(float(sigmas[0]), float(sigmas[1]))


def measured_noise(
    localized: Sequence[tuple[Rigid3, FloatArray]], posed: Sequence[Rigid3]
) -> MapNoise:
    """The noise with which as many errors lie within what the covariances say as should.

    Args:
        localized: world_from_cam and covariance [6, 6] of images localized like photos.
        posed: world_from_cam of the same images in the map.
    """
    position = [
        (found.translation - true.translation, covariance[:3, :3])
        for (found, covariance), true in zip(localized, posed, strict=True)
    ]
    rotation = [
        (rotvec_from_rotation(true.rotation.T @ found.rotation), covariance[3:, 3:])
        for (found, covariance), true in zip(localized, posed, strict=True)
    ]
    return MapNoise(_missing_sigma(position), _missing_sigma(rotation))


def _missing_sigma(errors: Sequence[tuple[FloatArray, FloatArray]]) -> float:
    """What has to be added to every covariance [3, 3] for errors [3] of the right size."""
    if not errors:
        return 0.0

    def typical_chi2(sigma: float) -> float:
        added = sigma**2 * np.eye(3)
        found = [error @ np.linalg.solve(own + added, error) for error, own in errors]
        return float(np.quantile(found, _COVERAGE, method="higher"))

    low, high = 0.0, max(float(np.linalg.norm(error)) for error, _ in errors)
    if typical_chi2(0.0) <= _CHI2_3:
        return 0.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if typical_chi2(middle) > _CHI2_3 else (low, middle)
    return high
