"""Making a Place from pictures and the poses that another tool gave them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from relocalize import progress
from relocalize.errors import FormatError
from relocalize.formats.names import match_names
from relocalize.formats.registration import Registration
from relocalize.formats.registry import AUTO, read_registration
from relocalize.formats.text import read_lines
from relocalize.geometry import Camera
from relocalize.place import (
    Capture,
    CapturedImage,
    DroppedFrame,
    Frame,
    MapModel,
    Place,
    Points,
    PosedImage,
    Split,
    atomic,
)
from relocalize.place.folder import MAP_UNIT, METRE, checked_name
from relocalize.place.model import NO_POINT

# What `Place.read_image` decodes.
IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_SAID = 5  # lines said of each kind of problem; all of them are in the capture's record
_LARGEST_SIDE = 65535  # JPEG's limit; a header that says more is not to be believed


@dataclass(frozen=True)
class ImportSettings:
    """How a registration is imported.

    Attributes:
        format: a key of `FORMATS`, or ``auto``.
        capture: name of the capture that the pictures become.
        unit: ``metre`` or ``map unit``; None takes what the format states.
        split: name of the split that the train and test lists become.
    """

    format: str = AUTO
    capture: str = "imported"
    unit: str | None = None
    split: str = "imported"


@dataclass(frozen=True)
class ImportReport:
    """What came of an import.

    Attributes:
        capture: its name.
        format: the format's name.
        listed: images in the file.
        posed: images that are now in the Place with a pose.
        without_picture: listed images whose picture was not found.
        ambiguous: listed images whose name could mean several pictures.
        left_out: listed images whose picture cannot be used, and pictures without a pose.
        problems: rows of the file that were left out.
        points: map points that came along.
        unit: of the poses.
        split: name of the split written, or None.
        train: images in it.
        test: images in it.
        unchanged: whether all of it was there already.
    """

    capture: str
    format: str
    listed: int
    posed: int
    without_picture: tuple[str, ...]
    ambiguous: tuple[str, ...]
    left_out: tuple[DroppedFrame, ...]
    problems: tuple[str, ...]
    points: int
    unit: str
    split: str | None
    train: int
    test: int
    unchanged: bool


@dataclass(frozen=True)
class _Picture:
    """A picture to import: its listed name, file, and place below ``images/``."""

    listed: str
    file: Path
    name: str
    width: int
    height: int


def import_registration(
    source: Path,
    place: Path | Place,
    *,
    images: Path,
    train: Path | None = None,
    test: Path | None = None,
    settings: ImportSettings = ImportSettings(),
) -> ImportReport:
    """Bring pictures and their poses from another tool into a Place.

    Pictures are hard-linked (copied across disks) into ``images/<capture>/`` under their names
    below the folder ``images``; ``map/`` becomes a COLMAP model of every posed image. Every step
    is whole or not there, the same import again changes nothing, and one after a kill goes on.

    Args:
        source: the file or folder with the poses.
        place: the Place or its folder, made if there is none; it has no poses yet, or those of
            this capture's last import.
        images: folder with the pictures, searched with its folders.
        train: text file with a name per line; with ``test``, becomes a split.
        test: the same for test images.
        settings: names, format, unit.

    Raises:
        FormatError: a file is not what it should be, or no image has both picture and pose.
        PlaceError: the Place is locked, or a name cannot be a file name.
    """
    checked_name(settings.capture, "capture")
    checked_name(settings.split, "split")
    if settings.unit not in {None, METRE, MAP_UNIT}:
        raise FormatError(f"unit {settings.unit!r}; want {METRE!r} or {MAP_UNIT!r}")
    if (train is None) != (test is None):
        raise FormatError("give both --train and --test, or neither")
    registration = read_registration(source, settings.format)
    _say_some(registration.problems, "rows were left out")
    found, without_picture, ambiguous, left_out = _find_pictures(
        registration, images, settings.capture
    )
    split = _listed_split(train, test, found, settings.split) if train and test else None
    unit = settings.unit or registration.unit
    if not isinstance(place, Place):
        place = Place.open_or_create(place)
    with place.lock():
        _refuse_other_poses(place, settings.capture)
        fingerprint = _fingerprint(registration, found, unit)
        unchanged = _is_there(place, settings.capture, fingerprint, found)
        if not unchanged:
            capture = _capture(registration, source, found, left_out, settings.capture)
            _link_pictures(place, found, settings.capture)
            place.write_capture(capture)
            _write_poses(place, registration, found, unit)
            place.write_capture(replace(capture, settings={"fingerprint": fingerprint}))
        if split is not None and not _has_split(place, split):
            place.write_split(split)
    return ImportReport(
        capture=settings.capture,
        format=registration.format,
        listed=len(registration.poses),
        posed=len(found),
        without_picture=without_picture,
        ambiguous=ambiguous,
        left_out=left_out,
        problems=registration.problems,
        points=len(place.points),
        unit=unit,
        split=None if split is None else split.name,
        train=0 if split is None else len(split.train),
        test=0 if split is None else len(split.test),
        unchanged=unchanged,
    )


def _refuse_other_poses(place: Place, capture: str) -> None:
    """Poses of two tools are in two frames; one map can only hold one."""
    if not place.has_map:
        return
    others = [name for name in place.map.images if not name.startswith(f"{capture}/")]
    imported = str(place.poses_from or "").startswith("imported: ")
    if others or not imported:
        raise FormatError(
            f"{place.root} already has poses of {len(place.map.images)} images "
            f"({place.poses_from}), in a frame of their own; import into a new Place"
        )


# -- pictures --------------------------------------------------------------------------------


def _find_pictures(
    registration: Registration, images: Path, capture: str
) -> tuple[list[_Picture], tuple[str, ...], tuple[str, ...], tuple[DroppedFrame, ...]]:
    """The usable pictures with a pose, in name order, and what is missing or left out."""
    if not images.is_dir():
        raise FormatError(f"{images} is no folder; --images takes the folder with the pictures")
    files = {
        path.relative_to(images).as_posix(): path
        for path in sorted(images.rglob("*"))
        if path.suffix.lower() in IMAGE_ENDINGS and path.is_file()
    }
    match = match_names(registration.poses, files)
    left_out: list[DroppedFrame] = []
    found: list[_Picture] = []
    for listed, present in progress.track(match.present_of.items(), "picture headers"):
        try:
            width, height = _picture_size(files[present])
            _check_size(registration, listed, width, height)
        except ValueError as error:
            left_out.append(DroppedFrame(present, str(error)))
            continue
        found.append(_Picture(listed, files[present], f"{capture}/{present}", width, height))
    found.sort(key=lambda picture: natural_key(picture.name))
    unused = set(files) - set(match.present_of.values())
    _say_some([f"{d.source}: {d.reason}" for d in left_out], "pictures were left out")
    _say_some(match.absent, "listed images have no picture and were left out")
    _say_some(match.ambiguous, "listed names could mean several pictures and were left out")
    left_out += [
        DroppedFrame(name, f"no pose in {registration.source}")
        for name in sorted(unused, key=natural_key)
    ]
    if not found:
        raise FormatError(
            f"none of the {len(registration.poses)} images of {registration.source} has a usable "
            f"picture among the {len(files)} in {images}; a listed name is "
            f"{next(iter(registration.poses))!r}"
            + (f", a picture is {min(files)!r}" if files else "")
        )
    return found, match.absent, match.ambiguous, tuple(left_out)


def _picture_size(path: Path) -> tuple[int, int]:
    """Width and height from the picture's header; raises ValueError."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise ValueError(f"no readable picture ({type(error).__name__})") from error
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise ValueError(f"a picture of {width} x {height} pixels")
    return width, height


