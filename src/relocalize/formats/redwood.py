"""Trajectories of Redwood, Open3D, and Tanks and Temples: ``.log`` files.

For each frame a line of three whole numbers, the first of them the frame's, and a matrix [4, 4]
that takes points of the camera (OpenCV axes) to the world, row by row.
Sources: "Redwood: Robust Reconstruction of Indoor Scenes", File formats; Tanks and Temples, "Camera
poses and file formats", and issue 36 of its repository (pose 0 is image 000001.jpg); Open3D,
``CameraTrajectory`` and its ``log`` format.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.text import first_lines, floats, read_lines, rows_in
from relocalize.geometry import Convention
from relocalize.place.folder import MAP_UNIT

NAME = "Redwood log"
CONVENTION = Convention("matrix", "world_from_cam", "RDF", "centre")
_LAYOUT = "three whole numbers and a 4x4 matrix"
_ROWS = 5  # of a frame
_Row = tuple[str, list[str]]


def detect(path: Path) -> bool:
    """Whether the file begins with three whole numbers and a matrix with a rotation in it."""
    lines = list(rows_in(first_lines(path)))[:_ROWS] if path.is_file() else []
    if [len(cells) for _, cells in lines] != [3, 4, 4, 4, 4]:
        return False
    rows = PoseRows(path, NAME, CONVENTION, _LAYOUT)
    with rows.row(""):
        _take(rows, lines)
    return len(rows) == 1


def read(path: Path) -> Registration:
    """Read a trajectory; images are named by the frame's number."""
    lines = list(rows_in(read_lines(path)))
    if len(lines) % _ROWS:
        raise FormatError(
            f"{path} has {len(lines)} rows, and every frame has {_ROWS}; was it cut off?"
        )
    rows = PoseRows(path, NAME, CONVENTION, _LAYOUT)
    for first in range(0, len(lines), _ROWS):
        with rows.row(lines[first][0]):
            _take(rows, lines[first : first + _ROWS])
    remarks = [
        "no image names: frame n, counted from 0, is the image numbered n; or n + 1, where there "
        "are as many images and they count from 1, as in Tanks and Temples"
    ]
    return replace(rows.registration(unit=MAP_UNIT, remarks=remarks), in_order=True)


def _take(rows: PoseRows, frame: list[_Row]) -> None:
    (_, numbers), *matrix = frame
    number = floats(numbers)[0] if len(numbers) == 3 else -1.0
    if not (0 <= number < 1e9 and number.is_integer()) or any(len(row) != 4 for _, row in matrix):
        raise ValueError(f"want {_LAYOUT}")
    rows.add_matrix(f"{int(number):06d}", np.array([floats(row) for _, row in matrix]))
