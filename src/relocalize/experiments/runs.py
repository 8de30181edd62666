"""One training of a sweep: its folder, whether it is done, and doing it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from relocalize.errors import DivergenceError, PlaceError
from relocalize.experiments.sweep import Configuration, Sweep, shown
from relocalize.localization.store import fingerprints
from relocalize.place import Place, Split, atomic
from relocalize.place.folder import read_json
from relocalize.regression.settings import TrainSettings
from relocalize.regression.training_log import read_log

EXPERIMENTS = "experiments"  # in the Place, a folder per sweep
SETTINGS, RESULT, REGRESSOR = "settings.json", "result.json", "localizer"  # in a run's folder
# What a run's numbers do not depend on.
_NOT_OF_THE_RESULT = ("checkpoint_minutes", "threads")
_MOST_LETTERS = 40  # of the values in a run's name


@dataclass(frozen=True, eq=False)
class Run:
    """One training. Its folder's name has all that its result depends on."""

    place_root: Path  # the Place's folder, absolute: the run may be done by another process
    split: str  # to train on
    folder: Path  # of the run, absolute
    values: Mapping[str, object]  # of the grid's axes
    settings: TrainSettings  # of the training

    @property
    def is_done(self) -> bool:
        """Whether it has a result."""
        return self.result() is not None

    def result(self) -> dict[str, Any] | None:
        """What it came to, or None while it has not; a damaged result is none."""
        try:
            found = read_json(self.folder / RESULT)
        except PlaceError:
            return None
        return found if found.get("status") in {"finished", "diverged"} else None

    def log(self) -> list[dict[str, Any]]:
        """A row per epoch so far."""
        return read_log(self.folder)

    def work(self) -> None:
        """Train, or resume what a killed process left, and write the result.

        A training that diverges has that as its result.

        Raises:
            RelocalizeError: no training can be made of this Place and these settings.
            KeyboardInterrupt: after a checkpoint was written.
        """
        # These load torch, which takes seconds.
        from relocalize.localization.regressor import RegressorLocalizer  # noqa: PLC0415
        from relocalize.regression.checkpoint import CHECKPOINT  # noqa: PLC0415

        place = Place.open(self.place_root)
        split = place.split(self.split)
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic.write_text(self.folder / SETTINGS, self.settings.to_json() + "\n")
        result: dict[str, Any] = {"values": dict(self.values), "seed": self.settings.seed}
        try:
            trained = RegressorLocalizer.fit(
                place, split, settings=self.settings, folder=self.folder
            )
        except DivergenceError as error:
            result |= {"status": "diverged", "reason": str(error)}
        else:
            trained.log_folder = None  # it lies in this folder
            with atomic.new_folder(self.folder / REGRESSOR) as aside:
                trained.save(aside)
            facts = trained.facts
            result |= {
                "status": "finished",
                "reason": facts.training["stopped"],
                "validation": facts.validation,
                "training": facts.training,
            }
        atomic.write_json(self.folder / RESULT, result)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)


def runs_of(sweep: Sweep, place: Place, split: Split) -> list[Run]:
    """All runs of a sweep on a Place, each configuration with each seed."""
    learnt_from = fingerprints(place, split)
    root = place.root.resolve()
    runs = []
    for configuration in sweep.configurations:
        for seed in sweep.seeds:
            settings = replace(configuration.settings, seed=seed)
            name = _run_name(configuration, settings, learnt_from)
            folder = root / EXPERIMENTS / sweep.name / name
            runs.append(Run(root, split.name, folder, configuration.values, settings))
    return runs


def _run_name(
    configuration: Configuration, settings: TrainSettings, learnt_from: Mapping[str, Any]
) -> str:
    values = asdict(settings)
    for name in _NOT_OF_THE_RESULT:
        values.pop(name)
    key = hashlib.sha256(json.dumps([values, learnt_from], sort_keys=True).encode()).hexdigest()
    said = "-".join(
        re.sub(r"[^A-Za-z0-9.]+", "_", shown(value)).strip("_.")
        for value in configuration.values.values()
    )
    said = said.strip("-_.")[:_MOST_LETTERS] or settings.preset
    return f"{said}-seed{settings.seed}-{key[:8]}"
