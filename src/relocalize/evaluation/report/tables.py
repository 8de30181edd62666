"""The accuracy table: on the page, and for papers in LaTeX and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from relocalize.evaluation.metrics import LEAD_THRESHOLD, THRESHOLDS
from relocalize.evaluation.recall_curve import area_keys
from relocalize.evaluation.report.colors import lines_of
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.table import NONE, degrees, length, percent, threshold_label

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "°": r"$^\circ$", "–": "--",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        text: as it is written.
        interval: its 95% interval, or None where there is none.
        share: of 1, to be drawn as a bar; None of what is no share.
        is_below_truth: whether it is smaller than what the truth itself is off.
    """

    text: str
    interval: str | None = None
    share: float | None = None
    is_below_truth: bool = False


@dataclass(frozen=True)
class AccuracyTable:
    """The table, the first column being localizers' names.

    Attributes:
        heads: of the other columns: what, and its unit.
        rows: by localizer.
        n: test images.
    """

    heads: tuple[tuple[str, str], ...]
    rows: dict[str, tuple[Cell, ...]]
    n: int

    @classmethod
    def of(cls, results: Results) -> AccuracyTable:
        """All compared localizers."""
        unit, thresholds = results.length_unit, THRESHOLDS if results.is_metric else ()
        return cls(
            heads=(
                ("failed", ""),
                ("median", unit),
                ("median", "°"),
                *((threshold_label(one), "%") for one in thresholds),
                ("median", "ms"),
                ("95th", "ms"),
                ("CPU", "ms"),
            ),
            rows={name: _cells(results, name) for name in results.names},
            n=results.raw["images"]["test"],
        )

    @property
    def has_below_truth(self) -> bool:
        """Whether any number is smaller than the truth's own error."""
        return any(cell.is_below_truth for row in self.rows.values() for cell in row)


def _cells(results: Results, name: str) -> tuple[Cell, ...]:
    row, sigma = results.row(name), results.raw["truth_sigma"]
    intervals = row["intervals"]
    cells = [Cell(str(row["failed"]))]
    for key, shown in (
        ("median_position", lambda value: length(value, metric=results.is_metric)),
        ("median_rotation_deg", degrees),
    ):
        value = row[key]
        below = bool(sigma) and value is not None and value < sigma[key]
        cells.append(Cell(shown(value), _span(intervals[key], shown), None, below))
    if results.is_metric:
        for one in THRESHOLDS:
            share = row["recall"][one.key]
            span = _span(intervals["recall"].get(one.key), percent)
            cells.append(Cell(percent(share), span, share))
    cells += [Cell(f"{row[key]:.0f}") for key in ("ms_median", "ms_p95", "cpu_ms_median")]
    return tuple(cells)


def _span(ends: Sequence[float | None] | None, shown: Any) -> str | None:
    """An interval in the words of its number; an end that is infinite is a sign."""
    if not ends:
        return None
    low, high = ("∞" if end is None else shown(end) for end in ends)
    return f"{low}–{high}"


# -- HTML -------------------------------------------------------------------------------------


