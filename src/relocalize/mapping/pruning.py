"""What a finished map may keep: lenses, points and images that its observations determine."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap

from relocalize import progress
from relocalize.checking.soundness import loose_images
from relocalize.geometry.transforms import FloatArray
from relocalize.mapping.pose_covariance import lens_sigmas
from relocalize.place import MapModel
from relocalize.place.bundle_adjustment import refine_map

_MAX_ERROR = 4.0  # pixels of reprojection, and the least angle of rays: COLMAP's own
_MIN_ANGLE_DEG = 1.5
_FOCAL_RATIOS = (0.1, 10.0)  # focal length over the longer image side: COLMAP's own
_PHOTO_ERROR = 5.0  # pixels at 640 pixels of image size, as where single photos are posed
# A principal point is estimated where that leaves it open by less than this share of the image's
# longer side, a second radial term where it moves the corners by less. Lenses are rarely off by
# more than 3%, and errors that images have in common are not in their sigma: what moves a feature
# moves it along its whole track, so that a track counts as one observation. (Two short walks along
# a corridor had 0.1% by observations, 0.34 and 0.41% by tracks, and were off by 1.2%; fountain has
# 0.24%, kitchen, office, fox, facade and a longer corridor at most 0.15%.)
_MAX_LENS_SIGMA = 0.003
# A focal length left open by more than this share was not found: what its camera sees may be so
# much deeper or flatter. No more is allowed to the scale between two sides of a map.
_MAX_FOCAL_SIGMA = 0.2
_LEAST_NOISE = 0.5  # pixels; photos of a flat wall fit any lens, to a hundredth of a pixel
_LEAST_IMAGES = 3


@dataclass(frozen=True)
class Pruned:
    """What a map could not keep."""

    loose: dict[str, str]  # images that lost their pose, with the reason of each
    alarms: tuple[str, ...] = ()  # what nothing determines and yet had to stay


def refine_and_prune(model: pycolmap.Reconstruction) -> Pruned:
    """Adjust a map, in place, and leave out what contradicts it or hangs loose.

    Twice, since what is left out bent the rest; the second time with principal points and second
    radial terms, where the images determine them.
    """
    with progress.bar("adjusting all frames", 2, "rounds") as bar:
        refine_map(model)
        loose = _pruned(model)
        bar.advance()
        principal_points, focal_lengths = _free_lenses(model)
        refine_map(model, principal_points=principal_points)
        loose |= _pruned(model)
        # Whatever they leave open with all of a lens free, they may hold with its middle held.
        pruned = Pruned({}) if focal_lengths else _without_open_lenses(model)
        bar.advance()
    return Pruned(loose | pruned.loose, pruned.alarms)


def _without_open_lenses(model: pycolmap.Reconstruction) -> Pruned:
    """Take their pose from images whose focal length the map leaves open, if any others remain."""
    loose: dict[str, str] = {}
    while sigmas := _open_focals(model):
        posed = [image for image in model.images.values() if image.has_pose]
        images = {i.name: sigmas[i.camera_id] for i in posed if i.camera_id in sigmas}
        if len(posed) - len(images) < _LEAST_IMAGES:
            return Pruned(loose, (_nothing_determines(images),))
        loose |= {name: f"its focal length is open by {_share(s)}" for name, s in images.items()}
        unpose(model, images)
    return Pruned(loose)


def _nothing_determines(images: dict[str, float]) -> str:
    widest = max(images.values())
    return (
        f"the focal length of {len(images)} images is open by up to {_share(widest)}, and with it "
        "the shape of the map: add photos from further sides, or photos whose EXIF is intact"
    )


def _share(sigma: float) -> str:
    return f"± {100 * sigma:.0f}%" if sigma < 1 else "more than ± 100%"


def _open_focals(model: pycolmap.Reconstruction) -> dict[int, float]:
    """One sigma, as a share, of the focal lengths that a map leaves open, by camera."""
    sigmas, noise = lens_sigmas(MapModel.from_colmap(model), principal_points=False)
    shares = {
        number: _focal_share(model.cameras[number], found, noise)
        for number, found in sigmas.items()
    }
    return {number: share for number, share in shares.items() if share > _MAX_FOCAL_SIGMA}


def _focal_share(camera: pycolmap.Camera, sigmas: FloatArray, noise: float) -> float:
    share = max(sigmas[i] / camera.params[i] for i in camera.focal_length_idxs())
    return float(share * max(1.0, _LEAST_NOISE / max(noise, 1e-9)))


def _pruned(model: pycolmap.Reconstruction) -> dict[str, str]:
    without_lens = unpose_without_lens(model)
    prune_points(model)
    loose = loose_images(MapModel.from_colmap(model))
    unpose(model, loose)
    return without_lens | loose


def held_cameras(model: pycolmap.Reconstruction) -> dict[int, pycolmap.Camera]:
    """The cameras of images with a pose; those of images that lost theirs may be anything."""
    held = {image.camera_id for image in model.images.values() if image.has_pose}
    return {number: camera for number, camera in model.cameras.items() if number in held}


def unpose_without_lens(model: pycolmap.Reconstruction) -> dict[str, str]:
    """Take their pose from images whose camera came out as no lens; returns why, by image.

    A camera of one image that few points hold may end at any focal length, below zero too.
    """
    reasons = {}
    for number, camera in held_cameras(model).items():
        low, high = _FOCAL_RATIOS
        ratios = [camera.params[i] for i in camera.focal_length_idxs()]
        ratios = [focal / max(camera.width, camera.height) for focal in ratios]
        if not all(low <= ratio <= high for ratio in ratios):
            reason = f"its focal length came out as {ratios[0]:.2g} times the image size"
            images = [i for i in model.images.values() if i.has_pose and i.camera_id == number]
            reasons.update({image.name: reason for image in images})
    unpose(model, reasons)
    return reasons


def prune_points(
    model: pycolmap.Reconstruction, manager: pycolmap.ObservationManager | None = None
) -> int:
    """Leave out what does not fit; returns how many observations went.

    That is: observations far from their point or behind the camera, and points whose rays meet
    at no angle. The manager is that of a mapper at work on the model.
    """
    manager = manager or pycolmap.ObservationManager(model)
    filtered = manager.filter_all_points3D(_MAX_ERROR, _MIN_ANGLE_DEG)
    model.update_point_3d_errors()
    return int(filtered)


def keep_images(model: pycolmap.Reconstruction, names: Collection[str]) -> None:
    """Take their pose from all other images, and out what only they observe."""
    unpose(model, {i.name for i in model.images.values() if i.has_pose} - set(names))


def prune_new_points(model: pycolmap.Reconstruction, points: Collection[int]) -> None:
    """Of some points, leave out what does not fit; see `prune_points`."""
    there = {point for point in points if model.exists_point3D(point)}
    pycolmap.ObservationManager(model).filter_points3D(_MAX_ERROR, _MIN_ANGLE_DEG, there)


def unpose(model: pycolmap.Reconstruction, names: Collection[str]) -> None:
    """Take their pose from images, and out what only they observe."""
    manager = pycolmap.ObservationManager(model)
    for image in list(model.images.values()):
        if image.has_pose and image.name in names:
            manager.deregister_frame(image.frame_id)


def _free_lenses(model: pycolmap.Reconstruction) -> tuple[bool, bool]:
    """Give cameras a second radial term that is determined.

    Returns:
        Whether principal points are determined, too (these move all together: every camera's has
        to be), and whether focal lengths are.
    """
    if not model.num_points3D():
        return False, False
    cameras = held_cameras(model)
    radial = [camera for camera in cameras.values() if camera.model.name == "SIMPLE_RADIAL"]
    for camera in radial:
        _become(camera, "RADIAL", [*camera.params, 0.0])
    sigmas, noise = lens_sigmas(MapModel.from_colmap(model))
    share = _MAX_LENS_SIGMA / math.sqrt(model.compute_mean_track_length())
    principal = focal = True
    for number, camera in cameras.items():
        found = sigmas.get(number, np.full(len(camera.params), np.inf))
        if sigmas:
            focal &= _focal_share(camera, found, noise) <= _MAX_FOCAL_SIGMA
        size = np.array([camera.width, camera.height])
        most = share * size.max()
        principal &= bool((found[camera.principal_point_idxs()] <= most).all())
        centre = np.array([camera.principal_point_x, camera.principal_point_y])
        corner = np.linalg.norm(np.maximum(centre, size - centre)) / camera.focal_length
        if camera in radial and not found[-1] * camera.focal_length * corner**5 <= most:
            _become(camera, "SIMPLE_RADIAL", list(camera.params[:-1]))
    return principal, focal


def _become(camera: pycolmap.Camera, model: str, params: Sequence[float]) -> None:
    camera.model = getattr(pycolmap.CameraModelId, model)
    camera.params = list(params)


def fits(
    model: pycolmap.Reconstruction, image: pycolmap.Image, row: int, point: FloatArray
) -> bool:
    """Whether a point shows where the image has the feature."""
    projected = image.project_point(point)
    if projected is None:
        return False
    camera = model.cameras[image.camera_id]
    error = float(np.linalg.norm(projected - image.points2D[row].xy))
    return error <= _PHOTO_ERROR * max(camera.width, camera.height) / 640


def let_go(model: pycolmap.Reconstruction, images: Iterable[pycolmap.Image]) -> None:
    """Take out observations that no longer fit; a point keeps two of whatever kind."""
    for image in images:
        for row, keypoint in enumerate(image.points2D):
            if not keypoint.has_point3D():
                continue
            point = model.points3D[keypoint.point3D_id]
            if point.track.length() > 2 and not fits(model, image, row, point.xyz):
                model.delete_observation(image.image_id, row)
