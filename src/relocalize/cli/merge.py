"""`relocalize merge PLACE OTHER`: two Places that overlap, made one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize.cli.map import as_text as map_as_text
from relocalize.cli.options import Flag, Printed, options
from relocalize.mapping.merge_places import MergeReport
from relocalize.place import Place
from relocalize.verbs.merge import merge


@dataclass(frozen=True)
class Merge(Printed):
    """Bring another Place's images, features and map into a Place that it overlaps.

    What was there stays to the bit, and the other Place is not changed.
    """

    place: tyro.conf.Positional[Path]
    """The Place folder that the other comes into."""
    other: tyro.conf.Positional[Path]
    """The other Place folder."""
    refine: Flag = False
    """Then adjust everything, old poses and points too."""

    def run(self) -> int:
        """Merge, and say what came of it."""
        report = merge(**options(self))
        return self.show(report.to_json(), as_text(Place.open(self.place), self.other, report))


def as_text(place: Place, other: Path, report: MergeReport) -> str:
    """The outcome, for people."""
    scale = "" if report.scale is None else f"; 1 there is {report.scale:.4g} {place.unit} here"
    lines = [
        f"{report.merged} of {report.images} posed images of {other} are in {place.root}{scale}"
    ]
    lines += [
        f"capture {there} of {other} is called {here} here"
        for there, here in report.captures.items()
        if there != here
    ]
    lines += report.remarks
    return "\n".join([*lines, map_as_text(place, report.map)])
