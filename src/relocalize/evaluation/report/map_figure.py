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
    train = _dots(scene.train, "train views", size=4, color="var(--quiet)")
    test = _dots(scene.true, "test views", size=4.6, color="var(--true)")
    test |= {"customdata": list(range(len(scene.true))), "hoverinfo": "none"}
    arrows, crosses = [], []
    for name, line in results.lines.items():
        estimated = scene.of_world(results.positions(name))
        known = np.isfinite(estimated).all(axis=1)
        ends = np.full((known.sum(), 3, 2), np.nan)
        ends[:, 0], ends[:, 1] = scene.true[known], estimated[known]
        arrow = _dots(ends, "arrows", size=[0, _ARROW_PX, 0] * len(ends), color=line.color)
        arrow["marker"] |= {"symbol": "arrow", "angleref": "previous", "line": {"width": 0}}
        look = {"mode": "lines+markers", "opacity": 0.85, "meta": name}
        arrows.append(arrow | look | {"line": {"color": line.color, "width": 1.3}})
        cross = _dots(scene.true[~known], "failed", size=9, color=line.color)
        cross["marker"] |= {"symbol": "x-open", "line": {"width": 1.8, "color": line.color}}
        crosses.append(cross | {"meta": name})
    axis = {
        "gridcolor": "var(--grid)",
        "zeroline": False,
        "ticksuffix": " m" if results.is_metric else "",
        "tickfont": FONT | {"size": 11.5},
        "exponentformat": "none",  # 5734212, and not 5.734212M
        "automargin": True,
    }
    (left, right), (bottom, top) = np.stack([scene.low, scene.high], axis=1).tolist()
    layout = plotly_layout() | {
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "xaxis": axis | {"range": [left, right]},
        "yaxis": axis | {"range": [bottom, top], "scaleanchor": "x"},
        "dragmode": "pan",
        "hovermode": "closest",
        "hoverdistance": 24,
        "images": _points(scene),
        # Of the page, not of plotly: how high the figure is as a share of its width, and how long
        # arrows are drawn at first.
        "meta": {"aspect": scene.aspect, "factor": arrow_factor(results, scene)},
    }
    config = {"scrollZoom": True, "doubleClick": False}
    return {"data": [train, *arrows, test, *crosses], "layout": layout, "config": config}


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
    source = scene.points_image()
    if source is None:
        return []
    (left, right), (bottom, top) = np.stack(scene.points_box, axis=1).tolist()
    look = {"sizing": "stretch", "layer": "below", "opacity": 0.55, "xref": "x", "yref": "y"}
    box = {"x": left, "y": top, "sizex": right - left, "sizey": top - bottom}
    return [look | box | {"source": source}]


def _dots(xy: FloatArray, name: str, *, size: float | list[int], color: str) -> Figure:
    """A trace at positions [..., 2] of the plane; NaN is a gap."""
    x, y = (
        [None if np.isnan(one) else round(one, _DIGITS) for one in column]
        for column in xy.reshape(-1, 2).T.tolist()
    )
    return {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "marker": {"size": size, "color": color},
        "name": name,
        "hoverinfo": "skip",
    }
