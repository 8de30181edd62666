"""The page's tables as HTML."""

from __future__ import annotations

from html import escape
from typing import Any

from relocalize.evaluation.metrics import AREAS_CM_DEG, LEAD_THRESHOLD
from relocalize.evaluation.report.accuracy_table import AccuracyTable, Cell
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.table import (
    NONE,
    degrees,
    length,
    p_value,
    percent,
    threshold_label,
)


def html_table(results: Results) -> str:
    """The table as HTML, intervals small below their numbers."""
    table = AccuracyTable.of(results)
    heads = "".join(f"<th>{escape(what)}<br>{escape(unit)}</th>" for what, unit in table.heads)
    rows = "".join(
        f'<tr{" class=lead" if name == results.lead else ""}><th scope="row">'
        f"{results.lines[name].html}{escape(name)}</th>" + "".join(map(_html_cell, cells)) + "</tr>"
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
            cells += [percent(area.get(key)) for key in AREAS_CM_DEG]
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


def html_beside(results: Results) -> str:
    """The same localizers on another split, where one was put beside this one."""
    other = results.raw["beside"]
    if not other:
        return ""
    metric = results.is_metric

    def cells(row: dict[str, Any] | None) -> str:
        if row is None:
            return f"<td>{NONE}</td>" * (3 if metric else 2)
        shown = [length(row["median_position"], metric=metric), degrees(row["median_rotation_deg"])]
        if metric:
            shown.append(percent(row["recall"][LEAD_THRESHOLD.key]))
        return "".join(f"<td>{escape(one)}</td>" for one in shown)

    lead = threshold_label(LEAD_THRESHOLD)
    heads = [f"median {results.length_unit}", "median °", *([f"{lead} %"] if metric else [])]
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{cells(results.row(name))}'
        f"{cells(other['localizers'].get(name))}</tr>"
        for name in results.names
    )
    near = other["nearest_train_view"]
    return (
        f"<h3>Beside it, split {escape(str(other['split']))}</h3>"
        f'<p class="soft">Rule {escape(str(other["rule"]))}: the nearest train view is '
        f"{results.length(near['median_distance'])} and {degrees(near['median_angle_deg'])}° away "
        "(medians). What is better there than here is what nearness flatters.</p>"
        '<div class="scroll"><table class="differences"><thead><tr><th></th>'
        f'<th colspan="{len(heads)}">{escape(results.split)}</th>'
        f'<th colspan="{len(heads)}">{escape(str(other["split"]))}</th></tr>'
        f"<tr><th></th>{head}{head}</tr></thead><tbody>{rows}</tbody></table></div>"
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
        f"<td><span>{escape(value)}</span> <span class=p>{escape(p_value(one['p_holm']))}</span>"
        f"{span}</td>"
    )


def _signed(value: float) -> str:
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{'−' if value < 0 else '+'}{size:.{digits}f}"
