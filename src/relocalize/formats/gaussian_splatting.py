"""``cameras.json``, which gaussian splatting writes beside its result.

A list of ``img_name``, ``width``, ``height``, ``fx``, ``fy``, ``position`` (the camera's centre)
and ``rotation`` (camera-to-world, row by row); OpenCV axes, undistorted images, the principal point
in the middle. The pixels are those of the images as they were trained, which may be smaller.
Source: graphdeco-inria/gaussian-splatting, ``utils/camera_utils.py`` (``camera_to_JSON``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relocalize import progress
from relocalize.errors import FormatError
from relocalize.formats.json_file import JsonObject, json_file_in, read_json
from relocalize.formats.lenses import check_sides
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.geometry import Camera, Convention
from relocalize.place.folder import MAP_UNIT

NAME = "gaussian splatting cameras.json"
CONVENTION = Convention("matrix", "world_from_cam", "RDF", "centre")
_FILE = "cameras.json"
_LAYOUT = "img_name, rotation [3, 3] and position [3]"


def detect(path: Path) -> bool:
    """Whether ``path`` is such a file, or a folder with one."""
    head = json_file_in(path, _FILE)
    return head.lstrip().startswith("[") and '"img_name"' in head and '"rotation"' in head


def read(path: Path) -> Registration:
    """Read the cameras."""
    file = path / _FILE if path.is_dir() else path
    cameras = read_json(file)
    if not isinstance(cameras, list):
        raise FormatError(f"{file} is no {NAME}: want a list of cameras")
    rows = PoseRows(file, NAME, CONVENTION, _LAYOUT)
    for number, value in enumerate(progress.track(cameras, "cameras")):
        with rows.row(f"camera {number}"):
            one = JsonObject.of(value)
            name = one.text("img_name").replace("\\", "/")
            rotation = np.array(one.matrix("rotation", [(3, 3)]))
            rows.add(name, rotation, one.numbers("position", 3), _camera(one))
    return rows.registration(unit=MAP_UNIT)


def _camera(one: JsonObject) -> Camera:
    width, height = one.whole("width"), one.whole("height")
    check_sides(width, height)
    params = (one.number("fx"), one.number("fy"), width / 2, height / 2)
    return Camera("PINHOLE", width, height, params)
