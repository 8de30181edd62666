"""The report's figures: the place from above, and how errors are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.evaluation.report_page import BASELINE_COLORS, color_of
from relocalize.evaluation.table import degrees, length
from relocalize.geometry.transforms import FloatArray

_MOST_POINTS = 9000  # drawn of the map: enough to see walls, few enough to stay fluent
_ARROW_FACTORS = (1, 10, 30, 100)
_FONT = {
    "family": "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, sans-serif",
    "size": 13,
    "color": "var(--soft)",
}
Figure = dict[str, Any]


@dataclass(frozen=True, eq=False)
class FromAbove:
    """A place and its cameras, all in the truth's frame.

    Attributes:
        up: [3] unit vector against gravity, as well as it is known.
        points: [P, 3] positions of map points.
        colors: [P, 3] their RGB, uint8.
        train: [M, 3] camera centres.
    """

    up: FloatArray
    points: FloatArray
    colors: NDArray[np.uint8]
    train: FloatArray


def map_figure(scene: FromAbove, results: dict[str, Any]) -> Figure:
    """The top-down map with test positions, estimates and arrows from the one to the other."""
    rows, metric = results["per_image"], results["unit"] == "metre"
    plane = _plane(scene.up, scene.train)
    true = np.array([row["position"] for row in rows]) @ plane.T
    train = scene.train @ plane.T
    points, colors = _thinned(scene.points @ plane.T, scene.colors, np.concatenate([train, true]))
    traces: list[Figure] = [
        _dots(points, "map points", size=2.2, color=[f"rgb({r},{g},{b})" for r, g, b in colors])
        | {"opacity": 0.5, "hoverinfo": "skip"},
        _dots(train, "train views", size=4, color="#8b939c") | {"opacity": 0.6},
    ]
    traces[1]["hoverinfo"] = "skip"
    localizers = list(results["localizers"])
    lead = [name for name in localizers if name not in BASELINE_COLORS][:1] or localizers[:1]
    factor = _arrow_factor(rows, lead[0], results["extent"])
    arrows: dict[int, dict[int, tuple[list[float | None], list[float | None]]]] = {}
    for name in localizers:
        shown: bool | str = True if name in lead else "legendonly"
        estimates = [row["localizers"][name]["position"] for row in rows]
        ends = [None if one is None else np.asarray(one) @ plane.T for one in estimates]
        arrows[len(traces)] = {one: _arrow_lines(true, ends, one) for one in _ARROW_FACTORS}
        x, y = arrows[len(traces)][factor]
        traces.append(
            {
                "type": "scattergl",
                "mode": "lines",
                "x": x,
                "y": y,
                "line": {"color": color_of(name, localizers), "width": 1.6},
                "name": name,
                "visible": shown,
                "hoverinfo": "skip",
            }
        )
    traces.append(
        _dots(true, "test views", size=5, color="var(--true)")
        | {
            "text": [_hover(row, lead[0], metric=metric) for row in rows],
            "hovertemplate": "%{text}<extra></extra>",
        }
    )
    layout = _layout(height=560) | {
        "xaxis": _map_axis(metric=metric),
        "yaxis": _map_axis(metric=metric) | {"scaleanchor": "x"},
        "dragmode": "pan",
        "legend": {
            "orientation": "h",
            "itemsizing": "constant",
            "y": 1.0,
            "x": 0,
            "yanchor": "bottom",
        },
        "updatemenus": [_factor_buttons(arrows, factor)],
        "annotations": [_scale_note(results)],
    }
    return {"data": traces, "layout": layout}


def cdf_figure(results: dict[str, Any], key: str, axis: str, *, factor: float = 1.0) -> Figure:
    """The share of all test images with an error up to x, per localizer, on a log axis.

    Args:
        results: a stored results file.
        key: ``position_error`` or ``rotation_error_deg``.
        axis: the x axis's title.
        factor: from the stored unit to the axis's.
    """
    localizers, rows = list(results["localizers"]), results["per_image"]
    traces, curves = [], []
    all_errors = [
        factor * row["localizers"][name][key]
        for name in localizers
        for row in rows
        if row["localizers"][name][key] is not None
    ]
    low, high = _log_range(all_errors)
    for name in localizers:
        values = [row["localizers"][name][key] for row in rows]
        errors = np.sort([max(factor * value, low) for value in values if value is not None])
        share = 100 * np.arange(1, len(errors) + 1) / len(rows)
        color = color_of(name, localizers)
        last = float(share[-1]) if len(share) else 0.0
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [low, *errors.tolist(), high],
                "y": [0.0, *share.tolist(), last],
                "line": {"color": color, "width": 2.2, "shape": "hv"},
                "name": name,
                "hovertemplate": f"{name}: %{{y:.1f}} % within %{{x:.3g}}<extra></extra>",
                "showlegend": False,
            }
        )
        if len(errors):
            curves.append((name, color, errors))
    layout = _layout(height=330) | {
        "xaxis": _axis(axis) | {"type": "log", "range": [np.log10(low), np.log10(high)]},
        "yaxis": _axis("% of test images") | {"range": [0, 101]},
        "annotations": _direct_labels(curves, np.log10(low), np.log10(high)),
    }
    return {"data": traces, "layout": layout}


# -- parts ------------------------------------------------------------------------------------


def _plane(up: FloatArray, train: FloatArray) -> FloatArray:
    """Two horizontal axes [2, 3], the first along the walk's longer side."""
    up = up / np.linalg.norm(up)
    flat = (train - train.mean(axis=0)) @ (np.eye(3) - np.outer(up, up))
    first = np.linalg.svd(flat, full_matrices=False)[2][0]
    first = first - up * (first @ up)
    if np.linalg.norm(first) < 1e-9:  # the cameras do not move sideways
        first = np.cross(up, np.eye(3)[int(np.argmin(np.abs(up)))])
    first = first / np.linalg.norm(first)
    return np.stack([first, np.cross(up, first)])


