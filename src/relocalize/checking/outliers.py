"""Which poses disagree with the images around them, and in what.

Two views say whether a rotation and the direction of a translation are right; three views say its
length as well: points from the other views' poses must land where this one sees them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from relocalize.checking.agreement import PairMatches
from relocalize.checking.measuring import MeasuredPair, Pair, directions
from relocalize.geometry import Rigid3

# Pixels at 640. A pair is bad beyond this, or beyond this factor of the data's own median: poses
# from a depth camera are a few pixels off throughout, and that is no outlier.
_MIN_BOUND = 4.0
_BOUND_FACTOR = 6.0
_CAP = 320.0
# A rotation is at fault beyond this, or this factor of the data's own median.
_ROTATION_DEG = 3.0
_FAULT_FACTOR = 4.0
_MIN_POINTS = 8
# Points of which the other views' rays do not cross at this angle say nothing of a length.
_MIN_CROSSING_DEG = 1.5
_ROUNDS = 3
# Repeated patterns agree on a false relative pose by up to 47 matches (fox); beyond, pairs are
# evidence of their own.
_STRONG = 60


_FOLD_DEG = 90.0  # between what a pair measures and what is claimed: a part is turned about


@dataclass(frozen=True)
class PoseOutlier:
    """A pose that the images contradict."""

    row: int  # of the image
    fault: str  # ``rotation``, ``translation`` or ``distance`` (its direction is right)
    error_px: float  # by how much matches are off, in pixels at 640 pixels of size
    rotation_deg: float  # by how much the rotation is off, median over the pairs


@dataclass(frozen=True, eq=False)
class PoseTests:
    """What the images say of each pose."""

    outliers: tuple[PoseOutlier, ...]  # by row
    tested: NDArray[np.bool_]  # [N] whether any other image tests it
    pair_error_px: float  # median over all pairs
    three_view_error_px: float | None  # median over the images, or None where no three see the same
    supported: NDArray[np.int64]  # [N] pairs of it that agree, with images that are no outliers
    # pairs of rows that disagree although neither is an outlier, worst first
    contradictions: tuple[Pair, ...]
    # rows that pairs which agree tie to each other, the largest part first; of two rows or more
    parts: tuple[tuple[int, ...], ...]
    # pairs of rows in two parts, of which one is turned about against the other
    folds: tuple[Pair, ...]


def pose_tests(poses: Sequence[Rigid3], measured: Sequence[MeasuredPair]) -> PoseTests:
    """Test claimed ``world_from_cam`` poses against measured pairs of their images."""
    matches = PairMatches(measured)
    rotation, direction = matches.claimed(poses)
    errors = matches.errors(rotation, direction, cap=_CAP)
    typical = float(np.median(errors)) if len(errors) else 0.0
    bad = errors > _bound(typical)
    flagged = _contradicted(len(poses), matches, bad)

    tested = np.zeros(len(poses), dtype=bool)
    tested[matches.first] = tested[matches.second] = True
    length_errors = _length_errors(poses, measured, flagged)
    lengths = [error for error in length_errors.values() if np.isfinite(error)]
    length_bound = _bound(float(np.median(lengths)) if lengths else 0.0)
    too_far: set[int] = set()
    for _ in range(_ROUNDS):
        worst = {row for row, error in length_errors.items() if error > length_bound}
        # A wrong neighbour spoils the points of good ones: only the worst nearby is to blame.
        new = _local_maxima(worst, length_errors, matches)
        if not new:
            break
        too_far |= new
        length_errors = _length_errors(poses, measured, flagged | too_far)

    angles = matches.rotation_angles_deg(rotation)
    typical_angle = float(np.median(angles)) if len(angles) else 0.0
    outliers = []
    for row in sorted(flagged | too_far):
        of_row = matches.touching([row])
        good = of_row & ~matches.touching(flagged - {row})
        rows = good if good.any() else of_row
        angle = float(np.median(angles[rows]))
        turned = angle > max(_ROTATION_DEG, _FAULT_FACTOR * typical_angle)
        fault = "rotation" if turned else ("translation" if row in flagged else "distance")
        outliers.append(PoseOutlier(row, fault, float(np.median(errors[rows])), angle))
    parts = _parts(len(poses), matches, ~bad)
    part_of = {row: number for number, part in enumerate(parts) for row in part}
    folds = tuple(
        (first, second)
        for first, second, angle in zip(
            matches.first.tolist(), matches.second.tolist(), angles.tolist(), strict=True
        )
        if angle > _FOLD_DEG and part_of.get(first, -1) != part_of.get(second, -2)
    )
    without = ~matches.touching(flagged | too_far)
    strong = np.array([len(pair.matches) >= _STRONG for pair in measured], dtype=bool)
    contradicting = np.flatnonzero(bad & strong & without)
    return PoseTests(
        outliers=tuple(outliers),
        tested=tested,
        pair_error_px=typical,
        three_view_error_px=float(np.median(lengths)) if lengths else None,
        supported=matches.per_row(~bad & without, len(poses)),
        contradictions=tuple(
            (int(matches.first[pair]), int(matches.second[pair]))
            for pair in sorted(contradicting, key=lambda pair: -errors[pair])
        ),
        parts=parts,
        folds=folds,
    )


def _parts(
    count: int, matches: PairMatches, agree: NDArray[np.bool_]
) -> tuple[tuple[int, ...], ...]:
    """Connected components of the pairs that agree, of two rows or more, the largest first."""
    ones = np.ones(int(agree.sum()))
    graph = sparse.coo_array((ones, (matches.first[agree], matches.second[agree])), (count, count))
    number, part = csgraph.connected_components(graph, directed=False)
    rows = [tuple(np.flatnonzero(part == one).tolist()) for one in range(number)]
    return tuple(sorted((part for part in rows if len(part) > 1), key=lambda part: -len(part)))


def _bound(typical: float) -> float:
    return max(_MIN_BOUND, _BOUND_FACTOR * typical)


def _contradicted(count: int, matches: PairMatches, bad: NDArray[np.bool_]) -> set[int]:
    """Rows with more bad pairs than good ones, once the pairs with worse rows are set aside."""
    flagged: set[int] = set()
    alive = np.ones(len(matches), dtype=bool)
    while count:
        total = matches.per_row(alive, count)
        wrong = matches.per_row(alive & bad, count)
        share = wrong / np.maximum(total, 1)
        # With one pair left nobody knows which end is wrong, unless the other end has friends.
        friends = total - wrong
        lonely = (total == 1) & (wrong == 1)
        for pair in np.flatnonzero(alive & bad):
            ends = int(matches.first[pair]), int(matches.second[pair])
            for end, other in (ends, ends[::-1]):
                if lonely[end] and friends[other] < 2:
                    share[end] = 0.0
        worst = int(np.lexsort((wrong, share))[-1])
        if share[worst] <= 0.5:
            break
        flagged.add(worst)
        alive &= ~matches.touching([worst])
    return {row for row in flagged if not _is_cleared(row, matches, bad, flagged)}


def _is_cleared(row: int, matches: PairMatches, bad: NDArray[np.bool_], flagged: set[int]) -> bool:
    """Whether a flagged row agrees with most of the rows that are not flagged."""
    tests = matches.touching([row]) & ~matches.touching(flagged - {row})
    return bool(tests.any() and bad[tests].mean() < 0.5)


def _local_maxima(
    worst: Collection[int], errors: dict[int, float], matches: PairMatches
) -> set[int]:
    """Of neighbouring rows, those with the largest error."""
    beaten = set()
    for i, j in zip(matches.first.tolist(), matches.second.tolist(), strict=True):
        if i in worst and j in worst:
            beaten.add(i if errors[i] < errors[j] else j)
    return set(worst) - beaten


def _length_errors(
    poses: Sequence[Rigid3], measured: Sequence[MeasuredPair], excluded: Collection[int]
) -> dict[int, float]:
    """Median error in pixels at 640 of points from other views, for rows that have enough."""
    seen: dict[int, list[tuple[MeasuredPair, int]]] = defaultdict(list)
    for pair in measured:
        if pair.pair[0] not in excluded and pair.pair[1] not in excluded:
            seen[pair.pair[0]].append((pair, 0))
            seen[pair.pair[1]].append((pair, 1))
    errors = {row: _length_error(poses, row, pairs) for row, pairs in seen.items()}
    return {row: error for row, error in errors.items() if error is not None}


def _length_error(
    poses: Sequence[Rigid3], row: int, pairs: Sequence[tuple[MeasuredPair, int]]
) -> float | None:
    """Of one row, by its pairs and which side of each it is; None where they are too few."""
    if len(pairs) < 2:
        return None
    features = np.concatenate([pair.matches[:, side] for pair, side in pairs])
    own_rays = np.concatenate([pair.rays[:, side] for pair, side in pairs])
    others = [poses[pair.pair[1 - side]] for pair, side in pairs]
    lengths = [len(pair.matches) for pair, _ in pairs]
    centres = np.repeat([pose.translation for pose in others], lengths, axis=0)
    rays = np.concatenate(
        [
            directions(pair.rays[:, 1 - side]) @ pose.rotation.T
            for (pair, side), pose in zip(pairs, others, strict=True)
        ]
    )
    ids, first, inverse = np.unique(features, return_index=True, return_inverse=True)
    # The point nearest to its rays: sum of (I - d d^T) (x - c) = 0.
    projectors = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    normal = np.zeros((len(ids), 3, 3))
    right = np.zeros((len(ids), 3))
    np.add.at(normal, inverse, projectors)
    np.add.at(right, inverse, np.einsum("nij,nj->ni", projectors, centres))
    spread = np.linalg.eigvalsh(normal)[:, 0]
    crossing = spread > 2 * np.sin(np.radians(_MIN_CROSSING_DEG) / 2) ** 2
    if crossing.sum() < _MIN_POINTS:
        return None
    points = np.linalg.solve(normal[crossing], right[crossing][:, :, None])[:, :, 0]
    in_cam = poses[row].inverse() @ points
    with np.errstate(divide="ignore", invalid="ignore"):
        projected = in_cam[:, :2] / in_cam[:, 2:]
    pixel = pairs[0][0].max_error / 2
    offsets = np.linalg.norm(projected - own_rays[first][crossing], axis=1) / pixel
    offsets[~np.isfinite(offsets) | (in_cam[:, 2] <= 0)] = _CAP
    return float(np.median(np.minimum(offsets, _CAP)))
