"""`relocalize drop PLACE --images NAME...`: images out of the map, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize import progress
from relocalize.cli.options import Flag, Printed
from relocalize.errors import MappingError
from relocalize.mapping.dropping import DropReport, drop_images, flagged_images, restore_images
from relocalize.place import Place
from relocalize.place.dropped import dropped_names


@dataclass(frozen=True)
class Drop(Printed):
    """Take images out of the map, or bring them back exactly as they were.

    Their files stay, and so do the positions of the map's points.
    """

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    images: tuple[str, ...] = ()
    """Names of images, as far as unambiguous: frame-000123 will do."""
    flagged: Flag = False
    """The outliers of the last `relocalize check PLACE`."""
    restore: Flag = False
    """Bring images back instead; without names, all."""

    def run(self) -> int:
        """Drop or restore, and print what came of it."""
        place = Place.open(self.place)
        names = (*self.images, *(self._flagged(place) if self.flagged else ()))
        if self.restore:
            chosen = names if self.images or self.flagged else None
            report = restore_images(place, chosen)
        elif not self.images and not self.flagged:
            raise MappingError("nothing to drop; name images with --images, or give --flagged")
        else:
            report = drop_images(place, names)
        return self.show(report.to_json(), as_text(report, restored=self.restore))

    def _flagged(self, place: Place) -> tuple[str, ...]:
        """The flagged images that the map has or had: a check may be older than the map."""
        known = {*place.map.images, *dropped_names(place)}
        flagged = flagged_images(place)
        gone = [name for name in flagged if name not in known]
        if gone:
            progress.say(
                f"{len(gone)} flagged images are not in the map any more, such as {gone[0]}"
            )
        return tuple(name for name in flagged if name in known)


def as_text(report: DropReport, *, restored: bool) -> str:
    """The outcome, for people."""
    what = "back in the map" if restored else "out of the map"
    lines = [f"{name}: {what}" for name in report.changed]
    already = f" ({len(report.as_before)} were before)" if report.as_before else ""
    lines.append(
        f"{len(report.changed)} images {what}{already}; the map has {report.posed} images and "
        f"{report.points} points, and {len(report.dropped)} images are dropped"
    )
    lines += report.remarks
    return "\n".join(lines)
