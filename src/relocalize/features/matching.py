"""Matches between images: nearest descriptors, then two-view verification.

Descriptors: mutual nearest neighbours with Lowe's ratio test (IJCV 2004). Verification: the
fundamental matrix by LO-RANSAC (poselib), which needs no focal length.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import poselib
from numpy.typing import NDArray

from relocalize import progress
from relocalize.features.database import (
    FeatureDatabase,
    MatchedPair,
    Pair,
    TwoView,
    batched,
)
from relocalize.features.sift import Features
from relocalize.parallel import map_in_order

UnitDescriptors = NDArray[np.float32]  # [K, 128], rows of length 1

_PAIRS_PER_COMMIT = 64
_CACHED_IMAGES = 512  # features held in memory while matching; about 0.3 MB each


@dataclass(frozen=True)
class MatchSettings:
    """How pairs are matched and verified.

    Attributes:
        max_ratio: angle to the nearest descriptor over angle to the second nearest (Lowe).
        max_angle: radians between matched descriptors; COLMAP's limit.
        max_epipolar_error: pixels, of a verified match.
        min_verified: matches that make a pair count; COLMAP's limit.
    """

    max_ratio: float = 0.8
    max_angle: float = 0.7
    max_epipolar_error: float = 2.0
    min_verified: int = 15


def unit_descriptors(descriptors: NDArray[np.uint8]) -> UnitDescriptors:
    """Descriptors [K, 128] uint8 as float32 rows of length 1."""
    values = descriptors.astype(np.float32)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(norms, 1e-9), dtype=np.float32)


def match_descriptors(
    first: UnitDescriptors, second: UnitDescriptors, settings: MatchSettings
) -> NDArray[np.uint32]:
    """Mutual nearest neighbours [M, 2] that pass the ratio test in both directions' nearest."""
    if len(first) < 2 or len(second) < 2:
        return np.empty((0, 2), dtype=np.uint32)
    similarity = first @ second.T
    rows = np.arange(len(first))
    nearest = similarity.argmax(axis=1)
    best = similarity[rows, nearest]
    back = similarity.argmax(axis=0)
    mutual = back[nearest] == rows
    similarity[rows, nearest] = -1.0
    second_best = similarity.max(axis=1)
    angle, second_angle = _angle(best), _angle(second_best)
    good = mutual & (angle <= settings.max_angle) & (angle <= settings.max_ratio * second_angle)
    kept = np.flatnonzero(good)
    return np.stack([kept, nearest[kept]], axis=1).astype(np.uint32)


def _angle(cosine: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.arccos(np.clip(cosine, -1.0, 1.0)), dtype=np.float32)


def verify(
    matches: NDArray[np.uint32], first: Features, second: Features, settings: MatchSettings
) -> TwoView | None:
    """The two-view geometry that enough of the matches [M, 2] agree on, or None."""
    if len(matches) < settings.min_verified:
        return None
    F, info = poselib.estimate_fundamental(
        first.keypoints[matches[:, 0]],
        second.keypoints[matches[:, 1]],
        {
            "max_epipolar_error": settings.max_epipolar_error,
            "min_iterations": 50,
            "max_iterations": 1000,
        },
        {},
    )
    inliers = matches[np.asarray(info["inliers"], dtype=bool)]
    if len(inliers) < settings.min_verified:
        return None
    return TwoView(np.asarray(F, dtype=np.float64), inliers)


def match_pairs(
    database: FeatureDatabase,
    pairs: Iterable[Pair],
    settings: MatchSettings,
    *,
    what: str = "matching pairs",
) -> int:
    """Match and verify pairs of images that were not tried yet; returns how many those were."""
    todo = database.untried_pairs(pairs)
    if not todo:
        return 0

    @lru_cache(maxsize=_CACHED_IMAGES)
    def read(name: str) -> tuple[Features, UnitDescriptors]:
        features = database.features(name)
        return features, unit_descriptors(features.descriptors)

    # The database is read and written in this thread; only the computing is in others.
    items = ((pair, read(pair[0]), read(pair[1])) for pair in todo)
    matched = map_in_order(lambda item: _match(*item, settings), items)
    with progress.bar(what, len(todo), "pairs") as bar:
        for done in batched(matched, _PAIRS_PER_COMMIT):
            database.write_pairs(done)
            bar.advance(len(done))
    return len(todo)


def _match(
    pair: Pair,
    first: tuple[Features, UnitDescriptors],
    second: tuple[Features, UnitDescriptors],
    settings: MatchSettings,
) -> MatchedPair:
    matches = match_descriptors(first[1], second[1], settings)
    return MatchedPair(*pair, matches, verify(matches, first[0], second[0], settings))
