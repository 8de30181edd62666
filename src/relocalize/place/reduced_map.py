"""A map as some of its images see it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from relocalize.place.bundle_adjustment import refine_points
from relocalize.place.model import MapModel


def seen_by(whole: MapModel, names: Collection[str]) -> MapModel:
    """A map as some of its images see it, its points estimated anew from these, poses held.

    Points with fewer than 2 observations left are gone.
    """
    # Steps of the least squares end where they are small beside the coordinates.
    origin = whole.local_origin
    model = whole.about(origin).only(names).to_colmap()
    refine_points(model)
    reduced = MapModel.from_colmap(model)
    if not origin.any():
        return reduced
    images = {
        name: replace(image, cam_from_world=whole.images[name].cam_from_world)
        for name, image in reduced.images.items()
    }
    return MapModel(images, reduced.about(-origin).points)
