"""Scoring localizers on the test images of a split."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize import progress
from relocalize.errors import EvaluationError, PlaceError
from relocalize.evaluation.answers import Answer, AnswerLog
from relocalize.evaluation.clusters import pieces
from relocalize.evaluation.comparison import beside
from relocalize.evaluation.fitted_facts import learning_curves_of, settings_of
from relocalize.evaluation.inputs import fingerprint
from relocalize.evaluation.leakage import NearestViews, nearest_views, scene_depth, time_gaps
from relocalize.evaluation.names import RESULTS, RESULTS_SCHEMA, rows_of
from relocalize.evaluation.results import Evaluation, Outcome
from relocalize.evaluation.truth import Truth, truth_from_file, truth_of_place
from relocalize.evaluation.truth_sigma import truth_sigma
from relocalize.evaluation.up import Up
from relocalize.geometry import Camera
from relocalize.localization import Localizer, fitted
from relocalize.localization.query import Query
from relocalize.localization.store import trained_on
from relocalize.place import Place, Split, atomic
from relocalize.place.dropped import dropped_names
from relocalize.place.splits import split_by_blocks

_LOG = "answers.jsonl"  # of an evaluation under way


def evaluate(
    place: Place,
    *,
    split: str | None = None,
    localizers: Sequence[str] | None = None,
    truth: Path | None = None,
    other_split: str | None = None,
    together: bool = False,
) -> Evaluation:
    """Localize a split's test images with each localizer, fitted on its train images.

    The result is stored as ``reports/<split>/results.json``.

    Args:
        place: with a map.
        split: name of a stored split; None takes the only one, or makes one by blocks of time.
        localizers: their names, beside the baselines, which are always there; None takes all that
            were trained on the split.
        truth: poses of another origin (any format in `formats.FORMATS`) to measure against;
            None measures against the Place's own poses.
        other_split: one that was evaluated before, to stand beside this one.
        together: localize all test images at once, so that those that share an unknown camera
            calibrate it together; otherwise each one by itself, as it comes to a service.

    Raises:
        EvaluationError: no test image has a true pose, or the truth does not fit the Place.
        RelocalizeError: the Place lacks a map, or a localizer cannot be fitted.
    """
    chosen = split_of(place, split)
    compared = truth_from_file(truth, place, chosen) if truth else truth_of_place(place)
    images, not_scored = _scored(chosen, compared)
    if localizers is None:
        localizers = trained_on(place, chosen)
    other = None if other_split is None else beside(place, other_split, unit=compared.unit)
    _say_if_mapped_from_others(place, chosen)
    _say_if_dropped(place, chosen)
    ready: dict[str, Localizer] = {}
    fit_seconds: dict[str, float] = {}
    for name in rows_of(localizers):
        started = time.perf_counter()
        ready[name] = fitted(place, name, chosen)
        fit_seconds[name] = time.perf_counter() - started
    inputs = fingerprint(place, chosen, localizers, truth) + ("-together" if together else "")
    folder = place.report_dir(chosen.name)
    with place.lock():
        with AnswerLog(folder / _LOG, inputs) as log:
            if together:
                answers = _answers_together(place, chosen, images, ready)
            else:
                answers = _answers(place, chosen, images, ready, log)
        extent, nearest = _distances(place, chosen, images, compared)
        evaluation = Evaluation(
            split=chosen.name,
            rule=chosen.rule,
            train=len(chosen.train),
            truth=compared,
            images=images,
            not_scored=not_scored,
            nearest=nearest,
            gaps=time_gaps(place, chosen.train, images),
            pieces=_pieces(place, images),
            up=_up(place, chosen, compared),
            truth_sigma=truth_sigma(place, compared, images, ready),
            beside=other,
            extent=extent,
            outcomes={
                name: tuple(map(Outcome.of, rows, images, repeat(compared)))
                for name, rows in answers.items()
            },
            fit_seconds=fit_seconds,
        )
        content = {
            "schema": RESULTS_SCHEMA,
            **evaluation.to_json(),
            "inputs": inputs,
            "made": {**_how_made(place, chosen, truth, evaluation), "together": together},
            "per_image": evaluation.images_to_json(),
        }
        atomic.write_json(folder / RESULTS, content)
        log.remove()
    return evaluation


def split_of(place: Place, name: str | None = None) -> Split:
    """The split of that name; without a name the only one, made by blocks where there is none."""
    if name is not None or place.split_names:
        return place.split(name)
    posed = place.map.images
    walks = [
        [image.name for image in capture.images if image.name in posed]
        for capture in place.captures.values()
    ]
    if not any(walks):
        raise PlaceError(f"{place.root} has no posed images; make a map first")
    split = split_by_blocks(max(walks, key=len))
    place.write_split(split)
    progress.say(
        f"no split yet: made {split.name!r}, every {split.settings['every']}th of "
        f"{split.settings['blocks']} blocks of time is test "
        f"({len(split.train)} train, {len(split.test)} test images)"
    )
    return split


def _scored(split: Split, truth: Truth) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The test images that have a true pose, and those that have none."""
    images = tuple(name for name in split.test if name in truth.world_from_cam)
    not_scored = tuple(name for name in split.test if name not in truth.world_from_cam)
    if not images:
        raise EvaluationError(
            f"none of the {len(split.test)} test images of split {split.name!r} has a pose in "
            f"{truth.source}"
        )
    if not_scored:
        progress.say(f"{len(not_scored)} test images have no true pose and are not scored")
    return images, not_scored


