"""An evaluation as a table for the terminal, readable at 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from relocalize.evaluation.metrics import LEAD_THRESHOLD, THRESHOLDS, Threshold
from relocalize.evaluation.names import TRIVIAL
from relocalize.place.folder import METRE

NONE = "–"  # for a number that is infinite or means nothing
_ANSWERED = ("median_position", "median_rotation_deg")
_METRICS = {
    "median_position": "position",
    "median_rotation_deg": "rotation",
    f"recall_{LEAD_THRESHOLD.key}": "5 cm 5°",
}


def results_table(results: dict[str, Any]) -> Group:
    """The rows of `Evaluation.to_json` (or of a stored results file) with what they rest on."""
    metric = results["unit"] == METRE
    exact = results["truth_sigma"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("localizer", no_wrap=True)
    unit = "cm" if metric else "units"
    recall_heads = [threshold_label(one, "\n").replace(" ", "") for one in THRESHOLDS]
    heads = ["fail", f"med.\n{unit}", "med.\ndeg", *(recall_heads if metric else [])]
    for head in (*heads, "ms", "ms\np95", "cpu\nms"):
        table.add_column(head, justify="right", no_wrap=True)
    for name, row in results["localizers"].items():
        recalls = [percent(row["recall"][one.key]) for one in THRESHOLDS] if metric else []
        table.add_row(
            name,
            str(row["failed"]),
            _dim_below(
                length(row["median_position"], metric=metric),
                row["median_position"],
                exact and exact["median_position"],
            ),
            _dim_below(
                degrees(row["median_rotation_deg"]),
                row["median_rotation_deg"],
                exact and exact["median_rotation_deg"],
            ),
            *recalls,
            f"{row['ms_median']:.0f}",
            f"{row['ms_p95']:.0f}",
            f"{row['cpu_ms_median']:.0f}",
        )
    return Group(
        *map(_wrapped, heading(results)),
        table,
        sureness_table(results["localizers"], metric=metric),
        *map(_wrapped, difference_lines(results)),
        *(
            _wrapped(axes_line(name, row, metric=metric))
            for name, row in results["localizers"].items()
            if name not in TRIVIAL
        ),
        *map(_wrapped, beside_lines(results)),
        *map(_wrapped, footnotes(results)),
    )


def sureness_table(rows: dict[str, dict[str, Any]], *, metric: bool) -> Table:
    """Intervals, means, and the numbers of answered images alone, of each row."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    unit = "cm" if metric else "units"
    heads = [f"med. {unit}\n95%", "med. deg\n95%", f"mean\n{unit}", "mean\ndeg"]
    heads += ["area\n5cm5°"] if metric else []
    heads += ["answ.\nn", f"med.\n{unit}", "med.\ndeg"]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for name, row in rows.items():
        answered = row["answered"] or dict.fromkeys(_ANSWERED, None) | {"n": 0}
        intervals = row["intervals"]
        table.add_row(
            name,
            _interval(intervals["median_position"], lambda one: length(one, metric=metric)),
            _interval(intervals["median_rotation_deg"], degrees),
            length(row["mean_position"], metric=metric),
            degrees(row["mean_rotation_deg"]),
            *([percent(row["recall_curve"]["area"]["5cm_5deg"])] if metric else []),
            str(answered["n"]),
            length(answered["median_position"], metric=metric),
            degrees(answered["median_rotation_deg"]),
        )
    return table


def axes_line(name: str, row: dict[str, Any], *, metric: bool) -> str:
    """The medians of a row's errors taken apart."""
    axes = row["axes"]
    along = ", ".join(f"{one} {length(axes[f'median_{one}'], metric=metric)}" for one in "xyz")
    about = ", ".join(
        f"{one} {degrees(axes[f'median_{one}_deg'])}" for one in ("heading", "pitch", "roll")
    )
    return f"{name}, median parts: {along} {'cm' if metric else 'units'}; {about} deg"


def difference_lines(results: dict[str, Any]) -> list[str]:
    """Each row against the next worse one, in words with p-values."""
    rows = results["localizers"]
    order = sorted(rows, key=lambda name: _or_infinite(rows[name]["median_position"]))
    found = {(one["a"], one["b"], one["metric"]): one for one in results["paired"]}
    lines = []
    for better, worse in pairwise(order):
        said = []
        for metric, word in _METRICS.items():
            one = found.get((better, worse, metric)) or found.get((worse, better, metric))
            if one is not None:
                said.append(f"{word} {p_value(one['p_holm'])}")
        lines.append(f"{better} against {worse}: {', '.join(said)}")
    if lines:
        pieces = results["confidence"]["pieces"]
        lines.append(
            f"p: how often chance makes such a difference ({pieces} pieces of the walk, paired, "
            "corrected for all pairs)"
        )
    return lines


