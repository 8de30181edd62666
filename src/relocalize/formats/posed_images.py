"""What a writer writes, and what all writers share: placed images, and intrinsics on the side.

``cameras.json`` is a file of ours beside formats that have no place for intrinsics and unit; other
tools pass over it: ``{"unit": ..., "cameras": [{"model", "width", "height", "params"}...],
"images": {name: row of cameras}}``, models and parameters as COLMAP has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from relocalize import progress
from relocalize.errors import FormatError, GeometryError
from relocalize.formats.json_file import read_json
from relocalize.formats.registration import Registration
from relocalize.formats.text import one_line
from relocalize.geometry import Camera
from relocalize.place import MapModel, atomic
from relocalize.place.folder import METRE
from relocalize.plain import from_plain, to_plain

CAMERAS_FILE = "cameras.json"


@dataclass(frozen=True, eq=False)
class PosedImages:
    """Posed images for another tool, each with its image."""

    model: MapModel  # poses, cameras, points and observations, by image name
    files: dict[str, Path]  # the image's file by image name
    unit: str  # ``metre`` or ``map unit``
    train: tuple[str, ...] = ()  # names of the train images, where a split was asked for
    test: tuple[str, ...] = ()  # names of the test images, likewise
    # seconds by image name, where the captures know them
    times: dict[str, float] = field(default_factory=dict)

    @property
    def training(self) -> tuple[str, ...]:
        """The train images; without a split, all of them."""
        return self.train if self.train or self.test else tuple(self.files)

    def place(self, folder: Path) -> None:
        """Place every image below ``folder``, under its name; raises as `place_image`."""
        for name, file in progress.track(self.files.items(), "images"):
            place_image(file, folder / name)


def refuse_blanks(names: Iterable[str], what: str, instead: str) -> None:
    """Raise `FormatError` where an image's name has a blank, at which rows of text part."""
    for name in names:
        if len(name.split()) != 1:
            raise FormatError(
                f"{what} cannot hold the image name {name!r}: it has a blank, at which every "
                f"reader parts its rows; rename the image, or export to {instead}"
            )


def place_image(file: Path, target: Path) -> None:
    """Hard-link ``file`` to ``target``, or copy it where links cannot be.

    Raises:
        FormatError: the image cannot be read, or the target not be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic.link_file(file.resolve(), target)
    except OSError as error:
        raise FormatError(f"image {file} cannot be placed at {target}: {error.strerror}") from None


def write_cameras(folder: Path, camera_of: Mapping[str, Camera], unit: str) -> None:
    """Write the cameras of images, by the names that they have in the files of ``folder``."""
    rows = {camera: row for row, camera in enumerate(dict.fromkeys(camera_of.values()))}
    images = {name: rows[camera] for name, camera in camera_of.items()}
    content = {"unit": unit, "cameras": to_plain(list(rows)), "images": images}
    atomic.write_json(folder / CAMERAS_FILE, content)


def with_cameras(registration: Registration, folder: Path) -> Registration:
    """The registration with the cameras and the unit of the file in ``folder``, if there is one.

    Images that the file does not name keep what they have.

    Raises:
        FormatError: the file is there and is damaged.
    """
    path = folder / CAMERAS_FILE
    if not path.is_file():
        return registration
    try:
        beside = from_plain(_Beside, read_json(path))
    except (GeometryError, ValueError, OverflowError) as error:
        raise FormatError(f"{path}: {one_line(str(error))}") from None
    first = len(registration.cameras)
    poses = {}
    for name, (pose, own) in registration.poses.items():
        row = beside.images.get(name)
        if row is not None and not 0 <= row < len(beside.cameras):
            raise FormatError(
                f"{path}: {name!r} has camera {row}, want one of the {len(beside.cameras)} cameras"
            )
        poses[name] = (pose, own if row is None else first + row)
    return replace(
        registration,
        cameras=(*registration.cameras, *(replace(one, known="exact") for one in beside.cameras)),
        poses=poses,
        unit=beside.unit,
        scale_from=f"{CAMERAS_FILE} beside the file" if beside.unit == METRE else None,
    )


@dataclass(frozen=True)
class _Beside:
    """What the file says."""

    unit: Literal["metre", "map unit"]
    cameras: tuple[Camera, ...]
    images: dict[str, int]
