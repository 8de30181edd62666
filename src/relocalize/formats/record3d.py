"""Record3D: the ``metadata`` of an unpacked ``.r3d``.

``poses`` of ``qx qy qz qw x y z`` (camera-to-world, ARKit's axes: the camera's y up and z back),
the matrix ``K`` column by column or ``perFrameIntrinsicCoeffs`` of ``fx fy cx cy``, ``w`` and
``h``; images are ``rgbd/0.jpg`` and on; metres.
Source: marek-simonik/record3d on GitHub; nerfstudio, ``record3d_utils.py``.
"""

from __future__ import annotations

from pathlib import Path

from relocalize.formats.json_file import head_of, read_json_object
from relocalize.formats.lenses import pinhole_of
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.geometry import Convention
from relocalize.place.folder import METRE

NAME = "Record3D metadata"
CONVENTION = Convention("xyzw", "world_from_cam", "RUB", "centre")
_METADATA = ("metadata", "metadata.json")


def detect(path: Path) -> bool:
    """Whether it is, or the folder has, a ``metadata`` with poses."""
    return _metadata(path) is not None


def read(path: Path) -> Registration:
    """Read the metadata of an unpacked recording."""
    file = _metadata(path) or path
    meta = read_json_object(file)
    rows = PoseRows(file, NAME, CONVENTION, "qx qy qz qw x y z")
    frames = meta.array("perFrameIntrinsicCoeffs") if "perFrameIntrinsicCoeffs" in meta else []
    width, height, whole = meta.whole("w"), meta.whole("h"), None
    if not frames:
        K = meta.numbers("K", 9)
        whole = pinhole_of(width, height, [K[0], K[4], K[6], K[7]])
    for number, value in enumerate(meta.array("poses")):
        with rows.row(f"pose {number}"):
            pose = _numbers(value, 7)
            camera = whole
            if number < len(frames):
                camera = pinhole_of(width, height, _numbers(frames[number], 4))
            rows.add(f"rgbd/{number}.jpg", pose[:4], pose[4:], camera)
    return rows.registration(unit=METRE, scale_from="ARKit's unit, metres")


def _numbers(value: object, count: int) -> list[float]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{str(value)[:60]!r} is no list of {count} numbers")
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in value):
        raise ValueError(f"{str(value)[:60]!r} has something that is no number")
    return [float(one) for one in value]


def _metadata(path: Path) -> Path | None:
    candidates = [path / name for name in _METADATA] if path.is_dir() else [path]
    if not path.is_dir() and path.name not in _METADATA:
        return None
    for one in candidates:
        head = head_of(one)
        if '"poses"' in head or ('"K"' in head and '"fps"' in head):
            return one
    return None
