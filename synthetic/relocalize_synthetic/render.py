"""Images of a `Scene`, exact to a few hundredths of a pixel, on the CPU.

Pixel (0, 0) is the top-left corner of the top-left pixel. OpenCV's warps call that pixel's
centre (0, 0), so every matrix that is handed to OpenCV carries a half-pixel shift on each side.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize_synthetic.scene import COARSEST, Image, Scene, Surface

_NEAR = 0.05  # metres; nothing is painted closer to the camera than this
_SUBPIXEL_BITS = 6  # of polygon corners
# OpenCV fills every pixel whose centre is at most half a pixel outside an edge (measured along
# the axis that the edge crosses faster). Moving edges in by nearly that much leaves the pixels
# whose centre is inside; the small rest keeps neighbours from leaving a hole between them.
_FILL_EXCESS = 0.47

# Outline [K, 2] in pixels, halvings (columns, rows), texel_from_pixel [3, 3].
_Stroke = tuple[FloatArray, NDArray[np.int_], FloatArray]


class Renderer:
    """Paints one scene; may be shared by threads.

    Args:
        scene: what to paint.
        oversampling: samples per pixel and axis, averaged; 2 gives smooth edges.
    """

    def __init__(self, scene: Scene, *, oversampling: int = 2) -> None:
        self.scene = scene
        self.oversampling = oversampling
        self._corners = np.stack([surface.corners for surface in scene.surfaces])
        self._away = np.stack([surface.away for surface in scene.surfaces])
        self._cell = np.array([surface.cell for surface in scene.surfaces])
        self._layer = np.array([int(surface.layer) for surface in scene.surfaces])
        self._group = np.stack([surface.group for surface in scene.surfaces])
        # World points of texel coordinates (column, row, 1): [N, 3, 3].
        self._world_from_texel = np.stack(
            [
                np.stack([surface.column_step, surface.row_step, surface.origin], axis=1)
                for surface in scene.surfaces
            ]
        )

    def render(self, camera: Camera, cam_from_world: Rigid3) -> Image:
        """The image [H, W, 3] RGB that a camera without distortion takes."""
        scale = self.oversampling
        calibration = np.diag([scale, scale, 1.0]) @ camera.calibration_matrix
        fine = self._paint(calibration, camera.width * scale, camera.height * scale, cam_from_world)
        return _shrunk(fine, camera.width, camera.height)

    def render_moving(self, camera: Camera, poses: Sequence[Rigid3]) -> NDArray[np.float32]:
        """The mean [H, W, 3] of what a camera without distortion sees from several poses.

        Each is sampled once per pixel, at its own place in the pixel, so that four poses cost and
        smooth about as much as one oversampled image.
        """
        total = np.zeros((camera.height, camera.width, 3), np.float32)
        for index, pose in enumerate(poses):
            calibration = camera.calibration_matrix
            # Even steps in x, the same steps in another order in y (a rotated grid); mean zero.
            count = len(poses)
            calibration[0, 2] += (index + 0.5) / count - 0.5
            calibration[1, 2] += ((index * 2 + index * 2 // count) % count + 0.5) / count - 0.5
            cv2.accumulate(self._paint(calibration, camera.width, camera.height, pose), total)
        return np.asarray(total / len(poses), np.float32)

    def lens(self, camera: Camera) -> Lens:
        """What is needed to render through a distorting camera, computed once per camera."""
        return Lens(camera, self.oversampling)

    def render_through(self, lens: Lens, cam_from_world: Rigid3) -> Image:
        """The image [H, W, 3] RGB that a camera with distortion takes."""
        flat = self._paint(lens.calibration, lens.width, lens.height, cam_from_world)
        fine = cv2.remap(flat, lens.columns, lens.rows, cv2.INTER_LINEAR)
        return _shrunk(np.asarray(fine, np.uint8), lens.camera.width, lens.camera.height)

    def _paint(
        self, calibration: FloatArray, width: int, height: int, cam_from_world: Rigid3
    ) -> Image:
        canvas = np.zeros((height, width, 3), np.uint8)
        centre = cam_from_world.inverse().translation
        # Homogeneous pixels: the third coordinate is the depth in metres.
        projection = calibration @ cam_from_world.rotation
        corners = self._corners @ projection.T + calibration @ cam_from_world.translation
        whole = np.array([0, 0, width, height])
        windows = {
            index: self._portal_window(index, centre, calibration, cam_from_world, whole)
            for index in range(len(self.scene.cells))
        }
        order = self._painting_order(corners, centre, windows)
        strokes = self._strokes(order, corners[order], calibration, cam_from_world)
        for index, stroke in zip(order, strokes, strict=True):
            if stroke is not None:
                surface = self.scene.surfaces[index]
                _paint_surface(canvas, windows[surface.cell], surface, *stroke)
        return canvas

    def _portal_window(
        self,
        cell: int,
        centre: FloatArray,
        calibration: FloatArray,
        cam_from_world: Rigid3,
        whole: NDArray[np.int_],
    ) -> NDArray[np.int_]:
        """(left, top, right, bottom) of the canvas in which a cell can be seen at all."""
        cells = self.scene.cells
        here = min(range(len(cells)), key=lambda index: cells[index].distance(centre))
        if cell == here:
            return whole
        low = np.maximum(cells[cell].low, cells[here].low)
        high = np.minimum(cells[cell].high, cells[here].high)
        corners = np.array(list(product(*zip(low, high, strict=True))))
        seen = (cam_from_world @ corners) @ calibration.T
        if (seen[:, 2] < _NEAR).all():
            return np.zeros(4, int)
        if (seen[:, 2] < _NEAR).any():
            return whole
        pixels = seen[:, :2] / seen[:, 2:]
        left, top = np.floor(pixels.min(axis=0)) - 1
        right, bottom = np.ceil(pixels.max(axis=0)) + 1
        limits = np.clip([left, top, right, bottom], 0, np.tile(whole[2:], 2))
        return np.asarray(limits, int)

    def _painting_order(
        self, corners: FloatArray, centre: FloatArray, windows: dict[int, NDArray[np.int_]]
    ) -> NDArray[np.intp]:
        """Indices of the surfaces that may be seen, farthest first."""
        x, y, depth = corners[..., 0], corners[..., 1], corners[..., 2]
        left, top, right, bottom = np.array([windows[cell] for cell in self._cell]).T[..., None]
        seen = np.einsum("nk,nk->n", self._corners[:, 0] - centre, self._away) > 0
        seen &= (depth > _NEAR).any(axis=1)
        seen &= (x > left * depth).any(axis=1) & (y > top * depth).any(axis=1)
        seen &= (x < right * depth).any(axis=1) & (y < bottom * depth).any(axis=1)
        cell_distance = np.array([cell.distance(centre) for cell in self.scene.cells])
        distance = np.linalg.norm(self._group - centre, axis=1)
        order = np.lexsort((-distance, self._layer, -cell_distance[self._cell]))
        return np.asarray(order[seen[order]], np.intp)

    def _strokes(
        self,
        order: NDArray[np.intp],
        corners: FloatArray,
        calibration: FloatArray,
        cam_from_world: Rigid3,
    ) -> list[_Stroke | None]:
        """For each surface its outline, the halvings of its texture, and texel_from_pixel."""
        if not len(order):
            return []
        shift = np.zeros((3, 3))
        shift[:, 2] = calibration @ cam_from_world.translation
        pixel_from_texel = calibration @ cam_from_world.rotation @ self._world_from_texel[order]
        texel_from_pixel = np.asarray(np.linalg.inv(pixel_from_texel + shift), np.float64)
        complete = np.asarray((corners[..., 2] > _NEAR).all(axis=1), np.bool_)
        with np.errstate(divide="ignore", invalid="ignore"):
            polygons = corners[..., :2] / corners[..., 2:]
            outlines = _moved_in(polygons)
            middles = np.asarray(polygons.mean(axis=1), np.float64)
            levels = _levels(texel_from_pixel, middles)
        strokes: list[_Stroke | None] = []
        for index, matrix in enumerate(texel_from_pixel):
            if complete[index]:
                strokes.append((outlines[index], levels[index], matrix))
                continue
            polygon = _in_front(corners[index])
            if polygon is None:
                strokes.append(None)
                continue
            level = _levels(matrix[None], polygon.mean(axis=0)[None])[0]
            strokes.append((_moved_in(polygon[None])[0], level, matrix))
        return strokes


class Lens:
    """Where each fine pixel of a distorting camera lies in the pinhole image around it.

    Attributes:
        camera: the distorting camera.
        calibration: [3, 3] of the pinhole image.
        width: of the pinhole image.
        height: of the pinhole image.
        columns: [H * oversampling, W * oversampling] float32, in OpenCV's pixel coordinates.
        rows: likewise.
    """

    def __init__(self, camera: Camera, oversampling: int) -> None:
        self.camera = camera
        fine_width, fine_height = camera.width * oversampling, camera.height * oversampling
        x = (np.arange(fine_width) + 0.5) / oversampling
        y = (np.arange(fine_height) + 0.5) / oversampling
        pixels = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        rays = camera.cam_from_img(pixels).reshape(fine_height, fine_width, 2)
        focal = camera.focal_px * oversampling
        low = np.floor(rays.min(axis=(0, 1)) * focal) - 2
        high = np.ceil(rays.max(axis=(0, 1)) * focal) + 2
        self.width, self.height = (int(size) for size in high - low)
        self.calibration = np.array([[focal, 0.0, -low[0]], [0.0, focal, -low[1]], [0.0, 0.0, 1.0]])
        flat = rays * focal - low - 0.5
        self.columns = np.ascontiguousarray(flat[..., 0], np.float32)
        self.rows = np.ascontiguousarray(flat[..., 1], np.float32)


def _shrunk(fine: Image, width: int, height: int) -> Image:
    if fine.shape[:2] == (height, width):
        return fine
    return np.asarray(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _in_front(corners: FloatArray) -> FloatArray | None:
    """Pixels [K, 2] of the part of a convex polygon [4, 3] (x*z, y*z, z) beyond the near plane."""
    kept = []
    for here, there in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if here[2] > _NEAR:
            kept.append(here)
        if (here[2] > _NEAR) != (there[2] > _NEAR):
            kept.append(here + (_NEAR - here[2]) / (there[2] - here[2]) * (there - here))
    if len(kept) < 3:
        return None
    clipped = np.array(kept, np.float64)
    return np.asarray(clipped[:, :2] / clipped[:, 2:], np.float64)


def _moved_in(polygons: FloatArray) -> FloatArray:
    """Clockwise (on screen) convex polygons [N, K, 2], their edges moved in by `_FILL_EXCESS`."""
    edges = np.roll(polygons, -1, axis=1) - polygons
    lengths = np.hypot(edges[..., 0], edges[..., 1]) + 1e-12
    inward = np.stack([-edges[..., 1], edges[..., 0]], axis=-1) / lengths[..., None]
    distance = _FILL_EXCESS * np.abs(inward).max(axis=-1)
    before, d_before = np.roll(inward, 1, axis=1), np.roll(distance, 1, axis=1)
    # The vertex moves by m with  inward . m = distance  for both edges that meet in it.
    cross = before[..., 0] * inward[..., 1] - before[..., 1] * inward[..., 0]
    cross = np.where(np.abs(cross) < 0.05, np.inf, cross)  # nearly straight on: leave it
    move_x = (d_before * inward[..., 1] - distance * before[..., 1]) / cross
    move_y = (before[..., 0] * distance - inward[..., 0] * d_before) / cross
    return np.asarray(polygons + np.stack([move_x, move_y], axis=-1), np.float64)


def _levels(texel_from_pixel: FloatArray, pixels: FloatArray) -> NDArray[np.int_]:
    """How often [N, 2] to halve columns and rows so that a texel is about a pixel at ``pixels``."""
    h = texel_from_pixel  # [N, 3, 3]
    texels = np.einsum("nij,nj->ni", h[..., :2], pixels) + h[..., 2]
    depth = texels[:, 2:]
    # Derivatives of x / w and y / w along the pixel's axes.
    slope = h[:, :2, :2] - (texels[:, :2] / depth)[..., None] * h[:, 2:, :2]
    reach = np.hypot(slope[..., 0], slope[..., 1]) / np.abs(depth)
    levels = np.rint(np.log2(np.maximum(np.nan_to_num(reach), 1e-9)))
    return np.asarray(np.clip(levels, 0, COARSEST), int)


def _paint_surface(
    canvas: Image,
    window: NDArray[np.int_],
    surface: Surface,
    outline: FloatArray,
    level: NDArray[np.int_],
    texel_from_pixel: FloatArray,
) -> None:
    # One pixel more than the outline, which was moved in by less than that.
    left, top = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 1, window[:2])
    right, bottom = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 1, window[2:])
    if right <= left or bottom <= top:
        return
    texture = surface.texture.level(int(level[0]), int(level[1]))
    step = 2.0**level
    # The part of the level that is needed, with neighbours for the bilinear filter.
    low = np.maximum((np.array(surface.part[:2]) / step).astype(int) - 2, 0)
    high = np.ceil(np.array(surface.part[2:]) / step).astype(int) + 2
    source = texture[low[1] : high[1], low[0] : high[0]]
    # OpenCV index of the level <- texel <- pixel <- OpenCV index of the canvas part.
    to_index = np.array(
        [[1 / step[0], 0, -0.5 - low[0]], [0, 1 / step[1], -0.5 - low[1]], [0, 0, 1.0]]
    )
    from_index = np.array([[1.0, 0.0, left + 0.5], [0.0, 1.0, top + 0.5], [0.0, 0.0, 1.0]])
    warped = cv2.warpPerspective(
        source,
        to_index @ texel_from_pixel @ from_index,
        (int(right - left), int(bottom - top)),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    mask = np.zeros((bottom - top, right - left), np.uint8)
    corners = (outline - [left + 0.5, top + 0.5]) * (1 << _SUBPIXEL_BITS)
    cv2.fillConvexPoly(mask, np.rint(corners).astype(np.int32), 255, cv2.LINE_8, _SUBPIXEL_BITS)
    cv2.copyTo(warped, mask, canvas[top:bottom, left:right])
