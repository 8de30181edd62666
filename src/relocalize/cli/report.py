"""`relocalize report PLACE`: the page about an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize.evaluation import write_report
from relocalize.place import Place


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about a stored evaluation."""

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    split: str | None = None
    """Which evaluation; without it the only one there is."""

    def run(self) -> int:
        """Write it, and print where it is."""
        print(write_report(Place.open(self.place), self.split))
        return 0
