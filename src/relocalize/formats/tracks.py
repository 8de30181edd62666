"""A map's points from the tracks of another tool's file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import FormatError
from relocalize.formats.registration import Registration
from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray
from relocalize.place import MapModel, Points, PosedImage

_FARTHEST = 1e9  # in any unit, as for camera positions


def model_of_tracks(
    registration: Registration,
    positions: FloatArray,
    colors: NDArray[np.uint8],
    observations: Mapping[str, tuple[FloatArray, NDArray[np.int64]]],
) -> MapModel | None:
    """The posed images with the points that they observe; None where a camera has no size.

    Args:
        registration: poses and cameras.
        positions: [P, 3] of the points in the registration's world.
        colors: [P, 3] RGB.
        observations: by image name, keypoints [K, 2] in pixels and the row of each one's point.

    Raises:
        FormatError: a position or keypoint is nowhere.
    """
    values = [positions, *(pixels for pixels, _ in observations.values())]
    if max(np.abs(one).max(initial=0) for one in values) > _FARTHEST:
        raise FormatError(f"a point or keypoint is beyond {_FARTHEST:g}, which is nowhere")
    images: dict[str, PosedImage] = {}
    lengths = np.zeros(len(positions), dtype=np.int64)
    errors = np.zeros(len(positions))
    nothing = (np.zeros((0, 2)), np.zeros(0, dtype=np.int64))
    for name in sorted(registration.poses):
        pose, index = registration.poses[name]
        camera = None if index is None else registration.cameras[index]
        if index is None or not isinstance(camera, Camera):
            return None
        keypoints, rows = observations.get(name, nothing)
        projected = camera.img_from_cam(pose @ positions[rows]) if len(rows) else keypoints
        off = np.linalg.norm(projected - keypoints, axis=1)
        np.add.at(errors, rows, np.nan_to_num(off))
        np.add.at(lengths, rows, 1)
        images[name] = PosedImage(name, camera, index + 1, pose, keypoints.astype(np.float32), rows)
    points = Points(
        ids=np.arange(1, len(positions) + 1),
        positions=positions,
        colors=colors,
        reprojection_errors=errors / np.maximum(lengths, 1),
        track_lengths=lengths,
    )
    return MapModel(images, points)
