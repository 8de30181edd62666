"""The whole check: convention, poses, intrinsics, images, motion."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from relocalize.checking.claims import Claims
from relocalize.checking.conventions import Verdict
from relocalize.checking.images import disagreeing, mirrored, same_numbers, twins
from relocalize.checking.intrinsics import IntrinsicsFit, fit_intrinsics
from relocalize.checking.judging import Judgement, judge
from relocalize.checking.measuring import (
    MeasuredPair,
    View,
    evenly,
    measure_pairs,
    read_views,
    with_focal_lengths,
)
from relocalize.checking.motion import implausible_motion
from relocalize.checking.outliers import PoseTests, pose_tests
from relocalize.checking.report import CheckReport, Problem
from relocalize.checking.sampling import Sample, check_pairs, sample_pairs
from relocalize.geometry import Rigid3

# Images whose features fit into a laptop's memory (0.15 MB each); of more, an even share.
_MAX_IMAGES = 6000
# Pairs that agree in two views while three views are this far off: positions are stretched.
_SCALE_PX = 12.0
# Contradictions that are no outliers are worth a word from this share of the pairs.
_CONTRADICTING = 0.02
_LONELY = 0.2
_PARTS_NAMED = 5


def check_claims(claims: Claims, *, quick: bool = False) -> CheckReport:
    """Check claimed poses against their images.

    Args:
        claims: images and poses.
        quick: convention and intrinsics only, from a sample of the images.
    """
    found = [Problem("file", (), line) for line in claims.problems]
    if claims.unused:
        names = tuple(line.split(": ", 1)[0] for line in claims.unused)
        reason = claims.unused[0].split(": ", 1)[1]
        said = f"{len(names)} are not checked (the first: {reason})"
        found.append(Problem("unused", names, said))
    if quick:
        return quick_report(claims, sample_pairs(claims), found)
    if len(claims.names) > _MAX_IMAGES:
        left = len(claims.names) - _MAX_IMAGES
        said = f"{left} of {len(claims.names)} images are not looked at"
        found.append(Problem("untested", (), said))
        claims = claims.only(evenly(len(claims.names), _MAX_IMAGES))
    views = read_views(claims)
    pairs = check_pairs(views, claims.runs)
    views = with_focal_lengths(views, pairs)
    judgement = judge(claims, views, pairs, measure_pairs(views, pairs))
    views, measured = judgement.views, judgement.measured
    if judgement.verdict is None or not judgement.verdict.best.explains:
        return _report(claims, judgement, [], found, complete=True)
    poses = claims.poses(judgement.verdict.best.convention)
    tests = pose_tests(poses, measured)
    outliers, problems = _pose_problems(claims, poses, tests, len(measured))
    problems += _image_problems(claims, views, poses, measured, tests)
    flagged = [claims.names.index(name) for name in outliers]
    wrong = _wrong_intrinsics(claims, judgement, excluded=flagged)
    found = problems + found
    return _report(claims, judgement, wrong, found, complete=True, tests=tests, outliers=outliers)


def quick_report(claims: Claims, sample: Sample, found: Sequence[Problem] = ()) -> CheckReport:
    """Convention and intrinsics by a sample of the images.

    Args:
        claims: images and poses, all of them.
        sample: of these images.
        found: what is wrong besides.
    """
    judgement = judge(sample.claims, sample.views, sample.pairs, sample.measured)
    wrong = _wrong_intrinsics(sample.claims, judgement)
    return _report(claims, judgement, wrong, found, complete=False)


def _report(
    claims: Claims,
    judgement: Judgement,
    wrong: Sequence[Problem],
    found: Sequence[Problem],
    *,
    complete: bool,
    tests: PoseTests | None = None,
    outliers: tuple[str, ...] = (),
) -> CheckReport:
    verdict, pairs = judgement.verdict, len(judgement.measured)
    said = _verdict_problems(verdict, pairs)
    # Intrinsics that nothing is explained with come before what is explained without them.
    first = [*wrong, *said] if judgement.under_claimed else [*said, *wrong]
    return CheckReport(
        source=claims.source,
        images=len(claims.names),
        pairs=pairs,
        stated=claims.stated.convention.name,
        verdict=verdict,
        outliers=outliers,
        problems=(*first, *found),
        pair_error_px=tests.pair_error_px if tests else None,
        three_view_error_px=tests.three_view_error_px if tests else None,
        complete=complete,
        under_claimed=judgement.under_claimed,
    )


# -- what is said ----------------------------------------------------------------------------


def _verdict_problems(verdict: Verdict | None, pairs: int) -> list[Problem]:
    if verdict is None:
        said = (
            f"{pairs} pairs of images match, too few of them with parallax, so the poses "
            "cannot be tested; give more of the images, or overlapping ones"
        )
        return [Problem("untestable", (), said)]
    best = verdict.best
    if not best.explains:
        kind, what = "translation", "rotations fit, positions do not"
        if best.rotation_deg > best.direction_deg / 4:
            kind, what = "rotation", "the rotations fit in no convention"
        said = (
            f"{what}: the best is {best.convention.name}, off by a median of "
            f"{best.rotation_deg:.3g} deg of rotation and {best.direction_deg:.3g} deg of "
            "direction; do the poses belong to these images?"
        )
        return [Problem(kind, (), said)]
    problems = []
    if not verdict.consistent:
        said = f"the poses are {best.convention.name}, not {verdict.stated.convention.name}"
        problems.append(Problem("convention", (), said))
    if not verdict.decided and verdict.runner_up:
        said = (
            f"{verdict.runner_up.convention.name} fits as well ({verdict.margin:.2f} times "
            "the error): the camera's motion does not tell them apart"
        )
        problems.append(Problem("undecided", (), said))
    return problems


def _pose_problems(
    claims: Claims, poses: Sequence[Rigid3], tests: PoseTests, pairs: int
) -> tuple[tuple[str, ...], list[Problem]]:
    """Images that are outliers, in order, and what is wrong with the poses."""
    names = claims.names
    problems = []
    rows = {outlier.row for outlier in tests.outliers}
    for fault in ("rotation", "translation", "distance"):
        of_fault = [outlier for outlier in tests.outliers if outlier.fault == fault]
        if of_fault:
            angle = max(outlier.rotation_deg for outlier in of_fault)
            error = max(outlier.error_px for outlier in of_fault)
            extent = {
                "rotation": f"the rotation is off, by up to {angle:.3g} deg",
                "translation": f"the position is off, matches by up to {error:.3g} px",
                "distance": "the position is off along the line of sight to its neighbours",
            }[fault]
            images = tuple(names[outlier.row] for outlier in of_fault)
            said = f"{len(images)} disagree with the images: {extent}"
            problems.append(Problem("outlier", images, said))
    motions = [implausible_motion(poses, run) for run in claims.runs]
    isolated = {row for motion in motions for row in motion.isolated if not tests.supported[row]}
    isolated -= rows
    if isolated:
        images = tuple(names[row] for row in sorted(isolated))
        problems.append(Problem("outlier", images, f"{len(images)} are far off the path"))
    said = "the camera is suddenly elsewhere: a cut, missing frames, or two registrations"
    problems += [
        Problem("jump", (names[row], names[row + 1]), said)
        for motion in motions
        for row in motion.jumps
        if row not in rows and row + 1 not in rows
    ]
    problems += _part_problems(claims, tests)
    if len(tests.contradictions) > _CONTRADICTING * pairs:
        i, j = tests.contradictions[0]
        said = (
            f"{len(tests.contradictions)} of {pairs} pairs disagree though neither image is "
            "an outlier: parts of the path are in different frames or scales, or it drifts"
        )
        problems.append(Problem("contradiction", (names[i], names[j]), said))
    lengths = tests.three_view_error_px
    if lengths is not None and lengths > _SCALE_PX and tests.pair_error_px < _SCALE_PX / 3:
        said = (
            f"directions fit, lengths do not ({lengths:.3g} px between three views): the "
            "scale is not one over the whole path"
        )
        problems.append(Problem("scale", (), said))
    return tuple(names[row] for row in sorted(rows | isolated)), problems


def _part_problems(claims: Claims, tests: PoseTests) -> list[Problem]:
    """What is said of parts that no pair of images which agrees ties to each other."""
    names = claims.names
    if len(tests.parts) < 2:
        return []
    main, *others = tests.parts
    images = tuple(names[row] for part in others for row in part)
    listed = ", ".join(f"{len(part)} with {names[part[0]]}" for part in others[:_PARTS_NAMED])
    more = f", and {len(others) - _PARTS_NAMED} more" if len(others) > _PARTS_NAMED else ""
    untied = (
        f"no pair of images that agrees ties {len(others)} parts to the other {len(main)} images "
        f"({listed}{more}): how they lie to each other is not held by the images"
    )
    if not tests.folds:
        return [Problem("parts", images, untied)]
    first, second = tests.folds[0]
    said = f"{untied}, and by {names[first]} and {names[second]} one is turned about"
    return [Problem("folded", images, said)]


def _image_problems(
    claims: Claims,
    views: Sequence[View],
    poses: Sequence[Rigid3],
    measured: Sequence[MeasuredPair],
    tests: PoseTests,
) -> list[Problem]:
    names = claims.names
    problems = []
    same = twins(views)
    if same:
        apart = disagreeing(same, poses)
        images = tuple(names[row] for pair in (apart or same) for row in pair)
        what = f"{len(same)} pairs are the same image"
        if apart:
            what += f"; {len(apart)} of them with different poses, shown first"
        problems.append(Problem("duplicate", images, what))
    for rows in same_numbers(poses, same):
        images = tuple(names[row] for row in rows)
        problems.append(Problem("same pose", images, "different images with one pose"))
    run_of = {row: run for run in claims.runs for row in run}
    suspects = {outlier.row for outlier in tests.outliers} | _lonely(len(names), measured)

    def neighbours(row: int) -> list[int]:
        run = run_of[row]
        return [other for other in range(row - 2, row + 3) if other in run and other != row]

    turned = list(mirrored(views, suspects, neighbours, claims.read))
    if turned:
        images = tuple(names[row] for row in turned)
        problems.append(Problem("mirrored", images, "left and right are exchanged"))
    untested = tuple(names[row] for row in np.flatnonzero(~tests.tested) if row not in turned)
    if untested:
        said = f"{len(untested)} match no other image, so nothing tests their pose"
        problems.append(Problem("untested", untested, said))
    return problems


def _lonely(count: int, measured: Sequence[MeasuredPair]) -> set[int]:
    """Rows that match others much less than most rows do."""
    matches = np.zeros(count)
    for pair in measured:
        matches[list(pair.pair)] += len(pair.matches)
    return set(np.flatnonzero(matches < _LONELY * np.median(matches)).tolist())


def _wrong_intrinsics(
    claims: Claims, judgement: Judgement, *, excluded: Collection[int] = ()
) -> list[Problem]:
    """What the matches would have changed of the claimed intrinsics, if the poses are right."""
    if judgement.verdict is None or not judgement.verdict.best.explains:
        return []
    poses = claims.poses(judgement.verdict.best.convention)
    fits = fit_intrinsics(judgement.views, poses, judgement.measured, excluded=excluded)
    return [problem for fit in fits for problem in _intrinsics_problems(claims, fit)]


def _intrinsics_problems(claims: Claims, fit: IntrinsicsFit) -> list[Problem]:
    images = tuple(claims.names[row] for row in fit.images)
    x, y = fit.principal_offset_px
    focal, ratio = fit.camera.focal_px, fit.correction.focal_ratio
    messages = {
        "focal length": f"claimed {focal:.5g} px, the matches want {focal * ratio:.5g}: "
        "another camera's, or another image size's?",
        "aspect": f"fy / fx is off by {fit.correction.aspect - 1:+.1%}: images resized without "
        "keeping their shape?",
        "principal point": f"the matches want it {x:+.1f}, {y:+.1f} px from the claimed one: "
        "images cropped?",
        "distortion": _distortion(fit),
    }
    return [Problem(fault, images, messages[fault]) for fault in fit.faults]


def _distortion(fit: IntrinsicsFit) -> str:
    if fit.distortion_amount is None:
        return (
            f"the claimed camera has none, the images have "
            f"{abs(fit.missing_distortion):.1%} of their size at the corner"
        )
    # Coefficients are of a focal length: with another one they are other ones.
    if abs(fit.distortion_amount) < 0.3 and "focal length" not in fit.faults:
        return "the claimed camera distorts, the images do not: are they undistorted already?"
    return f"the images have {fit.distortion_amount:.2f} times the claimed distortion"
