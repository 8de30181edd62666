"""kapture folders: ``sensors/`` with cameras, records, trajectories and rigs.

A trajectory's row maps the world to the device, a rig's row maps the rig to one of its devices,
which may be a rig again; w-first quaternions and translations, OpenCV axes. Cameras and their
parameters are COLMAP's, so the half pixel is COLMAP's too: (0, 0) is the first pixel's corner.
Source: "kapture: data format v1.1" (``kapture_format.adoc``) and kapture's ``core/Rigs.py`` and
``core/Trajectories.py`` (``rigs_remove``: cam_from_world = cam_from_rig rig_from_world).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from operator import matmul
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from relocalize import progress
from relocalize.errors import FormatError, GeometryError
from relocalize.formats.pose_rows import PoseRows, check_quaternion
from relocalize.formats.posed_images import PosedImages
from relocalize.formats.registration import Registration
from relocalize.formats.text import first_lines, floats, is_name, read_lines, rows_in
from relocalize.formats.tracks import Observation, model_of_tracks
from relocalize.geometry import Camera, Convention, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import MapModel, atomic
from relocalize.place.folder import MAP_UNIT
from relocalize.place.model import NO_POINT

NAME = "kapture folder"
CONVENTION = Convention("wxyz", "cam_from_world", "RDF", "translation")
# Poses that come by way of a rig have no numbers of their own.
_COMPOSED = Convention("matrix", "world_from_cam", "RDF", "centre")
_LAYOUT = "timestamp, device, qw, qx, qy, qz, tx, ty, tz"
_HEADER = "# kapture format: 1.1"
_FILES = ("sensors.txt", "records_camera.txt", "trajectories.txt")
_MODELS = (
    *("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"),
    *("FULL_OPENCV", "FOV", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE"),
)
_DEEPEST_RIG = 10  # kapture's own bound
_KEYPOINTS = "relocalize"  # the type's name of the keypoints that are written
_FLOATS = {"float32": np.float32, "float64": np.float64, "float": np.float64}


def detect(path: Path) -> bool:
    """Whether ``path`` is such a folder, its ``sensors`` folder, or one of the files in there."""
    folder = _sensors_folder(path)
    if folder is None:
        return False
    head = first_lines(folder / "sensors.txt")
    return bool(head) and head[0].lower().startswith("# kapture format")


def _sensors_folder(path: Path) -> Path | None:
    if path.is_file():
        candidates = [path.parent] if path.name in (*_FILES, "rigs.txt") else []
    else:
        candidates = [path / "sensors", path]
    return next((one for one in candidates if (one / "sensors.txt").is_file()), None)


def read(path: Path) -> Registration:
    """Read the images that have a pose, by way of rigs where need be, and the points."""
    folder = _sensors_folder(path)
    if folder is None:
        raise FormatError(f"{path} is no {NAME}: it has no sensors/sensors.txt")
    for name in _FILES[1:]:
        if not (folder / name).is_file():
            raise FormatError(f"{folder} has no {name}; without it no image has a pose")
    sensors = {cells[0]: cells for _, cells in _rows(folder / "sensors.txt")}
    poses = _Poses.read(folder)
    records = [
        (f"records_camera.txt, {where}", cells)
        for where, cells in _rows(folder / "records_camera.txt")
    ]
    rigid = any(len(poses.chain(cells)) > 1 for _, cells in records)
    rows = PoseRows(folder, NAME, _COMPOSED if rigid else CONVENTION, _LAYOUT)
    camera_of = cache(lambda device: _camera(device, sensors.get(device, [])))
    for where, cells in progress.track(records, "images"):
        chain = poses.chain(cells)
        with rows.row(f"{where} ({chain[-1].where})" if chain else where):
            _, device, name = _record(cells)
            if not chain:
                rows.said["images have no pose"] += 1
                continue
            camera = camera_of(device)
            if rigid:
                pose = reduce(matmul, (row.transform() for row in chain)).inverse()
                rows.add(name, pose.rotation, pose.translation, camera)
            else:
                rows.add(name, *chain[0].numbers(), camera)
    registration = rows.registration(unit=MAP_UNIT, remarks=poses.twice)
    registration = replace(registration, source=path.name)
    points = folder.parent / "reconstruction"
    return registration.with_model(lambda: _model(registration, points))


# -- rows ------------------------------------------------------------------------------------


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    return rows_in(read_lines(path), ",")


def _record(cells: list[str]) -> tuple[int, str, str]:
    """Time, device and image; raises ValueError where the row is none."""
    if len(cells) != 3:
        raise ValueError(f"{len(cells)} columns, want timestamp, device, image_path")
    if not is_name(cells[2]):
        raise ValueError(f"{cells[2][:60]!a} is no name")
    return _time(cells[0]), cells[1], cells[2]


def _time(text: str) -> int:
    if not text.removeprefix("-").isdecimal() or len(text) > 20:
        raise ValueError(f"timestamp {text[:30]!a} is no whole number")
    return int(text)


@dataclass(frozen=True)
class _PoseRow:
    """Seven cells, which are read only where an image needs them."""

    where: str
    cells: tuple[str, ...]

    def numbers(self) -> tuple[list[float], list[float]]:
        """Quaternion, w first, and translation."""
        if len(self.cells) != 7:
            raise FormatError(f"{self.where} has {len(self.cells) + 2} columns, want {_LAYOUT}")
        if not all(self.cells):
            raise FormatError(f"{self.where} has a pose with an empty rotation or translation")
        values = floats(self.cells)
        return values[:4], values[4:]

    def transform(self) -> Rigid3:
        """``device_from_parent``."""
        quat, translation = self.numbers()
        check_quaternion(self.where, quat)
        return Rigid3.from_quat_wxyz(quat, translation)


@dataclass(frozen=True)
class _Poses:
    """Trajectories by time and device, and rigs by the device that is mounted on them."""

    trajectories: dict[tuple[int, str], _PoseRow]
    rigs_of: dict[str, list[tuple[str, _PoseRow]]]
    twice: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> _Poses:
        trajectories: dict[tuple[int, str], _PoseRow] = {}
        twice = []
        for line, cells in _rows(folder / "trajectories.txt"):
            where = f"trajectories.txt, {line}"
            try:
                key = _time(cells[0]), cells[1] if len(cells) > 1 else ""
            except ValueError as error:
                raise FormatError(f"{folder}, {where}: {error}") from None
            if key in trajectories:
                twice.append(f"{where}: a second pose of its device at its time; the first is kept")
            trajectories.setdefault(key, _PoseRow(where, tuple(cells[2:])))
        rigs_of: dict[str, list[tuple[str, _PoseRow]]] = {}
        for line, cells in _rows(folder / "rigs.txt") if (folder / "rigs.txt").is_file() else ():
            if len(cells) < 2:
                raise FormatError(f"{folder}, rigs.txt, {line} names no device")
            row = _PoseRow(f"rigs.txt, {line}", tuple(cells[2:]))
            rigs_of.setdefault(cells[1], []).append((cells[0], row))
        return cls(trajectories, rigs_of, tuple(twice))

    def chain(self, record: list[str]) -> tuple[_PoseRow, ...]:
        """The rows from an image's device up to the world; none where there is no pose."""
        try:
            time, device, _ = _record(record)
        except ValueError:
            return ()
        reached: list[tuple[str, tuple[_PoseRow, ...]]] = [(device, ())]
        seen = {device}
        for _ in range(_DEEPEST_RIG + 1):
            for device, rows in reached:
                own = self.trajectories.get((time, device))
                if own is not None:
                    return (*rows, own)
            above = []
            for device, rows in reached:
                for rig, row in self.rigs_of.get(device, ()):
                    if rig not in seen:
                        seen.add(rig)
                        above.append((rig, (*rows, row)))
            reached = above
        return ()


