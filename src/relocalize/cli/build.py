"""`relocalize build SOURCE PLACE`: from a video to a localizer, honest numbers and a report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from relocalize import evaluation, progress
from relocalize.capture.frames import capture_frames
from relocalize.cli.evaluate import print_results
from relocalize.localizers import fitted
from relocalize.mapping import MapReport, MapSettings, MeasuredLength, map_place
from relocalize.place import Place, Split

# A split by blocks needs one test block in four blocks of four images.
_LEAST_IMAGES = 16


@dataclass(frozen=True)
class Build:
    """Everything in one: frames, map, split, localizers, evaluation, report.

    The same command after an interruption goes on where it was; stages that are done are skipped.
    """

    source: tyro.conf.Positional[Path]
    """A video file or a folder of photos."""
    place: tyro.conf.Positional[Path]
    """The Place folder; made if there is none."""
    count: int | None = None
    """Keep about this many frames of the video."""
    scale: Annotated[
        tuple[tuple[str, str, float], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="A B METRES"),
    ] = ()
    """A measured length in metres between A and B, as in `relocalize map`."""
    split: str | None = None
    """Evaluate on this split; without it the only one, or one by blocks of time is made."""
    localizer: tuple[str, ...] = evaluation.DEFAULT_LOCALIZERS
    """Names of localizers to fit and evaluate."""
    truth: Path | None = None
    """Poses of another origin to evaluate against, as in `relocalize evaluate`."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of text."""

    def run(self) -> int:
        """Build, and print what it cost, the table, and where the report is."""
        stages: dict[str, dict[str, float]] = {}
        with _timed("frames", stages):
            capture_frames(self.source, self.place, count=self.count)
        place = Place.open(self.place)
        with _timed("map", stages):
            lengths = tuple(MeasuredLength(*row) for row in self.scale)
            mapped = map_place(place, MapSettings(lengths=lengths))
        with _timed("split", stages):
            split = self._split(place)
        with _timed("fit", stages):
            for name in self.localizer:
                fitted(place, name)
            for name in evaluation.rows_of(self.localizer) if split else ():
                fitted(place, name, split)
        results: dict[str, Any] | None = None
        page: Path | None = None
        if split is not None:
            with _timed("evaluate", stages):
                results = self._results(place, split)
            with _timed("report", stages):
                page = evaluation.write_report(place, split.name)
        if self.json:
            print(_as_json(place, stages, mapped, results, page))
        else:
            print(_costs(stages, mapped))
            if results is not None:
                print_results(results, as_json=False)
            print(_what_next(place, page))
        return 0

    def _split(self, place: Place) -> Split | None:
        posed = len(place.map.images)
        if self.split is None and not place.split_names and posed < _LEAST_IMAGES:
            progress.say(
                f"not evaluated: {posed} images with a pose are too few for a test set, "
                f"which takes {_LEAST_IMAGES}"
            )
            return None
        return evaluation.split_of(place, self.split)

    def _results(self, place: Place, split: Split) -> dict[str, Any]:
        current = evaluation.current_results(place, split, self.localizer, self.truth)
        if current is not None:
            return current
        return evaluation.evaluate(
            place, split=split.name, localizers=self.localizer, truth=self.truth
        ).to_json()


@contextmanager
def _timed(name: str, stages: dict[str, dict[str, float]]) -> Iterator[None]:
    """Note a stage's wall and CPU seconds, those of child processes too."""
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    yield
    wall, cpu = time.perf_counter() - wall, sum(os.times()[:4]) - cpu
    stages[name] = {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}
    progress.say(f"{name}: done in {wall:.1f} s, {cpu:.1f} CPU s")


def _costs(stages: dict[str, dict[str, float]], mapped: MapReport) -> str:
    lines = [f"{'stage':<34}{'wall s':>9}{'CPU s':>9}{'CPU s each':>12}"]
    for name, cost in stages.items():
        lines.append(f"{name:<34}{cost['wall_s']:>9.1f}{cost['cpu_s']:>9.1f}")
        if name == "map" and not mapped.unchanged:
            lines += [
                f"  {what:<32}{one.wall_s:>9.1f}{one.cpu_s:>9.1f}"
                + (f"{one.cpu_s_each:>12.3f}  x {one.count}" if one.count else "")
                for what, one in mapped.stages.items()
            ]
    total = {key: sum(cost[key] for cost in stages.values()) for key in ("wall_s", "cpu_s")}
    lines.append(f"{'all':<34}{total['wall_s']:>9.1f}{total['cpu_s']:>9.1f}")
    lines.append(
        f"\n{mapped.registered} of {mapped.images} images have a pose "
        f"({mapped.keyframes} keyframes), {mapped.points} points"
    )
    lines += [f"warning: {alarm}" for alarm in mapped.alarms]
    return "\n".join(lines) + "\n"


def _what_next(place: Place, page: Path | None) -> str:
    lines = [] if page is None else [f"report: {page}"]
    return "\n".join([*lines, f"localize a photo: relocalize localize {place.root} PHOTO.jpg"])


def _as_json(
    place: Place,
    stages: dict[str, dict[str, float]],
    mapped: MapReport,
    results: dict[str, Any] | None,
    page: Path | None,
) -> str:
    private = {"per_image", "schema", "inputs", "made"}
    table = results and {key: value for key, value in results.items() if key not in private}
    value = {
        "place": str(place.root),
        "stages": stages,
        "map": mapped.to_json(),
        "evaluation": table,
        "report": None if page is None else str(page),
    }
    return json.dumps(value, indent=2, allow_nan=False)
