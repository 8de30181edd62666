"""The main job, whole: from a video or photos to frames, map, localizers, numbers and a report."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from relocalize import evaluation, progress
from relocalize.capture.frames import capture_frames
from relocalize.errors import LocalizerError, PlaceError
from relocalize.formats.registry import read_registration
from relocalize.localization import fitted
from relocalize.localization.registry import TRAINED, localizer_type
from relocalize.localization.store import folder_of, is_current, trained_on
from relocalize.mapping.map_place import map_place
from relocalize.mapping.report import MapReport
from relocalize.mapping.scale import MeasuredLength, check_positive
from relocalize.mapping.settings import MapSettings
from relocalize.place import Place, Split
from relocalize.regression import require_torch
from relocalize.regression.presets import preset
from relocalize.regression.settings import TrainSettings
from relocalize.verbs.train import stored_settings
from relocalize.verbs.train import train as train_regressor

REGRESSOR = "regressor"
# A split by blocks needs one test block in four blocks of four images.
_LEAST_IMAGES = 16


@dataclass(frozen=True)
class Cost:
    """What a stage took: seconds that passed, and processor seconds of all threads."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, eq=False)
class BuildReport:
    """What came of a build.

    Attributes:
        place: the finished Place.
        stages: costs of this run by stage, in order.
        map: what mapping did.
        results: the evaluation as `relocalize evaluate --json` has it, and more; None where
            there are too few images for a test set.
        page: the report's page, or None likewise.
    """

    place: Place
    stages: dict[str, Cost]
    map: MapReport
    results: dict[str, Any] | None
    page: Path | None

    def to_json(self) -> dict[str, Any]:
        """As plain values, without the numbers of single images."""
        private = {"per_image", "schema", "inputs", "made"}
        table = self.results and {k: v for k, v in self.results.items() if k not in private}
        return {
            "place": str(self.place.root),
            "stages": {name: asdict(cost) for name, cost in self.stages.items()},
            "map": self.map.to_json(),
            "evaluation": table,
            "report": None if self.page is None else str(self.page),
        }

    def __repr__(self) -> str:
        seconds = sum(cost.wall_s for cost in self.stages.values())
        rows = ", ".join(self.results["localizers"]) if self.results else "nothing evaluated"
        return f"BuildReport({self.place.root}: {self.map!r}, {rows}, {seconds:.1f} s)"


def build(
    source: str | Path,
    place: str | Path,
    *,
    count: int | None = None,
    scale: Sequence[tuple[str, str, float]] = (),
    split: str | None = None,
    localizers: Sequence[str] = ("structure",),
    train: bool = True,
    minutes: float | None = None,
    truth: str | Path | None = None,
) -> BuildReport:
    """Everything in one: frames, map, split, localizers, evaluation, report.

    What is done already is skipped, and the same call after a kill resumes. The camera pose
    regressor is trained once, on the split's train images, so that the one with known accuracy is
    the one that localizes photos. Where it cannot be trained and was not asked for by its name, a
    line below the table says why and the rest is done.

    Args:
        source: a video file or a folder of photos.
        place: the Place folder; made if there is none.
        count: keep about this many frames of the video; None: by image motion.
        scale: measured lengths ``(A, B, metres)`` that make the map metric, as for `map`.
        split: evaluate on this split; None: the only one, or one by blocks of time is made.
        localizers: names of those to fit and evaluate.
        train: train the default camera pose regressor as well.
        minutes: that this training may take; None: until its last epoch.
        truth: poses of another origin to evaluate against, as for `evaluate`.

    Raises:
        RelocalizeError: one of the stages cannot be done; the Place stays usable.
    """
    lengths = tuple(MeasuredLength(*row) for row in scale)
    truth = None if truth is None else Path(truth)
    training = replace(preset("default"), minutes=minutes)
    _check_place(Path(place), split, lengths)
    missing = _checked(localizers, truth, train=train)
    stages: dict[str, Cost] = {}
    with _timed("frames", stages):
        capture_frames(source, place, count=count)
    made = Place.open(place)
    with _timed("map", stages):
        mapped = map_place(made, MapSettings(lengths=lengths))
    with _timed("split", stages):
        chosen = _split(made, split)
    rows = tuple(name for name in localizers if name not in TRAINED)
    with _timed("fit", stages):
        for name in rows:
            fitted(made, name)
        for name in evaluation.rows_of(rows) if chosen else ():
            fitted(made, name, chosen)
    results: dict[str, Any] | None = None
    page: Path | None = None
    if chosen is not None:
        if train and not missing:
            with _timed("train", stages):
                missing = _train(made, chosen, training, localizers)
            rows += () if missing else (REGRESSOR,)
        rows = tuple(dict.fromkeys((*rows, *trained_on(made, chosen))))
        with _timed("evaluate", stages):
            results = evaluation.current_results(made, chosen, rows, truth)
            if results is None:
                scored = evaluation.evaluate(made, split=chosen.name, localizers=rows, truth=truth)
                results = scored.to_json()
            results = {**results, "missing": missing}
            evaluation.note_missing(made, chosen, missing)
        with _timed("report", stages):
            page = evaluation.write_report(made, chosen.name)
    return BuildReport(made, stages, mapped, results, page)