def _camera(device: str, cells: Sequence[str]) -> Camera | None:
    """The camera of a row ``id, name, type, model, w, h, params``; None where it says nothing."""
    if not cells:
        return None
    try:
        if len(cells) < 3 or cells[2] != "camera":
            raise FormatError(f"it is a {ascii(cells[2][:30]) if cells[2:] else 'row'}, no camera")
        params = floats(cells[4:])
        if not np.all(np.isfinite(params)) or np.any(np.abs(params) > 1e9):
            raise FormatError("its parameters are not finite numbers")
        if len(params) < 2:
            return None
        width, height = int(params[0]), int(params[1])
        if cells[3] == "UNKNOWN_CAMERA":
            return Camera.from_focal(width, height)
        return Camera(cells[3], width, height, tuple(params[2:]))
    except (FormatError, GeometryError, ValueError, OverflowError) as error:
        raise FormatError(f"sensor {device[:60]!a}: {error}") from None


# -- points ----------------------------------------------------------------------------------


def _model(registration: Registration, folder: Path) -> MapModel | None:
    """The points that observations of stored keypoints see; None where there are none."""
    points_file, observations_file = folder / "points3d.txt", folder / "observations.txt"
    if not points_file.is_file() or not observations_file.is_file():
        return None
    table = _table(points_file)
    observations = _observations(observations_file, registration, len(table))
    return model_of_tracks(registration, table[:, :3], table[:, 3:], observations)


def _table(path: Path) -> FloatArray:
    """Positions and colors [P, 6]; black where the file has none."""
    rows = []
    for where, cells in _rows(path):
        try:
            row = floats(cells)
        except ValueError as error:
            raise FormatError(f"{path}, {where}: {error}") from None
        if len(row) not in {3, 6} or not np.all(np.isfinite(row)):
            raise FormatError(f"{path}, {where}: want X, Y, Z or X, Y, Z, R, G, B")
        rows.append(row + [0.0] * (6 - len(row)))
    return np.array(rows, dtype=np.float64).reshape(-1, 6)


