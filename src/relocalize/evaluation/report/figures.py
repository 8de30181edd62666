"""The report's figures, as what plotly draws; colours that follow the theme are ``var(--name)``."""

from __future__ import annotations

from typing import Any

import numpy as np

from relocalize.evaluation.metrics import LEAD_THRESHOLD
from relocalize.evaluation.report.curves import (
    POSITION,
    LeakageCurve,
    coverage_of,
    distribution,
    error_range,
    leakage_curve,
    learning_curves,
    log_ticks,
)
from relocalize.evaluation.report.stored import Results
from relocalize.geometry.transforms import FloatArray

FONT = {
    "family": "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, sans-serif",
    "size": 12.5,
    "color": "var(--soft)",
}
# Where nothing else says how far a failure is off: above all errors.
_FAILED_AT = 0.965
Figure = dict[str, Any]


def error_figure(results: Results, key: str) -> Figure:
    """The share of all test images with an error up to x, per localizer, on a log axis."""
    low, high = error_range(results, key)
    unit = results.axis_unit if key == POSITION else "°"
    traces = []
    for name, line in results.lines.items():
        found = distribution(results, name, key)
        errors = np.maximum(found.errors, low)
        traces.append(
            _line(name)
            | {
                # From the first error, at no height yet, to the end of the axis.
                "x": _rounded([*errors[:1], *errors, *([high] if len(errors) else [])]),
                "y": _rounded([*[0.0][: len(errors)], *found.percent, *found.percent[-1:]]),
                "line": {"color": line.color, "width": 2.2, "shape": "hv", "dash": line.dash},
                "hovertemplate": f"<b>%{{y:.1f}} %</b> {name}<extra></extra>",
            }
        )
    layout = layout_of(height=320) | {
        "xaxis": _log_axis(low, high, unit),
        "yaxis": _axis("", [0, 102]) | {"ticksuffix": " %"},
        "hovermode": "x unified",
        "shapes": _truth_shade(results, key, low),
    }
    if results.is_metric:
        mark = 100 * LEAD_THRESHOLD.position_m if key == POSITION else LEAD_THRESHOLD.rotation_deg
        layout["shapes"].append(_rule("x", mark))
    layout["xaxis"]["hoverformat"] = ".3g"
    layout["xaxis"]["unifiedhovertitle"] = {"text": f"within %{{x:.3g}} {unit}"}
    return {"data": traces, "layout": layout}


def leakage_figure(results: Results, key: str) -> Figure:
    """Errors against how far the nearest train view is: a dot an image, a line through medians."""
    curve = leakage_curve(results, key)
    low, high = error_range(results, key)
    top = float(np.exp(np.log(low) + (np.log(high) - np.log(low)) / _FAILED_AT))
    unit = results.axis_unit if key == POSITION else "°"
    traces: list[Figure] = []
    for name, line in results.lines.items():
        errors = results.errors(name, key)
        failed = ~np.isfinite(errors)
        shown = np.where(failed, high, np.maximum(errors, low))
        for rows, size, symbol in ((~failed, 5, "circle"), (failed, 8, "x")):
            if not rows.any():
                continue
            marker = {"color": line.color, "opacity": 0.45, "line": {"width": 0}}
            traces.append(
                _line(name)
                | {
                    "mode": "markers",
                    "x": _rounded(curve.apart[rows]),
                    "y": _rounded(shown[rows]),
                    "customdata": np.flatnonzero(rows).tolist(),
                    "marker": marker | {"size": size, "symbol": symbol},
                    "hoverinfo": "none",
                }
            )
        medians = curve.medians[name]
        traces.append(
            _line(name)
            | {
                "mode": "lines+markers",
                "x": _rounded(curve.middles),
                "y": [None if not np.isfinite(one) else float(one) for one in medians],
                "line": {"color": line.color, "width": 2.4, "dash": line.dash},
                "marker": {"size": 7, "color": line.color},
                "hoverinfo": "skip",
            }
        )
    nearest, farthest = max(curve.low, low), min(curve.high, high)
    if nearest < farthest:
        as_far = _rounded(np.geomspace(nearest, farthest, 30))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": as_far,
                "y": as_far,
                "line": {"color": "var(--soft)", "width": 1, "dash": "dot"},
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    layout = layout_of(height=340) | {
        "xaxis": _leakage_axis(curve, unit),
        "yaxis": _log_axis(low, top, unit),
        "hovermode": "closest",
    }
    return {"data": traces, "layout": layout}


