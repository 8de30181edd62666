"""The map of an imported registration: its poses, cameras and points under the Place's names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relocalize.formats.images import ImageFile
from relocalize.formats.registration import Registration
from relocalize.geometry import Camera
from relocalize.place import MapModel, Points, PosedImage
from relocalize.place.model import NO_POINT


def distinct_cameras(
    registration: Registration, found: Sequence[ImageFile]
) -> tuple[tuple[Camera, ...], list[int]]:
    """The distinct cameras of the images, and each image's index among them."""
    index_of: dict[tuple[int | None, Camera], int] = {}
    rows = []
    for image in found:
        camera = registration.camera_of(image.listed, image.width, image.height)
        # Two cameras of the file with equal numbers stay two: the file says they are.
        key = (registration.poses[image.listed][1], camera)
        rows.append(index_of.setdefault(key, len(index_of)))
    return tuple(camera for _, camera in index_of), rows


def posed_model(registration: Registration, found: Sequence[ImageFile]) -> MapModel:
    """The posed images under their names in the Place, with the points that they observe."""
    cameras, camera_rows = distinct_cameras(registration, found)
    points, images = _no_points(), {}
    new_row: dict[int, int] = {}
    if registration.model is not None:
        points, new_row = observed_points(registration.model, [image.listed for image in found])
    for image, row in sorted(zip(found, camera_rows, strict=True), key=lambda pair: pair[0].name):
        keypoints = np.zeros((0, 2), dtype=np.float32)
        point_rows = np.zeros(0, dtype=np.int64)
        if registration.model is not None:
            theirs = registration.model.images[image.listed]
            size = np.array([theirs.camera.width, theirs.camera.height])
            scale = np.array([image.width, image.height]) / size
            keypoints = (theirs.keypoints * scale).astype(np.float32)
            point_rows = np.array(
                [new_row.get(int(old), NO_POINT) for old in theirs.point_rows], dtype=np.int64
            )
        images[image.name] = PosedImage(
            name=image.name,
            camera=cameras[row],
            camera_id=row + 1,
            cam_from_world=registration.poses[image.listed][0],
            keypoints=keypoints,
            point_rows=point_rows,
        )
    return MapModel(images, points)


def observed_points(model: MapModel, names: Sequence[str]) -> tuple[Points, dict[int, int]]:
    """The points that at least two of the images observe, and their new row by old row."""
    rows = [np.unique(model.images[name].point_rows) for name in names]
    values, counts = np.unique(np.concatenate(rows), return_counts=True)
    kept = values[(counts >= 2) & (values != NO_POINT)]
    points = Points(
        ids=model.points.ids[kept],
        positions=model.points.positions[kept],
        colors=model.points.colors[kept],
        reprojection_errors=model.points.reprojection_errors[kept],
        track_lengths=counts[(counts >= 2) & (values != NO_POINT)],
    )
    return points, {int(old): new for new, old in enumerate(kept)}


def _no_points() -> Points:
    return Points(
        ids=np.zeros(0, dtype=np.int64),
        positions=np.zeros((0, 3)),
        colors=np.zeros((0, 3), dtype=np.uint8),
        reprojection_errors=np.zeros(0),
        track_lengths=np.zeros(0, dtype=np.int64),
    )
