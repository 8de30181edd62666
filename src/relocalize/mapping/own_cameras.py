"""Photos that were taken for those of one camera, and are not: their focal lengths tell.

Photos of one size whose files do not say what took them may come from one phone, stripped of its
EXIF on the way, or from many people. One camera for all is right for the first, and steadier; it
bends a map of the second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from relocalize.geometry.transforms import FloatArray
from relocalize.mapping.pose_covariance import lens_sigmas
from relocalize.place import MapModel
from relocalize.place.bundle_adjustment import refine_map

# Photos of one camera, each with a focal length of its own, differ by less: at most 2% and 4.3
# sigma in four sets of 7 to 18 photos, 7% by autofocus in 71 from as near as it goes.
_SIGMAS, _SHARE = 5.0, 0.1
_MOST_ASKED = 30  # images of a camera: enough to tell
_LEAST_FRAMES = 6
_ZOOMED = 0.1  # share of a video's frames: one that is blurred may be off by itself


def with_own_cameras(model: MapModel, doubtful: Collection[str]) -> tuple[MapModel, float]:
    """The map with a camera for each image of a shared camera that is none.

    Args:
        model: posed images and points.
        doubtful: images of which nothing but their size says which camera took them.

    Returns:
        The map, adjusted if it changed; and the largest difference of a focal length from the
        median of those that shared a camera, as a share: 0 where no camera is split.
    """
    images = model.images
    users = Counter(images[name].camera_id for name in images.keys() & set(doubtful))
    shared = {camera for camera, count in users.items() if count > 1}
    if not shared:
        return model, 0.0
    asked = {
        camera: _some([name for name, image in images.items() if image.camera_id == camera])
        for camera in shared
    }
    apart = _split(model, {name for names in asked.values() for name in names})
    sigmas, _ = lens_sigmas(apart, principal_points=False)
    if not sigmas:
        return model, 0.0
    worst = {
        camera: max(_differences(apart, names, sigmas).values(), default=0.0)
        for camera, names in asked.items()
    }
    different = {name for name, image in images.items() if worst.get(image.camera_id)}
    if not different:
        return model, 0.0
    return _split(model, different), max(worst.values())


def zoomed(model: MapModel, frames: Collection[str]) -> tuple[str, ...]:
    """An alarm where frames of one video want other focal lengths than the rest of it; or none.

    Args:
        model: posed images and points.
        frames: of one video.
    """
    asked = _some([name for name in frames if name in model.images])
    if len(asked) < _LEAST_FRAMES:
        return ()
    apart = _split(model.only(asked), asked)
    sigmas, _ = lens_sigmas(apart, principal_points=False)
    differences = _differences(apart, asked, sigmas) if sigmas else {}
    if not differences or len(differences) < _ZOOMED * len(asked):
        return ()
    return (
        f"the focal lengths that its frames want differ by up to {max(differences.values()):.0%} "
        f"(the first: {min(differences)}): the camera zoomed, or the map is bent there; film "
        "without zoom, and turn while walking on",
    )


def _differences(
    apart: MapModel, names: Sequence[str], sigmas: Mapping[int, FloatArray]
) -> dict[str, float]:
    """How far focal lengths of images with a camera each are from their median, as a share.

    Those alone that differ by more than their noise, and than an autofocus does.
    """
    focal = np.array([apart.images[name].camera.focal_px for name in names])
    sigma = np.array([sigmas[apart.images[name].camera_id][0] for name in names])
    off, middle = np.abs(focal - np.median(focal)), float(np.median(focal))
    differ = off > np.maximum(_SIGMAS * sigma, _SHARE * middle)
    return {
        name: float(o / middle)
        for name, o, is_off in zip(names, off, differ, strict=True)
        if is_off
    }


def _some(names: Sequence[str]) -> Sequence[str]:
    return names[:: max(1, -(-len(names) // _MOST_ASKED))]


def _split(model: MapModel, names: Collection[str]) -> MapModel:
    """Adjusted with a camera for each of these images."""
    images, free = {}, max(model.cameras) + 1
    for number, (name, image) in enumerate(model.images.items(), start=free):
        images[name] = replace(image, camera_id=number) if name in names else image
    split = MapModel(images, model.points).to_colmap()
    refine_map(split)
    return MapModel.from_colmap(split)
