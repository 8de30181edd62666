"""What scanning apps of phones write of their cameras: Polycam's and Record3D's.

Both have ARKit's poses, camera-to-world with the camera's y up and z back, in metres.

Polycam, "raw data": a JSON per image in ``keyframes/corrected_cameras`` (after its own bundle
adjustment) or ``keyframes/cameras``, with ``t_00`` to ``t_23``, ``fx fy cx cy``, ``width height``;
images of the same names in ``corrected_images`` or ``images`` (github.com/PolyCam/polyform).

Record3D: ``metadata`` of an unpacked ``.r3d``: ``poses`` of ``qx qy qz qw x y z``, the matrix ``K``
column by column or ``perFrameIntrinsicCoeffs`` of ``fx fy cx cy``, ``w`` and ``h``; images
``rgbd/0.jpg`` and on (github.com/marek-simonik/record3d; nerfstudio, ``record3d_utils.py``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.json_file import JsonObject, read_json_object
from relocalize.formats.lenses import LARGEST_SIDE, brown_camera
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.geometry import Camera, Convention
from relocalize.place.folder import METRE

POLYCAM, RECORD3D = "Polycam raw data", "Record3D metadata"
POLYCAM_CONVENTION = Convention("matrix", "world_from_cam", "RUB", "centre")
RECORD3D_CONVENTION = Convention("xyzw", "world_from_cam", "RUB", "centre")
_MATRIX = [[f"t_{row}{column}" for column in range(4)] for row in range(3)]
_CAMERAS = {"corrected_cameras": "corrected_images", "cameras": "images"}
_ENDINGS = (".jpg", ".jpeg", ".png")
_METADATA = ("metadata", "metadata.json")
_HEAD = 100_000


def detect_polycam(path: Path) -> bool:
    """Whether the folder has such files, in ``keyframes`` or itself."""
    return _polycam_folder(path) is not None


def read_polycam(path: Path) -> Registration:
    """Read a scan's folder, its ``keyframes``, or one of the folders of cameras.

    Raises:
        FormatError: there are no such files, or they are mostly something else.
    """
    folder = _polycam_folder(path)
    if folder is None:
        raise FormatError(f"{path} is no {POLYCAM}: it has no keyframes/corrected_cameras/*.json")
    rows = PoseRows(path, POLYCAM, POLYCAM_CONVENTION, "t_00 to t_23")
    images = folder.parent / _CAMERAS.get(folder.name, "images")
    for file in sorted(folder.glob("*.json")):
        with rows.row(file.name):
            one = read_json_object(file)
            matrix = np.array([[one.number(key) for key in row] for row in _MATRIX])
            pinhole = [one.number(key) for key in ("fx", "fy", "cx", "cy")]
            name = file.stem + _image_ending(images, file.stem)
            rows.add_matrix(name, matrix, _camera(one, "width", "height", pinhole))
    remarks = []
    if folder.name != "corrected_cameras":
        remarks.append("poses of the phone as it tracked itself: there are no corrected_cameras")
    return rows.registration(unit=METRE, scale_from="ARKit's unit, metres", remarks=remarks)


def detect_record3d(path: Path) -> bool:
    """Whether it is, or the folder has, a ``metadata`` with poses."""
    return _metadata(path) is not None


def read_record3d(path: Path) -> Registration:
    """Read the metadata of an unpacked recording.

    Raises:
        FormatError: there is none, or it holds no poses.
    """
    file = _metadata(path) or path
    meta = read_json_object(file)
    rows = PoseRows(file, RECORD3D, RECORD3D_CONVENTION, "qx qy qz qw x y z")
    frames = meta.array("perFrameIntrinsicCoeffs") if "perFrameIntrinsicCoeffs" in meta else []
    whole = None
    if not frames:
        K = meta.numbers("K", 9)
        whole = _camera(meta, "w", "h", [K[0], K[4], K[6], K[7]])
    for number, value in enumerate(meta.array("poses")):
        with rows.row(f"pose {number}"):
            pose = _numbers(value, 7)
            camera = whole
            if number < len(frames):
                camera = _camera(meta, "w", "h", _numbers(frames[number], 4))
            rows.add(f"rgbd/{number}.jpg", pose[:4], pose[4:], camera)
    return rows.registration(unit=METRE, scale_from="ARKit's unit, metres")


def _camera(node: JsonObject, across: str, down: str, pinhole: list[float]) -> Camera:
    width, height = node.whole(across), node.whole(down)
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        raise FormatError(f"images of {width} x {height} pixels")
    fx, fy, cx, cy = pinhole
    return brown_camera(width, height, (fx, fy, cx, cy))


def _numbers(value: object, count: int) -> list[float]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{str(value)[:60]!r} is no list of {count} numbers")
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in value):
        raise ValueError(f"{str(value)[:60]!r} has something that is no number")
    return [float(one) for one in value]


def _image_ending(images: Path, name: str) -> str:
    there = (end for end in _ENDINGS if (images / f"{name}{end}").is_file())
    return next(there, _ENDINGS[0])


def _polycam_folder(path: Path) -> Path | None:
    try:
        if not path.is_dir():
            return None
        candidates = [root / name for root in (path / "keyframes", path) for name in _CAMERAS] + [
            path
        ]
        return next((one for one in candidates if _is_polycam(one)), None)
    except OSError:
        return None


def _is_polycam(folder: Path) -> bool:
    file = next(iter(sorted(folder.glob("*.json"))), None) if folder.is_dir() else None
    return file is not None and b'"t_00"' in _head(file)


def _metadata(path: Path) -> Path | None:
    candidates = [path / name for name in _METADATA] if path.is_dir() else [path]
    if not path.is_dir() and path.name not in _METADATA:
        return None
    for one in candidates:
        head = _head(one)
        if b'"poses"' in head or (b'"K"' in head and b'"fps"' in head):
            return one
    return None


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_HEAD)
    except OSError:
        return b""
