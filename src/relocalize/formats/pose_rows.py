"""Collecting the poses of a foreign file row by row: what is no pose is left out and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from relocalize.errors import FormatError, GeometryError
from relocalize.formats.registration import Registration, SizelessCamera, StatedPoses
from relocalize.formats.text import one_line
from relocalize.geometry import Camera, Convention, Rigid3
from relocalize.geometry.transforms import FloatArray, checked_rotation, determinant

# Written quaternions are unit to their last digit; a norm further off 1 than this means that the
# columns are something else (a TUM trajectory has a position there).
_NORM_TOLERANCE = 0.02
_FARTHEST = 1e9  # a coordinate beyond this is no place, in any unit
# A list of poses may have bad rows; where most rows are bad, the file is something else.
_BAD_SHARE = 0.5


class PoseRows:
    """Rows of one file under one convention; bad ones become `problems`.

    Args:
        path: the file, for messages.
        convention: how the format says to read its numbers.
        want: what a row should hold, for messages: ``name qw qx qy qz tx ty tz``.
    """

    def __init__(self, path: Path, convention: Convention, want: str) -> None:
        self.path = path
        self.convention = convention
        self.problems: list[str] = []
        self._want = want
        self._rows = 0
        self._not_finite = 0
        self._cameras: dict[Camera | SizelessCamera, int] = {}
        self._of: dict[str, tuple[FloatArray, FloatArray, Rigid3, int | None]] = {}
        self._where: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._of)

    @property
    def not_finite(self) -> int:
        """How many rows so far have NaN or infinity for a pose, as estimates that failed do."""
        return self._not_finite

    @property
    def names(self) -> tuple[str, ...]:
        """The images with a pose so far, in the file's order."""
        return tuple(self._of)

    def add(
        self,
        where: str,
        name: str,
        rotation: ArrayLike,
        position: ArrayLike,
        camera: Camera | SizelessCamera | None = None,
    ) -> bool:
        """Take one row: numbers as they stand in the file; whether it is a pose.

        Args:
            where: ``line 12`` or ``frame 3``, for messages.
            name: of the image.
            rotation: numbers of the shape that the convention wants.
            position: [3].
            camera: of the image, where the file says.
        """
        try:
            numbers = np.asarray(rotation, dtype=np.float64)
            place = np.asarray(position, dtype=np.float64)
            pose = self._checked(name, numbers, place)
        except (ValueError, TypeError, OverflowError, GeometryError) as error:
            self.reject(where, str(error))
            return False
        self._rows += 1
        index = None
        if camera is not None:
            index = self._cameras.setdefault(camera, len(self._cameras))
        self._of[name] = (numbers, place, pose, index)
        self._where[name] = where
        return True

    def reject(self, where: str, reason: str) -> None:
        """Leave out a row that is no pose."""
        self._rows += 1
        self.problems.append(f"{self.path}, {one_line(where)}: {one_line(reason)}")

    def _checked(self, name: str, numbers: FloatArray, position: FloatArray) -> Rigid3:
        if not name:
            raise ValueError("no image name")
        if name in self._of:
            raise ValueError(f"{name} a second time; its first row is kept")
        if numbers.shape != self.convention.numbers or position.shape != (3,):
            raise ValueError(
                f"{name} has a rotation of shape {numbers.shape} and a position of shape "
                f"{position.shape}; want {self._want}"
            )
        if not (np.all(np.isfinite(numbers)) and np.all(np.isfinite(position))):
            self._not_finite += 1
            raise ValueError(f"{name} has a number that is not finite")
        # Before they are multiplied: no angle, quaternion or matrix is that large.
        if float(np.abs(numbers).max()) > _FARTHEST:
            raise ValueError(f"{name} has a rotation with {float(np.abs(numbers).max()):.3g} in it")
        if numbers.shape == (4,):
            norm = float(np.linalg.norm(numbers))
            if norm < 1e-9:
                raise ValueError(f"{name} has a quaternion of four zeros")
            if abs(norm - 1) > _NORM_TOLERANCE:
                raise ValueError(f"{name} has a quaternion of length {norm:.3g}, want 1")
        if numbers.shape == (3, 3):
            # A left-handed tool's matrices may mirror; the convention's axes then say so.
            flip = -1.0 if determinant(numbers) < 0 else 1.0
            try:
                checked_rotation(flip * numbers)
            except GeometryError as error:
                raise ValueError(f"{name}: {error}") from None
        if float(np.abs(position).max()) > _FARTHEST:
            raise ValueError(f"{name} is {float(np.abs(position).max()):.3g} away, not a place")
        return self.convention.world_from_cam(numbers[None], position[None])[0]

    def _one_handedness(self) -> list[str]:
        """Leave out matrices that mirror when most do not, or the other way around."""
        if self.convention.rotation != "matrix":
            return []
        mirrors = {name: np.linalg.det(row[0]) < 0 for name, row in self._of.items()}
        mostly = sum(mirrors.values()) * 2 > len(mirrors)
        for name in [name for name, mirrored in mirrors.items() if mirrored != mostly]:
            what = "mirrored, as its matrix is not" if mostly else "not mirrored, as its matrix is"
            self.reject(self._where[name], f"{name}: the others are {what}")
            self._rows -= 1  # it was counted when it was taken
            del self._of[name]
        return ["all of its rotations mirror: its world is read with z negated"] if mostly else []

    def registration(
        self,
        *,
        format_name: str,
        unit: str,
        scale_from: str | None = None,
        declared: bool = True,
        times: Mapping[str, float] | None = None,
        train: Sequence[str] = (),
        test: Sequence[str] = (),
        columns: Mapping[str, dict[str, str]] | None = None,
        remarks: Sequence[str] = (),
    ) -> Registration:
        """All of the rows as a `Registration`.

        Raises:
            FormatError: there are no poses, or most rows are something else.
        """
        remarks = (*remarks, *self._one_handedness())
        if not self._rows:
            raise FormatError(f"{self.path} holds no poses; want {self._want}")
        if self._rows == self._not_finite:
            raise FormatError(
                f"{self.path} holds no pose: each of its {self._rows} rows has a number that is "
                "not finite"
            )
        wrong = len(self.problems) - self._not_finite
        if not self._of or wrong > _BAD_SHARE * self._rows:
            raise FormatError(
                f"{self.path} is no {format_name}: {len(self.problems)} of {self._rows} rows are "
                f"not {self._want}; the first is " + self.problems[0].removeprefix(f"{self.path}, ")
            )
        return Registration(
            source=self.path.name,
            format=format_name,
            cameras=tuple(self._cameras),
            poses={name: (pose.inverse(), row) for name, (_, _, pose, row) in self._of.items()},
            unit=unit,
            scale_from=scale_from,
            stated_poses=StatedPoses(
                names=tuple(self._of),
                rotations=np.array([row[0] for row in self._of.values()]),
                positions=np.array([row[1] for row in self._of.values()]),
                convention=self.convention,
            ),
            declared=declared,
            times=dict(times or {}),
            train=tuple(train),
            test=tuple(test),
            columns=dict(columns or {}),
            problems=tuple(self.problems),
            remarks=tuple(remarks),
        )
