"""`relocalize score ESTIMATES TRUTH`: anyone's estimates against a truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize.cli.options import Flag, LengthUnit, Printed, options
from relocalize.evaluation.scored_files import score
from relocalize.formats import AUTO


@dataclass(frozen=True)
class Score(Printed):
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
    """Text file that names an image a line, which alone count; else all of the truth."""
    split: str | None = None
    """Of a Place as truth: only this split's test images count."""
    align: Flag = False
    """Align the estimates with the truth first, on the scored images: it flatters."""
    unit: LengthUnit = None
    """metre or map unit, of the truth; else what its format states. Recall needs metres."""

    def run(self) -> int:
        """Score, and print the table."""
        result = score(**options(self))
        return self.show(result.to_json(), result)
