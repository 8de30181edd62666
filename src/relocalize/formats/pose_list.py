"""Pose lists: one image per line, ``name qw qx qy qz tx ty tz [focal_px]``.

World-to-camera, w-first quaternion, OpenCV axes; ``#`` starts a comment. The format of the 7-Scenes
and 12-Scenes pseudo ground truth (Brachmann et al., "On the Limits of Pseudo Ground Truth in Visual
Camera Re-Localisation", ICCV 2021), whose unit is the metre.

ACE0's ``poses_final.txt`` adds a confidence to the focal length, which all its images share
(nianticlabs/acezero on GitHub, "Basic Usage": below 1000 it is unreliable; only about metric).
Lists of estimates may end in two errors instead, ``rotation_error_deg position_error`` and, from
ACE, a count of inliers (vislearn/dsacstar, "Output"; nianticlabs/ace, "Evaluation").
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from statistics import median

from relocalize.errors import FormatError
from relocalize.formats.lenses import LONGEST_FOCAL, SizelessCamera
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.text import first_lines, floats, read_lines, rows_in
from relocalize.geometry import Convention
from relocalize.place.folder import MAP_UNIT, METRE

NAME = "pose list"
CONVENTION = Convention("wxyz", "cam_from_world", "RDF", "translation")
_LAYOUT = "name qw qx qy qz tx ty tz [focal_px]"
_ERRORS = ("rotation_error_deg", "position_error", "inliers")
_CONFIDENCE, _RELIABLE = "confidence", 1000


def detect(path: Path) -> bool:
    """Whether the file's first row that is no comment, and no NaN, is a row of a pose list.

    One of NaN alone is a pose list too: its reader can say what is wrong.
    """
    if not path.is_file():
        return False
    rows = PoseRows(path, NAME, CONVENTION, _LAYOUT)
    try:
        listed = list(rows_in(_lines(path)))
        with_confidence = _with_confidence([cells for _, cells in listed])
        for where, cells in listed:
            with rows.row(where):
                _take(rows, cells, with_confidence=with_confidence)
            if rows.count > rows.not_finite:
                break
    except FormatError:
        return False
    return rows.count > 0 and len(rows.problems) == rows.not_finite


def _lines(path: Path) -> list[str]:
    """All lines, since those of failed estimates may come first; else the first that there are."""
    try:
        return read_lines(path)
    except FormatError:
        return first_lines(path)


def read(path: Path) -> Registration:
    """Read a pose list; single bad rows are left out and named in `Registration.problems`."""
    with_confidence = _with_confidence([cells for _, cells in rows_in(read_lines(path))])
    rows = PoseRows(path, NAME, CONVENTION, _LAYOUT).read(
        lambda rows, cells: _take(rows, cells, with_confidence=with_confidence)
    )
    if not with_confidence:
        scale_from = "the imported file's own unit, taken as metres"
        return rows.registration(unit=METRE, scale_from=scale_from)
    registration = rows.registration(unit=MAP_UNIT)
    unsure = [
        name
        for name, columns in registration.columns.items()
        if not float(columns[_CONFIDENCE]) >= _RELIABLE
    ]
    if not unsure:
        return registration
    return registration.remarked(
        f"{len(unsure)} of {len(registration.poses)} poses have a confidence below {_RELIABLE}, "
        f"which ACE0 calls unreliable, such as {unsure[0]}"
    )


def _with_confidence(rows: list[list[str]]) -> bool:
    """Whether rows of ten columns end in ACE0's focal length and confidence, not in two errors.

    ACE0's images share one focal length, and no two errors of rotation are the same; of one row,
    what is beyond half a turn is no error.
    """
    ninth = []
    for cells in rows:
        with suppress(ValueError):
            ninth += floats(cells[8:9]) if len(cells) == 10 else []
    if 2 * len(ninth) <= len(rows):
        return False  # a stray row among others says nothing
    return (len(ninth) > 1 and len(set(ninth)) == 1) or median(ninth) > 180


def _take(rows: PoseRows, cells: list[str], *, with_confidence: bool) -> None:
    name, *columns = cells
    numbers = floats(columns) if len(columns) in {7, 8, 9, 10} else []
    # Ninth to eleventh: two errors, of which the first is an angle; else nobody knows what.
    errors = len(numbers) > 8 and not (len(numbers) == 9 and with_confidence)
    if not numbers or (errors and not 0 <= numbers[7] <= 180):
        raise ValueError(f"{len(cells)} columns, want 8 or 9: {_LAYOUT}")
    camera, others = None, {}
    if len(numbers) >= 8 and not errors:
        if not 1 <= numbers[7] <= LONGEST_FOCAL:
            raise ValueError(f"{name} has a focal length of {numbers[7]:g} pixels")
        camera = SizelessCamera(numbers[7])
        others = dict(zip([_CONFIDENCE], columns[8:], strict=False))
    elif errors:
        others = dict(zip(_ERRORS, columns[7:], strict=False))
    rows.add(name, numbers[:4], numbers[4:7], camera, columns=others)