def _thinned(
    points: FloatArray, colors: NDArray[np.uint8], cameras: FloatArray
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Points without the far strays that would shrink the map, at most `_MOST_POINTS`."""
    if not len(points):
        return points, colors
    low, high = np.percentile(points, [2, 98], axis=0)
    low, high = np.minimum(low, cameras.min(axis=0)), np.maximum(high, cameras.max(axis=0))
    margin = 0.05 * (high - low)
    inside = np.flatnonzero(((points >= low - margin) & (points <= high + margin)).all(axis=1))
    if len(inside) > _MOST_POINTS:
        inside = np.random.default_rng(0).choice(inside, _MOST_POINTS, replace=False)
    return points[inside], colors[inside]


def _dots(xy: FloatArray, name: str, *, size: float, color: Any) -> Figure:
    return {
        "type": "scattergl",
        "mode": "markers",
        "x": np.round(xy[:, 0], 4).tolist(),
        "y": np.round(xy[:, 1], 4).tolist(),
        "marker": {"size": size, "color": color},
        "name": name,
    }


def _arrow_factor(rows: Sequence[dict[str, Any]], localizer: str, extent: float) -> int:
    """The factor at which the median arrow is nearest to 4% of the place's extent."""
    errors = [row["localizers"][localizer]["position_error"] for row in rows]
    known = [error for error in errors if error]
    if not known:
        return 1
    typical = float(np.median(known))
    return min(_ARROW_FACTORS, key=lambda one: abs(np.log(one * typical / (0.04 * extent + 1e-12))))


def _arrow_lines(
    true: FloatArray, ends: Sequence[FloatArray | None], factor: int
) -> tuple[list[float | None], list[float | None]]:
    """Line pieces from true positions to estimates, errors stretched; None breaks the line."""
    x: list[float | None] = []
    y: list[float | None] = []
    for start, end in zip(true, ends, strict=True):
        if end is None:
            continue
        tip = start + factor * (end - start)
        x += [round(float(start[0]), 5), round(float(tip[0]), 5), None]
        y += [round(float(start[1]), 5), round(float(tip[1]), 5), None]
    return x, y


def _factor_buttons(
    arrows: dict[int, dict[int, tuple[list[float | None], list[float | None]]]], chosen: int
) -> Figure:
    traces = list(arrows)
    return {
        "type": "buttons",
        "direction": "right",
        "x": 1,
        "xanchor": "right",
        "y": 0,
        "yanchor": "bottom",
        "showactive": False,
        "active": _ARROW_FACTORS.index(chosen),
        "bgcolor": "var(--card)",
        "bordercolor": "var(--line)",
        "font": _FONT,
        "pad": {"b": 6},
        "buttons": [
            {
                "label": f"× {one}" if one > 1 else "true size",
                "method": "update",
                "args": [
                    {
                        "x": [arrows[trace][one][0] for trace in traces],
                        "y": [arrows[trace][one][1] for trace in traces],
                    },
                    {"annotations[0].text": _factor_text(one)},
                    traces,
                ],
            }
            for one in _ARROW_FACTORS
        ],
    }


def _factor_text(factor: int) -> str:
    return "errors drawn at true size" if factor == 1 else f"errors drawn {factor} times as long"


def _scale_note(results: dict[str, Any]) -> Figure:
    rows, localizers = results["per_image"], list(results["localizers"])
    lead = [name for name in localizers if name not in BASELINE_COLORS][:1] or localizers[:1]
    factor = _arrow_factor(rows, lead[0], results["extent"])
    return {
        "text": _factor_text(factor),
        "showarrow": False,
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": 0,
        "xanchor": "left",
        "yanchor": "bottom",
        "font": _FONT,
        "bgcolor": "var(--card)",
    }


def _hover(row: dict[str, Any], localizer: str, *, metric: bool) -> str:
    found = row["localizers"][localizer]
    unit = "cm" if metric else "units"
    near = length(row["nearest_train_distance"], metric=metric)
    if found["position_error"] is None:
        said = f"{localizer}: failed"
    else:
        said = (
            f"{localizer}: {length(found['position_error'], metric=metric)} {unit}, "
            f"{degrees(found['rotation_error_deg'])}°"
        )
    name = row["image"].replace("<", "&lt;")
    return f"{name}<br>{said}<br>nearest train view {near} {unit} away"


def _log_range(errors: Sequence[float]) -> tuple[float, float]:
    positive = [error for error in errors if error > 0]
    if not positive:
        return 0.01, 1.0
    low, high = float(np.percentile(positive, 0.5)), max(positive)
    return low / 1.5, max(high * 1.5, low * 10)


def _direct_labels(
    curves: Sequence[tuple[str, str, FloatArray]], low: float, high: float
) -> list[Figure]:
    """Each curve's name beside it, so that nobody looks colours up in a legend.

    Curves run side by side, so names at different heights keep out of each other's way.
    """
    notes = []
    ordered = sorted(curves, key=lambda curve: float(np.median(curve[2])))
    for rank, (name, color, errors) in enumerate(ordered):
        share = 0.72 - 0.44 * rank / max(1, len(ordered) - 1)
        at = float(np.log10(np.quantile(errors, share)))
        right = at < low + 0.75 * (high - low)
        notes.append(
            {
                "text": f"<b>{name}</b>",
                "x": at,
                "y": 100 * share,
                "xanchor": "left" if right else "right",
                "xshift": 6 if right else -6,
                "yanchor": "middle",
                "showarrow": False,
                "font": _FONT | {"color": color},
                "bgcolor": "var(--card)",
            }
        )
    return notes


def _layout(*, height: int) -> Figure:
    return {
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 44 if height > 400 else 14, "b": 46},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": _FONT,
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": "var(--soft)",
            "activecolor": "var(--ink)",
            "orientation": "v",
        },
        "uirevision": "kept",  # what the reader switched or zoomed outlives a change of theme
        "hoverlabel": {
            "bgcolor": "var(--card)",
            "bordercolor": "var(--line)",
            "font": _FONT | {"color": "var(--ink)"},
        },
    }


def _axis(title: str) -> Figure:
    return {
        "title": {"text": title, "font": _FONT},
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line)",
        "zeroline": False,
    }


def _map_axis(*, metric: bool) -> Figure:
    return {
        "gridcolor": "var(--grid)",
        "zeroline": False,
        "ticksuffix": " m" if metric else "",
        "automargin": True,
    }
