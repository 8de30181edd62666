"""Lens distortion of other tools in OpenCV's terms, with what the change costs.

COLMAP's polynomial lenses end at r^6 (k3), the fourth radial term of RealityCapture and Metashape
is r^8. An image's radius has an end, and up to there three terms can follow four closely.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from relocalize.geometry.transforms import FloatArray

# A shift below this changes no pose that is measured from features, whose own positions scatter
# by several times as much.
NEGLIGIBLE_PX = 0.05
# Terms of real lenses are below 100, even those of r^8; larger ones are no lens.
LARGEST_TERM = 1e4
_SAMPLES = 100  # radii, to the corner


@lru_cache(maxsize=1024)
def three_radial_terms(
    radial: tuple[float, float, float, float], corner: float
) -> tuple[tuple[float, float, float], float]:
    """k1, k2, k3 that follow the polynomial k1 k2 k3 k4 closest over one image.

    Args:
        radial: factors of r^2, r^4, r^6 and r^8.
        corner: radius of the image's farthest corner in units of the focal length.

    Returns:
        The three terms, and their largest shift of a point in units of the focal length.
    """
    if radial[3] == 0:
        return radial[:3], 0.0
    radii = _radii_in_image(radial, corner)
    powers = radii[:, None] ** np.array([3, 5, 7, 9])
    wanted = powers @ np.array(radial)
    scale = powers[-1, :3]
    terms = np.linalg.lstsq(powers[:, :3] / scale, wanted, rcond=None)[0] / scale
    shift = float(np.abs(powers[:, :3] @ terms - wanted).max())
    return (float(terms[0]), float(terms[1]), float(terms[2])), shift


def _radii_in_image(radial: tuple[float, float, float, float], corner: float) -> FloatArray:
    """Radii before distortion whose points lie in the image after it."""
    radii = np.linspace(0.0, 3.0 * corner, 3 * _SAMPLES)
    distorted = radii + (radii[:, None] ** np.array([3, 5, 7, 9])) @ np.array(radial)
    outside = (distorted >= corner) | (np.diff(distorted, append=np.inf) <= 0)
    end = int(np.argmax(outside)) if outside.any() else len(radii)
    return radii[: max(end, 8)]
