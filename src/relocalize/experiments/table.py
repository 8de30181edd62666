"""A sweep as a table: its columns, and how a terminal of 80 columns shows them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from relocalize.evaluation.table import NONE, degrees, length
from relocalize.experiments.experiment import Experiment
from relocalize.experiments.summary import ConfigurationNumbers, best_of
from relocalize.experiments.sweep import shown
from relocalize.place.folder import METRE

_WIDTH = 79


@dataclass(frozen=True)
class Column:
    """One number of every configuration.

    Attributes:
        head: of the column.
        cell: what a configuration has in it.
        is_brief: whether it stands in the terminal too, and not on the page alone.
    """

    head: str
    cell: Callable[[ConfigurationNumbers], str]
    is_brief: bool = True


def columns_of(experiment: Experiment) -> list[Column]:
    """The columns of numbers; those of seeds where there are several."""
    metric, several = experiment.unit == METRE, len(experiment.sweep.seeds) > 1
    unit = "cm" if metric else "units"

    def range_of(low: str, high: str) -> str:
        return low if low == high else f"{low}–{high}"

    columns = [
        Column(f"error {unit}", lambda row: _length(row.position, metric=metric)),
        Column("error deg", lambda row: _degrees(row.rotation_deg)),
    ]
    if several:
        columns += [
            Column(
                f"seeds {unit}",
                lambda row: range_of(*(_length(x, metric=metric) for x in row.position_range)),
            ),
            Column(
                "seeds deg",
                lambda row: range_of(*(_degrees(x) for x in row.rotation_range)),
                is_brief=False,
            ),
        ]
    columns += [
        Column("epoch to epoch", lambda row: _percent_more(row.position_jump)),
        Column("the same, deg", lambda row: _percent_more(row.rotation_jump), is_brief=False),
    ]
    if several:
        columns += [
            Column("seed to seed", lambda row: _percent_more(row.position_seeds)),
            Column("the same, deg", lambda row: _percent_more(row.rotation_seeds), is_brief=False),
        ]
    return [
        *columns,
        Column("s per epoch", lambda row: _seconds(row.epoch_seconds)),
        Column("epochs", lambda row: f"{row.epochs:g}"),
        Column("ended", _ended, is_brief=len(_ends(experiment)) > 1),
    ]


def experiment_table(experiment: Experiment) -> Group:
    """The table with what it is of above it and what its columns mean below."""
    rows, best = experiment.configurations, best_of(experiment.configurations)
    columns = [column for column in columns_of(experiment) if column.is_brief]
    lines = [[label_of(row), *(column.cell(row) for column in columns)] for row in rows]
    heads = [", ".join(axis_heads(experiment)) or "preset", *(column.head for column in columns)]
    lead = rows.index(best) if best is not None and len(rows) > 1 else None
    parts: list[Any] = [Text(_wrapped(line)) for line in heading(experiment)]
    parts.append(_table(heads, lines, lead))
    parts += [Text(_wrapped(line)) for line in footnotes(experiment)]
    if experiment.effects:
        parts.append(_table(effect_heads(experiment), effect_rows(experiment)))
    if experiment.test:
        parts.append(Text("Test images (choose nothing by these):"))
        parts.append(_table(test_heads(experiment), test_rows(experiment)))
    return Group(*parts)


def label_of(row: ConfigurationNumbers) -> str:
    """The values of a configuration."""
    return ", ".join(shown(value) for value in row.values.values()) or "as it is"


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


def axis_heads(experiment: Experiment) -> list[str]:
    """Of each axis the last part of its name, where that says which it is."""
    axes = list(experiment.sweep.grid)
    short = [axis.rpartition(".")[2] for axis in axes]
    # What backbone.name and head.kind are is said by what stands before.
    short = [
        axis.rpartition(".")[0] if last in {"name", "kind"} else last
        for axis, last in zip(axes, short, strict=True)
    ]
    return [
        (one if one and short.count(one) == 1 else axis).replace("_", " ")
        for axis, one in zip(axes, short, strict=True)
    ]


def footnotes(experiment: Experiment) -> list[str]:
    """What the columns mean, and which row is the best."""
    several = len(experiment.sweep.seeds) > 1
    lines = [
        "error: median over validation images, which are cut from train and not trained on, in "
        "the chosen epoch" + ("; the median over seeds, and their range." if several else "."),
        "epoch to epoch: how much the validation error typically changes from one epoch to the "
        "next in the last third of a run"
        + ("; seed to seed: how much it differs between two seeds." if several else "."),
    ]
    if len(ends := _ends(experiment)) == 1:
        lines.append(f"All runs ended with: {ends[0]}.")
    best = best_of(experiment.configurations)
    if best is None:
        return [*lines, "No run was of any use."]
    chosen = ", ".join(f"{axis} {shown(value)}" for axis, value in best.values.items())
    if len(experiment.configurations) > 1:
        lines.append(f"Best on validation images: {chosen}.")
    if best.score >= 1:
        lines.append(
            f"None does better than a constant answer ({best.score:.2f} times its error): train "
            "for longer."
        )
    return lines


def effect_heads(experiment: Experiment) -> list[str]:
    """Heads of `effect_rows`."""
    unit = "cm" if experiment.unit == METRE else "units"
    return ["all runs with", "runs", f"error {unit}", "error deg", "epoch to epoch"]


def effect_rows(experiment: Experiment) -> list[list[str]]:
    """Each value of each axis, over all runs that have it."""
    metric = experiment.unit == METRE
    return [
        [
            f"{effect.axis} {shown(effect.value)}",
            str(effect.runs),
            _length(effect.position, metric=metric),
            _degrees(effect.rotation_deg),
            _percent_more(effect.position_jump),
        ]
        for effect in experiment.effects
    ]


def test_heads(experiment: Experiment) -> list[str]:
    """Heads of `test_rows`."""
    unit = "cm" if experiment.unit == METRE else "units"
    return ["run or baseline", f"error {unit}", "error deg", "images", "failed"]


def test_rows(experiment: Experiment) -> list[list[str]]:
    """Errors on the test images, by run and baseline."""
    metric = experiment.unit == METRE
    return [
        [
            name,
            length(errors.position, metric=metric),
            degrees(errors.rotation_deg),
            str(errors.images),
            str(errors.failed),
        ]
        for name, errors in experiment.test.items()
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], lead: int | None = None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(heads[0], overflow="fold")
    for head in heads[1:]:
        # A name may be broken where room is short, a number may not.
        table.add_column(head.replace(" ", "\n"), justify="right", no_wrap=True)
    for index, row in enumerate(rows):
        table.add_row(*map(Text, row), style="bold" if index == lead else None)
    return table


def _ends(experiment: Experiment) -> list[str]:
    return list(dict.fromkeys(run.ended for run in experiment.runs))


def _ended(row: ConfigurationNumbers) -> str:
    some = f" ({row.diverged} of {row.runs})" if 0 < row.diverged < row.runs else ""
    return ", ".join(row.ended) + some


def _percent_more(ratio: float | None) -> str:
    """A typical ratio as what it is beyond 1."""
    if ratio is None:
        return NONE
    more = 100 * (ratio - 1)
    return "∞" if math.isinf(more) else f"{more:.1f}%" if more < 9.95 else f"{more:.0f}%"


def _seconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _length(value: float, *, metric: bool) -> str:
    return length(value if math.isfinite(value) else None, metric=metric)


def _degrees(value: float) -> str:
    return degrees(value if math.isfinite(value) else None)


def _wrapped(line: str) -> str:
    return textwrap.fill(line, _WIDTH, subsequent_indent="  ")
