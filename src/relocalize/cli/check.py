"""`relocalize check`: do claimed poses explain the images, and under which convention?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from relocalize.checking import CheckSettings, check_place, check_registration
from relocalize.errors import CheckError
from relocalize.formats import AUTO, read_registration
from relocalize.place import Place


@dataclass(frozen=True)
class Check:
    """Test claimed poses against the images: convention, outliers, intrinsics, duplicates."""

    what: tyro.conf.Positional[Path]
    """A Place, or a file or folder with poses of another tool (then with --images)."""
    images: Path | None = None
    """Folder with the images of a file that was not imported yet."""
    format: str = AUTO
    """Format of the file, or auto to look."""
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Only convention and intrinsics, from a sample of the images."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of text."""

    def run(self) -> int:
        """Print what was found; 0 when the claims explain the images, 2 when they do not."""
        settings = CheckSettings(quick=self.quick)
        if (self.what / "place.json").is_file():
            report = check_place(Place.open(self.what), settings=settings)
        elif self.images is None:
            raise CheckError(
                f"{self.what} is no Place; to check a file before its import give its images "
                "with --images DIR"
            )
        else:
            registration = read_registration(self.what, self.format)
            report = check_registration(registration, self.images, settings=settings)
        print(json.dumps(report.to_json(), indent=2) if self.json else report.to_text())
        return 0 if report.consistent else 2
