"""COLMAP models: a folder of cameras, images and points3D, binary or text, of any version.

Poses are world-to-camera in OpenCV axes, quaternions w first; pixel (0, 0) is the corner of the
first pixel, whose centre is (0.5, 0.5). Source: COLMAP's documentation, "Output Format" and
"Camera Models". Models with rigs and frames keep each image's own pose in the images file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from relocalize import progress
from relocalize.errors import FormatError, PlaceError
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.posed_images import PosedImages, refuse_blanks
from relocalize.formats.registration import Registration
from relocalize.formats.text import is_name
from relocalize.geometry import Camera, Convention, Rigid3, position_error, rotation_error_deg
from relocalize.place import MapModel, atomic
from relocalize.place.colmap_files import (
    ImageRow,
    ending,
    poses_by_frames,
    read_cameras,
    read_images,
    read_points,
)
from relocalize.place.folder import MAP_UNIT

NAME = "COLMAP model"
TEXT_NAME = "COLMAP text model"
CONVENTION = Convention("wxyz", "cam_from_world", "RDF", "translation")
_SAME, _SAME_DEG = 1e-5, 1e-3  # of the coordinates, and degrees: six digits in a text file
_LAYOUT = "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"
_FILES = {f"{what}{end}" for what in ("cameras", "images", "points3D") for end in (".bin", ".txt")}
_MODEL = Path("sparse/0")  # where COLMAP and the tools that read its projects have the first model


def detect(path: Path) -> bool:
    """Whether ``path`` is a binary model's folder, a project or ``sparse`` with one, or a file."""
    return any(ending(folder) == ".bin" for folder in _model_folders(path))


def detect_text(path: Path) -> bool:
    """Whether ``path`` is a text model's folder, a project folder with one, or a file of one."""
    return any(ending(folder) == ".txt" for folder in _model_folders(path))


def read(path: Path) -> Registration:
    """Read a COLMAP model: its folder, a file in it, or a project folder with one model.

    Images without a usable pose are left out and named in `Registration.problems`.
    """
    folders = _model_folders(path)
    if not folders:
        raise FormatError(f"{path} has no COLMAP model (images.bin or images.txt)")
    if len(folders) > 1:
        raise FormatError(
            f"{path} has {len(folders)} COLMAP models; name one: {', '.join(map(str, folders))}"
        )
    try:
        return _read(folders[0])
    except PlaceError as error:
        raise FormatError(str(error)) from error


def _read(folder: Path) -> Registration:
    cameras = read_cameras(folder)
    rows = PoseRows(folder / f"images{ending(folder)}", NAME, CONVENTION, _LAYOUT)
    posed: dict[str, tuple[ImageRow, Camera]] = {}
    by_frames, moved = poses_by_frames(folder), []
    for row in progress.track(read_images(folder), "images"):
        with rows.row(row.where):
            camera = cameras.get(row.camera, f"there is no camera {row.camera}")
            if row.reason is not None:
                raise ValueError(row.reason)
            if not is_name(row.name):
                raise ValueError(f"{row.name[:60]!a} is no name")
            if isinstance(camera, str):
                raise ValueError(f"{row.name}: {camera}")
            pose = rows.add(row.name, row.quat_wxyz, row.translation, camera)
            frame_pose = by_frames.get(row.number)
            if frame_pose is not None and _differ(pose, frame_pose):
                # What COLMAP itself takes where the two disagree.
                moved.append(row.name)
                rows.replace(row.name, frame_pose.quat_wxyz, frame_pose.translation)
            posed[row.name] = row, camera
    if not posed and not rows.problems:
        raise FormatError(f"{folder} is a COLMAP model without posed images")
    registration = rows.registration(unit=MAP_UNIT)
    if moved:
        registration = registration.remarked(
            f"images and frames of the model disagree on {len(moved)} of {len(posed)} poses, such "
            f"as that of {moved[0]}: those of the frames are read, as COLMAP does; where they are "
            "the stale ones, delete its rigs and frames files"
        )
    # Two cameras with equal numbers stay two: the file says they are.
    numbered = {row.camera: camera for row, camera in posed.values()}
    order = {number: index for index, number in enumerate(sorted(numbered))}
    poses = {name: pose for name, (pose, _) in registration.poses.items()}
    images = [(row, camera, poses[name]) for name, (row, camera) in posed.items()]
    return replace(
        registration,
        source=folder.name,
        cameras=tuple(numbered[number] for number in order),
        poses={name: (pose, order[posed[name][0].camera]) for name, pose in poses.items()},
        model=MapModel.of_rows(images, read_points(folder)),
    )


def _differ(world_from_cam: Rigid3, cam_from_world: Rigid3) -> bool:
    """Whether two poses are further apart than two ways of writing one."""
    other = cam_from_world.inverse()
    size = 1.0 + float(np.abs(other.translation).max())
    off = position_error(world_from_cam, other)
    return off > _SAME * size or rotation_error_deg(world_from_cam, other) > _SAME_DEG


def _model_folders(path: Path) -> list[Path]:
    if path.is_file():
        return [path.parent] if path.name in _FILES and ending(path.parent) else []
    if ending(path):
        return [path]
    sparse = path if path.name == "sparse" else path / "sparse"
    return sorted(folder for folder in sparse.glob("*") if ending(folder)) or [
        folder for folder in [sparse] if ending(folder)
    ]


def write(posed: PosedImages, out: Path) -> None:
    """Write a COLMAP project: ``images/`` and the binary model ``sparse/0``."""
    _write(posed, out, posed.model.write)


def write_text(posed: PosedImages, out: Path) -> None:
    """Write a COLMAP project: ``images/`` and the text model ``sparse/0``."""
    refuse_blanks(posed.model.images, "COLMAP's text files", "colmap, which is binary")
    model = posed.model.to_colmap()
    _write(posed, out, lambda folder: model.write_text(str(folder)))


def _write(posed: PosedImages, out: Path, write_model: Callable[[Path], None]) -> None:
    with atomic.new_folder(out) as folder:
        posed.place(folder / "images")
        (folder / _MODEL).mkdir(parents=True)
        write_model(folder / _MODEL)