def coverage_figure(results: Results, part: str) -> Figure:
    """Which share of ``position`` or ``rotation`` errors lies where so many should."""
    traces: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [0, 100],
            "y": [0, 100],
            "line": {"color": "var(--soft)", "width": 1, "dash": "dot"},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    for name, line in results.lines.items():
        found = coverage_of(results, name, part)
        if found is None:
            continue
        traces.append(
            _line(name)
            | {
                "mode": "lines+markers",
                "x": [0.0, *_rounded(found.expected)],
                "y": [0.0, *_rounded(found.observed)],
                "line": {"color": line.color, "width": 2.2, "dash": line.dash},
                "marker": {"size": 6, "color": line.color},
                "hovertemplate": f"{name}: <b>%{{y:.0f}} %</b> of errors where %{{x:.0f}} % "
                "should be<extra></extra>",
            }
        )
    layout = layout_of(height=320) | {
        "xaxis": _axis("expected", [0, 102]) | {"ticksuffix": " %"},
        "yaxis": _axis("", [0, 102]) | {"ticksuffix": " %"},
        "hovermode": "closest",
    }
    return {"data": traces, "layout": layout}


def learning_figure(results: Results, key: str) -> Figure:
    """A number of each training, epoch by epoch, with a ring at the epoch that was kept."""
    lines = results.lines
    traces: list[Figure] = []
    for name, curve in learning_curves(results, key).items():
        known = np.isfinite(curve.values)
        epochs, values = curve.epochs[known], curve.values[known]
        traces.append(
            _line(name)
            | {
                "x": epochs.astype(int).tolist(),
                "y": _rounded(values),
                "line": {"color": lines[name].color, "width": 2},
                "hovertemplate": f"{name}, epoch %{{x}}: <b>%{{y:.3g}}</b><extra></extra>",
            }
        )
        if curve.kept is not None and curve.kept in epochs:
            traces.append(
                _line(name)
                | {
                    "mode": "markers",
                    "x": [int(curve.kept)],
                    "y": _rounded(values[epochs == curve.kept]),
                    "marker": {
                        "size": 11,
                        "color": "var(--card)",
                        "line": {"color": lines[name].color, "width": 2.4},
                    },
                    "hovertemplate": f"{name} as of epoch %{{x}} was kept<extra></extra>",
                }
            )
    values = np.concatenate([curve.values for curve in learning_curves(results, key).values()])
    positive = values[np.isfinite(values) & (values > 0)]
    axis = _axis("")
    if key != "train_loss" and len(positive):  # a loss can be negative
        axis = _log_axis(float(positive.min()) / 1.2, float(positive.max()) * 1.2, "")
    layout = layout_of(height=260) | {
        "xaxis": _axis("epoch") | {"rangemode": "tozero"},
        "yaxis": axis,
        "hovermode": "closest",
    }
    return {"data": traces, "layout": layout}


# -- parts ------------------------------------------------------------------------------------


def layout_of(*, height: int) -> Figure:
    """What all figures share."""
    return {
        "height": height,
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


def _line(name: str) -> Figure:
    """A trace of a localizer; ``meta`` is what the page's switches go by."""
    return {"type": "scatter", "mode": "lines", "name": name, "meta": name, "cliponaxis": False}


def _axis(title: str, limits: list[float] | None = None) -> Figure:
    axis: Figure = {
        "title": {"text": title, "font": FONT, "standoff": 8},
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line)",
        "zeroline": False,
        "fixedrange": True,  # a finger on it scrolls the page
        "automargin": True,
    }
    return axis if limits is None else axis | {"range": limits}


def _log_axis(low: float, high: float, unit: str) -> Figure:
    ticks = log_ticks(low, high)
    degrees = unit == "°"
    return _axis("") | {
        "type": "log",
        "range": [float(np.log10(low)), float(np.log10(high))],
        "tickvals": ticks,
        "ticktext": [f"{one:g}{'°' if degrees else ''}" for one in ticks],
        "title": {"text": "" if degrees else unit, "font": FONT, "standoff": 8},
    }


def _leakage_axis(curve: LeakageCurve, unit: str) -> Figure:
    title = "away" if unit == "°" else f"{unit} away"
    margin = 0.03 * max(curve.high - curve.low, 1e-9)
    axis = _axis(title, [curve.low - margin, curve.high + margin])
    return axis | {"ticksuffix": "°"} if unit == "°" else axis


def _truth_shade(results: Results, key: str, low: float) -> list[Figure]:
    """Grey where errors are below what the truth itself is off."""
    sigma = results.truth_sigma(key)
    if sigma is None or sigma <= low:
        return []
    return [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": low,
            "x1": sigma,
            "y0": 0,
            "y1": 1,
            "fillcolor": "var(--shade)",
            "line": {"width": 0},
            "layer": "below",
        }
    ]


def _rule(axis: str, at: float) -> Figure:
    return {
        "type": "line",
        f"{axis}ref": axis,
        "yref": "paper",
        "x0": at,
        "x1": at,
        "y0": 0,
        "y1": 1,
        "line": {"color": "var(--soft)", "width": 1, "dash": "dot"},
        "layer": "between",
    }


def _rounded(values: FloatArray | list[float], digits: int = 4) -> list[float]:
    """With that many significant digits (decimals of percentages): a page of 1000 stays small."""
    return [float(f"{float(one):.{digits}g}") for one in values]
