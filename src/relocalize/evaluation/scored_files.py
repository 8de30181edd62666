"""Anyone's estimates against a truth: two files of poses of the same images."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.jupyter import JupyterMixin

from relocalize import progress
from relocalize.errors import EvaluationError, GeometryError
from relocalize.evaluation.axes import Up
from relocalize.evaluation.comparison import Comparison
from relocalize.evaluation.confidence import clusters_of
from relocalize.evaluation.metrics import PoseErrors
from relocalize.evaluation.table import Summary, score_table, short_scores
from relocalize.evaluation.truth import alignment_to_json
from relocalize.formats import AUTO, match_names
from relocalize.formats.names import LONGEST_GAP_S, nearest_in_time
from relocalize.formats.text import first_lines, read_lines
from relocalize.geometry import Alignment, Rigid3, align_camera_poses
from relocalize.geometry.alignment_doubts import why_not
from relocalize.mapping.aligning import Reference, read_reference
from relocalize.place import Place
from relocalize.place.folder import MAP_UNIT, METRE


@dataclass(frozen=True, eq=False)
class Scored:
    """One file of estimates."""

    strangers: int  # estimates of images that the truth does not have, or that do not count
    ambiguous: int  # estimates whose name could mean several of the truth's images
    left_out: int  # rows of the file that are no pose
    alignment: Alignment | None  # onto the truth; None where none was asked for


@dataclass(frozen=True, eq=False, repr=False)
class Score(JupyterMixin):
    """Estimates against a truth."""

    truth: str  # for people
    images: tuple[str, ...]  # that were scored, as the truth names them
    # the estimates by file, and others to compare with where there are such
    scored: dict[str, Scored]
    comparison: Comparison  # how far they are from the truth

    def __repr__(self) -> str:
        said = short_scores(self.comparison.errors, metric=self.comparison.metric)
        return f"<Score of {len(self.images)} images against {self.truth}: {said}>"

    def __rich__(self) -> Summary:
        """The tables of `relocalize score`, for terminals and notebooks."""
        return score_table(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values; an infinite or meaningless number is None."""
        first, *others = [
            {
                "estimates": name,
                **self.comparison.row(name),
                "strangers": one.strangers,
                "ambiguous": one.ambiguous,
                "left_out": one.left_out,
                "aligned": one.alignment and alignment_to_json(one.alignment, "the scored images"),
            }
            for name, one in self.scored.items()
        ]
        return {"truth": self.truth, **self.comparison.to_json(), **first, "against": others}


def score(
    estimates: str | Path,
    truth: str | Path,
    *,
    against: Sequence[str | Path] = (),
    format: str = AUTO,  # noqa: A002 - as the command calls it
    truth_format: str = AUTO,
    align: bool = False,
    unit: str | None = None,
    only: str | Path | None = None,
    split: str | None = None,
) -> Score:
    """Score estimates against a truth; images of it without an estimate have failed.

    Names are matched as at import: in full, then by less and less of them, where that is unique.
    The poses of a trajectory have no images: of a truth that is one, those count that are nearest
    in time to an estimate.

    Args:
        estimates: poses in any known format, or a Place.
        truth: likewise.
        against: other estimates of the same images, to be compared with.
        format: of the estimates: a key of `FORMATS`, or ``auto``.
        truth_format: of the truth, likewise.
        align: lay the estimates over the truth by a robust similarity first.
        unit: ``metre`` or ``map unit``, of the truth; None takes what its format states.
        only: a text file with the name of an image that counts on each line; None: all of the
            truth's.
        split: of a truth that is a Place: its test images count.

    Raises:
        FormatError: a file is not what it should be.
        EvaluationError: no name of the two agrees, or no alignment comes of them.
    """
    if unit not in {None, METRE, MAP_UNIT}:
        raise EvaluationError(f"unit {unit!r}; want {METRE!r} or {MAP_UNIT!r}")
    reference = _poses(Path(truth), truth_format, "true poses")
    given = {
        path: _Given.of(_poses(path, format, "estimates"), reference)
        for path in map(Path, (estimates, *against))
    }
    if len(given) <= len(against):
        raise EvaluationError("give each file of estimates once")
    listed = Path(only) if only else None
    images = _that_count(Path(truth), reference, given.values(), listed, split)
    true = [reference.world_from_cam[name] for name in images]
    unit = unit or reference.unit
    errors: dict[str, PoseErrors] = {}
    scored: dict[str, Scored] = {}
    for path, one in given.items():
        poses = one.poses_of(images, reference)
        alignment = _aligned(one.estimated, reference, poses, true, unit) if align else None
        if alignment is not None:
            poses = [pose and alignment.b_from_a.move_camera(pose) for pose in poses]
        errors[str(path)] = PoseErrors.of(poses, true)
        answered = len(images) - poses.count(None)
        registration = one.estimated.registration
        scored[str(path)] = Scored(
            strangers=len(one.estimated.world_from_cam) - answered - one.ambiguous,
            ambiguous=one.ambiguous,
            left_out=len(registration.problems) if registration else 0,
            alignment=alignment,
        )
    up, clusters = Up.of(reference.frame, true), _clusters(images, reference)
    return Score(reference.what, images, scored, Comparison(errors, true, unit, up, clusters))


