"""Learning curves of a sweep: for its page all runs in one chart, in a PNG one by one."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np

from relocalize.experiments.experiment import Experiment, RunNumbers, column
from relocalize.plotting.chart import COLORS, Axis, Chart, Line, Series, lines_of
from relocalize.plotting.figure import figure_in, short_unit, shortened
from relocalize.plotting.paper_chart import draw_chart

_LOSS, _POSITION, _ROTATION = "train_loss", "validation_position", "validation_rotation_deg"
_ALL_COLORS = (*COLORS, "#2f7fd1", "#c58a1b", "#8b939c")
_DRAWN = {_LOSS: "#c9603a", _POSITION: "#2f7fd1"}  # in the PNG, with their colours
_NARROWEST, _MARGIN = 1.5, 1.08  # factors, of logarithmic axes
_MOST = 24  # configurations in one image; the page has all
_COLUMNS = 4
_WIDTH, _HEIGHT = 3.1, 1.75  # of a panel, inches


def configuration_lines(experiment: Experiment) -> dict[str, Line]:
    """How each configuration is drawn on the page, by its label."""
    labels = [experiment.sweep.label(row.values) for row in experiment.configurations]
    return lines_of(labels, _ALL_COLORS)


def curve_charts(experiment: Experiment) -> dict[str, Chart]:
    """Train loss, validation position and rotation error of all runs, by name of the number."""
    lines = configuration_lines(experiment)
    numbers = (_LOSS, _POSITION, _ROTATION)
    return {key: _chart(experiment, key, experiment.runs, lines) for key in numbers}


def draw_curves(experiment: Experiment, path: Path) -> None:
    """Train loss and validation position error, a panel for each of every configuration.

    Of many configurations those of the best score. Panels of a kind share their scale where they
    can be compared.
    """
    cells = experiment.groups()
    best = sorted(cells, key=lambda runs: min(run.score for run in runs))[:_MOST]
    cells = [runs for runs in cells if runs in best]
    columns = min(_COLUMNS, max(1, len(cells)))
    bands = max(1, math.ceil(len(cells) / columns))
    size = (_WIDTH * columns + 0.6, 2 * _HEIGHT * bands + 0.9)
    with figure_in(*size, path) as figure:
        for index, runs in enumerate(cells):
            band, left = divmod(index, columns)
            label = experiment.sweep.label(runs[0].values)
            for below, (key, color) in enumerate(_DRAWN.items()):
                place = columns * (2 * band + below) + left + 1
                axes = figure.add_subplot(2 * bands, columns, place)
                chart = _chart(experiment, key, runs, {label: Line(color)})
                draw_chart(axes, chart)
                axes.set_ylabel(chart.y.label if left == 0 else "")
                if key == _LOSS:
                    axes.set_title(shortened(label), fontsize=8.5, loc="left")
                if key == _LOSS or index + columns < len(cells):
                    axes.set_xlabel("")
        title = textwrap.fill(_heading(experiment, len(cells)), 34 * columns)
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")


def _loss_range(experiment: Experiment) -> tuple[float, float] | None:
    """Of all train losses, where the sweep compares losses of one kind."""
    kinds = {"loss", "preset"} & {axis.split(".")[0] for axis in experiment.sweep.grid}
    rows = [row for log in experiment.logs.values() for row in log if row[_LOSS] is not None]
    if kinds or not rows:
        return None
    low, high = (end(row[_LOSS] for row in rows) for end in (min, max))
    margin = 0.05 * max(high - low, 1e-9)
    return low - margin, high + margin


def _chart(
    experiment: Experiment, key: str, runs: Iterable[RunNumbers], lines: Mapping[str, Line]
) -> Chart:
    """A number of some runs epoch by epoch, and their learning rates dotted on the right axis."""
    rates: list[Series] = []
    curves: list[Series] = []
    for run in runs:
        log = experiment.logs[run.name]
        label = experiment.sweep.label(run.values)
        line = lines[label]
        what = f"{escape(label)}, seed {run.seed}<br>epoch %{{x}}: "
        epochs = np.array([row["epoch"] for row in log], dtype=float)
        rate = np.array(column(log, "learning_rate", math.nan))
        values = np.array(column(log, key, math.nan))
        dots = replace(line, dash="dot")
        hover = f"{what}learning rate %{{y:.3g}}"
        rates.append(
            Series(label, epochs, rate, dots, 1.2, "hvh", opacity=0.55, hover=hover, is_right=True)
        )
        curves.append(Series(label, epochs, values, line, 1.8, hover=f"{what}%{{y:.4g}}"))
        chosen = epochs == run.best_epoch
        curves.append(Series(label, epochs[chosen], values[chosen], line, 0, marker="circle"))
    highest = max((float(np.nanmax(one.y, initial=0)) for one in rates), default=0)
    names = {
        _LOSS: "train loss",
        _POSITION: f"validation ({short_unit(experiment.unit)})",
        _ROTATION: "validation (deg)",
    }
    limits = _loss_range(experiment) if key == _LOSS else _error_range(experiment, key)
    return Chart(
        Axis("epoch"),
        Axis(names[key], limits, is_log=key != _LOSS),
        (*rates, *curves),
        right=Axis("learning rate", (0, 1.25 * highest or 1)),
    )


def _error_range(experiment: Experiment, key: str) -> tuple[float, float]:
    """From below the least to above the largest of an error in the logs."""
    values = [row[key] for log in experiment.logs.values() for row in log if row[key]]
    low, high = min(values, default=1.0), max(values, default=1.0)
    wider = max(_MARGIN, math.sqrt(_NARROWEST * low / high))
    return low / wider, high * wider


def _heading(experiment: Experiment, drawn: int) -> str:
    rows, words = len(experiment.configurations), f"{experiment.sweep.name} on {experiment.place}"
    if drawn < rows:
        words += f", the {drawn} best of {rows} configurations"
    return f"{words}: train loss, validation error, and the learning rate (dotted, right axes)"
