"""A map in a frame that is given: points from images whose poses and cameras are known.

Only the split's train images make points and are seen in the database; test images keep their
pose in the model and observe nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap

from relocalize.errors import MappingError
from relocalize.features.database import FeatureDatabase
from relocalize.features.matching import match_pairs
from relocalize.features.pairs import Similarity, exhaustive_pairs, loop_pairs, sequential_pairs
from relocalize.mapping.keyframes import choose_keyframes
from relocalize.mapping.look_alikes import contradictions
from relocalize.mapping.outcome import Outcome, images_apart, nearest_in_order
from relocalize.mapping.points import triangulate
from relocalize.mapping.posed_focal import with_focal_lengths
from relocalize.mapping.pruning import prune_points
from relocalize.mapping.registering import Query, Registrar, add_to_model, reasons_of
from relocalize.mapping.report import MapReport, Stages
from relocalize.mapping.settings import MapSettings
from relocalize.mapping.stored_model import given_images
from relocalize.place import MapModel, Place, Points, PosedImage
from relocalize.place.bundle_adjustment import refine_points
from relocalize.place.model import add_image

_WELL_SEEN = 50  # points of an image; a photo from nearby finds half of them


def train_images(place: Place, settings: MapSettings) -> list[str]:
    """The posed images that may make points, in capture order.

    Raises:
        PlaceError: the Place has several splits and none is named.
    """
    posed = given_images(place)
    names = [image.name for _, image in place.images() if image.name in posed]
    if settings.split is None and not place.split_names:
        return names
    train = set(place.split(settings.split).train)
    return [name for name in names if name in train]


def triangulate_map(
    place: Place, database: FeatureDatabase, work: Path, settings: MapSettings
) -> Outcome:
    """Points for a Place whose poses were imported; these stay, to the bit.

    Exact cameras stay as well, but for a radial term that the import did not give; of others the
    focal length is estimated with it.
    """
    stages = Stages()
    origin = place.map.local_origin
    given = given_images(place)
    posed = MapModel(given, Points.none()).about(origin).images
    names = train_images(place, settings)
    if len(names) < 2:
        raise MappingError(f"{len(names)} posed train images; points need at least 2")
    database.add_images([(name, posed[name].camera) for name in names])
    with stages.measure("features", "images") as count:
        count.items = database.extract(names, place.images_dir)
    with stages.measure("keyframes", "frames") as count:
        keyframes = _keyframes(place, database, names, settings)
        count.items = len(names)
    with stages.measure("pairs", "keyframes") as count:
        similarity = Similarity(database, keyframes)
        pairs = sequential_pairs(keyframes, settings.pairs) | loop_pairs(similarity, settings.pairs)
        if len(keyframes) <= settings.pairs.exhaustive:
            pairs |= exhaustive_pairs(keyframes)
        count.items = len(keyframes)
    with stages.measure("matching and verification", "pairs") as count:
        count.items = match_pairs(database, pairs, settings.matching)
    with stages.measure("focal lengths", "cameras") as count:
        posed = posed | with_focal_lengths(database, {name: posed[name] for name in keyframes})
        lens_of = {given[name].camera_id: posed[name].camera for name in keyframes}
        posed = {
            name: replace(image, camera=lens_of.get(image.camera_id, image.camera))
            for name, image in posed.items()
        }
        camera_ids = database.camera_ids()
        free = {camera_ids[name] for name in names if given[name].camera.known != "exact"}
        count.items = len(free)
    with stages.measure("triangulation", "keyframes") as count:
        out = work / "triangulated"
        out.mkdir(parents=True, exist_ok=True)
        posed_only = _posed_model(database, [posed[name] for name in keyframes])
        model = triangulate(posed_only, database.path, place.images_dir, out, seed=settings.seed)
        count.items = len(keyframes)
    if not model.num_points3D():
        raise MappingError(
            f"no point could be triangulated from {len(keyframes)} images: do the imported poses "
            "belong to these images, and is their convention right?"
        )
    with stages.measure("observations of the other frames", "frames") as count:
        rest = [name for name in names if name not in set(keyframes)]
        registrar = Registrar(model, database, similarity.vlad, settings.registering)
        near = nearest_in_order(names, set(keyframes), settings.registering.neighbours)
        results = registrar.register(
            [
                Query(name, posed[name].camera, near[name], posed[name].cam_from_world)
                for name in rest
            ],
            what="observing points",
        )
        add_to_model(model, results, database)
        refine_points(
            model, distortion_of=_undistorted(model), lenses_of=free.intersection(model.cameras)
        )
        prune_points(model)
        count.items = len(rest)
    with stages.measure("colors", "images") as count:
        model.extract_colors_for_all_images(str(place.images_dir))
        count.items = int(model.num_reg_images())
    merged = _with_every_pose(MapModel.from_colmap(model).about(-origin), given)
    return Outcome(
        model=merged,
        frame=None,
        report=MapReport(
            images=len(names),
            registered=len(names),
            keyframes=len(keyframes),
            keyframes_registered=len(keyframes),
            points=len(merged.points),
            reprojection_error=float(merged.points.reprojection_errors.mean()),
            features=database.settings.kind,
            alarms=_alarms(model, database, place),
            apart=images_apart(place, reasons_of(results)),
            intrinsics=_intrinsics(given, merged),
            stages=stages.times,
        ),
        held=_well_seen(merged, names),
    )


def _alarms(
    model: pycolmap.Reconstruction, database: FeatureDatabase, place: Place
) -> tuple[str, ...]:
    return contradictions(
        MapModel.from_colmap(model),
        database.verified_matches(),
        because="the poses that were given, or their convention, are wrong; run: relocalize check "
        f"{place.root}",
    )


def _well_seen(model: MapModel, names: Sequence[str]) -> float:
    """The share of images that observe enough points for photos to be matched with them."""
    counts = [len(model.images[name].observed) for name in names]
    return float(np.mean([count >= _WELL_SEEN for count in counts]))


def _intrinsics(given: dict[str, PosedImage], merged: MapModel) -> tuple[str, ...]:
    """What became of the cameras, by how they were known: a line each."""
    lines = []
    for known, said in (
        ("exact", "as given"),
        ("approximate", "known approximately, estimated as"),
        ("unknown", "unknown, estimated as"),
    ):
        images = [name for name, image in given.items() if image.camera.known == known]
        focals = sorted(merged.images[name].camera.focal_px for name in images)
        if not images:
            continue
        line = f"focal length of {len(images)} images {said}"
        if known != "exact":
            same = focals[-1] - focals[0] < 0.05
            line += f" {focals[0]:.1f}" + ("" if same else f" to {focals[-1]:.1f}") + " px"
            held = sum(given[n].camera.params == merged.images[n].camera.params for n in images)
            if held:
                line += f"; {held} of them could not be estimated and keep what they had"
        lines.append(line)
    return tuple(lines)


def _keyframes(
    place: Place, database: FeatureDatabase, names: Sequence[str], settings: MapSettings
) -> list[str]:
    by_capture: dict[str, list[str]] = {}
    wanted = set(names)
    for capture, image in place.images():
        if image.name in wanted:
            by_capture.setdefault(capture.name, []).append(image.name)
    chosen: list[str] = []
    for capture_names in by_capture.values():
        camera = place.map.images[capture_names[0]].camera
        chosen += choose_keyframes(
            database, capture_names, (camera.width, camera.height), settings.keyframes
        )
    return chosen


def _posed_model(
    database: FeatureDatabase, images: Sequence[PosedImage]
) -> pycolmap.Reconstruction:
    """A model without points that has the database's numbers and keypoints."""
    model = pycolmap.Reconstruction()
    camera_ids = database.camera_ids()
    for camera_id in sorted({camera_ids[image.name] for image in images}):
        image = next(i for i in images if camera_ids[i.name] == camera_id)
        model.add_camera_with_trivial_rig(image.camera.to_colmap(camera_id))
    for image in images:
        add_image(
            model,
            image.name,
            database.image_ids[image.name],
            camera_ids[image.name],
            image.cam_from_world.to_colmap(),
            database.features(image.name).keypoints,
        )
    return model


def _undistorted(model: pycolmap.Reconstruction) -> list[int]:
    """Cameras with a radial term of exactly 0: one that nobody has estimated yet."""
    return [
        camera_id
        for camera_id, camera in model.cameras.items()
        if camera.model_name == "SIMPLE_RADIAL" and camera.params[3] == 0
    ]


def _with_every_pose(triangulated: MapModel, posed: dict[str, PosedImage]) -> MapModel:
    """The triangulated map with the given poses, bit for bit, of every posed image."""
    refined = {posed[name].camera_id: image.camera for name, image in triangulated.images.items()}
    images = {}
    for name, given in sorted(posed.items()):
        seen = triangulated.images.get(name)
        images[name] = PosedImage(
            name=name,
            camera=refined.get(given.camera_id, given.camera),
            camera_id=given.camera_id,
            cam_from_world=given.cam_from_world,
            keypoints=np.empty((0, 2), np.float32) if seen is None else seen.keypoints,
            point_rows=np.empty(0, np.int64) if seen is None else seen.point_rows,
        )
    return MapModel(images, triangulated.points)
