"""The report's figures for papers, by Matplotlib: each as PNG and as SVG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from relocalize.errors import EvaluationError
from relocalize.evaluation.report import charts
from relocalize.evaluation.report.map_figure import arrow_factor
from relocalize.evaluation.report.scene import Scene, train_images
from relocalize.evaluation.report.stored import Results
from relocalize.place import Place
from relocalize.plotting.chart import Chart
from relocalize.plotting.figure import INK, draw_ground, draw_points, figure_in
from relocalize.plotting.paper_chart import draw_chart, draw_legend

_WIDTH, _HEIGHT = 7.2, 2.85  # inches: two columns of a paper
_QUIET = "#9aa3ac"


def write_figures(place: Place, results: Results, folder: Path) -> list[Path]:
    """Write each figure as ``<name>.png`` and ``<name>.svg`` into a folder; the files.

    Raises:
        EvaluationError: the folder cannot be made.
        PlaceError: the results are damaged.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"{folder} cannot be made a folder: {error.strerror}") from error
    written: list[Path] = []
    with results.checked():
        scene = Scene.of(place, train_images(place, results), results)
        height = float(np.clip(_WIDTH * scene.aspect, 2.4, 7.0)) + 0.5
        written += _paths(folder, "from_above")
        with figure_in(_WIDTH, height, *written) as figure:
            _draw_from_above(figure, scene, results)
        for name, panels in (
            ("errors", charts.error_charts(results)),
            ("leakage", charts.leakage_charts(results)),
            ("calibration", charts.coverage_charts(results)),
            ("learning", charts.learning_charts(results)),
        ):
            if panels:
                written += _paths(folder, name)
                with figure_in(_WIDTH, _HEIGHT, *written[-2:]) as figure:
                    _draw_panels(figure, list(panels.values()), results)
    return written


def _paths(folder: Path, name: str) -> list[Path]:
    return [folder / f"{name}.png", folder / f"{name}.svg"]


def _draw_panels(figure: Figure, panels: list[Chart], results: Results) -> None:
    """Charts side by side, of the foremost localizers alone."""
    for number, chart in enumerate(panels, start=1):
        draw_chart(figure.add_subplot(1, len(panels), number), chart, results.foremost)
    drawn = {series.name for chart in panels for series in chart.series}
    shown = {name: results.lines[name] for name in results.foremost if name in drawn}
    draw_legend(figure, shown)


def _draw_from_above(figure: Figure, scene: Scene, results: Results) -> None:
    axes = figure.add_subplot()
    seen = np.stack([scene.low, scene.high])
    draw_ground(axes, seen, ("along the walk", "across"), results.raw["unit"])
    limits = axes.axis()
    draw_points(axes, scene.points, scene.colors)
    x, y = scene.train.T
    axes.scatter(x, y, s=5, color=_QUIET, linewidths=0, zorder=2, label="train views")
    color, factor = results.lines[results.lead].color, arrow_factor(results, scene)
    ends = scene.of_world(results.positions(results.lead))
    known = np.isfinite(ends).all(axis=1)
    tips = scene.true + factor * (ends - scene.true)
    errors = LineCollection(
        list(np.stack([scene.true[known], tips[known]], axis=1)),
        colors=color,
        linewidths=0.9,
        zorder=4,
        label=f"error of {results.lead}" + (f", × {factor}" if factor > 1 else ""),
    )
    axes.add_collection(errors)
    x, y = scene.true.T
    axes.scatter(x, y, s=7, color=INK, linewidths=0, zorder=5, label="test views")
    if not known.all():
        x, y = scene.true[~known].T
        axes.scatter(x, y, s=28, marker="x", color=color, zorder=6, label="not localized")
    axes.axis(limits)
    figure.legend(loc="outside upper left", ncols=4, fontsize=8, handletextpad=0.4)
