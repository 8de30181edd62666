"""A figure of cameras from above, drawn by Matplotlib: PNG, SVG or PDF."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray

from relocalize.errors import PlaceError
from relocalize.geometry.transforms import FloatArray
from relocalize.place import atomic
from relocalize.place.folder import METRE
from relocalize.plotting.walks import gaps, nice_length, spaced

INK, SOFT = "#1d2329", "#5d6670"
_TICK = 0.035  # length of a viewing direction, of the longer side of what is drawn
# A direction is drawn where the camera has moved by so much of the longer side since the last
# one, or turned by so much of a unit vector: one for each of a thousand frames would be a band.
_TICK_STEP, _TICK_TURN = 0.012, 0.15
_SUFFIXES = (".png", ".svg", ".pdf")
_DOTS_PER_INCH = 200
_LONGEST = 44  # characters of a name in a figure
# Where a name may stand, in points from what it names, and which end of it is there.
_NEXT_TO: dict[tuple[int, int], Literal["left", "center", "right"]] = {
    (5, 0): "left",
    (-5, 0): "right",
    (0, 8): "center",
    (0, -8): "center",
}
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "svg.fonttype": "none",  # text stays text, which papers and editors can change
    "svg.hashsalt": "relocalize",  # the same figure is the same file
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e8eaed",
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "text.color": INK,
    "legend.frameon": False,
}


def check_suffix(path: Path, *more: str) -> None:
    """Raise `PlaceError` where a figure cannot be written under that name."""
    known = [*_SUFFIXES, *more]
    if path.suffix.lower() not in known:
        raise PlaceError(f"{path}: a figure can be {', '.join(known)}, not {path.suffix!r}")


@contextmanager
def figure_in(width: float, height: float, *paths: Path) -> Iterator[Figure]:
    """An empty figure of inches, on white; the files have it when the block ends.

    Raises:
        PlaceError: it cannot be such a file.
    """
    for path in paths:
        check_suffix(path)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        yield figure
        for path in paths:
            kind = path.suffix.lower()[1:]
            # Without the date, the same figure is the same file.
            metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
            file = io.BytesIO()
            figure.savefig(file, format=kind, dpi=_DOTS_PER_INCH, metadata=metadata)
            atomic.write_bytes(path, file.getvalue())


def short_unit(unit: str) -> str:
    """A unit of lengths for axes."""
    return "m" if unit == METRE else f"{unit}s"


def shortened(name: str) -> str:
    """A name that leaves room beside it: its beginning and its end where it is long."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 2 :]}"


def draw_ground(
    axes: Axes, seen: FloatArray, labels: tuple[str, str], unit: str, *, narrowest: float = 0.24
) -> float:
    """Equal axes with unit and scale bar around what is seen [N, 2]; the longer side of that.

    The shorter side of the axes is ``narrowest`` of the longer one: a straight walk gets some room.
    """
    low, high = seen.min(axis=0), seen.max(axis=0)
    side = float(max((high - low).max(), 1e-9))
    margin = 0.09 * side
    axes.set_aspect("equal", adjustable="box")
    middle, half = (low + high) / 2, np.maximum(high - low, narrowest * side) / 2 + margin
    axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])
    axes.set_xlabel(f"{labels[0]} ({short_unit(unit)})")
    axes.set_ylabel(f"{labels[1]} ({short_unit(unit)})")
    _draw_scale_bar(axes, 2 * half, unit)
    return side


def _draw_scale_bar(axes: Axes, extent: FloatArray, unit: str) -> None:
    """Above the right end of the axes, where nothing else is."""
    length = nice_length(0.25 * float(extent[0]))
    bar = AnchoredSizeBar(
        axes.transData,
        length,
        f"{length:g} {unit if length == 1 and unit != METRE else short_unit(unit)}",
        "lower right",
        pad=0.1,
        borderpad=0.2,
        frameon=False,
        size_vertical=0.004 * float(extent.max()),
        color=INK,
        label_top=True,
        fontproperties=FontProperties(size=8),
        bbox_to_anchor=(1, 1),
        bbox_transform=axes.transAxes,
    )
    axes.add_artist(bar)
    axes.set_title(" ", loc="right", fontsize=14)  # the layout leaves no room for the bar itself


def draw_cameras(
    axes: Axes,
    positions: FloatArray,
    directions: FloatArray | None,
    side: float,
    *,
    color: str,
    label: str | None = None,
    in_order: bool = False,
    size: float | None = None,
) -> None:
    """Cameras [N, 2] as dots with a tick in the direction [N, 2] that each looks, and their path.

    Directions are shorter than 1 where a camera looks up or down; ``side`` is the longer side of
    all that is drawn, ``size`` a dot's in points.
    """
    size = size or float(np.clip(80 / np.sqrt(max(len(positions), 1)), 2.0, 5.0))
    if in_order:
        for path in np.split(positions, np.flatnonzero(gaps(positions)) + 1):
            axes.plot(*path.T, color=color, linewidth=0.8, alpha=0.45, zorder=3)
    if directions is not None:
        rows = spaced(positions, directions, step=_TICK_STEP * side, turn=_TICK_TURN)
        ends = positions[rows] + _TICK * side * directions[rows]
        lines = np.stack([positions[rows], ends], axis=1)
        axes.add_collection(LineCollection(list(lines), colors=color, linewidths=0.8, zorder=4))
    x, y = positions.T
    axes.scatter(x, y, s=size**2, color=color, linewidths=0, label=label, zorder=5)


def draw_points(axes: Axes, points: FloatArray, colors: NDArray[np.uint8]) -> None:
    """Map points [N, 2] in the background, in their colours [N, 3]."""
    x, y = points.T
    axes.scatter(x, y, s=1.2, c=colors / 255.0, alpha=0.5, linewidths=0, zorder=1, rasterized=True)


def draw_names(axes: Axes, positions: FloatArray, names: Sequence[str]) -> int:
    """Write names beside positions [N, 2] where there is room; returns how many there are."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    room = axes.get_window_extent().get_points()
    taken: list[FloatArray] = []
    for name, (x, y) in zip(names, positions.tolist(), strict=True):
        for (right, up), side in _NEXT_TO.items():
            text = axes.annotate(
                name,
                (x, y),
                (right, up),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=6,
                color=SOFT,
                zorder=7,
                bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.6},
            )
            box = text.get_window_extent().get_points()
            free = not any((box[0] < one[1]).all() and (one[0] < box[1]).all() for one in taken)
            if free and (box[0] >= room[0]).all() and (box[1] <= room[1]).all():
                taken.append(box)
                break
            text.remove()
    return len(taken)
