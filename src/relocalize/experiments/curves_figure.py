"""Learning curves of a sweep, drawn by Matplotlib: two panels per configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from relocalize.experiments.experiment import Experiment
from relocalize.experiments.summary import RunNumbers
from relocalize.experiments.sweep import shown
from relocalize.experiments.table import axis_heads
from relocalize.place.folder import METRE
from relocalize.plotting.figure import GRID, new_figure, shortened, style

_LOSS, _ERROR, _RATE = "#c9603a", "#2f7fd1", "#9aa4ae"
_MOST = 24  # configurations in one image; the page has all
_COLUMNS = 4
_WIDTH, _HEIGHT = 3.1, 1.75  # of a panel, inches
_Log = Sequence[dict[str, Any]]


def curves_figure(experiment: Experiment) -> Figure:
    """Train loss and validation error by epoch, with the learning rate on the second axis.

    Each configuration has a panel for the one above a panel for the other, with a line per seed
    and a dot at the chosen epoch; panels of a kind share their scale where they can be compared.
    """
    cells = _cells(experiment)
    columns = min(_COLUMNS, max(1, len(cells)))
    bands = max(1, math.ceil(len(cells) / columns))
    figure = new_figure(_WIDTH * columns + 0.6, 2 * _HEIGHT * bands + 0.9)
    with style():
        grid = figure.add_gridspec(2 * bands, columns)
        comparable = not any(
            axis.split(".")[0] in {"loss", "preset"} for axis in experiment.sweep.grid
        )
        losses: list[Axes] = []
        errors: list[Axes] = []
        for index, cell in enumerate(cells):
            band, column = divmod(index, columns)
            below = index + columns >= len(cells)
            loss = figure.add_subplot(
                grid[2 * band, column], sharey=losses[0] if losses and comparable else None
            )
            error = figure.add_subplot(
                grid[2 * band + 1, column], sharex=loss, sharey=errors[0] if errors else None
            )
            losses.append(loss)
            errors.append(error)
            _draw(loss, error, cell)
            error.set_ylim(experiment.error_range("validation_position"))
            loss.set_title(shortened(_title(experiment, cell[0][0])), fontsize=8.5, loc="left")
            _label(loss, error, experiment.unit, first=column == 0, below=below)
        figure.suptitle(_heading(experiment, len(cells)), fontsize=11, x=0.01, ha="left")
    return figure


_Cell = list[tuple[RunNumbers, _Log]]


def _cells(experiment: Experiment) -> list[_Cell]:
    """The runs of each configuration with their logs; of many, those of the best score."""
    cells: dict[str, _Cell] = {}
    for run, log in zip(experiment.runs, experiment.logs, strict=True):
        cells.setdefault(repr(run.values), []).append((run, log))
    found = list(cells.values())
    if len(found) > _MOST:
        best = sorted(found, key=lambda cell: min(run.score for run, _ in cell))[:_MOST]
        found = [cell for cell in found if cell in best]
    return found


def _draw(loss: Axes, error: Axes, cell: _Cell) -> None:
    rates = {axes: axes.twinx() for axes in (loss, error)}
    for axes, second in rates.items():
        # What is learnt lies above how fast it is.
        axes.set_zorder(second.get_zorder() + 1)
        axes.patch.set_visible(False)
        axes.grid(color=GRID, linewidth=0.6)
        for one in (axes, second):
            one.spines["top"].set_visible(False)
            one.tick_params(labelsize=7, length=2)
        second.yaxis.set_major_locator(MaxNLocator(3))
        second.yaxis.set_major_formatter(FuncFormatter(_rate))
        second.yaxis.set_label_position("right")
    highest = 0.0
    for run, log in cell:
        epochs = [row["epoch"] for row in log]
        rate = [float(row["learning_rate"]) for row in log]
        highest = max(highest, *rate, 0.0)
        for second in rates.values():
            second.plot(epochs, rate, color=_RATE, linewidth=1.1, drawstyle="steps-mid")
        loss.plot(epochs, _values(log, "train_loss"), color=_LOSS, linewidth=1.1)
        values = _values(log, "validation_position")
        error.plot(epochs, values, color=_ERROR, linewidth=1.1)
        if run.best_epoch is not None and run.best_epoch <= len(values):
            error.plot([run.best_epoch], [run.position], "o", color=_ERROR, markersize=3.5)
    for second in rates.values():
        second.set_ylim(0, 1.25 * highest or 1)
    error.set_yscale("log")
    error.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    error.yaxis.set_major_formatter(ScalarFormatter())
    error.yaxis.set_minor_formatter(NullFormatter())
    error.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _label(loss: Axes, error: Axes, unit: str, *, first: bool, below: bool) -> None:
    loss.tick_params(labelbottom=False)
    if first:
        short = "m" if unit == METRE else f"{unit}s"
        loss.set_ylabel("train loss", fontsize=8, color=_LOSS)
        error.set_ylabel(f"validation ({short})", fontsize=8, color=_ERROR)
    if below:
        error.set_xlabel("epoch", fontsize=8)


def _rate(value: float, _: int | None = None) -> str:
    """A learning rate in few letters: ``5e-4``, ``0.01``."""
    return f"{value:.2g}".replace("e-0", "e-")


def _values(log: _Log, name: str) -> list[float]:
    return [math.nan if row[name] is None else float(row[name]) for row in log]


def _title(experiment: Experiment, run: RunNumbers) -> str:
    # A word says what it is, a number does not.
    parts = [
        f"{'' if isinstance(value, str) else f'{head} '}{shown(value)}"
        for head, value in zip(axis_heads(experiment), run.values.values(), strict=True)
    ]
    return ", ".join(parts) or experiment.sweep.preset


def _heading(experiment: Experiment, drawn: int) -> str:
    rows = len(experiment.configurations)
    words = f"{experiment.sweep.name} on {experiment.place}"
    if drawn < rows:
        words += f", the {drawn} best of {rows} configurations"
    return f"{words}: train loss, validation error, and the learning rate (grey, right axes)"
