"""A map as some of its images see it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from relocalize.place.bundle_adjustment import refine_points
from relocalize.place.model import NO_POINT, MapModel, Points, PosedImage


def seen_by(whole: MapModel, names: Collection[str]) -> MapModel:
    """A map as some of its images see it, its points estimated anew from these, poses held.

    Points with fewer than 2 observations left are gone.
    """
    kept = {name: image for name, image in whole.images.items() if name in set(names)}
    counts = observation_counts(kept.values(), len(whole.points))
    alive = counts >= 2
    new_row = np.where(alive, np.cumsum(alive) - 1, NO_POINT)
    points = whole.points
    reduced = MapModel(
        images={name: _with_rows(image, new_row) for name, image in kept.items()},
        points=Points(
            ids=points.ids[alive],
            positions=points.positions[alive],
            colors=points.colors[alive],
            reprojection_errors=points.reprojection_errors[alive],
            track_lengths=counts[alive],
        ),
    )
    model = reduced.to_colmap()
    refine_points(model)
    return MapModel.from_colmap(model)


def observation_counts(images: Iterable[PosedImage], points: int) -> NDArray[np.int64]:
    """How many of the images observe each point [P]."""
    rows = [image.point_rows[image.point_rows != NO_POINT] for image in images]
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *rows]), minlength=points)


def _with_rows(
    image: PosedImage, new_row: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> PosedImage:
    rows = np.where(image.point_rows == NO_POINT, NO_POINT, new_row[image.point_rows])
    return PosedImage(
        image.name, image.camera, image.camera_id, image.cam_from_world, image.keypoints, rows
    )
