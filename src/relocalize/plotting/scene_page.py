"""A Place as a scene in 3D: camera frusta and points, in one self-contained HTML page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.from_above import View
from relocalize.geometry.transforms import FloatArray, local_origin
from relocalize.plotting.chart import SOFT_INK, plotly_layout
from relocalize.plotting.figure import short_unit
from relocalize.plotting.page import html_page
from relocalize.plotting.walks import Walk, frusta

_MOST_FRUSTA = 250  # per capture; a thousand would hide each other
_DEPTH = 0.03  # of a frustum, of the longest side of the scene
# Corners of a frustum in the order of one line that draws it: the image, then the centre with
# each pair of corners; 0 is the centre.
_STROKE = [1, 2, 3, 4, 1, 0, 2, 3, 0, 4]


def scene_page(
    title: str,
    walks: Sequence[Walk],
    points: FloatArray,
    colors: NDArray[np.uint8],
    view: View,
    *,
    unit: str,
    names: bool,
) -> str:
    """The page of walks, points [P, 3]: drag to turn, wheel to zoom, a capture's name to hide it.

    ``names`` are written beside each camera, and not only shown under the pointer.
    """
    centres = np.concatenate([walk.centres for walk in walks])
    origin = local_origin(centres)  # browsers draw in single precision
    walks = [walk.about(origin) for walk in walks]
    side = max(float(np.ptp(centres, axis=0).max()), 1e-9)
    traces = [_cloud(points - origin, colors)] if len(points) else []
    traces += [_frusta(walk, _DEPTH * side) for walk in walks]
    traces += [_dots(walk, origin, names=names) for walk in walks]
    eye = view.axes.T @ np.array([0.0, -1.2, 1.5])
    ink = {"gridcolor": "var(--line)", "color": SOFT_INK, "zerolinecolor": "var(--line)"}
    axis = ink | {"backgroundcolor": "var(--card)"}
    layout = plotly_layout() | {
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "showlegend": True,
        "legend": {"x": 0.01, "y": 0.99, "bgcolor": "rgba(0,0,0,0)"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": SOFT_INK, "activecolor": "var(--ink)"},
        "scene": {
            "aspectmode": "data",
            "dragmode": "turntable" if abs(view.axes[2][2]) > 0.999 else "orbit",
            "camera": {"eye": _xyz(eye), "up": _xyz(view.axes[2])},
            **{
                f"{name}axis": axis | {"title": {"text": _axis_title(name, start, unit)}}
                for name, start in zip("xyz", origin.tolist(), strict=True)
            },
        },
    }
    figure = {"data": traces, "layout": layout, "config": {"displayModeBar": True}}
    return html_page(
        "relocalize.plotting.page", "scene.html", title=title, figures={"scene": figure}
    )


def _frusta(walk: Walk, depth: float) -> dict[str, Any]:
    every = -(-len(walk.names) // _MOST_FRUSTA)
    strokes = frusta(walk.world_from_cam[::every], walk.aspect[::every], depth)[:, _STROKE]
    strokes = np.insert(strokes, len(_STROKE), np.nan, axis=1)  # a gap after each
    some = f", every {every}th as a frustum" if every > 1 else ""
    return _scatter(strokes.reshape(-1, 3)) | {
        "mode": "lines",
        "line": {"color": walk.color, "width": 1.5},
        "name": html.escape(f"{walk.name} ({len(walk.names)}){some}"),
        "legendgroup": walk.name,
        "hoverinfo": "skip",
    }


def _axis_title(name: str, start: float, unit: str) -> str:
    counted = f"{name} {'-' if start > 0 else '+'} {abs(start):.0f}" if start else name
    return f"{counted} ({short_unit(unit)})"


def _dots(walk: Walk, origin: FloatArray, *, names: bool) -> dict[str, Any]:
    in_world = (walk.centres + origin).round(6).tolist()
    return _scatter(walk.centres) | {
        "mode": ("lines+" if walk.in_order else "") + "markers" + ("+text" if names else ""),
        "text": [html.escape(name) for name in walk.names],
        "textfont": {"size": 9, "color": SOFT_INK},
        "marker": {"size": 2.5, "color": walk.color},
        "line": {"color": walk.color, "width": 1},
        "customdata": in_world,
        "hovertemplate": "%{text}<br>"
        "%{customdata[0]:.3f} %{customdata[1]:.3f} %{customdata[2]:.3f}<extra></extra>",
        "legendgroup": walk.name,
        "showlegend": False,
    }


def _cloud(points: FloatArray, colors: NDArray[np.uint8]) -> dict[str, Any]:
    rgb = [f"rgb({r},{g},{b})" for r, g, b in colors.tolist()]
    return _scatter(points) | {
        "mode": "markers",
        "marker": {"size": 1.5, "color": rgb, "opacity": 0.7},
        "name": "map points",
        "hoverinfo": "skip",
    }


def _scatter(positions: FloatArray) -> dict[str, Any]:
    """A trace at positions [N, 3]; a row of NaN is a gap."""
    rows = [[None if np.isnan(v) else round(v, 6) for v in axis] for axis in positions.T.tolist()]
    return {"type": "scatter3d"} | dict(zip("xyz", rows, strict=True))


def _xyz(vector: FloatArray) -> dict[str, float]:
    return dict(zip("xyz", vector.tolist(), strict=True))
