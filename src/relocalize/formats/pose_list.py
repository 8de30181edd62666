"""Pose lists: one image per line, ``name qw qx qy qz tx ty tz [focal_px]``.

Lists of estimates may end in two errors instead, ``rotation_error_deg position_error``, which
DSAC*'s test script appends (github.com/vislearn/dsacstar, "Output").

World-to-camera, w-first quaternion, OpenCV axes; ``#`` starts a comment. The format of the 7-Scenes
and 12-Scenes pseudo ground truth (Brachmann et al., "On the Limits of Pseudo Ground Truth in Visual
Camera Re-Localisation", ICCV 2021), whose unit is the metre.
"""

from __future__ import annotations

from pathlib import Path

from relocalize.errors import FormatError
from relocalize.formats.lenses import SizelessCamera
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.text import floats, read_lines, rows_in
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
    rows = PoseRows(path, NAME, CONVENTION, _LAYOUT)
    try:
        for where, cells in rows_in(read_lines(path)):
            with rows.row(where):
                _take(rows, cells)
            if rows.count > rows.not_finite:
                break
    except FormatError:
        return False
    return rows.count > 0 and len(rows.problems) == rows.not_finite


def read(path: Path) -> Registration:
    """Read a pose list; single bad rows are left out and named in `Registration.problems`.

    Raises:
        FormatError: the file cannot be read, holds no pose, or is mostly something else.
    """
    rows = PoseRows(path, NAME, CONVENTION, _LAYOUT).read(_take)
    scale_from = "the imported file's own unit, taken as metres"
    return rows.registration(unit=METRE, scale_from=scale_from)


def _take(rows: PoseRows, cells: list[str]) -> None:
    name, *columns = cells
    numbers = floats(columns) if len(columns) in {7, 8, 9} else []
    # Ninth and tenth: the two errors, of which the first is an angle; else nobody knows what.
    if not numbers or (len(numbers) == 9 and not 0 <= numbers[7] <= 180):
        raise ValueError(f"{len(cells)} columns, want 8 or 9: {_LAYOUT}")
    camera = None
    if len(numbers) == 8:
        if not 1 <= numbers[7] <= _LONGEST_FOCAL:
            raise ValueError(f"{name} has a focal length of {numbers[7]:g} pixels")
        camera = SizelessCamera(numbers[7])
    errors = dict(zip(_ERRORS, columns[7:], strict=True)) if len(numbers) == 9 else {}
    rows.add(name, numbers[:4], numbers[4:7], camera, columns=errors)
