"""What a report says in words: what was measured, and how it was made."""

from __future__ import annotations

from typing import Any

from relocalize.evaluation.metrics import LEAD_THRESHOLD
from relocalize.evaluation.names import BASELINES, RESULTS, STRUCTURE, TRIVIAL
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.table import NONE, degrees, percent, threshold_label
from relocalize.place import Place

Facts = list[tuple[str, str]]
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


def measured(place: Place, results: Results) -> Facts:
    """What was evaluated against what."""
    raw = results.raw
    images, aligned, sigma = raw["images"], raw["aligned"], raw["truth_sigma"]
    scored = f"; {images['not_scored']} have no true pose" if images["not_scored"] else ""
    own_error = []
    if sigma:
        words = (
            f"{results.length(sigma['median_position'])}, "
            f"{degrees(sigma['median_rotation_deg'])}° (median; {sigma['from']}). Errors below "
            "that say nothing and are grey."
        )
        own_error = [("Truth's own error", words)]
    frame = "truth and map share one"
    unit = f"{raw['unit']} ({place.frame.scale_from or 'nothing fixed the scale'})"
    if aligned:
        frame = (
            f"the map was moved onto the truth by a {aligned['method']}: {aligned['inliers']} of "
            f"{aligned['images']} agree, scale {aligned['scale']:.5g}"
        )
        unit = f"{raw['unit']}, of the truth"
    near = raw["nearest_train_view"]
    in_time = ""
    if near["median_seconds"] is not None:
        in_time = f", in time {near['median_seconds']:.1f} s"
    elif near["median_frames"] is not None:
        in_time = f", in time {near['median_frames']:.0f} frames"
    leakage = f"the nearest train view of a test image is {away(results, near)}{in_time} (medians)"
    return [
        (
            "Images",
            f"{images['test']} test, {images['train']} train (split {results.split}, "
            f"rule {raw['rule']}){scored}",
        ),
        ("Truth", raw["truth"]),
        ("How exact", raw["truth_exactness"]),
        *own_error,
        ("Frame", frame),
        ("Unit", unit),
        ("Leakage", leakage),
    ]


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


def made(results: Results) -> Facts:
    """Versions, seeds and times."""
    how, confidence = results.raw["made"], results.raw["confidence"]
    localizers = how["localizers"]
    seeds = how["seeds"] | {
        f"training of {name}": found["settings"]["seed"]
        for name, found in localizers.items()
        if "seed" in found.get("settings", {})
    }
    trainings = [
        f"{name} {found['training']['epochs']} epochs of {found['training']['images']} images in "
        f"{found['training']['seconds'] / 60:.1f} minutes on {found['training']['device']}"
        for name, found in localizers.items()
        if "training" in found
    ]
    fitting = {name: f"{value:.1f} s" for name, value in how["fit_seconds"].items()}
    return [
        ("Finished", how["finished"]),
        ("With", f"{_listed(how['with'])}; Python {how['python']}, {how['machine']}"),
        ("Split", f"{how['split']['rule']}: {_listed(how['split']['settings']) or NONE}"),
        ("Seeds", _listed(seeds)),
        (
            "Intervals",
            f"{100 * confidence['level']:.0f}% by bootstrap, {confidence['samples']} draws of "
            f"{confidence['pieces']} pieces of consecutive images",
        ),
        ("Fitting", f"{_listed(fitting)} (0 where it was there already)"),
        *([("Training", "; ".join(trainings))] if trainings else []),
        ("All numbers", f"{RESULTS} beside this page has every image"),
    ]


def settings(results: Results) -> dict[str, Facts]:
    """Every setting of each localizer that has any, by dotted name."""
    found = {name: _flat(one) for name, one in results.raw["made"]["localizers"].items()}
    return {name: rows for name, rows in found.items() if rows}


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _flat(value: dict[str, Any], before: str = "") -> Facts:
    rows: Facts = []
    for key, one in value.items():
        if isinstance(one, dict):
            rows += _flat(one, f"{before}{key}.")
        else:
            rows.append((f"{before}{key}", NONE if one is None else str(one)))
    return rows
