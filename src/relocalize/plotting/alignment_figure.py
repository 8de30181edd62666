"""Two frames from above: before and after one is moved onto the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from relocalize.errors import PlaceError
from relocalize.geometry.from_above import view_from_above
from relocalize.geometry.transforms import FloatArray
from relocalize.mapping.aligning import FoundFrame
from relocalize.plotting.figure import (
    SOFT,
    draw_cameras,
    draw_ground,
    draw_names,
    figure_in,
    shortened,
)
from relocalize.plotting.walks import COLORS

_WIDTH, _HEIGHT = 7.2, 4.2  # inches: two columns of a paper
_NARROWEST = 0.6  # of a panel: both shall be of one kind however the two frames lie
_PLACE, _REFERENCE, _OUTLIER = COLORS[0], COLORS[4], COLORS[1]
_MOST_NAMED = 20  # outliers with their names beside them


def draw_alignment(found: FoundFrame, place: str, out: Path) -> None:
    """Draw the cameras, or points, that a transform comes from, in both frames.

    Raises:
        PlaceError: it cannot be such a file, or the transform comes from no positions.
    """
    before, reference = found.in_place, found.in_reference
    if before is None or reference is None:
        raise PlaceError("there are no positions to draw: a length and a direction alone have none")
    good = found.alignment.inliers if found.alignment is not None else slice(None)
    view = view_from_above(reference.positions[good], None, up_is_z=found.frame.up == "z")
    after = before.moved(found.reference_from_place)
    with figure_in(_WIDTH, _HEIGHT, out) as figure:
        left, right = figure.subplots(1, 2)
        for axes, stations, title in ((left, before, "before"), (right, after, "after")):
            seen = view.of(np.concatenate([stations.positions, reference.positions]))
            side = draw_ground(axes, seen, view.labels, found.unit, narrowest=_NARROWEST)
            size = float(np.clip(60 / np.sqrt(len(seen)), 1.8, 4.0))
            for one, color, label, factor in (
                (reference, _REFERENCE, shortened(found.onto), 1.7),
                (stations, _PLACE, shortened(place), 1.0),
            ):
                draw_cameras(
                    axes,
                    view.of(one.positions),
                    None if one.directions is None else view.of(one.directions),
                    side,
                    color=color,
                    label=label,
                    size=factor * size,
                )
            axes.set_title(title, fontsize=9, color=SOFT, loc="left")
        _mark_outliers(right, found, view.of(after.positions), view.of(reference.positions))
        handles, labels = right.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8)
        figure.supxlabel(
            f"{view.words}; before, each is in its own frame and unit", fontsize=8, color=SOFT
        )


def _mark_outliers(axes: Axes, found: FoundFrame, after: FloatArray, reference: FloatArray) -> None:
    """A ring around each outlier of the reference, and a line to where the Place has it."""
    outliers = {outlier.name for outlier in found.outliers}
    rows = np.array([row for row, name in enumerate(found.names) if name in outliers], dtype=int)
    if not len(rows):
        return
    lines = list(np.stack([after[rows], reference[rows]], axis=1))
    axes.add_collection(LineCollection(lines, colors=_OUTLIER, linewidths=0.9, zorder=6))
    x, y = reference[rows].T
    label = f"outliers ({len(rows)})"
    axes.scatter(x, y, s=60, facecolors="none", edgecolors=_OUTLIER, label=label, zorder=6)
    if len(rows) <= _MOST_NAMED:
        draw_names(axes, reference[rows], [found.names[row].rsplit("/", 1)[-1] for row in rows])
