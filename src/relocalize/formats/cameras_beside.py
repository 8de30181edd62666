"""Intrinsics and unit beside a format that has no place for them: ``cameras.json``.

A file of ours, which other tools pass over: ``{"unit": ..., "cameras": [{"model", "width",
"height", "params"}...], "images": {name: row of cameras}}``, models and parameters as COLMAP has
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from relocalize.errors import FormatError, GeometryError
from relocalize.formats.json_file import JsonObject, read_json_object
from relocalize.formats.registration import Registration
from relocalize.formats.text import one_line
from relocalize.geometry import Camera
from relocalize.place import atomic
from relocalize.place.folder import MAP_UNIT, METRE

FILE = "cameras.json"


def write_cameras(folder: Path, camera_of: Mapping[str, Camera], unit: str) -> None:
    """Write the cameras of images, by the names that they have in the files of ``folder``."""
    rows = {camera: row for row, camera in enumerate(dict.fromkeys(camera_of.values()))}
    atomic.write_json(
        folder / FILE,
        {
            "unit": unit,
            "cameras": [
                {
                    "model": camera.model,
                    "width": camera.width,
                    "height": camera.height,
                    "params": list(camera.params),
                }
                for camera in rows
            ],
            "images": {name: rows[camera] for name, camera in camera_of.items()},
        },
    )


def with_cameras(registration: Registration, folder: Path) -> Registration:
    """The registration with the cameras and the unit of the file in ``folder``, if there is one.

    Images that the file does not name keep what they have.

    Raises:
        FormatError: the file is there and is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return registration
    content = read_json_object(path)
    unit = content.text("unit")
    if unit not in {METRE, MAP_UNIT}:
        raise content.wrong("unit", f"{METRE!r} or {MAP_UNIT!r}")
    beside = [
        _camera(path, JsonObject.of(one, f"{path}, cameras")) for one in content.array("cameras")
    ]
    images = content.child("images")
    first = len(registration.cameras)
    poses = {}
    for name, (pose, own) in registration.poses.items():
        row = images.whole(name) if name in images else None
        if row is not None and not 0 <= row < len(beside):
            raise images.wrong(name, f"a row of the {len(beside)} cameras")
        poses[name] = (pose, own if row is None else first + row)
    return replace(
        registration,
        cameras=(*registration.cameras, *beside),
        poses=poses,
        unit=unit,
        scale_from=f"{FILE} beside the file" if unit == METRE else None,
    )


def _camera(path: Path, one: JsonObject) -> Camera:
    params = [value for value in one.array("params") if isinstance(value, int | float)]
    try:
        return Camera(one.text("model"), one.whole("width"), one.whole("height"), tuple(params))
    except (GeometryError, OverflowError) as error:
        raise FormatError(f"{path}: {one_line(str(error))}") from None
