"""Scoring localizers on the test images of a split."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relocalize import progress
from relocalize.errors import EvaluationError, PlaceError
from relocalize.evaluation.answers import Answer, AnswerLog
from relocalize.evaluation.axes import Up
from relocalize.evaluation.confidence import clusters_of
from relocalize.evaluation.leakage import Nearness
from relocalize.evaluation.names import RESULTS, RESULTS_SCHEMA, rows_of
from relocalize.evaluation.results import Evaluation, Outcome
from relocalize.evaluation.stored_results import fingerprint, how_made, summary_of_split
from relocalize.evaluation.truth import Truth, truth_from_file, truth_of_place
from relocalize.evaluation.truth_sigma import truth_sigma
from relocalize.geometry import Camera, Rigid3
from relocalize.localization import Localizer, fitted
from relocalize.localization.query import Query
from relocalize.localization.store import folder_and_kind, trained_on
from relocalize.place import Place, Split, atomic
from relocalize.place.dropped import dropped_names
from relocalize.place.splits import split_by_blocks

_LOG = "answers.jsonl"  # of an evaluation under way


def evaluate(
    place: Place | str | Path,
    *,
    split: str | None = None,
    localizers: Sequence[str] | None = None,
    truth: str | Path | None = None,
    beside: str | None = None,
    together: bool = False,
) -> Evaluation:
    """Localize a split's test images with each localizer, fitted on its train images.

    The result is stored as ``reports/<split>/results.json``.

    Args:
        place: the Place or its folder; it has a map.
        split: name of a stored split; None takes the only one, or makes one by blocks of time.
        localizers: their names; the baselines are always there as well. None takes all that were
            trained on the split.
        truth: poses of another origin (any format in `formats.FORMATS`) to measure against;
            None measures against the Place's own poses.
        beside: another split that was evaluated before, to be compared with.
        together: localize all test images at once, so that those that share an unknown camera
            calibrate it together; otherwise each one by itself, as it comes to a service.

    Raises:
        EvaluationError: no test image has a true pose, or the truth does not fit the Place.
        RelocalizeError: the Place lacks a map, or a localizer cannot be fitted.
    """
    place = Place.of(place)
    chosen = _wanted_split(place, split)
    truth = Path(truth) if truth else None
    compared = truth_from_file(truth, place, chosen) if truth else truth_of_place(place)
    images, not_scored = _scored(chosen, compared)
    if localizers is None:
        localizers = trained_on(place, chosen)
    other = summary_of_split(place, beside, unit=compared.unit) if beside else None
    _say_if_mapped_from_others(place, chosen)
    _say_if_dropped(place, chosen)
    train = _train_poses(place, chosen)
    for name in localizers:
        folder_and_kind(place, name, chosen)
    _keep(place, chosen)  # from here on, all that was asked for is there
    ready: dict[str, Localizer] = {}
    fit_seconds: dict[str, float] = {}
    for name in rows_of(localizers):
        started = time.perf_counter()
        ready[name] = fitted(place, name, chosen)
        fit_seconds[name] = time.perf_counter() - started
    inputs = fingerprint(place, chosen, localizers, truth) + ("-together" if together else "")
    folder = place.report_dir(chosen.name)
    true = {name: compared.world_from_cam[name] for name in images}
    with place.lock():
        with AnswerLog(folder / _LOG, inputs) as log:
            if together:
                answers = _answers_together(place, chosen, images, ready)
            else:
                answers = _answers(place, chosen, images, ready, log)
        evaluation = Evaluation(
            split=chosen.name,
            rule=chosen.rule,
            train=len(chosen.train),
            truth=compared,
            images=images,
            not_scored=not_scored,
            nearness=Nearness.of(place, chosen.train, true, compared.truth_from_place),
            clusters=_clusters(place, images),
            up=_up(place, train, compared),
            truth_sigma=truth_sigma(place, compared, images, ready),
            other_split=other,
            extent=_extent(train, compared),
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
            "made": {**how_made(place, chosen, truth, fit_seconds), "together": together},
            "per_image": evaluation.images_to_json(),
        }
        atomic.write_json(folder / RESULTS, content)
        log.remove()
    return evaluation


def split_of(place: Place, name: str | None = None) -> Split:
    """The split of that name; without a name the only one, made by blocks where there is none."""
    split = _wanted_split(place, name)
    _keep(place, split)
    return split


def _wanted_split(place: Place, name: str | None) -> Split:
    """As `split_of`; one that is made is not stored."""
    if name is not None or place.split_names:
        return place.split(name)
    posed = place.map.images
    walks = [
        [image.name for image in capture.images if image.name in posed]
        for capture in place.captures.values()
    ]
    if not any(walks):
        raise PlaceError(f"{place.root} has no posed images; make a map first")
    return split_by_blocks(max(walks, key=len))


def _keep(place: Place, split: Split) -> None:
    """Store a split that was made."""
    if split.name in place.split_names:
        return
    place.write_split(split)
    progress.say(
        f"no split yet: made {split.name!r}, every {split.settings['every']}th of "
        f"{split.settings['blocks']} blocks of time is test "
        f"({len(split.train)} train, {len(split.test)} test images)"
    )


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
    blind = sum(name in posed and not len(posed[name].observed) for name in split.train)
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


def _train_poses(place: Place, split: Split) -> list[Rigid3]:
    """``world_from_cam`` of a split's train images in the map."""
    posed = place.map.images
    train = [posed[name].world_from_cam for name in split.train if name in posed]
    if not train:
        raise EvaluationError(f"no train image of split {split.name!r} has a pose in the map")
    return train


def _extent(train: Sequence[Rigid3], truth: Truth) -> float:
    """Diagonal of the box around the train cameras, in the truth's frame and unit."""
    centres = [truth.truth_from_place @ pose.translation for pose in train]
    return float(np.linalg.norm(np.ptp(centres, axis=0)))


def _up(place: Place, train: Sequence[Rigid3], truth: Truth) -> Up:
    """Against gravity, in the truth's frame."""
    up = Up.of(place.frame, train)
    return replace(up, direction=truth.truth_from_place.rotation @ up.direction)


def _clusters(place: Place, images: Sequence[str]) -> NDArray[np.int64]:
    """Which test images are resampled together: those that follow one another in a capture."""
    at = {
        image.name: (capture.name, row)
        for capture in place.captures.values()
        for row, image in enumerate(capture.images)
    }
    places = [at.get(name, ("", row)) for row, name in enumerate(images)]
    return clusters_of([run for run, _ in places], [row for _, row in places])


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
