"""`relocalize evaluate PLACE`: how well localizers do on images they have not seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from relocalize.cli.options import options
from relocalize.evaluation.scoring import evaluate
from relocalize.evaluation.table import results_table


@dataclass(frozen=True)
class Evaluate:
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
    together: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Localize the test images of a camera all together, so that they calibrate it, in place of
    one at a time."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of the table; a number that is infinite (the median where half
    failed) or means nothing (recall without metres) is null."""

    def run(self) -> int:
        """Evaluate, and print the table."""
        result = evaluate(**options(self, "localizer"), localizers=self.localizer or None)
        print_results(result.to_json(), as_json=self.json)
        return 0


def print_results(results: dict[str, Any], *, as_json: bool) -> None:
    """The table, or the JSON object, on stdout."""
    if as_json:
        print(json.dumps(results, indent=2, allow_nan=False))
    else:
        Console(highlight=False, soft_wrap=False).print(results_table(results))
