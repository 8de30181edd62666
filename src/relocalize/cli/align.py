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

    The other frame is one of: a reference with poses of the same images, measured positions
    (--control), the GPS of the photos (--gps), a measured length (--distance) and what is up
    (--up), or both of these.
    """

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    reference: tyro.conf.Positional[Path | None] = None
    """Another Place, or a file or folder of poses in any format that import reads."""
    control: Path | None = None
    """Measured positions in metres: rows `image, x, y, z` or `point, x, y, z`, and
    `point, image, u, v` for the pixels that show a point. Three or more, not on one line."""
    gps: Flag = False
    """Metres east, north and up of the middle of the GPS positions in the photos' EXIF; the origin
    is kept in place.json."""
    distance: Lengths = ()
    """A measured length between A and B; each is an image (its camera) or IMAGE@X,Y (the point
    seen at that pixel). May be given several times."""
    up: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DIRECTION | A B")] = ()
    """What is up: an axis of the Place's frame (y, or --up=-y), three numbers (0,0.1,1), or two
    images or IMAGE@X,Y of which the second is above the first."""
    apply: Flag = False
    """Move the Place: its poses and points, and place.json says so."""
    rigid: Flag = False
    """Keep the scale: rotation and translation alone."""
    similarity: Flag = False
    """Estimate the scale too, which is the default."""
    format: str = AUTO
    """Of the reference: as for import, or auto to look."""
    plot: Path | None = None
    """Draw both from above, before and after: a .png, .svg or .pdf file."""
    seed: int = 0
    """Of everything random."""

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
