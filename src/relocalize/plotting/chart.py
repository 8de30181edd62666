"""A chart as a value: drawn by plotly on a page, by Matplotlib (`paper_chart`) for papers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.transforms import FloatArray

Figure = dict[str, Any]
SOFT_INK = "var(--soft)"  # of the page, which knows whether it is dark
FONT = {
    "family": "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, sans-serif",
    "size": 12.5,
    "color": SOFT_INK,
}
# Mid tones that stand out on white and on near-black alike, told apart with the common colour
# blindnesses.
COLORS = ("#c2558f", "#2c9c78", "#c9603a", "#8464c9", "#4a9fb5")
_DASHES = ("solid", "dashdot", "longdash")  # once all colours are taken, twice and so on
_STROKES = {"solid": "none", "dash": "5 3", "dot": "2 2", "dashdot": "7 2 2 2", "longdash": "9 2"}
# What a round number of a logarithmic axis begins with, most first.
_ROUND = (np.arange(10, 100) / 10, np.arange(2, 20) / 2, range(1, 10), (1, 2, 5), (1,))
_MOST_TICKS = 9
_DIGITS = 4  # significant ones: a page of a thousand images stays small


@dataclass(frozen=True)
class Line:
    """How something is drawn wherever it is."""

    color: str  # hexadecimal, or `SOFT_INK`
    # as plotly calls it: ``solid``, ``dash``, ``dot``, ``dashdot`` or ``longdash``
    dash: str = "solid"

    @property
    def strokes(self) -> str:
        """The dash as SVG has it, for a key 20 units long."""
        return _STROKES[self.dash]


def lines_of(names: Sequence[str], colors: Sequence[str] = COLORS) -> dict[str, Line]:
    """A line for each name, all different for up to three times as many as there are colours."""
    lines = {}
    for number, name in enumerate(names):
        turn, color = divmod(number, len(colors))
        lines[name] = Line(colors[color], _DASHES[turn % len(_DASHES)])
    return lines


@dataclass(frozen=True)
class Axis:
    """An axis of a chart."""

    label: str  # with the unit
    # lowest and highest value; None: as the data are. A logarithmic axis has them
    limits: tuple[float, float] | None = None
    is_log: bool = False  # whether it is logarithmic

    @property
    def ticks(self) -> list[float]:
        """Of a logarithmic axis: as many round numbers as there is room for."""
        low, high = self.limits or (1.0, 10.0)
        tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks: list[float] = []
        for digits in _ROUND:
            all_of_them = (float(f"{digit}e{ten}") for ten in tens for digit in digits)
            ticks = [one for one in all_of_them if low <= one <= high]
            if len(ticks) <= _MOST_TICKS:
                break
        return ticks


@dataclass(frozen=True, eq=False)
class Series:
    """A line or a cloud of a chart."""

    name: str | None  # whose it is, which a legend switches; None: everybody's
    x: FloatArray  # [N]
    y: FloatArray  # [N], NaN where there is none
    line: Line  # its colour and dash
    width: float = 2.2  # of the line, CSS pixels; 0: dots alone
    steps: str = ""  # whether the line goes in steps: ``hv`` or ``hvh`` of plotly, or empty
    marker: str = ""  # of each point: ``circle``, ``ring``, ``x``, or empty
    size: float = 6  # of a marker, CSS pixels
    opacity: float = 1  # 0 to 1
    hover: str = ""  # what the pointer is told on a page, as plotly's ``hovertemplate``
    # [N] rows of the images that points stand for, for the page's card; None of others
    images: NDArray[np.int64] | None = None
    is_right: bool = False  # whether it belongs to the axis on the right


@dataclass(frozen=True, eq=False)
class Chart:
    """Series over two axes."""

    x: Axis  # the axis across
    y: Axis  # the axis up
    series: tuple[Series, ...]  # what is drawn, the last on top
    right: Axis | None = None  # a second axis up
    # from and to where along x nothing means much, drawn grey
    shade: tuple[float, float] | None = None
    rule: float | None = None  # a value of x to mark
    # title of one box that tells all series at an x, as plotly's ``hovertemplate``; empty: the
    # pointer is told of the nearest point
    all_at: str = ""


def diagonal(low: float, high: float, points: int = 2) -> Series:
    """The line on which y is x, dotted."""
    same = np.geomspace(low, high, points) if low > 0 else np.linspace(low, high, points)
    return Series(None, same, same, Line(SOFT_INK, "dot"), width=1)


def plotly_figure(chart: Chart, *, height: int) -> Figure:
    """The chart as plotly draws it, so many CSS pixels high."""
    layout = plotly_layout() | {
        "height": height,
        "xaxis": _plotly_axis(chart.x),
        "yaxis": _plotly_axis(chart.y),
        "hovermode": "x unified" if chart.all_at else "closest",
        "shapes": _shapes(chart),
    }
    if chart.all_at:
        layout["xaxis"] |= {"hoverformat": ".3g", "unifiedhovertitle": {"text": chart.all_at}}
    if chart.right is not None:
        over = {"overlaying": "y", "side": "right", "showgrid": False}
        ticks = {"tickmode": "auto", "nticks": 4, "exponentformat": "e"}
        layout["yaxis2"] = _plotly_axis(chart.right) | over | ticks
    return {"data": [_trace(one) for one in chart.series], "layout": layout}


def plotly_layout() -> Figure:
    """What all figures share."""
    return {
        "margin": {"l": 52, "r": 14, "t": 10, "b": 42},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": FONT,
        "showlegend": False,
        "uirevision": "kept",  # what the reader switched or zoomed outlives a change of theme
        "hoverlabel": {
            "bgcolor": "var(--card)",
            "bordercolor": "var(--line)",
            "font": FONT | {"color": "var(--ink)"},
            "align": "left",
        },
    }


def rounded(values: FloatArray) -> list[float | None]:
    """Of `_DIGITS` significant digits; None where there is no number."""
    return [float(f"{one:.{_DIGITS}g}") if math.isfinite(one) else None for one in values.tolist()]


def _trace(one: Series) -> Figure:
    color = one.line.color
    marker: Figure = {"size": one.size, "color": color, "line": {"width": 0}}
    if one.marker == "ring":
        marker |= {"color": "var(--card)", "line": {"width": 2.4, "color": color}}
    elif one.marker:
        marker["symbol"] = one.marker
    trace: Figure = {
        "type": "scatter",
        "mode": "+".join(["lines"] * bool(one.width) + ["markers"] * bool(one.marker)),
        "x": rounded(one.x),
        "y": rounded(one.y),
        "yaxis": "y2" if one.is_right else "y",
        "line": {"color": color, "dash": one.line.dash, "width": one.width},
        "marker": marker,
        "opacity": one.opacity,
        "cliponaxis": False,
    }
    if one.name is not None:
        trace |= {"name": one.name, "meta": one.name}
    if one.steps:
        trace["line"]["shape"] = one.steps
    if one.images is not None:
        return trace | {"customdata": one.images.tolist(), "hoverinfo": "none"}
    if one.hover:
        return trace | {"hovertemplate": f"{one.hover}<extra></extra>"}
    return trace | {"hoverinfo": "skip"}


def _plotly_axis(axis: Axis) -> Figure:
    shown: Figure = {
        "title": {"text": axis.label, "font": FONT, "standoff": 8},
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line)",
        "zeroline": False,
        # Ticks of a logarithmic axis are given, so that it would zoom in to none.
        "fixedrange": axis.is_log or axis.limits is not None,
        "automargin": True,
    }
    if axis.is_log:
        shown |= {"type": "log", "tickvals": axis.ticks, "ticktext": [f"{t:g}" for t in axis.ticks]}
    if axis.limits is not None:
        shown["range"] = [math.log10(end) if axis.is_log else end for end in axis.limits]
    return shown


def _shapes(chart: Chart) -> list[Figure]:
    across = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1}
    shapes = []
    if chart.shade is not None:
        ends = {"x0": chart.shade[0], "x1": chart.shade[1]}
        look = {"fillcolor": "var(--shade)", "line": {"width": 0}, "layer": "below"}
        shapes.append(across | ends | look | {"type": "rect"})
    if chart.rule is not None:
        dotted = {"color": SOFT_INK, "width": 1, "dash": "dot"}
        ends = {"x0": chart.rule, "x1": chart.rule}
        shapes.append(across | ends | {"type": "line", "line": dotted, "layer": "between"})
    return shapes
