"""The stored evaluation of another split beside this one: how much a leaky split flatters."""

from __future__ import annotations

from typing import Any

from relocalize.errors import EvaluationError, PlaceError
from relocalize.evaluation.names import RESULTS, RESULTS_SCHEMA
from relocalize.place import Place
from relocalize.place.folder import read_json

_OF_ROW = ("n", "failed", "median_position", "median_rotation_deg", "recall")


def beside(place: Place, split: str, *, unit: str) -> dict[str, Any]:
    """What `relocalize evaluate` found on another split, as strict JSON values.

    Args:
        place: with an evaluation of that split.
        split: its name.
        unit: of the errors that it will stand beside.

    Raises:
        EvaluationError: that split was not evaluated, or in another unit.
    """
    try:
        results = read_json(place.report_dir(split) / RESULTS)
    except PlaceError as error:
        raise EvaluationError(
            f"{place.root} has no evaluation of split {split!r} to stand beside this one; make it "
            f"with: relocalize evaluate {place.root} --split {split}"
        ) from error
    if results.get("schema") != RESULTS_SCHEMA:
        raise EvaluationError(
            f"the evaluation of split {split!r} is of another relocalize; make it again: "
            f"relocalize evaluate {place.root} --split {split}"
        )
    if results["unit"] != unit:
        raise EvaluationError(
            f"split {split!r} was evaluated in unit {results['unit']!r}, this one is in {unit!r}; "
            "give both the same --truth"
        )
    return {
        "split": results["split"],
        "rule": results["rule"],
        "truth": results["truth"],
        "images": results["images"],
        "nearest_train_view": results["nearest_train_view"],
        "localizers": {
            name: {key: row[key] for key in _OF_ROW} for name, row in results["localizers"].items()
        },
    }
