"""Least squares over a whole map: all of it, its points alone, or as some of its images see it.

The loss is Cauchy's: reconstruction itself runs on squared errors cut off at 4 pixels, and its
remaining wrong matches bend a map by more than its noise (measured on a synthetic corridor of
7 m: 1.3 cm median before, 0.3 cm after; on a kitchen of 3 m: 0.40 cm before, 0.28 cm after).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pycolmap

from relocalize.place.model import MapModel

LOSS_SCALE = 1.0  # pixels; where the robust loss begins to distrust an observation
# The same for photos of another camera, pixels at 640 pixels of image size: as where each of them
# is posed by itself, since the matches between cameras are that much noisier.
_PHOTO_LOSS_SCALE = 2.0
_ALWAYS_DIRECT = 1000  # images: COLMAP's own
_CHAIN_NEIGHBOURS = 250  # images that share points with one of a walk along corridors
_ASKED = 30
_MAX_ITERATIONS = 30
# Ceres' own 1e4 damps what the observations hold ten thousand times worse than the rest: a walk
# from its true poses stayed there, where the optimum is one sigma of scale off.
_TRUST_REGION = 1e8
_TOLERANCE = 1e-4  # relative decrease of cost; at 1e-6 nothing moves by a tenth of its error


def refine_map(model: pycolmap.Reconstruction, *, principal_points: bool = False) -> None:
    """Move poses, points, intrinsics (and principal points) to their robust optimum, in place."""
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    options = _options()
    options.refine_principal_point = principal_points
    options.ceres.solver_options.initial_trust_region_radius = _TRUST_REGION
    if _is_a_chain(model):
        # COLMAP solves more than 1000 images by conjugate gradients, which hardly see how a long
        # walk bends; where each image shares points with few, the exact solution is cheap.
        direct = max(_ALWAYS_DIRECT, int(model.num_reg_images()))
        options.ceres.max_num_images_direct_sparse_cpu_solver = direct
    _solve(model, config, options)


def _is_a_chain(model: pycolmap.Reconstruction) -> bool:
    """Whether images share points with few others, however many there are: asked of some."""
    ids = sorted(model.reg_image_ids())
    for image_id in ids[:: 1 + len(ids) // _ASKED]:
        points = [p.point3D_id for p in model.images[image_id].points2D if p.has_point3D()]
        near = {e.image_id for point in points for e in model.points3D[point].track.elements}
        if len(near) > _CHAIN_NEIGHBOURS:
            return False
    return True


def refine_points(
    model: pycolmap.Reconstruction,
    *,
    distortion_of: Collection[int] = (),
    lenses_of: Collection[int] = (),
) -> None:
    """Move the points to their robust optimum with every pose and camera held, in place.

    Some cameras may have their distortion, or also their focal length, estimated along with them.
    """
    if lenses_of:
        _refine_points(model, lenses_of, focal=True)
    if not lenses_of or set(distortion_of) - set(lenses_of):
        _refine_points(model, set(distortion_of) - set(lenses_of), focal=False)


def _refine_points(
    model: pycolmap.Reconstruction, free_cameras: Collection[int], *, focal: bool
) -> None:
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    for frame_id in model.reg_frame_ids():
        config.set_constant_rig_from_world_pose(frame_id)
    for camera_id in model.cameras:
        if camera_id not in free_cameras:
            config.set_constant_cam_intrinsics(camera_id)
    options = _options()
    options.refine_focal_length = focal
    _solve(model, config, options)


def refine_photos(
    model: pycolmap.Reconstruction,
    image_ids: Collection[int],
    own_points: Collection[int],
    free_cameras: Collection[int],
) -> None:
    """Move some images to their robust optimum in a map that is held, in place.

    With them move ``own_points``, and focal length and distortion of ``free_cameras``, of which
    every image is among these.
    """
    config = pycolmap.BundleAdjustmentConfig()
    held: set[int] = set()
    for image_id in image_ids:
        config.add_image(image_id)
        image = model.images[image_id]
        held |= {int(p.point3D_id) for p in image.points2D if p.has_point3D()}
        if image.camera_id not in free_cameras:
            config.set_constant_cam_intrinsics(image.camera_id)
    for point in held.difference(own_points):
        config.add_constant_point(point)
    options = _options()
    sizes = [
        max(c.width, c.height)
        for c in (model.cameras[model.images[i].camera_id] for i in image_ids)
    ]
    options.ceres.loss_function_scale = _PHOTO_LOSS_SCALE * max(sizes) / 640
    _solve(model, config, options)


def _options() -> pycolmap.BundleAdjustmentOptions:
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = LOSS_SCALE
    options.ceres.solver_options.max_num_iterations = _MAX_ITERATIONS
    options.ceres.solver_options.function_tolerance = _TOLERANCE
    options.ceres.solver_options.num_threads = 1  # repeatable
    return options


def _solve(
    model: pycolmap.Reconstruction,
    config: pycolmap.BundleAdjustmentConfig,
    options: pycolmap.BundleAdjustmentOptions,
) -> None:
    if not model.num_points3D():
        return
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    model.update_point_3d_errors()


def seen_by(whole: MapModel, names: Collection[str]) -> MapModel:
    """A map as some of its images see it, its points estimated anew from these, poses held.

    Points with fewer than 2 observations left are gone.
    """
    # Steps of the least squares end where they are small beside the coordinates.
    origin = whole.local_origin
    model = whole.about(origin).only(names).to_colmap()
    refine_points(model)
    reduced = MapModel.from_colmap(model)
    if not origin.any():
        return reduced
    images = {
        name: replace(image, cam_from_world=whole.images[name].cam_from_world)
        for name, image in reduced.images.items()
    }
    return MapModel(images, reduced.about(-origin).points)
