"""A clip with what its poses say drawn over it: the map's points, and where the camera is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.from_above import view_from_above
from relocalize.geometry.transforms import FloatArray
from relocalize.localization.video.poses import ClipPose
from relocalize.place import Place
from relocalize.place.folder import METRE

Bgr = tuple[int, int, int]
Pixels = NDArray[np.uint8]

COLORS: dict[str, Bgr] = {
    "localized": (60, 200, 60),
    "rejected": (0, 140, 255),
    "bridged": (0, 140, 255),
    "lost": (60, 60, 230),
}
_LONGEST_SIDE = 960
_NEIGHBOURS = 6  # views of the map whose points are drawn
_INSET = 0.32  # side of the plan, of the image's height
_MARGIN = 0.88  # of the plan's half side, that what is drawn fills
_PLAN_POINTS = 4000
_MOST_FPS = 120
_TICKS = 90_000  # a second, as in MPEG
_INK: Bgr = (60, 50, 40)


class Overlay:
    """Draws frames of one clip."""

    def __init__(
        self, place: Place, camera: Camera | None, poses: Sequence[ClipPose], size: tuple[int, int]
    ) -> None:
        """Drawn images are smaller than frames of ``size`` (width, height) if these are large."""
        factor = min(1.0, _LONGEST_SIDE / max(size))
        # Encoders of H.264 take even sides only.
        width, height = (max(2, 2 * round(factor * side / 2)) for side in size)
        self._size = width, height
        self._camera = (camera or Camera.from_focal(*size)).resized(width, height)
        self._poses, self._unit = poses, place.unit
        model = place.map
        views = model.views
        self._points = model.points.positions
        self._seen = [np.unique(view.observed) for view in views]
        self._centres = np.stack([view.world_from_cam.translation for view in views])
        self._facing = np.stack([view.cam_from_world.rotation[2] for view in views])
        self._apart = max(float(np.ptp(self._centres, axis=0).max()), 1e-9) / 4
        self._plan = _Plan(place, poses, round(_INSET * min(self._size)))

    def draw(self, bgr: Pixels, row: int) -> Pixels:
        """The image of the frame ``row``, with all drawn; rows come in order."""
        canvas = np.asarray(
            cv2.resize(bgr, self._size, interpolation=cv2.INTER_AREA), dtype=np.uint8
        )
        pose = self._poses[row]
        if pose.world_from_cam is not None:
            self._draw_points(canvas, pose.world_from_cam, COLORS[pose.status])
        self._plan.draw(canvas, row)
        _write(canvas, _line(pose, self._unit), COLORS[pose.status])
        return canvas

    def _draw_points(self, canvas: Pixels, pose: Rigid3, color: Bgr) -> None:
        away = np.linalg.norm(self._centres - pose.translation, axis=1) / self._apart
        # Cameras that look another way share no points, however near they are.
        away += 2 * (1 - self._facing @ pose.rotation[:, 2])
        near = np.argsort(away)[:_NEIGHBOURS]
        rows = np.unique(np.concatenate([self._seen[int(view)] for view in near]))
        in_cam = pose.inverse() @ self._points[rows]
        pixels = self._camera.img_from_cam(in_cam)
        inside = (in_cam[:, 2] > 0) & (pixels >= 0).all(axis=1) & (pixels < self._size).all(axis=1)
        for x, y in np.rint(16 * pixels[inside]).astype(int).tolist():  # in sixteenths of a pixel
            cv2.circle(canvas, (x, y), 16 * 3, (0, 0, 0), 2, cv2.LINE_AA, 4)
            cv2.circle(canvas, (x, y), 16 * 3, color, 1, cv2.LINE_AA, 4)


class _Plan:
    """The small image from above."""

    def __init__(self, place: Place, poses: Sequence[ClipPose], side: int) -> None:
        images = list(place.posed_images())
        centres = np.stack([image.world_from_cam.translation for image in images])
        rotations = np.stack([image.world_from_cam.rotation for image in images])
        self._view = view_from_above(centres, rotations, up_is_z=place.frame.up == "z")
        points = place.points.positions
        if len(points) > _PLAN_POINTS:
            points = np.random.default_rng(0).choice(points, _PLAN_POINTS, replace=False)
        flat_points, flat_cameras = self._view.of(points), self._view.of(centres)
        known = [one.world_from_cam.translation for one in poses if one.world_from_cam is not None]
        near = np.quantile(flat_points, [0.1, 0.9], axis=0) if len(points) else flat_points
        every = np.concatenate([flat_cameras, self._view.of(np.reshape(known, (-1, 3))), near])
        low, high = every.min(axis=0), every.max(axis=0)
        self._middle, self._extent = (low + high) / 2, max(float((high - low).max()), 1e-12)
        self._poses, self._side = poses, side
        self._drawn = np.full((side, side, 3), 250, np.uint8)
        for flat, color in ((flat_points, 205), (flat_cameras, 165)):
            pixels = self._pixels(flat)
            x, y = pixels[((pixels >= 0) & (pixels < side)).all(axis=1)].T
            self._drawn[y, x] = color
        cv2.rectangle(self._drawn, (0, 0), (side - 1, side - 1), (150, 150, 150), 1)

    def _pixels(self, flat: FloatArray) -> NDArray[np.int64]:
        """[N, 2] of positions [N, 2] on the plan."""
        offsets = (flat - self._middle) * [1, -1] / (self._extent / 2) * _MARGIN
        return np.asarray(np.rint((1 + offsets) / 2 * self._side), dtype=np.int64)

    def draw(self, canvas: Pixels, row: int) -> None:
        """Into the lower right corner: the way so far, and where the camera is."""
        before, now = self._poses[row - 1] if row else None, self._poses[row]
        if before and before.world_from_cam is not None and now.world_from_cam is not None:
            ends = np.stack([before.world_from_cam.translation, now.world_from_cam.translation])
            start, end = self._pixels(self._view.of(ends)).tolist()
            cv2.line(self._drawn, start, end, COLORS[now.status], 2, cv2.LINE_AA)
        plan = self._drawn.copy()
        if now.world_from_cam is not None:
            self._draw_camera(plan, now.world_from_cam, now.position_sigma)
        canvas[-self._side - 8 : -8, -self._side - 8 : -8] = plan

    def _draw_camera(self, plan: Pixels, pose: Rigid3, sigma: float | None) -> None:
        (at,) = self._pixels(self._view.of(pose.translation[None]))
        ahead = self._view.of(pose.rotation[None, :, 2])[0] * [1, -1]
        ahead = 0.09 * self._side * ahead / max(float(np.linalg.norm(ahead)), 1e-9)
        across = np.array([-ahead[1], ahead[0]]) / 2
        corners = np.rint([at, at + ahead + across, at + ahead - across]).astype(np.int32)
        cv2.polylines(plan, [corners], True, _INK, 1, cv2.LINE_AA)
        cv2.circle(plan, at.tolist(), 3, _INK, -1, cv2.LINE_AA)
        radius = round(2 * (sigma or 0.0) / self._extent * _MARGIN * self._side)
        if 3 < radius < 2 * self._side:
            cv2.circle(plan, at.tolist(), radius, _INK, 1, cv2.LINE_AA)


def write_video(path: Path, fps: float, images: Iterable[tuple[Pixels, float]]) -> None:
    """An H.264 video in MP4 of images [H, W, 3] (BGR) of one size, with their own times in s."""
    rate = Fraction(min(max(fps, 0.1), _MOST_FPS)).limit_denominator(1000)
    stream: VideoStream | None = None
    last = -1
    with av.open(str(path), "w", format="mp4") as container:
        for bgr, time_s in images:
            if stream is None:
                stream = container.add_stream("libx264", rate=rate)
                stream.height, stream.width = bgr.shape[:2]
                stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, _TICKS)
                stream.options = {"crf": "23", "preset": "veryfast"}
            frame = av.VideoFrame.from_ndarray(bgr, format="bgr24")
            last = max(round(_TICKS * time_s), last + 1)
            frame.pts, frame.time_base = last, Fraction(1, _TICKS)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))


def _line(pose: ClipPose, unit: str) -> str:
    words = [f"{pose.frame.time_s:6.2f} s", pose.status]
    if pose.position_sigma is not None:
        size = (
            f"{100 * pose.position_sigma:.1f} cm"
            if unit == METRE
            else f"{pose.position_sigma:.2g} units"
        )
        words.append(f"+-{size}, {pose.rotation_sigma_deg:.2f} deg")
    if pose.frame.estimate.inliers is not None:
        words.append(f"{pose.frame.estimate.inliers} inliers")
    return "   ".join(words)


def _write(canvas: Pixels, line: str, color: Bgr) -> None:
    scale = max(0.4, canvas.shape[0] / 900)
    height = round(30 * scale) + 6
    canvas[:height] = (0.35 * canvas[:height]).astype(np.uint8)
    cv2.circle(canvas, (round(14 * scale), height // 2), round(6 * scale), color, -1, cv2.LINE_AA)
    at = (round(28 * scale), round(height / 2 + 8 * scale))
    cv2.putText(
        canvas, line, at, cv2.FONT_HERSHEY_SIMPLEX, 0.75 * scale, (255, 255, 255), 1, cv2.LINE_AA
    )
