"""A map from above, small, as SVG: what a notebook shows of a Place."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from relocalize.geometry import Rigid3
from relocalize.geometry.from_above import view_from_above
from relocalize.geometry.transforms import FloatArray

if TYPE_CHECKING:
    from relocalize.place.folder import Place

_SIZE = 360.0  # pixels of the longer side
_MOST_POINTS = 2000
_TICK = 14.0  # pixels of a viewing direction
_REACH = (2, 98)  # percentiles of the points: a few far ones would shrink the rest


def svg_from_above(place: Place, marked: Sequence[Rigid3] = ()) -> str:
    """The map's points and the way of each capture, and ``marked`` cameras with their direction.

    Raises:
        PlaceError: there is no map.
    """
    posed = place.map.images
    walks = [
        [posed[name].world_from_cam.translation for name in capture.image_names if name in posed]
        for capture in place.captures.values()
    ]
    centres = np.array([image.world_from_cam.translation for image in posed.values()])
    rotations = np.array([image.world_from_cam.rotation for image in posed.values()])
    view = view_from_above(centres, rotations, up_is_z=place.frame.up == "z")
    points = place.points.positions[:: max(1, len(place.points) // _MOST_POINTS)]

    def flat(positions: FloatArray) -> FloatArray:
        return view.of(positions) * [1, -1]  # y goes down the page

    shown = [flat(centres), *(flat(pose.translation)[None] for pose in marked)]
    if len(points):
        shown.append(np.percentile(flat(points), _REACH, axis=0))
    low, high = np.concatenate(shown).min(axis=0), np.concatenate(shown).max(axis=0)
    scale = _SIZE / max(float((high - low).max()), 1e-9)
    width, height = (high - low) * scale + 2 * _TICK

    def path(positions: FloatArray) -> list[str]:
        pixels = (flat(positions) - low) * scale + _TICK
        return [f"{x:.1f} {y:.1f}" for x, y in pixels.tolist()]

    drawn = [_path("".join(f"M{at}h0" for at in path(points)), "#9aa3ac", 1.5)]
    drawn += [_path("M" + "L".join(path(np.array(walk))), "#1f77b4", 2) for walk in walks if walk]
    for pose in marked:
        ahead = pose.translation + _TICK / scale * pose.rotation[:, 2]
        at, end = path(np.stack([pose.translation, ahead]))
        drawn.append(_path(f"M{at}h0", "#d62728", 7) + _path(f"M{at}L{end}", "#d62728", 2))
    title = f"{place.name}: {len(posed)} posed images, {len(place.points)} points"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}">'
        f"<title>{escape(title)}</title>{''.join(drawn)}</svg>"
    )


def _path(shape: str, color: str, width: float) -> str:
    return (
        f'<path d="{shape}" fill="none" stroke="{color}" stroke-width="{width}" '
        'stroke-linecap="round"/>'
    )
