"""A photo behind the map's points, for a browser whose eye is where the photo was taken."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import viser
from numpy.typing import NDArray

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray

_FAR = 50.0  # where the photo stands, in reaches of the scene: behind all that is drawn
# An eye that has moved by more than this, in reaches, or turned by more than this is elsewhere.
_STEP, _TURN_RAD = 0.002, 0.01


@dataclass(eq=False)
class _Shown:
    """What one browser sees."""

    pose: Rigid3  # of the camera
    photo: viser.ImageHandle  # behind the points
    # whether the browser said that its eye is there; until then it is on its way
    arrived: bool = False


class PhotoBackdrops:
    """Which browsers see a photo behind the points. It goes away as soon as the eye does."""

    def __init__(self, reach: float, on_change: Callable[[bool], None]) -> None:
        """``on_change`` is told when the first browser sees a photo, and when none does."""
        self._reach, self._on_change = reach, on_change
        self._shown: dict[int, _Shown] = {}
        self._known: set[int] = set()
        self._lock = threading.RLock()

    def go_to(
        self,
        client: viser.ClientHandle,
        pose: Rigid3,
        half: tuple[float, float] | FloatArray,
        pixels: NDArray[np.uint8] | None,
    ) -> None:
        """Put the eye of one browser where a camera is, its photo filling the window.

        ``half`` is half width and half height of the camera's image at distance 1.
        """
        with self._lock:
            self._forget(client.client_id)
            if pixels is not None:
                self._show(client, pose, half, pixels)
        with client.atomic():
            camera = client.camera
            camera.wxyz, camera.position = pose.quat_wxyz, pose.translation
            tall = max(float(half[1]), float(half[0]) / max(camera.aspect, 1e-3))
            camera.fov = 2 * float(np.arctan(tall))

    def _show(
        self,
        client: viser.ClientHandle,
        pose: Rigid3,
        half: tuple[float, float] | FloatArray,
        pixels: NDArray[np.uint8],
    ) -> None:
        far = _FAR * self._reach
        photo = client.scene.add_image(
            "/photo-behind",
            pixels,
            render_width=2 * far * float(half[0]),
            render_height=2 * far * float(half[1]),
            format="jpeg",
            wxyz=pose.quat_wxyz,
            position=pose @ np.array([0.0, 0.0, far]),
            cast_shadow=False,
            receive_shadow=False,
        )
        self._shown[client.client_id] = _Shown(pose, photo)
        if client.client_id not in self._known:
            self._known.add(client.client_id)
            client.camera.on_update(lambda camera: self._follow(client.client_id, camera))
        self._on_change(True)

    def left(self, client_id: int) -> None:
        """A browser was closed."""
        with self._lock:
            self._known.discard(client_id)
            if self._shown.pop(client_id, None) is not None and not self._shown:
                self._on_change(False)

    def _follow(self, client_id: int, camera: viser.CameraHandle) -> None:
        with self._lock:
            shown = self._shown.get(client_id)
            if shown is None:
                return
            if self._is_at(camera, shown.pose):
                shown.arrived = True
            elif shown.arrived:
                self._forget(client_id)

    def _is_at(self, camera: viser.CameraHandle, pose: Rigid3) -> bool:
        moved = float(np.linalg.norm(camera.position - pose.translation))
        # Of two unit quaternions the dot product is the cosine of half the angle between.
        half_turn = float(np.arccos(min(1.0, abs(float(camera.wxyz @ pose.quat_wxyz)))))
        return moved <= _STEP * self._reach and 2 * half_turn <= _TURN_RAD

    def _forget(self, client_id: int) -> None:
        shown = self._shown.pop(client_id, None)
        if shown is not None:
            shown.photo.remove()
            if not self._shown:
                self._on_change(False)
