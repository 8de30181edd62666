"""The rows of a COLMAP model's files, text and binary, as they stand there.

COLMAP's own reader believes the counts in a file (a damaged one keeps it busy for hours), takes a
quaternion of four zeros for no rotation, and names neither file nor line of a fault; hence this
one. Models with rigs and frames keep every image's own pose in the images file, so that old and
new models are read alike.
Source: COLMAP's documentation, "Output Format", and ``scene/reconstruction_io_{text,binary}.cc``.
"""

from __future__ import annotations

import mmap
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import GeometryError, PlaceError
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.cameras import model_of_number
from relocalize.geometry.transforms import FloatArray

Row = TypeVar("Row")
Sensor = tuple[int, int]  # kind and number

_LONGEST_LINE = 50_000_000  # an image of a million keypoints
_LONGEST_NAME = 4096
_FARTHEST = 1e9  # that a camera may be
_FARTHEST_PIXEL = 1e15  # 32 bits hold it; NaN is beyond, too
_LARGEST_ID = 2**53  # of a point: beyond, 64-bit floats skip integers
_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<Ii2Q")
_IMAGE = struct.Struct("<I7dI")
_POINT = struct.Struct("<Q3d3BdQ")
_RIG = struct.Struct("<2I")
_FRAME = struct.Struct("<2I7dI")
_SENSOR = struct.Struct("<iI")
_HAS_POSE = struct.Struct("<B")
_POSE = struct.Struct("<7d")
_CAMERA_SENSOR = 0  # COLMAP's SensorType::CAMERA
_KEYPOINT = np.dtype([("xy", "<f8", 2), ("point", "<i8")])


@dataclass(frozen=True, eq=False)
class ImageRow:
    """One image."""

    where: str  # in which line or row, for messages
    reason: str | None = None  # why it is no image, or None
    number: int = -1  # of the image
    name: str = ""  # of the image
    camera: int = 0  # number of its camera
    quat_wxyz: tuple[float, ...] = ()  # [4], as it stands in the file
    translation: tuple[float, ...] = ()  # [3], of ``cam_from_world``
    # [K, 2] pixels
    keypoints: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    # [K] the point that each observes, or negative
    point_ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


class PointRows(NamedTuple):
    """The points: rising ids [P], positions [P, 3], RGB colors [P, 3], errors [P] in pixels."""

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
    """The cameras by number; a text that says why in place of one that is none.

    Raises:
        PlaceError: the file is damaged as a whole.
    """
    path = folder / f"cameras{ending(folder)}"
    rows = _text_cameras(path) if path.suffix == ".txt" else _rows(path, _camera)
    cameras: dict[int, Camera | str] = {}
    for where, number, model, width, height, params in rows:
        if number not in cameras:
            try:
                cameras[number] = Camera(model, width, height, params)
            except (GeometryError, OverflowError, TypeError) as error:
                cameras[number] = f"camera {number} ({where} of {path.name}): {error}"
    return cameras


def read_images(folder: Path) -> Iterator[ImageRow]:
    """The images, in the file's order.

    Raises:
        PlaceError: the file is damaged as a whole.
    """
    path = folder / f"images{ending(folder)}"
    return _text_images(path) if path.suffix == ".txt" else _rows(path, _image)


def read_points(folder: Path) -> PointRows:
    """The points; none where the model has no file of them.

    Raises:
        PlaceError: the file is damaged; names the line.
    """
    path = folder / f"points3D{ending(folder)}"
    rows: list[tuple[float, ...]] = []
    if path.is_file():
        rows = list(_text_points(path) if path.suffix == ".txt" else _rows(path, _point))
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    table = table[np.argsort(table[:, 0], kind="stable")]
    if not np.all(np.isfinite(table[:, :7])) or np.any(table[:, 0] >= _LARGEST_ID):
        raise PlaceError(f"{path} has a point with a number that is not finite")
    if len(np.unique(table[:, 0])) != len(table):
        raise PlaceError(f"{path} has a point's number twice")
    return PointRows(
        ids=table[:, 0].astype(np.int64),
        positions=table[:, 1:4],
        colors=np.clip(table[:, 4:7], 0, 255).astype(np.uint8),
        errors=np.nan_to_num(table[:, 7]),
    )


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
                    raise PlaceError(f"{path}, line {number} is no line of text")
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except UnicodeDecodeError as error:
        raise PlaceError(f"{path} is no text file: {error.reason}") from None
    except OSError as error:
        raise PlaceError(f"{path} cannot be read: {error.strerror}") from error


def _is_row(line: str) -> bool:
    return bool(line) and not line.startswith("#")


