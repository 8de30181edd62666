"""`relocalize check`: do claimed poses explain the images, and under which convention?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from relocalize.formats import AUTO
from relocalize.verbs.check import check


@dataclass(frozen=True)
class Check:
    """Test claimed poses against the images: convention, outliers, intrinsics, duplicates."""

    what: tyro.conf.Positional[Path]
    """A Place, or another tool's poses (then with --images)."""
    images: Path | None = None
    """Folder with the images of a file."""
    format: str = AUTO
    """Format of the file; auto looks."""
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Only convention and intrinsics, from a sample of images."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of text."""

    def run(self) -> int:
        """Print what was found; 0 when the claims explain the images, 2 when they do not."""
        report = check(self.what, self.images, format=self.format, quick=self.quick)
        print(json.dumps(report.to_json(), indent=2) if self.json else report.to_text())
        return 0 if report.consistent else 2
