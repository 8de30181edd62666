"""More views of a train image with exact labels: the camera turned, and moved a little.

Turning a camera about its centre moves no ray, so the image after it is a warp of the image
before it (a homography, for a pinhole), and its pose is known exactly. A copy from elsewhere takes
depth from the map (`parallax`); its pose is as exact. Everything else leaves the pose as it is:
light, blur, noise, compression, things in the way. Nothing is ever mirrored: a mirrored place is
another place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.regression.canonical import filled, shrunk, warp
from relocalize.regression.parallax import moved, possible_shift
from relocalize.regression.settings import AugmentSettings

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_NOISE_SIDE = 512  # of the tile that noise is cut from
_NOISE_SCALE = 32.0  # its standard deviation: 4 of them fit beside 128
_JPEG_QUALITIES = (30, 90)  # nobody sends a photo below
_SHARE = 0.5  # of the copies have another lens, shape, blur, patches: the rest stay clear
# Of the width and the height of an input of 4:3: what 9:16 and 16:9 fill.
_NARROWEST, _LOWEST = 0.42, 0.75
# At a jitter of 1: +- offset, +- contrast factor, gamma up to this and one over it, +- gain of
# each channel (white balance), +- factor of colourfulness. A jitter of 0.3 spans what a phone's
# exposure and white balance do between two walks.
_OFFSET, _CONTRAST, _GAMMA, _GAIN, _COLOURFULNESS = 0.4, 0.7, 1.8, 0.25, 0.8


@dataclass(frozen=True, eq=False)
class View:
    """The camera of a copy."""

    view_from_cam: FloatArray  # rotation [3, 3] from the image's camera axes to the copy's
    focal: float  # factor on the target's focal length that the copy keeps
    # width and height of the middle part that is shown, as shares of the target's
    shown: tuple[float, float]
    coarseness: float  # how many target pixels one pixel of the other lens spans, at least 1
    shift: FloatArray  # [3] of the centre, along the image's camera axes, in median depths

    def world_from_cam(
        self, world_from_cam: FloatArray, points: FloatArray | None = None
    ) -> FloatArray:
        """The copy's pose [4, 4] of the image's [4, 4], which sees ``points`` [P, 3]."""
        pose = np.array(world_from_cam, dtype=np.float64)
        pose[:3, 3] += pose[:3, :3] @ self.step(world_from_cam, points)
        pose[:3, :3] = pose[:3, :3] @ self.view_from_cam.T
        return pose

    def step(self, world_from_cam: FloatArray, points: FloatArray | None) -> FloatArray:
        """The centre's shift [3] along the image's camera axes, in the world's unit."""
        if points is None or not self.shift.any():
            return np.zeros(3)
        return possible_shift(self.shift, self.view_from_cam, _in_cam(world_from_cam, points))

    def camera(self, target: Camera) -> Camera:
        """The copy's pinhole camera: the target, but for the focal factor."""
        if self.focal == 1.0:
            return target
        matrix = target.calibration_matrix
        focals = (matrix[0, 0] * self.focal, matrix[1, 1] * self.focal)
        return Camera("PINHOLE", target.width, target.height, (*focals, matrix[0, 2], matrix[1, 2]))


def copy_rng(seed: int, epoch: int, frame: int, copy: int = 0) -> np.random.Generator:
    """The random numbers of one copy, which no order of work and no other copy changes."""
    return np.random.default_rng((seed, epoch, frame, copy))


def draw_view(rng: np.random.Generator, settings: AugmentSettings) -> View:
    """A copy's camera: always the same count of draws, so light and shade do not move it."""
    from scipy.spatial.transform import Rotation  # noqa: PLC0415 - answering needs no scipy

    tilt = settings.turn_deg if settings.tilt_deg is None else settings.tilt_deg
    turns = rng.uniform(-1.0, 1.0, 3) * (settings.turn_deg, tilt, settings.roll_deg)
    longer, shape, doubt = rng.uniform(-1.0, 1.0, 3)
    factor = settings.zoom ** float(longer) if rng.random() < _SHARE else 1.0
    # Images of other lenses are also of other shapes: held upright, 16:9.
    shaped = rng.random() < _SHARE and settings.zoom > 1.0
    narrow, low = (max(0.0, side) if shaped else 0.0 for side in (float(shape), float(-shape)))
    across, down = _NARROWEST**narrow, _LOWEST**low
    return View(
        view_from_cam=Rotation.from_euler("yxz", turns, degrees=True).as_matrix(),
        focal=settings.focal_doubt ** float(doubt),
        shown=(min(1.0, across / factor), min(1.0, down / factor)),
        coarseness=max(1.0, 1.0 / factor),
        shift=settings.shift * rng.normal(size=3),
    )


