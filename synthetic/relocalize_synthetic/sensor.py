"""What a camera does to a perfect image: exposure, white balance, vignetting, noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from relocalize_synthetic.scene import Image

_BANK_MARGIN = 96  # pixels by which the noise bank is larger than the image
_GAMMA = 2.2  # grey levels are about light ** (1 / 2.2) (sRGB)


class Sensor:
    """Turns clean images of one size into photographs; may be shared by threads.

    Args:
        width: pixels.
        height: pixels.
        noise: standard deviation at mid grey, grey levels.
        vignetting: share of grey level lost in the corners.
        white_balance: gains of red, green and blue.
        rng: of the noise.
    """

    def __init__(
        self,
        width: int,
        height: int,
        *,
        noise: float,
        vignetting: float,
        white_balance: tuple[float, float, float],
        rng: np.random.Generator,
    ) -> None:
        x = (np.arange(width) + 0.5 - width / 2) / (width / 2)
        y = (np.arange(height) + 0.5 - height / 2) / (height / 2)
        radius = (x[None, :] ** 2 + y[:, None] ** 2) / 2
        shade = (1 - vignetting * radius)[..., None] * np.asarray(white_balance) ** (1 / _GAMMA)
        self._shade = shade.astype(np.float32)
        size = (height + _BANK_MARGIN, width + _BANK_MARGIN)
        # Mostly luminance noise; chroma noise is what cameras filter out.
        grey = rng.standard_normal((*size, 1), dtype=np.float32)
        colour = rng.standard_normal((*size, 3), dtype=np.float32)
        self._bank = noise * (0.85 * grey + 0.5 * colour)

    def develop(
        self, light: NDArray[np.float32] | Image, gain: float, rng: np.random.Generator
    ) -> Image:
        """The photograph [H, W, 3] of an image [H, W, 3] at an exposure of ``gain``."""
        y, x = rng.integers(0, _BANK_MARGIN, 2)
        height, width = light.shape[:2]
        noise = self._bank[y : y + height, x : x + width]
        exposed = cv2.multiply(light, self._shade, scale=gain ** (1 / _GAMMA), dtype=cv2.CV_32F)
        return np.asarray(cv2.add(exposed, noise, dtype=cv2.CV_8U), dtype=np.uint8)
