"""`relocalize experiment PLACE SWEEP`: a grid of trainings, compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from relocalize.cli.options import Flag, Printed
from relocalize.place import Place


@dataclass(frozen=True)
class Experiment(Printed):
    """Train a grid of settings on a Place, and compare them on validation images.

    Run it again after an interruption: it resumes, and skips runs that are done.
    """

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    sweep: tyro.conf.Positional[str]
    """A .toml file, or one that comes with relocalize: founding."""
    set: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=VALUE")
    ] = ()
    """Fix a setting whatever the sweep says, such as backbone.weights=none."""
    seeds: tuple[int, ...] = ()
    """Seeds in place of the sweep's."""
    minutes: float | None = None
    """Time for each training, in place of the sweep's."""
    split: str | None = None
    """Split to train on, in place of the sweep's."""
    engine: Literal["local", "ray"] = "local"
    """local: one run after the other. ray: on all processors, or on RAY_ADDRESS."""
    evaluate: Flag = False
    """Score the test images at the end; choose nothing by them."""

    def run(self) -> int:
        """Train what is not trained yet, and print the table."""
        # Pose regression's settings and the drawing of curves take a while to import.
        from relocalize import experiments  # noqa: PLC0415
        from relocalize.experiments.running import FIGURE, PAGE  # noqa: PLC0415
        from relocalize.experiments.table import experiment_table  # noqa: PLC0415

        overrides = dict(experiments.read_override(text) for text in self.set)
        sweep = experiments.find_sweep(self.sweep).with_changes(
            overrides, minutes=self.minutes, seeds=self.seeds, split=self.split
        )
        experiment, folder = experiments.run_experiment(
            Place.open(self.place), sweep, engine=self.engine, evaluate=self.evaluate
        )
        self.show(experiment.to_json(), experiment_table(experiment))
        if not self.json:
            print(f"{folder / PAGE}\n{folder / FIGURE}")
        return 0
