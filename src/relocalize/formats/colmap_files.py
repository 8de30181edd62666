"""The rows of a COLMAP model's files, text and binary, as they stand there.

COLMAP's own reader takes a quaternion of four zeros for no rotation at all, and says of a damaged
text file neither line nor file; hence this one. Models with rigs and frames keep every image's
own pose in the images file, so that old and new models are read alike.
Source: COLMAP's documentation, "Output Format", and ``scene/reconstruction_io_{text,binary}.cc``.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import FormatError, GeometryError, PlaceError
from relocalize.formats.text import is_name
from relocalize.geometry import Camera
from relocalize.geometry.cameras import model_of_number
from relocalize.geometry.transforms import FloatArray
from relocalize.place.colmap_binary import check_whole

_LONGEST_LINE = 50_000_000  # an image of a million keypoints
_FARTHEST_PIXEL = 1e15  # 32 bits hold it; NaN is beyond, too
_CAMERA = struct.Struct("<Ii2Q")
_IMAGE = struct.Struct("<I7dI")
_COUNT = struct.Struct("<Q")
_POINT_2D = np.dtype([("xy", "<f8", 2), ("id", "<i8")])
_POINT_3D = struct.Struct("<Q3d3BdQ")


@dataclass(frozen=True, eq=False)
class ImageRow:
    """One image.

    Attributes:
        where: in which line or row, for messages.
        reason: why it is no image, or None.
        name: of the image.
        camera: number of its camera.
        quat_wxyz: [4], as it stands in the file.
        translation: [3], of ``cam_from_world``.
        keypoints: [K, 2] pixels.
        point_ids: [K] the point that each observes, or -1.
    """

    where: str
    reason: str | None = None
    name: str = ""
    camera: int = 0
    quat_wxyz: tuple[float, ...] = ()
    translation: tuple[float, ...] = ()
    keypoints: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    point_ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True, eq=False)
class PointRows:
    """The points: ids [P], positions [P, 3], RGB colors [P, 3], errors [P] in pixels."""

    ids: NDArray[np.int64]
    positions: FloatArray
    colors: NDArray[np.uint8]
    errors: FloatArray


def ending(folder: Path) -> str | None:
    """``.bin`` or ``.txt`` of the model in a folder (COLMAP prefers binary), or None."""
    for end in (".bin", ".txt"):
        if (folder / f"cameras{end}").is_file() and (folder / f"images{end}").is_file():
            return end
    return None


def read_cameras(folder: Path) -> dict[int, Camera | str]:
    """The cameras by number; a text where one is none, which says why.

    Raises:
        FormatError: the file is damaged as a whole.
    """
    path = folder / f"cameras{ending(folder)}"
    rows = _text_cameras(path) if path.suffix == ".txt" else _binary_cameras(path)
    cameras: dict[int, Camera | str] = {}
    for number, model, width, height, params, where in rows:
        cameras.setdefault(number, _camera(number, model, width, height, params, where))
    return cameras


def _camera(
    number: int, model: str, width: int, height: int, params: tuple[float, ...], where: str
) -> Camera | str:
    try:
        return Camera(model, width, height, params)
    except (GeometryError, OverflowError, TypeError) as error:
        return f"camera {number} ({where}): {error}"


def read_images(folder: Path) -> Iterator[ImageRow]:
    """The images, in the file's order.

    Raises:
        FormatError: the file is damaged as a whole.
    """
    path = folder / f"images{ending(folder)}"
    return _text_images(path) if path.suffix == ".txt" else _binary_images(path)


def read_points(folder: Path) -> PointRows:
    """The points; none where the model has no file of them.

    Raises:
        FormatError: the file is damaged; names the line.
    """
    path = folder / f"points3D{ending(folder)}"
    rows: list[tuple[float, ...]] = []
    if path.is_file():
        rows = list(_text_points(path) if path.suffix == ".txt" else _binary_points(path))
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    order = np.argsort(table[:, 0], kind="stable")
    table = table[order]
    if not np.all(np.isfinite(table[:, :7])):
        raise FormatError(f"{path} has a point with a number that is not finite")
    if len(np.unique(table[:, 0])) != len(table):
        raise FormatError(f"{path} has a point's number twice")
    return PointRows(
        ids=table[:, 0].astype(np.int64),
        positions=table[:, 1:4],
        colors=np.clip(table[:, 4:7], 0, 255).astype(np.uint8),
        errors=np.nan_to_num(table[:, 7]),
    )


def check_binary(folder: Path) -> None:
    """Refuse binary files whose counts and lengths do not agree.

    Raises:
        FormatError: a file is cut off, or goes on after its last row.
    """
    try:
        check_whole(folder)
    except PlaceError as error:
        raise FormatError(str(error)) from error
    except OSError as error:
        raise FormatError(f"{folder} cannot be read: {error.strerror}") from error


# -- text ------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and stripped text; the whole file is never in memory."""
    try:
        with path.open("rb") as file:
            for number in range(1, 2**62):
                line = file.readline(_LONGEST_LINE)
                if not line:
                    return
                if len(line) == _LONGEST_LINE or b"\0" in line:
                    raise FormatError(f"{path}, line {number} is no line of text")
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is no text file: {error.reason}") from None
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from error


