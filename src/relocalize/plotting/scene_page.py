"""A Place as a scene in 3D: camera frusta and points, in one self-contained HTML page."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from relocalize.geometry.transforms import FloatArray
from relocalize.place import atomic
from relocalize.place.folder import METRE
from relocalize.plotting.walks import View, Walk

_INK, _SOFT, _GRID = "#1d2329", "#5d6670", "#e3e5e8"
_MOST_FRUSTA = 250  # per capture; a thousand would hide each other
_DEPTH = 0.03  # of a frustum, of the longest side of the scene
# Corners of a frustum in the order of one line that draws it: the image, then the centre with
# each pair of corners; 0 is the centre.
_STROKE = (1, 2, 3, 4, 1, 0, 2, 3, 0, 4)


def scene_page(
    title: str,
    walks: Sequence[Walk],
    points: FloatArray,
    colors: NDArray[np.uint8] | None,
    view: View,
    *,
    unit: str,
    names: bool,
) -> str:
    """The page: drag to turn, wheel to zoom, a capture's name to hide it.

    Args:
        title: of the page.
        walks: what to draw.
        points: [P, 3], may be none.
        colors: [P, 3] uint8, or None.
        view: which way is up on the screen.
        unit: of lengths.
        names: whether each camera's name is written, and not only shown under the pointer.
    """
    centres = np.concatenate([walk.centres for walk in walks])
    side = max(float(np.ptp(centres, axis=0).max()), 1e-9)
    traces = [_frusta(walk, _DEPTH * side) for walk in walks]
    traces += [_dots(walk, names=names) for walk in walks]
    if len(points):
        traces.insert(0, _cloud(points, colors))
    eye = view.axes.T @ np.array([0.0, -1.2, 1.5])
    axis = {"backgroundcolor": "white", "gridcolor": _GRID, "color": _SOFT, "zerolinecolor": _GRID}
    short = "m" if unit == METRE else f"{unit}s"
    layout = {
        "paper_bgcolor": "white",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": _INK},
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "legend": {"x": 0.01, "y": 0.99, "bgcolor": "rgba(255,255,255,0.8)"},
        "scene": {
            "aspectmode": "data",
            "dragmode": "turntable" if abs(view.axes[2][2]) > 0.999 else "orbit",
            "camera": {"eye": _xyz(eye), "up": _xyz(view.axes[2])},
            **{f"{key}axis": axis | {"title": {"text": f"{key} ({short})"}} for key in "xyz"},
        },
    }
    # A name with </script> in it must not end the script.
    data, shape = (json.dumps(value).replace("</", "<\\/") for value in (traces, layout))
    name = html.escape(title)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title>
<style>html, body, #scene {{ height: 100%; margin: 0; background: white; }}</style></head>
<body><div id="scene"></div><script>{get_plotlyjs()}</script>
<script>Plotly.newPlot("scene", {data}, {shape},
  {{responsive: true, displaylogo: false}});</script></body></html>
"""


def write_page(page: str, out: Path) -> None:
    """Write a page, whole or not at all."""
    atomic.write_text(out, page)


def _frusta(walk: Walk, depth: float) -> dict[str, Any]:
    corners = np.array([[0, 0, 0], [-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], dtype=float)
    x: list[float | None] = []
    y: list[float | None] = []
    z: list[float | None] = []
    every = -(-len(walk.names) // _MOST_FRUSTA)
    for pose, half in zip(walk.world_from_cam[::every], walk.aspect[::every], strict=True):
        in_world = pose @ (depth * corners * np.append(half, 1.0))
        stroke = np.round(in_world[list(_STROKE)], 6)
        for axis, values in zip((x, y, z), stroke.T.tolist(), strict=True):
            axis.extend([*values, None])
    return {
        "type": "scatter3d",
        "mode": "lines",
        "x": x,
        "y": y,
        "z": z,
        "line": {"color": walk.color, "width": 1.5},
        "name": f"{walk.name} ({len(walk.names)})"
        + (f", every {every}th as a frustum" if every > 1 else ""),
        "legendgroup": walk.name,
        "hoverinfo": "skip",
    }


def _dots(walk: Walk, *, names: bool) -> dict[str, Any]:
    x, y, z = np.round(walk.centres, 6).T.tolist()
    mode = ("lines+" if walk.in_order else "") + "markers" + ("+text" if names else "")
    return {
        "type": "scatter3d",
        "mode": mode,
        "x": x,
        "y": y,
        "z": z,
        "text": [html.escape(name) for name in walk.names],
        "textfont": {"size": 9, "color": _SOFT},
        "marker": {"size": 2.5, "color": walk.color},
        "line": {"color": walk.color, "width": 1},
        "hovertemplate": "%{text}<br>%{x:.3f} %{y:.3f} %{z:.3f}<extra></extra>",
        "legendgroup": walk.name,
        "showlegend": False,
    }


def _cloud(points: FloatArray, colors: NDArray[np.uint8] | None) -> dict[str, Any]:
    x, y, z = np.round(points, 4).T.tolist()
    rgb = "#9aa4ae" if colors is None else [f"rgb({r},{g},{b})" for r, g, b in colors.tolist()]
    return {
        "type": "scatter3d",
        "mode": "markers",
        "x": x,
        "y": y,
        "z": z,
        "marker": {"size": 1.5, "color": rgb, "opacity": 0.7},
        "name": "map points",
        "hoverinfo": "skip",
    }


def _xyz(vector: FloatArray) -> dict[str, float]:
    return dict(zip("xyz", vector.tolist(), strict=True))
