"""Scored estimates as a table for the terminal, readable at 80 columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from relocalize.evaluation.metrics import THRESHOLDS
from relocalize.evaluation.table import (
    axes_line,
    degrees,
    difference_lines,
    length,
    percent,
    sureness_table,
    threshold_label,
)
from relocalize.place.folder import METRE

_LONGEST_NAME = 13  # with the other columns, 80 characters


def score_table(result: dict[str, Any]) -> Group:
    """The numbers of `Score.to_json` with what they rest on."""
    metric = result["unit"] == METRE
    names = _names([one["estimates"] for one in (result, *result["against"])])
    rows = {names[one["estimates"]]: one for one in (result, *result["against"])}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    unit = "cm" if metric else "units"
    recalls = [threshold_label(one, "\n").replace(" ", "") for one in THRESHOLDS] if metric else []
    for head in ("n", "fail", f"med.\n{unit}", "med.\ndeg", *recalls):
        table.add_column(head, justify="right", no_wrap=True)
    for name, row in rows.items():
        table.add_row(
            name,
            str(row["n"]),
            str(row["failed"]),
            length(row["median_position"], metric=metric),
            degrees(row["median_rotation_deg"]),
            *([percent(row["recall"][one.key]) for one in THRESHOLDS] if metric else []),
        )
    paired = [{**one, "a": names[one["a"]], "b": names[one["b"]]} for one in result["paired"]]
    named = {"localizers": rows, "confidence": result["confidence"], "paired": paired}
    return Group(
        *map(_wrapped, _heading(result, names)),
        table,
        sureness_table(rows, metric=metric),
        *map(_wrapped, difference_lines(named)),
        *(_wrapped(axes_line(name, row, metric=metric)) for name, row in rows.items()),
        *map(_wrapped, _footnotes(result)),
    )


def _heading(result: dict[str, Any], names: dict[str, str]) -> list[str]:
    lines = [f"Truth: {result['truth']}, {result['n']} images, unit {result['unit']}"]
    for one in (result, *result["against"]):
        said = [
            f"{one['n'] - one['failed']} of {one['n']} images answered",
            f"{one['strangers']} estimates of other images" if one["strangers"] else "",
            f"{one['ambiguous']} names could mean several" if one["ambiguous"] else "",
            f"{one['left_out']} rows are no pose" if one["left_out"] else "",
        ]
        lines.append(f"{names[one['estimates']]}: {', '.join(filter(None, said))}")
        if one["aligned"]:
            found = one["aligned"]
            lines.append(
                f"  laid over the truth by a {found['method']} ({found['inliers']} of "
                f"{found['images']} agree, scale {found['scale']:.5g}), which flatters"
            )
    return lines


def _footnotes(result: dict[str, Any]) -> list[str]:
    lines = [
        "Failures (images of the truth without an estimate) count as infinite errors, but in the "
        "columns from answ. on, which leave them out."
    ]
    if result["unit"] != METRE:
        lines.append("No recall: the truth's unit is not known; --unit metre states it.")
    if result["intervals"]["median_position"] is None:
        lines.append(
            f"No intervals: {result['n']} images are {result['confidence']['pieces']} pieces of a "
            "walk, too few to say."
        )
    return lines


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Short names of rows by path: the file's, without what the names of all begin with."""
    stems = [PurePath(path).stem for path in paths]
    first, last = min(stems), max(stems)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    shared = re.sub(r"[^_-]*$", "", first[:same])
    stems = [stem.removeprefix(shared) for stem in stems]
    names = {}
    for number, (path, stem) in enumerate(zip(paths, stems, strict=True), start=1):
        name = stem if stems.count(stem) == 1 else f"{number} {stem}"
        names[path] = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    if len(set(names.values())) < len(paths):
        return {path: f"{number} …" for number, path in enumerate(paths, start=1)}
    return names


def _wrapped(line: str) -> Text:
    return Text(textwrap.fill(line, 79, subsequent_indent="  "))
