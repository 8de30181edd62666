"""`relocalize import FILE PLACE --images DIR`: poses that another tool made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize.cli.options import LengthUnit, Printed, options
from relocalize.formats import AUTO
from relocalize.verbs.import_poses import ImportReport, import_poses


@dataclass(frozen=True)
class Import(Printed):
    """Bring images and their poses from another tool into a Place."""

    file: tyro.conf.Positional[Path]
    """The poses: a file or folder of any format that is read."""
    place: tyro.conf.Positional[Path]
    """The Place folder; made if there is none."""
    images: Path
    """Folder with the images, which are hard-linked, or copied across disks."""
    format: str = AUTO
    """Format of the poses; auto looks."""
    convention: str = AUTO
    """auto: what the images prove. stated: what the format documents.
    Or a name such as wxyz,cam_from_world,RDF,translation."""
    capture: str = "imported"
    """Name of the capture that the images become."""
    train: Path | None = None
    """Text file with a train image on each line."""
    test: Path | None = None
    """Text file with a test image on each line."""
    split: str = "imported"
    """Name of the split that these lists become."""
    unit: LengthUnit = None
    """metre or map unit; else what the format states (pose lists: metre)."""

    def run(self) -> int:
        """Import, and print what came of it."""
        report = import_poses(**options(self))
        return self.show(report.to_json(), _as_text(report, self.place))


def _as_text(report: ImportReport, place: Path) -> str:
    lines = [
        f"{report.posed} of {report.listed} images of the {report.format} are in {place} "
        f"as capture {report.capture}" + (", as before" if report.unchanged else "")
    ]
    for count, what in (
        (
            len(report.without_image),
            f"listed without an image (names: captures/{report.capture}.json)",
        ),
        (len(report.ambiguous), "with a name that could mean several images"),
        (len(report.left_out), f"images left out (why: captures/{report.capture}.json)"),
        (len(report.problems), "rows of the file left out"),
    ):
        if count:
            lines.append(f"  {count} {what}")
    lines.append(f"  convention: {report.convention} by {report.convention_from}")
    lines.append(f"  unit: {report.unit}; points: {report.points}")
    said = {
        "exact": "as given",
        "approximate": "approximate: the map refines them",
        "unknown": "of unknown focal length: the map estimates it",
    }
    intrinsics = [f"{count} {said[known]}" for known, count in report.intrinsics.items()]
    lines.append(f"  intrinsics: {'; '.join(intrinsics)}")
    if report.split is not None:
        lines.append(f"  split {report.split}: {report.train} train, {report.test} test")
    if not report.points:
        lines.append(f"  next: relocalize map {place}")
    return "\n".join(lines)
