"""Another walk into a finished map, which goes on where the walk does; what was there stays.

The new captures are brought together by themselves first, judged like any map. Their images are
then localized in the map that is there, with all that guards against look-alikes; where enough of
them agree on one similarity, the new model is moved onto the map, tied to it by what both see, and
adjusted while the map is held.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import count as count_from
from pathlib import Path

import numpy as np
import pycolmap

from relocalize import progress
from relocalize.absolute_pose import PoseSolver, Refused, Solved
from relocalize.absolute_pose.refinement import View
from relocalize.absolute_pose.scene import observed_rows
from relocalize.checking.soundness import judge_soundness, loose_images
from relocalize.errors import MappingError
from relocalize.features.database import FeatureDatabase, open_database
from relocalize.features.extraction import Features
from relocalize.features.matching import Rows
from relocalize.geometry import Camera
from relocalize.mapping.map_place import note_inputs
from relocalize.mapping.merging import add_images, add_points, agreed_similarity, poses_of
from relocalize.mapping.outcome import images_apart
from relocalize.mapping.pruning import (
    fits,
    let_go,
    prune_new_points,
    prune_points,
    unpose,
)
from relocalize.mapping.report import MapReport, Stages
from relocalize.mapping.settings import MapSettings
from relocalize.mapping.stored_model import (
    REFINED,
    as_before,
    check_can_grow,
    read_model,
    read_record,
    replace_model,
    shift,
    work_folder,
)
from relocalize.mapping.unknown_poses import Reconstructed, reconstruct
from relocalize.parallel import map_in_order
from relocalize.place import Capture, MapModel, Place
from relocalize.place.bundle_adjustment import refine_map, refine_photos
from relocalize.plain import from_plain

_ASKED = 300  # images of a new model that are localized in the map
_NOT_TIED = "nothing firm ties it to the map"
_ROUNDS = 2  # of adjustment: in the second, images agree that the first bent onto the map


@dataclass(frozen=True, eq=False)
class _Old:
    """The map that is there, about its own origin.

    Attributes:
        solver: localizes in it.
        point_ids: of the scene's points.
    """

    solver: PoseSolver
    point_ids: Rows

    @classmethod
    def of(cls, place: Place, database: FeatureDatabase) -> _Old:
        model = place.map
        views = [image for image in model.images.values() if (image.point_rows >= 0).any()]
        solver = PoseSolver.learn(model, database, origin=model.local_origin)
        return cls(solver, model.points.ids[observed_rows(views)])


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
            return _as_it_is(place)
        stages = Stages()
        work = _work_folder(place, captures, settings)
        with open_database(place) as database:
            found = reconstruct(place, captures, database, work, settings, stages, last_resort=True)
            with stages.measure("joining", "images") as count:
                whole, apart = _joined(place, found, database)
                count.items = int(whole.num_reg_images()) - len(inside)
        if not count.items:
            raise MappingError(_nothing_joined(place, captures, found))
        if refine:
            with stages.measure("bundle adjustment of everything", "images") as count:
                refine_map(whole)
                prune_points(whole)
                count.items = int(whole.num_reg_images())
        shift(whole, place.map.local_origin)
        if not refine:
            as_before(whole, read_model(place))
        whole.update_point_3d_errors()
        for image in whole.images.values():
            if image.has_pose and image.name not in inside:
                whole.extract_colors_for_image(image.image_id, str(place.images_dir))
        report = _report(place, whole, captures, found, apart, stages)
        record = read_record(place)
        record |= {REFINED: bool(record.get(REFINED)) or refine, "report": report.to_json()}
        replace_model(place, whole, record, parts=apart)
        note_inputs(place, settings)
        shutil.rmtree(work.parent, ignore_errors=True)
    return report


def _as_it_is(place: Place) -> MapReport:
    """The report of a map that has all captures."""
    hint = f"relocalize frames VIDEO {place.root} --capture NAME"
    try:
        report = from_plain(MapReport, read_record(place)["report"])
    except (KeyError, TypeError, ValueError):
        raise MappingError(f"{place.root} has no capture beside its map; add one: {hint}") from None
    progress.say(f"every capture is in the map; add one with: {hint}")
    return replace(report, unchanged=True)


def _work_folder(place: Place, captures: Sequence[Capture], settings: MapSettings) -> Path:
    """Where a killed run goes on from; what other inputs left there is gone."""
    facts = [version("relocalize"), asdict(settings), place.map_digest]
    facts += [[image.name for image in capture.images] for capture in captures]
    digest = hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()
    return work_folder(place, f"extend-{digest}")


def _joined(
    place: Place, found: Reconstructed, database: FeatureDatabase
) -> tuple[pycolmap.Reconstruction, list[MapModel]]:
    """The map, about its local origin, with what is tied to it; and what is not."""
    old = _Old.of(place, database)
    whole = read_model(place)
    shift(whole, -place.map.local_origin)
    before = {image.name for image in whole.images.values() if image.has_pose}
    parts = (MapModel.from_colmap(found.model), *found.parts)
    apart = [part for part in parts if not _join(whole, part.to_colmap(), old, database)]
    everything = MapModel.from_colmap(whole)
    loose = loose_images(everything).keys() - before
    for names in judge_soundness(everything).parts:
        if not before & set(names):
            apart.append(everything.only(names))
            loose |= set(names)
    unpose(whole, loose)
    return whole, apart


def _join(
    whole: pycolmap.Reconstruction,
    model: pycolmap.Reconstruction,
    old: _Old,
    database: FeatureDatabase,
) -> bool:
    """Move a model onto the whole, if its images say where; whether they do."""
    ids = sorted(model.reg_image_ids())
    asked = [ids[row] for row in np.unique(np.linspace(0, len(ids) - 1, _ASKED).astype(int))]
    localized = _localized(model, asked, old.solver, database)
    views = [found.view for found in localized.values()]
    agreed = agreed_similarity(
        poses_of(model, list(localized)),
        [view.world_from_cam for view in views],
        float(np.median([_depth(view) for view in views])) if views else 0.0,
    )
    what = f"{model.images[ids[0]].name} to {model.images[ids[-1]].name}"
    progress.say(
        f"{what}: {len(localized)} of {len(asked)} images localized in the map; "
        + ("no one place agrees with them" if agreed is None else f"{sum(agreed[1])} agree")
    )
    if agreed is None:
        return False
    whole_from_model, agrees = agreed
    model.transform(whole_from_model.to_colmap())
    present = {image.name: number for number, image in whole.images.items() if image.has_pose}
    fresh = count_from(max(whole.images, default=0) + 1)
    image_ids = {i: present.get(model.images[i].name) or next(fresh) for i in ids}
    fresh = count_from(max(whole.cameras, default=0) + 1)
    camera_ids = {number: next(fresh) for number in sorted(model.cameras)}
    new = [number for number in image_ids.values() if number not in whole.images]
    add_images(whole, model, image_ids, camera_ids)
    for image_id, view, sure in zip(localized, views, agrees, strict=True):
        if sure:
            _observe(whole, image_ids[image_id], view, old, checked=False)
    own = add_points(whole, model, image_ids)
    for _ in range(_ROUNDS):
        refine_photos(whole, new, own, set(camera_ids.values()))
        let_go(whole, [whole.images[number] for number in new])
        prune_new_points(whole, own)
        for image_id, view in zip(localized, views, strict=True):
            _observe(whole, image_ids[image_id], view, old, checked=True)
    return True


def _depth(view: View) -> float:
    away = np.linalg.norm(view.points - view.world_from_cam.translation, axis=1)
    return float(np.median(away))


def _localized(
    model: pycolmap.Reconstruction,
    image_ids: Sequence[int],
    solver: PoseSolver,
    database: FeatureDatabase,
) -> dict[int, Solved]:
    """Images of a model in the map, as photos of the cameras that the model found."""

    def solved(item: tuple[int, Features]) -> tuple[int, Solved | Refused]:
        image_id, features = item
        camera = Camera.from_colmap(model.cameras[model.images[image_id].camera_id], known="exact")
        return image_id, solver.solve(solver.match(features, camera))

    items = ((i, database.features(model.images[i].name)) for i in image_ids)
    found = map_in_order(solved, items)
    shown = progress.track(found, "localizing in the map", total=len(image_ids), unit="images")
    return {image_id: one for image_id, one in shown if isinstance(one, Solved)}


def _observe(
    whole: pycolmap.Reconstruction, image_id: int, view: View, old: _Old, *, checked: bool
) -> None:
    """Let an image observe what of the map it was localized by; if ``checked``, what fits."""
    image = whole.images[image_id]
    seen = {int(p.point3D_id) for p in image.points2D if p.has_point3D()}
    for row, point in zip(view.feature_rows, old.point_ids[view.point_rows], strict=True):
        number, feature = int(point), int(row)
        if number in seen or image.points2D[feature].has_point3D():
            continue
        if not checked or fits(whole, image, feature, whole.points3D[number].xyz):
            whole.add_observation(number, pycolmap.TrackElement(image_id, feature))
            seen.add(number)


def _nothing_joined(place: Place, captures: Sequence[Capture], found: Reconstructed) -> str:
    names = ", ".join(capture.name for capture in captures)
    return (
        f"nothing ties {names} to the map of {place.root}: "
        f"{found.model.num_reg_images()} of {len(found.names)} images came together, but not "
        "enough of them are where the map has been, or look like it; film a way that begins where "
        "the map is"
    )


def _report(
    place: Place,
    whole: pycolmap.Reconstruction,
    captures: Sequence[Capture],
    found: Reconstructed,
    apart: Sequence[MapModel],
    stages: Stages,
) -> MapReport:
    model = MapModel.from_colmap(whole)
    reasons = {name: why for name, why in found.reasons.items() if name not in model.images}
    for part in apart:
        reasons |= dict.fromkeys(
            part.images.keys() - model.images, "nothing firm ties it to the map"
        )
    try:
        before = from_plain(MapReport, read_record(place)["report"])
    except (KeyError, TypeError, ValueError):  # a map that another program made
        count = len(place.map.images)
        before = MapReport(count, count, count, count, 0, 0.0)
    return replace(
        before,
        images=before.images + len(found.names),
        registered=before.registered + sum(name in model.images for name in found.names),
        keyframes=before.keyframes + found.keyframes,
        keyframes_registered=before.keyframes_registered + found.keyframes_registered,
        points=len(model.points),
        reprojection_error=float(whole.compute_mean_reprojection_error()),
        fragments=before.fragments + len(apart),
        look_alikes=before.look_alikes + found.look_alikes,
        weak_links=tuple(map(str, judge_soundness(model).links)),
        apart=(*before.apart, *images_apart(place, reasons)),
        stages=stages.times,
        unchanged=False,
    )
