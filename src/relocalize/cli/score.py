"""`relocalize score ESTIMATES TRUTH`: anyone's estimates against a truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from relocalize.evaluation.scored_files import score
from relocalize.evaluation.table import score_table
from relocalize.formats import AUTO


@dataclass(frozen=True)
class Score:
    """Score anyone's estimated poses against a truth: medians, recall, and how sure they are."""

    estimates: tyro.conf.Positional[Path]
    """Estimated poses: a file or folder of any format that is read, or a Place."""
    truth: tyro.conf.Positional[Path]
    """True poses, likewise; an image without an estimate has failed."""
    format: str = AUTO
    """Format of the estimates; auto looks."""
    truth_format: str = AUTO
    """Format of the truth; auto looks."""
    against: tuple[Path, ...] = ()
    """Other estimates to compare with, by p-values."""
    only: Path | None = None
    """Text file with an image that counts on each line; else all of the truth."""
    split: str | None = None
    """Of a Place as truth: only this split's test images count."""
    align: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Align the estimates with the truth first, on the scored images: it flatters."""
    unit: Literal["metre", "map unit"] | None = None
    """Unit of the truth; else what its format states. Recall needs metres."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of the table; infinite numbers are null."""

    def run(self) -> int:
        """Score, and print the table."""
        result = score(
            self.estimates,
            self.truth,
            format=self.format,
            truth_format=self.truth_format,
            against=self.against,
            align=self.align,
            unit=self.unit,
            only=self.only,
            split=self.split,
        ).to_json()
        if self.json:
            print(json.dumps(result, indent=2, allow_nan=False))
        else:
            Console(highlight=False, soft_wrap=False).print(score_table(result))
        return 0
