"""The canonical camera: one pinhole that every image is brought to before a network sees it.

A regressor learns what a place looks like through one lens. A photo of another lens is a fair
input only after it is resampled to that lens: undistorted, the same focal length, the aspect kept.

Pixel (0, 0) is the top-left corner of an image, as in `relocalize.geometry.cameras`;
``cv2.remap`` counts from pixel centres, half a pixel later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from relocalize.errors import GeometryError
from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray

# RGB where an image has nothing to show: ImageNet's mean, which backbones see as zero.
FILL = (124, 116, 104)
# Source pixels per target pixel that bilinear sampling bridges; what is above it is averaged over
# the area first. At 1.25 a 640 pixel image becomes one of 256 by an exact 2 x 2 average.
_BRIDGED = 1.25
# Averages of whole pixels take a twentieth of the time of others; so far from what is wanted one of
# them is taken instead.
_NEARLY_WHOLE = 0.08
# Rays more than 63 degrees off the axis add nothing to what a pinhole image should show.
_WIDEST = 2.0
_NEAR = 1e-3  # depth of a ray, below which it is beside or behind the camera
_NODE_STEP = 8  # pixels
_SAMPLES = 33  # along each side of an image, for what its lens reaches
_WITHOUT_PINHOLE = frozenset({"EQUIRECTANGULAR"})
_UNDISTORTED = frozenset({"SIMPLE_PINHOLE", "PINHOLE"})


def canonical_camera(cameras: Sequence[Camera], width: int, height: int) -> Camera:
    """The undistorted camera of ``width`` x ``height`` pixels that shows what ``cameras`` see.

    Its focal length is such that it covers the same area of the plane before the camera as the
    median of the given images does. For images of its own shape, undistorted, that is the
    same field of view; a wider image loses as much at its sides as it lacks above and below.

    Args:
        cameras: one per train image (a camera of many images weighs more).
        width: pixels.
        height: pixels.

    Raises:
        GeometryError: there are no cameras, or one that has no pinhole view.
    """
    if not cameras:
        raise GeometryError("no cameras to choose a canonical camera from; want at least 1")
    focals = [np.sqrt(width * height / _visible_area(camera)) for camera in cameras]
    focal = float(np.median(focals))
    return Camera("PINHOLE", width, height, (focal, focal, width / 2, height / 2))


def warp(
    pixels: NDArray[np.uint8],
    camera: Camera,
    target: Camera,
    target_from_camera: FloatArray | None = None,
    *,
    fill: tuple[int, int, int] | None = FILL,
    kept: bool = False,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """What ``target`` would see from the same place: exact, for any lens and any rotation.

    Images that shrink are averaged over the area first; otherwise they are sampled once.

    Args:
        pixels: [H, W, 3] RGB, the camera's image or one resized from it as a whole.
        camera: of the image, any COLMAP model but EQUIRECTANGULAR.
        target: an undistorted camera.
        target_from_camera: rotation [3, 3] from the camera's axes to the target's; default none.
        fill: colour of what the image does not show; None repeats the image's edge.
        kept: whether other images will be turned alike.

    Returns:
        pixels [h, w, 3] and whether the image shows them [h, w].

    Raises:
        GeometryError: the image is not the camera's, or the lenses do not allow it.
    """
    source = shrunk(pixels, camera, target)
    height, width = source.shape[:2]
    turn = None if target_from_camera is None else np.float64(target_from_camera).tobytes()
    # Photos share cameras; turns that are drawn at random come once.
    table = _table if turn is None or kept else _table.__wrapped__
    whole, rest, seen = table(camera, target, width, height, turn)
    sampled = cv2.remap(source, whole, rest, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    result = np.asarray(sampled, dtype=np.uint8)
    return (result if fill is None else filled(result, seen, fill)), seen


@lru_cache(maxsize=64)  # of 350 kB
def _table(
    camera: Camera, target: Camera, width: int, height: int, turn: bytes | None
) -> tuple[NDArray[np.int16], NDArray[np.uint16], NDArray[np.bool_]]:
    """Where each target pixel comes from in the camera's image of ``width`` x ``height``.

    ``turn`` is the bytes of target_from_camera [3, 3]. Returns whole pixels [h, w, 2] and what is
    left of them in steps of 1/32 [h, w], for `cv2.remap`, and whether the image has them [h, w].
    """
    rotation = None if turn is None else np.frombuffer(turn).reshape(3, 3)
    x, y, seen = source_pixels(camera, target, rotation)
    # From the camera's pixels to those of the image at hand, counted from pixel centres.
    x *= np.float32(width / camera.width)
    y *= np.float32(height / camera.height)
    x -= np.float32(0.5)
    y -= np.float32(0.5)
    whole, rest = cv2.convertMaps(x, y, cv2.CV_16SC2)
    seen.flags.writeable = False
    return np.asarray(whole, np.int16), np.asarray(rest, np.uint16), seen


def filled(
    pixels: NDArray[np.uint8], seen: NDArray[np.bool_], fill: tuple[int, int, int] = FILL
) -> NDArray[np.uint8]:
    """The image [h, w, 3] with one colour where ``seen`` [h, w] is false."""
    if seen.all():
        return pixels
    colour = np.full_like(pixels, fill)
    return np.asarray(cv2.copyTo(pixels, seen.view(np.uint8), colour), dtype=np.uint8)


def shrunk(pixels: NDArray[np.uint8], camera: Camera, target: Camera) -> NDArray[np.uint8]:
    """The image averaged down to little more than the resolution of ``target``.

    It serves `warp` in place of the whole image, with the same result.

    Args:
        pixels: [H, W, 3], the camera's image or one resized from it as a whole.
        camera: of the image.
        target: that it will be brought to.

    Raises:
        GeometryError: the image is not the camera's.
    """
    height, width = pixels.shape[:2]
    # Resizing rounds each side to whole pixels, and an image may have been resized twice.
    if abs(width * camera.height / camera.width - height) > 2 and (
        abs(height * camera.width / camera.height - width) > 2
    ):
        raise GeometryError(
            f"an image of {width} x {height} pixels, whose camera has "
            f"{camera.width} x {camera.height}; give the camera of this image"
        )
    size = _shrunk_size(width, height, camera, target)
    if size == (width, height):
        return pixels
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


@lru_cache(maxsize=1024)
def shrunk_shape(camera: Camera, target: Camera) -> tuple[int, int]:
    """Height and width of what `shrunk` makes of the camera's whole image."""
    width, height = _shrunk_size(camera.width, camera.height, camera, target)
    return height, width


