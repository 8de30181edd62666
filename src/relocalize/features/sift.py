"""SIFT by OpenCV.

Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004; descriptors are
RootSIFT (Arandjelovic and Zisserman, CVPR 2012).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# OpenCV's default of 0.04 finds a third fewer features than COLMAP's; half of it as many.
_CONTRAST_THRESHOLD = 0.02


def detect(
    grey: NDArray[np.uint8], count: int, first_octave: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features of a grey image [H, W].

    OpenCV's SIFT finds what COLMAP's finds (keypoints agree to 0.07 pixels, without bias) in a
    third of the time.

    Args:
        grey: the image.
        count: how many at most, those of the strongest contrast.
        first_octave: 0 starts at the image's own resolution, -1 doubles it first.

    Returns:
        Pixels [K, 2] ((0.5, 0.5) is the centre of the top-left pixel) and unit descriptors
        [K, 128].
    """
    height, width = grey.shape
    # OpenCV begins by doubling the image, which is octave -1.
    scale = 0.5 ** (first_octave + 1)
    if scale != 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    # Without the precise upscaling OpenCV's keypoints are a quarter of a pixel off.
    finder = cv2.SIFT.create(
        nfeatures=count, contrastThreshold=_CONTRAST_THRESHOLD, enable_precise_upscale=True
    )
    found, descriptors = finder.detectAndCompute(grey, None)
    if descriptors is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    # OpenCV's (0, 0) is the centre of the first pixel.
    pixels = (cv2.KeyPoint.convert(found) + np.float32(0.5)) * np.array(
        [width / grey.shape[1], height / grey.shape[0]], np.float32
    )
    rooted = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6))
    return np.asarray(pixels, dtype=np.float32), np.asarray(rooted, dtype=np.float32)
