"""Two mapped Places that overlap made one; the frame, poses and points of the first stay."""

from __future__ import annotations

import filecmp
import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain
from itertools import count as count_from
from pathlib import Path
from typing import Any

import numpy as np

from relocalize.errors import MappingError
from relocalize.features.database import (
    DATABASE,
    SETTINGS,
    FeatureDatabase,
    check_whole_features,
    copy_database,
    open_database,
    remembered_settings,
)
from relocalize.mapping.map_place import inputs_of, settle
from relocalize.mapping.outcome import images_apart
from relocalize.mapping.report import MapReport, Stages
from relocalize.mapping.settings import MapSettings
from relocalize.mapping.stored_model import (
    INPUTS,
    PARTS,
    REFINED,
    WORK,
    check_can_grow,
    read_record,
    replace_model,
    stored_report,
    work_folder,
)
from relocalize.mapping.tying import Tied, report_of, tie
from relocalize.place import Capture, MapModel, Place, atomic
from relocalize.place.folder import METRE
from relocalize.plain import to_plain

_MERGED = "merged"  # key of map.json: digests of the maps that came into this one
_SAME_SCALE = 0.02  # up to which two scales that are called metric agree; as where Places align


@dataclass(frozen=True)
class MergeReport:
    """What came of merging two Places.

    Attributes:
        captures: what the other Place's captures are called in this one.
        images: images that had a pose in the other Place.
        merged: those of them that have one in this Place now.
        scale: units of this Place per unit of the other; None where nothing had to be done.
        map: of all.
        remarks: what else there is to know, for people.
        unchanged: whether the other Place was in this one already.
    """

    captures: dict[str, str]
    images: int
    merged: int
    scale: float | None
    map: MapReport
    remarks: tuple[str, ...] = ()
    unchanged: bool = False

    def __repr__(self) -> str:
        return f"MergeReport({self.merged} of {self.images} images merged; {self.map})"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def merge_places(place: Place, other: Place, *, refine: bool = False) -> MergeReport:
    """Bring images, features and map of another Place into this one; see `relocalize.merge`."""
    if place.root.resolve() == other.root.resolve():
        raise MappingError(f"{place.root} and {other.root} are one Place; name two")
    with place.lock():
        check_can_grow(place)
        check_can_grow(other)
        _check_features(place, other)
        captures = _called_here(place, other)
        names = {
            theirs: ours
            for name, capture in captures.items()
            for theirs, ours in zip(
                other.capture(name).image_names, capture.image_names, strict=True
            )
        }
        digest = other.map_digest()
        posed = {names[name] for name in other.map.images if name in names}
        if _is_in(place, captures.values(), posed, digest):
            _settle(place)
            return _as_it_is(place, captures, posed)
        for one in (place, other):
            check_whole_features(one)
            inputs_of(one, MapSettings())  # an image that is missing is said now
        stages = Stages()
        key = json.dumps([version("relocalize"), place.map_digest(), digest])
        work = work_folder(place, f"merge-{hashlib.sha256(key.encode()).hexdigest()}")
        models = [_renamed(model, names) for model in (other.map, *_parts(other))]
        with stages.measure("features", "images") as count:
            _copy_features(place, other, work, names)
            count.items = len(names)
        with open_database(place, remembered_settings(place), folder=work) as database:
            tied = tie(place, models, database, stages, refine=refine)
        if not tied.joined or other.map_digest() != digest:
            atomic.remove_folder(work.parent)
            raise MappingError(_why_not(place, other, len(posed), tied))
        for name, capture in captures.items():
            _publish(place, other, other.capture(name), capture)
        report = report_of(place, tied, _added(place, other, captures, names, tied), stages)
        before = read_record(place)
        record = before | {
            REFINED: bool(before.get(REFINED)) or refine,
            _MERGED: [*(before.get(_MERGED) or ()), digest],
            "report": report.to_json(),
        }
        record.pop(INPUTS, None)
        replace_model(place, tied.whole, record, parts=tied.apart, features=work / DATABASE)
        _settle(place)
    scale = next(scale for scale in tied.scales if scale is not None)
    return MergeReport(
        captures={name: capture.name for name, capture in captures.items()},
        images=len(posed),
        merged=len(posed & place.map.images.keys()),
        scale=scale,
        map=report,
        remarks=_remarks(place, other, scale),
    )


