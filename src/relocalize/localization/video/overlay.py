"""A clip with what its poses say drawn over it: the map's points, and where the camera is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place
from relocalize.plotting.walks import view_from_above

Bgr = tuple[int, int, int]

COLORS: dict[str, Bgr] = {
    "localized": (60, 200, 60),
    "rejected": (0, 140, 255),
    "bridged": (0, 140, 255),
    "lost": (60, 60, 230),
}
_LONGEST_SIDE = 960
_NEIGHBOURS = 6  # views of the map whose points are drawn
_INSET = 0.32  # side of the plan, of the image's height
_PLAN_POINTS = 4000
_MOST_FPS = 120
_INK: Bgr = (60, 50, 40)


@dataclass(frozen=True, eq=False)
class Shown:
    """What is known of one frame.

    Attributes:
        status: ``localized``, ``rejected``, ``bridged`` or ``lost``.
        world_from_cam: the smoothed pose, or None.
        sigma: of the centre along its worst axis, or None.
        line: written into the image.
    """

    status: str
    world_from_cam: Rigid3 | None
    sigma: float | None
    line: str


class Overlay:
    """Draws frames of one clip."""

    def __init__(self, place: Place, camera: Camera | None, trajectory: Sequence[Shown]) -> None:
        self._camera, self._trajectory = camera, trajectory
        model = place.map
        views = [image for image in model.images.values() if (image.point_rows >= 0).any()]
        self._points = model.points.positions
        self._colors = model.points.colors
        self._seen = [np.unique(view.point_rows[view.point_rows >= 0]) for view in views]
        self._centres = np.stack([view.world_from_cam.translation for view in views])
        self._facing = np.stack([view.cam_from_world.rotation[2] for view in views])
        self._apart = max(float(np.ptp(self._centres, axis=0).max()), 1e-9) / 4
        self._plan = _Plan(place, trajectory)

    def draw(self, bgr: NDArray[np.uint8], row: int) -> NDArray[np.uint8]:
        """The image [H, W, 3] of the frame ``row``, smaller if it is large, with all drawn."""
        height, width = bgr.shape[:2]
        factor = min(1.0, _LONGEST_SIDE / max(height, width))
        # Encoders of H.264 take even sides only.
        size = (max(2, 2 * round(factor * width / 2)), max(2, 2 * round(factor * height / 2)))
        canvas = np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        shown = self._trajectory[row]
        if shown.world_from_cam is not None:
            self._draw_points(canvas, shown, (width, height))
        self._plan.draw(canvas, row)
        _write(canvas, shown.line, COLORS[shown.status])
        return canvas

    def _draw_points(self, canvas: NDArray[np.uint8], shown: Shown, image: tuple[int, int]) -> None:
        pose = shown.world_from_cam
        if pose is None:
            return
        height, width = canvas.shape[:2]
        camera = (self._camera or Camera.from_focal(*image)).resized(width, height)
        away = np.linalg.norm(self._centres - pose.translation, axis=1) / self._apart
        # Cameras that look another way share no points, however near they are.
        away += 2 * (1 - self._facing @ pose.rotation[:, 2])
        near = np.argsort(away)[:_NEIGHBOURS]
        rows = np.unique(np.concatenate([self._seen[int(view)] for view in near]))
        in_cam = pose.inverse() @ self._points[rows]
        pixels = camera.img_from_cam(in_cam)
        inside = (in_cam[:, 2] > 0) & (pixels >= 0).all(axis=1) & (pixels < [width, height]).all(1)
        color = COLORS[shown.status]
        for x, y in pixels[inside]:
            centre = (round(16 * float(x)), round(16 * float(y)))  # in sixteenths of a pixel
            cv2.circle(canvas, centre, 16 * 3, (0, 0, 0), 2, cv2.LINE_AA, 4)
            cv2.circle(canvas, centre, 16 * 3, color, 1, cv2.LINE_AA, 4)


class _Plan:
    """The small image from above."""

    def __init__(self, place: Place, trajectory: Sequence[Shown]) -> None:
        images = list(place.posed_images())
        centres = np.stack([image.world_from_cam.translation for image in images])
        rotations = np.stack([image.world_from_cam.rotation for image in images])
        self._view = view_from_above(centres, rotations, up_is_z=place.frame.up == "z")
        points = place.points.positions
        if len(points) > _PLAN_POINTS:
            points = np.random.default_rng(0).choice(points, _PLAN_POINTS, replace=False)
        self._flat_points = self._view.of(points)
        self._flat_cameras = self._view.of(centres)
        self._trajectory = trajectory
        self._flat_path = [
            None
            if one.world_from_cam is None
            else self._view.of(one.world_from_cam.translation[None])[0]
            for one in trajectory
        ]
        known = [flat for flat in self._flat_path if flat is not None]
        near = (
            np.quantile(self._flat_points, [0.1, 0.9], axis=0) if len(points) else centres[:0, :2]
        )
        every = np.concatenate([self._flat_cameras, np.reshape(known, (-1, 2)), near])
        self._low, self._high = every.min(axis=0), every.max(axis=0)
        self._background: NDArray[np.uint8] | None = None
        self._drawn = 0

    def draw(self, canvas: NDArray[np.uint8], row: int) -> None:
        """Into the lower right corner."""
        side = round(_INSET * min(canvas.shape[:2]))
        if self._background is None or self._background.shape[0] != side or row < self._drawn:
            self._background, self._drawn = self._empty(side), 0
        for step in range(self._drawn, row + 1):
            self._draw_step(self._background, step)
        self._drawn = row + 1
        plan = self._background.copy()
        shown, flat = self._trajectory[row], self._flat_path[row]
        if flat is not None and shown.world_from_cam is not None:
            self._draw_camera(plan, shown, flat)
        canvas[-side - 8 : -8, -side - 8 : -8] = plan

    def _pixel(self, flat: FloatArray, side: int) -> tuple[int, int]:
        middle, half = (self._low + self._high) / 2, float((self._high - self._low).max()) / 2
        x, y = (flat - middle) / max(half, 1e-12) * 0.88
        return round(float((1 + x) / 2 * side)), round(float((1 - y) / 2 * side))

    def _empty(self, side: int) -> NDArray[np.uint8]:
        plan = np.full((side, side, 3), 250, np.uint8)
        for points, color in ((self._flat_points, 205), (self._flat_cameras, 165)):
            for point in points:
                x, y = self._pixel(point, side)
                if 0 <= x < side and 0 <= y < side:
                    plan[y, x] = color
        cv2.rectangle(plan, (0, 0), (side - 1, side - 1), (150, 150, 150), 1)
        return plan

    def _draw_step(self, plan: NDArray[np.uint8], row: int) -> None:
        before, now = self._flat_path[row - 1] if row else None, self._flat_path[row]
        if before is None or now is None:
            return
        side = plan.shape[0]
        ends = self._pixel(before, side), self._pixel(now, side)
        cv2.line(plan, *ends, COLORS[self._trajectory[row].status], 2, cv2.LINE_AA)

    def _draw_camera(self, plan: NDArray[np.uint8], shown: Shown, flat: FloatArray) -> None:
        if shown.world_from_cam is None:
            return
        side = plan.shape[0]
        at = np.array(self._pixel(flat, side))
        ahead = self._view.of(shown.world_from_cam.rotation[None, :, 2])[0] * [1, -1]
        ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-9)
        across = np.array([-ahead[1], ahead[0]])
        length = 0.09 * side
        corners = [at, at + length * (ahead + 0.5 * across), at + length * (ahead - 0.5 * across)]
        cv2.polylines(plan, [np.round(corners).astype(np.int32)], True, _INK, 1, cv2.LINE_AA)
        cv2.circle(plan, (int(at[0]), int(at[1])), 3, _INK, -1, cv2.LINE_AA)
        if shown.sigma is not None:
            extent = max(float((self._high - self._low).max()), 1e-12)
            radius = round(2 * shown.sigma / extent * 0.88 * side)
            if 3 < radius < 2 * side:
                cv2.circle(plan, (int(at[0]), int(at[1])), radius, _INK, 1, cv2.LINE_AA)


class VideoWriter:
    """An H.264 video in MP4, frame by frame with their own times."""

    def __init__(self, path: Path, fps: float) -> None:
        """Use as a context; ``path`` is whole when it ends."""
        self._path = path
        self._container = av.open(str(path), "w", format="mp4")
        self._rate = Fraction(min(max(fps, 0.1), _MOST_FPS)).limit_denominator(1000)
        self._stream: VideoStream | None = None
        self._last = -1

    def write(self, bgr: NDArray[np.uint8], time_s: float) -> None:
        """Append an image [H, W, 3]; one of another size than the first is stretched to it."""
        height, width = bgr.shape[:2]
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            self._stream.time_base = Fraction(1, 90_000)
            self._stream.options = {"crf": "23", "preset": "veryfast"}
        elif (self._stream.width, self._stream.height) != (width, height):
            size = (self._stream.width, self._stream.height)
            bgr = np.asarray(cv2.resize(bgr, size), dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(bgr, format="bgr24")
        self._last = max(round(90_000 * time_s), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, 90_000)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is left."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def _write(canvas: NDArray[np.uint8], line: str, color: Bgr) -> None:
    scale = max(0.4, canvas.shape[0] / 900)
    height = round(30 * scale) + 6
    canvas[:height] = (0.35 * canvas[:height]).astype(np.uint8)
    cv2.circle(canvas, (round(14 * scale), height // 2), round(6 * scale), color, -1, cv2.LINE_AA)
    at = (round(28 * scale), round(height / 2 + 8 * scale))
    cv2.putText(
        canvas, line, at, cv2.FONT_HERSHEY_SIMPLEX, 0.75 * scale, (255, 255, 255), 1, cv2.LINE_AA
    )
