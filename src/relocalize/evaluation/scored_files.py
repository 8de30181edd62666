"""Anyone's estimates against a truth: two files of poses of the same images."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize import progress
from relocalize.errors import EvaluationError, GeometryError
from relocalize.evaluation.accuracy import Accuracy
from relocalize.evaluation.clusters import pieces
from relocalize.evaluation.confidence import LEVEL, Resamples
from relocalize.evaluation.metrics import PoseErrors
from relocalize.evaluation.paired import Difference, differences
from relocalize.evaluation.up import Up
from relocalize.formats import AUTO, match_names
from relocalize.formats.names import LONGEST_GAP_S, nearest_in_time
from relocalize.formats.text import first_lines, read_lines
from relocalize.geometry import Alignment, Rigid3, align_camera_poses
from relocalize.geometry.alignment_doubts import why_not
from relocalize.mapping.aligning import Reference, read_reference
from relocalize.place import Place
from relocalize.place.folder import MAP_UNIT, METRE


@dataclass(frozen=True)
class ScoreSettings:
    """How estimates are scored.

    Attributes:
        format: of the estimates: a key of `FORMATS`, or ``auto``.
        truth_format: of the truth, likewise.
        align: lay the estimates over the truth by a robust similarity first.
        unit: ``metre`` or ``map unit``, of the truth; None takes what its format states.
        only: a text file with the name of an image that counts on each line; None: all of the
            truth's.
        split: of a truth that is a Place: its test images count.
    """

    format: str = AUTO
    truth_format: str = AUTO
    align: bool = False
    unit: str | None = None
    only: Path | None = None
    split: str | None = None


@dataclass(frozen=True, eq=False)
class Scored:
    """One file of estimates.

    Attributes:
        what: the file, for people.
        errors: against the truth, of the images that count.
        accuracy: the same summed up.
        strangers: estimates of images that the truth does not have, or that do not count.
        ambiguous: estimates whose name could mean several of the truth's images.
        left_out: rows of the file that are no pose.
        alignment: onto the truth; None where none was asked for.
    """

    what: str
    errors: PoseErrors
    accuracy: Accuracy
    strangers: int
    ambiguous: int
    left_out: int
    alignment: Alignment | None

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values."""
        found = self.alignment
        return {
            "estimates": self.what,
            **self.accuracy.to_json(),
            "strangers": self.strangers,
            "ambiguous": self.ambiguous,
            "left_out": self.left_out,
            "aligned": found
            and {
                "method": "robust Sim3 on the scored images",
                "images": len(found.inliers),
                "inliers": int(found.inliers.sum()),
                "scale": found.b_from_a.scale,
                "quat_wxyz": found.b_from_a.quat_wxyz.tolist(),
                "translation": found.b_from_a.translation.tolist(),
            },
        }


