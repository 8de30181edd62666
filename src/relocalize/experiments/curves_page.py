"""Learning curves of a sweep for its page: all runs in one figure."""

from __future__ import annotations

import math
from typing import Any

from relocalize.experiments.experiment import Experiment
from relocalize.experiments.summary import RunNumbers
from relocalize.experiments.sweep import shown
from relocalize.place.folder import METRE

# Mid tones that stand out on white and on near-black alike.
_COLORS = (
    "#2f7fd1", "#c2558f", "#2c9c78", "#8464c9", "#c9603a", "#4a9fb5", "#c58a1b", "#8b939c",
)  # fmt: skip
_DASHES = ("solid", "dash", "dashdot", "longdash")
_FONT = {
    "family": "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, sans-serif",
    "size": 13,
    "color": "var(--soft)",
}
_TICKS = [digit * 10.0**power for power in range(-9, 10) for digit in (1, 2, 5)]
_LOG = {
    "type": "log",
    "tickmode": "array",
    "tickvals": _TICKS,
    "ticktext": [f"{tick:g}" for tick in _TICKS],
}
_GAP = 0.05  # between two panels, of the figure's height


def curves(experiment: Experiment) -> dict[str, Any]:
    """Three panels over the epochs: train loss, validation position and rotation error.

    The learning rate is on the right axis of each, dotted, in its configuration's colour.
    """
    short = "m" if experiment.unit == METRE else f"{experiment.unit}s"
    panels: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("train_loss", "train loss", {}),
        ("validation_position", f"position error ({short})", _LOG),
        ("validation_rotation_deg", "rotation error (deg)", _LOG),
    )
    labels = list(dict.fromkeys(label(run) for run in experiment.runs))
    height = (1 + _GAP) / len(panels) - _GAP
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "height": 940,
        "margin": {"l": 66, "r": 74, "t": 14, "b": 46},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": _FONT,
        "uirevision": "kept",  # what the reader hid or zoomed outlives a change of theme
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": "var(--card)",
            "bordercolor": "var(--line)",
            "font": _FONT | {"color": "var(--ink)"},
        },
        "legend": {"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0},
        "xaxis": _axis("epoch") | {"anchor": f"y{2 * len(panels) - 1}"},
    }
    for number, (key, title, scale) in enumerate(panels):
        left, right = 2 * number + 1, 2 * number + 2
        bottom = 1 - (number + 1) * height - number * _GAP
        domain = [max(0.0, bottom), min(1.0, bottom + height)]
        layout[_yaxis(left)] = _axis(title) | {"domain": domain, **scale}
        if scale:
            layout[_yaxis(left)]["range"] = [math.log10(x) for x in experiment.error_range(key)]
        layout[_yaxis(right)] = _axis("learning rate") | {
            "overlaying": _y(left),
            "side": "right",
            "showgrid": False,
            "rangemode": "tozero",
            "tickmode": "auto",
            "nticks": 4,
            "exponentformat": "e",
        }
        for run, log in zip(experiment.runs, experiment.logs, strict=True):
            first = key == panels[0][0] and _is_first(experiment, run)
            look = _look(labels.index(label(run)))
            epochs = [row["epoch"] for row in log]
            shared = {
                "type": "scatter",
                "mode": "lines",
                "x": epochs,
                "name": _escaped(label(run)),
                "legendgroup": label(run),
            }
            what = f"{_escaped(label(run))}, seed {run.seed}<br>epoch %{{x}}: "
            traces += [
                shared
                | {
                    "y": [row[key] for row in log],
                    "yaxis": _y(left),
                    "line": look | {"width": 1.8},
                    "showlegend": first,
                    "hovertemplate": f"{what}%{{y:.4g}}<extra></extra>",
                },
                shared
                | {
                    "y": [row["learning_rate"] for row in log],
                    "yaxis": _y(right),
                    "line": {"color": look["color"], "dash": "dot", "width": 1, "shape": "hvh"},
                    "opacity": 0.55,
                    "showlegend": False,
                    "hovertemplate": f"{what}learning rate %{{y:.3g}}<extra></extra>",
                },
            ]
    return {"data": traces, "layout": layout}


def label(run: RunNumbers) -> str:
    """A configuration's values, for people."""
    return ", ".join(shown(value) for value in run.values.values()) or "all"


def _is_first(experiment: Experiment, run: RunNumbers) -> bool:
    return next(other for other in experiment.runs if other.values == run.values) is run


def _look(number: int) -> dict[str, Any]:
    dash = _DASHES[number // len(_COLORS) % len(_DASHES)]
    return {"color": _COLORS[number % len(_COLORS)], "dash": dash}


def _axis(title: str) -> dict[str, Any]:
    return {
        "title": {"text": title, "font": _FONT},
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line)",
        "zeroline": False,
        "automargin": True,
    }


def _yaxis(number: int) -> str:
    return "yaxis" if number == 1 else f"yaxis{number}"


def _y(number: int) -> str:
    return "y" if number == 1 else f"y{number}"


def _escaped(words: str) -> str:
    """Plotly reads tags in texts."""
    return words.replace("&", "&amp;").replace("<", "&lt;")
