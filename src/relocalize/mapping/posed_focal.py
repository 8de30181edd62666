"""The focal length of cameras that nobody has calibrated, from matches between posed images.

With the poses given, every match has an epipolar line whose place depends on the focal length
alone; the one that brings the matches nearest to their lines is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize_scalar

from relocalize.checking.agreement import sampson
from relocalize.features.database import FeatureDatabase
from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray, skew
from relocalize.place import PosedImage

# Focal length over the longer side: from a 12 mm to a 150 mm lens in 35 mm terms.
_FACTORS = np.geomspace(0.33, 4.2, 80)
_PAIRS, _MATCHES_PER_PAIR = 400, 60
_MIN_MATCHES = 200
# What EXIF says is off by a tenth at most, but for digital zoom, which halves it.
_APPROXIMATE = (0.45, 2.2)
_SCALE = 1 / 640  # of the robust loss, as a share of the longer side: a pixel at VGA


def with_focal_lengths(
    database: FeatureDatabase, posed: Mapping[str, PosedImage]
) -> dict[str, PosedImage]:
    """The images with the focal lengths that their poses want, where these are not exact.

    Args:
        database: with verified matches.
        posed: the images that these are between, by name.
    """
    pairs_of: dict[Camera, list[tuple[PosedImage, PosedImage, FloatArray]]] = {}
    verified = database.verified_matches()
    for (first, second), matches in verified.items():
        a, b = posed.get(first), posed.get(second)
        if a is None or b is None or a.camera != b.camera or a.camera.known == "exact":
            continue
        rows = np.unique(np.linspace(0, len(matches) - 1, _MATCHES_PER_PAIR).round().astype(int))
        chosen = matches[rows]
        keypoints = [
            database.features(image.name).keypoints[chosen[:, side]]
            for side, image in enumerate((a, b))
        ]
        pairs_of.setdefault(a.camera, []).append((a, b, np.stack(keypoints, axis=1)))
    wanted = {camera: _focal(camera, pairs) for camera, pairs in pairs_of.items()}
    return {
        name: replace(image, camera=wanted.get(image.camera, image.camera))
        for name, image in posed.items()
    }


def _focal(camera: Camera, pairs: list[tuple[PosedImage, PosedImage, FloatArray]]) -> Camera:
    """The camera with the focal length that the matches [M, 2, 2] of its pairs want."""
    chosen = np.unique(np.linspace(0, len(pairs) - 1, _PAIRS).round().astype(int))
    pixels, essentials = [], []
    for first, second, matched in (pairs[at] for at in chosen):
        relative = second.cam_from_world @ first.world_from_cam
        length = float(np.linalg.norm(relative.translation))
        if length > 0:
            E = skew(relative.translation / length) @ relative.rotation
            pixels.append(matched)
            essentials.append(np.repeat(E[None], len(matched), axis=0))
    if sum(map(len, pixels)) < _MIN_MATCHES:
        return camera
    cost = _cost(camera, np.concatenate(pixels).astype(np.float64), np.concatenate(essentials))
    factors = _FACTORS * max(camera.width, camera.height) / camera.focal_px
    if camera.known == "approximate":
        factors = factors[(factors > _APPROXIMATE[0]) & (factors < _APPROXIMATE[1])]
    best = int(np.argmin([cost(factor) for factor in factors]))
    low, high = factors[max(0, best - 1)], factors[min(len(factors) - 1, best + 1)]
    found = minimize_scalar(cost, bounds=(low, high), method="bounded")
    return _scaled(camera, float(found.x))


def _cost(camera: Camera, pixels: FloatArray, essentials: FloatArray) -> Callable[[float], float]:
    """Robust mean epipolar error under a factor on the focal length, in pixels."""
    side = max(camera.width, camera.height)

    def cost(factor: float) -> float:
        scaled = _scaled(camera, factor)
        rays = np.ones((2, len(pixels), 3))
        for row in (0, 1):
            rays[row, :, :2] = scaled.cam_from_img(pixels[:, row])
        errors = sampson(essentials, rays[0], rays[1]) * scaled.focal_px / (_SCALE * side)
        return float(np.log1p(np.where(np.isfinite(errors), errors, 1e6) ** 2).mean())

    return cost


def _scaled(camera: Camera, factor: float) -> Camera:
    params = list(camera.params)
    for row in camera.to_colmap().focal_length_idxs():
        params[row] *= factor
    return replace(camera, params=tuple(params))