@dataclass(frozen=True, eq=False)
class Score:
    """Estimates against a truth.

    Attributes:
        truth: for people.
        unit: of the truth.
        images: that were scored, as the truth names them.
        scored: the estimates, and others to compare with where there are such.
        differences: between them.
        pieces: how many independent pieces of the walk intervals rest on.
        up: which way is up in the truth's frame.
    """

    truth: str
    unit: str
    images: tuple[str, ...]
    scored: tuple[Scored, ...]
    differences: tuple[Difference, ...]
    pieces: int
    up: Up

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values; an infinite or meaningless number is None."""
        first, *others = self.scored
        return {
            "truth": self.truth,
            "unit": self.unit,
            **first.to_json(),
            "against": [other.to_json() for other in others],
            "paired": [one.to_json() for one in self.differences],
            "confidence": {"level": LEVEL, "pieces": self.pieces, "seed": 0},
            "up": {"direction": self.up.direction.tolist(), "from": self.up.source},
        }


def score_files(
    estimates: Path,
    truth: Path,
    *,
    against: Sequence[Path] = (),
    settings: ScoreSettings = ScoreSettings(),
) -> Score:
    """Score estimates against a truth; images of it without an estimate have failed.

    Names are matched as at import: in full, then by less and less of them, where that is unique.
    The poses of a trajectory have no images: of a truth that is one, those count that are nearest
    in time to an estimate.

    Args:
        estimates: poses in any known format, or a Place.
        truth: likewise.
        against: other estimates of the same images, to be compared with.
        settings: formats, unit, alignment, and which images count.

    Raises:
        FormatError: a file is not what it should be.
        EvaluationError: no name of the two agrees, or no alignment comes of them.
    """
    if settings.unit not in {None, METRE, MAP_UNIT}:
        raise EvaluationError(f"unit {settings.unit!r}; want {METRE!r} or {MAP_UNIT!r}")
    reference = _poses(truth, settings.truth_format, "true poses")
    given = {
        path: _matched(_poses(path, settings.format, "estimates"), reference)
        for path in (estimates, *against)
    }
    if len(given) <= len(against):
        raise EvaluationError("give each file of estimates once")
    images = _that_count(truth, reference, given.values(), settings)
    true = [reference.world_from_cam[name] for name in images]
    unit = settings.unit or reference.unit
    up = (
        Up.of_images(true)
        if reference.frame is None
        else Up.of_frame(reference.frame.up, reference.frame.up_from, true)
    )
    resamples = Resamples.of(_pieces(images, reference))
    scored = tuple(
        _scored(path, one, reference, images, true, unit, up, resamples, settings)
        for path, one in given.items()
    )
    errors = {one.what: one.errors for one in scored}
    return Score(
        truth=reference.what,
        unit=unit,
        images=images,
        scored=scored,
        differences=tuple(differences(errors, resamples, metric=unit == METRE)),
        pieces=resamples.counts.shape[1],
        up=up,
    )


@dataclass(frozen=True, eq=False)
class _Given:
    """A file of estimates.

    Attributes:
        estimated: its poses.
        listed_of: the name of its estimate by the truth's image.
        ambiguous: estimates whose name could mean several of the truth's images.
    """

    estimated: Reference
    listed_of: dict[str, str]
    ambiguous: int


def _poses(path: Path, format_name: str, what: str) -> Reference:
    # Of an empty file nobody can tell the format, and what it means is plain.
    if path.is_file():
        rows = first_lines(path)
        says_nothing = all(not row.strip() or row.strip().startswith("#") for row in rows)
        if says_nothing and (rows or not path.stat().st_size):
            raise EvaluationError(f"{path} holds no {what}: no row but comments")
    return read_reference(path, format_name)


def _matched(estimated: Reference, reference: Reference) -> _Given:
    times, true_times = _times(estimated), _times(reference)
    if times and true_times:
        return _Given(estimated, nearest_in_time(times, true_times)[0], 0)
    # Against all of the truth: an estimate of an image that does not count must not be taken for
    # another with a similar name that does.
    match = estimated.match(reference.world_from_cam)
    listed_of = {name: listed for listed, name in match.present_of.items()}
    return _Given(estimated, listed_of, len(match.ambiguous))


def _times(reference: Reference) -> dict[str, float]:
    """Seconds by pose, of a trajectory."""
    return reference.registration.times if reference.registration else {}


def _that_count(
    truth: Path, reference: Reference, given: Iterable[_Given], settings: ScoreSettings
) -> tuple[str, ...]:
    """The truth's images that are scored, in the order of their names."""
    if settings.only is not None and settings.split is not None:
        raise EvaluationError("--only and --split exclude each other")
    if settings.split is not None:
        if reference.frame is None:
            raise EvaluationError(f"{truth} is no Place, so it has no split {settings.split!r}")
        wanted: Collection[str] = Place.open(truth).split(settings.split).test
        what = f"test images of split {settings.split!r}"
    elif settings.only is not None:
        rows = map(str.strip, read_lines(settings.only))
        wanted = [row for row in rows if row and not row.startswith("#")]
        what = f"names in {settings.only}"
    elif _times(reference):
        answered = {name for one in given for name in one.listed_of}
        return tuple(sorted(answered or reference.world_from_cam))
    else:
        return tuple(sorted(reference.world_from_cam))
    match = match_names(wanted, reference.world_from_cam)
    if not match.present_of:
        raise EvaluationError(f"none of the {len(wanted)} {what} has a pose in {reference.what}")
    if len(match.present_of) < len(wanted):
        progress.say(
            f"{len(wanted) - len(match.present_of)} of {len(wanted)} {what} have no pose in "
            f"{reference.what} and are not scored"
        )
    return tuple(sorted(match.present_of.values()))


