"""Polycam's raw data: a JSON per image with its pose and camera.

Files in ``keyframes/corrected_cameras`` (after its own bundle adjustment) or ``keyframes/cameras``,
with ``t_00`` to ``t_23`` (camera-to-world, ARKit's axes: the camera's y up and z back), ``fx fy cx
cy``, ``width height``; images of the same names in ``corrected_images`` or ``images``; metres.
Source: PolyCam/polyform on GitHub, README; nerfstudio, ``polycam_utils.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.json_file import head_of, read_json_object
from relocalize.formats.lenses import pinhole_of
from relocalize.formats.matrix_files import ending_of
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.geometry import Convention
from relocalize.place.folder import METRE

NAME = "Polycam raw data"
CONVENTION = Convention("matrix", "world_from_cam", "RUB", "centre")
_MATRIX = [[f"t_{row}{column}" for column in range(4)] for row in range(3)]
_CAMERAS = {"corrected_cameras": "corrected_images", "cameras": "images"}
_ENDINGS = (".jpg", ".jpeg", ".png")


def detect(path: Path) -> bool:
    """Whether the folder has such files, in ``keyframes`` or itself."""
    return _polycam_folder(path) is not None


def read(path: Path) -> Registration:
    """Read a scan's folder, its ``keyframes``, or one of the folders of cameras."""
    folder = _polycam_folder(path)
    if folder is None:
        raise FormatError(f"{path} is no {NAME}: it has no keyframes/corrected_cameras/*.json")
    rows = PoseRows(path, NAME, CONVENTION, "t_00 to t_23")
    images = folder.parent / _CAMERAS.get(folder.name, "images")
    for file in sorted(folder.glob("*.json")):
        with rows.row(file.name):
            one = read_json_object(file)
            matrix = np.array([[one.number(key) for key in row] for row in _MATRIX])
            pinhole = [one.number(key) for key in ("fx", "fy", "cx", "cy")]
            name = file.stem + ending_of(images / file.stem, _ENDINGS)
            rows.add_matrix(
                name, matrix, pinhole_of(one.whole("width"), one.whole("height"), pinhole)
            )
    remarks = []
    if folder.name != "corrected_cameras":
        remarks.append("poses of the phone as it tracked itself: there are no corrected_cameras")
    return rows.registration(unit=METRE, scale_from="ARKit's unit, metres", remarks=remarks)


def _polycam_folder(path: Path) -> Path | None:
    if not path.is_dir():
        return None
    candidates = [root / name for root in (path / "keyframes", path) for name in _CAMERAS]
    return next((one for one in [*candidates, path] if _is_polycam(one)), None)


def _is_polycam(folder: Path) -> bool:
    file = next(iter(sorted(folder.glob("*.json"))), None) if folder.is_dir() else None
    return file is not None and '"t_00"' in head_of(file)
