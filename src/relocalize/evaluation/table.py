"""Evaluations and scores as tables, for the terminal (80 columns) and for notebooks."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from os.path import commonprefix
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.jupyter import JupyterMixin
from rich.text import Text

from relocalize.evaluation.metrics import LEAD_THRESHOLD, THRESHOLDS, PoseErrors, Threshold, finite
from relocalize.evaluation.names import TRIVIAL
from relocalize.geometry.transforms import FloatArray
from relocalize.place.folder import METRE
from relocalize.plotting.table import Cell, Table

NONE = "–"  # for a number that is infinite or means nothing
_METRICS = {
    "median_position": "position",
    "median_rotation_deg": "rotation",
    f"recall_{LEAD_THRESHOLD.key}": "5 cm 5°",
}
_LONGEST_NAME = 13  # with the other columns, 80 characters
_FAILURES = "count as infinite errors, except in the columns from answ. on."


class Summary(JupyterMixin, Group):
    """What results say: printed by rich, shown by notebooks."""


def results_table(results: dict[str, Any]) -> Summary:
    """The rows of `Evaluation.to_json` (or of a stored results file) with what they rest on."""
    metric, rows = results["unit"] == METRE, results["localizers"]
    errors = _columns(metric=metric)
    times = [("ms", ("ms_median",)), ("ms\np95", ("ms_p95",)), ("cpu\nms", ("cpu_ms_median",))]
    exact = results["truth_sigma"] or {}
    notes = [
        *difference_lines(results),
        *(_axes_line(name, rows[name], metric=metric) for name in rows if name not in TRIVIAL),
        *_other_split_lines(results),
        *(f"{name}: no row: {why}" for name, why in results.get("missing", {}).items()),
        *_footnotes(results),
    ]
    return Summary(
        *map(wrapped, _heading(results)),
        _grid("localizer", rows, [*errors, *((*one, _whole) for one in times)], exact),
        _grid("", rows, _sureness_columns(metric=metric)),
        *map(wrapped, notes),
    )


def score_table(result: dict[str, Any]) -> Summary:
    """The numbers of `Score.to_json` with what they rest on."""
    metric, scored = result["unit"] == METRE, [result, *result["against"]]
    names = _names([one["estimates"] for one in scored])
    rows = {names[one["estimates"]]: one for one in scored}
    paired = [{**one, "a": names[one["a"]], "b": names[one["b"]]} for one in result["paired"]]
    named = {"localizers": rows, "confidence": result["confidence"], "paired": paired}
    notes = [
        *difference_lines(named),
        *(_axes_line(name, row, metric=metric) for name, row in rows.items()),
        *_score_footnotes(result),
    ]
    return Summary(
        *map(wrapped, _score_heading(result, rows)),
        _grid("", rows, [("n", ("n",), _whole), *_columns(metric=metric)]),
        _grid("", rows, _sureness_columns(metric=metric)),
        *map(wrapped, notes),
    )


def short_scores(errors: dict[str, PoseErrors], *, metric: bool) -> str:
    """Median errors by name, in one line."""

    def median(values: FloatArray) -> float | None:
        return finite(float(np.median(values)))

    return ", ".join(
        f"{name} {with_unit(median(one.position), metric=metric)} "
        f"{degrees(median(one.rotation_deg))}°"
        for name, one in errors.items()
    )


# The head of a column, the keys that lead to its value in a row of results, and how it is said.
_Column = tuple[str, tuple[str, ...], Callable[[Any], str]]


def _columns(*, metric: bool) -> list[_Column]:
    return [
        ("fail", ("failed",), _whole),
        (f"med.\n{length_unit(metric=metric)}", ("median_position",), _length(metric=metric)),
        ("med.\ndeg", ("median_rotation_deg",), degrees),
        *(
            (threshold_label(one, "\n").replace(" ", ""), ("recall", one.key), percent)
            for one in THRESHOLDS
            if metric
        ),
    ]


def _sureness_columns(*, metric: bool) -> list[_Column]:
    """Intervals, means, and the numbers of answered images alone."""
    unit, said = length_unit(metric=metric), _length(metric=metric)
    area: list[_Column] = [("area\n5cm5°", ("recall_curve", "area", "5cm_5deg"), percent)]
    return [
        (f"med. {unit}\n95%", ("intervals", "median_position"), partial(_interval, said)),
        ("med. deg\n95%", ("intervals", "median_rotation_deg"), partial(_interval, degrees)),
        (f"mean\n{unit}", ("mean_position",), said),
        ("mean\ndeg", ("mean_rotation_deg",), degrees),
        *(area if metric else []),
        ("answ.\nn", ("answered", "n"), _whole),
        (f"med.\n{unit}", ("answered", "median_position"), said),
        ("med.\ndeg", ("answered", "median_rotation_deg"), degrees),
    ]


def _grid(
    corner: str,
    rows: dict[str, dict[str, Any]],
    columns: Sequence[_Column],
    exact: Mapping[str, float] = MappingProxyType({}),
) -> RenderableType:
    """Rows by name; dim is what is below what the truth itself is ``exact`` to."""

    def cell(row: dict[str, Any], column: _Column) -> Cell:
        _, keys, said = column
        value: Any = row
        for key in keys:
            value = value and value[key]
        bound = exact.get(keys[0])
        below = bound is not None and value is not None and value < bound
        return Cell(said(value), is_faint=below)

    heads = [(corner,), *(head.split("\n") for head, _, _ in columns)]
    cells = [(name, [cell(row, one) for one in columns]) for name, row in rows.items()]
    return Table.of(heads, cells).for_terminal(gap=1)


def _whole(value: float | None) -> str:
    return f"{value or 0:.0f}"


def _length(*, metric: bool) -> Callable[[float | None], str]:
    return partial(length, metric=metric)


def _axes_line(name: str, row: dict[str, Any], *, metric: bool) -> str:
    """The medians of a row's errors taken apart."""
    axes = row["axes"]
    along = ", ".join(f"{one} {length(axes[f'median_{one}'], metric=metric)}" for one in "xyz")
    about = ", ".join(
        f"{one} {degrees(axes[f'median_{one}_deg'])}" for one in ("heading", "pitch", "roll")
    )
    return f"{name}, median parts: {along} {length_unit(metric=metric)}; {about} deg"


