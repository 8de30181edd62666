"""More photos, of any camera, into a finished map that does not move.

The poses and points that were there stay as they are, to the bit; points gain observations. With
`RegisterPhotosSettings.refine` a bundle adjustment of everything follows, and then they move.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pycolmap

from relocalize import progress
from relocalize.absolute_pose import PoseSolver, PoseSolverSettings, Refused
from relocalize.absolute_pose.joint_poses import PosedPhoto, PosedTogether, pose_together
from relocalize.absolute_pose.scene import observed_rows
from relocalize.capture.joining import KnownCamera, join_photos
from relocalize.errors import MappingError
from relocalize.features.database import (
    FeatureDatabase,
    check_whole_features,
    open_database,
)
from relocalize.features.matching import Rows
from relocalize.geometry import Camera
from relocalize.geometry.transforms import worst_sigma
from relocalize.mapping.photo_ties import tie_photos
from relocalize.mapping.points import model_of_images
from relocalize.mapping.register_report import RegisteredCamera, RegisteredPhoto, RegisterReport
from relocalize.mapping.report import Stages
from relocalize.mapping.stored_model import (
    REFINED,
    as_before,
    check_can_grow,
    read_model,
    read_record,
    replace_model,
    shift,
)
from relocalize.place import Capture, MapModel, Place
from relocalize.place.bundle_adjustment import refine_map
from relocalize.place.dropped import dropped_names
from relocalize.place.model import add_image
from relocalize.plain import from_plain

_REGISTERED = "registered"  # key of map.json: by capture, what was asked for and what came of it


@dataclass(frozen=True)
class RegisterPhotosSettings:
    """How photos are registered.

    Attributes:
        capture: name of the capture that the photos become, or join.
        camera: what is known of their camera.
        split: match with the points as this split's train images see them; None: all images.
        refine: move everything, old poses and points too, to its joint optimum afterwards.
        solver: how a photo gets its pose.
    """

    capture: str
    camera: KnownCamera = KnownCamera()
    split: str | None = None
    refine: bool = False
    solver: PoseSolverSettings = PoseSolverSettings()


def register_photos(
    place: Place, photos: Sequence[Path], settings: RegisterPhotosSettings
) -> RegisterReport:
    """Add photos to the map as a capture of its own; see the module.

    Args:
        place: with a map that has points.
        photos: photos or folders of photos; none: those of the capture that have no pose yet.
        settings: the capture's name, and what differs from the defaults.

    Raises:
        CaptureError: no photo can be used, or the capture takes none.
        MappingError: the map has no points, or its features are damaged.
        PlaceError: the Place is locked or damaged, or has no map or split of that name.
    """
    with place.lock():
        # All that can be wrong is said before photos are taken in.
        check_can_grow(place)
        model = place.map
        if settings.split is not None:
            model = model_of_images(place, place.split(settings.split).train)
        check_whole_features(place)
        before = set(_left_out(place, settings.capture))
        if photos:
            capture = join_photos(place, photos, settings.capture, settings.camera)
        else:
            capture = _registered_from_now_on(place, settings.capture)
        left_out = tuple(
            reason for reason in _left_out(place, settings.capture) if reason not in before
        )
        inputs = _inputs(capture, settings)
        done = _done(place, capture, settings, inputs)
        if done is not None:
            return replace(done, left_out=left_out)
        with open_database(place, checked=True) as database:
            report, changed = _register(place, capture, settings, model, database, left_out)
        record = read_record(place)
        registered = {
            **(record.get(_REGISTERED) or {}),
            capture.name: {"inputs": inputs, "report": report.to_json()},
        }
        refined = bool(record.get(REFINED)) or settings.refine
        # The database is closed: all of its log is in it.
        replace_model(place, changed, {**record, REFINED: refined, _REGISTERED: registered})
    return report


def _left_out(place: Place, capture: str) -> list[str]:
    captures = place.captures
    return [row.reason for row in captures[capture].dropped] if capture in captures else []


def _registered_from_now_on(place: Place, name: str) -> Capture:
    """The capture, noted as one that no map is made of."""
    capture = place.capture(name)
    posed = place.map.images
    if not capture.is_registered:
        if any(image in posed for image in capture.image_names):
            raise MappingError(
                f"the map of {place.root} is made of capture {name!r}; nothing of it is to be "
                "registered. Give the photos, and a capture of their own: --capture NAME"
            )
        capture = replace(capture, settings={**capture.settings, "registered": True})
        place.write_capture(capture)
    return capture


# -- doing nothing twice ---------------------------------------------------------------------


def _inputs(capture: Capture, settings: RegisterPhotosSettings) -> str:
    """Changes when the capture or a setting does, but for whether everything is to be moved."""
    facts = [
        version("relocalize"),
        asdict(replace(settings, refine=False)),
        [asdict(image) for image in capture.images],
        [asdict(camera) for camera in capture.cameras],
    ]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()


def _done(
    place: Place, capture: Capture, settings: RegisterPhotosSettings, inputs: str
) -> RegisterReport | None:
    """The report of the same call on the map as it is, or None."""
    try:
        record = read_record(place)[_REGISTERED][capture.name]
        report = from_plain(RegisterReport, record["report"])
    except (KeyError, TypeError, ValueError):
        return None
    if record["inputs"] != inputs or (settings.refine and not report.refined):
        return None
    return replace(report, unchanged=True)


# -- the work --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Group:
    """The photos of one camera that are to be registered."""

    names: tuple[str, ...]  # of the images
    prior: Camera  # what the capture says of the camera
    # the camera and its number in the map, where photos of it were registered before
    found: tuple[int, Camera] | None
    outcome: PosedTogether  # of the photos, in the order of the names


def _register(
    place: Place,
    capture: Capture,
    settings: RegisterPhotosSettings,
    model: MapModel,
    database: FeatureDatabase,
    left_out: tuple[str, ...],
) -> tuple[RegisterReport, pycolmap.Reconstruction]:
    """What came of the capture's photos, and the map with them; ``model`` is what they look at."""
    inside = {*place.map.images, *dropped_names(place)}
    todo = [image for image in capture.images if image.name not in inside]
    clock = Stages()
    with clock.measure("features", "photos"):
        database.add_images([(image.name, capture.camera_of(image)) for image in todo])
        database.extract([image.name for image in todo], place.images_dir)
    origin = model.local_origin
    groups: list[_Group] = []
    if todo:
        with clock.measure("learning the map", "photos"):
            solver = PoseSolver.learn(model, database, settings.solver, origin=origin)
        with clock.measure("poses and cameras", "photos"):
            groups = _posed_groups(place, capture, solver, database)
    point_ids = model.points.ids[observed_rows(model.views)]
    changed = read_model(place)
    shift(changed, -origin)
    free = [
        camera_id
        for group in groups
        for camera_id in _add_group(changed, group, point_ids, database)
    ]
    if todo:
        with clock.measure("photo to photo", "photos"):
            names = [image.name for image in todo]
            tie_photos(changed, database, solver.scene.vlad, names, free)
    if settings.refine:
        with clock.measure("bundle adjustment of everything", "images"):
            refine_map(changed)
    shift(changed, origin)
    if origin.any() and not settings.refine:
        as_before(changed, read_model(place))
    changed.update_point_3d_errors()
    return _report(place, capture, settings, groups, changed, left_out, clock), changed


