"""Whether claimed poses explain their images, and under which convention."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from relocalize.checking import CheckReport, check_claims
from relocalize.checking.claims import Claims
from relocalize.checking.proof import settled
from relocalize.checking.soundness import map_problems
from relocalize.errors import CheckError
from relocalize.formats import AUTO, read_registration
from relocalize.formats.images import find_images
from relocalize.place import Place, atomic

CHECK_FILE = "check.json"


def check(
    what: Place | str | Path,
    images: str | Path | None = None,
    *,
    format: str = AUTO,
    quick: bool = False,
) -> CheckReport:
    """Test claimed poses against the images: convention, outliers, intrinsics, duplicates.

    The report on a Place is kept in its ``check.json``.

    Args:
        what: a Place or its folder, or a file or folder with poses of another tool.
        images: folder with the images of a file that was not imported yet.
        format: of the file: a key of `FORMATS`, or ``auto`` to look.
        quick: convention and intrinsics only, from a sample of the images.

    Raises:
        CheckError: it is no Place, and no folder with images is given.
        FormatError: the file is not what it should be, or no listed image has a usable image.
        PlaceError: the Place has no poses, or another process writes it.
    """
    if not isinstance(what, Place) and not (Path(what) / "place.json").is_file():
        if images is None:
            raise CheckError(
                f"{what} is no Place; to check a file before its import give its images "
                "with --images DIR"
            )
        registration = read_registration(Path(what), format)
        registration.say()
        files = settled(registration, find_images(registration, Path(images)))
        files.say(registration)
        return check_claims(Claims.of_files(registration, files), quick=quick)
    place = Place.of(what)
    report = check_claims(Claims.of_place(place), quick=quick)
    if not quick and place.has_map:
        report = replace(report, problems=(*report.problems, *map_problems(place.map)))
    with place.lock():
        atomic.write_json(place.root / CHECK_FILE, report.to_json())
    return report
