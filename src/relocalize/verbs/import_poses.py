"""Making a Place from images and the poses that another tool gave them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relocalize import progress
from relocalize.checking import CheckReport, proven
from relocalize.errors import FormatError
from relocalize.formats import AUTO, Registration, match_names, read_registration
from relocalize.formats.images import FoundImages, ImageFile, frame_index, say_some
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
from relocalize.place.folder import MADE, MAP_UNIT, METRE, Made, checked_name
from relocalize.plain import to_plain


@dataclass(frozen=True, repr=False)
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
        intrinsics: how many images have ``exact``, ``approximate`` or ``unknown`` ones.
        split: name of the split written, or None.
        train: images in it.
        test: images in it.
        unchanged: whether all of it was there already.
        check: of the poses against the images, or None where the user chose the convention.
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
    intrinsics: dict[str, int]
    split: str | None
    train: int
    test: int
    unchanged: bool
    check: CheckReport | None = None

    def __repr__(self) -> str:
        return (
            f"ImportReport({self.posed} of {self.listed} images of the {self.format}, "
            f"{self.convention} by {self.convention_from})"
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        values: dict[str, Any] = to_plain(replace(self, check=None))
        return values | {"check": self.check and self.check.to_json()}


def import_poses(
    file: str | Path,
    place: Place | str | Path,
    images: str | Path,
    *,
    format: str = AUTO,
    convention: str = AUTO,
    capture: str = "imported",
    train: str | Path | None = None,
    test: str | Path | None = None,
    split: str = "imported",
    unit: str | None = None,
) -> ImportReport:
    """Bring images and their poses from another tool into a Place.

    Images are hard-linked (copied across disks) into ``images/<capture>/`` under their names
    below the folder ``images``; ``map/`` becomes a COLMAP model of every posed image. Every step
    is whole or not there, the same import again changes nothing, and one after a kill goes on.

    Args:
        file: the file or folder with the poses.
        place: the Place or its folder, made if there is none; it has no poses yet, or those of
            this capture's last import.
        images: folder with the images, searched with its folders.
        format: a key of `FORMATS`, or ``auto`` to look.
        convention: ``auto`` to let the images prove it; ``stated`` for what the format documents,
            untested; or a convention's name.
        capture: name of the capture that the images become.
        train: text file with a name per line; with ``test``, becomes a split. Without them the
            format's own lists do, where it has such.
        test: the same for test images.
        split: name of the split that the train and test lists become.
        unit: ``metre`` or ``map unit``; None takes what the format states.

    Raises:
        FormatError: a file is not what it should be, or no image has both image and pose.
        CheckError: the images do not prove the convention.
        PlaceError: the Place is locked, or a name cannot be a file name.
    """
    checked_name(capture, "capture")
    checked_name(split, "split")
    if unit not in {None, METRE, MAP_UNIT}:
        raise FormatError(f"unit {unit!r}; want {METRE!r} or {MAP_UNIT!r}")
    if (train is None) != (test is None):
        raise FormatError("give both --train and --test, or neither")
    registration = read_registration(Path(file), format)
    registration.say()
    proof = proven(registration, Path(images), convention)
    registration, files = proof.registration, proof.files.below(capture)
    files.say(registration)
    found = files.usable
    lists = None if train is None or test is None else (Path(train), Path(test))
    cut = _split(registration, lists, found, split)
    unit = unit or registration.unit
    place = Place.of(place, create=True)
    convention = registration.stated.convention.name
    with place.lock():
        _refuse_other_poses(place, capture)
        fingerprint = _fingerprint(registration, found, unit)
        unchanged = _is_there(place, capture, fingerprint, found)
        if not unchanged:
            settings = {
                "fingerprint": fingerprint,
                "convention": convention,
                "convention_from": proof.said_by,
                "pixels": files.pixels,
                "without_image": list(files.absent),
                "columns": {
                    image.name: registration.columns[image.listed]
                    for image in found
                    if image.listed in registration.columns
                },
            }
            _write(place, registration, files, capture, settings, unit)
        if cut and (cut.name not in place.split_names or place.split(cut.name) != cut):
            place.write_split(cut)
    return ImportReport(
        capture=capture,
        format=registration.format,
        convention=convention,
        convention_from=proof.said_by,
        listed=len(registration.poses),
        posed=len(found),
        without_image=files.absent,
        ambiguous=tuple(files.ambiguous),
        left_out=files.left_out,
        problems=registration.problems,
        points=len(place.points),
        unit=unit,
        intrinsics=dict(Counter(image.camera.known for image in found)),
        split=cut.name if cut else None,
        train=len(cut.train) if cut else 0,
        test=len(cut.test) if cut else 0,
        unchanged=unchanged,
        check=proof.report,
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


def _write(
    place: Place,
    registration: Registration,
    files: FoundImages,
    capture: str,
    settings: dict[str, Any],
    unit: str,
) -> None:
    """Images, capture and map of an import; the capture has its settings once all is there."""
    found = files.usable
    cameras, rows = _distinct_cameras(registration, found)
    images = tuple(
        CapturedImage(one.name, camera=row, frame_index=frame_index(one.name), gps=one.header.gps)
        for one, row in zip(found, rows, strict=True)
    )
    record = Capture(
        capture, "imported", registration.source, cameras, images, dropped=files.left_out
    )
    convention = f"{settings['convention']} by {settings['convention_from']}"
    scale_from = registration.scale_from if unit == registration.unit else "stated at import"
    made = Made(
        f"imported: {registration.source} ({registration.format}; {convention})",
        Frame(unit=unit, scale_from=scale_from if unit == METRE else None),
    )
    # Both are written whole before either replaces what was there.
    with atomic.new_folder(place.map_dir) as map_folder:
        _model(registration, found, cameras, rows).write(map_folder)
        atomic.write_json(map_folder / MADE, asdict(made))
        with atomic.new_folder(place.images_dir / capture) as folder:
            for image in progress.track(found, "images into the Place"):
                image.place(folder / image.name.removeprefix(f"{capture}/"))
        place.write_capture(record)
    place.record_poses(poses_from=made.poses_from, frame=made.frame)
    place.write_capture(replace(record, settings=settings))


def _distinct_cameras(
    registration: Registration, found: Sequence[ImageFile]
) -> tuple[tuple[Camera, ...], list[int]]:
    """The distinct cameras of the images, and each image's index among them."""
    # Two cameras of the file with equal numbers stay two: the file says they are.
    keys = [(registration.poses[image.listed][1], image.camera) for image in found]
    index_of = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    return tuple(camera for _, camera in index_of), [index_of[key] for key in keys]


