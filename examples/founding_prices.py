"""What each of the founding story's mistakes costs, made one at a time on the same data.

Mistakes of aligning and reading change the truth that answers are held against, mistakes about
the camera change the answers, mistakes of validating change what is believed. Beside each stands
what relocalize says when the same is tried with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from founding_exam import FIRST_CAMERA, SQUEEZED, Exam, Poses
from founding_mistakes import (
    Off,
    averaged_matrix,
    moved_by_matrix,
    off,
    reality_capture_table,
    scaled,
    skipped_rows,
    taken_as,
    without_scale,
    written_w_last,
)

from relocalize import RelocalizeError, Rigid3, Similarity3, progress
from relocalize.checking import check_claims
from relocalize.checking.claims import Claims
from relocalize.formats import Registration, read_registration
from relocalize.formats.images import find_images
from relocalize.geometry import Convention
from relocalize.place import atomic
from relocalize.place.folder import read_json

# Yaw, pitch, roll as an aircraft has them, for RealityCapture's heading, pitch, roll.
OTHER_ANGLES = Convention("euler:z0y1x2:deg", "world_from_cam", "RUB", "centre")
# Readers of PoseNet's own layout skip 3 lines; this table has a header of 2.
ROWS_SKIPPED = 1
UPRIGHT = "none: all of it right"


@dataclass(frozen=True)
class Price:
    """One row of the table.

    Attributes:
        mistake: its name.
        regressor: what is then measured of the regressor, which has to answer to every photo.
        structure: what is measured of the structure localizer; None where it plays no part.
        believed: whether these numbers are what the mistake makes one believe of the regressor.
        said: by relocalize.
    """

    mistake: str
    regressor: Off
    structure: Off | None
    believed: bool
    said: str


@dataclass(frozen=True, eq=False)
class TwoFrames:
    """The two data sets before and after they were brought together.

    Attributes:
        first_from_second: the transform that relocalize found.
        second: poses of the second data set in its own frame, by file name.
        ties: poses in the first frame of the photos that both have.
        wrong: photos that do not agree with the transform, as relocalize named them.
        rigid: what it said when it was to keep the scale.
        proof: what it said of the convention.
    """

    first_from_second: Similarity3
    second: Poses
    ties: Poses
    wrong: tuple[str, ...]
    rigid: str
    proof: str


@dataclass(frozen=True)
class Beliefs:
    """How well a regressor does by several ways of validating.

    Attributes:
        shuffled: one trained on random frames of the video, on the other frames between them.
        truly: that one on the second camera's photos.
        trained_on: on frames that it was trained on.
        leakage: what relocalize says of the shuffled frames.
        blocks: what it says of its own validation.
    """

    shuffled: Off
    truly: Off
    trained_on: Off
    leakage: str
    blocks: str


def prices(exam: Exam, frames: TwoFrames, beliefs: Beliefs, out: Path) -> list[Price]:
    """All rows, the right one first."""
    checks = Checks(exam, out)

    def held_against(mistake: str, truth: Mapping[str, Rigid3], said: str) -> Price:
        return Price(mistake, *exam.errors(truth), believed=False, said=said)

    def asked(mistake: str, how: str, said: str) -> Price:
        refused = off(exam.regressed(how), exam.truth).refused
        said += f" / the regressor refuses {refused} of {len(exam.photos)} photos"
        return Price(mistake, *exam.errors(how=how), believed=False, said=said)

    unscaled, mean, every = _wrong_transforms(frames, checks)
    scale, misread = frames.first_from_second.scale, checks.misread()
    shifted = skipped_rows(list(frames.second), frames.second, ROWS_SKIPPED)

    def photos(poses: Mapping[str, Rigid3], move: Callable[[Rigid3], Rigid3]) -> Poses:
        return {name: move(poses[name]) for name in exam.photos if name in poses}

    right = frames.first_from_second.move_camera
    return [
        held_against(UPRIGHT, exam.truth, frames.proof),
        held_against(
            "no scale in the alignment", photos(frames.second, unscaled.move_camera), frames.rigid
        ),
        held_against(
            "averaged 4x4 matrices, scale given",
            photos(frames.second, lambda pose: moved_by_matrix(mean, scaled(pose, scale))),
            said_by(lambda: Rigid3.from_matrix(mean)),
        ),
        held_against(
            "quaternions read w last",
            {name: written_w_last(pose) for name, pose in exam.truth.items()},
            checks.of_w_last(),
        ),
        held_against("another tool's angles", photos(misread, right), checks.of_angles()),
        held_against(
            "averaged, no scale, other angles",
            photos(misread, lambda pose: moved_by_matrix(every, pose)),
            said_by(lambda: Rigid3.from_matrix(every)),
        ),
        held_against(
            "one row skipped as header", photos(shifted, right), checks.of_shifted(shifted)
        ),
        asked("second camera taken as the first", FIRST_CAMERA, checks.of_camera(FIRST_CAMERA)),
        asked("squeezed to the first one's shape", SQUEEZED, checks.of_camera(SQUEEZED)),
        Price(
            "validation by shuffled frames",
            beliefs.shuffled,
            None,
            believed=True,
            said=f"{beliefs.leakage} / truly this regressor, trained on the frames alone, is "
            f"{beliefs.truly.position:.2f} m off",
        ),
        Price(
            "validation prints the training error", beliefs.trained_on, None, True, beliefs.blocks
        ),
    ]


def _wrong_transforms(
    frames: TwoFrames, checks: Checks
) -> tuple[Similarity3, np.ndarray, np.ndarray]:
    """No scale; averaged matrices; averaged matrices of wrong angles without scale."""
    ties, right = list(frames.ties), frames.first_from_second
    in_first = list(frames.ties.values())
    in_second = [frames.second[name] for name in ties]
    good = [frames.second[name].translation for name in ties if name not in frames.wrong]
    misread = checks.misread()
    return (
        without_scale(right, np.array(good)),
        averaged_matrix(in_first, [scaled(pose, right.scale) for pose in in_second]),
        averaged_matrix(in_first, [misread[name] for name in ties]),
    )


def said_by(attempt: Callable[[], object]) -> str:
    """What relocalize refuses an attempt with; empty where it does not."""
    try:
        attempt()
    except RelocalizeError as error:
        return str(error)
    return ""


class Checks:
    """`relocalize check` of each mistake's files; what it says is kept, since it takes seconds."""

    def __init__(self, exam: Exam, out: Path) -> None:
        self.exam, self.out = exam, out
        self.images = out / "corridor" / "visitor"
        self.table = read_registration(out / "second.csv")

    def misread(self) -> Poses:
        """The second data set's poses by another tool's angles."""
        table = self.table.under(OTHER_ANGLES)
        return {name: table.world_from_cam(name) for name in table.poses}

    def of_angles(self) -> str:
        """The table, claimed to have another tool's angles."""
        return self._check("angles", self.table.under(OTHER_ANGLES), quick=True)

    def of_w_last(self) -> str:
        """A list with w last, in the format that has it first."""
        path = self.out / "second_w_last.txt"
        lines = []
        for name, pose in self.exam.truth.items():
            w, x, y, z = pose.inverse().quat_wxyz
            numbers = [x, y, z, w, *pose.inverse().translation, self.exam.cameras[name].focal_px]
            lines.append(" ".join([name, *(f"{number:.9f}" for number in numbers)]))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return self._check("w last", read_registration(path), quick=True)

    def of_shifted(self, poses: Mapping[str, Rigid3]) -> str:
        """A table in which names and poses are a row apart."""
        path = self.out / "second_shifted.csv"
        camera = next(iter(self.exam.cameras.values()))
        path.write_text(reality_capture_table(poses, camera), encoding="utf-8")
        return self._check("shifted", read_registration(path), quick=True)

    def of_camera(self, how: str) -> str:
        """The table, with images and intrinsics as a mistake has them."""
        folder = self.images
        camera = self.exam.walk_camera
        if how == SQUEEZED:
            folder = self.out / "squeezed"
            self._write_seen(folder)
        else:
            camera = taken_as(camera, self.exam.seen(next(iter(self.exam.photos)), how)[0])
        claimed = replace(
            self.table,
            cameras=(camera,),
            poses={name: self.table.poses[name] for name in self.exam.photos},
        )
        return self._check(how, claimed, quick=False, folder=folder)

    def _write_seen(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for name in self.exam.photos:
            if not (folder / name).is_file():
                pixels, _ = self.exam.seen(name, SQUEEZED)
                atomic.write_bytes(
                    folder / name, cv2.imencode(".jpg", pixels[:, :, ::-1])[1].tobytes()
                )

    def _check(
        self, key: str, claimed: Registration, *, quick: bool, folder: Path | None = None
    ) -> str:
        path = self.out / "check.json"
        known = read_json(path) if path.is_file() else {}
        if key not in known:
            progress.say(f"   relocalize check: {key}")
            files = find_images(claimed, folder or self.images)
            claims = Claims.of_files(claimed, files)
            report = check_claims(claims, quick=quick)
            known[key] = report.to_text()
            atomic.write_json(path, known)
        return _wrong_lines(known[key])


def _wrong_lines(report: str) -> str:
    """The lines of a check that say what is wrong, without the names of images at their ends."""
    about = ("NOT", "focal length", "aspect", "principal point", "distortion", "rotation")
    said = [line for line in report.splitlines() if line.startswith(about)]
    return " / ".join(re.sub(r" \[[^\]]*\]$", "", line) for line in said)
