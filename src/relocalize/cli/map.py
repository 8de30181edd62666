"""`relocalize map PLACE`: one map of all images of a Place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize.cli.options import Flag, Lengths, Printed, options
from relocalize.mapping.report import MapReport
from relocalize.mapping.settings import (
    FeatureChoice,
    KeyframeSettings,
    MatchSettings,
    PairSettings,
    RegisterSettings,
)
from relocalize.place import Place
from relocalize.verbs.map import map as map_place


@dataclass(frozen=True)
class Map(Printed):
    """Map a Place: poses for all its images and 3D points, z up, metric where a length is given.

    Imported poses stay; points then come from the split's train images only.
    """

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    scale: Lengths = ()
    """A measured length: A and B are images (their cameras) or IMAGE@X,Y (a point)."""
    reference: Path | None = None
    """Poses of some of the images, whose frame and unit the map takes on."""
    split: str | None = None
    """With imported poses: the split whose train images make the points."""
    seed: int = 0
    """Random seed."""
    features: FeatureChoice = "auto"
    """auto starts with SIFT, and tries XFeat where the map falls apart."""
    keyframes: KeyframeSettings = KeyframeSettings()
    pairs: PairSettings = PairSettings()
    matching: MatchSettings = MatchSettings()
    registering: RegisterSettings = RegisterSettings()
    extend: Flag = False
    """Keep the map, and add the captures that are not in it."""
    refine: Flag = False
    """With --extend: then adjust everything, old poses and points too."""

    def run(self) -> int:
        """Map, and say what came of it."""
        place = Place.open(self.place)
        report = map_place(place, **options(self, "place"))
        return self.show(report.to_json(), as_text(place, report))


def as_text(place: Place, report: MapReport) -> str:
    """The outcome, for people."""
    frame = place.frame
    lines = [
        f"{report.registered} of {report.images} images have a pose "
        f"({report.keyframes} keyframes); {report.points} points, "
        f"reprojection error {report.reprojection_error:.2f} px, {report.features}"
        + ("; nothing had changed" if report.unchanged else "")
    ]
    if frame.up:
        lines.append(f"up is {frame.up} ({frame.up_from})")
    lines.append(
        f"unit: {frame.unit} "
        + (f"({frame.scale_from})" if frame.scale_from else "(give a length with --scale)")
    )
    lines += report.intrinsics
    lines += report.remarks
    if not report.unchanged:
        lines.append(f"{'stage':32s} {'items':>6s} {'wall s':>8s} {'CPU s':>8s} {'ms each':>8s}")
        for name, stage in report.stages.items():
            each = f"{1000 * stage.cpu_s_each:.0f}" if stage.count else "-"  # all of it was there
            lines.append(
                f"{name:32s} {stage.count:6d} {stage.wall_s:8.1f} {stage.cpu_s:8.1f} {each:>8s}"
            )
    return "\n".join(lines)