def _model(
    registration: Registration,
    found: Sequence[ImageFile],
    cameras: Sequence[Camera],
    rows: Sequence[int],
) -> MapModel:
    """The posed images under their names in the Place, with the points that they observe."""
    model = registration.model and registration.model.only(image.listed for image in found)
    images = {}
    for image, row in sorted(zip(found, rows, strict=True), key=lambda pair: pair[0].name):
        pose = registration.poses[image.listed][0]
        posed = PosedImage(image.name, cameras[row], row + 1, pose)
        if model is not None:
            theirs = model.images[image.listed]
            size = np.array([theirs.camera.width, theirs.camera.height])
            scale = np.array([image.width, image.height]) / size
            keypoints = (theirs.keypoints * scale).astype(np.float32)
            posed = replace(posed, keypoints=keypoints, point_rows=theirs.point_rows)
        images[image.name] = posed
    return MapModel(images, Points.none() if model is None else model.points)


# -- splits ----------------------------------------------------------------------------------


def _split(
    registration: Registration,
    lists: tuple[Path, Path] | None,
    found: Sequence[ImageFile],
    name: str,
) -> Split | None:
    """The split of two lists of names, the user's or the format's, over the posed images."""
    if lists is not None:
        train, test = (_listed(found, path) for path in lists)
        settings = {"train": lists[0].name, "test": lists[1].name}
    elif registration.train and registration.test:
        train, test = (
            tuple(image.name for image in found if image.listed in names)
            for names in (set(registration.train), set(registration.test))
        )
        if not train or not test:
            progress.say(f"{registration.source}: its train or test images have no image")
            return None
        settings = {"lists": registration.source}
    else:
        return None
    both = set(train) & set(test)
    if both:
        raise FormatError(
            f"{len(both)} images are in both the train and the test list, such as {min(both)!r}"
        )
    return Split(name, "list", train=train, test=test, settings=settings)


def _listed(found: Sequence[ImageFile], path: Path) -> tuple[str, ...]:
    """Names in the Place of a user's list, in the Place's order."""
    listed = list(dict.fromkeys(name for _, (name,) in rows_in(read_lines(path), columns=1)))
    names = {image.name.split("/", 1)[1]: image.name for image in found}
    match = match_names(listed, names)
    if not match.present_of:
        raise FormatError(f"none of the {len(listed)} names in {path} is an image with a pose")
    missing = len(listed) - len(match.present_of)
    if missing:
        progress.say(f"{path}: {missing} of {len(listed)} names have no posed image")
        say_some(tuple(match.ambiguous.values()), "names could mean several images")
    chosen = set(match.present_of.values())
    return tuple(name for short, name in names.items() if short in chosen)


# -- doing nothing twice ---------------------------------------------------------------------


def _fingerprint(registration: Registration, found: Sequence[ImageFile], unit: str) -> str:
    """Changes when poses, cameras, points, images or unit do."""
    digest = hashlib.sha256()
    for image in found:
        status = image.file.stat()
        fact: list[Any] = [image.name, status.st_size, status.st_mtime_ns, asdict(image.camera)]
        fact.append(image.turned)
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
