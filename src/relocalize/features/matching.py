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
from relocalize.geometry.transforms import FloatArray
from relocalize.parallel import map_in_order

UnitDescriptors = NDArray[np.float32]  # [K, 128], rows of length 1
Rows = NDArray[np.int64]

_PAIRS_PER_COMMIT = 64
_CACHED_IMAGES = 512  # features held in memory while matching; about 0.3 MB each


@dataclass(frozen=True)
class MatchSettings:
    """How pairs are matched and verified.

    Attributes:
        max_ratio: angle to the nearest descriptor over that to the second nearest (Lowe).
        max_angle: radians between matched descriptors; COLMAP's limit.
        max_epipolar_error: pixels, of a verified match.
        min_verified: matches that make a pair count; COLMAP's limit.
    """

    max_ratio: float = 0.8
    max_angle: float = 0.7
    max_epipolar_error: float = 2.0
    min_verified: int = 15


def unit_descriptors(descriptors: NDArray[np.uint8]) -> UnitDescriptors:
    """[K, 128] of norm 1, for similarities as dot products."""
    rows = descriptors.astype(np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    unit: UnitDescriptors = rows / np.maximum(norms, 1e-6)[:, None]
    return unit


def mutual_matches(
    first: UnitDescriptors,
    second: UnitDescriptors,
    max_ratio: float,
    *,
    max_angle: float = np.pi,
) -> Rows:
    """Pairs that are each other's nearest and clearly nearer than the second nearest.

    Args:
        first: [K, 128].
        second: [P, 128].
        max_ratio: largest angle to the nearest over that to the second nearest of ``second``
            (Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004, section
            7.1).
        max_angle: radians between matched descriptors.

    Returns:
        [M, 2] rows of ``first`` and of ``second``.
    """
    if not len(first) or not len(second):
        return np.zeros((0, 2), np.int64)
    similarity = first @ second.T
    every = np.arange(len(first))
    nearest = similarity.argmax(axis=1)
    mutual = similarity.argmax(axis=0)[nearest] == every
    best = _angle(similarity[every, nearest])
    similarity[every, nearest] = -1
    second_best = _angle(similarity.max(axis=1))
    rows = np.flatnonzero(mutual & (best <= max_angle) & (best < max_ratio * second_best))
    return np.stack([rows, nearest[rows]], axis=1)


def _angle(cosine: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.arccos(np.clip(cosine, -1.0, 1.0)), dtype=np.float32)


def match_nearby(
    query: UnitDescriptors,
    points: UnitDescriptors,
    pixels: FloatArray,
    projected: FloatArray,
    *,
    radius: float,
    similarity: float,
) -> tuple[Rows, Rows]:
    """Pairs that are each other's most similar among those that a known pose puts close by.

    Args:
        query: [K, 128] unit descriptors.
        points: [P, 128] unit descriptors.
        pixels: [K, 2] where the features are.
        projected: [P, 2] where the pose puts the points.
        radius: pixels between the two at most.
        similarity: dot product at least.

    Returns:
        Rows of ``query`` and rows of ``points``, both [M].
    """
    if not len(pixels) or not len(projected):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows, columns = pairs_within(pixels, projected, radius)
    alike = np.einsum("ij,ij->i", query[rows], points[columns])
    keep = alike >= similarity
    rows, columns, alike = rows[keep], columns[keep], alike[keep]
    best_of_row = np.full(len(query), -1.0, np.float32)
    best_of_column = np.full(len(points), -1.0, np.float32)
    np.maximum.at(best_of_row, rows, alike)
    np.maximum.at(best_of_column, columns, alike)
    mutual = (alike == best_of_row[rows]) & (alike == best_of_column[columns])
    rows, columns = rows[mutual], columns[mutual]
    # Equal descriptors could tie: a feature is used once.
    rows, first = np.unique(rows, return_index=True)
    return rows, columns[first]


def pairs_within(a: FloatArray, b: FloatArray, radius: float) -> tuple[Rows, Rows]:
    """Rows of ``a`` [N, 2] and of ``b`` [M, 2], both [P], of all pairs at most ``radius`` apart.

    By a grid of that width, because scipy's trees take half a second to import.
    """
    if not len(a) or not len(b):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    low = np.minimum(a.min(axis=0), b.min(axis=0))
    cells_a, cells_b = ((np.floor((one - low) / radius)).astype(np.int64) for one in (a, b))
    # Cells in one number, those of a column in a row: three neighbours are one range of numbers.
    height = max(cells_a[:, 1].max(), cells_b[:, 1].max()) + 2
    number_a, number_b = (cells @ np.array([height, 1]) for cells in (cells_a, cells_b))
    order = number_b.argsort(kind="stable")
    rows, columns = [], []
    for column in (-1, 0, 1):
        middle = number_a + column * height
        first = np.searchsorted(number_b[order], middle - 1, side="left")
        count = np.searchsorted(number_b[order], middle + 1, side="right") - first
        rows.append(np.repeat(np.arange(len(a)), count))
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        columns.append(order[np.repeat(first, count) + within])
    row, column_of_b = np.concatenate(rows), np.concatenate(columns)
    near = np.square(a[row] - b[column_of_b]).sum(axis=1) <= radius**2
    return row[near], column_of_b[near]


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
    matches = mutual_matches(
        first[1], second[1], settings.max_ratio, max_angle=settings.max_angle
    ).astype(np.uint32)
    return MatchedPair(*pair, matches, verify(matches, first[0], second[0], settings))
