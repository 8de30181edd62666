"""Scenes of ACE, ACE0 and DSAC*: a file per image for its pose, and one for its focal length.

``train|test/rgb``, ``poses``, ``calibration``, whose files belong together in the order of their
names; a pose is a camera-to-world matrix, a calibration the focal length in pixels or the 3x3
matrix. 7-Scenes, 12-Scenes, Cambridge and Wayspots come so from these projects' scripts
(vislearn/dsacstar on GitHub, "Data Structure"; nianticlabs/ace, "Datasets"). Metres, OpenCV axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relocalize.errors import FormatError
from relocalize.formats.lenses import SizelessCamera
from relocalize.formats.matrix_files import (
    CONVENTION,
    LAYOUT,
    files_in,
    focal_length,
    numbers_in,
    pinhole_camera,
    read_matrix,
)
from relocalize.formats.names import stem
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.place.folder import METRE

NAME = "ACE or DSAC* scene"
_SIDES = ("train", "test")
_ENDINGS = (".pose", ".calibration", ".color")
_IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


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


def read(path: Path) -> Registration:
    """Read a scene with its sides as train and test, one side, or its folder of poses."""
    parts = _parts(path)
    if not parts:
        raise FormatError(f"{path} is no {NAME}: it has no train/poses beside train/rgb")
    rows = PoseRows(path, NAME, CONVENTION, LAYOUT)
    for part in parts:
        poses = files_in(part.poses, {".txt"})
        images = _together(poses, files_in(part.images, _IMAGES), part.images)
        calibrations = _together(poses, files_in(part.calibrations, {".txt"}), part.calibrations)
        for pose in poses:
            image = images[pose].name if pose in images else _key(pose)
            with rows.row(part.prefix + pose.name):
                matrix = read_matrix(pose)
                calibration = calibrations.get(pose)
                camera = None if calibration is None else _calibration(calibration)
                rows.add(part.prefix + image, matrix[:3, :3], matrix[:3, 3], camera, side=part.side)
    return rows.registration(unit=METRE, scale_from="the data set's unit, metres")


def _calibration(file: Path) -> SizelessCamera:
    matrix = numbers_in(file)
    if matrix.size == 1:
        return SizelessCamera(focal_length(float(matrix[0, 0])))
    if matrix.shape != (3, 3):
        raise ValueError(f"{file.name} is no focal length, and no 3x3 matrix")
    return pinhole_camera(matrix)


def _parts(path: Path) -> list[_Part]:
    sides = [(path / side, side, f"{side}/rgb/") for side in _SIDES if (path / side).is_dir()]
    here = path.parent if path.name == "poses" else path
    side = here.name if here.name in _SIDES else ""
    found = sides if path.name != "poses" else []
    parts = [
        _Part(side, prefix, folder / "poses", folder / "rgb", folder / "calibration")
        for folder, side, prefix in found or [(here, side, "rgb/")]
    ]
    return [part for part in parts if part.poses.is_dir() and part.images.is_dir()]


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