def difference_lines(results: dict[str, Any]) -> list[str]:
    """Each row against the next worse one, in words with p-values."""
    rows = results["localizers"]

    def median(name: str) -> float:
        value = rows[name]["median_position"]
        return math.inf if value is None else value

    found = {(one["a"], one["b"], one["metric"]): one for one in results["paired"]}
    lines = []
    for better, worse in pairwise(sorted(rows, key=median)):
        said = []
        for metric, word in _METRICS.items():
            one = found.get((better, worse, metric)) or found.get((worse, better, metric))
            if one is not None:
                said.append(f"{word} {p_value(one['p_holm'])}")
        lines.append(f"{better} against {worse}: {', '.join(said)}")
    if lines:
        lines.append(
            "p: probability of such a difference by chance "
            f"({results['confidence']['pieces']} clusters of images, paired, corrected for all "
            "pairs)"
        )
    return lines


def _other_split_lines(results: dict[str, Any]) -> list[str]:
    """What the same localizers reach on another split."""
    other = results["beside"]
    if not other:
        return []
    metric, near = results["unit"] == METRE, other["nearest_train_view"]
    lines = [
        f"For comparison, split {other['split']} ({other['rule']}), nearest train view "
        f"{with_unit(near['median_distance'], metric=metric)} and "
        f"{near['median_angle_deg']:.1f} deg away:"
    ]
    for name in filter(other["localizers"].get, results["localizers"]):
        row = other["localizers"][name]
        share = f", {percent(row['recall'][LEAD_THRESHOLD.key])}% in 5 cm 5°" if metric else ""
        lines.append(
            f"  {name}: {with_unit(row['median_position'], metric=metric)}, "
            f"{degrees(row['median_rotation_deg'])} deg{share}, {row['failed']} failed"
        )
    return lines


def _heading(results: dict[str, Any]) -> list[str]:
    """What was evaluated against what, how exact that is, and how far test is from train."""
    images, aligned, exact = results["images"], results["aligned"], results["truth_sigma"]
    metric, near = results["unit"] == METRE, results["nearest_train_view"]
    lines = [
        f"Split {results['split']} ({results['rule']}): "
        f"{images['test']} test images, {images['train']} train images",
        f"Truth: {results['truth']}",
        f"How exact: {results['truth_exactness']}",
    ]
    if exact:
        lines.append(
            f"Expected error of the truth: {with_unit(exact['median_position'], metric=metric)}, "
            f"{degrees(exact['median_rotation_deg'])} deg "
            f"(median of {exact['n']} images; {exact['from']}); errors below it are grey"
        )
    else:
        lines.append("Expected error of the truth: not known")
    if aligned:
        lines.append(f"Frame: the map was aligned with the truth by a {_fit(aligned)}")
    away = ""
    if near["median_seconds"] is not None:
        away = f"; nearest in time: {near['median_seconds']:.2g} s"
    elif near["median_frames"] is not None:
        away = f"; nearest in time: {near['median_frames']:.0f} frames"
    lines.append(
        f"Nearest train view of a test image: {with_unit(near['median_distance'], metric=metric)} "
        f"and {near['median_angle_deg']:.1f} deg away (median){away}"
    )
    return lines


