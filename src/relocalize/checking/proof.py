"""Settling a file's convention before its poses are used: proven, chosen, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relocalize import progress
from relocalize.checking.check import check_claims
from relocalize.checking.claims import Claims
from relocalize.checking.conventions import has_known_axes
from relocalize.checking.report import INTRINSICS, CheckReport
from relocalize.errors import CheckError
from relocalize.formats import AUTO, Registration
from relocalize.formats.images import STORED, UPRIGHT, FoundImages, find_images, reread
from relocalize.geometry import Convention

AS_STATED = "stated"
_NEAR = 3  # images on either side of a turned one that are looked at with it


@dataclass(frozen=True, eq=False)
class Proof:
    """A registration under the convention that holds for it."""

    registration: Registration  # under that convention
    files: FoundImages  # its images, read as the poses' tool saw them
    said_by: str  # who says so, for people and for the Place's record
    report: CheckReport | None  # of the check, or None where the user chose


def proven(registration: Registration, images: Path, convention: str = AUTO) -> Proof:
    """The registration under a convention that the images prove, or that the user names.

    Args:
        registration: as its format states it.
        images: folder with the images.
        convention: ``auto`` to let the images decide; ``stated`` for what the format documents,
            untested; or a convention's name, such as ``wxyz,cam_from_world,RDF,translation``.

    Raises:
        CheckError: the images contradict every convention, or all of them with the file's
            intrinsics, or cannot tell two apart, or cannot test the poses of a file that
            declares no convention.
        GeometryError: there is no such convention, or it reads other numbers than the file has.
        FormatError: no listed image has a usable image.
    """
    stated = registration.stated.convention
    files = find_images(registration, images)
    if convention == AS_STATED:
        return Proof(registration, files, "its format, not tested", None)
    if convention != AUTO:
        chosen = Convention.parse(convention)
        return Proof(registration.under(chosen), files, "the user, not tested", None)
    files = settled(registration, files)
    report = check_claims(Claims.of_files(registration, files), quick=True)
    verdict = report.verdict
    choose = f"choose with --convention NAME, or --convention {AS_STATED} ({stated.name})"
    if verdict is None:
        why = report.problems[0].message
        if not registration.declared:
            raise CheckError(f"{registration.source} declares no convention, and {why}; {choose}")
        progress.say(f"{registration.source}: its convention is NOT proven: {why}")
        return Proof(registration, files, "its format, not proven", report)
    best = verdict.best
    faults = "; ".join(
        f"{problem.kind}: {problem.message}"
        for problem in report.problems
        if problem.kind in INTRINSICS
    )
    outside = "".join(f"; {line}" for line in files.outside())
    if not report.intrinsics_hold:
        raise CheckError(
            f"{registration.source}: its intrinsics do not belong to these images"
            f"{faults and f': {faults}'}{outside}; with other intrinsics its poses are "
            f"{best.convention.name}; correct them, or {choose}"
        )
    if not best.explains:
        raise CheckError(
            f"{registration.source}: {report.problems[0].message}{outside}; or {choose}"
        )
    if not verdict.decided and verdict.runner_up:
        raise CheckError(
            f"{registration.source}: {best.convention.name} and "
            f"{verdict.runner_up.convention.name} explain the images equally; {choose}"
        )
    if faults:
        progress.say(f"{registration.source}: suspicious intrinsics: {faults}")
    margin = f"{report.pairs} pairs of images"
    if verdict.runner_up:
        margin += f"; the next best is {verdict.margin:.1f} times further off"
    return Proof(registration.under(best.convention), files, margin, report)


def settled(registration: Registration, files: FoundImages) -> FoundImages:
    """The images with the pixels, as stored or upright, that the poses are of.

    Where camera sizes leave that open, the turned images and their neighbours are tried both ways.
    A quarter turn of every image is a turn of the camera's axes as well, so of two ways that
    explain the images the one in the stated convention counts, else the one along axes that a
    tool uses.
    """
    if files.pixels_from is not None:
        return files
    tried = {
        pixels: reread(registration, files, pixels, "the matches between the images")
        for pixels in (STORED, UPRIGHT)
    }
    unlike = {pixels: _unlike(registration, found) for pixels, found in tried.items()}
    if unlike[STORED][:3] == unlike[UPRIGHT][:3] == (True, True, True):
        return files
    return min(tried.items(), key=lambda item: unlike[item[0]])[1]


def _unlike(registration: Registration, files: FoundImages) -> tuple[bool, bool, bool, float]:
    """What speaks against this way of reading, the gravest first."""
    claims = Claims.of_files(registration, files)
    turned = [row for row, image in enumerate(files.usable) if image.header.orientation != 1]
    near = {at for row in turned for at in range(row - _NEAR, row + _NEAR + 1)}
    claims = claims.only([row for row in range(len(claims.names)) if row in near])
    report = check_claims(claims, quick=True)
    verdict = report.verdict
    if verdict is None or not verdict.best.explains or not report.intrinsics_hold:
        return True, True, True, 0.0
    known = has_known_axes(verdict.best.convention)
    return False, not verdict.consistent, not known, verdict.best.error_px
