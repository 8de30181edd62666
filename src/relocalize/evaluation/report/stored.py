"""The stored results of an evaluation, as a report reads them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from jinja2 import UndefinedError

from relocalize.errors import EvaluationError, GeometryError, PlaceError
from relocalize.evaluation.names import BASELINES, RESULTS, RESULTS_SCHEMA
from relocalize.evaluation.table import NONE, degrees, length
from relocalize.geometry import Similarity3
from relocalize.geometry.transforms import FloatArray, rotation_from_quat_wxyz
from relocalize.place import Place
from relocalize.place.folder import METRE, read_json
from relocalize.plotting.chart import COLORS, Line, lines_of

# The same on every page, quiet, and apart from each other in grey print.
_BASELINES = {
    "constant": Line("#8b939c", "dot"),
    "retrieval": Line("#c58a1b", "dash"),
    "structure": Line("#2f7fd1"),
}


@dataclass(frozen=True, eq=False)
class Results:
    """A results file."""

    path: Path  # where it is
    raw: dict[str, Any]  # what it holds, as JSON values

    @classmethod
    def read(cls, place: Place, split: str | None = None) -> Results:
        """The stored evaluation of a split; without a name, of the only evaluated one.

        Raises:
            EvaluationError: nothing was evaluated, or several splits and none is named.
            PlaceError: the file is damaged.
        """
        evaluated = sorted(path.parent.name for path in place.root.glob(f"reports/*/{RESULTS}"))
        if split is None and len(evaluated) == 1:
            split = evaluated[0]
        if split not in evaluated:
            what = f"evaluated splits are {evaluated}; name one" if evaluated else "none was made"
            raise EvaluationError(
                f"{place.root} has no evaluation of {split or 'a single split'} ({what}); "
                f"make one with: relocalize evaluate {place.root}"
                + (f" --split {split}" if split else "")
            )
        path = place.report_dir(split) / RESULTS
        results = cls(path, read_json(path))
        fault = _fault(results.raw)
        if fault:
            raise results._damaged(fault)
        return results

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Within this context, what the file lacks is a `PlaceError` that says what to do."""
        try:
            yield
        except KeyError as error:
            raise self._damaged(f"{error} is missing") from error
        except (TypeError, IndexError, ValueError, GeometryError, UndefinedError) as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, fault: str) -> PlaceError:
        return PlaceError(
            f"{self.path} is damaged, or of another version ({fault}); "
            "make it again with: relocalize evaluate"
        )

    @property
    def split(self) -> str:
        """Its name."""
        return str(self.raw["split"])

    @property
    def names(self) -> list[str]:
        """The compared localizers, in the table's order."""
        return list(self.raw["localizers"])

    @cached_property
    def _best_first(self) -> list[str]:
        """The localizers that are no baselines, by their median position error."""
        rows = self.raw["localizers"]
        medians = {name: rows[name]["median_position"] for name in rows if name not in BASELINES}
        return sorted(
            medians, key=lambda name: math.inf if medians[name] is None else medians[name]
        )

    @property
    def lead(self) -> str:
        """The localizer that a report is about: the best that is no baseline."""
        return next(iter(self._best_first), self.names[-1])

    @property
    def foremost(self) -> list[str]:
        """The localizers that figures show at first: baselines, and as many as have a colour."""
        shown = {*BASELINES, *self._best_first[: len(COLORS)]}
        return [name for name in self.names if name in shown]

    @cached_property
    def lines(self) -> dict[str, Line]:
        """How each localizer is drawn in every figure, in the table's order."""
        drawn = lines_of(self._best_first) | _BASELINES
        return {name: drawn[name] for name in self.names}

    @property
    def is_metric(self) -> bool:
        """Whether lengths are metres."""
        return bool(self.raw["unit"] == METRE)

    @property
    def length_unit(self) -> str:
        """What `length` counts in."""
        return "cm" if self.is_metric else "map units"

    @property
    def factor(self) -> float:
        """From stored lengths to those of `length_unit`."""
        return 100.0 if self.is_metric else 1.0

    @property
    def training_is_metric(self) -> bool:
        """Whether learning curves are of metres."""
        curves = self.raw["made"]["learning_curves"].values()
        return all(one["unit"] == METRE for one in curves)

    @property
    def images(self) -> list[dict[str, Any]]:
        """Every test image."""
        return cast(list[dict[str, Any]], self.raw["per_image"])

    @cached_property
    def true_positions(self) -> FloatArray:
        """[N, 3] of the test images, in the truth's frame."""
        return np.array([row["position"] for row in self.images], dtype=float)

    @cached_property
    def truth_from_place(self) -> Similarity3:
        """Moves the Place's frame onto the truth's."""
        aligned = self.raw.get("aligned")
        if not aligned:
            return Similarity3.identity()
        rotation = rotation_from_quat_wxyz(aligned["quat_wxyz"])
        return Similarity3(aligned["scale"], rotation, np.array(aligned["translation"]))

    def row(self, name: str) -> dict[str, Any]:
        """A localizer's row of the table."""
        return cast(dict[str, Any], self.raw["localizers"][name])

    def positions(self, name: str) -> FloatArray:
        """[N, 3] as a localizer estimated them, in the truth's frame; NaN where it failed."""
        found = [row["localizers"][name]["position"] for row in self.images]
        return np.array([[np.nan] * 3 if one is None else one for one in found], dtype=float)

    def errors(self, name: str, key: str) -> FloatArray:
        """[N] ``position_error`` in `length_unit`, or ``rotation_error_deg``; failures infinite."""
        found = [row["localizers"][name][key] for row in self.images]
        values = np.array([np.inf if one is None else one for one in found], dtype=float)
        return self.factor * values if key == "position_error" else values

    def truth_sigma(self, key: str) -> float | None:
        """The truth's own median error, as `errors` of that key count; None where not known."""
        found = self.raw["truth_sigma"]
        if not found:
            return None
        is_position = key == "position_error"
        return float(
            self.factor * found["median_position"] if is_position else found["median_rotation_deg"]
        )

    def number(self, value: float | None) -> str:
        """A stored length in `length_unit`."""
        return length(value, metric=self.is_metric)

    def length(self, value: float | None) -> str:
        """A stored length with its unit."""
        shown = self.number(value)
        return shown if shown == NONE else f"{shown} {self.length_unit}"

    def error_words(self, image: dict[str, Any], name: str) -> str:
        """A localizer's errors of an image, or that it failed."""
        found = image["localizers"][name]
        if found["position_error"] is None:
            return "failed"
        return f"{self.length(found['position_error'])}, {degrees(found['rotation_error_deg'])}°"


def _fault(raw: dict[str, Any]) -> str | None:
    """What is wrong with a results file, or None."""
    if raw.get("schema") != RESULTS_SCHEMA:
        return f"schema {raw.get('schema')!r}, this relocalize reads {RESULTS_SCHEMA}"
    if not isinstance(raw.get("localizers"), dict) or not raw["localizers"]:
        return "no localizer"
    if not isinstance(raw.get("per_image"), list) or not raw["per_image"]:
        return "no image"
    try:
        json.dumps(raw, allow_nan=False)
    except ValueError:
        return "a number that is not finite"
    return None
