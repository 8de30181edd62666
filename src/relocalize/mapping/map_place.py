"""A Place's images to one map, stage by stage; each stage goes on from what is on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import pycolmap

from relocalize import progress
from relocalize.errors import MappingError, NotConnectedError, PlaceError
from relocalize.features import xfeat
from relocalize.features.database import (
    DATABASE,
    SETTINGS,
    check_has_features,
    open_database,
    remembered_settings,
)
from relocalize.features.extraction import FeatureSettings, Kind, settings_for
from relocalize.formats.registry import read_registration
from relocalize.mapping import known_poses, unknown_poses
from relocalize.mapping.moving import given_poses
from relocalize.mapping.outcome import Outcome
from relocalize.mapping.report import MapReport
from relocalize.mapping.scale import check_lengths
from relocalize.mapping.settings import MapSettings
from relocalize.mapping.stored_model import (
    INPUTS,
    WORK,
    read_record,
    work_folder,
    write_parts,
)
from relocalize.place import Place, atomic
from relocalize.place.folder import MADE, MOVED, Made, read_json
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
        if settings.split is not None:
            place.split(settings.split)
        if settings.features == "xfeat":
            xfeat.check_installed()
        if settings.reference is not None:
            read_registration(settings.reference)  # now, not after minutes of work
        poses_known = _has_given_poses(place)
        if poses_known and (settings.lengths or settings.reference):
            raise MappingError(
                f"the poses of {place.root} come from {place.poses_from} and keep its frame and "
                f"unit ({place.unit}); measured lengths and references are for maps made here"
            )
        fingerprint = inputs_of(place, settings)
        done = _finished(place, fingerprint)
        if done is not None:
            atomic.remove_folder(place.root / WORK)
            return done
        work = work_folder(place, fingerprint)
        outcome, databases = _best_outcome(place, work, settings, poses_known=poses_known)
        made: Made | None = None
        if outcome.frame is not None:
            made = Made(f"{SFM} (relocalize {version('relocalize')})", outcome.frame)
        _save(place, outcome, databases, fingerprint, made, poses_known=poses_known)
        if poses_known:
            # Through the file's quaternions the last bits of given poses may have changed.
            note_inputs(place, settings)
        if made is not None:
            place.record_poses(poses_from=made.poses_from, frame=made.frame)
        atomic.remove_folder(work.parent)
    for name, capture in place.captures.items():
        if capture.is_registered:
            progress.say(
                f"capture {name} is to be registered into the new map: "
                f"relocalize register {place.root} --capture {name}"
            )
    return outcome.report


def _best_outcome(
    place: Place, work: Path, settings: MapSettings, *, poses_known: bool
) -> tuple[Outcome, Path]:
    """The map by the first kind of features that holds together, else the best; its database.

    A map holds together when nothing is suspicious about it and it has nearly all images. Of maps
    that do not, one without an alarm is taken before one with, then the one with most images in
    its largest sound part.
    """
    found: list[tuple[Outcome, Path]] = []
    remembered = remembered_settings(place)
    attempts = _attempts(place, settings, remembered, poses_known=poses_known)
    for number, attempt in enumerate(attempts):
        aside = work / attempt.name
        aside.mkdir(exist_ok=True)
        wanted = settings_for(attempt.kind, attempt.photos)
        # The features of the map that is there stay with it until the new one takes its place.
        folder = place.map_dir if remembered in (wanted, None) and number == 0 else aside
        try:
            with open_database(place, wanted, folder=folder) as database:
                if poses_known:
                    outcome = known_poses.triangulate_map(place, database, aside, settings)
                else:
                    outcome = unknown_poses.reconstruct_map(
                        place,
                        database,
                        aside,
                        settings,
                        last_resort=attempt.last_resort,
                        in_time=attempt.in_time,
                    )
        except NotConnectedError:
            if not found and number == len(attempts) - 1:
                raise
            continue
        found.append((outcome, folder))
        if outcome.holds:
            break
        if number + 1 < len(attempts):
            progress.say(
                f"with {attempt} the map does not hold together ({outcome.doubt}); "
                f"trying {attempts[number + 1]}"
            )
    best = max(found, key=lambda one: (not one[0].report.alarms, one[0].held))
    if not best[0].holds and settings.features == "auto" and not xfeat.is_installed():
        progress.say(
            "another kind of features may do better: pip install 'relocalize[xfeat]', and map again"
        )
    return best


@dataclass(frozen=True)
class _Attempt:
    """One way to make a map."""

    kind: Kind  # of features
    photos: int | None  # how many loose photos are matched each with each; None for a walk
    in_time: bool = True  # whether neighbours of a walk are taken to see the same
    last_resort: bool = False  # whether it goes on trying where the map falls apart

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.kind if self.in_time else f"{self.kind}-each"

    def __str__(self) -> str:
        return self.kind if self.in_time else f"{self.kind}, each frame with each"


def _attempts(
    place: Place, settings: MapSettings, remembered: FeatureSettings | None, *, poses_known: bool
) -> list[_Attempt]:
    """What to try, in order.

    By each kind of features; and a walk of few frames as loose photos are mapped, for its frames
    may be far from each other.
    """
    kinds: list[Kind] = ["sift", "xfeat"] if xfeat.is_installed() else ["sift"]
    kinds.sort(key=lambda kind: remembered is None or kind != remembered.kind)
    if settings.features != "auto":
        kinds = [settings.features]
    photos = _loose_photos(place)
    attempts = [_Attempt(kind, photos) for kind in kinds]
    attempts[-1] = replace(attempts[-1], last_resort=True)
    count = sum(len(one.images) for one in place.captures.values() if not one.is_registered)
    if photos is None and not poses_known and count <= settings.pairs.exhaustive:
        attempts.append(_Attempt("xfeat" if kinds == ["xfeat"] else "sift", count, in_time=False))
    return attempts


def _loose_photos(place: Place) -> int | None:
    """How many photos without an order a map is made of; None where there is a walk."""
    captures = [capture for capture in place.captures.values() if not capture.is_registered]
    if any(capture.kind != "photos" for capture in captures):
        return None
    return sum(len(capture.images) for capture in captures)


def _has_given_poses(place: Place) -> bool:
    return place.has_map and not (place.poses_from or "").startswith(SFM)


def note_inputs(place: Place, settings: MapSettings) -> None:
    """Note in ``map.json`` that the map is of what the Place holds now: mapping changes nothing."""
    record = read_json(place.map_dir / "map.json")
    inputs = inputs_of(place, settings)
    atomic.write_json(place.map_dir / "map.json", {**record, INPUTS: inputs})


def settle(place: Place, settings: MapSettings) -> None:
    """`note_inputs` of a map that grew, unless a run before a kill did; its work goes."""
    if INPUTS not in read_record(place):
        note_inputs(place, settings)
    atomic.remove_folder(place.root / WORK)


def inputs_of(place: Place, settings: MapSettings) -> str:
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
    if _has_given_poses(place):
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
        if record.get(INPUTS) != fingerprint:
            return None
        # A map that cannot be read is made again, like one that was never made.
        _ = place.map
        check_has_features(place)
        return replace(from_plain(MapReport, record["report"]), unchanged=True)
    except PlaceError as error:
        progress.say(f"mapping again: {error}")
    except MappingError:
        progress.say("mapping again: the features beside the map are gone")
    except (KeyError, TypeError, ValueError) as error:
        progress.say(f"mapping again: {path} is damaged: {error!r}")
    return None


def _save(
    place: Place,
    outcome: Outcome,
    databases: Path,
    fingerprint: str,
    made: Made | None,
    *,
    poses_known: bool,
) -> None:
    """The new model in place of the old, in one step; the feature database comes along."""
    kept = [databases / DATABASE, databases / SETTINGS]
    if poses_known and (place.map_dir / MOVED).is_file():
        kept.append(place.map_dir / MOVED)  # the poses are still those that were moved
    with atomic.new_folder(place.map_dir) as folder:
        outcome.model.write(folder)
        write_parts(folder, outcome.parts)
        for path in kept:
            atomic.link_file(path, folder / path.name)
        record = {
            "relocalize": version("relocalize"),
            "pycolmap": pycolmap.__version__,
            INPUTS: fingerprint,
            "report": outcome.report.to_json(),
        }
        atomic.write_json(folder / "map.json", record)
        if made is not None:
            atomic.write_json(folder / MADE, asdict(made))
