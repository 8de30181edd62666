"""The doctor's two patients: a Place, and another tool's file before its import."""

from __future__ import annotations

from pathlib import Path

from relocalize.checking.check import CheckSettings, check_claims
from relocalize.checking.claims import Claims
from relocalize.checking.report import CheckReport
from relocalize.formats import Registration
from relocalize.place import Place, atomic

CHECK_FILE = "check.json"


def check_place(place: Place, *, settings: CheckSettings = CheckSettings()) -> CheckReport:
    """Check the poses of a Place; the report is kept in its ``check.json``.

    Raises:
        PlaceError: it has no poses, or another process writes it.
    """
    report = check_claims(Claims.of_place(place), str(place.root), settings=settings)
    with place.lock():
        atomic.write_json(place.root / CHECK_FILE, report.to_json())
    return report


def check_registration(
    registration: Registration, images: Path, *, settings: CheckSettings = CheckSettings()
) -> CheckReport:
    """Check the poses of a file against the images in a folder.

    Raises:
        FormatError: no listed image has a usable image there.
    """
    claims = Claims.of_registration(registration, images)
    return check_claims(
        claims, registration.source, problems=registration.problems, settings=settings
    )
