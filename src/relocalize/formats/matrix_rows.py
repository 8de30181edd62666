"""Rows of camera matrices: the 16 numbers of a 4x4, or a name and 12 or 16 of them.

No document fixes these; they are what scripts write. They are read as camera-to-world along OpenCV
axes, the commonest, and only the images can prove that. Where 0 0 0 1 is each matrix's last column
and not its last row, it stands column by column. Twelve numbers without a name are KITTI's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relocalize.formats.pose_rows import PoseRows, begins_with_pose
from relocalize.formats.registration import Registration
from relocalize.formats.text import COMMAS_OR_BLANKS, floats
from relocalize.geometry import Convention
from relocalize.place.folder import MAP_UNIT

NAME = "rows of matrices"
CONVENTION = Convention("matrix", "world_from_cam", "RDF", "centre")
_LAYOUT = "the 16 numbers of a 4x4 matrix, or a name and 12 or 16 numbers"


def detect(path: Path) -> bool:
    """Whether the file's first row is such a matrix with a rotation in it."""
    if not path.is_file():
        return False
    takes = (_take, _take_columns)
    return any(begins_with_pose(path, CONVENTION, take, COMMAS_OR_BLANKS) for take in takes)


def read(path: Path) -> Registration:
    """Read rows of matrices; where they have no names, images are named by their row."""
    rows = PoseRows(path, NAME, CONVENTION, _LAYOUT).read(_take, COMMAS_OR_BLANKS)
    by_columns = PoseRows(path, NAME, CONVENTION, _LAYOUT).read(_take_columns, COMMAS_OR_BLANKS)
    turned = len(by_columns) > len(rows)  # both read a matrix whose position is the origin
    registration = (by_columns if turned else rows).registration(unit=MAP_UNIT, declared=False)
    if turned:
        registration = registration.remarked("its matrices stand column by column")
    if not all(name.isdecimal() for name in registration.poses):
        return registration
    return registration.remarked("no image names: row n, counted from 0, is the image numbered n")


def _take(rows: PoseRows, cells: list[str]) -> None:
    if len(cells) == 16:
        name, numbers = f"{rows.count:06d}", floats(cells)
    elif len(cells) in {13, 17}:
        name, numbers = cells[0], floats(cells[1:])
    else:
        raise ValueError(f"{len(cells)} columns, want {_LAYOUT}")
    rows.add_matrix(name, np.reshape(numbers, (-1, 4)))


def _take_columns(rows: PoseRows, cells: list[str]) -> None:
    if len(cells) not in {16, 17}:
        raise ValueError(f"{len(cells)} columns, want {_LAYOUT}")
    name = f"{rows.count:06d}" if len(cells) == 16 else cells[0]
    rows.add_matrix(name, np.reshape(floats(cells[-16:]), (4, 4)).T)
