"""Another walk into a finished map, which goes on where the walk does; what was there stays.

The new captures are brought together by themselves first, judged like any map, and then tied to
the map that is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from relocalize import progress
from relocalize.errors import MappingError
from relocalize.features.database import open_database
from relocalize.mapping.map_place import inputs_of, settle
from relocalize.mapping.outcome import images_apart
from relocalize.mapping.report import MapReport, Stages
from relocalize.mapping.settings import MapSettings
from relocalize.mapping.stored_model import (
    INPUTS,
    REFINED,
    check_can_grow,
    read_record,
    replace_model,
    stored_report,
    work_folder,
)
from relocalize.mapping.tying import report_of, tie
from relocalize.mapping.unknown_poses import Reconstructed, reconstruct
from relocalize.place import Capture, MapModel, Place


def extend_map(
    place: Place, settings: MapSettings = MapSettings(), *, refine: bool = False
) -> MapReport:
    """Add to the map the captures of which it has no image.

    Poses and points that were there stay as they are, to the bit; points gain observations.

    Args:
        place: with a map that has points, and captures beside it.
        settings: how the new captures are brought together.
        refine: move everything to its joint optimum afterwards, what was there too.

    Raises:
        MappingError: the map has no points, or nothing of the new captures is tied to it.
        PlaceError: the Place is locked or damaged, or has no map.
    """
    with place.lock():
        check_can_grow(place)
        inside = place.map.images
        captures = [
            capture
            for capture in place.captures.values()
            if capture.images
            and not capture.is_registered
            and not any(name in inside for name in capture.image_names)
        ]
        if not captures:
            return _as_it_is(place, settings)
        inputs_of(place, settings)  # an image that is missing is said now, not when all is done
        stages = Stages()
        work = _work_folder(place, captures, settings)
        with open_database(place) as database:
            found = reconstruct(place, captures, database, work, settings, stages, last_resort=True)
            models = (MapModel.from_colmap(found.model), *found.parts)
            tied = tie(place, models, database, stages, refine=refine)
        if not tied.joined:
            raise MappingError(_nothing_joined(place, captures, found))
        whole = tied.whole
        for image in whole.images.values():
            if image.name in tied.joined:
                whole.extract_colors_for_image(image.image_id, str(place.images_dir))
        reasons = found.reasons | tied.reasons
        added = MapReport(
            images=len(found.names),
            registered=len(tied.joined),
            keyframes=found.keyframes,
            keyframes_registered=found.keyframes_registered,
            points=0,
            reprojection_error=0.0,
            look_alikes=found.look_alikes,
            alarms=found.alarms,
            apart=images_apart(
                place, {name: why for name, why in reasons.items() if name not in tied.joined}
            ),
        )
        report = report_of(place, tied, added, stages)
        record = read_record(place)
        record |= {REFINED: bool(record.get(REFINED)) or refine, "report": report.to_json()}
        record.pop(INPUTS, None)
        replace_model(place, whole, record, parts=tied.apart)
        settle(place, settings)
    return report


def _as_it_is(place: Place, settings: MapSettings) -> MapReport:
    """The report of a map that has all captures."""
    hint = f"relocalize frames VIDEO {place.root} --capture NAME"
    report = stored_report(place)
    if report is None:
        raise MappingError(f"{place.root} has no capture beside its map; add one: {hint}")
    settle(place, settings)
    progress.say(f"every capture is in the map; add one with: {hint}")
    return replace(report, unchanged=True)


def _work_folder(place: Place, captures: Sequence[Capture], settings: MapSettings) -> Path:
    """Where a killed run goes on from; what other inputs left there is gone."""
    facts = [version("relocalize"), asdict(settings), place.map_digest()]
    facts += [[image.name for image in capture.images] for capture in captures]
    digest = hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()
    return work_folder(place, f"extend-{digest}")


def _nothing_joined(place: Place, captures: Sequence[Capture], found: Reconstructed) -> str:
    names = ", ".join(capture.name for capture in captures)
    return (
        f"nothing ties {names} to the map of {place.root}: "
        f"{found.model.num_reg_images()} of {len(found.names)} images came together, but not "
        "enough of them are where the map has been, or look like it; film a way that begins where "
        "the map is"
    )
