"""Pose lists: one image per line, ``name qw qx qy qz tx ty tz [focal_px]``.

World-to-camera, w-first quaternion, OpenCV axes; ``#`` starts a comment. The format of the 7-Scenes
and 12-Scenes pseudo ground truth (Brachmann et al., "On the Limits of Pseudo Ground Truth in Visual
Camera Re-Localisation", ICCV 2021), whose unit is the metre.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.registration import FocalOnly, Registration
from relocalize.formats.text import read_lines
from relocalize.geometry import Rigid3
from relocalize.place.folder import METRE

NAME = "pose list"
_LAYOUT = "name qw qx qy qz tx ty tz [focal_px]"
# Written quaternions are unit to their last digit; a norm further off 1 than this means that the
# columns are something else (a TUM trajectory has a position there).
_NORM_TOLERANCE = 0.02
_FARTHEST = 1e9  # a coordinate beyond this is no place, in any unit
# A list of poses may have bad rows; where most rows are bad, the file is something else.
_BAD_SHARE = 0.5


def detect(path: Path) -> bool:
    """Whether the file's first row that is no comment is a row of a pose list."""
    if not path.is_file():
        return False
    try:
        _, line = next(_rows(path))
        _parse(line)
    except (FormatError, ValueError, StopIteration):
        return False
    return True


def read_pose_list(path: Path) -> Registration:
    """Read a pose list; single bad rows are left out and named in `Registration.problems`.

    Raises:
        FormatError: the file cannot be read, holds no pose, or is mostly something else.
    """
    cameras: dict[float, int] = {}
    poses: dict[str, tuple[Rigid3, int | None]] = {}
    problems: list[str] = []
    rows = 0
    for number, line in _rows(path):
        rows += 1
        try:
            name, pose, focal = _parse(line)
            if name in poses:
                raise ValueError(f"{name} a second time; its first row is kept")
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
            continue
        camera = None if focal is None else cameras.setdefault(focal, len(cameras))
        poses[name] = (pose, camera)
    if not rows:
        raise FormatError(f"{path} holds no poses; want lines of {_LAYOUT}")
    if not poses or len(problems) > _BAD_SHARE * rows:
        raise FormatError(
            f"{path} is no pose list: {len(problems)} of {rows} rows are not {_LAYOUT}; "
            f"the first is line {problems[0].removeprefix(f'{path}, line ')}"
        )
    return Registration(
        source=path.name,
        format=NAME,
        cameras=tuple(FocalOnly(focal) for focal in cameras),
        poses=poses,
        unit=METRE,
        scale_from="the imported file's own unit, taken as metres",
        problems=tuple(problems),
    )


def _rows(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and text of the rows that are neither empty nor comments."""
    for number, line in enumerate(read_lines(path), start=1):
        row = line.strip()
        if row and not row.startswith("#"):
            yield number, row


def _parse(row: str) -> tuple[str, Rigid3, float | None]:
    """Name, ``cam_from_world`` and focal length of one row; raises ValueError."""
    name, *columns = row.split()
    if len(columns) not in {7, 8}:
        raise ValueError(f"{len(columns) + 1} columns, want 8 or 9: {_LAYOUT}")
    try:
        numbers = [float(column) for column in columns]
    except ValueError:
        raise ValueError(f"a column is no number in {_shortened(row)!r}") from None
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{name} has a number that is not finite")
    quat_wxyz, translation = np.array(numbers[:4]), np.array(numbers[4:7])
    norm = float(np.linalg.norm(quat_wxyz))
    if abs(norm - 1) > _NORM_TOLERANCE:
        raise ValueError(f"{name} has a quaternion of length {norm:.3g}, want 1")
    if float(np.abs(translation).max()) > _FARTHEST:
        raise ValueError(f"{name} is {float(np.abs(translation).max()):.3g} away, not a place")
    focal = numbers[7] if len(numbers) == 8 else None
    if focal is not None and not 1 <= focal <= _FARTHEST:
        raise ValueError(f"{name} has a focal length of {focal:g} pixels")
    return name, Rigid3.from_quat_wxyz(quat_wxyz, translation), focal


def _shortened(row: str) -> str:
    return row if len(row) <= 60 else row[:57] + "..."
