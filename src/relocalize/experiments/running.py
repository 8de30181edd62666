"""Doing a whole sweep: its runs, then the table, the curves and the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from relocalize import evaluation, progress
from relocalize.experiments.curves import configuration_lines, curve_charts, draw_curves
from relocalize.experiments.engines import ENGINES, check_engine
from relocalize.experiments.experiment import Experiment, RunNumbers
from relocalize.experiments.held_out import HeldOutErrors, score_test_images
from relocalize.experiments.runs import EXPERIMENTS, Run, runs_of
from relocalize.experiments.sweep import Sweep
from relocalize.experiments.table import effect_table, footnotes, heading, main_table, test_table
from relocalize.place import Place, Split, atomic
from relocalize.place.lock import write_lock
from relocalize.plotting.chart import plotly_figure
from relocalize.plotting.page import html_page
from relocalize.regression import require_torch
from relocalize.regression.frames import TrainingFrames
from relocalize.regression.settings import TrainSettings

RESULTS, FIGURE, PAGE = "results.json", "curves.png", "index.html"  # in the sweep's folder


def run_experiment(
    place: Place, sweep: Sweep, *, engine: str = "local", evaluate: bool = False
) -> tuple[Experiment, Path]:
    """Do the runs of a sweep that are not done yet; gives the experiment and its folder.

    ``experiments/<name>/`` in the Place gets a folder per run, after every run ``results.json``
    and ``index.html`` of what is done so far, and ``curves.png`` in the end. A run is known by
    everything that its result depends on, so that one command after an interruption, or after a
    change of the sweep, does what is missing. Test images are scored once all runs are done, and
    only where ``evaluate`` says so.

    Raises:
        RelocalizeError: the sweep cannot be trained on this Place, or not by this engine.
        KeyboardInterrupt: after checkpoints were written; the same call resumes.
    """
    require_torch()
    check_engine(engine)
    from relocalize.regression.training import check_trainable  # noqa: PLC0415 - torch takes seconds

    # Before a split is made; the machines of a cluster are others.
    for one in _by_network(sweep) if engine == "local" else ():
        check_trainable(one)
    split = evaluation.split_of(place, sweep.split)
    runs = runs_of(sweep, place, split)
    folder = place.root / EXPERIMENTS / sweep.name
    folder.mkdir(parents=True, exist_ok=True)
    with write_lock(folder):
        missing = [run for run in runs if not run.is_done]
        _say_plan(sweep, runs, missing)
        # Images are decoded before any run's minutes count: the first would pay for all.
        for settings in dict.fromkeys(run.settings.input for run in missing):
            TrainingFrames.prepare(place, split, settings)
        for _ in ENGINES[engine](missing):
            _write(_experiment(place, sweep, split, engine, runs), folder)
        test = score_test_images(place, split, sweep.name, runs) if evaluate else {}
        experiment = _experiment(place, sweep, split, engine, runs, test)
        _write(experiment, folder)
        draw_curves(experiment, folder / FIGURE)
    return experiment, folder


def _by_network(sweep: Sweep) -> Iterable[TrainSettings]:
    """Settings of each network and device once."""
    settings = [configuration.settings for configuration in sweep.configurations]
    return {(s.device, s.precision, s.backbone, s.head, s.input): s for s in settings}.values()


def _write(experiment: Experiment, folder: Path) -> None:
    """Write results and page of what is done so far."""
    results = experiment.to_json()
    atomic.write_json(folder / RESULTS, results)
    atomic.write_text(folder / PAGE, experiment_page(experiment, results))


def experiment_page(experiment: Experiment, results: dict[str, Any]) -> str:
    """The whole page of an experiment as far as it is done, and of its `Experiment.to_json`."""
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


def _experiment(
    place: Place,
    sweep: Sweep,
    split: Split,
    engine: str,
    runs: Sequence[Run],
    test: dict[str, HeldOutErrors] | None = None,
) -> Experiment:
    done = [(run, result) for run in runs if (result := run.result()) is not None]
    logs = {run.folder.name: run.log() for run, _ in done}
    return Experiment(
        sweep=sweep,
        place=place.name,
        split=split.name,
        unit=place.unit,
        engine=engine,
        planned=len(runs),
        runs=tuple(RunNumbers.of(run, result, logs[run.folder.name]) for run, result in done),
        logs=logs,
        test=test or {},
    )


def _say_plan(sweep: Sweep, runs: Sequence[Run], missing: Sequence[Run]) -> None:
    bounds = [run.settings.minutes for run in missing]
    most = [bound for bound in bounds if bound is not None]
    time = f", {sum(most):.3g} minutes of training at most" if most and None not in bounds else ""
    progress.say(
        f"sweep {sweep.name}: {len(runs)} runs, {len(runs) - len(missing)} of them done before"
        + (f"; {len(missing)} to do{time}" if missing else "")
    )