def _shrunk_size(width: int, height: int, camera: Camera, target: Camera) -> tuple[int, int]:
    of_image = lens(camera).focal_px * width / camera.width
    excess = of_image / (lens(target).focal_px * _BRIDGED)
    if excess <= 1.0 + 1.5 * _NEARLY_WHOLE:  # an image that was shrunk before among them
        return width, height
    least, most = excess * (1 - _NEARLY_WHOLE), excess * (1 + _NEARLY_WHOLE)
    whole = [
        factor
        for factor in range(math.ceil(least), math.floor(most) + 1)
        if width % factor == height % factor == 0
    ]
    if whole:
        factor = min(whole, key=lambda factor: abs(factor - excess))
        return width // factor, height // factor
    return max(1, round(width / excess)), max(1, round(height / excess))


def source_pixels(
    camera: Camera, target: Camera, target_from_camera: FloatArray | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Where the camera sees what the pixel centres of ``target`` show.

    Args:
        camera: any COLMAP model but EQUIRECTANGULAR.
        target: an undistorted camera.
        target_from_camera: rotation [3, 3]; default none.

    Returns:
        x and y [h, w] in the camera's pixels, and whether its image has that point [h, w].

    Raises:
        GeometryError: the target is distorted, or the camera has no pinhole view.
    """
    rotation = np.eye(3) if target_from_camera is None else np.asarray(target_from_camera)
    of_lens = lens(camera)
    across, down = _target_rays(target)
    x, y, ahead = _on_plane(of_lens.calibration @ rotation.T, across, down)
    if of_lens.reach is not None:
        # Beyond its image a polynomial lens may fold back into it.
        ahead &= x * x + y * y <= of_lens.reach**2
        x, y = _distorted(camera, of_lens.reach, target, rotation)
    seen = ahead & (x >= 0) & (x <= camera.width) & (y >= 0) & (y <= camera.height)
    return x, y, seen


def _on_plane(
    matrix: FloatArray, across: NDArray[np.float32], down: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """The points ``matrix @ (across, down, 1)`` over their third number, and where that is > 0."""
    x, y, depth = (
        (row[0] * across + row[2])[None, :] + (row[1] * down)[:, None]
        for row in matrix.astype(np.float32)
    )
    ahead = depth > _NEAR
    np.maximum(depth, np.float32(_NEAR), out=depth)
    x /= depth
    y /= depth
    return x, y, ahead


def _distorted(
    camera: Camera, reach: float, target: Camera, rotation: FloatArray
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where a distorting lens puts the target's pixels: exact at nodes, a cubic spline between.

    At a node every 8 pixels the spline is off by less than a thousandth of a pixel for phones and
    by less than a hundredth for a fisheye, at a tenth of the time.
    """
    columns, across_weights = _spline_nodes(target.width)
    rows, down_weights = _spline_nodes(target.height)
    across, down = _target_rays(target)
    nodes = _on_plane(rotation.T, _between(across, columns), _between(down, rows))[:2]
    plane = np.stack(nodes, axis=-1).reshape(-1, 2).astype(np.float64)
    # What lies beyond the image goes on straight, so that the spline has no kink at its edge.
    radius = np.linalg.norm(plane, axis=1, keepdims=True)
    far = np.maximum(radius / reach, 1.0)
    inner = plane / far
    before = camera.img_from_cam(_at_depth_one(inner))
    outside = far[:, 0] > 1.0
    if outside.any():
        step = 0.01
        at, less = before[outside], camera.img_from_cam(_at_depth_one(inner[outside] * (1 - step)))
        before[outside] = at + (at - less) / step * (np.minimum(far[outside], 4.0) - 1.0)
    shape = (len(rows), len(columns))
    x, y = (
        down_weights @ before[:, axis].astype(np.float32).reshape(shape) @ across_weights.T
        for axis in (0, 1)
    )
    return x, y


def _at_depth_one(plane: FloatArray) -> FloatArray:
    return np.column_stack([plane, np.ones(len(plane))])


@lru_cache(maxsize=64)
def _spline_nodes(pixels: int) -> tuple[FloatArray, NDArray[np.float32]]:
    """Nodes [n] of a cubic spline along a line of pixels, and their weights [pixels, n] in each."""
    at = np.linspace(0, pixels - 1, max(4, -(-pixels // _NODE_STEP) + 1))
    return at, _spline(at, np.arange(pixels)).astype(np.float32)


def _spline(at: FloatArray, where: NDArray[np.int64]) -> FloatArray:
    """Weights [len(where), n] of values at evenly spaced nodes in their cubic spline, not a knot.

    Equal to scipy's ``CubicSpline``, which takes longer to import than a photo to localize.
    """
    count, step = len(at), at[1] - at[0]
    # Second derivatives [n, n] at the nodes, of each value (de Boor, A Practical Guide to Splines,
    # 1978, chapter IV).
    system, values = np.zeros((count, count)), np.zeros((count, count))
    inner = np.arange(1, count - 1)
    for off, weight, difference in ((-1, 1.0, 1.0), (0, 4.0, -2.0), (1, 1.0, 1.0)):
        system[inner, inner + off] = weight
        values[inner, inner + off] = 6.0 * difference / step**2
    system[0, :3] = system[-1, -3:] = (1.0, -2.0, 1.0)
    curvature = np.linalg.solve(system, values)
    left = np.clip(((where - at[0]) / step).astype(int), 0, count - 2)
    t = ((where - at[left]) / step)[:, None]
    one = np.eye(count)
    weights: FloatArray = (1 - t) * one[left] + t * one[left + 1]
    bend = ((1 - t) ** 3 - (1 - t)) * curvature[left] + (t**3 - t) * curvature[left + 1]
    result: FloatArray = weights + step**2 / 6 * bend
    return result


def _between(values: NDArray[np.float32], at: FloatArray) -> NDArray[np.float32]:
    """The values of a straight line of pixels at places between them."""
    return np.interp(at, np.arange(len(values)), values).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Lens:
    """What warping needs of a camera."""

    focal_px: float  # mean focal length
    calibration: FloatArray  # [3, 3]; the identity for a lens that distorts
    # the largest distance from the axis, at z = 1, that its image shows; None for a lens without
    # distortion
    reach: float | None


@lru_cache(maxsize=1024)
def lens(camera: Camera) -> Lens:
    """What warping needs of ``camera``, kept.

    Raises:
        GeometryError: it has no pinhole view.
    """
    if camera.model in _WITHOUT_PINHOLE:
        raise GeometryError(
            f"images of a {camera.model} camera cannot be brought to one pinhole camera; "
            "cut them into pinhole views first"
        )
    if camera.model in _UNDISTORTED:
        return Lens(camera.focal_px, camera.calibration_matrix, None)
    at = np.linspace(0.0, 1.0, _SAMPLES)
    grid = np.stack(np.meshgrid(at * camera.width, at * camera.height), axis=-1).reshape(-1, 2)
    radii = np.linalg.norm(camera.cam_from_img(grid), axis=1)
    radii = radii[np.isfinite(radii)]
    if not len(radii):
        raise GeometryError(
            f"no pixel of the {camera.model} camera {list(camera.params)} can be undistorted; "
            "are its parameters in COLMAP's order?"
        )
    # A few parts in a million: the corner itself counts as shown.
    return Lens(camera.focal_px, np.eye(3), float(radii.max()) * (1 + 1e-5))


@lru_cache(maxsize=64)
def _target_rays(target: Camera) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The x [w] and y [h] at z = 1 of the target's pixel centres."""
    if target.model not in _UNDISTORTED:
        raise GeometryError(
            f"images are brought to undistorted cameras only, got a {target.model} camera"
        )
    matrix = target.calibration_matrix
    across = (np.arange(target.width) + 0.5 - matrix[0, 2]) / matrix[0, 0]
    down = (np.arange(target.height) + 0.5 - matrix[1, 2]) / matrix[1, 1]
    return across.astype(np.float32), down.astype(np.float32)


@lru_cache(maxsize=1024)
def _visible_area(camera: Camera) -> float:
    """Area of the plane z = 1 that the middle lines of the image span."""
    lens(camera)
    middle = (camera.width / 2, camera.height / 2)
    x, y = camera.principal_point if camera.model in _UNDISTORTED else middle
    ends = camera.cam_from_img([[0.0, y], [camera.width, y], [x, 0.0], [x, camera.height]])
    reaches = np.array([-ends[0, 0], ends[1, 0], -ends[2, 1], ends[3, 1]])
    left, right, up, down = np.where(np.isfinite(reaches), np.minimum(reaches, _WIDEST), _WIDEST)
    return float((left + right) * (up + down))