def _footnotes(results: dict[str, Any]) -> list[str]:
    """What the columns mean."""
    if results["unit"] == METRE:
        first = (
            "2cm 2° etc.: % of test images within both errors; area: below the curve of these up "
            "to 5 cm and 5°, in %."
        )
    else:
        first = (
            f"One unit: 1/{results['extent']:.3g} of the train cameras' extent; recall needs "
            "metres: give a length to `relocalize map --scale`, or --truth."
        )
    return [first, f"Failures {_FAILURES}"]


def _score_heading(result: dict[str, Any], rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = [f"Truth: {result['truth']}, {result['n']} images, unit {result['unit']}"]
    for name, one in rows.items():
        said = [
            f"{one['n'] - one['failed']} of {one['n']} images answered",
            f"{one['strangers']} estimates of other images" if one["strangers"] else "",
            f"{one['ambiguous']} names could mean several" if one["ambiguous"] else "",
            f"{one['left_out']} rows are no pose" if one["left_out"] else "",
        ]
        lines.append(f"{name}: {', '.join(filter(None, said))}")
        if one["aligned"]:
            lines.append(f"  laid over the truth by a {_fit(one['aligned'])}, which flatters")
    return lines


def _score_footnotes(result: dict[str, Any]) -> list[str]:
    lines = [f"Failures (images of the truth without an estimate) {_FAILURES}"]
    if result["unit"] != METRE:
        lines.append("No recall: the truth's unit is not known; --unit metre states it.")
    if result["intervals"]["median_position"] is None:
        lines.append(
            f"No intervals: {result['n']} images are {result['confidence']['pieces']} clusters, "
            "too few to say."
        )
    return lines


def _fit(aligned: dict[str, Any]) -> str:
    return (
        f"{aligned['method']} ({aligned['inliers']} of {aligned['images']} agree, "
        f"scale {aligned['scale']:.5g})"
    )


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Short names of rows by path: the file's, without what the names of all begin with."""
    stems = [PurePath(path).stem for path in paths]
    if len(stems) > 1:
        shared = re.sub(r"[^_-]*$", "", commonprefix(stems))  # noqa: RUF071 - names, not paths
        stems = [stem.removeprefix(shared) for stem in stems]
    names = {}
    for number, (path, stem) in enumerate(zip(paths, stems, strict=True), start=1):
        name = stem if stems.count(stem) == 1 else f"{number} {stem}"
        names[path] = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    if len(set(names.values())) < len(paths):
        return {path: f"{number} …" for number, path in enumerate(paths, start=1)}
    return names


def p_value(p: float) -> str:
    """``p = 0.012``."""
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"


def _interval(said: Callable[[float | None], str], ends: list[float | None] | None) -> str:
    if ends is None:
        return NONE
    low, high = ends
    return f"{said(low)}-{'∞' if high is None else said(high)}" if low is not None else "∞"


def wrapped(line: str) -> Text:
    """A line of text for a terminal of 80 columns."""
    return Text(textwrap.fill(line, 79, subsequent_indent="  "))


def threshold_label(threshold: Threshold, between: str = " ") -> str:
    """``5 cm 5°``, with metres from 1 m on."""
    metres = threshold.position_m
    size = f"{metres:g} m" if metres >= 1 else f"{100 * metres:g} cm"
    return f"{size}{between}{threshold.rotation_deg:g}°"


def length_unit(*, metric: bool) -> str:
    """What `length` counts in, short."""
    return "cm" if metric else "units"


def length(value: float | None, *, metric: bool) -> str:
    """A length in cm (of metres), or in map units, or a dash."""
    if value is None:
        return NONE
    return _three_digits(100 * value) if metric else f"{value:.3g}"


def with_unit(value: float | None, *, metric: bool) -> str:
    """`length` and its unit."""
    return f"{length(value, metric=metric)} {length_unit(metric=metric)}"


def degrees(value: float | None) -> str:
    """An angle with as many digits as mean something, or a dash."""
    return NONE if value is None else _three_digits(value)


def percent(share: float | None) -> str:
    """A share of 1 as a percentage with one decimal, or a dash; 100 only when it is all."""
    if share is None:
        return NONE
    return "100" if share == 1 else f"{min(100 * share, 99.9):.1f}"


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
