"""KITTI odometry trajectories: twelve numbers a line, one line per frame.

Source: readme of the KITTI odometry development kit, "Folder 'poses'": row i is the 3x4 matrix, row
by row, that takes a point of the left camera of frame i (z forward) to that of frame 0; metres.
Frames are numbered from 0, their images are ``000000.png`` and on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.trajectory_rows import first_row, floats, number_rows
from relocalize.geometry import Convention
from relocalize.place.folder import METRE

NAME = "KITTI trajectory"
CONVENTION = Convention("matrix", "world_from_cam", "RDF", "centre")
_LAYOUT = "the 12 numbers of a 3x4 matrix"


def detect(path: Path) -> bool:
    """Whether the file's first row is twelve numbers with a rotation in them."""
    rows, first = PoseRows(path, CONVENTION, _LAYOUT), first_row(path)
    if first is not None:
        _take(rows, *first, 0)
    return len(rows) == 1


def read_kitti(path: Path) -> Registration:
    """Read a KITTI trajectory; images are named by their row, from ``000000``.

    Raises:
        FormatError: the file cannot be read, holds no pose, or is mostly something else.
    """
    rows = PoseRows(path, CONVENTION, _LAYOUT)
    for frame, (where, columns) in enumerate(number_rows(path)):
        _take(rows, where, columns, frame)
    return rows.registration(
        format_name=NAME,
        unit=METRE,
        scale_from="the format's unit, metres",
        remarks=("no image names: row n, counted from 0, is the image numbered n",),
    )


def _take(rows: PoseRows, where: str, columns: list[str], frame: int) -> None:
    if len(columns) != 12:
        rows.reject(where, f"{len(columns)} columns, want {_LAYOUT}")
        return
    try:
        matrix = np.array(floats(columns)).reshape(3, 4)
    except ValueError as error:
        rows.reject(where, str(error))
        return
    rows.add(where, f"{frame:06d}", matrix[:, :3], matrix[:, 3])