def _settle(place: Place) -> None:
    inside = place.map.images
    if all(
        capture.is_registered or any(name in inside for name in capture.image_names)
        for capture in place.captures.values()
    ):
        settle(place, MapSettings())
    else:  # a capture that no map has is still to be mapped
        atomic.remove_folder(place.root / WORK)


def _check_features(place: Place, other: Place) -> None:
    ours, theirs = remembered_settings(place), remembered_settings(other)
    if ours is None or theirs is None:
        one = place if ours is None else other
        raise MappingError(
            f"{one.map_dir / SETTINGS} is damaged; map anew: relocalize map {one.root}"
        )
    if ours == theirs:
        return
    what = f"the features of {other.root} are not of the kind of those of {place.root}"
    if ours.kind != theirs.kind:
        raise MappingError(
            f"{what} ({theirs.kind}, not {ours.kind}); map it anew: "
            f"relocalize map {other.root} --features {ours.kind}"
        )
    raise MappingError(  # as where one is of loose photos
        f"{what} (up to {theirs.max_features} an image from octave {theirs.first_octave}, not "
        f"{ours.max_features} from {ours.first_octave}); add its images instead: relocalize frames "
        f"{other.images_dir} {place.root} --capture NAME, then relocalize map {place.root} --extend"
    )


def _called_here(place: Place, other: Place) -> dict[str, Capture]:
    """The other Place's captures by their name there, as they are called in this one.

    One that is in both, such as after a kill, keeps the name that it has here; one whose name
    is another's here gets a number.
    """
    here = place.captures
    result: dict[str, Capture] = {}
    for name, theirs in other.captures.items():
        if not theirs.images:
            continue
        taken = {capture.name for capture in result.values()}
        same = (
            called
            for called, ours in here.items()
            if called not in taken
            and _named(theirs, called) == ours
            and _same_files(place, other, theirs, ours)
        )
        fresh = (
            called
            for called in chain([name], (f"{name}-{number}" for number in count_from(2)))
            if called not in {*here, *taken}
            and (
                not (place.images_dir / called).exists()
                or _same_files(place, other, theirs, _named(theirs, called))
            )
        )
        result[name] = _named(theirs, next(same, None) or next(fresh))
    return result


def _named(capture: Capture, name: str) -> Capture:
    """A capture under another name."""
    images = [
        replace(image, name=f"{name}/{image.name.partition('/')[2]}") for image in capture.images
    ]
    return replace(capture, name=name, images=tuple(images))


def _same_files(place: Place, other: Place, theirs: Capture, ours: Capture) -> bool:
    """Whether the images of a capture are in both Places."""
    pairs = zip(theirs.image_names, ours.image_names, strict=True)
    try:
        return all(filecmp.cmp(other.image_path(a), place.image_path(b)) for a, b in pairs)
    except OSError:
        return False


def _is_in(place: Place, captures: Collection[Capture], posed: set[str], digest: str) -> bool:
    """Whether this very map came into this Place before, or has no image that it lacks."""
    if not all(place.captures.get(capture.name) == capture for capture in captures):
        return False
    return digest in (read_record(place).get(_MERGED) or ()) or posed <= place.map.images.keys()


def _as_it_is(place: Place, captures: Mapping[str, Capture], posed: set[str]) -> MergeReport:
    count = len(place.map.images)
    report = stored_report(place) or MapReport(count, count, count, count, 0, 0.0)
    return MergeReport(
        captures={name: capture.name for name, capture in captures.items()},
        images=len(posed),
        merged=len(posed & place.map.images.keys()),
        scale=None,
        map=replace(report, unchanged=True),
        unchanged=True,
    )


def _parts(place: Place) -> list[MapModel]:
    """What nothing ties to a Place's own map."""
    folder = place.map_dir / PARTS
    if not folder.is_dir():
        return []
    return [MapModel.read(part) for part in sorted(folder.iterdir()) if part.is_dir()]


