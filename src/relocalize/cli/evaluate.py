"""`relocalize evaluate PLACE`: how well localizers do on images they have not seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize.cli.options import Flag, Printed, options
from relocalize.evaluation.scoring import evaluate


@dataclass(frozen=True)
class Evaluate(Printed):
    """Localize a split's test images and compare with the truth and with the baselines."""

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    split: str | None = None
    """Name of the split; without it the only one, or one by blocks of time is made."""
    localizer: tuple[str, ...] = ()
    """Names of trained localizers; without it all that were trained on this split. The constant
    pose, retrieval and structure are always there."""
    truth: Path | None = None
    """Poses of another origin (pose list or COLMAP model) to measure against; the map is moved
    onto them by a robust Sim3 over train images only."""
    beside: str | None = None
    """Name of another split that was evaluated: its numbers stand beside these, such as those of
    rule random, to show how much a leaky split flatters."""
    together: Flag = False
    """Localize the test images of a camera all together, so that they calibrate it, in place of
    one at a time."""

    def run(self) -> int:
        """Evaluate, and print the table."""
        result = evaluate(**options(self, "localizer"), localizers=self.localizer or None)
        return self.show(result.to_json(), result)
