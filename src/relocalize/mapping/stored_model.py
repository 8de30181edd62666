"""A Place's map as COLMAP's own model, to be changed without touching what stays.

Reading and writing it again gives the same files byte for byte; `MapModel`, which goes through
rotation matrices, does not.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from relocalize.errors import MappingError, PlaceError
from relocalize.features.database import DATABASE, check_has_features
from relocalize.geometry.transforms import FloatArray
from relocalize.mapping.report import MapReport
from relocalize.place import MapModel, Place, PosedImage, atomic
from relocalize.place.colmap_files import check_whole
from relocalize.place.folder import MOVED, read_json
from relocalize.place.model import write_model
from relocalize.plain import from_plain

MAP_RECORD = "map.json"
INPUTS = "inputs"  # key of it: a digest of what the map is of
WORK = ".mapping"  # folder of the Place for models under way
PARTS = "parts"  # folder of what is not tied to the map firmly, each a model of its own
REFINED = "refined"  # key of it: whether registered photos moved the map
_OF_THE_MODEL = frozenset(
    f"{name}{end}"
    for name in ("cameras", "images", "points3D", "frames", "rigs")
    for end in (".bin", ".txt")
)


def check_can_grow(place: Place) -> None:
    """Raise `MappingError` or `PlaceError` where a map has no points or features to add to."""
    if not len(place.points):
        raise MappingError(
            f"the map of {place.root} has poses but no points; make them with: "
            f"relocalize map {place.root}"
        )
    check_has_features(place)


def work_folder(place: Place, fingerprint: str) -> Path:
    """Where models under way are kept; what other inputs left there is gone."""
    parent = place.root / WORK
    work = parent / fingerprint[:16]
    if parent.is_dir():
        for other in parent.iterdir():
            if other != work:
                atomic.remove_folder(other)
    work.mkdir(parents=True, exist_ok=True)
    return work


def read_model(place: Place) -> pycolmap.Reconstruction:
    """The map as COLMAP has it.

    Raises:
        PlaceError: there is none, or it is damaged.
    """
    _ = place.map  # checks that it can be read, and says what to do where it cannot
    check_whole(place.map_dir)
    return pycolmap.Reconstruction(str(place.map_dir))


def shift(model: pycolmap.Reconstruction, by: FloatArray) -> None:
    """Move the whole model ``by`` [3], in place."""
    if np.any(by):
        model.transform(pycolmap.Sim3d(1.0, pycolmap.Rotation3d(), np.asarray(by)))


def as_before(model: pycolmap.Reconstruction, before: pycolmap.Reconstruction) -> None:
    """Give back their poses and positions, to the bit, to what was in the model before."""
    for frame_id in before.reg_frame_ids():
        if model.exists_frame(frame_id):
            model.frames[frame_id].rig_from_world = before.frames[frame_id].rig_from_world
    for point_id, point in before.points3D.items():
        if model.exists_point3D(point_id):
            model.points3D[point_id].xyz = point.xyz


def read_record(place: Place) -> dict[str, Any]:
    """``map.json``; empty where the map was made by another program, or it is damaged."""
    try:
        return read_json(place.map_dir / MAP_RECORD)
    except PlaceError:
        return {}


def stored_report(place: Place) -> MapReport | None:
    """What mapping did; None where another program made the map, or ``map.json`` is damaged."""
    try:
        return from_plain(MapReport, read_record(place)["report"])
    except (KeyError, TypeError, ValueError):
        return None


def replace_model(
    place: Place,
    model: pycolmap.Reconstruction,
    record: dict[str, Any] | None = None,
    parts: Sequence[MapModel] = (),
    *,
    moved: dict[str, Any] | None = None,
    features: Path | None = None,
) -> None:
    """The changed model in place of the old, in one step; all else in ``map/`` comes along.

    Args:
        place: whose map it is.
        model: the map.
        record: of ``map.json``; None leaves it as it is.
        parts: further ones of what is not tied to it.
        moved: of ``moved.json``, likewise.
        features: a database, closed, that takes the place of the one there.
    """
    records = {MAP_RECORD: record, MOVED: moved}
    records = {name: content for name, content in records.items() if content is not None}
    with atomic.new_folder(place.map_dir) as folder:
        write_model(model, folder)
        for name, content in records.items():
            atomic.write_json(folder / name, content)
        if features is not None:
            atomic.link_file(features, folder / DATABASE)
        for entry in place.map_dir.iterdir():
            if entry.name in _OF_THE_MODEL | records.keys() or entry.name.startswith("."):
                continue
            if features is not None and entry.name.startswith(DATABASE):
                continue
            if entry.is_dir():
                shutil.copytree(entry, folder / entry.name)
            else:
                atomic.link_file(entry, folder / entry.name)
        write_parts(folder, parts)


def write_parts(folder: Path, parts: Sequence[MapModel]) -> None:
    """Models of what nothing firm ties to the map in ``folder``, beside those that are there."""
    beside = folder / PARTS
    there = len(list(beside.iterdir())) if beside.is_dir() else 0
    for number, part in enumerate(parts, start=there + 1):
        aside = beside / str(number)
        aside.mkdir(parents=True)
        part.write(aside)


def given_images(place: Place) -> dict[str, PosedImage]:
    """The posed images by name, but for those that were registered into the finished map."""
    later = {name for name, capture in place.captures.items() if capture.is_registered}
    images = place.map.images
    return {name: image for name, image in images.items() if name.partition("/")[0] not in later}
