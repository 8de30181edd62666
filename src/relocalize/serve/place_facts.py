"""What clients are told of a Place."""

from __future__ import annotations

from typing import Any

import numpy as np

from relocalize.place import Place
from relocalize.plain import to_strict_json
from relocalize.plotting.floor import floor_plan

_REACH = (1, 99)  # percentiles of the points: some are always far out


def place_facts(place: Place) -> tuple[dict[str, Any], bytes]:
    """Frame, unit, extent and floor plan as plain values, and the plan's PNG.

    Raises:
        PlaceError: there is no map.
    """
    centres = np.stack([image.world_from_cam.translation for image in place.posed_images()])
    points = place.points.positions
    seen = np.percentile(points, _REACH, axis=0) if len(points) else centres
    around = np.concatenate([centres, seen])
    plan = floor_plan(place)
    frame = place.frame
    facts = {
        "name": place.name,
        "unit": frame.unit,
        "frame": frame,
        "extent": {"low": around.min(axis=0), "high": around.max(axis=0)},
        "images": len(centres),
        "points": len(points),
        "map_digest": place.map_digest(),
        "floor": {
            "floor_from_world": plan.axes,
            "low": plan.low,
            "high": plan.high,
            "pixels": [plan.density.shape[1], plan.density.shape[0]],
        },
    }
    return to_strict_json(facts), plan.png()
