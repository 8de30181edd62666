"""RTAB-Map's exported poses, as it writes them by default: ``stamp x y z qx qy qz qw id``.

Images named by id or by stamp come with such a file (``--poses_format 11``; in the desktop tool
"RGBD-SLAM + ID"), and ``calib`` or ``NAME_calib`` with a YAML of each one's camera.
``NAME_camera_poses.txt`` has the poses of the camera, in OpenCV axes; ``NAME_poses.txt`` those of
the robot, which become the camera's by the ``local_transform`` of its YAML. Metres; negative ids
are landmarks. OpenCV's intrinsics: pixel (0, 0) is the first pixel's centre, 0.5 is added.
Source: introlab/rtabmap, ``tools/Export/main.cpp``, ``Graph.cpp`` (``exportPoses``) and
``CameraModel.cpp`` (``save``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from relocalize.errors import FormatError, GeometryError
from relocalize.formats.lenses import LARGEST_TERM, LONGEST_FOCAL, brown_camera, check_sides
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.text import (
    check_file,
    first_lines,
    floats,
    read_text,
    rows_in,
    shortened,
)
from relocalize.geometry import Camera, Convention, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place.folder import METRE

NAME = "RTAB-Map poses"
CONVENTION = Convention("xyzw", "world_from_cam", "RDF", "centre")
_LAYOUT = "timestamp x y z qx qy qz qw id"
_OF_CAMERA, _OF_ROBOT = "_camera_poses", "_poses"  # how the names of the files end
_LATEST = 1e12  # seconds; a file of the time is looked for, and no name is endless
_ID, _LANDMARK = re.compile(r"[0-9]{1,12}"), re.compile(r"-[0-9]{1,12}")
_LARGEST_YAML = 20_000  # bytes; theirs have 1500
_HALF_PIXEL = 0.5
_FISHEYE = {"equidistant", "fisheye"}


@dataclass(frozen=True)
class _Calibration:
    """What a YAML says of an image's camera; None where it does not say."""

    camera: Camera | None
    robot_from_cam: Rigid3 | None


def detect(path: Path) -> bool:
    """Whether the file's first pose is such a row, or the folder holds such a file."""
    file = _file(path)
    if file is None:
        return False
    rows = PoseRows(file, NAME, CONVENTION, _LAYOUT)
    for where, cells in rows_in(first_lines(file)):
        with rows.row(where):
            _take(rows, cells)
        if rows.count:  # landmarks do not count, and come first
            break
    return len(rows) == 1


def read(path: Path) -> Registration:
    """Read the file of poses, or an export's folder with one; images are named by their ids."""
    file = _file(path)
    if file is None:
        raise FormatError(f"{path} has not one file of poses (*_poses.txt); name it")
    rows = PoseRows(file, NAME, CONVENTION, _LAYOUT).read(_take)
    registration = rows.registration(unit=METRE, scale_from="the format's unit, metres")
    registration = _calibrated(registration, file)
    return registration.remarked("an image is found by the id or the stamp that names it")


def _file(path: Path) -> Path | None:
    if not path.is_dir():
        return path
    for ending in (_OF_CAMERA, _OF_ROBOT, "poses_id", "poses"):
        files = [*path.glob(f"*{ending}.txt")]
        if files:
            return files[0] if len(files) == 1 else None
    return None


def _take(rows: PoseRows, cells: list[str]) -> None:
    if len(cells) != 9:
        raise ValueError(f"{len(cells)} columns, want {_LAYOUT}")
    time, *numbers = floats(cells[:8])
    if _LANDMARK.fullmatch(cells[8]):
        return
    if not _ID.fullmatch(cells[8]):
        raise ValueError(f"an id of {shortened(cells[8], 20)!r}, want a whole number")
    if not 0 <= time <= _LATEST:
        raise ValueError(f"a time of {time:g} seconds")
    rows.add(cells[8], numbers[3:], numbers[:3], time=time)


