"""Whether COLMAP's binary files are whole, checked before COLMAP's own reader believes them.

That reader trusts the counts that it finds: a damaged one makes it read past the end for hours.
Source of the layouts: COLMAP's documentation, "Output Format", "Binary File Format".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from relocalize.errors import FormatError

_IMAGE = struct.Struct("<I7dI")
_POINT = struct.Struct("<Q3d3BdQ")
_COUNT = struct.Struct("<Q")
_LONGEST_NAME = 4096


def check_whole(folder: Path) -> None:
    """Check the binary files of a model, where it has such.

    Raises:
        FormatError: one ends before the number of rows that it announces, or goes on after.
    """
    for name, end_of_row in _ROWS.items():
        path = folder / name
        if not path.is_file():
            continue
        data = path.read_bytes()
        try:
            (count,) = _COUNT.unpack_from(data, 0)
            end = _COUNT.size
            for _ in range(count):
                end = end_of_row(data, end)
                if end > len(data):
                    raise ValueError
        except (struct.error, ValueError):
            raise FormatError(f"{path} is damaged: it ends within its rows") from None
        if end != len(data):
            raise FormatError(f"{path} is damaged: {len(data) - end} bytes follow its last row")


def _image_end(data: bytes, start: int) -> int:
    name = start + _IMAGE.size
    end_of_name = data.index(b"\0", name, name + _LONGEST_NAME)
    (points,) = _COUNT.unpack_from(data, end_of_name + 1)
    return int(end_of_name + 1 + _COUNT.size + points * 24)


def _point_end(data: bytes, start: int) -> int:
    track_length = _POINT.unpack_from(data, start)[-1]
    return int(start + _POINT.size + track_length * 8)


_ROWS: dict[str, Callable[[bytes, int], int]] = {
    "images.bin": _image_end,
    "points3D.bin": _point_end,
}
