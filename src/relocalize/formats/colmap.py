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
from relocalize.errors import FormatError
from relocalize.formats.colmap_files import (
    ImageRow,
    PointRows,
    check_binary,
    ending,
    read_cameras,
    read_images,
    read_points,
)
from relocalize.formats.image_links import place_image
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.posed_images import PosedImages
from relocalize.formats.registration import Registration
from relocalize.geometry import Camera, Convention
from relocalize.place import MapModel, Points, PosedImage, atomic
from relocalize.place.folder import MAP_UNIT
from relocalize.place.model import NO_POINT

NAME = "COLMAP model"
TEXT_NAME = "COLMAP text model"
CONVENTION = Convention("wxyz", "cam_from_world", "RDF", "translation")
_LAYOUT = "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"
_FILES = {f"{what}{end}" for what in ("cameras", "images", "points3D") for end in (".bin", ".txt")}
_MODEL = Path("sparse/0")  # where COLMAP and the tools that read its projects have the first model


def detect(path: Path) -> bool:
    """Whether ``path`` is a binary model's folder, a project folder with one, or a file of one."""
    return any(ending(folder) == ".bin" for folder in _model_folders(path))


def detect_text(path: Path) -> bool:
    """Whether ``path`` is a text model's folder, a project folder with one, or a file of one."""
    return any(ending(folder) == ".txt" for folder in _model_folders(path))


def read_colmap(path: Path) -> Registration:
    """Read a COLMAP model: its folder, a file in it, or a project folder with one model.

    Images without a usable pose are left out and named in `Registration.problems`.

    Raises:
        FormatError: there is no model, there are several, or it cannot be read.
    """
    folders = _model_folders(path)
    if not folders:
        raise FormatError(f"{path} has no COLMAP model (images.bin or images.txt)")
    if len(folders) > 1:
        raise FormatError(
            f"{path} has {len(folders)} COLMAP models; name one: {', '.join(map(str, folders))}"
        )
    folder = folders[0]
    check_binary(folder)
    cameras = read_cameras(folder)
    rows = PoseRows(folder / f"images{ending(folder)}", CONVENTION, _LAYOUT)
    posed: dict[str, ImageRow] = {}
    for row in progress.track(read_images(folder), "images"):
        camera = cameras.get(row.camera, f"there is no camera {row.camera}")
        if row.reason is not None:
            rows.reject(row.where, row.reason)
        elif isinstance(camera, str):
            rows.reject(row.where, f"{row.name}: {camera}")
        elif rows.add(row.where, row.name, row.quat_wxyz, row.translation, camera):
            posed[row.name] = row
    if not posed and not rows.problems:
        raise FormatError(f"{folder} is a COLMAP model without posed images")
    registration = rows.registration(format_name=NAME, unit=MAP_UNIT)
    used = {row.camera for row in posed.values()}
    numbered = {
        number: camera
        for number, camera in sorted(cameras.items())
        if number in used and isinstance(camera, Camera)
    }
    order = {number: index for index, number in enumerate(numbered)}
    registration = replace(
        registration,
        source=folder.name,
        cameras=tuple(numbered.values()),
        poses={
            name: (pose, order[posed[name].camera])
            for name, (pose, _) in registration.poses.items()
        },
    )
    return replace(registration, model=_model(registration, posed, numbered, read_points(folder)))


def _model(
    registration: Registration,
    posed: dict[str, ImageRow],
    cameras: dict[int, Camera],
    points: PointRows,
) -> MapModel:
    images = {}
    lengths = np.zeros(len(points.ids), dtype=np.int64)
    for name in sorted(posed):
        row = posed[name]
        at = np.searchsorted(points.ids, row.point_ids)
        known = points.ids[np.minimum(at, len(points.ids) - 1)] if len(points.ids) else at - 1
        point_rows = np.where(known == row.point_ids, at, NO_POINT)
        point_rows = np.where(row.point_ids < 0, NO_POINT, point_rows)
        np.add.at(lengths, point_rows[point_rows != NO_POINT], 1)
        images[name] = PosedImage(
            name=name,
            camera=cameras[row.camera],
            camera_id=row.camera,
            cam_from_world=registration.poses[name][0],
            keypoints=row.keypoints,
            point_rows=point_rows,
        )
    return MapModel(
        images, Points(points.ids, points.positions, points.colors, points.errors, lengths)
    )


def _model_folders(path: Path) -> list[Path]:
    if path.is_file():
        return [path.parent] if path.name in _FILES and ending(path.parent) else []
    if ending(path):
        return [path]
    return sorted(folder for folder in path.glob("sparse/*") if ending(folder)) or [
        folder for folder in [path / "sparse"] if ending(folder)
    ]


# -- writing ---------------------------------------------------------------------------------


def write_colmap(posed: PosedImages, out: Path) -> None:
    """Write a COLMAP project: ``images/`` and the binary model ``sparse/0``.

    Raises:
        FormatError: an image cannot be placed.
    """
    _write(posed, out, posed.model.write)


def write_colmap_text(posed: PosedImages, out: Path) -> None:
    """Write a COLMAP project: ``images/`` and the text model ``sparse/0``.

    Raises:
        FormatError: an image cannot be placed, or a name has a blank.
    """
    for name in posed.model.images:
        if len(name.split()) != 1:
            raise FormatError(
                f"COLMAP's text files cannot hold the image name {name!r}: it has a blank; "
                "export to colmap, which is binary"
            )
    model = posed.model.to_colmap()
    _write(posed, out, lambda folder: model.write_text(str(folder)))


def _write(posed: PosedImages, out: Path, write_model: Callable[[Path], None]) -> None:
    with atomic.new_folder(out) as folder:
        for name in progress.track(posed.model.images, "images"):
            place_image(posed.files[name], folder / "images" / name)
        (folder / _MODEL).mkdir(parents=True)
        write_model(folder / _MODEL)