def _in_cam(world_from_cam: FloatArray, points: FloatArray) -> FloatArray:
    in_cam: FloatArray = (points - world_from_cam[:3, 3]) @ world_from_cam[:3, :3]
    return in_cam


def augment(
    pixels: NDArray[np.uint8],
    camera: Camera,
    world_from_cam: FloatArray,
    target: Camera,
    rng: np.random.Generator,
    settings: AugmentSettings,
    *,
    points: FloatArray | None = None,
) -> tuple[NDArray[np.uint8], FloatArray]:
    """A copy of an image, as ``target`` could have seen it, and its exact pose.

    Args:
        pixels: [H, W, 3] RGB, as for `canonical.warp`.
        camera: of the image.
        world_from_cam: [4, 4].
        target: the canonical camera.
        rng: from `copy_rng`, for copies that can be made again.
        settings: how far it may differ.
        points: [P, 3] in the world, that the image sees; without them it is not shifted.

    Returns:
        pixels [h, w, 3] and world_from_cam [4, 4].

    Raises:
        GeometryError: the image is not the camera's.
    """
    view = draw_view(rng, settings)
    step = view.step(world_from_cam, points)
    in_cam = None if points is None or not step.any() else _in_cam(world_from_cam, points)
    copy, seen = show(pixels, camera, target, view, step, in_cam)
    copy = jitter(copy, rng, settings)
    if settings.fill == "mean":
        # Last, as in a photo of another lens: what it does not show has no light and no noise.
        copy = filled(copy, seen)
    return copy, view.world_from_cam(world_from_cam, points)


