"""Local features of images, the same for maps and for photos, of one of several kinds.

A further kind is one more file with a ``detect``, and one more row of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from relocalize.features import sift, xfeat

Descriptors: TypeAlias = NDArray[Any]  # [K, D] integers, as `FeatureKind.stored` makes them
UnitDescriptors: TypeAlias = NDArray[np.float32]  # [K, D], rows of length 1
Kind = Literal["sift", "xfeat"]
_PHOTOS = 60  # photos that take a minute to match each with each
_MOST_FEATURES = 8192


@dataclass(frozen=True)
class FeatureSettings:
    """How features are extracted.

    Attributes:
        max_features: strongest features kept per image.
        max_image_size: images whose longer side is more pixels are shrunk to it first.
        first_octave: of SIFT: 0 starts at the image's own resolution; -1 doubles it first, four
            times the work for two to four times the features.
        kind: of features.
    """

    max_features: int = 2048
    max_image_size: int = 1600
    first_octave: int = 0
    kind: Kind = "sift"


@dataclass(frozen=True, eq=False)
class Features:
    """Local features of one image."""

    # [K, 2] float32 pixels of the original image; (0.5, 0.5) is the centre of the top-left pixel
    keypoints: NDArray[np.float32]
    descriptors: Descriptors  # [K, D] as their kind stores them

    def __len__(self) -> int:
        return len(self.keypoints)


@dataclass(frozen=True)
class FeatureKind:
    """What differs between kinds of features."""

    # from a grey image [H, W] and settings to pixels [K, 2] and unit descriptors [K, D]
    detect: Callable[
        [NDArray[np.uint8], FeatureSettings], tuple[NDArray[np.float32], UnitDescriptors]
    ]
    size: int  # D
    dtype: type[np.uint8] | type[np.int8]  # of stored descriptors
    scale: float  # what unit descriptors are multiplied with to be stored
    # of matches: angle to the nearest descriptor over that to the second nearest (Lowe)
    max_ratio: float
    max_angle: float  # radians between matched descriptors
    min_verified: int  # fewer matches that agree with one geometry are chance
    # dot product of unit descriptors below which two are not of one thing: of a point's
    # observations in a kitchen, an office, a corridor and a church, 0 to 0.5% have less with the
    # mean of the others; of those of different points, 97% do
    alike: float
    nearby: float  # the same where a pose says where to look, and little else is there

    def stored(self, unit: NDArray[Any]) -> Descriptors:
        """Unit descriptors [K, D] as they are kept."""
        info = np.iinfo(self.dtype)
        return np.clip(np.rint(unit * self.scale), info.min, info.max).astype(self.dtype)


KINDS: dict[str, FeatureKind] = {
    # As COLMAP: uint8 descriptors that are unit vectors times 512, and its limits.
    "sift": FeatureKind(
        detect=lambda grey, s: sift.detect(grey, s.max_features, s.first_octave),
        size=128,
        dtype=np.uint8,
        scale=512,
        max_ratio=0.8,
        max_angle=0.7,
        min_verified=15,
        alike=0.8,
        nearby=0.75,
    ),
    # A cosine of 0.82 is its authors' limit; they use no ratio. Of 80 pairs of frames of an office
    # that are verified without one, more than 12 frames apart, 62 contradict the true poses; with
    # 0.95 15 of these are verified, by 21 matches on the average, and 17 of the other 18.
    "xfeat": FeatureKind(
        detect=lambda grey, s: xfeat.detect(grey, s.max_features),
        size=64,
        dtype=np.int8,
        scale=254,
        max_ratio=0.95,
        max_angle=float(np.arccos(0.82)),
        min_verified=25,
        alike=0.72,
        nearby=0.66,
    ),
}
assert set(KINDS) == set(get_args(Kind))


def settings_for(kind: Kind, photos: int | None = None) -> FeatureSettings:
    """What features of a kind to extract, by how much there is to match.

    Args:
        kind: of features.
        photos: how many loose photos are matched each with each; None for a walk, whose frames
            see everything many times. Few photos get so many more features that matching takes
            as long as that of `_PHOTOS`; they are far from each other and need them.
    """
    if photos is None or photos >= _PHOTOS:
        return FeatureSettings(kind=kind)
    plain = FeatureSettings.max_features
    budget = min(_MOST_FEATURES, plain * _PHOTOS // max(1, photos))
    return FeatureSettings(max_features=budget, first_octave=-1, kind=kind)


def kind_of(descriptors: Descriptors) -> FeatureKind:
    """The kind that stores such descriptors."""
    return next(kind for kind in KINDS.values() if kind.dtype == descriptors.dtype)


def extract_features(image: NDArray[np.uint8], settings: FeatureSettings) -> Features:
    """Features of an image, RGB [H, W, 3] or grey [H, W]."""
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    scale = min(1.0, settings.max_image_size / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    kind = KINDS[settings.kind]
    pixels, unit = kind.detect(np.asarray(grey, dtype=np.uint8), settings)
    pixels = pixels * np.array([width / grey.shape[1], height / grey.shape[0]], np.float32)
    return Features(np.asarray(pixels, dtype=np.float32), kind.stored(unit))


def unit_descriptors(descriptors: Descriptors) -> UnitDescriptors:
    """[K, D] of norm 1, for similarities as dot products."""
    rows = descriptors.astype(np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    unit: UnitDescriptors = rows / np.maximum(norms, 1e-6)[:, None]
    return unit
