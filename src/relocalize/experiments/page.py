"""The page of a sweep: its table and its learning curves, one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from relocalize.experiments.curves_page import curves
from relocalize.experiments.experiment import Experiment
from relocalize.experiments.names import RESULTS
from relocalize.experiments.page_frame import PLOT, framed
from relocalize.experiments.summary import best_of
from relocalize.experiments.sweep import shown
from relocalize.experiments.table import (
    axis_heads,
    columns_of,
    effect_heads,
    effect_rows,
    footnotes,
    heading,
    test_heads,
    test_rows,
)


def experiment_page(experiment: Experiment, results: dict[str, Any]) -> str:
    """The whole page.

    Args:
        experiment: as far as it is done.
        results: its `Experiment.to_json`.
    """
    name = experiment.sweep.name
    first, *more = heading(experiment)
    parts = [
        f"<h1>{escape(name)}</h1>",
        f"<p>{escape(experiment.sweep.about)}</p>" if experiment.sweep.about else "",
        f'<p class="soft">{escape(first)}. {escape("; ".join(more))}.</p>',
        "<h2>What each configuration came to</h2>",
        _main_table(experiment),
        "".join(f'<p class="soft">{escape(line)}</p>' for line in footnotes(experiment)),
    ]
    if experiment.effects:
        parts += [
            "<h2>What each setting does</h2>",
            '<p class="soft">The median over all runs that have it, whatever the other settings '
            "are.</p>",
            _table(effect_heads(experiment), effect_rows(experiment)),
        ]
    parts += [
        "<h2>Learning curves</h2>",
        '<p class="soft">Learning rates are dotted, on the right axes. A click on a name hides '
        "it, a double click shows it alone.</p>",
        PLOT,
    ]
    if experiment.test:
        parts += [
            "<h2>Test images</h2>",
            '<p class="soft">Looked at once all runs were done; nothing is to be chosen by '
            "these.</p>",
            _table(test_heads(experiment), test_rows(experiment)),
        ]
    parts += ["<h2>How it was made</h2>", _made(results)]
    return framed(f"{name}: {experiment.place}", "\n".join(parts), curves(experiment))


def _main_table(experiment: Experiment) -> str:
    axes, rows = list(experiment.sweep.grid), experiment.configurations
    columns, best = columns_of(experiment), best_of(rows)
    heads = [*axis_heads(experiment), *(column.head for column in columns)]
    lines = [
        [*(shown(row.values[axis]) for axis in axes), *(column.cell(row) for column in columns)]
        for row in rows
    ]
    return _table(heads, lines, rows.index(best) if best is not None and len(rows) > 1 else None)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], lead: int | None = None) -> str:
    broken = [escape(heads[0]), *(escape(one).replace(" ", "<br>") for one in heads[1:])]
    head = "".join(f"<th>{one}</th>" for one in broken)
    body = "".join(
        f"<tr{' class=lead' if index == lead else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for index, row in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _made(results: dict[str, Any]) -> str:
    made = results["made"]
    versions = ", ".join(f"{name} {number}" for name, number in made["with"].items())
    facts = [
        ("Finished", made["finished"]),
        (
            "With",
            f"{versions}; Python {made['python']}, {made['machine']}; {made['engine']} engine",
        ),
        ("Errors on", results["errors_on"]),
        (
            "Numbers",
            f"{RESULTS} beside this page; settings, log and regressor in each run's folder",
        ),
    ]
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts)
    return f"<dl>{rows}</dl>"
