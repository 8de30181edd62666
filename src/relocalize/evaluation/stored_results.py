"""Results on disk: how they were made, whether they are of now, and those of another split."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from relocalize.errors import EvaluationError, LocalizerError, PlaceError
from relocalize.evaluation.names import RESULTS, RESULTS_SCHEMA, rows_of
from relocalize.evaluation.report.stored import Results
from relocalize.localization.saving import read_description
from relocalize.localization.store import folder_of
from relocalize.place import Place, Split, atomic
from relocalize.place.folder import read_json
from relocalize.regression.training_log import read_log

# What `localizer.json` has for people; the rest is for loading it.
_FACTS = ("settings", "training", "validation")
_CURVES = ("train_loss", "validation_position", "validation_rotation_deg")
_OF_ROW = ("n", "failed", "median_position", "median_rotation_deg", "recall")


def fingerprint(place: Place, split: Split, localizers: Sequence[str], truth: Path | None) -> str:
    """Changes when the map, the split, a localizer fitted on it, the truth or the version does."""
    facts = [version("relocalize"), RESULTS_SCHEMA, asdict(split), place.unit, place.map_digest()]
    digest = hashlib.sha256(json.dumps([*facts, *rows_of(localizers)]).encode())
    files: list[Path] = []
    for name in rows_of(localizers):
        files += sorted(folder_of(place, name, split).glob("*"))
    if truth is not None:
        files += sorted(truth.iterdir()) if truth.is_dir() else [truth]
    for path in filter(Path.is_file, files):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def current_results(
    place: Place, split: Split, localizers: Sequence[str], truth: Path | None
) -> dict[str, Any] | None:
    """The stored results file when it is of just these inputs, else None."""
    try:
        results = read_json(place.report_dir(split.name) / RESULTS)
    except PlaceError:
        return None
    same = results.get("inputs") == fingerprint(place, split, localizers, truth)
    return results if same else None


def note_missing(place: Place, split: Split, missing: Mapping[str, str]) -> None:
    """Store with the results of a split which rows they lack, by name, and why."""
    path = place.report_dir(split.name) / RESULTS
    stored = read_json(path)
    if stored.get("missing", {}) != missing:
        atomic.write_json(path, {**stored, "missing": dict(missing)})


def summary_of_split(place: Place, split: str, *, unit: str) -> dict[str, Any]:
    """What `relocalize evaluate` found on another split, as strict JSON values.

    Raises:
        EvaluationError: that split was not evaluated, or in another unit.
        PlaceError: its results are damaged, or of another relocalize.
    """
    results = Results.read(place, split).raw
    if results["unit"] != unit:
        raise EvaluationError(
            f"split {split!r} was evaluated in unit {results['unit']!r}, this one is in {unit!r}; "
            "give both the same --truth"
        )
    rows = results["localizers"]
    return {
        **{key: results[key] for key in ("split", "rule", "truth", "images", "nearest_train_view")},
        "localizers": {name: {key: rows[name][key] for key in _OF_ROW} for name in rows},
    }


def made_with(*packages: str) -> dict[str, Any]:
    """With which of these packages, where and when results came about, as JSON values."""
    there = [name for name in ("relocalize", *packages) if find_spec(name) is not None]
    return {
        "with": {name: version(name) for name in there},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def how_made(
    place: Place, split: Split, truth: Path | None, fit_seconds: Mapping[str, float]
) -> dict[str, Any]:
    """What is needed to make the same results again, as JSON values."""
    curves = {name: _learning_curves(place, name, split) for name in fit_seconds}
    return {
        **made_with("pycolmap", "poselib", "numpy"),
        "split": {"rule": split.rule, "settings": split.settings},
        "truth_file": None if truth is None else truth.name,
        "seeds": {"alignment": 0, "intervals": 0, "paired": 0},
        "fit_seconds": {name: round(value, 2) for name, value in fit_seconds.items()},
        "localizers": {name: _settings(place, name, split) for name in fit_seconds},
        "learning_curves": {name: one for name, one in curves.items() if one is not None},
    }


def _settings(place: Place, name: str, split: Split) -> dict[str, Any]:
    """The settings of a fitted localizer and, of a trained one, what its training came to."""
    try:
        description = read_description(folder_of(place, name, split))
    except LocalizerError:
        return {}  # one that is never stored
    return {key: description[key] for key in _FACTS if key in description}


def _learning_curves(place: Place, name: str, split: Split) -> dict[str, Any] | None:
    """A training epoch by epoch, as JSON values; None for what is not trained in epochs.

    ``epoch`` and each curve have one value an epoch, null where it was not finite or not measured;
    ``kept`` is the epoch whose weights were kept, ``unit`` that of positions.
    """
    rows = read_log(folder_of(place, name, split))
    if not rows:
        return None
    kept = _settings(place, name, split).get("validation", {})
    return {
        "epoch": [row["epoch"] for row in rows],
        **{key: [row.get(key) for row in rows] for key in _CURVES},
        "seconds": rows[-1].get("seconds"),
        "kept": kept.get("epoch"),
        "unit": kept.get("unit", place.unit),
    }
