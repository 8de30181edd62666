"""What a covariance looks like: the ellipsoid that holds the truth with a stated probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relocalize.geometry.transforms import FloatArray, quat_wxyz_from_rotation

# 95% of a Gauss in three dimensions lie within this many sigmas: the square root of the 0.95
# quantile of the chi-square distribution with 3 degrees of freedom, 7.815.
SIGMAS_95 = 2.7955


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """An ellipsoid about a point.

    Attributes:
        radii: [3] along its own axes, in the unit of positions.
        quat_wxyz: [4] that turns its own axes into the world's.
    """

    radii: FloatArray
    quat_wxyz: FloatArray

    @classmethod
    def of(cls, covariance: FloatArray) -> Ellipsoid:
        """The 95% ellipsoid of positions with this covariance [3, 3]."""
        values, axes = np.linalg.eigh(covariance)
        if np.linalg.det(axes) < 0:
            axes[:, 0] *= -1
        radii = SIGMAS_95 * np.sqrt(np.maximum(values, 0.0))
        return cls(radii, quat_wxyz_from_rotation(axes))
