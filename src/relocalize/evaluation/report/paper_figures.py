"""The report's figures for papers, by Matplotlib: each as PNG and as SVG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from relocalize.errors import EvaluationError
from relocalize.evaluation.report.curves import (
    POSITION,
    ROTATION,
    coverage_of,
    distribution,
    error_range,
    leakage_curve,
    learning_curves,
    log_ticks,
)
from relocalize.evaluation.report.map_figure import arrow_factor
from relocalize.evaluation.report.scene import Scene, train_images
from relocalize.evaluation.report.stored import Results
from relocalize.place import Place
from relocalize.plotting.figure import (
    GRID,
    INK,
    SOFT,
    draw_ground,
    draw_points,
    new_figure,
    save_figure,
    style,
)

_WIDTH = 7.2  # inches: two columns of a paper
_DASHES: dict[str, Literal["-", "--", ":", "-."] | tuple[int, tuple[int, int]]] = {
    "solid": "-",
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
    "longdash": (0, (10, 3)),
}
_PANEL = 2.6  # inches of height
_QUIET = "#9aa3ac"


def write_figures(place: Place, results: Results, folder: Path) -> list[Path]:
    """Write each figure as ``<name>.png`` and ``<name>.svg`` into a folder.

    Returns:
        The files.

    Raises:
        EvaluationError: the folder cannot be made.
        PlaceError: the results are damaged.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"{folder} cannot be made a folder: {error.strerror}") from error
    written = []
    with results.checked(), style():
        scene = Scene.of(place, train_images(place, results), results)
        figures: dict[str, Callable[[], Figure | None]] = {
            "from_above": lambda: _from_above(scene, results),
            "errors": lambda: _errors(results),
            "leakage": lambda: _leakage(results),
            "calibration": lambda: _calibration(results),
            "learning": lambda: _learning(results),
        }
        for name, drawn in figures.items():
            figure = drawn()
            if figure is None:
                continue
            for suffix in (".png", ".svg"):
                written.append(folder / f"{name}{suffix}")
                save_figure(figure, written[-1])
    return written


def _from_above(scene: Scene, results: Results) -> Figure:
    height = float(np.clip(_WIDTH * scene.aspect, 2.4, 7.0)) + 0.5
    figure = new_figure(_WIDTH, height)
    axes = figure.add_subplot()
    seen = np.stack([scene.low, scene.high])
    draw_ground(axes, seen, ("along the walk", "across"), results.raw["unit"])
    draw_points(axes, scene.points, scene.colors)
    limits = axes.get_xlim(), axes.get_ylim()
    axes.scatter(
        scene.train[:, 0],
        scene.train[:, 1],
        s=5,
        color=_QUIET,
        linewidths=0,
        zorder=2,
        label="train views",
    )
    line, factor = results.lines[results.lead], arrow_factor(results, scene)
    ends = scene.of_world(results.positions(results.lead))
    known = np.isfinite(ends).all(axis=1)
    tips = scene.true + factor * (ends - scene.true)
    axes.add_collection(
        LineCollection(
            list(np.stack([scene.true[known], tips[known]], axis=1)),
            colors=line.color,
            linewidths=0.9,
            zorder=4,
            label=f"error of {results.lead}" + (f", × {factor}" if factor > 1 else ""),
        )
    )
    axes.scatter(
        scene.true[:, 0],
        scene.true[:, 1],
        s=7,
        color=INK,
        linewidths=0,
        zorder=5,
        label="test views",
    )
    if not known.all():
        x, y = scene.true[~known].T
        axes.scatter(x, y, s=28, marker="x", color=line.color, zorder=6, label="not localized")
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
    figure.legend(loc="outside upper left", ncols=4, fontsize=8, handletextpad=0.4)
    return figure


def _errors(results: Results) -> Figure:
    figure, panels = _panels(2)
    for axes, key in zip(panels, (POSITION, ROTATION), strict=True):
        low, high = error_range(results, key)
        for name in results.foremost:
            found, line = distribution(results, name, key), results.lines[name]
            if len(found.errors):
                errors = np.maximum(found.errors, low)
                axes.plot(
                    [errors[0], *errors, high],
                    [0, *found.percent, found.percent[-1]],
                    color=line.color,
                    linestyle=_DASHES[line.dash],
                    linewidth=1.5,
                    drawstyle="steps-post",
                )
        sigma = results.truth_sigma(key)
        if sigma is not None and sigma > low:
            axes.axvspan(low, sigma, color="#000000", alpha=0.06, linewidth=0)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(0, 102)
        axes.set_xlabel(_error_label(results, key))
        axes.xaxis.set_major_formatter(_plain())
    panels[0].set_ylabel("% of test images")
    _legend(figure, results)
    return figure


