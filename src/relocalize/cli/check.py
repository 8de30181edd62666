"""`relocalize check`: do claimed poses explain the images, and under which convention?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize.cli.options import Flag, Printed, options
from relocalize.formats import AUTO
from relocalize.verbs.check import check


@dataclass(frozen=True)
class Check(Printed):
    """Test claimed poses against the images: convention, outliers, intrinsics, duplicates."""

    what: tyro.conf.Positional[Path]
    """A Place, or another tool's poses (then with --images)."""
    images: Path | None = None
    """Folder with the images, where WHAT is a file."""
    format: str = AUTO
    """Format of the file; auto looks."""
    quick: Flag = False
    """Only convention and intrinsics, from a sample of images."""

    def run(self) -> int:
        """Print what was found; 0 when the claims explain the images, 2 when they do not."""
        report = check(**options(self))
        self.show(report.to_json(), report.to_text())
        return 0 if report.consistent else 2
