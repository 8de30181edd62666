"""What is on disk of the localizers that were compared: their settings and learning curves."""

from __future__ import annotations

from typing import Any

from relocalize.errors import LocalizerError
from relocalize.localization.saving import read_description
from relocalize.localization.store import folder_of
from relocalize.place import Place, Split
from relocalize.regression.training_log import read_log

# What `localizer.json` has for people; the rest is for loading it.
_FACTS = ("settings", "training", "validation")
_CURVES = ("train_loss", "validation_position", "validation_rotation_deg")


def settings_of(place: Place, name: str, split: Split) -> dict[str, Any]:
    """The settings of a fitted localizer and, of a trained one, what its training came to."""
    try:
        description = read_description(folder_of(place, name, split))
    except LocalizerError:
        return {}  # one that is never stored
    return {key: description[key] for key in _FACTS if key in description}


def learning_curves_of(place: Place, name: str, split: Split) -> dict[str, Any] | None:
    """A training epoch by epoch, as JSON values; None for what is not trained in epochs.

    ``epoch`` and each curve have one value an epoch, null where it was not finite or not measured;
    ``kept`` is the epoch whose weights were kept, ``unit`` that of positions.
    """
    folder = folder_of(place, name, split)
    rows = read_log(folder)
    if not rows:
        return None
    kept = settings_of(place, name, split).get("validation", {})
    return {
        "epoch": [row["epoch"] for row in rows],
        **{key: [row.get(key) for row in rows] for key in _CURVES},
        "seconds": rows[-1].get("seconds"),
        "kept": kept.get("epoch"),
        "unit": kept.get("unit", place.unit),
    }