def _text_cameras(path: Path) -> Iterator[tuple[str, int, str, int, int, tuple[float, ...]]]:
    for number, line in _lines(path):
        if not _is_row(line):
            continue
        try:
            camera, model, width, height, *params = line.split()
            values = tuple(map(float, params))
            yield f"line {number}", int(camera), model, int(width), int(height), values
        except ValueError:
            raise PlaceError(
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
            pose = tuple(map(float, cells[1:8]))
            number_of, camera = int(cells[0]), int(cells[8])
        except ValueError:
            yield ImageRow(where, "a column is no number")
            continue
        try:
            table = np.array(points.split(), dtype=np.float64).reshape(-1, 3)
            if not np.all(np.abs(table) < _FARTHEST_PIXEL):
                raise ValueError
        except (ValueError, OverflowError):
            reason = (
                f"{cells[9]}'s keypoints are not X Y POINT3D_ID (of an image without any, they are "
                "an empty line)"
            )
            yield ImageRow(f"line {number + 1}", reason)
            continue
        keypoints, ids = table[:, :2].astype(np.float32), table[:, 2].astype(np.int64)
        yield ImageRow(where, None, number_of, cells[9], camera, pose[:4], pose[4:], keypoints, ids)


def _text_points(path: Path) -> Iterator[tuple[float, ...]]:
    for number, line in _lines(path):
        if not _is_row(line):
            continue
        try:
            row = tuple(map(float, line.split(maxsplit=8)[:8]))
        except ValueError:
            row = ()
        if len(row) != 8 or not np.all(np.isfinite(row[:7])) or not 0 <= row[0] < _LARGEST_ID:
            want = "POINT3D_ID X Y Z R G B ERROR TRACK"
            raise PlaceError(f"{path}, line {number} is no point; want {want}")
        yield row


# -- binary ----------------------------------------------------------------------------------


class _Bytes:
    """The bytes of a file, in order; ValueError or struct.error where they end too early."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self.at = data, 0

    def take(self, layout: struct.Struct) -> tuple[Any, ...]:
        values = layout.unpack_from(self._data, self.at)
        self.at += layout.size
        return values

    def raw(self, size: int) -> bytes:
        """A copy, so that nothing refers to the mapped file when it is closed."""
        if self.at + size > len(self._data):
            raise ValueError
        self.at += size
        return self._data[self.at - size : self.at]

    def sensor(self) -> Sensor:
        kind, number = self.take(_SENSOR)
        return kind, number

    def name(self) -> bytes:
        end = self._data.find(b"\0", self.at, self.at + _LONGEST_NAME)
        if end < 0:
            raise ValueError
        return self.raw(end + 1 - self.at)[:-1]


def _rows(path: Path, read_row: Callable[[_Bytes, str], Row]) -> Iterator[Row]:
    """The rows that the file's count announces, each told its place in the file."""
    try:
        # Mapped, not read: the keypoints of a long walk take a gigabyte.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            rest = _Bytes(data)
            (count,) = rest.take(_COUNT)
            for row in range(count):
                yield read_row(rest, f"row {row}")
            if rest.at != len(data):
                left = len(data) - rest.at
                raise PlaceError(f"{path} is damaged: {left} bytes follow its last row")
    except (struct.error, ValueError):
        raise PlaceError(f"{path} is damaged: it ends within its rows") from None
    except GeometryError as error:
        raise PlaceError(f"{path} is damaged: {error}") from None
    except OSError as error:
        raise PlaceError(f"{path} cannot be read: {error.strerror}") from error


def _camera(rest: _Bytes, where: str) -> tuple[str, int, str, int, int, tuple[float, ...]]:
    number, model, width, height = rest.take(_CAMERA)
    name, length = model_of_number(model)
    return where, number, name, width, height, rest.take(struct.Struct(f"<{length}d"))


def _image(rest: _Bytes, where: str) -> ImageRow:
    number, *pose, camera = rest.take(_IMAGE)
    name = rest.name().decode("utf-8", errors="surrogateescape")
    (count,) = rest.take(_COUNT)
    points = np.frombuffer(rest.raw(count * _KEYPOINT.itemsize), _KEYPOINT)
    if not np.all(np.abs(points["xy"]) < _FARTHEST_PIXEL):
        return ImageRow(where, f"{name} has a keypoint that is in no image")
    keypoints, ids = points["xy"].astype(np.float32), points["point"].astype(np.int64)
    return ImageRow(
        where, None, number, name, camera, tuple(pose[:4]), tuple(pose[4:]), keypoints, ids
    )


def _point(rest: _Bytes, _: str) -> tuple[float, ...]:
    *values, length = rest.take(_POINT)
    rest.raw(8 * length)
    return tuple(values)


RigRow = list[tuple[int, Sensor, tuple[float, ...] | None]]  # rig, sensor, its pose on the rig
FrameRow = tuple[int, tuple[float, ...], list[tuple[Sensor, int]]]  # rig, pose, sensors and data


def _rig(rest: _Bytes | _Cells, _: str) -> RigRow:
    rig, count = rest.take(_RIG)
    row: RigRow = []
    for number in range(count):
        sensor = rest.sensor()
        # The first is the reference, which has no pose.
        has_pose = number > 0 and rest.take(_HAS_POSE)[0]
        row.append((rig, sensor, rest.take(_POSE) if has_pose else None))
    return row


def _frame(rest: _Bytes | _Cells, _: str) -> FrameRow:
    _, rig, *pose, count = rest.take(_FRAME)
    return rig, tuple(pose), [(rest.sensor(), rest.take(_COUNT)[0]) for _ in range(count)]


_BINARY: dict[str, Callable[[_Bytes, str], object]] = {
    "cameras.bin": _camera,
    "images.bin": _image,
    "points3D.bin": _point,
    "rigs.bin": _rig,
    "frames.bin": _frame,
}


def check_whole(folder: Path, names: Iterable[str] = tuple(_BINARY)) -> None:
    """Check binary files of a model, where it has such, before COLMAP's own reader believes them.

    Raises:
        PlaceError: one ends before the number of rows that it announces, or goes on after.
    """
    for name in names:
        if (folder / name).is_file():
            deque(_rows(folder / name, _BINARY[name]), maxlen=0)


class _Cells:
    """The cells of a line of text, which has what a binary row has; ValueError where it has not."""

    def __init__(self, line: str) -> None:
        self._rest = deque(line.split())

    def _next(self) -> str:
        if not self._rest:
            raise ValueError
        return self._rest.popleft()

    def take(self, layout: struct.Struct) -> tuple[Any, ...]:
        return tuple(type(one)(self._next()) for one in layout.unpack(bytes(layout.size)))

    def sensor(self) -> Sensor:
        return _CAMERA_SENSOR if self._next() == "CAMERA" else 1, int(self._next())


def _rows_of(
    folder: Path, what: str, read_row: Callable[[_Bytes | _Cells, str], Row]
) -> Iterator[Row]:
    """The rows of a model's rigs or frames, binary or text."""
    path = folder / f"{what}s{ending(folder)}"
    if path.suffix == ".bin":
        yield from _rows(path, read_row)
        return
    for number, line in _lines(path):
        if _is_row(line):
            yield _row_in(path, number, line, what, read_row)


def _row_in(
    path: Path, number: int, line: str, what: str, read_row: Callable[[_Cells, str], Row]
) -> Row:
    try:
        return read_row(_Cells(line), "")
    except ValueError:
        raise PlaceError(f"{path}, line {number} is no {what}") from None


def poses_by_frames(folder: Path) -> dict[int, Rigid3]:
    """``cam_from_world`` by the image's number; empty where there are no rigs and frames.

    From COLMAP 3.12 on a frame has the pose, and an image that of its sensor on the frame's rig;
    the images file repeats it, and COLMAP itself does not look there.

    Raises:
        PlaceError: a file is damaged.
    """
    end = ending(folder)
    if end is None or not all((folder / f"{what}{end}").is_file() for what in ("rigs", "frames")):
        return {}
    try:
        return dict(_poses(folder))
    except (GeometryError, ValueError, struct.error) as error:
        raise PlaceError(f"{folder}: its rigs or frames are damaged: {error}") from None


def _poses(folder: Path) -> Iterator[tuple[int, Rigid3]]:
    sensor_from_rig = {
        (rig, sensor): Rigid3.identity() if pose is None else _rigid(pose)
        for row in _rows_of(folder, "rig", _rig)
        for rig, sensor, pose in row
    }
    # Of a pose the quaternion, w first, and the translation.
    for rig, pose, data in _rows_of(folder, "frame", _frame):
        rig_from_world = _rigid(pose)
        for sensor, image in data:
            if sensor[0] == _CAMERA_SENSOR and (rig, sensor) in sensor_from_rig:
                yield image, sensor_from_rig[rig, sensor] @ rig_from_world


def _rigid(pose: tuple[float, ...]) -> Rigid3:
    if not np.all(np.abs(pose) < _FARTHEST):
        raise ValueError("a pose with a number that is not finite, or nowhere")
    return Rigid3.from_quat_wxyz(pose[:4], pose[4:])
