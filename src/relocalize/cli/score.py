"""`relocalize score ESTIMATES TRUTH`: anyone's estimates against a truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from relocalize.cli.options import Flag, Printed, options
from relocalize.evaluation.scored_files import score
from relocalize.formats import AUTO


@dataclass(frozen=True)
class Score(Printed):
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
    align: Flag = False
    """Lay the estimates over the truth by a robust similarity first. It is fitted to the scored
    images themselves, which flatters: for estimates in a frame of their own alone."""
    unit: Literal["metre", "map unit"] | None = None
    """Unit of the truth; without it what its format states. Recall needs metres."""

    def run(self) -> int:
        """Score, and print the table."""
        result = score(**options(self))
        return self.show(result.to_json(), result)
