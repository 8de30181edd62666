"""Whether localizers know how wrong they are: their stated uncertainties against their errors.

A localizer states a covariance with each pose. Measured in its own sigmas (the Mahalanobis
distance), an error in three dimensions is within r with the probability that chi-squared with 3
degrees of freedom is within r squared, if what is stated is true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray

# Shares of errors that should lie within what is stated; a Gaussian's within 1 and 2 sigma of one
# axis are among them.
EXPECTED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6827, 0.8, 0.9, 0.9545, 0.99)


@dataclass(frozen=True)
class SigmaError:
    """An error in units of what was stated of it; infinite where it was stated to be zero."""

    position: float  # Mahalanobis distance of the centre
    rotation: float  # likewise of the rotation vector, in the camera's axes

    @classmethod
    def of(cls, estimated: Rigid3, covariance: ArrayLike, true: Rigid3) -> SigmaError:
        """Measure an estimate by its own covariance.

        Args:
            estimated: ``world_from_cam``.
            covariance: [36] or [6, 6] of (centre in the world, rotation in the camera's axes in
                radians).
            true: ``world_from_cam`` in the same world.
        """
        stated = np.asarray(covariance, dtype=float).reshape(6, 6)
        turn = Rotation.from_matrix(estimated.rotation.T @ true.rotation).as_rotvec()
        return cls(
            _mahalanobis(true.translation - estimated.translation, stated[:3, :3]),
            _mahalanobis(turn, stated[3:, 3:]),
        )


def coverage(errors: Sequence[SigmaError]) -> dict[str, Any] | None:
    """Expected against observed coverage, as JSON values; None where nothing was stated.

    ``expected`` are shares; ``position`` and ``rotation`` the shares of ``n`` errors that lie
    within the ellipsoid which should hold so many.
    """
    if not errors:
        return None
    radii = np.sqrt(chi2.ppf(EXPECTED, 3))
    return {"n": len(errors), "expected": list(EXPECTED)} | {
        part: [float(np.mean(np.array(distances) <= radius)) for radius in radii]
        for part, distances in (
            ("position", [error.position for error in errors]),
            ("rotation", [error.rotation for error in errors]),
        )
    }


def _mahalanobis(off: FloatArray, covariance: FloatArray) -> float:
    values, axes = np.linalg.eigh(covariance)
    along = np.abs(axes.T @ off)
    # What is stated to be exact is infinitely many sigmas off by whatever it is off.
    least = 1e-12 * max(float(values[-1]), 0.0)
    if (along[values <= least] > 1e-9 * max(float(np.linalg.norm(off)), 1e-300)).any():
        return float("inf")
    known = values > least
    return float(np.sqrt(np.sum(along[known] ** 2 / values[known])))
