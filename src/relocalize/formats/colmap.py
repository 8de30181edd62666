"""COLMAP models: a folder of cameras, images and points3D, binary or text.

Source: COLMAP's documentation, "Output Format". Poses are world-to-camera in OpenCV axes.
"""

from __future__ import annotations

from pathlib import Path

from relocalize.errors import FormatError, PlaceError
from relocalize.formats.registration import Registration
from relocalize.place import MapModel
from relocalize.place.folder import MAP_UNIT

NAME = "COLMAP model"


def detect(path: Path) -> bool:
    """Whether ``path`` is a model's folder, holds models in ``sparse``, or is a file of a model."""
    return bool(_model_folders(path))


def read_colmap(path: Path) -> Registration:
    """Read a COLMAP model: its folder, a file in it, or a project folder with one model.

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
    try:
        model = MapModel.read(folders[0])
    except PlaceError as error:
        raise FormatError(str(error)) from error
    if not model.images:
        raise FormatError(f"{folders[0]} is a COLMAP model without posed images")
    index_of = {camera_id: index for index, camera_id in enumerate(model.cameras)}
    return Registration(
        source=folders[0].name,
        format=NAME,
        cameras=tuple(model.cameras.values()),
        poses={
            name: (image.cam_from_world, index_of[image.camera_id])
            for name, image in model.images.items()
        },
        unit=MAP_UNIT,
        model=model,
    )


def _model_folders(path: Path) -> list[Path]:
    if path.is_file():
        own = {f"{what}{end}" for what in ("cameras", "images", "points3D") for end in _ENDS}
        return [path.parent] if path.name in own and _is_model(path.parent) else []
    if _is_model(path):
        return [path]
    return sorted(folder for folder in path.glob("sparse/*") if _is_model(folder)) or [
        folder for folder in [path / "sparse"] if _is_model(folder)
    ]


_ENDS = (".bin", ".txt")


def _is_model(folder: Path) -> bool:
    return any(
        (folder / f"cameras{end}").is_file() and (folder / f"images{end}").is_file()
        for end in _ENDS
    )
