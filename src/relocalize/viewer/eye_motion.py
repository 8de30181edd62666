"""Moving the eye: smoothly from where it is to a camera of the Place."""

from __future__ import annotations

import time

import numpy as np
import viser
from scipy.spatial.transform import Rotation, Slerp

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray, rotation_from_quat_wxyz

_STEPS, _SECONDS = 20, 0.6


def fly_to(
    client: viser.ClientHandle, world_from_cam: Rigid3, half: tuple[float, float] | FloatArray
) -> None:
    """Put the eye of one browser where a camera is, its image filling the window.

    Args:
        client: the browser.
        world_from_cam: the camera.
        half: half width and half height of its image at distance 1.
    """
    camera = client.camera
    start = Rigid3(rotation_from_quat_wxyz(camera.wxyz), camera.position)
    both = Rotation.from_matrix(np.stack([start.rotation, world_from_cam.rotation]))
    turn = Slerp([0.0, 1.0], both)
    tall = max(float(half[1]), float(half[0]) / max(camera.aspect, 1e-3))
    from_fov, to_fov = camera.fov, 2 * float(np.arctan(tall))
    for step in range(1, _STEPS + 1):
        share = step / _STEPS
        eased = share * share * (3 - 2 * share)
        rotation = turn(eased)
        with client.atomic():
            camera.wxyz = rotation.as_quat(scalar_first=True)
            camera.position = (1 - eased) * start.translation + eased * world_from_cam.translation
            camera.fov = (1 - eased) * from_fov + eased * to_fov
        client.flush()
        time.sleep(_SECONDS / _STEPS)
