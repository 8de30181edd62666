"""Collecting the poses of a foreign file row by row: what is no pose is left out and named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from relocalize.errors import FormatError, GeometryError
from relocalize.formats.lenses import SizelessCamera
from relocalize.formats.registration import Registration, StatedPoses
from relocalize.formats.text import first_lines, one_line, read_lines, rows_in
from relocalize.geometry import Camera, Convention, Rigid3
from relocalize.geometry.transforms import FloatArray, checked_rotation, determinant

# Written quaternions are unit to their last digit; a norm further off 1 than this means that the
# columns are something else (a TUM trajectory has a position there).
NORM_TOLERANCE = 0.02
_FARTHEST = 1e9  # a coordinate beyond this is no place, in any unit
# A list of poses may have bad rows; where most rows are bad, the file is something else.
_BAD_SHARE = 0.5
# Other names of what a layout calls timestamp, name, tx, ty and tz.
_SAME_COLUMN = {
    **dict.fromkeys(("time", "t", "stamp", "timestampns", "#timestamp"), "timestamp"),
    **dict.fromkeys(("image", "imagename", "filename", "file", "filepath"), "name"),
    **{f"{letter}{axis}": f"t{axis}" for letter in ("", "p", "pos") for axis in "xyz"},
    **{f"p{axis}": f"t{axis}" for axis in "xyz"},
}
_SAME = 1e-6  # between numbers of one pose written twice, and of the coordinates
_SHORT = 1e-6  # numbers of a homogeneous matrix's last row, off 0 0 0 1


@dataclass(frozen=True, eq=False)
class _Row:
    """One pose: where it stands, its numbers, what they mean, and what comes with it."""

    where: str
    rotation: FloatArray
    position: FloatArray
    world_from_cam: Rigid3
    camera: int | None
    time: float | None = None
    side: str = ""
    columns: dict[str, str] = field(default_factory=dict)


class PoseRows:
    """Rows of one file under one convention; bad ones become `problems`.

    Args:
        path: the file, for messages.
        format_name: of the format, for people.
        convention: how the format says to read its numbers.
        want: what a row should hold, for messages: ``name qw qx qy qz tx ty tz``.
    """

    def __init__(self, path: Path, format_name: str, convention: Convention, want: str) -> None:
        self.path = path
        self.convention = convention
        self.problems: list[str] = []
        self.count = 0  # of rows so far, bad ones too
        self.not_finite = 0  # of these, those with NaN or infinity, as of estimates that failed
        self.said: Counter[str] = Counter()  # remarks that begin with a count, by the other words
        self._format, self._want = format_name, want
        self._here = ""
        self._twice: dict[str, int] = {}  # rows of a name that has several poses, but for the first
        self._cameras: dict[Camera | SizelessCamera, int] = {}
        self._of: dict[str, _Row] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, name: str) -> bool:
        return name in self._of

    @property
    def remarks(self) -> list[str]:
        """What was counted, for people."""
        return [f"{count} {words}" for words, count in self.said.items() if count]

    @contextmanager
    def row(self, where: str) -> Iterator[None]:
        """Read the row at ``line 12`` within the block; what raises there is left out and named."""
        self._here = where
        try:
            yield
        except (FormatError, GeometryError, ValueError, TypeError, OverflowError) as error:
            self.reject(where, str(error))

    def read(
        self, take: Callable[[PoseRows, list[str]], None], separator: str | None = None
    ) -> PoseRows:
        """Read all rows of a text file: ``take`` adds each one's cells, or raises."""
        for where, cells in rows_in(read_lines(self.path), separator):
            if not self.count and _is_heading(cells, self._want):
                continue
            with self.row(where):
                take(self, cells)
        return self

    def add(
        self,
        name: str,
        rotation: ArrayLike,
        position: ArrayLike,
        camera: Camera | SizelessCamera | None = None,
        *,
        time: float | None = None,
        side: str = "",
        columns: dict[str, str] | None = None,
    ) -> Rigid3:
        """Take the row at hand, numbers as they stand in the file; ``world_from_cam`` of it.

        Args:
            name: of the image.
            rotation: numbers of the shape that the convention wants.
            position: [3].
            camera: of the image, where the file says.
            time: seconds, of a trajectory's pose that has no image's name.
            side: ``train`` or ``test``, where the row says so.
            columns: what else stands in the row.

        Raises:
            ValueError: it is no pose, or a second one of its image.
        """
        pose = self._checked(name, rotation, position)
        self.count += 1
        index = None if camera is None else self._cameras.setdefault(camera, len(self._cameras))
        self._of[name] = _Row(self._here, *pose, index, time, side, columns or {})
        return pose[2]

    def replace(self, name: str, rotation: ArrayLike, position: ArrayLike) -> None:
        """Give an image that was taken other numbers; raises ValueError as `add`."""
        row = self._of.pop(name)
        numbers, place, pose = self._checked(name, rotation, position)
        self._of[name] = replace(row, rotation=numbers, position=place, world_from_cam=pose)

    def add_matrix(
        self, name: str, matrix: FloatArray, camera: Camera | SizelessCamera | None = None
    ) -> None:
        """Take a row of a [3, 4] or [4, 4] matrix, as `add` does."""
        if len(matrix) == 4 and np.abs(matrix[3] - [0, 0, 0, 1]).max() > _SHORT:
            raise ValueError(f"{name} has a last row of {matrix[3].tolist()}, want 0 0 0 1")
        self.add(name, matrix[:3, :3], matrix[:3, 3], camera)

    def reject(self, where: str, reason: str) -> None:
        """Leave out a row that is no pose."""
        self.count += 1
        self.problems.append(f"{self.path}, {one_line(where)}: {one_line(reason)}")

    def _checked(
        self, name: str, rotation: ArrayLike, at: ArrayLike
    ) -> tuple[FloatArray, FloatArray, Rigid3]:
        numbers, position = np.asarray(rotation, np.float64), np.asarray(at, np.float64)
        if not name:
            raise ValueError("no image name")
        if numbers.shape != self.convention.numbers or position.shape != (3,):
            raise ValueError(
                f"{name} has a rotation of shape {numbers.shape} and a position of shape "
                f"{position.shape}; want {self._want}"
            )
        if not (np.all(np.isfinite(numbers)) and np.all(np.isfinite(position))):
            self.not_finite += 1
            raise ValueError(f"{name} has a number that is not finite")
        # Before they are multiplied: no angle, quaternion or matrix is that large.
        if float(np.abs(numbers).max()) > _FARTHEST:
            raise ValueError(f"{name} has a rotation with {float(np.abs(numbers).max()):.3g} in it")
        if numbers.shape == (4,):
            check_quaternion(name, numbers)
        if numbers.shape == (3, 3):
            # A left-handed tool's matrices may mirror; the convention's axes then say so.
            flip = -1.0 if determinant(numbers) < 0 else 1.0
            try:
                checked_rotation(flip * numbers)
            except GeometryError as error:
                raise ValueError(f"{name}: {error}") from None
        if float(np.abs(position).max()) > _FARTHEST:
            raise ValueError(f"{name} is {float(np.abs(position).max()):.3g} away, not a place")
        if name in self._of:
            raise ValueError(self._again(name, numbers, position))
        return numbers, position, self.convention.world_from_cam(numbers[None], position[None])[0]

    def _again(self, name: str, numbers: FloatArray, position: FloatArray) -> str:
        """What a second row of a name means: the same once more, or another image of that name."""
        first = self._of[name]
        size = 1.0 + float(np.abs(first.position).max())
        same = np.abs(position - first.position).max() <= _SAME * size
        same = same and np.abs(numbers - first.rotation).max() <= _SAME
        if same or first.time is not None:  # a tracker's poses of one instant are near each other
            return f"{name} a second time; its first row is kept"
        self._twice[name] = self._twice.get(name, 0) + 1
        return f"{name} a second time, with another pose; none of them is used"

    def _drop_several(self) -> int:
        """Leave out names with several poses; how many rows these are."""
        for name in self._twice:
            first = self._of.pop(name)
            self.reject(first.where, f"{name} has another pose further down; none of them is used")
            self.count -= 1  # it was counted when it was taken
        return len(self._twice) + sum(self._twice.values())

    def _one_handedness(self) -> list[str]:
        """Leave out matrices that mirror when most do not, or the other way around."""
        if self.convention.rotation != "matrix":
            return []
        mirrors = {name: np.linalg.det(row.rotation) < 0 for name, row in self._of.items()}
        mostly = sum(mirrors.values()) * 2 > len(mirrors)
        for name in [name for name, mirrored in mirrors.items() if mirrored != mostly]:
            what = "mirrored, as its matrix is not" if mostly else "not mirrored, as its matrix is"
            self.reject(self._of.pop(name).where, f"{name}: the others are {what}")
            self.count -= 1  # it was counted when it was taken
        return ["all of its rotations mirror: its world is read with z negated"] if mostly else []

    def registration(
        self,
        *,
        unit: str,
        scale_from: str | None = None,
        declared: bool = True,
        train: Sequence[str] = (),
        test: Sequence[str] = (),
        remarks: Sequence[str] = (),
    ) -> Registration:
        """All of the rows as a `Registration`.

        Raises:
            FormatError: there are no poses, or most rows are something else.
        """
        several = self._drop_several()
        if several:
            remarks = (
                *remarks,
                f"{len(self._twice)} names have several poses and are left out, such as "
                f"{next(iter(self._twice))}: are they of several folders? Import one folder's "
                "poses at a time, or give names with their folders",
            )
        remarks = (*self.remarks, *remarks, *self._one_handedness())
        if not self.count:
            raise FormatError(f"{self.path} holds no poses; want {self._want}")
        if self.count == self.not_finite:
            raise FormatError(
                f"{self.path} holds no pose: each of its {self.count} rows has a number that is "
                "not finite"
            )
        if several and not self._of:
            raise FormatError(f"{self.path}: all of its {remarks[-1]}")
        wrong = len(self.problems) - self.not_finite - several
        if not self._of or wrong > _BAD_SHARE * self.count:
            raise FormatError(
                f"{self.path} is no {self._format}: {len(self.problems)} of {self.count} rows are "
                f"not {self._want}; the first is " + self.problems[0].removeprefix(f"{self.path}, ")
            )
        rows = self._of
        return Registration(
            source=self.path.name,
            format=self._format,
            cameras=tuple(self._cameras),
            poses={name: (row.world_from_cam.inverse(), row.camera) for name, row in rows.items()},
            unit=unit,
            scale_from=scale_from,
            stated_poses=StatedPoses(
                names=tuple(rows),
                rotations=np.array([row.rotation for row in rows.values()]),
                positions=np.array([row.position for row in rows.values()]),
                convention=self.convention,
            ),
            declared=declared,
            times={name: row.time for name, row in rows.items() if row.time is not None},
            train=tuple(train) or tuple(name for name in rows if rows[name].side == "train"),
            test=tuple(test) or tuple(name for name in rows if rows[name].side == "test"),
            columns={name: row.columns for name, row in rows.items() if row.columns},
            problems=tuple(self.problems),
            remarks=tuple(remarks),
        )


