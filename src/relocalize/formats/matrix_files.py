"""Scenes with one file per image that holds its camera-to-world matrix.

ACE, ACE0 and DSAC*: ``train|test/rgb``, ``poses``, ``calibration``, whose files belong together in
the order of their names; a calibration is the focal length in pixels, or the 3x3 matrix. 7-Scenes,
12-Scenes, Cambridge and Wayspots come so from these projects' scripts (vislearn/dsacstar on GitHub,
"Data Structure"; nianticlabs/ace, "Datasets"). Metres, OpenCV axes.

ScanNet, as its ``reader.py`` unpacks a ``.sens``: ``color/0.jpg``, ``pose/0.txt``,
``intrinsic/intrinsic_color.txt`` (github.com/ScanNet/ScanNet, "SensReader"). Likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.lenses import SizelessCamera
from relocalize.formats.names import stem
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.text import check_file, floats, read_lines
from relocalize.geometry import Convention
from relocalize.geometry.transforms import FloatArray
from relocalize.place.folder import METRE

NAME, SCANNET = "ACE or DSAC* scene", "ScanNet scene"
CONVENTION = Convention("matrix", "world_from_cam", "RDF", "centre")
LAYOUT = "a camera-to-world matrix of 4 rows of 4 numbers"
_SIDES = ("train", "test")
_ENDINGS = (".pose", ".calibration", ".color")
_LARGEST_FILE = 10_000  # bytes; 16 numbers take 300
_IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_LONGEST_FOCAL = 1e9


@dataclass(frozen=True)
class _Part:
    """Folders whose files belong together: poses, images where they are there, calibrations."""

    side: str
    prefix: str
    poses: Path
    images: Path
    calibrations: Path


def detect(path: Path) -> bool:
    """Whether the folder is a scene, one side of it, or its folder of poses."""
    return bool(_parts(path))


def detect_scannet(path: Path) -> bool:
    """Whether the folder has ``color``, ``pose`` and ``intrinsic``."""
    folders = [path / "color", path / "pose", path / "intrinsic"]
    return path.is_dir() and all(folder.is_dir() for folder in folders)


def read(path: Path) -> Registration:
    """Read a scene with its sides as train and test, one side, or its folder of poses.

    Raises:
        FormatError: it is none, or files cannot be told to belong together.
    """
    parts = _parts(path)
    if not parts:
        raise FormatError(f"{path} is no {NAME}: it has no train/poses beside train/rgb")
    rows = PoseRows(path, NAME, CONVENTION, LAYOUT)
    for part in parts:
        poses = _files(part.poses, {".txt"})
        images = _names(poses, part)
        calibrations = _together(poses, _files(part.calibrations, {".txt"}), part.calibrations)
        for pose, image in zip(poses, images, strict=True):
            with rows.row(part.prefix + pose.name):
                matrix = read_matrix(pose)
                calibration = calibrations.get(pose)
                camera = None if calibration is None else _calibration(calibration)
                rows.add(part.prefix + image, matrix[:3, :3], matrix[:3, 3], camera, side=part.side)
    return rows.registration(unit=METRE, scale_from="the data set's unit, metres")


def read_scannet(path: Path) -> Registration:
    """Read a ScanNet scene as its own reader unpacks it; lost frames (-inf) are left out.

    Raises:
        FormatError: there are no poses, or the calibration is none.
    """
    file = path / "intrinsic" / "intrinsic_color.txt"
    matrix = _numbers(file)
    if matrix.shape not in {(3, 3), (4, 4)}:
        raise FormatError(f"{file} has numbers of shape {matrix.shape}, want a 4x4 matrix")
    try:
        camera = _pinhole(matrix)
    except ValueError as error:
        raise FormatError(f"{file}: {error}") from None
    rows = PoseRows(path, SCANNET, CONVENTION, LAYOUT)
    for pose in _files(path / "pose", {".txt"}):
        with rows.row(pose.name):
            found = read_matrix(pose)
            rows.add(f"color/{pose.stem}.jpg", found[:3, :3], found[:3, 3], camera)
    return rows.registration(unit=METRE, scale_from="the data set's unit, metres")


def read_matrix(file: Path) -> FloatArray:
    """The numbers [4, 4] of a pose file.

    Raises:
        ValueError: they are no pose, as of a frame that a tracker lost.
        FormatError: the file is no text, or too large.
    """
    matrix = _numbers(file)
    if matrix.shape != (4, 4):
        raise ValueError(f"want {LAYOUT}")
    if not np.all(np.isfinite(matrix)):
        raise ValueError("a number that is not finite, as for frames that the tracker lost")
    if not matrix[:3].any():
        raise ValueError("a matrix of zeros, as for frames that the tracker lost")
    return matrix


def _numbers(file: Path) -> FloatArray:
    """The numbers of a small file, [rows, columns]; [0, 0] where the rows are not equally long."""
    try:
        check_file(file, LAYOUT, _LARGEST_FILE)
    except OSError as error:
        raise FormatError(f"{file} cannot be read: {error.strerror}") from error
    lines = [line.split() for line in read_lines(file) if line.strip()]
    if not lines or len({len(line) for line in lines}) != 1:
        return np.zeros((0, 0))
    try:
        return np.array([floats(line) for line in lines])
    except ValueError as error:
        raise FormatError(f"{file}: {error}") from None


def _calibration(file: Path) -> SizelessCamera:
    matrix = _numbers(file)
    if matrix.size == 1:
        return SizelessCamera(_focal(float(matrix[0, 0])))
    if matrix.shape != (3, 3):
        raise ValueError(f"{file.name} is no focal length, and no 3x3 matrix")
    return _pinhole(matrix)


def _pinhole(matrix: FloatArray) -> SizelessCamera:
    fx, fy = _focal(float(matrix[0, 0])), _focal(float(matrix[1, 1]))
    centre = (float(matrix[0, 2]), float(matrix[1, 2]))
    if not all(abs(value) < _LONGEST_FOCAL for value in centre):
        raise ValueError(f"a principal point of {centre}")
    return SizelessCamera(fx, focal_y=None if fx == fy else fy, principal_point=centre)


def _focal(value: float) -> float:
    if not 1 <= value <= _LONGEST_FOCAL:
        raise ValueError(f"a focal length of {value:g} pixels")
    return value


def _parts(path: Path) -> list[_Part]:
    try:
        sides = [(path / side, side, f"{side}/rgb/") for side in _SIDES if (path / side).is_dir()]
        here = path.parent if path.name == "poses" else path
        side = here.name if here.name in _SIDES else ""
        found = sides if path.name != "poses" else []
        parts = [
            _Part(side, prefix, folder / "poses", folder / "rgb", folder / "calibration")
            for folder, side, prefix in found or [(here, side, "rgb/")]
        ]
        return [part for part in parts if part.poses.is_dir() and part.images.is_dir()]
    except OSError:
        return []


def _files(folder: Path, endings: frozenset[str] | set[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(one for one in folder.iterdir() if one.suffix.lower() in endings)


def _names(poses: list[Path], part: _Part) -> list[str]:
    """The image of each pose, by name or else by order."""
    found = _together(poses, _files(part.images, _IMAGES), part.images)
    return [found[pose].name if pose in found else _key(pose) for pose in poses]


def _together(poses: list[Path], others: list[Path], folder: Path) -> dict[Path, Path]:
    """Which of the other files is each pose's: by name, else all of them by order.

    Raises:
        FormatError: neither tells.
    """
    by_name = {_key(other): other for other in others}
    found = {pose: by_name[_key(pose)] for pose in poses if _key(pose) in by_name}
    if found or not others:
        return found
    if len(others) != len(poses):
        raise FormatError(
            f"{folder} has {len(others)} files for {len(poses)} poses, with other names: which "
            "belongs to which? give as many, in one order"
        )
    return dict(zip(poses, others, strict=True))


def _key(file: Path) -> str:
    """The name that the files of one image share: ``frame-000000``."""
    name = file.stem if file.suffix.lower() == ".txt" else stem(file.name)
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name