def _is_row(line: str) -> bool:
    return bool(line) and not line.startswith("#")


def _text_cameras(
    path: Path,
) -> Iterator[tuple[int, str, int, int, tuple[float, ...], str]]:
    for number, line in _lines(path):
        if not _is_row(line):
            continue
        where, cells = f"{path.name}, line {number}", line.split()
        try:
            camera, model, width, height, *params = cells
            values = tuple(float(cell) for cell in params)
            yield int(camera), model, int(width), int(height), values, where
        except ValueError:
            raise FormatError(
                f"{path}, line {number} is no camera; want CAMERA_ID MODEL WIDTH HEIGHT PARAMS"
            ) from None


def _text_images(path: Path) -> Iterator[ImageRow]:
    lines = _lines(path)
    for number, line in lines:
        if not _is_row(line):
            continue
        where = f"line {number}"
        _, points = next(lines, (0, ""))
        cells = line.split(maxsplit=9)
        if len(cells) != 10:
            yield ImageRow(where, f"{len(cells)} columns, want 10")
            continue
        try:
            pose = tuple(float(cell) for cell in cells[1:8])
            camera = int(cells[8])
        except ValueError:
            yield ImageRow(where, "a column is no number")
            continue
        if not is_name(cells[9]):
            yield ImageRow(where, f"{cells[9][:60]!a} is no name")
            continue
        try:
            keypoints, ids = _text_keypoints(points)
        except (ValueError, OverflowError):
            keypoints_line = f"line {number + 1}"
            yield ImageRow(keypoints_line, f"{cells[9]}'s keypoints are not X Y POINT3D_ID")
            continue
        yield ImageRow(where, None, cells[9], camera, pose[:4], pose[4:], keypoints, ids)


def _text_keypoints(line: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    table = np.array(line.split(), dtype=np.float64).reshape(-1, 3)
    if not np.all(np.abs(table) < _FARTHEST_PIXEL):
        raise ValueError
    return table[:, :2].astype(np.float32), table[:, 2].astype(np.int64)


def _text_points(path: Path) -> Iterator[tuple[float, ...]]:
    for number, line in _lines(path):
        if not _is_row(line):
            continue
        cells = line.split(maxsplit=8)
        try:
            row = tuple(float(cell) for cell in cells[:8])
        except ValueError:
            row = ()
        if len(row) != 8 or not np.all(np.isfinite(row[:7])) or not 0 <= row[0] < 2**53:
            want = "POINT3D_ID X Y Z R G B ERROR TRACK"
            raise FormatError(f"{path}, line {number} is no point; want {want}")
        yield row


# -- binary, whose lengths `check_binary` has checked ------------------------------------------


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} cannot be read: {error}") from error


def _binary_cameras(
    path: Path,
) -> Iterator[tuple[int, str, int, int, tuple[float, ...], str]]:
    with _mapped(path) as data:
        (count,) = _COUNT.unpack_from(data, 0)
        at = _COUNT.size
        for row in range(count):
            number, model, width, height = _CAMERA.unpack_from(data, at)
            name, length = model_of_number(model)
            params = struct.unpack_from(f"<{length}d", data, at + _CAMERA.size)
            at += _CAMERA.size + 8 * length
            yield number, name, width, height, params, f"row {row} of {path.name}"


def _binary_images(path: Path) -> Iterator[ImageRow]:
    with _mapped(path) as data:
        (count,) = _COUNT.unpack_from(data, 0)
        at = _COUNT.size
        for row in range(count):
            _, *pose, camera = _IMAGE.unpack_from(data, at)
            end = data.find(b"\0", at + _IMAGE.size)
            raw = data[at + _IMAGE.size : end]
            (length,) = _COUNT.unpack_from(data, end + 1)
            at = end + 1 + _COUNT.size + length * _POINT_2D.itemsize
            # A copy, so that nothing refers to the mapped file when it is closed.
            points = np.frombuffer(data[at - length * _POINT_2D.itemsize : at], _POINT_2D)
            where, name = f"row {row}", raw.decode("utf-8", errors="surrogateescape")
            if not is_name(name):
                yield ImageRow(where, f"{name[:60]!a} is no name")
            elif not np.all(np.abs(points["xy"]) < _FARTHEST_PIXEL):
                yield ImageRow(where, f"{name} has a keypoint that is in no image")
            else:
                keypoints, ids = points["xy"].astype(np.float32), points["id"].astype(np.int64)
                quat, translation = tuple(pose[:4]), tuple(pose[4:])
                yield ImageRow(where, None, name, camera, quat, translation, keypoints, ids)


def _binary_points(path: Path) -> Iterator[tuple[float, ...]]:
    with _mapped(path) as data:
        (count,) = _COUNT.unpack_from(data, 0)
        at = _COUNT.size
        for row in range(count):
            *values, length = _POINT_3D.unpack_from(data, at)
            at += _POINT_3D.size + 8 * length
            if values[0] >= 2**53:
                raise FormatError(f"{path}, row {row} has the number {values[0]}, which is none")
            yield tuple(values)
