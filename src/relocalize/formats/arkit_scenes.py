"""ARKitScenes: a trajectory by time, and a file of intrinsics per image.

``lowres_wide.traj`` (or ``color.traj``) with rows of a time, a rotation vector and a translation,
world-to-camera, OpenCV axes, metres; ``lowres_wide/VIDEO_TIME.png`` and
``lowres_wide_intrinsics/VIDEO_TIME.pincam`` with ``width height fx fy cx cy``. Source:
github.com/apple/ARKitScenes, ``DATA.md`` and ``tenFpsDataLoader.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.lenses import pinhole_of
from relocalize.formats.matrix_files import files_in, numbers_in
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.text import floats, read_lines
from relocalize.geometry import Camera, Convention
from relocalize.geometry.transforms import FloatArray, rotations_from_rotvecs
from relocalize.place.folder import METRE

NAME = "ARKitScenes scene"
CONVENTION = Convention("matrix", "cam_from_world", "RDF", "translation")
_LAYOUT = "a time, a rotation vector and a translation: 7 numbers"
# Trajectory, images, intrinsics.
_NAMES = (
    ("lowres_wide.traj", "lowres_wide", "lowres_wide_intrinsics"),
    ("color.traj", "wide", "color_intrinsics"),
)
_ENDINGS = {".png", ".jpg"}
_LARGEST_TURN = 100.0  # radians; what is said in degrees, or broken, has more
_SAME_TIME = 0.005  # seconds, as its own reader takes them for one


def detect(path: Path) -> bool:
    """Whether the folder has a trajectory of such a name."""
    return _layout(path) is not None


def read(path: Path) -> Registration:
    """Read a scene's folder, ``VIDEO`` or ``VIDEO_frames``; images between poses are left out."""
    layout = _layout(path)
    if layout is None:
        raise FormatError(f"{path} is no {NAME}: it has no {' or '.join(n[0] for n in _NAMES)}")
    trajectory, images, intrinsics = (path / name for name in layout)
    times, poses = _trajectory(trajectory)
    lenses = {_time_of(file): file for file in files_in(intrinsics, {".pincam"})}
    lens_times = np.array(sorted(lenses))
    named = {f"{images.name}/{file.name}": _time_of(file) for file in files_in(images, _ENDINGS)}
    if not named:
        named = {f"{images.name}/{lenses[one].stem}.png": one for one in lenses}
    rows = PoseRows(trajectory, NAME, CONVENTION, _LAYOUT)
    for name, time in named.items():
        row = _nearest(times, time)
        if row is None:
            rows.said["images have no pose at their time"] += 1
            continue
        with rows.row(name):
            lens = _nearest(lens_times, time)
            camera = None if lens is None else _camera(lenses[float(lens_times[lens])])
            if np.abs(poses[row, :3]).max() > _LARGEST_TURN:
                raise ValueError(f"a rotation vector of {poses[row, :3].tolist()} radians")
            turn = rotations_from_rotvecs(poses[row, :3])
            rows.add(name, turn, poses[row, 3:], camera)
    return rows.registration(unit=METRE, scale_from="ARKit's unit, metres")


def _layout(path: Path) -> tuple[str, str, str] | None:
    return next((names for names in _NAMES if (path / names[0]).is_file()), None)


def _trajectory(file: Path) -> tuple[FloatArray, FloatArray]:
    """Times [N], ascending, and rotation vectors with translations [N, 6]."""
    found = []
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        try:
            values = floats(line.split())
        except ValueError as error:
            raise FormatError(f"{file}, line {number}: {error}") from None
        if len(values) != 7 or not np.isfinite(values).all():
            raise FormatError(f"{file}, line {number}: want {_LAYOUT}")
        found.append(values)
    if not found:
        raise FormatError(f"{file} holds no poses; want {_LAYOUT}")
    rows = np.array(sorted(found))
    return rows[:, 0], rows[:, 1:]


def _time_of(file: Path) -> float:
    """Seconds, behind the video's number in a file's name."""
    try:
        return float(file.stem.rsplit("_", maxsplit=1)[-1])
    except ValueError:
        raise FormatError(f"{file} has no time in its name, want VIDEO_TIME{file.suffix}") from None


def _nearest(times: FloatArray, time: float) -> int | None:
    """The row of the same time."""
    if not len(times):
        return None
    row = int(np.abs(times - time).argmin())
    return row if abs(times[row] - time) <= _SAME_TIME else None


def _camera(file: Path) -> Camera:
    numbers = numbers_in(file)
    if numbers.shape != (1, 6):
        raise FormatError(f"{file}: want width height fx fy cx cy")
    width, height, *pinhole = numbers[0].tolist()
    return pinhole_of(int(width), int(height), pinhole)
