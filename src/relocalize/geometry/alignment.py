"""Bringing one set of camera poses, or points, onto another: a robust similarity.

Orientations take part, so that a straight corridor, where centres alone leave the turn about its
axis open, is determined. Gross errors are left out by consensus: hypotheses from two cameras (three
points), judged by least median of squares (up to half of the matches may be wrong), then a
least-squares fit over the inliers of the best, repeated until these no longer change.

Who is an inlier follows the noise of the data itself: a match is one when its centre is within
`INLIER_SIGMAS` standard deviations, and its orientation too. The standard deviations per axis are
the medians of the inliers' residuals over 1.538, the median length of a normal 3-vector. The set
begins with what agrees on one hypothesis, so a gross error never widens the bound that judges it;
and what differs by less than `SAME` of the extent is never called an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relocalize.errors import GeometryError
from relocalize.geometry.alignment_fit import (
    Matches,
    Similarities,
    Sums,
    fit,
    information,
    leave_one_out,
)
from relocalize.geometry.transforms import FloatArray, Rigid3, Similarity3, skew

# 1 good centre in 15,000 is beyond 5 sigma if the noise is normal; that of real cameras has longer
# tails, and of 1000 depth-camera poses against structure from motion about 1% are.
INLIER_SIGMAS = 5.0
SAME = 1e-4  # of the extent, or radians
_HYPOTHESES = 500  # with 40% wrong, 500 pairs all contain a wrong one with p < 1e-90
_SCORED = 2000  # matches that hypotheses are judged on; a median needs no more
_MOST_ROUNDS = 100  # of inliers from the fit and the fit from inliers; some 10 are enough
_LENGTH_MEDIAN = 1.5382  # of a normal 3-vector with sigma 1 (chi distribution)
# With fewer matches their two noises cannot be told apart: then an orientation's error counts as
# the way that it moves something at the cameras' extent.
_FEWEST_FOR_NOISE = 6


@dataclass(frozen=True, eq=False)
class Alignment:
    """A similarity ``b_from_a`` estimated from matching camera poses, and how well they agree.

    Attributes:
        b_from_a: the transform.
        inliers: [N] bool, the pairs it was computed from.
        position_residuals: [N], distance of centres in frame b, in b's unit.
        rotation_residuals_deg: [N], angle between orientations, degrees; 0 of points.
        position_bound: up to which residual a centre is an inlier, in b's unit.
        rotation_bound_deg: the same for orientations.
        left_out_position: [N], the residual of each inlier under the fit to all others; NaN of
            outliers, and of all where leaving one out leaves too few.
        left_out_rotation_deg: [N], likewise.
        position_sigma: noise of a centre per axis, b's unit.
        rotation_sigma_deg: noise of an orientation per axis, degrees.
        extent: typical distance of the centres from their middle, b's unit.
        covariance: [7, 7] of the transform, in the order translation (b's unit), rotation (about
            b's axes, radians), log of the scale; infinite where the matches leave it open.
        middle_covariance: [7, 7], the same of the transform as it acts at the middle of the
            inliers: its first three are the shift there.
        rival: another transform that others of the matches agree on, and how many; None if none.
    """

    b_from_a: Similarity3
    inliers: NDArray[np.bool_]
    position_residuals: FloatArray
    rotation_residuals_deg: FloatArray
    position_bound: float
    rotation_bound_deg: float
    left_out_position: FloatArray
    left_out_rotation_deg: FloatArray
    position_sigma: float
    rotation_sigma_deg: float
    extent: float
    covariance: FloatArray
    middle_covariance: FloatArray
    rival: tuple[Similarity3, int] | None


def align_camera_poses(
    a_from_cams: Sequence[Rigid3],
    b_from_cams: Sequence[Rigid3],
    *,
    fix_scale: bool = False,
    seed: int = 0,
) -> Alignment:
    """Estimate ``b_from_a`` from poses of the same cameras in both frames.

    Args:
        a_from_cams: N poses in frame a, those of one walk in its order.
        b_from_cams: the same N cameras in frame b.
        fix_scale: keep scale 1 (a rigid alignment).
        seed: of the choice of hypotheses.

    Raises:
        GeometryError: fewer than 2 poses, or all centres of one side in one point, so that
            scale cannot be determined.
    """
    if len(a_from_cams) != len(b_from_cams):
        raise GeometryError(f"{len(a_from_cams)} poses cannot be paired with {len(b_from_cams)}")
    if len(a_from_cams) < 2:
        raise GeometryError(
            f"an alignment needs at least 2 common poses, got {len(a_from_cams)}; "
            "do the image names of both sides match?"
        )
    turns = np.stack(
        [b.rotation @ a.rotation.T for a, b in zip(a_from_cams, b_from_cams, strict=True)]
    )
    return _align(
        Matches(
            np.stack([pose.translation for pose in a_from_cams]),
            np.stack([pose.translation for pose in b_from_cams]),
            turns,
            fix_scale,
        ),
        seed,
    )


def align_points(
    in_a: ArrayLike, in_b: ArrayLike, *, fix_scale: bool = False, seed: int = 0
) -> Alignment:
    """Estimate ``b_from_a`` from the positions [N, 3] of the same points in both frames.

    Raises:
        GeometryError: fewer than 3 points, no [N, 3] of finite numbers, or all in one point.
    """
    a, b = np.asarray(in_a, dtype=np.float64), np.asarray(in_b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 3:
        raise GeometryError(f"points of shapes {a.shape} and {b.shape}; want [N, 3] both")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise GeometryError("points with coordinates that are no finite numbers")
    if len(a) < 3:
        raise GeometryError(f"an alignment of points needs at least 3 of them, got {len(a)}")
    return _align(Matches(a, b, None, fix_scale), seed)


def spread(centres: FloatArray) -> float:
    """Median distance from the middle of the cameras that are not exactly there; 0 if none."""
    distances = np.linalg.norm(centres - np.median(centres, axis=0), axis=1)
    # A camera that rests for over half of its poses has a path all the same.
    moving = distances[distances > 1e-9 * max(1.0, float(distances.max()))]
    return float(np.median(moving)) if len(moving) else 0.0


def _align(matches: Matches, seed: int) -> Alignment:
    extents = spread(matches.a), spread(matches.b)
    if min(extents) < 1e-9 and not matches.fix_scale:
        raise GeometryError(
            f"all positions of one side are in one place (extents {extents[0]:.3g} and "
            f"{extents[1]:.3g}), so the scale between the two frames cannot be determined"
        )
    extent = max(extents[1], 1e-9)
    consensus = _consensus(matches, extent, seed)
    inside = matches.of(consensus.inliers)
    position, angle = matches.residuals(consensus.b_from_a)
    left_out_position = np.full(len(matches), np.nan)
    left_out_angle = np.full(len(matches), np.nan)
    if len(inside) > (2 if matches.turns is not None else 3):
        left_out = leave_one_out(inside, consensus.lever)
        left_out_position[consensus.inliers], left_out_angle[consensus.inliers] = left_out
    at_middle, covariance = _covariances(inside, consensus)
    return Alignment(
        b_from_a=consensus.b_from_a,
        inliers=consensus.inliers,
        position_residuals=position,
        rotation_residuals_deg=np.degrees(angle),
        position_bound=consensus.position_bound,
        rotation_bound_deg=float(np.degrees(consensus.angle_bound)),
        left_out_position=left_out_position,
        left_out_rotation_deg=np.degrees(left_out_angle),
        position_sigma=consensus.position_sigma,
        rotation_sigma_deg=float(np.degrees(consensus.angle_sigma)),
        extent=extent,
        covariance=covariance,
        middle_covariance=at_middle,
        rival=_rival(matches, consensus, extent, seed),
    )


@dataclass(frozen=True, eq=False)
class _Consensus:
    """A fit, the matches it is of, their noise per axis and what that allows."""

    b_from_a: Similarity3
    inliers: NDArray[np.bool_]
    lever: float
    position_sigma: float
    angle_sigma: float
    position_bound: float
    angle_bound: float


def _consensus(matches: Matches, extent: float, seed: int) -> _Consensus:
    inliers = _first_inliers(matches, extent, seed)
    # Residuals per match are 3 numbers of its centre, and 3 of its orientation where it has one;
    # the fit takes up 7 of them all.
    each = 3 if matches.turns is None else 6
    lever = extent
    for _ in range(_MOST_ROUNDS):
        b_from_a = fit(matches.of(inliers), lever)
        position, angle = matches.residuals(b_from_a)
        count = int(inliers.sum())
        sigma = np.sqrt(each * count / max(each * count - 7, 1)) / _LENGTH_MEDIAN
        position_sigma = max(sigma * float(np.median(position[inliers])), 1e-9 * extent)
        angle_sigma = max(sigma * float(np.median(angle[inliers])), 1e-9)
        position_bound = max(INLIER_SIGMAS * position_sigma, SAME * extent)
        angle_bound = max(INLIER_SIGMAS * angle_sigma, SAME)
        now = (position <= position_bound) & (angle <= angle_bound)
        noise = position_sigma / angle_sigma if count >= _FEWEST_FOR_NOISE else extent
        settled = np.array_equal(now, inliers) and abs(noise / lever - 1) < 1e-6
        if settled or now.sum() < 2:
            break
        inliers, lever = now, noise
    return _Consensus(
        b_from_a, inliers, lever, position_sigma, angle_sigma, position_bound, angle_bound
    )


def _first_inliers(matches: Matches, extent: float, seed: int) -> NDArray[np.bool_]:
    """The matches that agree on the best hypothesis.

    Least median of squares says how large the noise is; a truncated square loss with that bound
    then says which hypothesis is best, because a median is blind to what only a minority shows:
    the scale, where a camera rests for most of its recording.

    Raises:
        GeometryError: no hypothesis has two centres that differ.
    """
    rng = np.random.default_rng(seed)
    hypotheses = _hypotheses(matches, extent, rng)
    judges = matches
    if len(matches) > _SCORED:
        chosen = rng.permutation(len(matches))[:_SCORED]
        judges = matches.of(np.isin(np.arange(len(matches)), chosen))
    misfits = _misfits(judges, hypotheses, extent)
    medians = np.median(misfits, axis=1)
    refined = [
        _polished(matches, hypotheses.of(i), extent, np.median) for i in np.argsort(medians)[:5]
    ]
    noise = min(float(np.median(rows)) for rows in refined)
    bound = max(INLIER_SIGMAS / _LENGTH_MEDIAN * noise, SAME)

    def loss(rows: FloatArray) -> FloatArray:
        return np.asarray(np.square(np.minimum(rows / bound, 1)).sum(axis=-1))

    refined += [
        _polished(matches, hypotheses.of(i), extent, lambda _: bound)
        for i in np.argsort(loss(misfits), kind="stable")[:5]
    ]
    best: NDArray[np.bool_] = min(refined, key=lambda rows: float(loss(rows))) <= bound
    return best


def _hypotheses(matches: Matches, extent: float, rng: np.random.Generator) -> Similarities:
    size = 2 if matches.turns is not None else 3
    rows = _samples(len(matches), size, rng)
    if not matches.fix_scale:
        apart = np.minimum(
            np.ptp(matches.a[rows], axis=1).max(axis=1), np.ptp(matches.b[rows], axis=1).max(axis=1)
        )
        rows = rows[apart > 1e-12]
        if not len(rows):
            raise GeometryError("no two camera centres differ, so the scale cannot be determined")
    turns = None if matches.turns is None else matches.turns[rows]
    sums = Sums.of(matches.a[rows], matches.b[rows], turns)
    return sums.solve(extent, fix_scale=matches.fix_scale)


def _samples(count: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[H, size] rows of so many different matches: all there are, or `_HYPOTHESES` at random."""
    if comb(count, size) <= _HYPOTHESES:
        return np.array(list(combinations(range(count), size)), dtype=np.int64)
    return np.array(
        [rng.choice(count, size=size, replace=False) for _ in range(_HYPOTHESES)], dtype=np.int64
    )


def _polished(
    matches: Matches, start: Similarities, extent: float, bound: Callable[[FloatArray], float]
) -> FloatArray:
    """The misfits [N] after a few fits to what is within the bound."""
    misfits: FloatArray = _misfits(matches, start, extent)[0]
    for _ in range(5):
        near = misfits <= max(float(bound(misfits)), SAME)
        if near.sum() < 3:
            break
        inside = matches.of(near)
        turns = None if inside.turns is None else inside.turns[None]
        sums = Sums.of(inside.a[None], inside.b[None], turns)
        fitted = sums.solve(extent, fix_scale=matches.fix_scale)
        misfits = _misfits(matches, fitted, extent)[0]
    return misfits


def _misfits(matches: Matches, b_from_a: Similarities, extent: float) -> FloatArray:
    """[H, N] residuals of centres in units of the extent, and of orientations in radians, added.

    Added for each match, because centre and orientation of one camera have to be right together.
    """
    count = len(matches)
    turned = (matches.a @ np.swapaxes(b_from_a.rotations, 1, 2)) * b_from_a.scales[:, None, None]
    off = turned + (b_from_a.translations[:, None] - matches.b)
    position: FloatArray = np.linalg.norm(off, axis=2) / extent
    if matches.turns is None:
        return position
    traces = b_from_a.rotations.reshape(-1, 9) @ matches.turns.reshape(count, 9).T
    angle: FloatArray = np.arccos(np.clip((traces - 1) / 2, -1, 1))
    return position + angle


def _covariances(inside: Matches, consensus: _Consensus) -> tuple[FloatArray, FloatArray]:
    """Of the transform at the middle of the inliers, and of the transform itself: [7, 7] each.

    The errors of neighbouring frames of a walk are alike, so n frames say less than n independent
    ones would: the covariance is that of independent ones, times the integrated autocorrelation
    (1 + r) / (1 - r) of a first-order process whose neighbours correlate by r.
    """
    b_from_a = consensus.b_from_a
    known = information(inside, b_from_a, consensus.position_sigma, consensus.angle_sigma)
    free = np.arange(6 if inside.fix_scale else 7)
    middle = np.zeros((7, 7))
    middle[np.ix_(free, free)] = _inverse(known[np.ix_(free, free)])
    errors = b_from_a @ inside.a - inside.b
    power = float(np.square(errors).sum())
    alike = float((errors[:-1] * errors[1:]).sum()) / power if power > 0 else 0.0
    alike = min(max(alike, 0.0), 0.99)
    middle *= (1 + alike) / (1 - alike)
    # The translation is the shift of the middle, less what turn and scale do to it.
    moved = b_from_a.scale * b_from_a.rotation @ inside.a.mean(axis=0)
    change = np.eye(7)
    change[:3, 3:6] = skew(moved)
    change[:3, 6] = -moved
    with np.errstate(invalid="ignore"):
        whole = change @ middle @ change.T
    return middle, np.where(np.isfinite(whole), whole, np.inf)


def _inverse(known: FloatArray) -> FloatArray:
    """The covariance of an information matrix; infinite in what it does not know."""
    scale = np.sqrt(np.maximum(np.diag(known), np.finfo(np.float64).tiny))
    values, vectors = np.linalg.eigh(known / np.outer(scale, scale))
    sure = values > 1e-12
    inverse = (vectors[:, sure] / values[sure]) @ vectors[:, sure].T / np.outer(scale, scale)
    open_ones = (np.abs(vectors[:, ~sure]) > 1e-6).any(axis=1)
    inverse[open_ones, open_ones] = np.inf
    result: FloatArray = inverse
    return result


def _rival(
    matches: Matches, consensus: _Consensus, extent: float, seed: int
) -> tuple[Similarity3, int] | None:
    """What the outliers agree on among themselves, as closely as the inliers do."""
    others = matches.of(~consensus.inliers)
    if len(others) < 4 or (spread(others.a) < 1e-9 and not matches.fix_scale):
        return None
    try:
        other = _consensus(others, extent, seed)
    except GeometryError:
        return None
    position, angle = others.residuals(other.b_from_a)
    agree = (position <= consensus.position_bound) & (angle <= consensus.angle_bound)
    # Three fit one transform to some noise by chance; four do not.
    return (other.b_from_a, int(agree.sum())) if agree.sum() >= 4 else None
