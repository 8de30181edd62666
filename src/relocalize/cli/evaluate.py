"""`relocalize evaluate PLACE`: how well localizers do on images they have not seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from relocalize.evaluation.scoring import evaluate
from relocalize.evaluation.table import results_table


@dataclass(frozen=True)
class Evaluate:
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
    together: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Let test images of one camera calibrate it together."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of the table; infinite numbers are null."""

    def run(self) -> int:
        """Evaluate, and print the table."""
        result = evaluate(
            self.place,
            split=self.split,
            localizers=self.localizer or None,
            truth=self.truth,
            beside=self.beside,
            together=self.together,
        ).to_json()
        print_results(result, as_json=self.json)
        return 0


def print_results(results: dict[str, Any], *, as_json: bool) -> None:
    """The table, or the JSON object, on stdout."""
    if as_json:
        print(json.dumps(results, indent=2, allow_nan=False))
    else:
        Console(highlight=False, soft_wrap=False).print(results_table(results))