def _leakage(results: Results) -> Figure:
    figure, panels = _panels(2)
    for axes, key in zip(panels, (POSITION, ROTATION), strict=True):
        curve = leakage_curve(results, key)
        low, high = error_range(results, key)
        for name in results.foremost:
            errors, line = results.errors(name, key), results.lines[name]
            known = np.isfinite(errors)
            axes.scatter(
                curve.apart[known],
                np.maximum(errors[known], low),
                s=5,
                color=line.color,
                alpha=0.35,
                linewidths=0,
                rasterized=True,
            )
            axes.scatter(
                curve.apart[~known],
                np.full(int((~known).sum()), high),
                s=18,
                marker="x",
                color=line.color,
                alpha=0.45,
                linewidths=1,
                clip_on=False,
            )
            axes.plot(
                curve.middles,
                np.where(np.isfinite(curve.medians[name]), curve.medians[name], np.nan),
                color=line.color,
                linestyle=_DASHES[line.dash],
                linewidth=1.5,
                marker="o",
                markersize=3.5,
            )
        nearest, farthest = max(curve.low, low), min(curve.high, high)
        if nearest < farthest:
            same = np.geomspace(nearest, farthest, 50)
            axes.plot(same, same, color=SOFT, linewidth=0.8, linestyle=":")
        axes.set_yscale("log")
        axes.set_ylim(low, 1.25 * high)
        axes.yaxis.set_major_formatter(_plain())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel(_error_label(results, key))
        axes.set_xlabel(
            f"distance of the nearest train view, {results.axis_unit}"
            if key == POSITION
            else "angle to the nearest train view, °"
        )
    _legend(figure, results)
    return figure


def _calibration(results: Results) -> Figure | None:
    parts = ("position", "rotation")
    stating = [name for name in results.foremost if coverage_of(results, name, "position")]
    if not stating:
        return None
    figure, panels = _panels(2)
    for axes, part in zip(panels, parts, strict=True):
        axes.plot([0, 100], [0, 100], color=SOFT, linewidth=0.8, linestyle=":")
        for name in stating:
            found, line = coverage_of(results, name, part), results.lines[name]
            if found is not None:
                axes.plot(
                    [0, *found.expected],
                    [0, *found.observed],
                    color=line.color,
                    linestyle=_DASHES[line.dash],
                    linewidth=1.5,
                    marker="o",
                    markersize=3,
                )
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 102)
        axes.set_xlabel(f"expected % of {part} errors within")
    panels[0].set_ylabel("observed %")
    _legend(figure, results, stating)
    return figure


def _learning(results: Results) -> Figure | None:
    titles = {
        "train_loss": "loss on train images",
        "validation_position": "validation position error, "
        + ("cm" if results.training_is_metric else "map units"),
        "validation_rotation_deg": "validation rotation error, °",
    }
    shown = {key: found for key in titles if (found := learning_curves(results, key))}
    learnt = [n for n in results.foremost if any(n in curves for curves in shown.values())]
    if not learnt:
        return None
    figure, panels = _panels(len(shown))
    for axes, (key, curves) in zip(panels, shown.items(), strict=True):
        for name in filter(curves.__contains__, learnt):
            curve = curves[name]
            color = results.lines[name].color
            axes.plot(curve.epochs, curve.values, color=color, linewidth=1.3)
            kept = curve.epochs == curve.kept
            axes.plot(
                curve.epochs[kept],
                curve.values[kept],
                "o",
                markersize=5,
                markerfacecolor="white",
                markeredgecolor=color,
            )
        if key != "train_loss" and all((one.values > 0).any() for one in curves.values()):
            axes.set_yscale("log")
            axes.set_yticks(log_ticks(*axes.get_ylim()))
            axes.yaxis.set_major_formatter(_plain())
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(titles[key], fontsize=8, color=SOFT, loc="left")
        axes.set_xlabel("epoch")
    _legend(figure, results, learnt)
    return figure


# -- parts ------------------------------------------------------------------------------------


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = new_figure(_WIDTH, _PANEL + 0.25)
    panels = [figure.add_subplot(1, count, number + 1) for number in range(count)]
    for axes in panels:
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        for edge in ("top", "right"):
            axes.spines[edge].set_visible(False)
    return figure, panels


def _legend(figure: Figure, results: Results, names: list[str] | None = None) -> None:
    lines = results.lines
    handles = [
        Line2D(
            [],
            [],
            color=lines[name].color,
            linestyle=_DASHES[lines[name].dash],
            linewidth=1.5,
            label=name,
        )
        for name in (results.foremost if names is None else names)
    ]
    for columns in range(6, 0, -1):
        legend = figure.legend(handles=handles, loc="outside upper left", ncols=columns, fontsize=8)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _error_label(results: Results, key: str) -> str:
    return f"position error, {results.axis_unit}" if key == POSITION else "rotation error, °"


def _plain() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value:g}")
