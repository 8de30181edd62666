"""What came of a sweep, as far as it is done: its runs, and the rows of its table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from relocalize.evaluation.stored_results import made_with
from relocalize.experiments.held_out import HeldOutErrors
from relocalize.experiments.runs import Run
from relocalize.experiments.stability import epoch_to_epoch, seed_to_seed
from relocalize.experiments.sweep import Sweep
from relocalize.plain import to_strict_json
from relocalize.regression.settings import TrainSettings

_SCHEMA = 1
LogRows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class RunNumbers:
    """One finished run."""

    name: str  # of its folder
    values: Mapping[str, object]  # of the grid's axes
    seed: int  # of everything random
    # median validation error of the chosen epoch, in the Place's unit; infinite where the run
    # diverged
    position: float
    rotation_deg: float  # likewise, degrees
    score: float  # likewise, what the epoch was chosen by; about 1 for a constant answer
    best_epoch: int | None  # the chosen one, None where the run diverged
    position_jump: float | None  # `epoch_to_epoch` of the validation position errors
    rotation_jump: float | None  # the same of the rotation errors
    epoch_seconds: float | None  # median time of an epoch, validation included
    epochs: int  # that were run
    seconds: float  # of training and preparing
    ended: str  # why: the last epoch, minutes over, or what stopped it

    @classmethod
    def of(cls, run: Run, result: Mapping[str, Any], log: LogRows) -> RunNumbers:
        """The numbers of a run with its result and its log, a row per epoch."""
        validation = result.get("validation") or {}
        training = result.get("training") or {}
        seconds = [float(row["epoch_seconds"]) for row in log]
        return cls(
            name=run.folder.name,
            values=run.values,
            seed=run.settings.seed,
            position=float(validation.get("position", math.inf)),
            rotation_deg=float(validation.get("rotation_deg", math.inf)),
            score=float(validation.get("score", math.inf)),
            best_epoch=validation.get("epoch"),
            position_jump=epoch_to_epoch(column(log, "validation_position", math.inf)),
            rotation_jump=epoch_to_epoch(column(log, "validation_rotation_deg", math.inf)),
            epoch_seconds=median(seconds) if seconds else None,
            epochs=len(log),
            seconds=sum(seconds) + float(training.get("preparation_seconds", 0.0)),
            ended=_ended(run.settings, result, len(log)),
        )


@dataclass(frozen=True)
class ConfigurationNumbers:
    """One row of the table: the runs of one configuration, one per seed."""

    values: Mapping[str, object]  # of the grid's axes
    runs: int  # how many are done
    diverged: int  # of them
    position: float  # median over seeds of the runs' `RunNumbers.position`
    position_range: tuple[float, float]  # the least and the largest of them
    rotation_deg: float  # median over seeds
    rotation_range: tuple[float, float]  # the least and the largest
    score: float  # median over seeds
    position_jump: float | None  # median over seeds of the runs' jumps from epoch to epoch
    rotation_jump: float | None  # the same of rotations
    position_seeds: float | None  # `seed_to_seed` of positions; None with one seed
    rotation_seeds: float | None  # the same of rotations
    epoch_seconds: float | None  # median over seeds
    epochs: float  # median over seeds
    ended: tuple[str, ...]  # why runs ended, each reason once

    @classmethod
    def of(cls, runs: Sequence[RunNumbers]) -> ConfigurationNumbers:
        """The row of at least one run of a configuration."""
        positions = [run.position for run in runs]
        rotations = [run.rotation_deg for run in runs]
        return cls(
            values=runs[0].values,
            runs=len(runs),
            diverged=sum(run.best_epoch is None for run in runs),
            position=median(positions),
            position_range=(min(positions), max(positions)),
            rotation_deg=median(rotations),
            rotation_range=(min(rotations), max(rotations)),
            score=median([run.score for run in runs]),
            position_jump=_median_of(run.position_jump for run in runs),
            rotation_jump=_median_of(run.rotation_jump for run in runs),
            position_seeds=seed_to_seed(positions),
            rotation_seeds=seed_to_seed(rotations),
            epoch_seconds=_median_of(run.epoch_seconds for run in runs),
            epochs=median([run.epochs for run in runs]),
            ended=tuple(dict.fromkeys(run.ended for run in runs)),
        )


@dataclass(frozen=True)
class Effect:
    """What one value of one axis comes to, whatever the other axes say."""

    axis: str  # the setting
    value: object  # of it
    runs: int  # that have it
    position: float  # median of their validation errors, in the Place's unit
    rotation_deg: float  # likewise, degrees
    position_jump: float | None  # median of their jumps from epoch to epoch


@dataclass(frozen=True, eq=False)
class Experiment:
    """A sweep as far as it is done."""

    sweep: Sweep  # what was asked
    place: str  # name of the Place
    split: str  # that was trained on
    unit: str  # of positions
    engine: str  # that did the runs
    planned: int  # how many runs the sweep has
    runs: tuple[RunNumbers, ...]  # those that are done, in the sweep's order
    logs: Mapping[str, LogRows]  # rows per epoch of each of them, by its name
    # errors on test images by the run's name; none unless they were asked for
    test: dict[str, HeldOutErrors]

    def groups(self, axis: str | None = None) -> list[list[RunNumbers]]:
        """Runs of the same values, or of the same value of an axis, in the sweep's order."""
        groups: dict[str, list[RunNumbers]] = {}
        for run in self.runs:
            groups.setdefault(repr(run.values[axis] if axis else run.values), []).append(run)
        return list(groups.values())

    @cached_property
    def configurations(self) -> list[ConfigurationNumbers]:
        """The table's rows, in the order of the runs."""
        return [ConfigurationNumbers.of(runs) for runs in self.groups()]

    @cached_property
    def effects(self) -> list[Effect]:
        """Each value of each axis that has several, over all runs that have it."""
        effects: list[Effect] = []
        for axis in self.runs[0].values if self.runs else ():
            groups = self.groups(axis)
            effects += [
                Effect(
                    axis=axis,
                    value=runs[0].values[axis],
                    runs=len(runs),
                    position=median([run.position for run in runs]),
                    rotation_deg=median([run.rotation_deg for run in runs]),
                    position_jump=_median_of(run.position_jump for run in runs),
                )
                for runs in groups
                if len(groups) > 1
            ]
        return effects

    @property
    def best(self) -> ConfigurationNumbers | None:
        """The row of the best validation score, if any run of it was of use."""
        best = min(self.configurations, key=lambda row: row.score, default=None)
        return best if best is not None and math.isfinite(best.score) else None

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values; an infinite number is None."""
        content = {
            "schema": _SCHEMA,
            "name": self.sweep.name,
            "about": self.sweep.about,
            "place": self.place,
            "split": self.split,
            "unit": self.unit,
            "errors_on": "validation images, cut from the train images",
            "sweep": self.sweep,
            "runs_planned": self.planned,
            "configurations": self.configurations,
            "effects": self.effects,
            "runs": self.runs,
            "test": self.test or None,
            "made": {**made_with("torch", "numpy", "ray"), "engine": self.engine},
        }
        strict: dict[str, Any] = to_strict_json(content)
        return strict


def column(log: LogRows, name: str, missing: float) -> list[float]:
    """A number per epoch; one that was not finite is null in the log."""
    return [missing if row[name] is None else float(row[name]) for row in log]


def _median_of(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _ended(settings: TrainSettings, result: Mapping[str, Any], epochs: int) -> str:
    if result["status"] == "diverged":
        return "diverged"
    if result.get("reason"):
        return str(result["reason"])
    planned = settings.optimizer.epochs
    if planned is None:
        images = int(result["training"]["images"])
        batches = -(-images // settings.optimizer.batch_size)
        planned = settings.optimizer.epochs_of(images, batches)
    return "last epoch" if epochs >= planned else "minutes over"
