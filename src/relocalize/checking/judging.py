"""Whether a convention explains the images under the claimed intrinsics, or under others.

Wrong intrinsics turn every measured relative pose, so that right poses look wrong. Before poses
are blamed, the matches choose the intrinsics under which these poses would be right, all pairs
are measured again with them, and the conventions are judged again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from relocalize.checking.claims import Claims
from relocalize.checking.conventions import Verdict, judge_conventions
from relocalize.checking.intrinsics import fit_intrinsics
from relocalize.checking.measuring import (
    MeasuredPair,
    Pair,
    View,
    evenly,
    measure_pairs,
    with_focal_lengths,
)
from relocalize.geometry import Convention

# Pairs that the convention is judged by; more do not make it surer, and it tries thousands.
_JUDGED_PAIRS = 300
# Each time with the matches that the intrinsics of the time before let through.
_ROUNDS = 2
# Claimed intrinsics are at fault where others take away this share of the epipolar error that they
# leave, and that is more than this many pixels at 640: half of what a match may be off.
_MIN_GAIN = 0.5
_MIN_ERROR_PX = 1.0


@dataclass(frozen=True, eq=False)
class Judgement:
    """What explains the images."""

    views: list[View]  # by row; with corrected intrinsics where the claimed ones are at fault
    measured: list[MeasuredPair]  # pairs of them with a relative pose
    # of all conventions, under these intrinsics; None where too few pairs were measured
    verdict: Verdict | None
    # the verdict under the claimed intrinsics where these are at fault, else None
    under_claimed: Verdict | None = None


def judge(
    claims: Claims, views: list[View], pairs: Sequence[Pair], measured: list[MeasuredPair]
) -> Judgement:
    """The convention that explains the images; under other intrinsics where the claimed fail.

    Args:
        claims: of these images.
        views: of them, by row.
        pairs: of rows that were matched.
        measured: those of them with a relative pose.
    """
    verdict = _judged(claims, measured)
    if verdict is None or verdict.best.error_px < _MIN_ERROR_PX:
        return Judgement(views, measured, verdict)
    few = [pairs[at] for at in evenly(len(pairs), _JUDGED_PAIRS)]
    for convention, matched in _starts(claims, views, few, verdict, measured):
        corrected, remeasured = _corrected(claims, convention, views, few, matched)
        other = None if corrected is views else _judged(claims, remeasured)
        if other is None or not other.best.explains:
            continue
        if other.best.error_px < (1 - _MIN_GAIN) * verdict.best.error_px:
            return Judgement(corrected, measure_pairs(corrected, pairs), other, verdict)
    return Judgement(views, measured, verdict)


def _starts(
    claims: Claims,
    views: list[View],
    pairs: Sequence[Pair],
    verdict: Verdict,
    measured: list[MeasuredPair],
) -> Iterator[tuple[Convention, list[MeasuredPair]]]:
    """Conventions that the poses may be in, each with the matches that said so."""
    yield verdict.best.convention, measured
    if verdict.best.explains:
        return
    # Focal lengths of which the matches alone are sure, so that no claim of it stands in the way.
    unknown = [replace(view, camera=replace(view.camera, known="unknown")) for view in views]
    matched = measure_pairs(with_focal_lengths(unknown, pairs), pairs)
    voted = _judged(claims, matched)
    if voted is not None:
        yield voted.best.convention, matched
    if claims.stated.convention != verdict.best.convention:
        yield claims.stated.convention, measured


def _corrected(
    claims: Claims,
    convention: Convention,
    views: list[View],
    pairs: Sequence[Pair],
    measured: list[MeasuredPair],
) -> tuple[list[View], list[MeasuredPair]]:
    """The views under the intrinsics that the matches want if the poses are in a convention.

    With them come the pairs measured under these. The given ones where the matches want no others.
    """
    poses = claims.poses(convention)
    corrected = views
    for _ in range(_ROUNDS):
        fits = [fit for fit in fit_intrinsics(views, poses, measured) if fit.faults]
        if not fits:
            break
        wanted = {row: fit.correction for fit in fits for row in fit.images}
        corrected = [replace(view, correction=wanted.get(row)) for row, view in enumerate(views)]
        measured = measure_pairs(corrected, pairs)
    return corrected, measured


def _judged(claims: Claims, measured: Sequence[MeasuredPair]) -> Verdict | None:
    moving = [pair for pair in measured if pair.is_moving]
    few = [moving[at] for at in evenly(len(moving), _JUDGED_PAIRS)]
    stated = claims.stated
    return judge_conventions(stated.convention, stated.rotations, stated.positions, few)
