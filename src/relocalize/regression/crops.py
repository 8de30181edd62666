"""PoseNet's preprocessing, with every crop as the camera that it is.

Source: Kendall, Grimes, Cipolla, PoseNet, ICCV 2015, section 3.1: images are resized so that the
smaller side is 256 pixels (455 x 256 for 16:9), a mean image is subtracted, and 224 x 224 pixels
are cropped: at random in training, in the middle or at 128 even places in the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import GeometryError
from relocalize.geometry import Camera
from relocalize.regression.canonical import canonical_camera

RESIZED_SIDE = 256  # the smaller side after resizing, of a crop of 224
CROP_SIDE = 224


@dataclass(frozen=True)
class Crop:
    """A part of an image, and the camera that sees just that part."""

    left: int  # pixels of the image to the left of it
    top: int  # pixels of the image above it
    camera: Camera  # of the part: the image's, its principal point moved

    def of(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        """The part [h, w, ...] of an image [H, W, ...], not copied."""
        bottom, right = self.top + self.camera.height, self.left + self.camera.width
        return image[self.top : bottom, self.left : right]


def posenet_camera(cameras: Sequence[Camera], *, smaller_side: int = RESIZED_SIDE) -> Camera:
    """The undistorted camera of the resized images: the median's shape, nothing squeezed.

    Args:
        cameras: one per train image.
        smaller_side: pixels.

    Raises:
        GeometryError: there are no cameras.
    """
    if not cameras:
        raise GeometryError("no cameras to choose a size from; want at least 1")
    aspect = float(np.median([camera.width / camera.height for camera in cameras]))
    width, height = smaller_side * max(1.0, aspect), smaller_side * max(1.0, 1.0 / aspect)
    return canonical_camera(cameras, round(width), round(height))


def centre_crop(camera: Camera, side: int = CROP_SIDE) -> Crop:
    """The middle of the camera's image."""
    across, down = _room(camera, side)
    return _crop(camera, across // 2, down // 2, side)


def random_crop(camera: Camera, rng: np.random.Generator, side: int = CROP_SIDE) -> Crop:
    """Any part of the camera's image, each as likely."""
    across, down = _room(camera, side)
    left, top = rng.integers(0, [across + 1, down + 1])
    return _crop(camera, int(left), int(top), side)


def posenet_crops(camera: Camera, count: int = 128, side: int = CROP_SIDE) -> list[Crop]:
    """``count`` parts on an even grid over the camera's image, corners included.

    The grid has about twice as many places along the longer side: 16 x 8 for 128. One crop is
    the middle one.
    """
    if count < 1:
        raise GeometryError(f"{count} crops; want at least 1")
    across, down = _room(camera, side)
    if count == 1:
        return [centre_crop(camera, side)]
    shorter = max(n for n in range(1, count + 1) if count % n == 0 and 2 * n * n <= count * 1.01)
    longer = count // shorter
    columns, rows = (longer, shorter) if across >= down else (shorter, longer)
    lefts, tops = _even(across, columns), _even(down, rows)
    return [_crop(camera, left, top, side) for top in tops for left in lefts]


def _room(camera: Camera, side: int) -> tuple[int, int]:
    across, down = camera.width - side, camera.height - side
    if side < 1 or across < 0 or down < 0:
        raise GeometryError(
            f"no crop of {side} x {side} pixels in an image of {camera.width} x {camera.height}"
        )
    return across, down


def _even(room: int, count: int) -> list[int]:
    places = np.linspace(0, room, count) if count > 1 else np.array([room / 2])
    return [round(float(place)) for place in places]


def _crop(camera: Camera, left: int, top: int, side: int) -> Crop:
    matrix = camera.calibration_matrix
    x, y = matrix[0, 2] - left, matrix[1, 2] - top
    return Crop(left, top, Camera("PINHOLE", side, side, (matrix[0, 0], matrix[1, 1], x, y)))
