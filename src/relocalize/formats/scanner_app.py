"""3D Scanner App's "All Data": a JSON per frame with ARKit's pose and intrinsics.

``frame_00000.json`` with ``cameraPoseARFrame`` (16 numbers, camera-to-world by rows, the camera's
y up and z back, metres) and ``intrinsics`` (9 numbers by rows); ``frame_00000.jpg`` beside some of
them. No document of its maker says so; what reads it agrees, such as Pointcept/SegmentAnything3D's
``preprocess_3d_scan.py`` on GitHub.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.json_file import head_of, read_json_object
from relocalize.formats.matrix_files import pinhole_camera
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.geometry import Convention
from relocalize.place.folder import METRE

NAME = "3D Scanner App scan"
CONVENTION = Convention("matrix", "world_from_cam", "RUB", "centre")
_FILES = "frame_*.json"
_POSE = "cameraPoseARFrame"
_ENDING = ".jpg"


def detect(path: Path) -> bool:
    """Whether the folder has such files."""
    file = next(iter(sorted(path.glob(_FILES))), None) if path.is_dir() else None
    return file is not None and f'"{_POSE}"' in head_of(file)


def read(path: Path) -> Registration:
    """Read a scan's folder."""
    files = sorted(path.glob(_FILES)) if path.is_dir() else []
    if not files:
        raise FormatError(f"{path} is no {NAME}: it has no {_FILES}")
    # Poses are told of more frames than images are kept of.
    shown = [file for file in files if file.with_suffix(_ENDING).is_file()]
    rows = PoseRows(path, NAME, CONVENTION, f"{_POSE} and intrinsics")
    for file in shown or files:
        with rows.row(file.name):
            one = read_json_object(file)
            matrix = np.array(one.numbers(_POSE, 16)).reshape(4, 4)
            lens = np.array(one.numbers("intrinsics", 9)).reshape(3, 3)
            rows.add_matrix(f"{file.stem}{_ENDING}", matrix, pinhole_camera(lens))
    return rows.registration(unit=METRE, scale_from="ARKit's unit, metres")