def _observations(path: Path, registration: Registration, points: int) -> Iterator[Observation]:
    keypoints_of = cache(lambda kind, name: _keypoints(path.parent / "keypoints", kind, name))
    for line, cells in progress.track(list(_rows(path)), "tracks", unit="points"):
        where = f"{path}, {line}"
        if len(cells) % 2 or len(cells) < 2:
            raise FormatError(f"{where}: want point3d_id, keypoints_type, [image, feature]*")
        row = _index(cells[0], points, where)
        for name, feature in zip(cells[2::2], cells[3::2], strict=True):
            if name in registration.poses:
                keypoints = keypoints_of(cells[1], name)
                u, v = keypoints[_index(feature, len(keypoints), where)].tolist()
                yield name, u, v, row


def _index(text: str, count: int, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) < count):
        raise FormatError(f"{where}: {text[:30]!a} is none of {count} rows")
    return int(text)


def _keypoints(folder: Path, kind: str, name: str) -> FloatArray:
    """Pixels [K, 2] of one image's keypoint file."""
    if any(".." in PurePosixPath(part).parts or part.startswith("/") for part in (kind, name)):
        raise FormatError(f"{name[:60]!a} leads out of the folder")
    described = folder / kind / "keypoints.txt"
    if not described.is_file():
        raise FormatError(f"{described} is missing")
    _, cells = next(_rows(described), ("", []))
    if len(cells) != 3 or cells[1] not in _FLOATS:
        raise FormatError(f"{described}: want name, float32 or float64, dsize")
    dtype, size = np.dtype(_FLOATS[cells[1]]).newbyteorder("<"), _index(cells[2], 10_000, "dsize")
    file = folder / kind / f"{name}.kpt"
    if not file.is_file():
        raise FormatError(f"{file} is missing (features in a tar are not read)")
    data = file.read_bytes()
    if size < 2 or len(data) % (dtype.itemsize * size):
        raise FormatError(f"{file} has {len(data)} bytes, not rows of {size} {cells[1]}")
    values: NDArray[np.floating] = np.frombuffer(data, dtype).reshape(-1, size)
    with np.errstate(invalid="ignore"):  # a signalling NaN, which is refused below
        pixels = values[:, :2].astype(np.float64)
    if not np.all(np.isfinite(pixels)):
        raise FormatError(f"{file} has a keypoint that is not finite")
    return pixels


# -- writing ---------------------------------------------------------------------------------


def write(posed: PosedImages, out: Path) -> None:
    """Write a kapture folder: sensors, images, and the points with their keypoints.

    The format has no train and test lists; kapture's tools take one folder for each.
    """
    model = posed.model
    for name in model.images:
        if "," in name or name != name.strip() or len(name.splitlines()) != 1:
            raise FormatError(
                f"kapture cannot hold the image name {name!r}: it parts by commas and lines"
            )
    with atomic.new_folder(out) as folder:
        sensors = folder / "sensors"
        _write(
            sensors / "sensors.txt",
            "sensor_id, name, sensor_type, [sensor_params]+",
            (_sensor(number, camera) for number, camera in sorted(model.cameras.items())),
        )
        records, trajectories = [], []
        for time, (name, image) in enumerate(model.images.items()):
            device = _device(image.camera_id)
            pose = image.cam_from_world
            numbers = [*pose.quat_wxyz.tolist(), *pose.translation.tolist()]
            records.append([time, device, name])
            trajectories.append([time, device, *numbers])
        _write(sensors / "records_camera.txt", "timestamp, device_id, image_path", records)
        layout = _LAYOUT.replace("device", "device_id")
        _write(sensors / "trajectories.txt", layout, trajectories)
        posed.place(sensors / "records_data")
        if len(model.points):
            _write_points(model, folder / "reconstruction")


def _device(camera_id: int) -> str:
    return f"cam_{camera_id:05d}"


def _sensor(number: int, camera: Camera) -> list[object]:
    if camera.model not in _MODELS:
        raise FormatError(f"kapture has no {camera.model} camera; it has {', '.join(_MODELS)}")
    size = [camera.width, camera.height]
    return [_device(number), "", "camera", camera.model, *size, *camera.params]


def _write(path: Path, columns: str, rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [_HEADER, f"# {columns}", *(", ".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_points(model: MapModel, folder: Path) -> None:
    tracks: list[list[object]] = [[] for _ in range(len(model.points))]
    described = folder / "keypoints" / _KEYPOINTS / "keypoints.txt"
    _write(described, "name, dtype, dsize", [[_KEYPOINTS, "float32", 2]])
    for name, image in model.images.items():
        file = described.parent / f"{name}.kpt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image.keypoints.astype("<f4").tobytes())
        for feature in np.flatnonzero(image.point_rows != NO_POINT):
            tracks[image.point_rows[feature]] += [name, int(feature)]
    points = zip(model.points.positions.tolist(), model.points.colors.tolist(), strict=True)
    _write(folder / "points3d.txt", "X, Y, Z, R, G, B", ([*xyz, *rgb] for xyz, rgb in points))
    _write(
        folder / "observations.txt",
        "point3d_id, keypoints_type, [image_path, feature_id]*",
        ([row, _KEYPOINTS, *track] for row, track in enumerate(tracks) if track),
    )