def html_table(results: Results) -> str:
    """The table as HTML, intervals small below their numbers."""
    table, lines = AccuracyTable.of(results), lines_of(results.names)
    heads = "".join(f"<th>{escape(what)}<br>{escape(unit)}</th>" for what, unit in table.heads)
    rows = "".join(
        f'<tr{" class=lead" if name == results.lead else ""}><th scope="row">'
        f'<span class="dot" style="background:{lines[name].color}"></span>{escape(name)}</th>'
        + "".join(map(_html_cell, cells))
        + "</tr>"
        for name, cells in table.rows.items()
    )
    return (
        '<div class="scroll"><table id="accuracy"><thead><tr><th></th>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _html_cell(cell: Cell) -> str:
    span = "" if cell.interval is None else f"<small>{escape(cell.interval)}</small>"
    names = []
    style = ""
    if cell.share is not None:
        names.append("recall")
        style = f' style="--share:{100 * cell.share:.1f}%"'
    if cell.is_below_truth:
        names.append("below")
    classes = f' class="{" ".join(names)}"' if names else ""
    return f"<td{classes}{style}><span>{escape(cell.text)}</span>{span}</td>"


def html_more(results: Results) -> str:
    """What the table has no room for: means, errors by axis, and failures left out."""
    unit = results.length_unit
    heads = [
        ("mean", unit),
        ("mean", "°"),
        *((f"along {axis}", unit) for axis in "xyz"),
        *((part, "°") for part in ("heading", "pitch", "roll")),
        *([("area to", "5 cm 5°, %"), ("area to", "50 cm 50°, %")] if results.is_metric else []),
        ("median", f"{unit}, answered"),
        ("median", "°, answered"),
    ]
    rows = []
    for name in results.names:
        row = results.row(name)
        axes, answered = row["axes"] or {}, row["answered"] or {}
        cells = [
            length(row["mean_position"], metric=results.is_metric),
            degrees(row["mean_rotation_deg"]),
            *(length(axes.get(f"median_{axis}"), metric=results.is_metric) for axis in "xyz"),
            *(degrees(axes.get(f"median_{part}_deg")) for part in ("heading", "pitch", "roll")),
        ]
        if results.is_metric:
            area = (row["recall_curve"] or {}).get("area", {})
            cells += [percent(area.get(key)) for key in area_keys()]
        cells += [
            length(answered.get("median_position"), metric=results.is_metric),
            degrees(answered.get("median_rotation_deg")),
        ]
        body = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{body}</tr>')
    head = "".join(f"<th>{escape(what)}<br>{escape(unit)}</th>" for what, unit in heads)
    return (
        f'<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="soft">Along the axes of the truth’s frame and about gravity '
        f"({escape(results.raw['up']['from'])}): medians of the size. Area: under the curve of "
        "photos within t cm and t°, as a share of the whole. Answered: without the failures. "
        f"{NONE}: infinite, as one failure makes a mean.</p>"
    )


def html_differences(results: Results) -> str:
    """Which differences between two localizers are more than chance, the lead's pairs first."""
    pairs: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for one in results.raw["paired"]:
        pairs.setdefault((one["a"], one["b"]), {})[one["metric"]] = one
    if not pairs:
        return ""
    recall = f"recall_{LEAD_THRESHOLD.key}"
    metrics = ["median_position", "median_rotation_deg", *([recall] if results.is_metric else [])]
    heads = {
        "median_position": f"median position, {results.length_unit}",
        "median_rotation_deg": "median rotation, °",
        recall: f"within {threshold_label(LEAD_THRESHOLD)}, %",
    }
    head = "".join(f"<th>{escape(heads[one])}</th>" for one in metrics)

    def rows(chosen: list[tuple[str, str]]) -> str:
        lines = []
        for a, b in chosen:
            first, second = (a, b) if a == results.lead else (b, a)
            cells = "".join(
                _difference_cell(pairs[a, b].get(one), first == a, results) for one in metrics
            )
            lines.append(
                f'<tr><th scope="row">{escape(first)} instead of {escape(second)}</th>{cells}</tr>'
            )
        body = "".join(lines)
        return (
            f'<div class="scroll"><table class="differences"><thead><tr><th></th>{head}</tr>'
            f"</thead><tbody>{body}</tbody></table></div>"
        )

    ours = [pair for pair in pairs if results.lead in pair]
    others = [pair for pair in pairs if results.lead not in pair]
    more = ""
    if others:
        more = f"<details><summary>The other pairs</summary>{rows(others)}</details>"
    return rows(ours) + more


def _difference_cell(one: dict[str, Any] | None, as_stored: bool, results: Results) -> str:
    if one is None:
        return f"<td>{NONE}</td>"
    factor = {"median_position": results.factor, "median_rotation_deg": 1.0}.get(
        one["metric"], 100.0
    )
    sign = factor if as_stored else -factor
    ends = one["interval"]
    span = ""
    if ends:
        shown = ["∞" if end is None else _signed(sign * end) for end in ends]
        span = f"<small>{escape(' to '.join(shown if as_stored else shown[::-1]))}</small>"
    value = NONE if one["difference"] is None else _signed(sign * one["difference"])
    return (
        f"<td><span>{escape(value)}</span> <span class=p>p {escape(p_value(one['p_holm']))}</span>"
        f"{span}</td>"
    )


def p_value(p: float) -> str:
    """A p-value as papers write it."""
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def _signed(value: float) -> str:
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{'−' if value < 0 else '+'}{size:.{digits}f}"


# -- for papers -------------------------------------------------------------------------------


def markdown_table(results: Results) -> str:
    """The table in Markdown, with intervals; what it says in one line below."""
    table = AccuracyTable.of(results)
    heads = ["localizer", *(f"{what} {unit}".strip() for what, unit in table.heads)]
    lines = [
        "| " + " | ".join(heads) + " |",
        "|---|" + "---:|" * len(table.heads),
    ]
    for name, cells in table.rows.items():
        written = [
            cell.text
            + ("†" if cell.is_below_truth else "")
            + ("" if cell.interval is None else f" ({cell.interval})")
            for cell in cells
        ]
        lines.append("| " + " | ".join([name.replace("|", "\\|"), *written]) + " |")
    return "\n".join([*lines, "", caption(results, table)]) + "\n"


def latex_table(results: Results) -> str:
    """The table in LaTeX, for ``booktabs``, across both columns of a page; intervals small."""
    table = AccuracyTable.of(results)
    heads = " & ".join(["", *(_latex(what) for what, _ in table.heads)])
    units = " & ".join(["", *(_latex(unit) for _, unit in table.heads)])
    lines = [
        r"\begin{table*}",
        r"  \centering",
        rf"  \caption{{{_latex(caption(results, table))}}}",
        rf"  \begin{{tabular}}{{l{'r' * len(table.heads)}}}",
        r"    \toprule",
        rf"    {heads} \\",
        rf"    {units} \\",
        r"    \midrule",
    ]
    for name, cells in table.rows.items():
        written = [
            _latex(one.text) + (r"$^\dagger$" if one.is_below_truth else "") for one in cells
        ]
        spans = [rf"\scriptsize {_latex(one.interval)}" if one.interval else "" for one in cells]
        lines.append("    " + " & ".join([_latex(name), *written]) + r" \\")
        if any(spans):
            lines.append("    " + " & ".join(["", *spans]) + r" \\")
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def caption(results: Results, table: AccuracyTable) -> str:
    """What the table shows, in plain words."""
    words = [
        f"{table.n} test images of split {results.split}, {results.raw['images']['train']} train "
        f"images. Failures count as infinite errors.",
        f"Truth: {results.raw['truth']}.",
    ]
    if any(cell.interval for row in table.rows.values() for cell in row):
        words.append("Small or in brackets: 95% intervals.")
    if results.is_metric:
        words.append("Under a distance and an angle: % of images with both errors within.")
    if table.has_below_truth:
        words.append("† below what the truth itself is off.")
    return " ".join(words)


def _latex(text: str) -> str:
    special = {"∞": r"$\infty$", "†": r"$^\dagger$"} | _LATEX
    return "".join(special.get(letter, letter) for letter in text)
