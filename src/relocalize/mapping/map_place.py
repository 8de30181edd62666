"""A Place's images to one map, stage by stage; each stage goes on from what is on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import pycolmap

from relocalize import progress
from relocalize.errors import MappingError, PlaceError
from relocalize.features.database import open_database
from relocalize.formats.registry import read_registration
from relocalize.mapping import known_poses, unknown_poses
from relocalize.mapping.moving import given_poses
from relocalize.mapping.report import MapReport
from relocalize.mapping.scale import check_lengths
from relocalize.mapping.settings import MapSettings
from relocalize.place import MapModel, Place, atomic
from relocalize.place.folder import MOVED, read_json
from relocalize.plain import from_plain

SFM = "structure from motion"  # how `Place.poses_from` begins when the poses are our own


def map_place(place: Place, settings: MapSettings = MapSettings()) -> MapReport:
    """Make the Place's map: poses for all its images, and points.

    With poses imported from elsewhere, they are kept as they are, and points are triangulated
    from the split's train images only. Otherwise poses come from structure from motion. Captures
    that were registered into a finished map take no part; a new map is without them.

    Raises:
        MappingError: the images do not come together to a map; a length or reference is wrong.
        PlaceError: the Place is locked or damaged, or has no images.
    """
    with place.lock():
        check_lengths(settings.lengths, {image.name for _, image in place.images()})
        if settings.reference is not None:
            read_registration(settings.reference)  # now, not after minutes of work
        poses_known = place.has_map and not (place.poses_from or "").startswith(SFM)
        if poses_known and (settings.lengths or settings.reference):
            raise MappingError(
                f"the poses of {place.root} come from {place.poses_from} and keep its frame and "
                f"unit ({place.unit}); measured lengths and references are for maps made here"
            )
        fingerprint = _fingerprint(place, settings, poses_known)
        done = _finished(place, fingerprint)
        if done is not None:
            return done
        work = _work_folder(place, fingerprint)
        with open_database(place, settings.features) as database:
            if poses_known:
                outcome = known_poses.triangulate_map(place, database, work, settings)
            else:
                outcome = unknown_poses.reconstruct_map(place, database, work, settings)
        _save(place, outcome.model, outcome.report, fingerprint, poses_known=poses_known)
        if poses_known:
            # Through the file's quaternions the last bits of given poses may have changed.
            record = read_json(place.map_dir / "map.json")
            inputs = _fingerprint(place, settings, poses_known)
            atomic.write_json(place.map_dir / "map.json", {**record, "inputs": inputs})
        if outcome.frame is not None:
            place.record_poses(
                poses_from=f"{SFM} (relocalize {version('relocalize')})", frame=outcome.frame
            )
        shutil.rmtree(work.parent, ignore_errors=True)
    for name, capture in place.captures.items():
        if capture.is_registered:
            progress.say(
                f"capture {name} is to be registered into the new map: "
                f"relocalize register {place.root} --capture {name}"
            )
    return outcome.report


def _fingerprint(place: Place, settings: MapSettings, poses_known: bool) -> str:
    """Changes when images, what is known of their cameras, settings, or given poses do."""
    facts: list[object] = [version("relocalize"), asdict(settings)]
    for capture, image in place.images():
        if capture.is_registered:
            continue
        path = place.image_path(image.name)
        try:
            status = path.stat()
        except OSError:
            raise PlaceError(
                f"image {path} is missing; put it back, or make the Place anew"
            ) from None
        camera = asdict(capture.camera_of(image))
        facts.append([image.name, status.st_size, status.st_mtime_ns, camera])
    digest = hashlib.sha256(json.dumps(facts, default=str).encode())
    if poses_known:
        digest.update(given_poses(place))
        if place.split_names:
            digest.update(json.dumps(place.split(settings.split).train).encode())
    return digest.hexdigest()


def _finished(place: Place, fingerprint: str) -> MapReport | None:
    """The report of the map that is there, when it is whole and of just these inputs."""
    path = place.map_dir / "map.json"
    if not path.is_file() or not place.has_map:
        return None
    try:
        record = read_json(path)
        if record.get("inputs") != fingerprint:
            return None
        # A map that cannot be read is made again, like one that was never made.
        _ = place.map
        return replace(from_plain(MapReport, record["report"]), unchanged=True)
    except PlaceError as error:
        progress.say(f"mapping again: {error}")
    except (KeyError, TypeError, ValueError) as error:
        progress.say(f"mapping again: {path} is damaged: {error!r}")
    return None


def _work_folder(place: Place, fingerprint: str) -> Path:
    """Where models under way are kept; what other inputs left there is gone."""
    parent = place.root / ".mapping"
    work = parent / fingerprint[:16]
    if parent.is_dir():
        for other in parent.iterdir():
            if other != work:
                shutil.rmtree(other, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    return work


def _save(
    place: Place, model: MapModel, report: MapReport, fingerprint: str, *, poses_known: bool
) -> None:
    """The new model in place of the old, in one step; the feature database comes along."""
    kept = ["database.db", "features.json"]
    if poses_known and (place.map_dir / MOVED).is_file():
        kept.append(MOVED)  # the poses are still those that were moved
    with atomic.new_folder(place.map_dir) as folder:
        model.write(folder)
        for name in kept:
            atomic.link_file(place.map_dir / name, folder / name)
        record = {
            "relocalize": version("relocalize"),
            "pycolmap": pycolmap.__version__,
            "inputs": fingerprint,
            "report": report.to_json(),
        }
        atomic.write_json(folder / "map.json", record)
