"""ScanNet, as its ``reader.py`` unpacks a ``.sens``.

``color/0.jpg``, ``pose/0.txt`` (camera-to-world, OpenCV axes, metres),
``intrinsic/intrinsic_color.txt``. Source: github.com/ScanNet/ScanNet, "SensReader".
"""

from __future__ import annotations

from pathlib import Path

from relocalize.errors import FormatError
from relocalize.formats.matrix_files import (
    CONVENTION,
    LAYOUT,
    files_in,
    numbers_in,
    pinhole_camera,
    read_matrix,
)
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.place.folder import METRE

NAME = "ScanNet scene"


def detect(path: Path) -> bool:
    """Whether the folder has ``color``, ``pose`` and ``intrinsic``."""
    folders = [path / "color", path / "pose", path / "intrinsic"]
    return path.is_dir() and all(folder.is_dir() for folder in folders)


def read(path: Path) -> Registration:
    """Read a ScanNet scene as its own reader unpacks it; lost frames (-inf) are left out."""
    file = path / "intrinsic" / "intrinsic_color.txt"
    matrix = numbers_in(file)
    if matrix.shape not in {(3, 3), (4, 4)}:
        raise FormatError(f"{file} has numbers of shape {matrix.shape}, want a 4x4 matrix")
    try:
        camera = pinhole_camera(matrix)
    except ValueError as error:
        raise FormatError(f"{file}: {error}") from None
    rows = PoseRows(path, NAME, CONVENTION, LAYOUT)
    for pose in files_in(path / "pose", {".txt"}):
        with rows.row(pose.name):
            found = read_matrix(pose)
            rows.add(f"color/{pose.stem}.jpg", found[:3, :3], found[:3, 3], camera)
    return rows.registration(unit=METRE, scale_from="the data set's unit, metres")
