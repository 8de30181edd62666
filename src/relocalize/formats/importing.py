"""Making a Place from pictures and the poses that another tool gave them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from relocalize import progress
from relocalize.errors import FormatError
from relocalize.formats.names import match_names
from relocalize.formats.pictures import (
    Picture,
    find_pictures,
    frame_index,
    link_pictures,
    say_some,
)
from relocalize.formats.posed_model import distinct_cameras, posed_model
from relocalize.formats.registration import Registration
from relocalize.formats.registry import AUTO, read_registration
from relocalize.formats.text import read_lines
from relocalize.place import (
    Capture,
    CapturedImage,
    DroppedFrame,
    Frame,
    Place,
    Split,
    atomic,
)
from relocalize.place.folder import MAP_UNIT, METRE, checked_name


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
    say_some(registration.problems, "rows were left out")
    found, without_picture, ambiguous, left_out = find_pictures(
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
            link_pictures(place, found, settings.capture)
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


# -- records ---------------------------------------------------------------------------------


def _capture(
    registration: Registration,
    source: Path,
    found: Sequence[Picture],
    left_out: tuple[DroppedFrame, ...],
    name: str,
) -> Capture:
    cameras, camera_rows = distinct_cameras(registration, found)
    return Capture(
        name=name,
        kind="imported",
        source=source.name,
        cameras=cameras,
        images=tuple(
            CapturedImage(picture.name, camera=row, frame_index=frame_index(picture.name))
            for picture, row in zip(found, camera_rows, strict=True)
        ),
        dropped=left_out,
    )


def _write_poses(
    place: Place, registration: Registration, found: Sequence[Picture], unit: str
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
        posed_model(registration, found).write(folder)


# -- splits ----------------------------------------------------------------------------------


def _listed_split(train: Path, test: Path, found: Sequence[Picture], name: str) -> Split:
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


def _fingerprint(registration: Registration, found: Sequence[Picture], unit: str) -> str:
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


def _is_there(place: Place, capture: str, fingerprint: str, found: Sequence[Picture]) -> bool:
    return (
        capture in place.captures
        and place.capture(capture).settings.get("fingerprint") == fingerprint
        and place.has_map
        and all(picture.name in place.map.images for picture in found)
        and all(place.image_path(picture.name).is_file() for picture in found)
    )
