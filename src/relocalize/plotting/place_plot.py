"""A Place from above, or as a scene to look around in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.from_above import view_from_above
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place, atomic
from relocalize.plotting.figure import (
    SOFT,
    check_suffix,
    draw_cameras,
    draw_ground,
    draw_names,
    draw_points,
    figure_in,
    shortened,
)
from relocalize.plotting.scene_page import scene_page
from relocalize.plotting.walks import walks_of

_WIDTH = 7.2  # inches: two columns of a paper
_MOST_POINTS = 20_000  # drawn: walls are seen with fewer, and an SVG stays small
_HTML = (".html", ".htm")


def plot_place(
    place: Place,
    out: Path,
    *,
    captures: Sequence[str] = (),
    names: bool = False,
    points: bool = False,
) -> list[str]:
    """Draw cameras of some captures or all: from above, as ``.html`` in 3D; remarks for people.

    With the images' names, and the map's points, where asked for.

    Raises:
        PlaceError: there is no map, no such capture, or no such kind of figure.
    """
    check_suffix(out, *_HTML)
    walks = walks_of(place, captures)
    rotations = np.stack([pose.rotation for walk in walks for pose in walk.world_from_cam])
    centres = np.concatenate([walk.centres for walk in walks])
    view = view_from_above(centres, rotations, up_is_z=place.frame.up == "z")
    seen_points, colors = np.empty((0, 3)), np.empty((0, 3), np.uint8)
    if points:
        seen_points, colors = _points(place, centres)
    if out.suffix.lower() in _HTML:
        page = scene_page(
            place.name, walks, seen_points, colors, view, unit=place.unit, names=names
        )
        atomic.write_text(out, page)
        return []
    seen = view.of(np.concatenate([centres, seen_points]))
    extent = np.maximum(np.ptp(seen, axis=0), 0.3 * np.ptp(seen, axis=0).max())
    height = float(np.clip(_WIDTH * extent[1] / max(extent[0], 1e-12), 2.4, 9.0)) + 0.6
    with figure_in(_WIDTH, height, out) as figure:
        axes = figure.add_subplot()
        side = draw_ground(axes, seen, view.labels, place.unit)
        draw_points(axes, view.of(seen_points), colors)
        for walk in walks:
            draw_cameras(
                axes,
                view.of(walk.centres),
                view.of(walk.directions),
                side,
                color=walk.color,
                label=f"{walk.name} ({len(walk.names)})",
                in_order=walk.in_order,
            )
        if len(walks) > 1:
            figure.legend(loc="outside upper left", ncols=4, fontsize=8, handletextpad=0.2)
        axes.set_title(shortened(place.name), fontsize=9, color=SOFT, loc="left")
        figure.supxlabel(view.words, fontsize=8, color=SOFT)
        if not names:
            return []
        listed = [name for walk in walks for name in walk.names]
        if len(walks) == 1:
            listed = [name.split("/", 1)[-1] for name in listed]
        written = draw_names(axes, view.of(centres), listed)
    if written == len(listed):
        return []
    return [
        f"names of {written} of {len(listed)} images: there is no room for the others (an .html "
        "shows each under the pointer)"
    ]


def _points(place: Place, centres: FloatArray) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Positions [P, 3] and colours [P, 3] of the map's points near the cameras."""
    points = place.points
    middle = np.median(centres, axis=0)
    distance = np.linalg.norm(points.positions - middle, axis=1)
    reach = np.linalg.norm(centres - middle, axis=1).max()
    # Points far outside, of which there always are some, would shrink the rest.
    near = np.flatnonzero(
        distance <= max(np.quantile(distance, 0.95), reach) if len(points) else []
    )
    if len(near) > _MOST_POINTS:
        near = np.random.default_rng(0).permutation(near)[:_MOST_POINTS]
    return points.positions[near], points.colors[near]
