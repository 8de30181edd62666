"""Making a Place from images and the poses that another tool gave them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relocalize import progress
from relocalize.errors import FormatError
from relocalize.formats.images import ImageFile, find_images, frame_index
from relocalize.formats.names import match_names
from relocalize.formats.posed_images import place_image
from relocalize.formats.registration import Registration
from relocalize.formats.registry import AUTO, read_registration
from relocalize.formats.text import read_lines, rows_in
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

_ROWS_SAID = 20  # rows that are left out and have a line each; more would hide the outcome


@dataclass(frozen=True)
class ImportSettings:
    """How a registration is imported.

    Attributes:
        format: a key of `FORMATS`, or ``auto``; not looked at for a file that is read already.
        capture: name of the capture that the images become.
        unit: ``metre`` or ``map unit``; None takes what the format states.
        split: name of the split that the train and test lists become.
        convention_from: what makes the poses' convention believable, for the Place's record.
    """

    format: str = AUTO
    capture: str = "imported"
    unit: str | None = None
    split: str = "imported"
    convention_from: str = "its format, not tested"


@dataclass(frozen=True)
class ImportReport:
    """What came of an import.

    Attributes:
        capture: its name.
        format: the format's name.
        convention: that the poses were read under.
        convention_from: what makes it believable.
        listed: images in the file.
        posed: images that are now in the Place with a pose.
        without_image: listed images whose image was not found.
        ambiguous: listed images whose name could mean several images.
        left_out: listed images whose image cannot be used, and images without a pose.
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
    convention: str
    convention_from: str
    listed: int
    posed: int
    without_image: tuple[str, ...]
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
    source: Path | Registration,
    place: Path | Place,
    *,
    images: Path,
    train: Path | None = None,
    test: Path | None = None,
    settings: ImportSettings = ImportSettings(),
) -> ImportReport:
    """Bring images and their poses from another tool into a Place.

    Images are hard-linked (copied across disks) into ``images/<capture>/`` under their names
    below the folder ``images``; ``map/`` becomes a COLMAP model of every posed image. Every step
    is whole or not there, the same import again changes nothing, and one after a kill goes on.

    Args:
        source: the file or folder with the poses, or what was read from it.
        place: the Place or its folder, made if there is none; it has no poses yet, or those of
            this capture's last import.
        images: folder with the images, searched with its folders.
        train: text file with a name per line; with ``test``, becomes a split. Without them the
            format's own lists do, where it has such.
        test: the same for test images.
        settings: names, format, unit.

    Raises:
        FormatError: a file is not what it should be, or no image has both image and pose.
        PlaceError: the Place is locked, or a name cannot be a file name.
    """
    checked_name(settings.capture, "capture")
    checked_name(settings.split, "split")
    if settings.unit not in {None, METRE, MAP_UNIT}:
        raise FormatError(f"unit {settings.unit!r}; want {METRE!r} or {MAP_UNIT!r}")
    if (train is None) != (test is None):
        raise FormatError("give both --train and --test, or neither")
    registration = source
    if isinstance(registration, Path):
        registration = read_registration(registration, settings.format)
    for problem in registration.problems[:_ROWS_SAID]:
        progress.say(f"left out: {problem}")
    if len(registration.problems) > _ROWS_SAID:
        progress.say(f"left out: {len(registration.problems) - _ROWS_SAID} more rows (--json: all)")
    for remark in registration.remarks:
        progress.say(f"{registration.source}: {remark}")
    files = find_images(registration, images, settings.capture)
    files.say(registration)
    found = files.usable
    split = _split(registration, train, test, found, settings.split)
    unit = settings.unit or registration.unit
    place = Place.of(place, create=True)
    with place.lock():
        _refuse_other_poses(place, settings.capture)
        fingerprint = _fingerprint(registration, found, unit)
        unchanged = _is_there(place, settings.capture, fingerprint, found)
        if not unchanged:
            capture = _capture(registration, found, files.left_out, settings.capture)
            # In one step for every reader.
            with atomic.new_folder(place.images_dir / settings.capture) as folder:
                for image in progress.track(found, "images into the Place"):
                    place_image(image.file, folder / image.name.removeprefix(f"{capture.name}/"))
            place.write_capture(capture)
            _write_poses(place, registration, found, unit, settings.convention_from)
            place.write_capture(
                replace(
                    capture,
                    settings={
                        "fingerprint": fingerprint,
                        "convention": registration.stated.convention.name,
                        "convention_from": settings.convention_from,
                        "without_image": list(files.absent),
                        "columns": {
                            image.name: registration.columns[image.listed]
                            for image in found
                            if image.listed in registration.columns
                        },
                    },
                )
            )
        if split is not None and (
            split.name not in place.split_names or place.split(split.name) != split
        ):
            place.write_split(split)
    return ImportReport(
        capture=settings.capture,
        format=registration.format,
        convention=registration.stated.convention.name,
        convention_from=settings.convention_from,
        listed=len(registration.poses),
        posed=len(found),
        without_image=files.absent,
        ambiguous=files.ambiguous,
        left_out=files.left_out,
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
    found: Sequence[ImageFile],
    left_out: tuple[DroppedFrame, ...],
    name: str,
) -> Capture:
    cameras, camera_rows = distinct_cameras(registration, found)
    return Capture(
        name=name,
        kind="imported",
        source=registration.source,
        cameras=cameras,
        images=tuple(
            CapturedImage(image.name, camera=row, frame_index=frame_index(image.name))
            for image, row in zip(found, camera_rows, strict=True)
        ),
        dropped=left_out,
    )


