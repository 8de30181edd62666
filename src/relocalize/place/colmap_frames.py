"""The poses of a COLMAP model's images by its rigs and frames, where it has such files.

From COLMAP 3.12 on a frame has the pose, and an image that of its sensor on the frame's rig; the
images file repeats it, and COLMAP itself does not look there.
Source: COLMAP's documentation, "Output Format", and ``scene/reconstruction_io_{text,binary}.cc``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from relocalize.errors import GeometryError, PlaceError
from relocalize.geometry import Rigid3
from relocalize.place.colmap_files import CAMERA_SENSOR, ending, frame_rows, rig_rows

_FARTHEST = 1e9  # as of the poses of images


def poses_by_frames(folder: Path) -> dict[int, Rigid3]:
    """``cam_from_world`` by the image's number; empty where there are no rigs and frames.

    Raises:
        PlaceError: a file is damaged.
    """
    end = ending(folder)
    if end is None or not all((folder / f"{what}{end}").is_file() for what in ("rigs", "frames")):
        return {}
    try:
        return dict(_poses(folder))
    except (GeometryError, ValueError, struct.error) as error:
        raise PlaceError(f"{folder}: its rigs or frames are damaged: {error}") from None


def _poses(folder: Path) -> Iterator[tuple[int, Rigid3]]:
    sensor_from_rig = {
        (rig, sensor): Rigid3.identity() if pose is None else _rigid(pose)
        for rig, sensor, pose in rig_rows(folder)
    }
    for rig, pose, data in frame_rows(folder):
        rig_from_world = _rigid(pose)
        for sensor, image in data:
            if sensor[0] == CAMERA_SENSOR and (rig, sensor) in sensor_from_rig:
                yield image, sensor_from_rig[rig, sensor] @ rig_from_world


def _rigid(pose: tuple[float, ...]) -> Rigid3:
    if not np.all(np.abs(pose) < _FARTHEST):
        raise ValueError("a pose with a number that is not finite, or nowhere")
    return Rigid3.from_quat_wxyz(pose[:4], pose[4:])
