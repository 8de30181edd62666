"""The accuracy table for papers, in LaTeX and Markdown."""

from __future__ import annotations

from relocalize.evaluation.report.accuracy_table import AccuracyTable
from relocalize.evaluation.report.stored import Results

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "°": r"$^\circ$", "–": "--",
}  # fmt: skip


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
    return "\n".join([*lines, "", _caption(results, table)]) + "\n"


def latex_table(results: Results) -> str:
    """The table in LaTeX, for ``booktabs``, across both columns of a page; intervals small."""
    table = AccuracyTable.of(results)
    heads = " & ".join(["", *(_latex(what) for what, _ in table.heads)])
    units = " & ".join(["", *(_latex(unit) for _, unit in table.heads)])
    lines = [
        r"\begin{table*}",
        r"  \centering",
        rf"  \caption{{{_latex(_caption(results, table))}}}",
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


def _caption(results: Results, table: AccuracyTable) -> str:
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