def show(
    pixels: NDArray[np.uint8],
    camera: Camera,
    target: Camera,
    view: View,
    step: FloatArray | None = None,
    points_in_cam: FloatArray | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The image [h, w, 3] that ``view`` sees, its edge drawn out, and what it shows [h, w].

    One warp of the original pixels, or two for a camera that is moved by ``step`` [3] among
    ``points_in_cam`` [P, 3]. Raises GeometryError as `canonical.warp`.
    """
    copy_camera = view.camera(target)
    source = pixels
    if view.coarseness > 1.0:
        sides = (round(side / view.coarseness) for side in (target.width, target.height))
        source = shrunk(pixels, camera, copy_camera.resized(*(max(1, side) for side in sides)))
    shifted = None
    if step is not None and points_in_cam is not None:
        copy_from_cam = Rigid3(view.view_from_cam, -view.view_from_cam @ step)
        shifted = moved(source, camera, copy_camera, copy_from_cam, points_in_cam)
    copy, seen = shifted or warp(source, camera, copy_camera, view.view_from_cam, fill=None)
    if min(view.shown) < 1.0:
        height, width = seen.shape
        right, bottom = round(view.shown[0] * width), round(view.shown[1] * height)
        left, top = (width - right) // 2, (height - bottom) // 2
        part = seen[top : top + bottom, left : left + right].copy()
        seen = np.zeros_like(seen)
        seen[top : top + bottom, left : left + right] = part
    return copy, seen


def jitter(
    pixels: NDArray[np.uint8], rng: np.random.Generator, settings: AugmentSettings
) -> NDArray[np.uint8]:
    """The image [h, w, 3] in other light, by a worse camera, with things in the way."""
    result = _relit(pixels, rng, settings.jitter) if settings.jitter > 0 else pixels
    if settings.occlusion > 0 and rng.random() < _SHARE:
        result = _occluded(result, rng, rng.uniform(0.0, settings.occlusion))
    if settings.blur_px > 0 and rng.random() < _SHARE:
        result = _blurred(result, rng, settings.blur_px)
    if settings.noise > 0:
        result = _noisy(result, rng, rng.uniform(0.0, settings.noise))
    if rng.random() < settings.jpeg:
        result = _compressed(result, int(rng.integers(*_JPEG_QUALITIES)))
    return result


def _relit(
    pixels: NDArray[np.uint8], rng: np.random.Generator, strength: float
) -> NDArray[np.uint8]:
    offset, contrast, gamma, colourfulness = strength * rng.uniform(-1.0, 1.0, 4)
    gains = 1.0 + _GAIN * strength * rng.uniform(-1.0, 1.0, 3)
    values = np.linspace(0.0, 1.0, 256) ** (_GAMMA**gamma)
    values = (values - 0.5) * (1.0 + _CONTRAST * contrast) + 0.5
    values = (values + _OFFSET * offset)[:, None] * gains
    table = np.clip(np.rint(255.0 * values), 0, 255).astype(np.uint8)
    keep = 1.0 + _COLOURFULNESS * colourfulness
    mix = keep * np.eye(3) + (1.0 - keep) * np.tile(_LUMA, (3, 1))
    return np.asarray(cv2.transform(cv2.LUT(pixels, table[None]), mix), dtype=np.uint8)


def _occluded(
    pixels: NDArray[np.uint8], rng: np.random.Generator, share: float
) -> NDArray[np.uint8]:
    """Up to three patches, ``share`` of the image in all: one colour, or its other parts."""
    result: NDArray[np.uint8] = pixels.copy()
    sides = np.array(pixels.shape[:2])
    count = int(rng.integers(1, 4))
    for _ in range(count):
        shape = float(np.exp(rng.uniform(-0.7, 0.7)))  # up to twice as high as wide, or as wide
        part = np.sqrt(share / count) * np.array([shape, 1.0 / shape])
        height, width = np.clip(np.rint(part * sides).astype(int), 1, sides)
        top, left = rng.integers(0, sides - (height, width) + 1)
        other_top, other_left = rng.integers(0, sides - (height, width) + 1)
        colour = rng.integers(0, 256, 3)
        of_image = rng.random() < 0.5
        result[top : top + height, left : left + width] = (
            pixels[other_top : other_top + height, other_left : other_left + width]
            if of_image
            else colour
        )
    return result


def _blurred(
    pixels: NDArray[np.uint8], rng: np.random.Generator, largest_px: float
) -> NDArray[np.uint8]:
    amount, turn, kind = rng.uniform(0.0, 1.0, 3)
    deviation = float(amount * largest_px)
    if deviation < 0.2:  # a kernel of one pixel
        return pixels
    if kind < 0.5:
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), deviation), dtype=np.uint8)
    return np.asarray(
        cv2.filter2D(pixels, -1, _streak(3.0 * deviation, np.pi * float(turn))), dtype=np.uint8
    )


def _streak(length_px: float, angle_rad: float) -> NDArray[np.float32]:
    """The kernel of a camera that moved evenly along a line while its shutter was open."""
    side = 2 * int(np.ceil(length_px / 2)) + 1
    along = np.linspace(-length_px / 2, length_px / 2, 4 * side)
    x, y = along * np.cos(angle_rad) + side // 2, along * np.sin(angle_rad) + side // 2
    kernel = np.zeros((side + 1, side + 1))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for column, row in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight = np.abs(1 - column - (x - left)) * np.abs(1 - row - (y - top))
        np.add.at(kernel, (top + row, left + column), weight)
    kernel = kernel[:side, :side]
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


@lru_cache(maxsize=1)
def _noise_tile() -> NDArray[np.uint8]:
    # Drawing an image's worth of normal numbers takes longer than all the rest.
    shape = (_NOISE_SIDE, _NOISE_SIDE, 3)
    numbers = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return np.asarray(np.clip(np.rint(128 + _NOISE_SCALE * numbers), 0, 255), dtype=np.uint8)


def _noisy(
    pixels: NDArray[np.uint8], rng: np.random.Generator, deviation: float
) -> NDArray[np.uint8]:
    tile = _noise_tile()
    height, width = pixels.shape[:2]
    top, left = rng.integers(0, _NOISE_SIDE, 2)
    rows = (np.arange(height) + top) % _NOISE_SIDE
    columns = (np.arange(width) + left) % _NOISE_SIDE
    noise = tile.take(rows, axis=0).take(columns, axis=1)
    share = deviation / _NOISE_SCALE
    return np.asarray(cv2.addWeighted(pixels, 1.0, noise, share, -128.0 * share), dtype=np.uint8)


def _compressed(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    # Which channel is called red matters to JPEG only in how coarsely it is kept.
    _, packed = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    unpacked = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(unpacked[..., ::-1])
