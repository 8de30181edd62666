"""Looking through a camera: its photo behind the map's points, for a browser whose eye is in it."""

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
class _Look:
    """What one browser looks through.

    Attributes:
        pose: of the camera.
        photo: behind the points.
        arrived: whether the browser said that its eye is there; until then it is on its way.
    """

    pose: Rigid3
    photo: viser.ImageHandle
    arrived: bool = False


class LookingThrough:
    """Who looks through a camera. A photo goes away as soon as the eye does."""

    def __init__(self, reach: float, on_change: Callable[[bool], None]) -> None:
        """``on_change`` is told when somebody begins to look through, and when nobody does."""
        self._reach, self._on_change = reach, on_change
        self._looks: dict[int, _Look] = {}
        self._known: set[int] = set()
        self._lock = threading.RLock()

    def look(
        self,
        client: viser.ClientHandle,
        pose: Rigid3,
        half: tuple[float, float] | FloatArray,
        pixels: NDArray[np.uint8],
    ) -> None:
        """Put a photo behind the points, for one browser whose eye is where the photo was taken.

        Args:
            client: the browser.
            pose: world_from_cam of the photo.
            half: half width and half height of the photo at distance 1.
            pixels: RGB [H, W, 3].
        """
        far = _FAR * self._reach
        with self._lock:
            self._forget(client.client_id)
            photo = client.scene.add_image(
                "/through",
                pixels,
                render_width=2 * far * float(half[0]),
                render_height=2 * far * float(half[1]),
                format="jpeg",
                wxyz=pose.quat_wxyz,
                position=pose @ np.array([0.0, 0.0, far]),
                cast_shadow=False,
                receive_shadow=False,
            )
            self._looks[client.client_id] = _Look(pose, photo)
            if client.client_id not in self._known:
                self._known.add(client.client_id)
                client.camera.on_update(lambda camera: self._follow(client.client_id, camera))
            self._on_change(True)

    def left(self, client_id: int) -> None:
        """A browser was closed."""
        with self._lock:
            self._known.discard(client_id)
            if self._looks.pop(client_id, None) is not None and not self._looks:
                self._on_change(False)

    def _follow(self, client_id: int, camera: viser.CameraHandle) -> None:
        with self._lock:
            look = self._looks.get(client_id)
            if look is None:
                return
            if self._is_at(camera, look.pose):
                look.arrived = True
            elif look.arrived:
                self._forget(client_id)
                if not self._looks:
                    self._on_change(False)

    def _is_at(self, camera: viser.CameraHandle, pose: Rigid3) -> bool:
        moved = float(np.linalg.norm(camera.position - pose.translation))
        # Of two unit quaternions the dot product is the cosine of half the angle between.
        half_turn = float(np.arccos(min(1.0, abs(float(camera.wxyz @ pose.quat_wxyz)))))
        return moved <= _STEP * self._reach and 2 * half_turn <= _TURN_RAD

    def _forget(self, client_id: int) -> None:
        look = self._looks.pop(client_id, None)
        if look is not None:
            look.photo.remove()