def beside_lines(results: dict[str, Any]) -> list[str]:
    """What the same localizers reach on another split."""
    other = results["beside"]
    if not other:
        return []
    metric = results["unit"] == METRE
    unit = "cm" if metric else "units"
    near = other["nearest_train_view"]
    lines = [
        f"Beside, split {other['split']} ({other['rule']}), nearest train view "
        f"{length(near['median_distance'], metric=metric)} {unit} and "
        f"{near['median_angle_deg']:.1f} deg away:"
    ]
    for name in results["localizers"]:
        row = other["localizers"].get(name)
        if row is not None:
            share = f", {percent(row['recall'][LEAD_THRESHOLD.key])}% in 5 cm 5°" if metric else ""
            lines.append(
                f"  {name}: {length(row['median_position'], metric=metric)} {unit}, "
                f"{degrees(row['median_rotation_deg'])} deg{share}, {row['failed']} failed"
            )
    return lines


def p_value(p: float) -> str:
    """``p = 0.012``."""
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"


def _interval(ends: list[float | None] | None, said: Callable[[float | None], str]) -> str:
    if ends is None:
        return NONE
    low, high = ends
    return f"{said(low)}-{'∞' if high is None else said(high)}" if low is not None else "∞"


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else value


def _dim_below(said: str, value: float | None, bound: float | None) -> Text:
    """Grey where the value is below what the truth itself is exact to."""
    below = value is not None and bound is not None and value < bound
    return Text(said, style="dim" if below else "")


def _wrapped(line: str) -> Text:
    return Text(textwrap.fill(line, 79, subsequent_indent="  "))


def heading(results: dict[str, Any]) -> list[str]:
    """What was evaluated against what, how exact that is, and how far test is from train."""
    images = results["images"]
    aligned = results["aligned"]
    lines = [
        f"Split {results['split']} ({results['rule']}): "
        f"{images['test']} test images, {images['train']} train images",
        f"Truth: {results['truth']}",
        f"How exact: {results['truth_exactness']}",
    ]
    exact = results["truth_sigma"]
    if exact:
        metric = results["unit"] == METRE
        lines.append(
            f"Expected error of the truth: {length(exact['median_position'], metric=metric)} "
            f"{'cm' if metric else 'map units'}, {degrees(exact['median_rotation_deg'])} deg "
            f"(median of {exact['n']} images; {exact['from']}); errors below it are grey"
        )
    else:
        lines.append("Expected error of the truth: not known")
    if aligned:
        lines.append(
            f"Frame: the map was moved onto the truth by a {aligned['method']} "
            f"({aligned['inliers']} of {aligned['images']} agree, scale {aligned['scale']:.5g})"
        )
    lines.append(leakage_line(results))
    return lines


def leakage_line(results: dict[str, Any]) -> str:
    """How near test images are to train images."""
    near, metric = results["nearest_train_view"], results["unit"] == METRE
    unit = "cm" if metric else "map units"
    away = ""
    if near["median_seconds"] is not None:
        away = f"; nearest in time: {near['median_seconds']:.2g} s"
    elif near["median_frames"] is not None:
        away = f"; nearest in time: {near['median_frames']:.0f} frames"
    return (
        f"Nearest train view of a test image: {length(near['median_distance'], metric=metric)} "
        f"{unit} and {near['median_angle_deg']:.1f} deg away (median){away}"
    )


def footnotes(results: dict[str, Any]) -> list[str]:
    """What the columns mean."""
    both = (
        "Failures count as infinite errors, but in the columns from answ. on, which leave them out."
    )
    if results["unit"] == METRE:
        return [
            "2cm 2° etc.: % of test images within both errors; area: below the curve of these up "
            "to 5 cm and 5°, in %.",
            both,
        ]
    return [
        f"One unit: 1/{results['extent']:.3g} of the train cameras' extent; no recall without "
        "metres (a length for `relocalize map --scale`, or --truth).",
        both,
    ]


def threshold_label(threshold: Threshold, between: str = " ") -> str:
    """``5 cm 5°``, with metres from 1 m on."""
    metres = threshold.position_m
    size = f"{metres:g} m" if metres >= 1 else f"{100 * metres:g} cm"
    return f"{size}{between}{threshold.rotation_deg:g}°"


def length(value: float | None, *, metric: bool) -> str:
    """A length in cm (of metres), or in map units, or a dash."""
    if value is None:
        return NONE
    return _three_digits(100 * value) if metric else f"{value:.3g}"


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
