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
    """Name of the split; else the only one, or one by blocks of time."""
    localizer: tuple[str, ...] = ()
    """Trained localizers; else all of this split. The three baselines are always there."""
    truth: Path | None = None
    """True poses; the map is aligned with them on train images only."""
    beside: str | None = None
    """Another evaluated split to show beside this one, such as random."""
    together: Flag = False
    """Let test images of one camera calibrate it together."""

    def run(self) -> int:
        """Evaluate, and print the table."""
        result = evaluate(**options(self, "localizer"), localizers=self.localizer or None)
        return self.show(result.to_json(), result)
