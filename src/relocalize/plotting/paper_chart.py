"""Charts for papers, by Matplotlib."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from relocalize.plotting.chart import SOFT_INK, Axis, Chart, Line
from relocalize.plotting.figure import SOFT

# By plotly's name.
_DASHES: dict[str, Literal["-", "--", ":", "-."] | tuple[int, tuple[int, int]]] = {
    "solid": "-",
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
    "longdash": (0, (10, 3)),
}
_STEPS: dict[str, Literal["steps-post", "steps-mid", "default"]] = {
    "hv": "steps-post",
    "hvh": "steps-mid",
    "": "default",
}
_MARKERS = {"circle": "o", "ring": "o", "x": "x", "": ""}
_POINTS = 0.68  # of a CSS pixel on the page, which is wider than two columns of a paper
_DOTS = 100  # so many are pixels in a vector graphic, which stays small


def draw_chart(axes: Axes, chart: Chart, names: Collection[str] | None = None) -> None:
    """Draw a chart; of its series those of some names alone."""
    right = None
    if chart.right is not None:
        right = axes.twinx()
        right.grid(visible=False)
        right.spines["right"].set_visible(True)
        right.set_ylim(chart.right.limits)
        right.yaxis.set_major_locator(MaxNLocator(3))
        right.yaxis.set_major_formatter(FuncFormatter(_short))
        # What is learnt lies above how fast it is.
        axes.set_zorder(right.get_zorder() + 1)
        axes.patch.set_visible(False)
    if chart.shade is not None:
        axes.axvspan(*chart.shade, color="#000000", alpha=0.06, linewidth=0)
    if chart.rule is not None:
        axes.axvline(chart.rule, color=SOFT, linewidth=0.8, linestyle=":")
    for series in chart.series:
        if series.name is not None and names is not None and series.name not in names:
            continue
        color = _ink(series.line)
        (right if series.is_right and right is not None else axes).plot(
            series.x,
            series.y,
            color=color,
            linestyle=_DASHES[series.line.dash] if series.width else "none",
            linewidth=_POINTS * series.width,
            drawstyle=_STEPS[series.steps],
            marker=_MARKERS[series.marker],
            markersize=_POINTS * series.size,
            markerfacecolor="white" if series.marker == "ring" else color,
            markeredgewidth=1.0 if series.marker in {"ring", "x"} else 0.0,
            alpha=series.opacity,
            rasterized=series.width == 0 and len(series.x) > _DOTS,
            clip_on=series.marker != "x",
        )
    _set_up(axes, "x", chart.x)
    _set_up(axes, "y", chart.y)


def draw_legend(figure: Figure, lines: Mapping[str, Line]) -> None:
    """The names above the figure, in as many columns as it has room for."""
    handles = [
        Line2D([], [], color=_ink(one), linestyle=_DASHES[one.dash], linewidth=1.5, label=name)
        for name, one in lines.items()
    ]
    for columns in range(6, 0, -1):
        legend = figure.legend(handles=handles, loc="outside upper left", ncols=columns, fontsize=8)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _ink(line: Line) -> str:
    return SOFT if line.color == SOFT_INK else line.color


def _set_up(axes: Axes, which: Literal["x", "y"], axis: Axis) -> None:
    shown = axes.xaxis if which == "x" else axes.yaxis
    shown.set_label_text(axis.label)
    if axis.is_log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        shown.set_ticks(axis.ticks)
        shown.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        shown.set_minor_formatter(NullFormatter())
    if axis.limits is not None:
        (axes.set_xlim if which == "x" else axes.set_ylim)(axis.limits)


def _short(value: float, _: int | None = None) -> str:
    """A small number in few letters: ``5e-4``, ``0.01``."""
    return f"{value:.2g}".replace("e-0", "e-")
