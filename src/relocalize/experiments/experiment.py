"""What came of a sweep, as far as it is done."""

from __future__ import annotations

import math
import platform
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from relocalize.experiments.held_out import HeldOutErrors
from relocalize.experiments.summary import (
    ConfigurationNumbers,
    Effect,
    RunNumbers,
    configurations_of,
    effects_of,
)
from relocalize.experiments.sweep import Sweep

_SCHEMA = 1
_NARROWEST, _MARGIN = 2.6, 1.08  # factors, of axes of errors
_WITH = ("relocalize", "torch", "numpy", "ray")


@dataclass(frozen=True, eq=False)
class Experiment:
    """A sweep as far as it is done.

    Attributes:
        sweep: what was asked.
        place: name of the Place.
        split: that was trained on.
        unit: of positions.
        engine: that did the runs.
        planned: how many runs the sweep has.
        runs: those that are done, in the sweep's order.
        logs: rows per epoch of each of them.
        test: errors on test images by the run's name; none unless they were asked for.
    """

    sweep: Sweep
    place: str
    split: str
    unit: str
    engine: str
    planned: int
    runs: tuple[RunNumbers, ...]
    logs: tuple[tuple[dict[str, Any], ...], ...]
    test: dict[str, HeldOutErrors]

    @property
    def configurations(self) -> list[ConfigurationNumbers]:
        """The table's rows."""
        return configurations_of(self.runs)

    def error_range(self, name: str) -> tuple[float, float]:
        """From below the least to above the largest of an error in the logs: a logarithmic axis.

        Never so narrow that none of 1, 2 and 5, which such an axis names, is on it.
        """
        values = [row[name] for log in self.logs for row in log if row[name]]
        low, high = min(values, default=1.0), max(values, default=1.0)
        wider = max(_MARGIN, math.sqrt(_NARROWEST * low / high))
        return low / wider, high * wider

    @property
    def effects(self) -> list[Effect]:
        """What each value of each axis comes to."""
        return effects_of(self.runs)

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values."""
        return {
            "schema": _SCHEMA,
            "name": self.sweep.name,
            "about": self.sweep.about,
            "place": self.place,
            "split": self.split,
            "unit": self.unit,
            "errors_on": "validation images, cut from the train images",
            "sweep": asdict(self.sweep),
            "runs_planned": self.planned,
            "configurations": [row.to_json() for row in self.configurations],
            "effects": [effect.to_json() for effect in self.effects],
            "runs": [run.to_json() for run in self.runs],
            "test": {name: asdict(errors) for name, errors in self.test.items()} or None,
            "made": {
                "with": _versions(),
                "python": platform.python_version(),
                "machine": f"{platform.system()} {platform.machine()}",
                "engine": self.engine,
                "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            },
        }


def _versions() -> dict[str, str]:
    return {package: version(package) for package in _WITH if find_spec(package) is not None}
