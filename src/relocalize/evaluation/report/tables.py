"""The report's tables, as values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from relocalize.evaluation.metrics import AREAS_CM_DEG, LEAD_THRESHOLD, THRESHOLDS
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.table import NONE, degrees, p_value, percent, threshold_label
from relocalize.plotting.table import Cell, Table

_RECALL = f"recall_{LEAD_THRESHOLD.key}"


def accuracy_table(results: Results) -> Table:
    """The errors of all compared localizers."""
    unit, thresholds = results.length_unit, THRESHOLDS if results.is_metric else ()
    sigma = results.raw["truth_sigma"]
    rows = []
    for name in results.names:
        row = results.row(name)
        intervals = row["intervals"]
        cells = [Cell(str(row["failed"]))]
        for key, said in (("median_position", results.number), ("median_rotation_deg", degrees)):
            faint = bool(sigma) and row[key] is not None and row[key] < sigma[key]
            cells.append(Cell(said(row[key]), _span(intervals[key], said), is_faint=faint))
        for one in thresholds:
            share = row["recall"][one.key]
            span = _span(intervals["recall"].get(one.key), percent)
            cells.append(Cell(percent(share), span, share=share))
        cells += [Cell(f"{row[key]:.0f}") for key in ("ms_median", "ms_p95", "cpu_ms_median")]
        rows.append((name, cells))
    heads = [
        ("", ""),
        ("failed", ""),
        ("median", unit),
        ("median", "°"),
        *((threshold_label(one), "%") for one in thresholds),
        ("median", "ms"),
        ("95th", "ms"),
        ("CPU", "ms"),
    ]
    return Table.of(heads, rows, results.lead)


def more_table(results: Results) -> Table:
    """What the accuracy table has no room for: means, errors by axis, and failures left out."""
    unit, areas = results.length_unit, AREAS_CM_DEG if results.is_metric else []
    rows = []
    for name in results.names:
        row = results.row(name)
        axes, answered = row["axes"] or {}, row["answered"] or {}
        area = (row["recall_curve"] or {}).get("area", {})
        cells = [
            results.number(row["mean_position"]),
            degrees(row["mean_rotation_deg"]),
            *(results.number(axes.get(f"median_{axis}")) for axis in "xyz"),
            *(degrees(axes.get(f"median_{part}_deg")) for part in ("heading", "pitch", "roll")),
            *(percent(area.get(key)) for key in areas),
            results.number(answered.get("median_position")),
            degrees(answered.get("median_rotation_deg")),
        ]
        rows.append((name, cells))
    heads = [
        ("", ""),
        ("mean", unit),
        ("mean", "°"),
        *((f"along {axis}", unit) for axis in "xyz"),
        *((part, "°") for part in ("heading", "pitch", "roll")),
        *(("area to", key.replace("cm_", " cm ").replace("deg", "°, %")) for key in areas),
        ("median", f"{unit}, answered"),
        ("median", "°, answered"),
    ]
    return Table.of(heads, rows)


def other_split_table(results: Results) -> Table | None:
    """The same localizers on this split and on another, where one was compared."""
    other = results.raw["beside"]
    if not other:
        return None
    lead = threshold_label(LEAD_THRESHOLD)
    heads = [f"median {results.length_unit}", "median °", *[f"{lead} %"] * results.is_metric]

    def cells(row: dict[str, Any] | None) -> list[str]:
        if row is None:
            return [NONE] * len(heads)
        shown = [results.number(row["median_position"]), degrees(row["median_rotation_deg"])]
        return shown + [percent(row["recall"][LEAD_THRESHOLD.key])] * results.is_metric

    splits = (results.split, str(other["split"]))
    return Table.of(
        [("", ""), *((split, head) for split in splits for head in heads)],
        [
            (name, [*cells(results.row(name)), *cells(other["localizers"].get(name))])
            for name in results.names
        ],
    )


def difference_tables(results: Results) -> tuple[Table, Table]:
    """Which differences between two localizers are more than chance: the lead's, and others."""
    pairs: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for one in results.raw["paired"]:
        pairs.setdefault((one["a"], one["b"]), {})[one["metric"]] = one
    heads = {
        "median_position": f"median position, {results.length_unit}",
        "median_rotation_deg": "median rotation, °",
    }
    if results.is_metric:
        heads[_RECALL] = f"within {threshold_label(LEAD_THRESHOLD)}, %"
    ours: list[tuple[str, list[Cell]]] = []
    others: list[tuple[str, list[Cell]]] = []
    for (a, b), found in pairs.items():
        first, second = (a, b) if a == results.lead else (b, a)
        cells = [_difference(found.get(metric), results, turned=first != a) for metric in heads]
        (ours if results.lead in (a, b) else others).append((f"{first} instead of {second}", cells))
    columns = [("",), *((head,) for head in heads.values())]
    return Table.of(columns, ours), Table.of(columns, others)


