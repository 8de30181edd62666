"""Images of another size, and what that does to their cameras: exactly, and never silently.

A resized image is a part of the old one (all of it, unless it is cropped) stretched onto a part
of the new one (all of it, unless it is padded). Both parts have whole pixels, so the two scales
differ by the rounding; the camera gets both, not their mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from relocalize.errors import FormatError
from relocalize.geometry import Camera

Aspect = Literal["crop", "pad", "stretch"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
# A side may be this many pixels off the other's scale before the shape counts as another:
# 455x256 is 16:9 to the pixel, though 256 * 16 / 9 is 455.1.
_ROUNDING = 1.0

# Models with one focal length, as those that hold the same camera with two.
_TWO_FOCALS = {
    "SIMPLE_PINHOLE": ("PINHOLE", 0),
    "SIMPLE_RADIAL": ("OPENCV", 4),
    "RADIAL": ("OPENCV", 4),
    "SIMPLE_FISHEYE": ("FISHEYE", 0),
    "SIMPLE_DIVISION": ("DIVISION", 1),
    "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", 4),
    "RADIAL_FISHEYE": ("OPENCV_FISHEYE", 4),
}


@dataclass(frozen=True)
class Resizing:
    """How images of one size become images of another."""

    size: tuple[int, int]  # width and height before, pixels
    new_size: tuple[int, int]  # width and height after
    source: tuple[int, int, int, int]  # x, y, width, height of the part that is kept
    target: tuple[int, int, int, int]  # x, y, width, height of where it goes; around it is black

    @classmethod
    def to(cls, size: tuple[int, int], new_size: tuple[int, int], aspect: Aspect) -> Resizing:
        """From ``size`` to ``new_size``; where their shapes differ, ``aspect`` says what gives.

        Args:
            size: width and height, pixels.
            new_size: the same of the result.
            aspect: ``crop`` keeps the middle, ``pad`` keeps everything between black bars,
                ``stretch`` keeps everything and changes its shape.
        """
        (width, height), (new_width, new_height) = size, new_size
        across, down = new_width / width, new_height / height
        whole, filled = (0, 0, width, height), (0, 0, new_width, new_height)
        same_shape = (
            abs(width * down - new_width) < _ROUNDING
            or abs(height * across - new_height) < _ROUNDING
        )
        if same_shape or aspect == "stretch":
            return cls(size, new_size, whole, filled)
        if aspect == "crop":
            scale = max(across, down)
            return cls(
                size, new_size, _middle(whole, new_width / scale, new_height / scale), filled
            )
        scale = min(across, down)
        return cls(size, new_size, whole, _middle(filled, width * scale, height * scale))

    @property
    def scale(self) -> tuple[float, float]:
        """New pixels per old pixel, across and down."""
        return self.target[2] / self.source[2], self.target[3] / self.source[3]

    @property
    def description(self) -> str:
        """What happens to the image, in words."""
        (width, height), (new_width, new_height) = self.size, self.new_size
        said = f"{width}x{height} to {new_width}x{new_height}"
        across, down = self.scale
        if self.source[2:] != self.size:
            return f"{said}: cropped to the middle {self.source[2]}x{self.source[3]}"
        if self.target[2:] != self.new_size:
            return f"{said}: {self.target[2]}x{self.target[3]} between black bars"
        # Half a pixel of rounding on the shorter side is not a change of shape.
        if abs(width * down - new_width) >= _ROUNDING and (
            abs(height * across - new_height) >= _ROUNDING
        ):
            stretch = max(across / down, down / across) - 1
            return (
                f"{said}: stretched by {100 * stretch:.1f}% {'across' if across > down else 'down'}"
            )
        return f"{said}: whole, shape kept"

    def pixels(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The resized image [H', W', 3] of an image [H, W, 3]."""
        if image.shape[:2] != self.size[::-1]:
            raise FormatError(
                f"an image of {image.shape[1]}x{image.shape[0]} pixels, whose camera has "
                f"{self.size[0]}x{self.size[1]}"
            )
        x, y, width, height = self.source
        left, top, new_width, new_height = self.target
        kept = image[y : y + height, x : x + width]
        # Averaging over the area is what does not alias when images shrink.
        how = cv2.INTER_AREA if new_width < width or new_height < height else cv2.INTER_LINEAR
        resized = cv2.resize(kept, (new_width, new_height), interpolation=how)
        result = np.zeros((self.new_size[1], self.new_size[0], 3), dtype=np.uint8)
        result[top : top + new_height, left : left + new_width] = resized
        return result

    def points(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pixels [N, 2] of the image, in the resized one; (0, 0) is the corner in both."""
        moved = (pixels - self.source[:2]) * self.scale + self.target[:2]
        return np.asarray(moved, dtype=np.float32)

    def camera(self, camera: Camera) -> Camera:
        """The camera of the resized image.

        Raises:
            FormatError: its model has no focal length, or one, and none that is like it has two.
        """
        across, down = self.scale
        if across != down:
            camera = _with_two_focals(camera)
        blank = camera.to_colmap()
        if not blank.principal_point_idxs():
            raise FormatError(f"images of a {camera.model} camera cannot be resized")
        params = list(camera.params)
        for row, scale in zip(blank.focal_length_idxs(), (across, down), strict=False):
            params[row] *= scale
        x, y = blank.principal_point_idxs()
        params[x] = (params[x] - self.source[0]) * across + self.target[0]
        params[y] = (params[y] - self.source[1]) * down + self.target[1]
        width, height = self.new_size
        return replace(camera, width=width, height=height, params=tuple(params))


def _middle(
    rectangle: tuple[int, int, int, int], width: float, height: float
) -> tuple[int, int, int, int]:
    """The rectangle of about ``width`` x ``height`` in the middle of another, in whole pixels."""
    x, y, outer_width, outer_height = rectangle
    inner_width = min(outer_width, max(1, round(width)))
    inner_height = min(outer_height, max(1, round(height)))
    return (
        x + (outer_width - inner_width) // 2,
        y + (outer_height - inner_height) // 2,
        inner_width,
        inner_height,
    )


def _with_two_focals(camera: Camera) -> Camera:
    if len(camera.to_colmap().focal_length_idxs()) == 2:
        return camera
    if camera.model not in _TWO_FOCALS:
        raise FormatError(
            f"a {camera.model} camera has one focal length, so its images cannot be resized to "
            f"this shape exactly; choose a size with the shape of {camera.width}x{camera.height}"
        )
    model, terms = _TWO_FOCALS[camera.model]
    focal, x, y, *distortion = camera.params
    padded = [*distortion, *[0.0] * (terms - len(distortion))]
    return replace(camera, model=model, params=(focal, focal, x, y, *padded))
