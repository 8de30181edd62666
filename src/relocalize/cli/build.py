"""`relocalize build SOURCE PLACE`: from a video to a localizer, honest numbers and a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize.cli.options import Flag, Lengths, Printed, draw, options
from relocalize.evaluation.table import results_table
from relocalize.mapping.report import MapReport
from relocalize.verbs.build import REGRESSOR, Cost, build


@dataclass(frozen=True)
class Build(Printed):
    """Everything in one: frames, map, split, localizers, evaluation, report.

    Run it again after an interruption: it resumes, and skips what is done.
    """

    source: tyro.conf.Positional[Path]
    """A video file or a folder of photos."""
    place: tyro.conf.Positional[Path]
    """The Place folder; made if there is none."""
    count: int | None = None
    """Keep about this many frames of the video; else as many as its motion asks for."""
    scale: Lengths = ()
    """A measured length in metres between A and B, as in `relocalize map`."""
    split: str | None = None
    """Split to evaluate on; else the only one, or one by blocks of time."""
    localizer: tuple[str, ...] = ("structure",)
    """Names of localizers to fit and evaluate."""
    no_train: Flag = False
    """Train no pose regressor; training needs the extra `train`."""
    minutes: float | None = None
    """Time for the regressor, preparation included; else until its last epoch."""
    truth: Path | None = None
    """True poses to evaluate against, as in `relocalize evaluate`."""

    def run(self) -> int:
        """Build, and print what it cost, the table, and where the report is."""
        asked = options(self, "localizer", "no_train")
        built = build(**asked, localizers=self.localizer, train=not self.no_train)
        if self.json:
            return self.show(built.to_json(), "")
        print(_costs(built.stages, built.map))
        if built.results is not None:
            draw(results_table(built.results))
        if built.page is not None:
            print(f"report: {built.page}")
        photo = f"relocalize localize {built.place.root} PHOTO.jpg"
        print(f"localize a photo: {photo}")
        if built.results is not None and REGRESSOR in built.results["localizers"]:
            print(f"  by the regressor: {photo} --localizer {REGRESSOR}")
        return 0


def _costs(stages: dict[str, Cost], mapped: MapReport) -> str:
    lines = [f"{'stage':<34}{'wall s':>9}{'CPU s':>9}{'CPU s each':>12}"]
    for name, cost in stages.items():
        lines.append(f"{name:<34}{cost.wall_s:>9.1f}{cost.cpu_s:>9.1f}")
        if name == "map" and not mapped.unchanged:
            lines += [
                f"  {what:<32}{one.wall_s:>9.1f}{one.cpu_s:>9.1f}"
                + (f"{one.cpu_s_each:>12.3f}  x {one.count}" if one.count else "")
                for what, one in mapped.stages.items()
            ]
    wall = sum(cost.wall_s for cost in stages.values())
    cpu = sum(cost.cpu_s for cost in stages.values())
    lines.append(f"{'all':<34}{wall:>9.1f}{cpu:>9.1f}")
    lines.append(
        f"\n{mapped.registered} of {mapped.images} images have a pose "
        f"({mapped.keyframes} keyframes), {mapped.points} points"
    )
    lines += mapped.remarks
    return "\n".join(lines) + "\n"