def _posed_groups(
    place: Place, capture: Capture, solver: PoseSolver, database: FeatureDatabase
) -> list[_Group]:
    posed, out = place.map.images, set(dropped_names(place))
    groups = []
    for index, prior in enumerate(capture.cameras):
        members = [image.name for image in capture.images if image.camera == index]
        todo = tuple(name for name in members if name not in posed and name not in out)
        if not todo:
            continue
        before = next((posed[name] for name in members if name in posed), None)
        camera = prior if before is None else before.camera
        matches = [
            solver.match(database.features(name), camera)
            for name in progress.track(todo, "matching photos with the map", unit="photos")
        ]
        outcome = pose_together(solver, matches)
        found = None if before is None else (before.camera_id, before.camera)
        groups.append(_Group(todo, prior, found, outcome))
    return groups


def _add_group(
    model: pycolmap.Reconstruction, group: _Group, point_ids: Rows, database: FeatureDatabase
) -> list[int]:
    """The photos with a pose into the model, with their camera and what they observe.

    Returns:
        The camera's number, where it is an estimate of several photos that may be refined.
    """
    camera = group.outcome.camera
    if camera is None:
        return []
    if group.found is None:
        camera_id = max(model.cameras, default=0) + 1
        model.add_camera_with_trivial_rig(camera.to_colmap(camera_id))
    else:
        camera_id = group.found[0]
    for name, photo in zip(group.names, group.outcome.photos, strict=True):
        if isinstance(photo, Refused):
            continue
        image_id = max(model.images, default=0) + 1
        pose = photo.world_from_cam.inverse().to_colmap()
        seen = zip(photo.feature_rows, point_ids[photo.point_rows], strict=True)
        add_image(model, name, image_id, camera_id, pose, database.features(name).keypoints, seen)
    return [camera_id] if len(group.outcome.sigmas) else []