def _difference(one: dict[str, Any] | None, results: Results, *, turned: bool) -> Cell:
    if one is None:
        return Cell(NONE)
    factors = {"median_position": results.factor, "median_rotation_deg": 1.0}
    factor = factors.get(one["metric"], 100.0) * (-1 if turned else 1)
    ends = [_signed(end, factor, "∞") for end in one["interval"] or ()]
    return Cell(
        _signed(one["difference"], factor, NONE),
        " to ".join(ends[::-1] if turned else ends),
        p_value(one["p_holm"]),
    )


def _signed(value: float | None, factor: float, otherwise: str) -> str:
    if value is None:
        return otherwise
    value *= factor
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{'−' if value < 0 else '+'}{size:.{digits}f}"


def _span(ends: Sequence[float | None] | None, said: Callable[[float | None], str]) -> str:
    """An interval in the words of its number; an end that is infinite is a sign."""
    return "–".join("∞" if end is None else said(end) for end in ends or ())


# -- for papers -------------------------------------------------------------------------------

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "°": r"$^\circ$", "–": "--", "∞": r"$\infty$", "†": r"$^\dagger$",
}  # fmt: skip


def markdown_table(results: Results) -> str:
    """The accuracy table in Markdown, with intervals; what it says in one line below."""
    table = accuracy_table(results)
    heads = ["localizer", *(" ".join(head).strip() for head in table.heads[1:])]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * len(heads[1:])]
    for name, cells in table.rows:
        written = [_marked(cell) + (f" ({cell.small})" if cell.small else "") for cell in cells]
        lines.append(f"| {' | '.join([name.replace('|', chr(92) + '|'), *written])} |")
    return "\n".join([*lines, "", _caption(results, table)]) + "\n"


def latex_table(results: Results) -> str:
    """The table in LaTeX, for ``booktabs``, across both columns of a page; intervals small."""
    table = accuracy_table(results)

    def row(cells: Sequence[str]) -> str:
        return f"    {' & '.join(cells)} \\\\"

    lines = [
        r"\begin{table*}",
        r"  \centering",
        rf"  \caption{{{_latex(_caption(results, table))}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(table.heads) - 1)}}}",
        r"    \toprule",
        *(row([_latex(head[line]) for head in table.heads]) for line in range(2)),
        r"    \midrule",
    ]
    for name, cells in table.rows:
        lines.append(row([_latex(name), *(_latex(_marked(cell)) for cell in cells)]))
        if any(cell.small for cell in cells):
            small = [rf"\scriptsize {_latex(one.small)}" if one.small else "" for one in cells]
            lines.append(row(["", *small]))
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def _marked(cell: Cell) -> str:
    return cell.text + "†" * cell.is_faint


def _caption(results: Results, table: Table) -> str:
    """What the table shows, in plain words."""
    images = results.raw["images"]
    words = [
        f"{images['test']} test images of split {results.split}, {images['train']} train images. "
        "Failures count as infinite errors.",
        f"Truth: {results.raw['truth']}.",
    ]
    if any(cell.small for cell in table.cells):
        words.append("Small or in brackets: 95% intervals.")
    if results.is_metric:
        words.append("Under a distance and an angle: % of images with both errors within.")
    if any(cell.is_faint for cell in table.cells):
        words.append("† below what the truth itself is off.")
    return " ".join(words)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