def _is_heading(cells: Sequence[str], want: str) -> bool:
    """Whether a first row names the columns that are wanted, in their order: ``tx`` or ``x``..."""
    words = want.split(",") if "," in want else want.replace("[", "").replace("]", "").split()
    columns = [_bare(word) for word in words]
    given = [_bare(cell) for cell in cells]
    return len(given) >= 8 and given == columns[: len(given)]


def _bare(column: str) -> str:
    """A column's name without what tools write around it: ``q_RS_w []`` is ``qw``."""
    name = column.split("[", maxsplit=1)[0].strip().casefold()
    name = name.replace("_rs_r_", "_").replace("_rs_", "").replace("_", "")
    return _SAME_COLUMN.get(name, name)


def check_quaternion(what: str, quat: ArrayLike) -> None:
    """Raise ValueError where a quaternion [4] is not of length 1."""
    norm = float(np.linalg.norm(quat))
    if norm < 1e-9:
        raise ValueError(f"{what} has a quaternion of four zeros")
    if not abs(norm - 1) < NORM_TOLERANCE:
        raise ValueError(f"{what} has a quaternion of length {norm:.3g}, want 1")


def begins_with_pose(
    path: Path,
    convention: Convention,
    take: Callable[[PoseRows, list[str]], None],
    separator: str | None = None,
    *,
    want: str = "",
) -> bool:
    """Whether the first row of a text file is a pose, from its first bytes; never raises.

    A row before it may name the columns, as ``want`` has them.
    """
    rows = PoseRows(path, "", convention, want)
    for where, cells in rows_in(first_lines(path), separator):
        if not rows.count and _is_heading(cells, want):
            continue
        with rows.row(where):
            take(rows, cells)
        break
    return len(rows) == 1