def _calibrated(registration: Registration, file: Path) -> Registration:
    """The poses of the cameras whose YAML files lie beside them, with their intrinsics."""
    own = f"{file.stem.removesuffix(_OF_CAMERA).removesuffix(_OF_ROBOT)}_calib"
    folders = [one for name in (own, "calib") if (one := file.with_name(name)).is_dir()]
    found: dict[str, _Calibration] = {}
    for name, time in registration.times.items() if folders else ():
        # The tool writes stamps as C's %f.
        calibration = _calibration(folders[0], name) or _calibration(folders[0], f"{time:.6f}")
        if calibration is not None:
            found[name] = calibration
    cameras = list(dict.fromkeys(one.camera for one in found.values() if one.camera is not None))
    rows = {camera: row for row, camera in enumerate(cameras)}
    poses = {}
    for name, (pose, _) in registration.poses.items():
        camera = found[name].camera if name in found else None
        poses[name] = (pose, None if camera is None else rows[camera])
    remarks = [f"{len(found)} of {len(poses)} images have a YAML of their camera beside the poses"]
    registration = replace(registration, cameras=tuple(cameras), poses=poses)
    mounts = {name: one.robot_from_cam for name, one in found.items() if one.robot_from_cam}
    if file.stem.endswith(_OF_CAMERA):
        return registration.remarked(*remarks)
    if file.stem.endswith(_OF_ROBOT) and len(mounts) == len(poses):
        of_cameras = {
            name: (mounts[name].inverse() @ pose, row) for name, (pose, row) in poses.items()
        }
        registration = replace(registration, poses=of_cameras, stated_poses=None)
        return registration.remarked(
            *remarks, "the robot's poses times each camera's local_transform"
        )
    return registration.remarked(
        *remarks,
        "read as poses of the camera; where they are the robot's, export the camera's "
        "(--poses_camera)",
    )


def _calibration(folder: Path, name: str) -> _Calibration | None:
    """The YAML of an image; None where there is none."""
    if any((folder / f"{name}_0{end}.yaml").is_file() for end in ("", "_left")):
        raise FormatError(f"{folder} has several cameras of image {name}, and one is read")
    files = [one for end in ("", "_left") if (one := folder / f"{name}{end}.yaml").is_file()]
    if not files:
        return None
    check_file(files[0], "a camera's YAML", _LARGEST_YAML)
    text = read_text(files[0])
    try:
        mount = _matrix(text, "local_transform", 3, 4)
        robot_from_cam = None if mount is None else Rigid3(mount[:, :3], mount[:, 3])
        return _Calibration(_camera(text), robot_from_cam)
    except (FormatError, GeometryError, ValueError) as error:
        raise FormatError(f"{files[0]}: {error}") from None


def _camera(text: str) -> Camera | None:
    lens = _matrix(text, "camera_matrix", 3, 3)
    sides = [_word(text, side) for side in ("image_width", "image_height")]
    if lens is None or not all(_ID.fullmatch(side) for side in sides):
        return None
    width, height = map(int, sides)
    fx, fy, cx, cy = (float(lens[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
    if not (min(fx, fy) >= 1 and max(fx, fy, abs(cx), abs(cy)) <= LONGEST_FOCAL):
        raise ValueError(f"a camera_matrix of {fx:g}, {fy:g}, {cx:g}, {cy:g}")
    pinhole = (fx, fy, cx + _HALF_PIXEL, cy + _HALF_PIXEL)
    check_sides(width, height)
    terms = tuple(_listed(text, "distortion_coefficients"))
    if any(abs(term) > LARGEST_TERM for term in terms):
        raise ValueError(f"distortion_coefficients of {max(map(abs, terms)):g}")
    if _word(text, "distortion_model") in _FISHEYE and len(terms) in {4, 6}:
        return Camera("OPENCV_FISHEYE", width, height, (*pinhole, *terms[:2], *terms[-2:]))
    if not any(terms[5:]) and len(terms) in {0, 4, 5, 8}:
        return brown_camera(width, height, pinhole, terms[:5] or (0.0,))
    if len(terms) == 8:
        return Camera("FULL_OPENCV", width, height, (*pinhole, *terms))
    raise ValueError(f"{len(terms)} distortion_coefficients, want 4, 5 or 8")


def _word(text: str, key: str) -> str:
    found = re.search(rf"^{key}:[ \t]*(\S+)", text, re.MULTILINE)
    return "" if found is None else found[1].strip("\"'")


def _matrix(text: str, key: str, rows: int, columns: int) -> FloatArray | None:
    """The matrix under a key; None where there is none."""
    numbers = _listed(text, key)
    if not numbers:
        return None
    if len(numbers) != rows * columns:
        raise ValueError(f"{key} of {len(numbers)} numbers, want {rows} x {columns}")
    return np.reshape(numbers, (rows, columns))


def _listed(text: str, key: str) -> list[float]:
    """The numbers in brackets under a key; none where there are none."""
    found = re.search(rf"^{key}:[^\[\]]*?\bdata:\s*\[([^\]]*)\]", text, re.MULTILINE)
    numbers = floats(cell.strip() for cell in found[1].split(",")) if found else []
    if not np.all(np.isfinite(numbers)):
        raise ValueError(f"{key} has a number that is not finite")
    return numbers