@dataclass(frozen=True, eq=False)
class _Given:
    """A file of estimates."""

    estimated: Reference  # its poses
    listed_of: dict[str, str]  # the name of its estimate by the truth's image
    ambiguous: int  # estimates whose name could mean several of the truth's images

    @classmethod
    def of(cls, estimated: Reference, reference: Reference) -> _Given:
        times, true_times = _times(estimated), _times(reference)
        if times and true_times:
            return cls(estimated, nearest_in_time(times, true_times)[0], 0)
        # Against all of the truth: an estimate of an image that does not count must not be taken
        # for another with a similar name that does.
        match = estimated.match(reference.world_from_cam)
        listed_of = {name: listed for listed, name in match.present_of.items()}
        return cls(estimated, listed_of, len(match.ambiguous))

    def poses_of(self, images: Sequence[str], reference: Reference) -> list[Rigid3 | None]:
        """The estimate of each of the truth's images, None where there is none.

        Raises:
            EvaluationError: there is none of any.
        """
        poses = [
            self.estimated.world_from_cam[self.listed_of[name]] if name in self.listed_of else None
            for name in images
        ]
        if not any(poses):
            raise EvaluationError(_why_none_is_of(self.estimated, reference, images))
        return poses


def _poses(path: Path, format_name: str, what: str) -> Reference:
    # Of an empty file nobody can tell the format, and what it means is plain.
    if path.is_file():
        rows = first_lines(path)
        says_nothing = all(not row.strip() or row.strip().startswith("#") for row in rows)
        if says_nothing and (rows or not path.stat().st_size):
            raise EvaluationError(f"{path} holds no {what}: no row but comments")
    return read_reference(path, format_name)


def _times(reference: Reference) -> dict[str, float]:
    """Seconds by pose, of a trajectory."""
    return reference.registration.times if reference.registration else {}


def _that_count(
    truth: Path, reference: Reference, given: Iterable[_Given], only: Path | None, split: str | None
) -> tuple[str, ...]:
    """The truth's images that are scored, in the order of their names."""
    if only is not None and split is not None:
        raise EvaluationError("--only and --split exclude each other")
    if split is not None:
        if reference.frame is None:
            raise EvaluationError(f"{truth} is no Place, so it has no split {split!r}")
        wanted: Collection[str] = Place.open(truth).split(split).test
        what = f"test images of split {split!r}"
    elif only is not None:
        rows = map(str.strip, read_lines(only))
        wanted = [row for row in rows if row and not row.startswith("#")]
        what = f"names in {only}"
    else:
        answered = {name for one in given for name in one.listed_of} if _times(reference) else None
        return tuple(sorted(answered or reference.world_from_cam))
    match = match_names(wanted, reference.world_from_cam)
    if not match.present_of:
        raise EvaluationError(f"none of the {len(wanted)} {what} has a pose in {reference.what}")
    if len(match.present_of) < len(wanted):
        progress.say(
            f"{len(wanted) - len(match.present_of)} of {len(wanted)} {what} have no pose in "
            f"{reference.what} and are not scored"
        )
    return tuple(sorted(match.present_of.values()))


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


def _clusters(images: Sequence[str], reference: Reference) -> NDArray[np.int64]:
    """Which images are resampled together: of one folder, by the numbers that names end in."""
    times = _times(reference)
    if times:
        return clusters_of([""] * len(images), [round(1e3 * times[name]) for name in images])
    paths = [PurePosixPath(name) for name in images]
    numbers = [re.findall(r"\d+", path.name.split(".", 1)[0]) for path in paths]
    if all(numbers):
        places = [int(found[-1][-18:]) for found in numbers]  # room for nanoseconds since 1970
    else:
        places = list(range(len(images)))
    return clusters_of([str(path.parent) for path in paths], places)
