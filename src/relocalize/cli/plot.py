"""`relocalize plot PLACE`: where the cameras are, from above or in 3D."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize.cli.options import Flag
from relocalize.place import Place


@dataclass(frozen=True)
class Plot:
    """Draw the trajectory and the viewing directions of a Place's cameras."""

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    out: Path | None = None
    """.png, .svg, .pdf from above, .html in 3D; else plot.png in the Place."""
    names: Flag = False
    """Write the images' names beside them."""
    captures: tuple[str, ...] = ()
    """Draw only these; else all."""
    points: Flag = False
    """Draw the map's points too."""
    floor: Flag = False
    """Draw the floor plan instead; without --out floor.png in the Place."""

    def run(self) -> int:
        """Draw it, and print where it is."""
        from relocalize.plotting import plot_floor, plot_place  # noqa: PLC0415 - matplotlib is slow

        place = Place.open(self.place)
        out = self.out or self.place / ("floor.png" if self.floor else "plot.png")
        remarks: list[str] = []
        if self.floor:
            plot_floor(place, out)
        else:
            remarks = plot_place(
                place, out, captures=self.captures, names=self.names, points=self.points
            )
        for remark in remarks:
            print(f"note: {remark}", file=sys.stderr)
        print(out)
        return 0
