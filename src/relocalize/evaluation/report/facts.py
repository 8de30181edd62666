"""What a report says in words: its summary, and how its localizers were made."""

from __future__ import annotations

from typing import Any

from relocalize.evaluation.metrics import LEAD_THRESHOLD
from relocalize.evaluation.names import BASELINES, STRUCTURE, TRIVIAL
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.table import NONE, degrees, percent, threshold_label

_MEANING = {
    "constant": "always answering the mean train pose",
    "retrieval": "answering the pose of the most similar train photo",
}


def summary(results: Results) -> str:
    """The whole in a few sentences."""
    lead, row = results.lead, results.row(results.lead)
    if row["median_position"] is None:
        words = f"{lead} failed on {row['failed']} of {row['n']} photos."
    else:
        # The best of many looks better than it is.
        trained = sum(name not in BASELINES for name in results.names)
        chosen = f", the best of {trained} on these photos," if trained > 1 else ""
        words = (
            f"Half of the {row['n']} photos are localized by {lead}{chosen} to within "
            f"{results.length(row['median_position'])}, and half to within "
            f"{degrees(row['median_rotation_deg'])}°; {row['failed'] or 'none'} failed."
        )
    medians = {name: results.row(name)["median_position"] for name in results.names if name != lead}
    beaten = [
        f"{results.length(medians[name])} by {_MEANING[name]}"
        for name in TRIVIAL
        if medians.get(name) is not None
    ]
    if beaten:
        words += f" Without localizing, it would be {' and '.join(beaten)}."
    if STRUCTURE in medians:
        failed = f"failed on {results.row(STRUCTURE)['failed']}"
        reached = f"reaches {results.length(medians[STRUCTURE])}"
        words += (
            f" Matching with the map’s points ({STRUCTURE}) "
            f"{failed if medians[STRUCTURE] is None else reached}."
        )
    return words


def tiles(results: Results) -> list[tuple[str, str, str]]:
    """The few numbers to see first: each with its unit and what it is."""
    row, lead = results.row(results.lead), results.lead
    position = (results.number(row["median_position"]), results.length_unit)
    rotation = (degrees(row["median_rotation_deg"]), "°")
    if row["median_position"] is None:  # half failed
        position = rotation = ("∞", "")
    shown = [
        (*position, f"median position error, {lead}"),
        (*rotation, "median rotation error"),
        (str(row["failed"]), f"of {row['n']}", "not localized"),
        (f"{row['ms_median']:.0f}", "ms", "per photo, median"),
    ]
    if results.is_metric:
        share = percent(row["recall"][LEAD_THRESHOLD.key])
        shown.insert(2, (share, "%", f"within {threshold_label(LEAD_THRESHOLD, ' and ')}"))
    return shown


def away(results: Results, near: dict[str, Any]) -> str:
    """How far nearest train views are."""
    return (
        f"{results.length(near['median_distance'])} and {degrees(near['median_angle_deg'])}° away"
    )


def nearest_view(results: Results, row: dict[str, Any]) -> str:
    """How far the nearest train view of an image is."""
    return (
        f"nearest train view {results.length(row['nearest_train_distance'])}, "
        f"{degrees(row['nearest_train_angle_deg'])}° away"
    )


def settings(results: Results) -> dict[str, list[tuple[str, Any]]]:
    """Every setting of each localizer that has any, by dotted name."""
    found = {name: _flat(one) for name, one in results.raw["made"]["localizers"].items()}
    return {name: rows for name, rows in found.items() if rows}


def _flat(value: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, one in value.items():
        if isinstance(one, dict):
            rows += _flat(one, f"{before}{key}.")
        else:
            rows.append((f"{before}{key}", NONE if one is None else one))
    return rows
