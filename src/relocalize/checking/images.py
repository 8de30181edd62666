"""Faults of the images themselves: the same one twice, and mirrored ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from relocalize.checking.claims import ReadPixels
from relocalize.checking.measuring import FEATURES, MeasuredPair, View, evenly, measure_pair
from relocalize.features.extraction import extract_features
from relocalize.geometry import Rigid3, rotation_error_deg

# Thumbnails of one image saved twice differ by JPEG noise; neighbours of a video at rest differ
# by a little motion, which the matches then show.
_ALIKE = 0.9995
_STILL = 0.25 / 640  # median motion of the matches, as a share of the image's longer side
_DIFFERENT_DEG = 1.0
_DIFFERENT_SHARE = 0.02  # of the cameras' extent
# A mirrored image matches hardly anything; turned back it matches this much more.
_MIRROR_FACTOR = 3
_MIRROR_MATCHES = 40
_TRIED = 40


def twins(views: Sequence[View]) -> list[tuple[int, int]]:
    """Pairs of rows that show the same image, pixel for pixel up to compression."""
    thumbnails = np.array([view.thumbnail.ravel() for view in views]).reshape(len(views), -1)
    similarity = thumbnails @ thumbnails.T
    alike = np.argwhere(np.triu(similarity > _ALIKE, k=1)).tolist()
    return [(i, j) for i, j in alike if _is_still(views[i], views[j])]


def _is_still(first: View, second: View) -> bool:
    if len(first.features) == 0 or first.camera != second.camera:
        return False
    kept = min(len(first.features), len(second.features))
    if kept < 0.8 * max(len(first.features), len(second.features)):
        return False
    # The same image has the same keypoints: nearest ones, without descriptors.
    offsets = np.abs(first.features.keypoints[:200, None] - second.features.keypoints[None]).max(
        axis=2
    )
    side = max(first.camera.width, first.camera.height)
    return float(np.median(offsets.min(axis=1))) < _STILL * side


def disagreeing(
    pairs: Collection[tuple[int, int]], poses: Sequence[Rigid3]
) -> list[tuple[int, int]]:
    """Pairs of rows whose poses differ although they should not."""
    centres = np.array([pose.translation for pose in poses])
    extent = float(np.percentile(np.linalg.norm(centres - np.median(centres, axis=0), axis=1), 90))
    return [
        (i, j)
        for i, j in pairs
        if np.linalg.norm(centres[i] - centres[j]) > _DIFFERENT_SHARE * extent
        or rotation_error_deg(poses[i], poses[j]) > _DIFFERENT_DEG
    ]


def same_numbers(poses: Sequence[Rigid3], alike: Collection[tuple[int, int]]) -> list[list[int]]:
    """Groups of rows with the very same pose, other than images that are the same too."""
    known = {frozenset(pair) for pair in alike}
    by_pose: dict[bytes, list[int]] = {}
    for row, pose in enumerate(poses):
        by_pose.setdefault(np.round(pose.matrix, 12).tobytes(), []).append(row)
    return [rows for rows in by_pose.values() if len(rows) > 1 and frozenset(rows[:2]) not in known]


def mirrored(
    views: Sequence[View],
    suspects: Collection[int],
    neighbours: Callable[[int], Sequence[int]],
    read: ReadPixels,
) -> Iterator[int]:
    """Suspect rows that match their neighbours only once left and right are exchanged.

    Args:
        views: by row.
        suspects: rows that match too little; at most 40 of them are tried, evenly.
        neighbours: rows that a row should match.
        read: decodes an image.
    """
    rows = sorted(suspects)
    for row in [rows[at] for at in evenly(len(rows), _TRIED)]:
        pixels = np.ascontiguousarray(read(views[row].name)[:, ::-1])
        flipped = replace(views[row], features=extract_features(pixels, FEATURES))
        others = [other for other in neighbours(row) if other != row]
        as_is = sum(_count(measure_pair(views, (row, other))) for other in others)
        turned = sum(_count(measure_pair([flipped, views[other]], (0, 1))) for other in others)
        if turned >= _MIRROR_MATCHES and turned > _MIRROR_FACTOR * as_is:
            yield row


def _count(pair: MeasuredPair | None) -> int:
    return 0 if pair is None else len(pair.matches)
