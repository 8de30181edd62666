"""A map as some of its images see it."""

from __future__ import annotations

from collections.abc import Collection

from relocalize.place.bundle_adjustment import refine_points
from relocalize.place.model import MapModel


def seen_by(whole: MapModel, names: Collection[str]) -> MapModel:
    """A map as some of its images see it, its points estimated anew from these, poses held.

    Points with fewer than 2 observations left are gone.
    """
    model = whole.only(names).to_colmap()
    refine_points(model)
    return MapModel.from_colmap(model)
