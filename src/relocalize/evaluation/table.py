"""An evaluation as a table for the terminal, readable at 80 columns."""

from __future__ import annotations

import textwrap
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from relocalize.evaluation.metrics import THRESHOLDS, Threshold
from relocalize.place.folder import METRE

NONE = "–"  # for a number that is infinite or means nothing


def results_table(results: dict[str, Any]) -> Group:
    """The rows of `Evaluation.to_json` (or of a stored results file) with what they rest on."""
    metric = results["unit"] == METRE
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
            length(row["median_position"], metric=metric),
            degrees(row["median_rotation_deg"]),
            *recalls,
            f"{row['ms_median']:.0f}",
            f"{row['ms_p95']:.0f}",
            f"{row['cpu_ms_median']:.0f}",
        )
    lines = [textwrap.fill(line, 79, subsequent_indent="  ") for line in heading(results)]
    return Group(*map(Text, lines), table, Text(footnote(results)))


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
    return (
        f"Nearest train view of a test image: {length(near['median_distance'], metric=metric)} "
        f"{unit} and {near['median_angle_deg']:.1f} deg away (median)"
    )


def footnote(results: dict[str, Any]) -> str:
    """What the columns mean."""
    if results["unit"] == METRE:
        return "2cm 2° etc.: % of test images within both errors. Failures count as infinite."
    return (
        f"One unit: 1/{results['extent']:.3g} of the train cameras' extent; no recall without "
        "metres\n(a length for `relocalize map --scale`, or --truth). Failures count as infinite."
    )


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
