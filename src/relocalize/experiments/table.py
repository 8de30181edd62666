"""A sweep as tables: for its page, and for a terminal of 80 columns."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.text import Text

from relocalize.evaluation.table import NONE, degrees, length, wrapped
from relocalize.experiments.experiment import ConfigurationNumbers, Experiment
from relocalize.experiments.sweep import shown
from relocalize.place.folder import METRE
from relocalize.plotting.table import Table


def experiment_table(experiment: Experiment) -> Group:
    """For the terminal: what was trained, the table, and what its columns mean."""
    said = [wrapped(line) for line in heading(experiment)]
    parts: list[RenderableType] = [*said, main_table(experiment, brief=True).for_terminal()]
    parts += [wrapped(line) for line in footnotes(experiment)]
    if experiment.effects:
        parts.append(effect_table(experiment).for_terminal())
    if experiment.test:
        parts.append(Text("Test images (choose nothing by these):"))
        parts.append(test_table(experiment).for_terminal())
    return Group(*parts)


def heading(experiment: Experiment) -> list[str]:
    """What was trained on what."""
    sweep, done = experiment.sweep, len(experiment.runs)
    runs = f"{done} runs" if done == experiment.planned else f"{done} of {experiment.planned} runs"
    seeds = ", ".join(map(str, sweep.seeds))
    fixed = [f"{name} {shown(value)}" for name, value in sweep.settings.items()]
    if "preset" not in sweep.grid:
        fixed.insert(0, f"preset {sweep.preset}")
    if sweep.minutes is not None:
        fixed.append(f"{sweep.minutes:g} minutes each")
    return [
        f"Sweep {sweep.name} on {experiment.place}, split {experiment.split}: {runs} "
        f"(seed{'s' * (len(sweep.seeds) > 1)} {seeds})",
        f"All: {', '.join(fixed)}",
    ]


def main_table(experiment: Experiment, *, brief: bool = False) -> Table:
    """A row per configuration, the best in bold; a ``brief`` one has columns for a terminal."""
    several, full = len(experiment.sweep.seeds) > 1, not brief
    columns = (
        (f"error {_unit(experiment)}", True, lambda row: _length(experiment, row.position)),
        ("error deg", True, lambda row: _degrees(row.rotation_deg)),
        (
            f"seeds {_unit(experiment)}",
            several,
            lambda row: _range(*(_length(experiment, end) for end in row.position_range)),
        ),
        ("seeds deg", several and full, lambda row: _range(*map(_degrees, row.rotation_range))),
        ("epoch to epoch", True, lambda row: _percent_more(row.position_jump)),
        ("the same, deg", full, lambda row: _percent_more(row.rotation_jump)),
        ("seed to seed", several, lambda row: _percent_more(row.position_seeds)),
        ("the same, deg", several and full, lambda row: _percent_more(row.rotation_seeds)),
        ("s per epoch", True, lambda row: _seconds(row.epoch_seconds)),
        ("epochs", True, lambda row: f"{row.epochs:g}"),
        ("ended", full or len(_ends(experiment)) > 1, _ended),
    )
    chosen = [(head, cell) for head, is_shown, cell in columns if is_shown]
    sweep, best = experiment.sweep, experiment.best
    first = (brief and ", ".join(sweep.heads)) or "configuration"

    def name_of(row: ConfigurationNumbers) -> str:
        return (brief and ", ".join(map(shown, row.values.values()))) or sweep.label(row.values)

    rows = [(name_of(row), [cell(row) for _, cell in chosen]) for row in experiment.configurations]
    lead = name_of(best) if best is not None and len(rows) > 1 else None
    return Table.of([(first,), *(head.split() for head, _ in chosen)], rows, lead)


def footnotes(experiment: Experiment) -> list[str]:
    """What the columns mean, and which row is the best."""
    several, best = len(experiment.sweep.seeds) > 1, experiment.best
    lines = [
        "error: median over validation images, which are cut from train and not trained on, in "
        "the chosen epoch" + ("; the median over seeds, and their range." if several else "."),
        "epoch to epoch: how much the validation error typically changes from one epoch to the "
        "next in the last third of a run"
        + ("; seed to seed: how much it differs between two seeds." if several else "."),
    ]
    if len(ends := _ends(experiment)) == 1:
        lines.append(f"All runs ended with: {ends[0]}.")
    if best is None:
        return [*lines, "No run was of any use."]
    if len(experiment.configurations) > 1:
        chosen = ", ".join(f"{axis} {shown(value)}" for axis, value in best.values.items())
        lines.append(f"Best on validation images: {chosen}.")
    if best.score >= 1:
        lines.append(
            f"None does better than a constant answer ({best.score:.2f} times its error): train "
            "for longer."
        )
    return lines


def effect_table(experiment: Experiment) -> Table:
    """Each value of each axis, over all runs that have it."""
    heads = ("runs", f"error {_unit(experiment)}", "error deg", "epoch to epoch")
    rows = []
    for one in experiment.effects:
        errors = (_length(experiment, one.position), _degrees(one.rotation_deg))
        cells = (str(one.runs), *errors, _percent_more(one.position_jump))
        rows.append((f"{one.axis} {shown(one.value)}", cells))
    return Table.of([("all runs with",), *map(str.split, heads)], rows)


def test_table(experiment: Experiment) -> Table:
    """Errors on the test images, by run and baseline."""
    heads = (f"error {_unit(experiment)}", "error deg", "images", "failed")
    rows = []
    for name, one in experiment.test.items():
        errors = (_length(experiment, one.position), _degrees(one.rotation_deg))
        rows.append((name, (*errors, str(one.images), str(one.failed))))
    return Table.of([("run or baseline",), *map(str.split, heads)], rows)


def _unit(experiment: Experiment) -> str:
    return "cm" if experiment.unit == METRE else "units"


def _ends(experiment: Experiment) -> list[str]:
    return list(dict.fromkeys(run.ended for run in experiment.runs))


def _ended(row: ConfigurationNumbers) -> str:
    some = f" ({row.diverged} of {row.runs})" if 0 < row.diverged < row.runs else ""
    return ", ".join(row.ended) + some


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low}–{high}"


def _percent_more(ratio: float | None) -> str:
    """A typical ratio as what it is beyond 1."""
    if ratio is None:
        return NONE
    more = 100 * (ratio - 1)
    return "∞" if math.isinf(more) else f"{more:.1f}%" if more < 9.95 else f"{more:.0f}%"


def _seconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _length(experiment: Experiment, value: float | None) -> str:
    return length(None if value == math.inf else value, metric=experiment.unit == METRE)


def _degrees(value: float | None) -> str:
    return degrees(None if value == math.inf else value)
