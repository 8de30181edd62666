"""A map from images alone: structure from motion on keyframes, then every other frame.

The world frame is z up where gravity shows, metric where a measured length or a reference
registration says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from relocalize import progress
from relocalize.checking.soundness import Soundness, judge_soundness
from relocalize.checking.standing import standing
from relocalize.errors import MappingError, NotConnectedError
from relocalize.features.database import FeatureDatabase, Pair
from relocalize.features.focal import voted_focal
from relocalize.features.matching import match_pairs
from relocalize.features.pairs import Similarity, exhaustive_pairs, loop_pairs, sequential_pairs
from relocalize.formats.names import match_names
from relocalize.formats.registry import read_registration
from relocalize.geometry import Camera, Similarity3, align_camera_poses
from relocalize.mapping.broken_walk import breaks
from relocalize.mapping.drift import drift_of
from relocalize.mapping.gravity import estimate_gravity, registered_cameras, upright
from relocalize.mapping.keyframes import choose_keyframes
from relocalize.mapping.look_alikes import contradictions
from relocalize.mapping.main_model import MainModel, make_main_model
from relocalize.mapping.outcome import Outcome, images_apart, nearest_in_order
from relocalize.mapping.own_cameras import with_own_cameras, zoomed
from relocalize.mapping.pruning import Pruned, held_cameras, keep_images, refine_and_prune
from relocalize.mapping.reconstruction import Task, alarms_of, read_models, save_models
from relocalize.mapping.registering import Query, Registrar, Registration, add_to_model, reasons_of
from relocalize.mapping.report import Drift, MapReport, Stages
from relocalize.mapping.scale import metres_per_unit
from relocalize.mapping.settings import MapSettings
from relocalize.place import Capture, Frame, MapModel, Place, atomic
from relocalize.place.folder import METRE, read_json
from relocalize.place.model import write_model

_LEAST_PART = 3  # images of a map, and of a part; fewer lose their pose
_APART = "in part {number}, which nothing firm ties to the map; film what lies between the two"
_REGISTERED_PER_SAVE = 200  # images; a kill loses at most the registration of so many


@dataclass(frozen=True, eq=False)
class _Walks:
    """The images by role."""

    names: list[str]  # all, in capture order
    keyframes: list[str]  # those that carry the reconstruction, in capture order
    pairs: set[Pair]  # to match for their order alone
    neighbours: set[Pair]  # those of them that are near in time; none of loose photos
    ordered: bool  # whether the keyframes are of one video


@dataclass(frozen=True, eq=False)
class Reconstructed:
    """Images that came together, in a frame of their own."""

    model: pycolmap.Reconstruction  # the largest sound part
    parts: tuple[MapModel, ...]  # models of images that nothing firm ties to it
    names: list[str]  # all images that were to be in it
    reasons: dict[str, str]  # why images have no pose in the model
    ordered: bool  # whether they are of one video
    keyframes: int  # how many carried the reconstruction
    keyframes_registered: int  # those of them that came into the reconstruction itself
    look_alikes: int  # pairs that were left out because the map contradicts them
    drift: Drift | None  # how far scale and direction are held over one walk
    weak_links: tuple[str, ...]  # parts of the model that little holds to each other
    alarms: tuple[str, ...]  # what is suspicious about the model


def reconstruct_map(
    place: Place,
    database: FeatureDatabase,
    work: Path,
    settings: MapSettings,
    *,
    last_resort: bool = True,
    in_time: bool = True,
) -> Outcome:
    """Map all captures of a Place together.

    Args:
        place: with images.
        database: of their features and matches.
        work: folder for what a killed run goes on from.
        settings: how.
        last_resort: whether to go on trying where the map falls apart.
        in_time: whether frames of a video are taken to see what their neighbours see. Otherwise
            each is matched with each as loose photos are, and the order only judges the map.

    Raises:
        MappingError: fewer than 3 images, or they do not come together.
    """
    stages = Stages()
    captures = [one for one in place.captures.values() if one.images and not one.is_registered]
    found = reconstruct(
        place, captures, database, work, settings, stages, last_resort=last_resort, in_time=in_time
    )
    model, names = found.model, found.names
    with stages.measure("gravity, scale, colors", "images") as count:
        frame = _settle_frame(place, model, names, settings)
        model.extract_colors_for_all_images(str(place.images_dir))
        count.items = int(model.num_reg_images())
    finished = MapModel.from_colmap(model)
    return Outcome(
        model=finished,
        frame=frame,
        report=MapReport(
            images=len(names),
            registered=len(finished.images),
            keyframes=found.keyframes,
            keyframes_registered=found.keyframes_registered,
            points=len(finished.points),
            reprojection_error=float(model.compute_mean_reprojection_error()),
            features=database.settings.kind,
            fragments=len(found.parts),
            alarms=found.alarms,
            drift=found.drift,
            weak_links=found.weak_links,
            look_alikes=found.look_alikes,
            apart=images_apart(place, found.reasons),
            stages=stages.times,
        ),
        parts=found.parts,
        held=len(finished.images) / len(names),
    )


def reconstruct(
    place: Place,
    captures: Sequence[Capture],
    database: FeatureDatabase,
    work: Path,
    settings: MapSettings,
    stages: Stages,
    *,
    last_resort: bool,
    in_time: bool = True,
) -> Reconstructed:
    """Bring captures together in a frame of their own; see `reconstruct_map`."""
    names = [name for capture in captures for name in capture.image_names]
    if len(names) < 3:
        raise MappingError(
            f"{place.root} has {len(names)} images; a map needs at least 3 that overlap "
            "(add more with: relocalize frames)"
        )
    database.add_images([(i.name, c.camera_of(i)) for c in captures for i in c.images])
    with stages.measure("features", "images") as count:
        count.items = database.extract(names, place.images_dir)
    with stages.measure("keyframes", "frames") as count:
        walks = _walks(database, captures, names, settings, in_time=in_time)
        count.items = len(names)
    with stages.measure("pairs", "keyframes") as count:
        similarity = Similarity(database, walks.keyframes)
        pairs = walks.pairs | loop_pairs(similarity, settings.pairs)
        count.items = len(walks.keyframes)
    with stages.measure("matching and verification", "pairs") as count:
        count.items = match_pairs(database, pairs, settings.matching)
    with stages.measure("reconstruction", "keyframes") as count:
        trusted = walks.neighbours if in_time else set[Pair]()
        main = _main_model(
            place, database, work, walks, trusted, similarity, settings, last_resort=last_resort
        )
        count.items = len(walks.keyframes)
    in_reconstruction = int(main.model.num_reg_images())
    with stages.measure("registration of the other frames", "frames") as count:
        model, results = _register_rest(database, work, walks, similarity, main.model, settings)
        count.items = len(results)
    with stages.measure("bundle adjustment of all frames", "images") as count:
        # First: what is left out for contradicting a camera that is none would be missed.
        model = _with_own_cameras(model, captures)
        pruned = refine_and_prune(model)
        count.items = int(model.num_reg_images())
    with stages.measure("judgement", "images") as count:
        count.items = int(model.num_reg_images())
        parts, soundness, pruned = _sound_part(model, pruned)
        posed = {i.name for i in model.images.values() if i.has_pose}
        if len(posed) < _LEAST_PART:
            raise NotConnectedError(_nothing_held(names, pruned.loose))
        parts += [MapModel.from_colmap(fragment) for fragment in main.fragments]
        parts = [part for part in parts if len(part.images.keys() - posed) >= _LEAST_PART]
        whole = MapModel.from_colmap(model)
        drift = drift_of(whole, names) if walks.ordered else None
        alarms = _alarms(model, whole, database.verified_matches(), walks, captures)
        alarms += pruned.alarms
        alarms += grown_from(in_reconstruction, len(posed & set(walks.keyframes)))
    reasons = reasons_of(results)
    for number, part in enumerate(parts, start=1):
        reasons |= dict.fromkeys(part.images, _APART.format(number=number))
    return Reconstructed(
        model=model,
        parts=tuple(parts),
        names=names,
        reasons={name: why for name, why in (reasons | pruned.loose).items() if name not in posed},
        ordered=walks.ordered,
        keyframes=len(walks.keyframes),
        keyframes_registered=min(in_reconstruction, len(walks.keyframes)),
        look_alikes=main.look_alikes,
        drift=drift,
        weak_links=tuple(map(str, soundness.links)),
        alarms=alarms,
    )


def _with_own_cameras(
    model: pycolmap.Reconstruction, captures: Sequence[Capture]
) -> pycolmap.Reconstruction:
    """The model, with a camera a photo where they were not taken by one."""
    doubtful = [
        image.name
        for capture in captures
        if capture.kind == "photos"
        for image in capture.images
        if capture.camera_of(image).known == "unknown"
    ]
    split, difference = with_own_cameras(MapModel.from_colmap(model), doubtful)
    if not difference:
        return model
    progress.say(
        f"photos of one size were not taken by one camera: focal lengths of them differ by up to "
        f"{difference:.0%}; each has a camera of its own"
    )
    return split.to_colmap()


def grown_from(reconstructed: int, posed: int) -> tuple[str, ...]:
    """An alarm where most keyframes were not reconstructed, but registered to a few others.

    Of 43 maps at hand 40 were reconstructed from all of their keyframes; a camera that stood nearly
    still gave one from 2 of 40, ten people's photos of a church one of 5 images from 2.

    Args:
        reconstructed: how many were.
        posed: how many keyframes have a pose.
    """
    if 2 * reconstructed >= posed:
        return ()
    return (
        f"only {reconstructed} of its {posed} keyframes could be reconstructed, and the others are "
        "placed by what these show: walk on while filming, or take photos from further sides",
    )


def _nothing_held(names: Sequence[str], loose: Mapping[str, str]) -> str:
    name, why = next(iter(loose.items()), (names[0], "no point holds it"))
    return (
        f"no {_LEAST_PART} of the {len(names)} images can be held in place ({name}: {why}); "
        "take more photos from further apart, with overlap"
    )


def _sound_part(
    model: pycolmap.Reconstruction, pruned: Pruned
) -> tuple[list[MapModel], Soundness, Pruned]:
    """Leave the largest sound part in the model.

    Returns:
        The other parts, what is weak in the largest, and what it could not keep.
    """
    parts, soundness = _parted(model)
    if parts:
        # What is left was adjusted, and its lens held, with what is gone.
        again = refine_and_prune(model)
        pruned = Pruned(pruned.loose | again.loose, again.alarms)
        more, soundness = _parted(model)
        parts += more
    return parts, soundness, pruned


def _parted(model: pycolmap.Reconstruction) -> tuple[list[MapModel], Soundness]:
    whole = MapModel.from_colmap(model)
    soundness = judge_soundness(whole)
    if len(soundness.parts) > 1:
        keep_images(model, soundness.parts[0])
    return [whole.only(part) for part in soundness.parts[1:]], soundness


def _alarms(
    model: pycolmap.Reconstruction,
    whole: MapModel,
    matches: Mapping[Pair, NDArray[np.uint32]],
    walks: _Walks,
    captures: Sequence[Capture],
) -> tuple[str, ...]:
    """What is suspicious about a model (``whole`` is the same) and its verified matches."""
    alarms = alarms_of(model, [name for name in walks.names if name in whole.images], walks.ordered)
    alarms += contradictions(whole, matches, walks.neighbours)
    alarms += breaks(whole, matches, walks.neighbours, walks.keyframes)
    alarms += standing(whole)
    for capture in captures:
        if capture.kind == "video":
            alarms += zoomed(whole, capture.image_names)
    return alarms


def _walks(
    database: FeatureDatabase,
    captures: Sequence[Capture],
    names: list[str],
    settings: MapSettings,
    *,
    in_time: bool,
) -> _Walks:
    keyframes: list[str] = []
    pairs: set[Pair] = set()
    neighbours: set[Pair] = set()
    for capture in captures:
        if capture.kind == "video":
            chosen = capture.image_names
            if in_time:
                size = (capture.cameras[0].width, capture.cameras[0].height)
                chosen = choose_keyframes(database, chosen, size, settings.keyframes)
                pairs |= sequential_pairs(chosen, settings.pairs)
            else:
                pairs |= exhaustive_pairs(chosen)
            neighbours |= sequential_pairs(chosen, replace(settings.pairs, reach=0))
        else:
            chosen = capture.image_names
            if len(chosen) <= settings.pairs.exhaustive:
                pairs |= exhaustive_pairs(chosen)
            else:
                pairs |= sequential_pairs(chosen, settings.pairs)
        keyframes += chosen
    ordered = len(captures) == 1 and captures[0].kind == "video"
    return _Walks(names, keyframes, pairs, neighbours, ordered)


def _main_model(
    place: Place,
    database: FeatureDatabase,
    work: Path,
    walks: _Walks,
    trusted: set[Pair],
    similarity: Similarity,
    settings: MapSettings,
    *,
    last_resort: bool,
) -> MainModel:
    """The map of the keyframes; a finished one is read back from ``work``."""
    finished, record = work / "main-model", work / "main-model.json"
    if not finished.is_dir():
        _vote_focals(database, walks.keyframes)
        task = Task(
            database.path,
            walks.keyframes,
            place.images_dir,
            work,
            ordered=walks.ordered,
            seed=settings.seed,
        )
        main = make_main_model(
            task, database, trusted, similarity, settings.matching, last_resort=last_resort
        )
        atomic.write_json(record, {"look_alikes": main.look_alikes})
        save_models([main.model, *main.fragments], finished)
    # As after a kill, for the same map to the bit.
    model, *fragments = read_models(finished)
    return MainModel(model, fragments, read_json(record)["look_alikes"])


def _vote_focals(database: FeatureDatabase, names: Sequence[str]) -> None:
    """Start cameras of unknown focal length at what the matches say of it."""
    members: dict[int, list[str]] = {}
    camera_ids = database.camera_ids()
    for name in names:
        members.setdefault(camera_ids[name], []).append(name)
    for camera_id, images in members.items():
        camera = database.camera(camera_id)
        if camera.known == "unknown":
            voted = voted_focal(camera, database.fundamental_matrices(images))
            # Known from nothing, COLMAP would look for another with every image.
            database.update_camera(camera_id, replace(voted, known="approximate"))


def _register_rest(
    database: FeatureDatabase,
    work: Path,
    walks: _Walks,
    similarity: Similarity,
    model: pycolmap.Reconstruction,
    settings: MapSettings,
) -> tuple[pycolmap.Reconstruction, list[Registration]]:
    """The model with every further image that can be registered, saved now and then."""
    anchors = {i.name for i in model.images.values() if i.has_pose}
    registrar = Registrar(model, database, similarity.vlad, settings.registering)
    saved = work / "registered"
    if (saved / "points3D.bin").is_file():
        model = pycolmap.Reconstruction(str(saved))
    inside = {i.name for i in model.images.values() if i.has_pose}
    camera_ids = database.camera_ids()
    for camera_id in model.cameras.keys() - held_cameras(model).keys():
        given, camera = database.camera(camera_id).to_colmap(), model.cameras[camera_id]
        camera.model, camera.params = given.model, list(given.params)
    rest = [name for name in walks.names if name not in inside]
    near = nearest_in_order(walks.names, anchors, settings.registering.neighbours)
    results: list[Registration] = []

    def camera_of(name: str) -> Camera:
        # The map's own estimate where it has one; else what the capture says.
        camera_id = camera_ids[name]
        if model.exists_camera(camera_id):
            return Camera.from_colmap(model.cameras[camera_id])
        return database.camera(camera_id)

    queries = [Query(name, camera_of(name), near[name]) for name in rest]
    for start in range(0, len(queries), _REGISTERED_PER_SAVE):
        found = registrar.register(queries[start : start + _REGISTERED_PER_SAVE])
        add_to_model(model, found, database)
        results += found
        if start + _REGISTERED_PER_SAVE < len(queries):
            aside = work / "registered-new"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            write_model(model, aside)
            atomic.remove_folder(saved)
            aside.rename(saved)
    return model, results


def _settle_frame(
    place: Place, model: pycolmap.Reconstruction, names: Sequence[str], settings: MapSettings
) -> Frame:
    """Turn and scale the model in place; what its frame is then."""
    if settings.reference is not None:
        return _take_frame_of(settings.reference, model)
    cameras = registered_cameras(model)
    gravity = estimate_gravity(place, cameras)
    centre_of = {name: pose.translation for name, _, pose in cameras}
    centres = np.stack([centre_of[name] for name in names if name in centre_of])
    model.transform(upright(gravity.up, centres).to_colmap())
    frame = Frame(up="z", up_from=gravity.source)
    if not settings.lengths:
        return frame
    factor = metres_per_unit(MapModel.from_colmap(model), settings.lengths)
    model.transform(Similarity3(factor, np.eye(3), np.zeros(3)).to_colmap())
    count = len(settings.lengths)
    what = f"{count} measured length{'s' if count > 1 else ''}"
    return replace(frame, unit=METRE, scale_from=what)


def _take_frame_of(reference: Path, model: pycolmap.Reconstruction) -> Frame:
    registration = read_registration(reference)
    cameras = {name: pose for name, _, pose in registered_cameras(model)}
    present_of = match_names(registration.poses, cameras).present_of
    if len(present_of) < 3:
        raise MappingError(
            f"{reference} and the map have {len(present_of)} image names in common; "
            "a reference needs at least 3"
        )
    alignment = align_camera_poses(
        [cameras[name] for name in present_of.values()],
        [registration.world_from_cam(name) for name in present_of],
    )
    model.transform(alignment.b_from_a.to_colmap())
    progress.say(
        f"frame of {reference.name}: {int(alignment.inliers.sum())} of {len(present_of)} common "
        f"images agree, median {np.median(alignment.position_residuals):.4g} {registration.unit} "
        f"and {np.median(alignment.rotation_residuals_deg):.2g} degrees"
    )
    return Frame(unit=registration.unit, scale_from=f"{reference.name} ({registration.format})")