def _check_size(registration: Registration, listed: str, width: int, height: int) -> None:
    """Refuse a picture that cannot be a resized version of what the camera took."""
    index = registration.poses[listed][1]
    camera = None if index is None else registration.cameras[index]
    if not isinstance(camera, Camera):
        return
    stretch = (width / camera.width) / (height / camera.height)
    # Rounding to whole pixels changes the shape of a 100 pixel thumbnail by 1%.
    if abs(stretch - 1) > 0.02:
        raise ValueError(
            f"{width} x {height} pixels, but its camera has {camera.width} x {camera.height}"
        )


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts names by their numbers: frame-9 before frame-10."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts))


def _frame_index(name: str) -> int | None:
    digits = re.search(r"(\d{1,18})$", Path(name).name.split(".", 1)[0])
    return int(digits.group(1)) if digits else None


def _link_pictures(place: Place, found: Sequence[_Picture], capture: str) -> None:
    with atomic.new_folder(place.images_dir / capture) as folder:
        for picture in progress.track(found, "pictures into the Place"):
            target = folder / picture.name.removeprefix(f"{capture}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(picture.file.resolve(), target)
            except OSError:  # another disk, or a file system without links
                shutil.copyfile(picture.file, target)


# -- records ---------------------------------------------------------------------------------


def _cameras(
    registration: Registration, found: Sequence[_Picture]
) -> tuple[tuple[Camera, ...], list[int]]:
    """The distinct cameras of the pictures, and each picture's index among them."""
    index_of: dict[tuple[int | None, Camera], int] = {}
    rows = []
    for picture in found:
        camera = registration.camera_of(picture.listed, picture.width, picture.height)
        # Two cameras of the file with equal numbers stay two: the file says they are.
        key = (registration.poses[picture.listed][1], camera)
        rows.append(index_of.setdefault(key, len(index_of)))
    return tuple(camera for _, camera in index_of), rows


def _capture(
    registration: Registration,
    source: Path,
    found: Sequence[_Picture],
    left_out: tuple[DroppedFrame, ...],
    name: str,
) -> Capture:
    cameras, camera_rows = _cameras(registration, found)
    return Capture(
        name=name,
        kind="imported",
        source=source.name,
        cameras=cameras,
        images=tuple(
            CapturedImage(picture.name, camera=row, frame_index=_frame_index(picture.name))
            for picture, row in zip(found, camera_rows, strict=True)
        ),
        dropped=left_out,
    )


def _write_poses(
    place: Place, registration: Registration, found: Sequence[_Picture], unit: str
) -> None:
    scale_from = registration.scale_from if unit == registration.unit else "stated at import"
    # Where the new poses come from is said first: a kill before the map leaves no map, not one
    # of unknown origin.
    shutil.rmtree(place.map_dir, ignore_errors=True)
    place.record_poses(
        poses_from=f"imported: {registration.source} ({registration.format})",
        frame=Frame(unit=unit, scale_from=scale_from if unit == METRE else None),
    )
    with atomic.new_folder(place.map_dir) as folder:
        _posed_model(registration, found).write(folder)


def _posed_model(registration: Registration, found: Sequence[_Picture]) -> MapModel:
    """The posed images under their names in the Place, with the points that they observe."""
    cameras, camera_rows = _cameras(registration, found)
    points, images = _no_points(), {}
    new_row: dict[int, int] = {}
    if registration.model is not None:
        points, new_row = _observed_points(
            registration.model, [picture.listed for picture in found]
        )
    for picture, row in sorted(zip(found, camera_rows, strict=True), key=lambda pair: pair[0].name):
        keypoints = np.zeros((0, 2), dtype=np.float32)
        point_rows = np.zeros(0, dtype=np.int64)
        if registration.model is not None:
            theirs = registration.model.images[picture.listed]
            size = np.array([theirs.camera.width, theirs.camera.height])
            scale = np.array([picture.width, picture.height]) / size
            keypoints = (theirs.keypoints * scale).astype(np.float32)
            point_rows = np.array(
                [new_row.get(int(old), NO_POINT) for old in theirs.point_rows], dtype=np.int64
            )
        images[picture.name] = PosedImage(
            name=picture.name,
            camera=cameras[row],
            camera_id=row + 1,
            cam_from_world=registration.poses[picture.listed][0],
            keypoints=keypoints,
            point_rows=point_rows,
        )
    return MapModel(images, points)


def _observed_points(model: MapModel, names: Sequence[str]) -> tuple[Points, dict[int, int]]:
    """The points that at least two of the images observe, and their new row by old row."""
    rows = [np.unique(model.images[name].point_rows) for name in names]
    values, counts = np.unique(np.concatenate(rows), return_counts=True)
    kept = values[(counts >= 2) & (values != NO_POINT)]
    points = Points(
        ids=model.points.ids[kept],
        positions=model.points.positions[kept],
        colors=model.points.colors[kept],
        reprojection_errors=model.points.reprojection_errors[kept],
        track_lengths=counts[(counts >= 2) & (values != NO_POINT)],
    )
    return points, {int(old): new for new, old in enumerate(kept)}


def _no_points() -> Points:
    return Points(
        ids=np.zeros(0, dtype=np.int64),
        positions=np.zeros((0, 3)),
        colors=np.zeros((0, 3), dtype=np.uint8),
        reprojection_errors=np.zeros(0),
        track_lengths=np.zeros(0, dtype=np.int64),
    )


# -- splits ----------------------------------------------------------------------------------


def _listed_split(train: Path, test: Path, found: Sequence[_Picture], name: str) -> Split:
    """The split of two lists of names, over the images that have a pose."""
    sides = []
    for path in (train, test):
        rows = [line.strip() for line in read_lines(path)]
        listed = [row for row in rows if row and not row.startswith("#")]
        names = {picture.name.split("/", 1)[1]: picture.name for picture in found}
        match = match_names(listed, names)
        if not match.present_of:
            raise FormatError(f"none of the {len(listed)} names in {path} is an image with a pose")
        missing = len(set(listed)) - len(match.present_of)
        if missing:
            progress.say(f"{path}: {missing} of {len(set(listed))} names have no posed image")
        order = {picture.name: row for row, picture in enumerate(found)}
        sides.append(
            sorted((names[one] for one in match.present_of.values()), key=order.__getitem__)
        )
    both = set(sides[0]) & set(sides[1])
    if both:
        raise FormatError(f"{len(both)} images are in {train} and in {test}, such as {min(both)!r}")
    settings = {"train": train.name, "test": test.name}
    return Split(name, "list", train=tuple(sides[0]), test=tuple(sides[1]), settings=settings)


def _has_split(place: Place, split: Split) -> bool:
    return split.name in place.split_names and place.split(split.name) == split


# -- doing nothing twice ---------------------------------------------------------------------


def _fingerprint(registration: Registration, found: Sequence[_Picture], unit: str) -> str:
    """Changes when poses, cameras, points, pictures or unit do."""
    digest = hashlib.sha256()
    for picture in found:
        status = picture.file.stat()
        camera = registration.camera_of(picture.listed, picture.width, picture.height)
        fact: list[Any] = [picture.name, status.st_size, status.st_mtime_ns, asdict(camera)]
        digest.update(json.dumps(fact).encode())
        digest.update(registration.poses[picture.listed][0].matrix.tobytes())
    if registration.model is not None:
        digest.update(registration.model.points.positions.tobytes())
    digest.update(f"{registration.source} {registration.format} {unit}".encode())
    return digest.hexdigest()


def _is_there(place: Place, capture: str, fingerprint: str, found: Sequence[_Picture]) -> bool:
    return (
        capture in place.captures
        and place.capture(capture).settings.get("fingerprint") == fingerprint
        and place.has_map
        and all(picture.name in place.map.images for picture in found)
        and all(place.image_path(picture.name).is_file() for picture in found)
    )


def _say_some(lines: Sequence[str], what: str) -> None:
    if lines:
        more = f", and {len(lines) - _SAID} more" if len(lines) > _SAID else ""
        progress.say(f"{len(lines)} {what}: " + "; ".join(lines[:_SAID]) + more)
