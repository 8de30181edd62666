"""Whether COLMAP's binary files are whole, checked before COLMAP's own reader believes them.

That reader trusts the counts that it finds: a damaged one makes it read past the end for hours.
Source of the layouts: COLMAP's documentation, "Output Format", "Binary File Format", and for rigs
and frames its `scene/reconstruction_io_binary.cc`.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from pathlib import Path

import pycolmap

from relocalize.errors import PlaceError

_CAMERA = struct.Struct("<Ii2Q")
_IMAGE = struct.Struct("<I7dI")
_POINT = struct.Struct("<Q3d3BdQ")
_RIG = struct.Struct("<2I")
_FRAME = struct.Struct("<2I7dI")
_SENSOR = struct.Struct("<iI")
_COUNT = struct.Struct("<Q")
_DATA_ID_BYTES = _SENSOR.size + _COUNT.size
_POSE_BYTES = 7 * 8
_LONGEST_NAME = 4096


def check_whole(folder: Path) -> None:
    """Check the binary files of a model, where it has such.

    Raises:
        PlaceError: one ends before the number of rows that it announces, or goes on after.
    """
    for name, end_of_row in _ROWS.items():
        path = folder / name
        if not path.is_file():
            continue
        try:
            # Mapped, not read: the keypoints of a long walk take a gigabyte, and are skipped here.
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
                size, end = len(m), _end_of_rows(m, end_of_row)
        except (struct.error, ValueError):
            raise PlaceError(f"{path} is damaged: it ends within its rows") from None
        if end != size:
            raise PlaceError(f"{path} is damaged: {size - end} bytes follow its last row")


def _end_of_rows(data: mmap.mmap, end_of_row: Callable[[mmap.mmap, int], int]) -> int:
    (count,) = _COUNT.unpack_from(data, 0)
    end = _COUNT.size
    for _ in range(count):
        end = end_of_row(data, end)
        if end > len(data):
            raise ValueError
    return end


def _camera_end(data: mmap.mmap, start: int) -> int:
    _, model, _, _ = _CAMERA.unpack_from(data, start)
    # Raises ValueError where there is no such model.
    blank = pycolmap.Camera.create_from_model_id(1, pycolmap.CameraModelId(model), 1.0, 1, 1)
    return start + _CAMERA.size + 8 * len(blank.params)


def _image_end(data: mmap.mmap, start: int) -> int:
    name = start + _IMAGE.size
    end_of_name = data.find(b"\0", name, name + _LONGEST_NAME)
    if end_of_name < 0:
        raise ValueError
    (points,) = _COUNT.unpack_from(data, end_of_name + 1)
    return int(end_of_name + 1 + _COUNT.size + points * 24)


def _point_end(data: mmap.mmap, start: int) -> int:
    track_length = _POINT.unpack_from(data, start)[-1]
    return int(start + _POINT.size + track_length * 8)


def _rig_end(data: mmap.mmap, start: int) -> int:
    _, sensors = _RIG.unpack_from(data, start)
    end = start + _RIG.size + (_SENSOR.size if sensors else 0)  # the reference sensor has no pose
    for _ in range(sensors - 1):
        (has_pose,) = struct.unpack_from("<B", data, end + _SENSOR.size)
        end += _SENSOR.size + 1 + (_POSE_BYTES if has_pose else 0)
    return end


def _frame_end(data: mmap.mmap, start: int) -> int:
    data_ids = _FRAME.unpack_from(data, start)[-1]
    return int(start + _FRAME.size + data_ids * _DATA_ID_BYTES)


_ROWS: dict[str, Callable[[mmap.mmap, int], int]] = {
    "cameras.bin": _camera_end,
    "images.bin": _image_end,
    "points3D.bin": _point_end,
    "rigs.bin": _rig_end,
    "frames.bin": _frame_end,
}