def _write_poses(
    place: Place,
    registration: Registration,
    found: Sequence[ImageFile],
    unit: str,
    convention_from: str,
) -> None:
    scale_from = registration.scale_from if unit == registration.unit else "stated at import"
    # Where the new poses come from is said first: a kill before the map leaves no map, not one
    # of unknown origin.
    shutil.rmtree(place.map_dir, ignore_errors=True)
    place.record_poses(
        poses_from=f"imported: {registration.source} ({registration.format}; "
        f"{registration.stated.convention.name} by {convention_from})",
        frame=Frame(unit=unit, scale_from=scale_from if unit == METRE else None),
    )
    with atomic.new_folder(place.map_dir) as folder:
        posed_model(registration, found).write(folder)


def distinct_cameras(
    registration: Registration, found: Sequence[ImageFile]
) -> tuple[tuple[Camera, ...], list[int]]:
    """The distinct cameras of the images, and each image's index among them."""
    index_of: dict[tuple[int | None, Camera], int] = {}
    rows = []
    for image in found:
        camera = registration.camera_of(image.listed, image.width, image.height)
        # Two cameras of the file with equal numbers stay two: the file says they are.
        key = (registration.poses[image.listed][1], camera)
        rows.append(index_of.setdefault(key, len(index_of)))
    return tuple(camera for _, camera in index_of), rows


def posed_model(registration: Registration, found: Sequence[ImageFile]) -> MapModel:
    """The posed images under their names in the Place, with the points that they observe."""
    cameras, camera_rows = distinct_cameras(registration, found)
    model = registration.model and registration.model.only(image.listed for image in found)
    images = {}
    for image, row in sorted(zip(found, camera_rows, strict=True), key=lambda pair: pair[0].name):
        keypoints = np.zeros((0, 2), dtype=np.float32)
        point_rows = np.zeros(0, dtype=np.int64)
        if model is not None:
            theirs = model.images[image.listed]
            size = np.array([theirs.camera.width, theirs.camera.height])
            scale = np.array([image.width, image.height]) / size
            keypoints = (theirs.keypoints * scale).astype(np.float32)
            point_rows = theirs.point_rows
        images[image.name] = PosedImage(
            name=image.name,
            camera=cameras[row],
            camera_id=row + 1,
            cam_from_world=registration.poses[image.listed][0],
            keypoints=keypoints,
            point_rows=point_rows,
        )
    return MapModel(images, Points.none() if model is None else model.points)


# -- splits ----------------------------------------------------------------------------------


def _split(
    registration: Registration,
    train: Path | None,
    test: Path | None,
    found: Sequence[ImageFile],
    name: str,
) -> Split | None:
    """The split of two lists of names, the user's or the format's, over the posed images."""
    if train is not None and test is not None:
        sides = [
            _listed(found, [name for _, (name,) in rows_in(read_lines(path), columns=1)], path)
            for path in (train, test)
        ]
        settings = {"train": train.name, "test": test.name}
    elif registration.train and registration.test:
        sides = [
            tuple(image.name for image in found if image.listed in names)
            for names in (set(registration.train), set(registration.test))
        ]
        if not all(sides):
            progress.say(f"{registration.source}: its train or test images have no image")
            return None
        settings = {"lists": registration.source}
    else:
        return None
    both = set(sides[0]) & set(sides[1])
    if both:
        raise FormatError(
            f"{len(both)} images are in both the train and the test list, such as {min(both)!r}"
        )
    return Split(name, "list", train=sides[0], test=sides[1], settings=settings)


def _listed(found: Sequence[ImageFile], listed: Sequence[str], path: Path) -> tuple[str, ...]:
    """Names in the Place of a user's list."""
    names = {image.name.split("/", 1)[1]: image.name for image in found}
    match = match_names(listed, names)
    if not match.present_of:
        raise FormatError(f"none of the {len(listed)} names in {path} is an image with a pose")
    missing = len(set(listed)) - len(match.present_of)
    if missing:
        progress.say(f"{path}: {missing} of {len(set(listed))} names have no posed image")
    order = {image.name: row for row, image in enumerate(found)}
    return tuple(sorted((names[one] for one in match.present_of.values()), key=order.__getitem__))


# -- doing nothing twice ---------------------------------------------------------------------


def _fingerprint(registration: Registration, found: Sequence[ImageFile], unit: str) -> str:
    """Changes when poses, cameras, points, images or unit do."""
    digest = hashlib.sha256()
    for image in found:
        status = image.file.stat()
        camera = registration.camera_of(image.listed, image.width, image.height)
        fact: list[Any] = [image.name, status.st_size, status.st_mtime_ns, asdict(camera)]
        digest.update(json.dumps(fact).encode())
        digest.update(registration.poses[image.listed][0].matrix.tobytes())
    if registration.model is not None:
        digest.update(registration.model.points.positions.tobytes())
    digest.update(f"{registration.source} {registration.format} {unit}".encode())
    return digest.hexdigest()


def _is_there(place: Place, capture: str, fingerprint: str, found: Sequence[ImageFile]) -> bool:
    return (
        capture in place.captures
        and place.capture(capture).settings.get("fingerprint") == fingerprint
        and place.has_map
        and all(image.name in place.map.images for image in found)
        and all(place.image_path(image.name).is_file() for image in found)
    )
