"""Local features of images: SIFT from COLMAP, the same for maps and for queries.

SIFT: Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004; descriptors
RootSIFT-normalised (Arandjelovic and Zisserman, CVPR 2012) by COLMAP, in uint8.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

DESCRIPTOR_SIZE = 128


@dataclass(frozen=True)
class FeatureSettings:
    """How features are extracted.

    Attributes:
        max_features: strongest (largest-scale) features kept per image.
        max_image_size: images whose longer side is more pixels are shrunk to it first.
        first_octave: 0 starts at the image's own resolution; -1 doubles it first, four times
            the work for the same localization accuracy (measured: docs/architecture.md).
    """

    max_features: int = 2048
    max_image_size: int = 1600
    first_octave: int = 0


@dataclass(frozen=True, eq=False)
class Features:
    """Local features of one image.

    Attributes:
        keypoints: [K, 2] float32 pixels of the original image; (0.5, 0.5) is the centre of the
            top-left pixel.
        descriptors: [K, 128] uint8.
    """

    keypoints: NDArray[np.float32]
    descriptors: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.keypoints)


def colmap_options(settings: FeatureSettings, *, threads: int) -> pycolmap.FeatureExtractionOptions:
    """The settings as COLMAP's own."""
    options = pycolmap.FeatureExtractionOptions()
    options.use_gpu = False
    options.num_threads = threads
    options.max_image_size = settings.max_image_size
    options.sift.first_octave = settings.first_octave
    options.sift.max_num_features = settings.max_features
    return options


class FeatureExtractor:
    """Extracts features of images in memory; one per thread."""

    def __init__(self, settings: FeatureSettings) -> None:
        self.settings = settings
        self._sift = pycolmap.FeatureExtractor.create(
            colmap_options(settings, threads=1), pycolmap.Device.cpu
        )

    def extract(self, image: NDArray[np.uint8]) -> Features:
        """Features of an image, RGB [H, W, 3] or grey [H, W]."""
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        height, width = grey.shape
        scale = min(1.0, self.settings.max_image_size / max(height, width))
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        bitmap = pycolmap.Bitmap.from_array(np.ascontiguousarray(grey))
        keypoints, descriptors = self._sift.extract(bitmap)
        matrix = np.asarray(pycolmap.keypoints_to_matrix(keypoints), dtype=np.float32)
        # A blank picture gives a matrix without rows or columns.
        pixels = matrix[:, :2] if len(matrix) else np.zeros((0, 2), np.float32)
        pixels = pixels * np.array([width / grey.shape[1], height / grey.shape[0]], np.float32)
        data = np.asarray(descriptors.data, dtype=np.uint8).reshape(-1, DESCRIPTOR_SIZE)
        return Features(pixels, data)
