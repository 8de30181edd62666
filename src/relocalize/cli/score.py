"""`relocalize score ESTIMATES TRUTH`: anyone's estimates against a truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from relocalize.cli.options import options
from relocalize.evaluation.scored_files import score
from relocalize.evaluation.table import score_table
from relocalize.formats import AUTO


@dataclass(frozen=True)
class Score:
    """Score anyone's estimated poses against a truth: medians, recall, and how sure they are."""

    estimates: tyro.conf.Positional[Path]
    """The estimates: a file or folder of any format in docs/formats.md, or a Place."""
    truth: tyro.conf.Positional[Path]
    """The true poses of the same images, likewise; an image without an estimate has failed."""
    format: str = AUTO
    """Format of the estimates, or auto to look."""
    truth_format: str = AUTO
    """Format of the truth, or auto to look."""
    against: tuple[Path, ...] = ()
    """Other estimates of the same images: which are better, with a p-value."""
    only: Path | None = None
    """Text file with the name of an image that counts on each line; without it all of the truth."""
    split: str | None = None
    """Where the truth is a Place: only the test images of this split count."""
    align: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Lay the estimates over the truth by a robust similarity first. It is fitted to the scored
    images themselves, which flatters: for estimates in a frame of their own alone."""
    unit: Literal["metre", "map unit"] | None = None
    """Unit of the truth; without it what its format states. Recall needs metres."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of the table; a number that is infinite (the median where half
    failed) or means nothing (recall without metres) is null."""

    def run(self) -> int:
        """Score, and print the table."""
        result = score(**options(self)).to_json()
        if self.json:
            print(json.dumps(result, indent=2, allow_nan=False))
        else:
            Console(highlight=False, soft_wrap=False).print(score_table(result))
        return 0
