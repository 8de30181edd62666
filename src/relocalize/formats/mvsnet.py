"""MVSNet's cameras, as data sets of multi-view stereo such as BlendedMVS come with.

``cams/00000000_cam.txt`` per image: the word ``extrinsic``, a world-to-camera matrix [4, 4] with
OpenCV axes, the word ``intrinsic``, a matrix [3, 3] in pixels, and depths. The image has the same
number.
Source: YoYo000/MVSNet on GitHub, README, "File Formats"; YoYo000/BlendedMVS.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.json_file import head_of
from relocalize.formats.matrix_files import pinhole_camera
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.text import floats, read_lines, rows_in
from relocalize.geometry import Convention
from relocalize.place.folder import MAP_UNIT

NAME = "MVSNet cameras"
CONVENTION = Convention("matrix", "cam_from_world", "RDF", "translation")
_FOLDER, _ENDING = "cams", "_cam.txt"
_LAYOUT = "extrinsic, a 4x4 matrix, intrinsic, a 3x3 matrix"


def detect(path: Path) -> bool:
    """Whether the folder, or its ``cams``, has such files."""
    files = _files(path)
    return bool(files) and head_of(files[0]).lstrip().startswith("extrinsic")


def read(path: Path) -> Registration:
    """Read a scene's folder, or its folder of cameras."""
    files = _files(path)
    if not files:
        raise FormatError(f"{path} is no {NAME}: it has no {_FOLDER}/*{_ENDING}")
    rows = PoseRows(path, NAME, CONVENTION, _LAYOUT)
    for file in files:
        with rows.row(file.name):
            cells = [word for _, row in rows_in(read_lines(file)) for word in row]
            if cells[:1] != ["extrinsic"] or cells[17:18] != ["intrinsic"] or len(cells) < 27:
                raise ValueError(f"want {_LAYOUT}")
            lens = np.reshape(floats(cells[18:27]), (3, 3))
            matrix = np.reshape(floats(cells[1:17]), (4, 4))
            rows.add_matrix(file.name.removesuffix(_ENDING), matrix, pinhole_camera(lens))
    return rows.registration(unit=MAP_UNIT)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    folder = path / _FOLDER if (path / _FOLDER).is_dir() else path
    return sorted(folder.glob(f"*{_ENDING}"))
