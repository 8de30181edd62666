"""Pose lists: one image per line, ``name qw qx qy qz tx ty tz [focal_px]``.

Lists of estimates may end in two errors instead, ``rotation_error_deg position_error``, which
DSAC*'s test script appends (github.com/vislearn/dsacstar, "Output").

World-to-camera, w-first quaternion, OpenCV axes; ``#`` starts a comment. The format of the 7-Scenes
and 12-Scenes pseudo ground truth (Brachmann et al., "On the Limits of Pseudo Ground Truth in Visual
Camera Re-Localisation", ICCV 2021), whose unit is the metre.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from relocalize.errors import FormatError
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration, SizelessCamera
from relocalize.formats.text import read_lines
from relocalize.geometry import Convention
from relocalize.place.folder import METRE

NAME = "pose list"
CONVENTION = Convention("wxyz", "cam_from_world", "RDF", "translation")
_LAYOUT = "name qw qx qy qz tx ty tz [focal_px]"
_ERRORS = ("rotation_error_deg", "position_error")
_LONGEST_FOCAL = 1e9


def detect(path: Path) -> bool:
    """Whether the file's first row that is no comment, and no NaN, is a row of a pose list.

    One of NaN alone is a pose list too: its reader can say what is wrong.
    """
    if not path.is_file():
        return False
    rows = PoseRows(path, CONVENTION, _LAYOUT)
    try:
        for number, line in _rows(path):
            _take(rows, number, line)
            if len(rows.problems) > rows.not_finite or len(rows):
                break
    except FormatError:
        return False
    return len(rows) + rows.not_finite > 0 and len(rows.problems) == rows.not_finite


def read_pose_list(path: Path) -> Registration:
    """Read a pose list; single bad rows are left out and named in `Registration.problems`.

    Raises:
        FormatError: the file cannot be read, holds no pose, or is mostly something else.
    """
    rows = PoseRows(path, CONVENTION, _LAYOUT)
    columns: dict[str, dict[str, str]] = {}
    for number, line in _rows(path):
        if _take(rows, number, line) and len(line.split()) == 8 + len(_ERRORS):
            name, *numbers = line.split()
            columns[name] = dict(zip(_ERRORS, numbers[7:], strict=True))
    return rows.registration(
        format_name=NAME,
        unit=METRE,
        scale_from="the imported file's own unit, taken as metres",
        columns=columns,
    )


def _rows(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and text of the rows that are neither empty nor comments."""
    for number, line in enumerate(read_lines(path), start=1):
        row = line.strip()
        if row and not row.startswith("#"):
            yield number, row


def _take(rows: PoseRows, number: int, row: str) -> bool:
    """Take one row; whether it is a pose."""
    name, *columns = row.split()
    where = f"line {number}"
    if len(columns) not in {7, 8, 7 + len(_ERRORS)}:
        rows.reject(where, f"{len(columns) + 1} columns, want 8 or 9: {_LAYOUT}")
        return False
    try:
        numbers = [float(column) for column in columns]
    except ValueError:
        rows.reject(where, f"a column is no number in {_shortened(row)!r}")
        return False
    if len(numbers) == 9 and not 0 <= numbers[7] <= 180:  # a focal length and what else?
        rows.reject(where, f"10 columns, want 8 or 9: {_LAYOUT}")
        return False
    camera = None
    if len(numbers) == 8:
        if not 1 <= numbers[7] <= _LONGEST_FOCAL:
            rows.reject(where, f"{name} has a focal length of {numbers[7]:g} pixels")
            return False
        camera = SizelessCamera(numbers[7])
    return rows.add(where, name, numbers[:4], numbers[4:7], camera)


def _shortened(row: str) -> str:
    return row if len(row) <= 60 else row[:57] + "..."