def _scored(
    path: Path,
    given: _Given,
    reference: Reference,
    images: Sequence[str],
    true: Sequence[Rigid3],
    unit: str,
    up: Up,
    resamples: Resamples,
    settings: ScoreSettings,
) -> Scored:
    estimated, listed_of = given.estimated, given.listed_of
    poses = [
        estimated.world_from_cam[listed_of[name]] if name in listed_of else None for name in images
    ]
    answered = [row for row, pose in enumerate(poses) if pose is not None]
    if not answered:
        raise EvaluationError(_why_none_is_of(estimated, reference, images))
    alignment = None
    if settings.align:
        alignment = _aligned(estimated, reference, poses, true, unit)
        poses = [pose and alignment.b_from_a.move_camera(pose) for pose in poses]
    errors = PoseErrors.of(poses, true)
    return Scored(
        what=str(path),
        errors=errors,
        accuracy=Accuracy.of(
            errors, true, metric=unit == METRE, up=up.direction, resamples=resamples
        ),
        strangers=len(estimated.world_from_cam) - len(answered) - given.ambiguous,
        ambiguous=given.ambiguous,
        left_out=len(estimated.registration.problems) if estimated.registration else 0,
        alignment=alignment,
    )


def _why_none_is_of(estimated: Reference, reference: Reference, images: Sequence[str]) -> str:
    times, true_times = _times(estimated), _times(reference)
    if times and true_times:
        return (
            f"no time in {estimated.what} is within {LONGEST_GAP_S} s of one in {reference.what}: "
            f"the one is of {_span(times.values())}, the other of {_span(true_times.values())}"
        )
    return (
        f"no name in {estimated.what} is one of the {len(images)} images in {reference.what}: the "
        f"one has such as {next(iter(estimated.world_from_cam))!r}, the other {images[0]!r}"
    )


def _span(times: Collection[float]) -> str:
    return f"{min(times):.15g} to {max(times):.15g} s"


def _aligned(
    estimated: Reference,
    reference: Reference,
    poses: Sequence[Rigid3 | None],
    true: Sequence[Rigid3],
    unit: str,
) -> Alignment:
    pairs = [(e, t) for e, t in zip(poses, true, strict=True) if e is not None]
    try:
        alignment = align_camera_poses([e for e, _ in pairs], [t for _, t in pairs])
        reason = why_not(alignment, unit=unit)
    except GeometryError as error:
        reason = str(error)
    if reason is not None:
        raise EvaluationError(f"{estimated.what} cannot be aligned with {reference.what}: {reason}")
    return alignment


def _pieces(images: Sequence[str], reference: Reference) -> NDArray[np.int64]:
    """Which images are resampled together: of one folder, by the numbers that names end in."""
    times = _times(reference)
    if times:
        return pieces([""] * len(images), [round(1e3 * times[name]) for name in images])
    paths = [PurePosixPath(name) for name in images]
    numbers = [re.findall(r"\d+", path.name.split(".", 1)[0]) for path in paths]
    if all(numbers):
        places = [int(found[-1][-18:]) for found in numbers]  # room for nanoseconds since 1970
    else:
        places = list(range(len(images)))
    return pieces([str(path.parent) for path in paths], places)
