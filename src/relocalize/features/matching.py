"""Matches between images: nearest descriptors, then two-view verification.

Descriptors: mutual nearest neighbours with Lowe's ratio test (IJCV 2004). Verification: the
fundamental matrix by LO-RANSAC (poselib), which needs no focal length.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import poselib
from numpy.typing import NDArray

from relocalize import progress
from relocalize.features.database import FeatureDatabase, MatchedPair, Pair, TwoView, batched
from relocalize.features.extraction import (
    KINDS,
    FeatureKind,
    Features,
    UnitDescriptors,
    unit_descriptors,
)
from relocalize.geometry.transforms import FloatArray
from relocalize.parallel import map_in_order

Rows = NDArray[np.int64]

_PAIRS_PER_COMMIT = 64
_BLOCK = 256  # descriptors compared at a time
_CACHED_IMAGES = 512  # features held in memory while matching; about 0.3 MB each


@dataclass(frozen=True)
class MatchSettings:
    """How matches are verified; how descriptors are matched is told by their kind.

    Attributes:
        max_epipolar_error: pixels, of a verified match.
        min_verified: matches that make a pair count, if their kind does not ask for more.
    """

    max_epipolar_error: float = 2.0
    min_verified: int = 15


def mutual_matches(
    first: UnitDescriptors,
    second: UnitDescriptors,
    max_ratio: float = 1.0,
    *,
    max_angle: float = np.pi,
) -> Rows:
    """Pairs that are each other's nearest and clearly nearer than the second nearest.

    Args:
        first: [K, D].
        second: [P, D].
        max_ratio: largest angle to the nearest over that to the second nearest of ``second``
            (Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004, section
            7.1); 1 for none.
        max_angle: radians between matched descriptors.

    Returns:
        [M, 2] rows of ``first`` and of ``second``.
    """
    if not len(first) or not len(second):
        return np.zeros((0, 2), np.int64)
    nearest = np.empty(len(first), np.int64)
    best, next_best = np.empty((2, len(first)), np.float32)
    best_of_second = np.full(len(second), -2, np.float32)
    # In blocks that the processor's cache holds: the whole product costs four times as much.
    buffer = np.empty((min(_BLOCK, len(first)), len(second)), np.float32)
    for start in range(0, len(first), _BLOCK):
        part = slice(start, min(start + _BLOCK, len(first)))
        similarity = np.matmul(first[part], second.T, out=buffer[: part.stop - start])
        np.maximum(best_of_second, similarity.max(axis=0), out=best_of_second)
        columns = similarity.argmax(axis=1)
        nearest[part], at = columns, (np.arange(len(columns)), columns)
        best[part] = similarity[at]
        if max_ratio < 1:
            similarity[at] = -1
            next_best[part] = similarity.max(axis=1)
    angle = _angle(best)
    keep = (best >= best_of_second[nearest]) & (angle <= max_angle)
    if max_ratio < 1:
        keep &= angle < max_ratio * _angle(next_best)
    rows = np.flatnonzero(keep)
    # Equal descriptors could tie: a feature is used once.
    columns, unique = np.unique(nearest[rows], return_index=True)
    order = np.argsort(unique)
    return np.stack([rows[unique], columns], axis=1)[order]


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
        query: [K, D] unit descriptors.
        points: [P, D] unit descriptors.
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
    kind = KINDS[database.settings.kind]
    asked = replace(settings, min_verified=max(settings.min_verified, kind.min_verified))
    matched = map_in_order(lambda item: _match(*item, kind, asked), items)
    with progress.bar(what, len(todo), "pairs") as bar:
        for done in batched(matched, _PAIRS_PER_COMMIT):
            database.write_pairs(done)
            bar.advance(len(done))
    return len(todo)


def _match(
    pair: Pair,
    first: tuple[Features, UnitDescriptors],
    second: tuple[Features, UnitDescriptors],
    kind: FeatureKind,
    settings: MatchSettings,
) -> MatchedPair:
    matches = mutual_matches(first[1], second[1], kind.max_ratio, max_angle=kind.max_angle).astype(
        np.uint32
    )
    return MatchedPair(*pair, matches, verify(matches, first[0], second[0], settings))