def _check_place(root: Path, split: str | None, lengths: Sequence[MeasuredLength]) -> None:
    """Raise before the work where there is no such split, or a length is none."""
    if split is not None:
        if not (root / "place.json").is_file():
            raise PlaceError(f"{root} is new and has no split {split!r}; leave it out")
        Place.open(root).split(split)
    check_positive(lengths)


def _checked(localizers: Sequence[str], truth: Path | None, *, train: bool) -> dict[str, str]:
    """Why the regressor has no row, if so; what cannot be done is found before the work."""
    for name in localizers:
        localizer_type(name)
    if truth is not None:
        read_registration(truth)
    if not train and REGRESSOR in localizers:
        raise LocalizerError(
            f"--no-train and --localizer {REGRESSOR} exclude each other; give one of them"
        )
    if train:
        try:
            require_torch()
        except LocalizerError as error:
            return _skipped(error, localizers)
    return {}


def _skipped(why: LocalizerError, localizers: Sequence[str]) -> dict[str, str]:
    """What stands for the row; raises where the regressor was asked for by its name."""
    if REGRESSOR in localizers:
        raise why
    progress.say(f"the regressor is skipped: {why}")
    return {REGRESSOR: str(why)}


def _train(
    place: Place, split: Split, training: TrainSettings, localizers: Sequence[str]
) -> dict[str, str]:
    """Train the regressor unless there is one of now; why the table has no row of it, if so."""
    folder = folder_of(place, REGRESSOR, split)
    if is_current(place, folder, split):
        return {}
    # One that was trained otherwise, by `relocalize train`, is trained so again.
    before = stored_settings(folder)
    if before is not None:
        training = replace(before, minutes=training.minutes or before.minutes)
    try:
        train_regressor(place, split=split.name, preset=training)
    except LocalizerError as error:
        return _skipped(error, localizers)
    return {}


def _split(place: Place, name: str | None) -> Split | None:
    posed = len(place.map.images)
    if name is None and not place.split_names and posed < _LEAST_IMAGES:
        progress.say(
            f"not evaluated: {posed} images with a pose are too few for a test set, "
            f"which takes {_LEAST_IMAGES}"
        )
        return None
    return evaluation.split_of(place, name)


@contextmanager
def _timed(name: str, stages: dict[str, Cost]) -> Iterator[None]:
    """Note a stage's wall and CPU seconds, those of child processes too."""
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    yield
    wall, cpu = time.perf_counter() - wall, sum(os.times()[:4]) - cpu
    stages[name] = Cost(round(wall, 2), round(cpu, 2))
    progress.say(f"{name}: done in {wall:.1f} s, {cpu:.1f} CPU s")
