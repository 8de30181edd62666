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

from relocalize.checking.agreement import PairMatches
from relocalize.checking.measuring import MeasuredPair, Pair, directions
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray

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


@dataclass(frozen=True)
class PoseOutlier:
    """A pose that the images contradict.

    Attributes:
        row: of the image.
        fault: ``rotation``, ``translation`` or ``distance`` (its direction is right).
        error_px: by how much matches are off, in pixels at 640 pixels of size.
        rotation_deg: by how much the rotation is off, median over the pairs.
    """

    row: int
    fault: str
    error_px: float
    rotation_deg: float


@dataclass(frozen=True, eq=False)
class PoseTests:
    """What the images say of each pose.

    Attributes:
        outliers: by row.
        tested: [N] whether any other image tests it.
        pair_error_px: median over all pairs.
        three_view_error_px: median over the images, or None where no three see the same.
        supported: [N] pairs of it that agree, with images that are no outliers.
        contradictions: pairs of rows that disagree although neither is an outlier, worst first.
    """

    outliers: tuple[PoseOutlier, ...]
    tested: NDArray[np.bool_]
    pair_error_px: float
    three_view_error_px: float | None
    supported: NDArray[np.int64]
    contradictions: tuple[Pair, ...]


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
        of_row = (matches.first == row) | (matches.second == row)
        good = of_row & ~np.isin(np.where(matches.first == row, matches.second, matches.first),
                                 sorted(flagged))  # fmt: skip
        rows = good if good.any() else of_row
        angle = float(np.median(angles[rows]))
        turned = angle > max(_ROTATION_DEG, _FAULT_FACTOR * typical_angle)
        fault = "rotation" if turned else ("translation" if row in flagged else "distance")
        outliers.append(PoseOutlier(row, fault, float(np.median(errors[rows])), angle))
    return PoseTests(
        outliers=tuple(outliers),
        tested=tested,
        pair_error_px=typical,
        three_view_error_px=float(np.median(lengths)) if lengths else None,
        supported=_supported(len(poses), matches, bad, flagged | too_far),
        contradictions=_contradictions(matches, errors, bad & _strong(measured), flagged | too_far),
    )


def _bound(typical: float) -> float:
    return max(_MIN_BOUND, _BOUND_FACTOR * typical)


def _contradicted(count: int, matches: PairMatches, bad: NDArray[np.bool_]) -> set[int]:
    """Rows with more bad pairs than good ones, once the pairs with worse rows are set aside."""
    flagged: set[int] = set()
    alive = np.ones(len(matches), dtype=bool)
    while True:
        total = _per_row(count, matches, alive)
        wrong = _per_row(count, matches, alive & bad)
        share = wrong / np.maximum(total, 1)
        # With one pair left nobody knows which end is wrong, unless the other end has friends.
        friends = total - wrong
        lonely = (total == 1) & (wrong == 1)
        for pair in np.flatnonzero(alive & bad):
            ends = int(matches.first[pair]), int(matches.second[pair])
            for end, other in (ends, ends[::-1]):
                if lonely[end] and friends[other] < 2:
                    share[end] = 0.0
        worst = int(np.lexsort((wrong, share))[-1]) if count else 0
        if not count or share[worst] <= 0.5:
            break
        flagged.add(worst)
        alive &= (matches.first != worst) & (matches.second != worst)
    return flagged - _cleared(matches, bad, flagged)


def _cleared(matches: PairMatches, bad: NDArray[np.bool_], flagged: Collection[int]) -> set[int]:
    """Flagged rows that agree with most of the rows that are not flagged."""
    cleared = set()
    rows = sorted(flagged)
    for row in rows:
        of_row = (matches.first == row) | (matches.second == row)
        other = np.where(matches.first == row, matches.second, matches.first)
        tests = of_row & ~np.isin(other, rows)
        if tests.any() and bad[tests].mean() < 0.5:
            cleared.add(row)
    return cleared


def _per_row(count: int, matches: PairMatches, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    ends = np.concatenate([matches.first[chosen], matches.second[chosen]])
    return np.bincount(ends, minlength=count)


def _supported(
    count: int, matches: PairMatches, bad: NDArray[np.bool_], outliers: Collection[int]
) -> NDArray[np.int64]:
    rows = sorted(outliers)
    good = ~bad & ~np.isin(matches.first, rows) & ~np.isin(matches.second, rows)
    return _per_row(count, matches, good)


def _strong(measured: Sequence[MeasuredPair]) -> NDArray[np.bool_]:
    return np.array([len(pair.matches) >= _STRONG for pair in measured], dtype=bool)


def _contradictions(
    matches: PairMatches, errors: FloatArray, bad: NDArray[np.bool_], outliers: Collection[int]
) -> tuple[Pair, ...]:
    rows = sorted(outliers)
    left = bad & ~np.isin(matches.first, rows) & ~np.isin(matches.second, rows)
    order = sorted(np.flatnonzero(left), key=lambda pair: -errors[pair])
    return tuple((int(matches.first[pair]), int(matches.second[pair])) for pair in order)


def _local_maxima(
    worst: Collection[int], errors: dict[int, float], matches: PairMatches
) -> set[int]:
    """Of neighbouring rows, those with the largest error."""
    beaten = set()
    for i, j in zip(matches.first.tolist(), matches.second.tolist(), strict=True):
        if i in worst and j in worst:
            beaten.add(i if errors[i] < errors[j] else j)
    return set(worst) - beaten


# -- three views -----------------------------------------------------------------------------


def _length_errors(
    poses: Sequence[Rigid3], measured: Sequence[MeasuredPair], excluded: Collection[int]
) -> dict[int, float]:
    """Median error in pixels at 640 of points from other views, for rows that have enough."""
    seen: dict[int, list[tuple[NDArray[np.uint32], FloatArray, FloatArray, int, float]]]
    seen = defaultdict(list)
    for pair in measured:
        if pair.pair[0] in excluded or pair.pair[1] in excluded:
            continue
        for here, there in ((0, 1), (1, 0)):
            seen[pair.pair[here]].append(
                (
                    pair.matches[:, here],
                    pair.rays[:, here],
                    pair.rays[:, there],
                    pair.pair[there],
                    pair.max_error / 2,
                )
            )
    errors = {}
    for row, views in seen.items():
        error = _length_error(poses, row, views)
        if error is not None:
            errors[row] = error
    return errors


def _length_error(
    poses: Sequence[Rigid3],
    row: int,
    views: Sequence[tuple[NDArray[np.uint32], FloatArray, FloatArray, int, float]],
) -> float | None:
    if len(views) < 2:
        return None
    features = np.concatenate([view[0] for view in views])
    own_rays = np.concatenate([view[1] for view in views])
    centres = np.concatenate(
        [np.broadcast_to(poses[other].translation, (len(rays), 3)) for *_, rays, other, _ in views]
    )
    rays = np.concatenate(
        [directions(rays) @ poses[other].rotation.T for *_, rays, other, _ in views]
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
    offsets = np.linalg.norm(projected - own_rays[first][crossing], axis=1) / views[0][4]
    offsets[~np.isfinite(offsets) | (in_cam[:, 2] <= 0)] = _CAP
    return float(np.median(np.minimum(offsets, _CAP)))
