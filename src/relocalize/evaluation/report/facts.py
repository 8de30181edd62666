"""What a report says in words: what was measured, and how it was made."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from relocalize.evaluation.metrics import LEAD_THRESHOLD
from relocalize.evaluation.names import BASELINES, RESULTS, STRUCTURE, TRIVIAL
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.table import NONE, degrees, length, percent, threshold_label
from relocalize.place import Place


def summary(results: Results) -> str:
    """The whole in a few sentences, as plain text."""
    lead, row = results.lead, results.row(results.lead)
    if row["median_position"] is None:
        first = f"{lead} failed on {row['failed']} of {row['n']} photos."
    else:
        first = (
            f"Half of the {row['n']} photos are localized by {lead}{_chosen(results)} to within "
            f"{results.length(row['median_position'])}, and half to within "
            f"{degrees(row['median_rotation_deg'])}°"
        )
        first += f"; {row['failed']} failed." if row["failed"] else "; none failed."
    against = [name for name in TRIVIAL if name in results.names and name != lead]
    beaten = [
        f"{results.length(results.row(name)['median_position'])} by {_MEANING[name]}"
        for name in against
        if results.row(name)["median_position"] is not None
    ]
    second = f" Without localizing, it would be {' and '.join(beaten)}." if beaten else ""
    return first + second + _by_structure(results)


def _chosen(results: Results) -> str:
    """Of how many the lead is the best: the best of many looks better than it is."""
    trained = sum(name not in BASELINES for name in results.names)
    return f", the best of {trained} on these photos," if trained > 1 else ""


def _by_structure(results: Results) -> str:
    """What matching with the map's points reaches, where the page is about another localizer."""
    if results.lead == STRUCTURE or STRUCTURE not in results.names:
        return ""
    row = results.row(STRUCTURE)
    if row["median_position"] is None:
        return f" Matching with the map’s points ({STRUCTURE}) failed on {row['failed']}."
    return (
        f" Matching with the map’s points ({STRUCTURE}) reaches "
        f"{results.length(row['median_position'])}."
    )


_MEANING = {
    "constant": "always answering the mean train pose",
    "retrieval": "answering the pose of the most similar train photo",
}


def tiles(results: Results) -> str:
    """The few numbers to see first, as HTML."""
    row, lead = results.row(results.lead), results.lead
    position = (
        length(row["median_position"], metric=results.is_metric),
        results.length_unit,
        f"median position error, {lead}",
    )
    rotation = (degrees(row["median_rotation_deg"]), "°", "median rotation error")
    if row["median_position"] is None:  # half failed
        position, rotation = (("∞", "", label) for _, _, label in (position, rotation))
    shown = [position, rotation]
    if results.is_metric:
        share = percent(row["recall"][LEAD_THRESHOLD.key])
        shown.append((share, "%", f"within {threshold_label(LEAD_THRESHOLD, ' and ')}"))
    shown += [
        (str(row["failed"]), f"of {row['n']}", "not localized"),
        (f"{row['ms_median']:.0f}", "ms", "per photo, median"),
    ]
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{escape(value)} <small>{escape(small)}</small></b>'
            f"<span>{escape(label)}</span></div>"
            for value, small, label in shown
        )
        + "</div>"
    )


def measured(place: Place, results: Results) -> str:
    """What was evaluated against what, as HTML."""
    raw = results.raw
    images, aligned, sigma = raw["images"], raw["aligned"], raw["truth_sigma"]
    scored = f"; {images['not_scored']} have no true pose" if images["not_scored"] else ""
    facts = [
        (
            "Images",
            f"{images['test']} test, {images['train']} train (split {results.split}, "
            f"rule {raw['rule']}){scored}",
        ),
        ("Truth", raw["truth"]),
        ("How exact", raw["truth_exactness"]),
    ]
    if sigma:
        facts.append(
            (
                "Truth's own error",
                f"{results.length(sigma['median_position'])}, "
                f"{degrees(sigma['median_rotation_deg'])}° (median; {sigma['from']}). "
                "Errors below that say nothing and are grey.",
            )
        )
    if aligned:
        frame = (
            f"the map was moved onto the truth by a {aligned['method']}: {aligned['inliers']} of "
            f"{aligned['images']} agree, scale {aligned['scale']:.5g}"
        )
        unit = f"{raw['unit']}, of the truth"
    else:
        frame = "truth and map share one"
        unit = f"{raw['unit']} ({place.frame.scale_from or 'nothing fixed the scale'})"
    facts += [("Frame", frame), ("Unit", unit), ("Leakage", _leakage(results))]
    return _list(facts)


def _leakage(results: Results) -> str:
    near = results.raw["nearest_train_view"]
    words = (
        f"the nearest train view of a test image is {results.length(near['median_distance'])} and "
        f"{degrees(near['median_angle_deg'])}° away"
    )
    if near["median_seconds"] is not None:
        words += f", in time {near['median_seconds']:.1f} s"
    elif near["median_frames"] is not None:
        words += f", in time {near['median_frames']:.0f} frames"
    return words + " (medians)"


def made(results: Results) -> str:
    """Settings, versions, seeds and times, as HTML."""
    how = results.raw["made"]
    versions = ", ".join(f"{name} {number}" for name, number in how["with"].items())
    settings = ", ".join(f"{key} {value}" for key, value in how["split"]["settings"].items())
    seeds = {**how["seeds"], **_training_seeds(how["localizers"])}
    confidence = results.raw["confidence"]
    facts = [
        ("Finished", how["finished"]),
        ("With", f"{versions}; Python {how['python']}, {how['machine']}"),
        ("Split", f"{how['split']['rule']}: {settings or NONE}"),
        ("Seeds", ", ".join(f"{name} {value}" for name, value in seeds.items())),
        (
            "Intervals",
            f"{100 * confidence['level']:.0f}% by bootstrap, {confidence['samples']} draws of "
            f"{confidence['pieces']} pieces of consecutive images",
        ),
        (
            "Fitting",
            ", ".join(f"{name} {value:.1f} s" for name, value in how["fit_seconds"].items())
            + " (0 where it was there already)",
        ),
        *_trainings(how["localizers"]),
        ("All numbers", f"{RESULTS} beside this page has every image"),
    ]
    details = "".join(
        f"<details><summary>Settings of {escape(name)}</summary>{_list(_flat(found))}</details>"
        for name, found in how["localizers"].items()
        if _flat(found)
    )
    return _list(facts) + details


def _training_seeds(localizers: dict[str, Any]) -> dict[str, Any]:
    return {
        f"training of {name}": found["settings"]["seed"]
        for name, found in localizers.items()
        if "seed" in found.get("settings", {})
    }


def _trainings(localizers: dict[str, Any]) -> list[tuple[str, str]]:
    """What each training came to, one fact for all; none where nothing was trained."""
    words = [
        f"{name} {found['training']['epochs']} epochs of {found['training']['images']} images in "
        f"{found['training']['seconds'] / 60:.1f} minutes on {found['training']['device']}"
        for name, found in localizers.items()
        if "training" in found
    ]
    return [("Training", "; ".join(words))] if words else []


def _flat(value: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested settings as one list of dotted names and values."""
    rows: list[tuple[str, str]] = []
    for key, one in value.items():
        name = f"{before}{key}"
        if isinstance(one, dict):
            rows += _flat(one, f"{name}.")
        else:
            rows.append((name, NONE if one is None else str(one)))
    return rows


def _list(facts: Iterable[tuple[str, object]]) -> str:
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in facts)
    return f"<dl>{rows}</dl>"
