"""Cameras from other tools' numbers, in COLMAP's smallest models that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from relocalize.errors import FormatError
from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray

# A shift below this changes no pose that is measured from features, whose own positions scatter
# by several times as much.
NEGLIGIBLE_PX = 0.05
# Terms of real lenses are below 100, even those of r^8; larger ones are no lens.
LARGEST_TERM = 1e4
LARGEST_SIDE = 65_535  # of an image in pixels; JPEG's limit
LONGEST_FOCAL = 1e9  # in pixels
_SAMPLES = 100  # radii, to the corner


@dataclass(frozen=True)
class SizelessCamera:
    """A camera of which a file does not give the image's size."""

    focal: float  # in ``unit``
    unit: str = "pixel"  # ``pixel``, or ``width`` or ``longer side``: shares of these of the image
    focal_y: float | None = None  # where it differs from ``focal``
    # [2], of the principal point from the image's centre, in ``unit``
    principal_offset: tuple[float, float] = (0.0, 0.0)
    # ``k1``, ``k1 k2``, ``k1 k2 p1 p2`` or ``k1 k2 p1 p2 k3`` in OpenCV's sense and order. Empty
    # says that it is unknown: a radial term of 0, which mapping estimates
    distortion: tuple[float, ...] = ()
    # [2] pixels from the image's corner, where the file says it so
    principal_point: tuple[float, float] | None = None
    fisheye: bool = False  # then ``distortion`` is OpenCV's k1 to k4

    def of_image(self, width: int, height: int) -> Camera:
        """The camera of an image of ``width`` x ``height`` pixels, in the smallest model."""
        units = {"pixel": 1.0, "width": float(width), "longer side": float(max(width, height))}
        unit = units[self.unit]
        fx, fy = self.focal * unit, (self.focal_y or self.focal) * unit
        cx = width / 2 + self.principal_offset[0] * unit
        cy = height / 2 + self.principal_offset[1] * unit
        cx, cy = self.principal_point or (cx, cy)
        if self.fisheye:
            return Camera("OPENCV_FISHEYE", width, height, (fx, fy, cx, cy, *self.distortion))
        return brown_camera(width, height, (fx, fy, cx, cy), self.distortion)


def brown_camera(
    width: int,
    height: int,
    pinhole: tuple[float, float, float, float],
    distortion: tuple[float, ...] = (),
) -> Camera:
    """The camera in COLMAP's smallest model that holds these numbers.

    Args:
        width: pixels.
        height: pixels.
        pinhole: fx, fy, cx, cy in pixels; (0, 0) is the corner of the top-left pixel.
        distortion: ``k1``, ``k1 k2``, ``k1 k2 p1 p2`` or ``k1 k2 p1 p2 k3`` as OpenCV has them;
            empty gives a radial term of 0, which mapping estimates.

    Raises:
        FormatError: the distortion has another length.
    """
    if len(distortion) > 5 or len(distortion) == 3:
        raise FormatError(f"{len(distortion)} distortion terms; want k1 k2 p1 p2 k3")
    fx, fy, cx, cy = pinhole
    k1, k2, p1, p2, k3 = (*distortion, *([0.0] * (5 - len(distortion))))
    params: tuple[float, ...]
    if k3:
        model, params = "FULL_OPENCV", (*pinhole, k1, k2, p1, p2, k3, 0.0, 0.0, 0.0)
    elif fx != fy or p1 or p2:
        model, params = "OPENCV", (*pinhole, k1, k2, p1, p2)
    elif k2:
        model, params = "RADIAL", (fx, cx, cy, k1, k2)
    else:
        model, params = "SIMPLE_RADIAL", (fx, cx, cy, k1)
    return Camera(model, width, height, params)


def pinhole_of(width: int, height: int, pinhole: Sequence[float]) -> Camera:
    """The camera of fx, fy, cx, cy, whose distortion nobody states.

    Raises:
        FormatError: no image has such sides.
    """
    check_sides(width, height)
    fx, fy, cx, cy = pinhole
    return brown_camera(width, height, (fx, fy, cx, cy))


def check_sides(width: int, height: int) -> None:
    """Raise `FormatError` where no image has such sides."""
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        raise FormatError(f"images of {width} x {height} pixels")


@lru_cache(maxsize=1024)
def three_radial_terms(
    radial: tuple[float, float, float, float], corner: float
) -> tuple[tuple[float, float, float], float]:
    """k1, k2, k3 that follow the polynomial k1 k2 k3 k4 closest over one image.

    COLMAP's polynomial lenses end at r^6 (k3), the fourth radial term of RealityCapture and
    Metashape is r^8. An image's radius has an end, and up to there three terms can follow four.

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
