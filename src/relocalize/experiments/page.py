"""The page of a sweep: its tables and its learning curves, one self-contained HTML file."""

from __future__ import annotations

from typing import Any

from relocalize.experiments.curves import configuration_lines, curve_charts
from relocalize.experiments.experiment import Experiment
from relocalize.experiments.table import (
    effect_table,
    footnotes,
    heading,
    main_table,
    test_table,
)
from relocalize.plotting.chart import plotly_figure
from relocalize.plotting.page import html_page


def experiment_page(experiment: Experiment, results: dict[str, Any]) -> str:
    """The whole page.

    Args:
        experiment: as far as it is done.
        results: its `Experiment.to_json`.
    """
    charts = curve_charts(experiment)
    return html_page(
        "relocalize.experiments",
        "experiment.html",
        title=f"{experiment.sweep.name}: {experiment.place}",
        figures={name: plotly_figure(chart, height=300) for name, chart in charts.items()},
        sweep=experiment.sweep,
        heading=heading(experiment),
        main=main_table(experiment),
        lines=configuration_lines(experiment),
        footnotes=footnotes(experiment),
        effects=effect_table(experiment),
        test=test_table(experiment),
        made=results["made"],
        errors_on=results["errors_on"],
    )