def _renamed(model: MapModel, names: Mapping[str, str]) -> MapModel:
    known = model.only(name for name in model.images if name in names)
    images = {names[name]: image for name, image in known.images.items()}
    return MapModel(
        {name: replace(images[name], name=name) for name in sorted(images)}, known.points
    )


def _copy_features(place: Place, other: Place, work: Path, names: Mapping[str, str]) -> None:
    """A database of both Places in ``work``; COLMAP writes where it reads, so from copies."""
    copy_database(place.map_dir / DATABASE, work / DATABASE)
    atomic.write_bytes(work / SETTINGS, (place.map_dir / SETTINGS).read_bytes())
    aside = work / "other"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for path in other.map_dir.glob(f"{DATABASE}*"):
        shutil.copyfile(path, aside / path.name)
    settings = remembered_settings(place)
    atomic.write_bytes(aside / SETTINGS, (place.map_dir / SETTINGS).read_bytes())
    with ExitStack() as stack:
        database: FeatureDatabase = stack.enter_context(open_database(place, settings, folder=work))
        theirs = stack.enter_context(open_database(other, settings, folder=aside))
        database.take_over(theirs, names)
    shutil.rmtree(aside)


def _publish(place: Place, other: Place, theirs: Capture, ours: Capture) -> None:
    """A capture's images, contact sheet and record into the Place, the record last."""
    if not _same_files(place, other, theirs, ours):
        with atomic.new_folder(place.images_dir / ours.name) as folder:
            for source, name in zip(theirs.image_names, ours.image_names, strict=True):
                target = folder / name.partition("/")[2]
                target.parent.mkdir(parents=True, exist_ok=True)
                atomic.link_file(other.image_path(source).resolve(), target)
    sheet = other.root / "captures" / f"{theirs.name}.png"
    if sheet.is_file():
        atomic.write_bytes(place.root / "captures" / f"{ours.name}.png", sheet.read_bytes())
    if place.captures.get(ours.name) != ours:
        place.write_capture(ours)


def _added(
    place: Place,
    other: Place,
    captures: Mapping[str, Capture],
    names: Mapping[str, str],
    tied: Tied,
) -> MapReport:
    """What the other map's report adds to this one's."""
    report = stored_report(other) or MapReport(
        0, 0, len(other.map.images), len(other.map.images), 0, 0.0
    )
    before = place.map.images
    mapped = [
        name
        for capture in captures.values()
        if not capture.is_registered
        for name in capture.image_names
        if name not in before
    ]
    reasons = {
        names[name]: run.reason for run in report.apart for name in run.images if name in names
    } | tied.reasons
    missing = {n: why for n, why in reasons.items() if n not in tied.joined and n not in before}
    return replace(
        report,
        images=len(mapped),
        registered=sum(name in tied.joined for name in mapped),
        apart=images_apart(place, missing),
    )


def _why_not(place: Place, other: Place, images: int, tied: Tied) -> str:
    if tied.joined:
        return f"{other.root} changed while it was read; merge again"
    return (
        f"nothing ties {other.root} to the map of {place.root}: not enough of its {images} images "
        "are where the map has been, or look like it; film a way that leads from one to the other "
        f"and add it: relocalize frames VIDEO {place.root} --capture NAME, relocalize map "
        f"{place.root} --extend"
    )


def _remarks(place: Place, other: Place, scale: float) -> tuple[str, ...]:
    remarks = []
    if place.unit == other.unit == METRE:
        if abs(np.log(scale)) > _SAME_SCALE:
            remarks.append(f"both maps are said to be in metres, but 1 there is {scale:.4g} here")
    elif other.unit == METRE:
        remarks.append(
            f"{other.root} is in metres, {place.root} is not; to keep metres, merge the other way, "
            "or align with a length: relocalize align --help"
        )
    if place.split_names:
        remarks.append(
            f"the splits of {place.root} are as they were: the new images neither train nor test"
        )
    if other.split_names:
        remarks.append(f"the splits of {other.root} did not come along")
    return tuple(remarks)
