"""Pose conventions: how the numbers of a file become a camera pose, as a value with a name.

A row of a file holds a rotation (a matrix, a quaternion or three angles) and a position. A
`Convention` says the rest, and its name says all of it, for example

    wxyz,cam_from_world,RDF,translation        COLMAP
    matrix,world_from_cam,RUB,centre           nerfstudio's transforms.json
    euler:x0y1z2:deg,world_from_cam,RUB,centre photogrammetry's omega, phi, kappa

The parts, in this order (of which the first is needed, the others default to the second line's):

- rotation: ``matrix``, ``wxyz``, ``xyzw``, or ``euler:<product>:<deg|rad>``. The product lists its
  factors from left to right, each an axis and the column of its angle, with a minus before where
  the angle is negated: ``z0-y1x2`` is Rz(a0) Ry(-a1) Rx(a2), right-handed rotations.
- direction: what the rotation maps: ``world_from_cam`` or ``cam_from_world``.
- camera axes: where the camera's x, y and z point in the image (Right Left Up Down Forward
  Back): RDF is OpenCV's, RUB is OpenGL's and Bundler's, FLU is ROS's body.
- position: ``centre`` of the camera in the world, or ``translation`` of ``cam_from_world``.
- columns: where the position's x, y and z are found: ``xyz``, or ``x-zy`` for (x, -z, y).

A world or a camera that is left-handed needs no word of its own: where the camera's axes and the
rotation would mirror the image, the world is mirrored (its z negated), because a photo is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import ArrayLike

from relocalize.errors import GeometryError
from relocalize.geometry.transforms import (
    FloatArray,
    Rigid3,
    rotations_from_quats_wxyz,
    rotations_from_rotvecs,
)

WORLD_FROM_CAM, CAM_FROM_WORLD = "world_from_cam", "cam_from_world"
CENTRE, TRANSLATION = "centre", "translation"

# OpenCV coordinates of a unit step in each direction of the image.
_LETTERS = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "D": (0, 1, 0),
    "U": (0, -1, 0),
    "F": (0, 0, 1),
    "B": (0, 0, -1),
}
_AXIS_NAMES = {"opencv": "RDF", "colmap": "RDF", "opengl": "RUB", "bundler": "RUB", "ros": "FLU"}
_COLUMNS = re.compile(r"(-?[xyz])(-?[xyz])(-?[xyz])")
_EULER = re.compile(r"euler:((?:-?[xyz][012]){3}):(deg|rad)")
_FACTOR = re.compile(r"(-?)([xyz])([012])")

# All camera axes, right-handed ones first, and all orders and signs of three columns.
CAMERA_AXES: tuple[str, ...] = tuple(
    sorted(
        (
            "".join(letters)
            for letters in permutations(_LETTERS, 3)
            if abs(np.linalg.det([_LETTERS[letter] for letter in letters])) > 0.5
        ),
        key=lambda axes: (np.linalg.det([_LETTERS[letter] for letter in axes]) < 0, axes),
    )
)
COLUMNS: tuple[str, ...] = tuple(
    "".join(sign + column for sign, column in zip(signs, order, strict=True))
    for order in permutations("xyz")
    for signs in product(("", "-"), repeat=3)
)


@dataclass(frozen=True)
class Convention:
    """How a row's rotation and position become ``world_from_cam`` in OpenCV axes.

    Attributes:
        rotation: ``matrix``, ``wxyz``, ``xyzw`` or ``euler:<product>:<deg|rad>``.
        direction: ``world_from_cam`` or ``cam_from_world``, of the rotation.
        camera_axes: directions of the camera's x, y, z: ``RDF``, ``RUB``, ...
        position: ``centre`` or ``translation``.
        columns: order and signs of the position's columns: ``xyz``, ``x-zy``, ...

    Raises:
        GeometryError: a part is none of these.
    """

    rotation: str
    direction: str = WORLD_FROM_CAM
    camera_axes: str = "RUB"
    position: str = CENTRE
    columns: str = "xyz"

    def __post_init__(self) -> None:
        axes = _AXIS_NAMES.get(self.camera_axes.lower(), self.camera_axes.upper())
        object.__setattr__(self, "camera_axes", axes)
        if self.rotation not in {"matrix", "wxyz", "xyzw"} and not _EULER.fullmatch(self.rotation):
            raise GeometryError(
                f"unknown rotation {self.rotation[:60]!r}; want matrix, wxyz, xyzw, or angles "
                "such as euler:z0y1x2:deg, which is Rz(a0) Ry(a1) Rx(a2)"
            )
        if self.direction not in {WORLD_FROM_CAM, CAM_FROM_WORLD}:
            raise GeometryError(
                f"unknown direction {self.direction[:60]!r}; want {WORLD_FROM_CAM} or "
                f"{CAM_FROM_WORLD}"
            )
        if axes not in CAMERA_AXES:
            raise GeometryError(
                f"unknown camera axes {self.camera_axes[:60]!r}; want three of R L U D F B such as "
                f"RDF (right, down, forward), or {', '.join(_AXIS_NAMES)}"
            )
        if self.position not in {CENTRE, TRANSLATION}:
            raise GeometryError(
                f"unknown position {self.position[:60]!r}; want {CENTRE} or {TRANSLATION}"
            )
        if self.columns not in COLUMNS:
            raise GeometryError(
                f"unknown columns {self.columns[:60]!r}; want xyz in any order and with signs, "
                "such as x-zy"
            )

    @classmethod
    def parse(cls, name: str) -> Convention:
        """The convention of a name such as ``wxyz,cam_from_world,RDF,translation``.

        Raises:
            GeometryError: it is no such name.
        """
        parts = [part.strip() for part in name.split(",")]
        if not 1 <= len(parts) <= 5:
            raise GeometryError(
                f"no convention: {name[:60]!r}; want rotation,direction,camera axes,position,"
                "columns such as wxyz,cam_from_world,RDF,translation,xyz"
            )
        return cls(*parts)

    @property
    def name(self) -> str:
        """What `parse` reads; the columns are left out where they are in order."""
        parts = [self.rotation, self.direction, self.camera_axes, self.position]
        return ",".join(parts if self.columns == "xyz" else [*parts, self.columns])

    @property
    def numbers(self) -> tuple[int, ...]:
        """Shape of one row's rotation: (3, 3), (4,) or (3,)."""
        return {"matrix": (3, 3), "wxyz": (4,), "xyzw": (4,)}.get(self.rotation, (3,))

    def rotations(self, numbers: ArrayLike) -> FloatArray:
        """The rotations [N, 3, 3] of rows of numbers [N, ...], as the file means them.

        Matrices are taken as they are; quaternions are normalised.

        Raises:
            GeometryError: numbers of another shape, or a quaternion that is zero or not finite.
        """
        values = np.asarray(numbers, dtype=np.float64)
        if values.ndim != 1 + len(self.numbers) or values.shape[1:] != self.numbers:
            raise GeometryError(
                f"rotations of shape {values.shape}; {self.rotation} wants [N, "
                f"{', '.join(map(str, self.numbers))}]; name a convention that is written so"
            )
        if self.rotation == "matrix":
            return values
        if self.rotation in {"wxyz", "xyzw"}:
            lengths = np.linalg.norm(values, axis=1)
            if not np.all(np.isfinite(lengths) & (lengths > 0)):
                row = int(np.argmin(np.isfinite(lengths) & (lengths > 0)))
                raise GeometryError(f"no rotation: quaternion {values[row].tolist()} in row {row}")
            quats = values if self.rotation == "wxyz" else np.roll(values, 1, axis=1)
            return rotations_from_quats_wxyz(quats)
        _, factors, unit = self.rotation.split(":")
        radians = np.radians(values) if unit == "deg" else values
        result = np.broadcast_to(np.eye(3), (len(values), 3, 3))
        for sign, axis, column in _FACTOR.findall(factors):
            angle = radians[:, int(column)] * (-1 if sign else 1)
            result = result @ rotations_from_rotvecs(angle[:, None] * np.eye(3)["xyz".index(axis)])
        return np.asarray(result, dtype=np.float64)

    def world_from_cam(self, numbers: ArrayLike, positions: ArrayLike) -> list[Rigid3]:
        """Camera poses of rows of rotation numbers [N, ...] and positions [N, 3].

        Raises:
            GeometryError: numbers of another shape, a matrix that is no rotation, or a quaternion
                that is zero.
        """
        stated = self.rotations(numbers)
        if np.shape(positions) != (len(stated), 3):
            raise GeometryError(
                f"positions of shape {np.shape(positions)} for {len(stated)} rotations; want [N, 3]"
            )
        columns = np.asarray(positions, dtype=np.float64) @ column_matrix(self.columns).T
        if self.direction == CAM_FROM_WORLD:
            stated = np.swapaxes(stated, 1, 2)
        axes = axes_matrix(self.camera_axes)
        poses = []
        for rotation, column in zip(stated, columns, strict=True):
            centre = column if self.position == CENTRE else -rotation @ column
            turned = rotation @ axes
            world = np.diag([1.0, 1.0, np.sign(np.linalg.det(turned)) or 1.0])
            poses.append(Rigid3(world @ turned, world @ centre))
        return poses


def axes_matrix(camera_axes: str) -> FloatArray:
    """[3, 3] that maps OpenCV camera coordinates to those along ``camera_axes``."""
    return np.array([_LETTERS[letter] for letter in camera_axes], dtype=np.float64)


def column_matrix(columns: str) -> FloatArray:
    """[3, 3] that maps a position as it stands in the file to the one that is meant."""
    matrix = np.zeros((3, 3))
    match = _COLUMNS.fullmatch(columns)
    if match is None:
        raise GeometryError(f"unknown columns {columns!r}; want such as xyz or x-zy")
    for row, column in enumerate(match.groups()):
        matrix[row, "xyz".index(column[-1])] = -1.0 if column.startswith("-") else 1.0
    return matrix
