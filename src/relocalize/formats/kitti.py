"""KITTI odometry trajectories: twelve numbers a line, one line per frame.

Source: readme of the KITTI odometry development kit, "Folder 'poses'": row i is the 3x4 matrix, row
by row, that takes a point of the left camera of frame i (z forward) to that of frame 0; metres.
Frames are numbered from 0, their images are ``000000.png`` and on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relocalize.formats.pose_rows import PoseRows, begins_with_pose
from relocalize.formats.registration import Registration
from relocalize.formats.text import COMMAS_OR_BLANKS, floats
from relocalize.geometry import Convention
from relocalize.place.folder import METRE

NAME = "KITTI trajectory"
CONVENTION = Convention("matrix", "world_from_cam", "RDF", "centre")
_LAYOUT = "the 12 numbers of a 3x4 matrix"


def detect(path: Path) -> bool:
    """Whether the file's first row is twelve numbers with a rotation in them."""
    return begins_with_pose(path, CONVENTION, _take, COMMAS_OR_BLANKS)


def read(path: Path) -> Registration:
    """Read a KITTI trajectory; images are named by their row, from ``000000``."""
    return (
        PoseRows(path, NAME, CONVENTION, _LAYOUT)
        .read(_take, COMMAS_OR_BLANKS)
        .registration(
            unit=METRE,
            scale_from="the format's unit, metres",
            remarks=("no image names: row n, counted from 0, is the image numbered n",),
        )
    )


def _take(rows: PoseRows, cells: list[str]) -> None:
    if len(cells) != 12:
        raise ValueError(f"{len(cells)} columns, want {_LAYOUT}")
    rows.add_matrix(f"{rows.count:06d}", np.reshape(floats(cells), (3, 4)))
