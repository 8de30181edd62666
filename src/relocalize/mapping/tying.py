"""Models in frames of their own, tied to a finished map by what both see; what was there stays.

Images of a model are localized in the map, with all that guards against look-alikes. Where enough
of them agree on one similarity, the model is moved there, shares the map's points, and is adjusted
while the map is held.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import count as count_from

import numpy as np
import pycolmap

from relocalize import progress
from relocalize.absolute_pose import PoseSolver, Refused, Solved
from relocalize.absolute_pose.refinement import View
from relocalize.absolute_pose.scene import observed_rows
from relocalize.checking.soundness import judge_soundness, loose_images
from relocalize.features.database import FeatureDatabase
from relocalize.features.extraction import Features
from relocalize.features.matching import Rows
from relocalize.geometry import Camera, align_camera_poses
from relocalize.mapping.merging import add_images, add_points, agreed_similarity, poses_of
from relocalize.mapping.pruning import fits, let_go, prune_new_points, prune_points, unpose
from relocalize.mapping.report import MapReport, Stages
from relocalize.mapping.stored_model import as_before, read_model, shift, stored_report
from relocalize.parallel import map_in_order
from relocalize.place import MapModel, Place
from relocalize.place.bundle_adjustment import refine_map, refine_photos

_ASKED = 300  # images of a new model that are localized in the map
_NOT_TIED = "nothing firm ties it to the map"
_ROUNDS = 2  # of adjustment: in the second, images agree that the first bent onto the map


@dataclass(frozen=True, eq=False)
class Tied:
    """A map with what is tied to it."""

    # the map, in the Place's frame; what was there is as it was, unless all was refined
    whole: pycolmap.Reconstruction
    joined: frozenset[str]  # names of the images that came into it
    # the map's units per unit of each model; None of one that nothing ties to it
    scales: tuple[float | None, ...]
    # models of images that nothing firm ties to it, each in a frame of its own
    apart: tuple[MapModel, ...]
    reasons: dict[str, str]  # why images of the models have no pose in it


@dataclass(frozen=True, eq=False)
class _Old:
    """The map that is there, about its own origin."""

    solver: PoseSolver  # localizes in it
    point_ids: Rows  # of the scene's points

    @classmethod
    def of(cls, place: Place, database: FeatureDatabase) -> _Old:
        model = place.map
        solver = PoseSolver.learn(model, database, origin=model.local_origin)
        return cls(solver, model.points.ids[observed_rows(model.views)])


def tie(
    place: Place,
    models: Sequence[MapModel],
    database: FeatureDatabase,
    stages: Stages,
    *,
    refine: bool,
) -> Tied:
    """The map of a Place with models tied to it; nothing on disk changes.

    Args:
        place: with a map that has points.
        models: each in a frame of its own.
        database: with the features of the map's images and theirs.
        stages: measures what it costs.
        refine: move everything to its joint optimum afterwards, what was there too.
    """
    origin, before = place.map.local_origin, place.map.images.keys()
    with stages.measure("joining", "images") as count:
        old = _Old.of(place, database)
        whole = read_model(place)
        shift(whole, -origin)
        moved = [model.about(model.local_origin).to_colmap() for model in models]
        scales = tuple(_join(whole, model, old, database) for model in moved)
        apart = [model for model, scale in zip(models, scales, strict=True) if scale is None]
        everything = MapModel.from_colmap(whole)
        seeing = {name for model in models for name in _seeing(model)}
        loose = dict.fromkeys(seeing - _seeing(everything) - before, "no point of the map holds it")
        loose |= loose_images(everything)
        for names in judge_soundness(everything).parts:
            if not before & set(names):
                apart.append(everything.only(names))
                loose |= dict.fromkeys(names, _NOT_TIED)
        for model in models:  # what observes nothing is where the others of its model are
            others = _seeing(model)
            if not everything.images.keys() & (others - (loose.keys() - before)):
                loose |= dict.fromkeys(model.images.keys() - others, _NOT_TIED)
        unpose(whole, loose.keys() - before)
        count.items = int(whole.num_reg_images()) - len(before)
    if refine and count.items:
        with stages.measure("bundle adjustment of everything", "images") as count:
            _refine(whole, before)
            count.items = int(whole.num_reg_images())
    shift(whole, origin)
    if not refine:
        as_before(whole, read_model(place))
    whole.update_point_3d_errors()
    joined = {image.name for image in whole.images.values() if image.has_pose} - before
    reasons = loose | {name: _NOT_TIED for part in apart for name in part.images}
    return Tied(
        whole,
        frozenset(joined),
        scales,
        tuple(apart),
        {name: why for name, why in reasons.items() if name not in joined | before},
    )


def _refine(whole: pycolmap.Reconstruction, before: Collection[str]) -> None:
    """Move everything to its joint optimum, which says nothing of the frame: that is as before."""
    images = [image for image in whole.images.values() if image.has_pose]
    unseeing = {i.frame_id: copy(i.frame.rig_from_world) for i in images if not i.num_points3D}
    stay = [i.image_id for i in images if i.name in before and i.frame_id not in unseeing]
    then = poses_of(whole, stay)
    refine_map(whole)
    prune_points(whole)
    whole.transform(align_camera_poses(poses_of(whole, stay), then).b_from_a.to_colmap())
    for frame_id, pose in unseeing.items():
        whole.frames[frame_id].rig_from_world = pose


def _seeing(model: MapModel) -> set[str]:
    return {image.name for image in model.views}


def _join(
    whole: pycolmap.Reconstruction,
    model: pycolmap.Reconstruction,
    old: _Old,
    database: FeatureDatabase,
) -> float | None:
    """Move a model onto the whole, if its images say where; by which scale."""
    ids = sorted(model.reg_image_ids())
    # Images that observe nothing, such as those that test, come along unasked.
    seeing = [i for i in ids if model.images[i].num_points3D]
    rows = np.linspace(0, len(seeing) - 1, min(_ASKED, len(seeing))).astype(int)
    asked = [seeing[row] for row in rows]
    localized = _localized(model, asked, old.solver, database)
    views = [found.view for found in localized.values()]
    present = {image.name: number for number, image in whole.images.items() if image.has_pose}
    agreed = agreed_similarity(
        poses_of(model, list(localized)),
        [
            poses_of(whole, [present[name]])[0] if name in present else view.world_from_cam
            for name, view in zip((model.images[i].name for i in localized), views, strict=True)
        ],
        float(np.median([_depth(view) for view in views])) if views else 0.0,
    )
    what = f"{model.images[ids[0]].name} to {model.images[ids[-1]].name}"
    progress.say(
        f"{what}: {len(localized)} of {len(asked)} images localized in the map; "
        + ("no one place agrees with them" if agreed is None else f"{sum(agreed[1])} agree")
    )
    if agreed is None:
        return None
    whole_from_model, agrees = agreed
    model.transform(whole_from_model.to_colmap())
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
        held = [i for i in new if whole.images[i].num_points3D]
        refine_photos(whole, held, own, set(camera_ids.values()))
        let_go(whole, [whole.images[number] for number in new])
        prune_new_points(whole, own)
        for image_id, view in zip(localized, views, strict=True):
            _observe(whole, image_ids[image_id], view, old, checked=True)
    return whole_from_model.scale


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


def report_of(place: Place, tied: Tied, added: MapReport, stages: Stages) -> MapReport:
    """What is to be said of the map since then.

    Args:
        place: with the map as it was.
        tied: the map as it is.
        added: of what came to it: its images and keyframes, and who has no pose.
        stages: of this run.
    """
    model = MapModel.from_colmap(tied.whole)
    count = len(place.map.images)
    # A map that another program made has no report.
    before = stored_report(place) or MapReport(count, count, count, count, 0, 0.0)
    return replace(
        before,
        images=before.images + added.images,
        registered=before.registered + added.registered,
        keyframes=before.keyframes + added.keyframes,
        keyframes_registered=before.keyframes_registered + added.keyframes_registered,
        points=len(model.points),
        reprojection_error=float(tied.whole.compute_mean_reprojection_error()),
        fragments=before.fragments + len(tied.apart),
        look_alikes=before.look_alikes + added.look_alikes,
        alarms=tuple(dict.fromkeys((*before.alarms, *added.alarms))),
        weak_links=tuple(map(str, judge_soundness(model).links)),
        apart=(*before.apart, *added.apart),
        stages=stages.times,
        unchanged=False,
    )
