"""Matches between the features of a photo and the points of a map, by their descriptors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.transforms import FloatArray

Float32Array = NDArray[np.float32]
Rows = NDArray[np.int64]


def unit_descriptors(descriptors: NDArray[np.uint8]) -> Float32Array:
    """[K, 128] of norm 1, for similarities as dot products."""
    rows = descriptors.astype(np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    unit: Float32Array = rows / np.maximum(norms, 1e-6)[:, None]
    return unit


def match_mutually(query: Float32Array, points: Float32Array, ratio: float) -> tuple[Rows, Rows]:
    """Pairs that are each other's nearest and clearly nearer than the second.

    Args:
        query: [K, 128] unit descriptors.
        points: [P, 128] unit descriptors.
        ratio: largest distance to the nearest over distance to the second nearest point (Lowe,
            "Distinctive image features from scale-invariant keypoints", IJCV 2004, section 7.1).

    Returns:
        Rows of ``query`` and rows of ``points``, both [M].
    """
    if not len(query) or not len(points):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    similarity = query @ points.T
    every = np.arange(len(query))
    nearest = similarity.argmax(axis=1)
    mutual = similarity.argmax(axis=0)[nearest] == every
    best = similarity[every, nearest]
    similarity[every, nearest] = -1
    second = similarity.max(axis=1)
    # Of unit vectors: distance^2 = 2 - 2 similarity.
    clear = 1 - best < ratio**2 * (1 - second)
    rows = np.flatnonzero(mutual & clear)
    return rows, nearest[rows]


def match_nearby(
    query: Float32Array,
    points: Float32Array,
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
