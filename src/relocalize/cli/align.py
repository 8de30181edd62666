"""`relocalize align PLACE REFERENCE`: one Place's frame onto another's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from relocalize.cli.options import Flag, Lengths, Printed, options
from relocalize.errors import MappingError
from relocalize.formats import AUTO
from relocalize.verbs.align import align


@dataclass(frozen=True)
class Align(Printed):
    """Find the transform from a Place's frame to another frame; --apply moves the Place there.

    The other frame is a reference's, or that of --control, of --gps, or of --distance and --up.
    """

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    reference: tyro.conf.Positional[Path | None] = None
    """Another Place, or poses in any format that import reads."""
    control: Path | None = None
    """File of measured positions: rows IMAGE,X,Y,Z or POINT,X,Y,Z, and
    POINT,IMAGE,U,V for the pixels that show a point."""
    gps: Flag = False
    """Metres east, north, up by the photos' GPS."""
    distance: Lengths = ()
    """A measured length: A and B are images (their cameras) or IMAGE@X,Y (a point)."""
    up: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DIRECTION | A B")] = ()
    """What is up: an axis (--up=-y), three numbers (0,0.1,1), or two images or
    IMAGE@X,Y, the second above the first."""
    apply: Flag = False
    """Move the Place."""
    rigid: Flag = False
    """Keep the scale: rotation and translation alone."""
    similarity: Flag = False
    """Estimate the scale too, which is the default."""
    format: str = AUTO
    """Format of the reference; auto looks."""
    plot: Path | None = None
    """Draw both from above, before and after: .png, .svg or .pdf."""
    seed: int = 0
    """Random seed."""

    def run(self) -> int:
        """Find the transform, print it, and apply it where asked."""
        if self.rigid and self.similarity:
            raise MappingError("--rigid and --similarity exclude each other")
        report = align(**options(self, "similarity"))
        lines = [report.found.to_text()]
        if self.apply:
            said = "is in that frame now" if report.changed else "was in that frame already"
            lines.append(f"{self.place} {said} (unit: {report.found.frame.unit})")
        return self.show(report.to_json(), "\n".join(lines))