def _say_if_mapped_from_others(place: Place, split: Split) -> None:
    """A map whose points came from another split's train images sells this split short."""
    posed = place.map.images
    blind = sum(name in posed and not (posed[name].point_rows >= 0).any() for name in split.train)
    if blind > len(split.train) // 10:
        progress.say(
            f"{blind} of {len(split.train)} train images of split {split.name!r} see no point of "
            f"the map; map again for it: relocalize map {place.root} --split {split.name}"
        )


def _say_if_dropped(place: Place, split: Split) -> None:
    dropped = set(dropped_names(place))
    train, test = (len(dropped.intersection(side)) for side in (split.train, split.test))
    if train or test:
        progress.say(
            f"{train} train and {test} test images of split {split.name!r} are dropped from the "
            "map: nothing is learnt from those, and these are scored against a --truth only"
        )


def _answers(
    place: Place,
    split: Split,
    images: Sequence[str],
    localizers: dict[str, Localizer],
    log: AnswerLog,
) -> dict[str, list[Answer]]:
    """Every localizer on every image; one at a time, so that times are those of one photo."""
    cameras = _known_cameras(place, split, images)
    answers: dict[str, list[Answer]] = {which: [] for which in localizers}
    if len(log):
        progress.say(f"going on after {len(log)} answers of an evaluation that was stopped")
    for name in progress.track(images, f"localizing with {', '.join(localizers)}"):
        pixels: NDArray[np.uint8] | None = None
        for which, localizer in localizers.items():
            answer = log.get(which, name)
            if answer is None:
                pixels = place.read_image(name) if pixels is None else pixels
                wall, cpu = time.perf_counter(), time.process_time()
                estimate = localizer.localize(pixels, cameras[name])
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                answer = Answer.of(estimate, 1000 * wall, 1000 * cpu)
                log.add(which, name, answer)
            answers[which].append(answer)
    return answers


def _answers_together(
    place: Place, split: Split, images: Sequence[str], localizers: dict[str, Localizer]
) -> dict[str, list[Answer]]:
    """Every localizer on all images at once; the time of each is its share."""
    cameras = _known_cameras(place, split, images)
    answers = {}
    for which, localizer in localizers.items():
        shown = progress.track(images, f"localizing together with {which}")
        wall, cpu = time.perf_counter(), time.process_time()
        found = localizer.localize_many(
            Query.of(place.read_image(name), cameras[name]) for name in shown
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        share = 1000 / len(images)
        answers[which] = [Answer.of(one, share * wall, share * cpu) for one in found]
    return answers


def _distances(
    place: Place, split: Split, images: Sequence[str], truth: Truth
) -> tuple[float, NearestViews]:
    """The train cameras' extent in the truth's unit, and each test image's nearest train view."""
    posed, move = place.map.images, truth.truth_from_place
    train = [move.move_camera(posed[n].world_from_cam) for n in split.train if n in posed]
    if not train:
        raise EvaluationError(f"no train image of split {split.name!r} has a pose in the map")
    centres = np.stack([pose.translation for pose in train])
    extent = float(np.linalg.norm(np.ptp(centres, axis=0)))
    depth = move.scale * scene_depth(place, split.train)
    test = [truth.world_from_cam[name] for name in images]
    return extent, nearest_views(train, test, scene_depth=depth)


def _pieces(place: Place, images: Sequence[str]) -> NDArray[np.int64]:
    """Which test images are resampled together: those that follow one another in a capture."""
    at = {
        image.name: (capture.name, row)
        for capture in place.captures.values()
        for row, image in enumerate(capture.images)
    }
    places = [at.get(name, ("", row)) for row, name in enumerate(images)]
    return pieces([run for run, _ in places], [row for _, row in places])


def _up(place: Place, split: Split, truth: Truth) -> Up:
    """Against gravity, in the truth's frame."""
    posed = place.map.images
    train = [posed[name].world_from_cam for name in split.train if name in posed]
    up = Up.of_frame(place.frame.up, place.frame.up_from, train)
    return replace(up, direction=truth.truth_from_place.rotation @ up.direction)


def _known_cameras(place: Place, split: Split, images: Sequence[str]) -> dict[str, Camera | None]:
    """What may be known of each test image's camera before it is localized.

    The map's calibration where train images share the camera, else what the capture knows.
    """
    posed = place.map.images
    calibrated = {posed[name].camera_id for name in split.train if name in posed}
    priors = {image.name: capture.camera_of(image) for capture, image in place.images()}
    return {
        name: posed[name].camera
        if name in posed and posed[name].camera_id in calibrated
        else priors.get(name)
        for name in images
    }


def _how_made(
    place: Place, split: Split, truth: Path | None, evaluation: Evaluation
) -> dict[str, Any]:
    """What is needed to make the same again."""
    return {
        "with": {
            package: version(package) for package in ("relocalize", "pycolmap", "poselib", "numpy")
        },
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "split": {"rule": split.rule, "settings": split.settings},
        "truth_file": None if truth is None else truth.name,
        "seeds": {"alignment": 0, "intervals": 0, "paired": 0},
        "fit_seconds": {name: round(value, 2) for name, value in evaluation.fit_seconds.items()},
        "localizers": {name: settings_of(place, name, split) for name in evaluation.outcomes},
        "learning_curves": {
            name: curves
            for name in evaluation.outcomes
            if (curves := learning_curves_of(place, name, split)) is not None
        },
    }