# -- the report ------------------------------------------------------------------------------


def _report(
    place: Place,
    capture: Capture,
    settings: RegisterPhotosSettings,
    groups: Sequence[_Group],
    model: pycolmap.Reconstruction,
    left_out: tuple[str, ...],
    clock: Stages,
) -> RegisterReport:
    images = {image.name: image for image in model.images.values()}
    photos = tuple(
        sorted(
            (
                _photo(name, found, images)
                for group in groups
                for name, found in zip(group.names, group.outcome.photos, strict=True)
            ),
            key=lambda photo: photo.image,
        )
    )
    posed = place.map.images
    before = sum(name in posed for name in capture.image_names)
    return RegisterReport(
        capture=capture.name,
        unit=place.unit,
        photos=photos,
        cameras=tuple(
            _camera(group, capture, model) for group in groups if group.outcome.camera is not None
        ),
        left_out=left_out,
        posed=before + sum(photo.registered for photo in photos),
        images=len(capture.images),
        refined=settings.refine,
        cpu_s={name: stage.cpu_s for name, stage in clock.times.items()},
    )


def _photo(
    name: str, found: PosedPhoto | Refused, images: Mapping[str, pycolmap.Image]
) -> RegisteredPhoto:
    if isinstance(found, Refused):
        return RegisteredPhoto(name, False, found.reason, found.inliers)
    return RegisteredPhoto(
        name,
        True,
        inliers=int(images[name].num_points3D),
        position_sigma=worst_sigma(found.covariance[:3, :3]),
        rotation_sigma_deg=float(np.degrees(worst_sigma(found.covariance[3:, 3:]))),
    )


def _camera(group: _Group, capture: Capture, model: pycolmap.Reconstruction) -> RegisteredCamera:
    number = next(i.camera_id for i in model.images.values() if i.name in group.names)
    camera, sigmas = Camera.from_colmap(model.cameras[number]), group.outcome.sigmas
    if group.found is not None:
        source = "the capture's, found before"
    elif group.prior.known == "exact":
        source = "given"
    elif group.prior.known == "approximate":
        source = f"estimated from {group.prior.focal_px:.0f} px on"
    else:
        source = "estimated"
    return RegisteredCamera(
        model=camera.model,
        width=camera.width,
        height=camera.height,
        params=camera.params,
        source=source,
        focal_px=camera.focal_px,
        focal_sigma_px=float(sigmas[0]) if len(sigmas) else None,
        principal_point_sigma_px=float(sigmas[3:].max()) if len(sigmas) else None,
        registered=sum(not isinstance(photo, Refused) for photo in group.outcome.photos),
        photos=len(group.names),
    )
