"""A map's points from the tracks of another tool's file."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from relocalize.errors import FormatError
from relocalize.formats.registration import Registration
from relocalize.geometry import Camera
from relocalize.place import MapModel
from relocalize.place.colmap_files import ImageRow, PointRows

Observation = tuple[str, float, float, int]  # image, u, v in pixels, row of the point
_FARTHEST = 1e9  # in any unit, as for camera positions


def model_of_tracks(
    registration: Registration,
    positions: ArrayLike,
    colors: ArrayLike,
    observations: Iterable[Observation],
) -> MapModel | None:
    """The posed images with the points that they observe; None where a camera has no size.

    Args:
        registration: poses and cameras.
        positions: [P, 3] of the points in the registration's world.
        colors: [P, 3] RGB, cut to 0 to 255.
        observations: of the points; those in images without a pose are left out.

    Raises:
        FormatError: a position or keypoint is nowhere.
    """
    positions = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
    seen: dict[str, list[tuple[float, float, int]]] = {name: [] for name in registration.poses}
    for name, u, v, row in observations:
        if name in seen:
            seen[name].append((u, v, row))
    tables = {name: np.array(rows, np.float64).reshape(-1, 3) for name, rows in seen.items()}
    if max(np.abs(one).max(initial=0) for one in (positions, *tables.values())) > _FARTHEST:
        raise FormatError(f"a point or keypoint is beyond {_FARTHEST:g}, which is nowhere")
    images = []
    errors, lengths = np.zeros(len(positions)), np.zeros(len(positions))
    for name, (pose, index) in registration.poses.items():
        camera = None if index is None else registration.cameras[index]
        if index is None or not isinstance(camera, Camera):
            return None
        pixels, rows = tables[name][:, :2], tables[name][:, 2].astype(np.int64)
        if len(rows):
            projected = camera.img_from_cam(pose @ positions[rows])
            np.add.at(errors, rows, np.nan_to_num(np.linalg.norm(projected - pixels, axis=1)))
            np.add.at(lengths, rows, 1)
        image = ImageRow(
            where="",
            name=name,
            camera=index + 1,
            keypoints=pixels.astype(np.float32),
            point_ids=rows + 1,
        )
        images.append((image, camera, pose))
    points = PointRows(
        ids=np.arange(1, len(positions) + 1),
        positions=positions,
        colors=np.clip(np.reshape(colors, (-1, 3)), 0, 255).astype(np.uint8),
        errors=errors / np.maximum(lengths, 1),
    )
    return MapModel.of_rows(images, points)
