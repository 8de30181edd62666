"""The place from above: true positions, and an arrow from each to where a localizer puts it."""

from __future__ import annotations

import numpy as np

from relocalize.evaluation.report.scene import Scene
from relocalize.evaluation.report.stored import Results
from relocalize.geometry.transforms import FloatArray
from relocalize.plotting.chart import FONT, Figure, plotly_layout

ARROW_FACTORS = (1, 3, 10, 30, 100)
_TYPICAL_ARROW = 0.03  # of the view's width: seen, and not across its neighbours
_ARROW_PX = 7
_DIGITS = 4


def map_figure(scene: Scene, results: Results) -> Figure:
    """The figure, arrows at true size; the page stretches them.

    A localizer's traces have its name as ``meta``; the one of arrows has ``arrows`` as its name,
    with three values a piece: true position, estimate, nothing.
    """
    traces: list[Figure] = [
        _dots(scene.train, "train views", size=4, color="var(--quiet)") | {"hoverinfo": "skip"}
    ]
    crosses: list[Figure] = []
    for name, line in results.lines.items():
        shown = name == results.lead
        estimated = scene.of_world(results.positions(name))
        known = np.flatnonzero(np.isfinite(estimated).all(axis=1))
        ends = np.full((3 * len(known), 2), np.nan)
        ends[0::3], ends[1::3] = scene.true[known], estimated[known]
        x, y = (_values(column) for column in ends.T)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": x,
                "y": y,
                "line": {"color": line.color, "width": 1.3},
                "opacity": 0.85,
                "marker": {
                    "color": line.color,
                    "symbol": "arrow",
                    "angleref": "previous",
                    "size": [0, _ARROW_PX, 0] * len(known),
                    "line": {"width": 0},
                },
                "name": "arrows",
                "meta": name,
                "visible": shown,
                "hoverinfo": "skip",
            }
        )
        failed = scene.true[np.setdiff1d(np.arange(len(scene.true)), known)]
        cross = _dots(failed, "failed", size=9, color=line.color)
        cross["marker"] |= {"symbol": "x-open", "line": {"width": 1.8, "color": line.color}}
        crosses.append(cross | {"meta": name, "visible": shown, "hoverinfo": "skip"})
    traces.append(
        _dots(scene.true, "test views", size=4.6, color="var(--true)")
        | {"customdata": list(range(len(scene.true))), "hoverinfo": "none"}
    )
    traces += crosses
    metres = " m" if results.is_metric else ""
    low, high = scene.low, scene.high
    axis = {
        "gridcolor": "var(--grid)",
        "zeroline": False,
        "ticksuffix": metres,
        "tickfont": FONT | {"size": 11.5},
        "automargin": True,
    }
    layout = plotly_layout() | {
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "xaxis": axis | {"range": [float(low[0]), float(high[0])]},
        "yaxis": axis | {"range": [float(low[1]), float(high[1])], "scaleanchor": "x"},
        "dragmode": "pan",
        "hovermode": "closest",
        "hoverdistance": 24,
        "images": _points(scene),
        # Of the page, not of plotly: how high the figure is as a share of its width, and how long
        # arrows are drawn at first.
        "meta": {"aspect": scene.aspect, "factor": arrow_factor(results, scene)},
    }
    return {"data": traces, "layout": layout}


def arrow_factor(results: Results, scene: Scene) -> int:
    """The factor at which the lead's median arrow is nearest to what is seen well."""
    off = scene.of_world(results.positions(results.lead)) - scene.true
    known = np.linalg.norm(off[np.isfinite(off).all(axis=1)], axis=1)
    if not len(known) or not (known > 0).any():
        return 1
    typical = float(np.median(known[known > 0]))
    wanted = _TYPICAL_ARROW * float((scene.high - scene.low)[0])
    return min(ARROW_FACTORS, key=lambda one: abs(np.log(one * typical / wanted)))


def outside(results: Results, scene: Scene, name: str) -> int:
    """How many of a localizer's estimates lie outside the view."""
    estimated = scene.of_world(results.positions(name))
    known = estimated[np.isfinite(estimated).all(axis=1)]
    return int(((known < scene.low) | (known > scene.high)).any(axis=1).sum())


def _points(scene: Scene) -> list[Figure]:
    image = scene.points_image()
    if image is None:
        return []
    low, high = scene.points_box
    width, height = (high - low).tolist()
    return [
        {
            "source": image,
            "xref": "x",
            "yref": "y",
            "x": float(low[0]),
            "y": float(high[1]),
            "sizex": width,
            "sizey": height,
            "sizing": "stretch",
            "layer": "below",
            "opacity": 0.55,
        }
    ]


def _dots(xy: FloatArray, name: str, *, size: float, color: str) -> Figure:
    x, y = (_values(column) for column in xy.reshape(-1, 2).T)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "marker": {"size": size, "color": color},
        "name": name,
    }


def _values(column: FloatArray) -> list[float | None]:
    return [None if np.isnan(one) else round(float(one), _DIGITS) for one in column]
