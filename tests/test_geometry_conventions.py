"""Conventions: names, and numbers that an independent writer made from a known pose."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from relocalize.errors import GeometryError
from relocalize.geometry import Convention, Rigid3
from relocalize.geometry.conventions import CAMERA_AXES, COLUMNS

# Where the letters point in OpenCV's camera axes, written out here a second time on purpose.
POINTING = {
    "R": [1, 0, 0],
    "L": [-1, 0, 0],
    "D": [0, 1, 0],
    "U": [0, -1, 0],
    "F": [0, 0, 1],
    "B": [0, 0, -1],
}
seeds = st.integers(0, 2**32 - 1)
factors = st.tuples(st.sampled_from(["", "-"]), st.sampled_from("xyz"))


@st.composite
def eulers(draw) -> str:
    """Three factors about axes of which neighbours differ, each with a column of its own."""
    axes = draw(st.sampled_from([a for a in itertools.product("xyz", repeat=3) if _turns(a)]))
    columns = draw(st.permutations("012"))
    signs = draw(st.lists(st.sampled_from(["", "-"]), min_size=3, max_size=3))
    rows = zip(signs, axes, columns, strict=True)
    return f"euler:{''.join(map(''.join, rows))}:{draw(st.sampled_from(['deg', 'rad']))}"


def _turns(axes) -> bool:
    return axes[0] != axes[1] != axes[2]


conventions = st.builds(
    Convention,
    rotation=st.one_of(st.sampled_from(["matrix", "wxyz", "xyzw"]), eulers()),
    direction=st.sampled_from(["world_from_cam", "cam_from_world"]),
    camera_axes=st.sampled_from(CAMERA_AXES),
    position=st.sampled_from(["centre", "translation"]),
    columns=st.sampled_from(COLUMNS),
)


def written(convention: Convention, world_from_cam: Rigid3, rng) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a file in that convention: its world is mirrored where its camera is."""
    axes = np.array([POINTING[letter] for letter in convention.camera_axes], float)
    mirror = np.diag([1, 1, np.linalg.det(axes)])
    # Points in the file's world from points along the file's camera axes.
    rotation = mirror @ world_from_cam.rotation @ axes.T
    centre = mirror @ world_from_cam.translation
    position = centre if convention.position == "centre" else -rotation.T @ centre
    stated = rotation if convention.direction == "world_from_cam" else rotation.T
    columns = np.empty(3)
    for value, name in zip(position, _split_columns(convention.columns), strict=True):
        columns["xyz".index(name[-1])] = -value if name[0] == "-" else value
    return rotation_numbers(convention.rotation, stated, rng), columns


def _split_columns(columns: str) -> list[str]:
    return columns.replace("x", "x ").replace("y", "y ").replace("z", "z ").split()


def rotation_numbers(kind: str, rotation: np.ndarray, rng) -> np.ndarray:
    if kind == "matrix":
        return rotation
    if kind in {"wxyz", "xyzw"}:
        # Any length and either sign is the same rotation.
        length = rng.uniform(0.5, 2) * rng.choice([-1, 1])
        x, y, z, w = length * Rotation.from_matrix(rotation).as_quat()
        return np.array([w, x, y, z] if kind == "wxyz" else [x, y, z, w])
    _, product, unit = kind.split(":")
    parts = product.replace("-", " -").replace("0", "0 ").replace("1", "1 ").replace("2", "2 ")
    found = [part for part in parts.split() if part]
    signs = [-1 if part[0] == "-" else 1 for part in found]
    axes = "".join(part[-2] for part in found)
    # Capitals are turns about the turned axes, whose product reads from left to right.
    angles = Rotation.from_matrix(rotation).as_euler(axes.upper(), degrees=unit == "deg")
    numbers = np.empty(3)
    for angle, sign, part in zip(angles, signs, found, strict=True):
        numbers[int(part[-1])] = sign * angle
    return numbers


@settings(max_examples=150)
@given(conventions)
def test_a_convention_is_its_name(convention: Convention) -> None:
    assert Convention.parse(convention.name) == convention
    assert Convention.parse(convention.name).name == convention.name
    assert Convention.parse(f" {convention.name.replace(',', ' , ')} ") == convention


@settings(max_examples=200)
@given(conventions, seeds)
def test_numbers_written_from_a_pose_are_read_as_that_pose(
    convention: Convention, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    poses = [
        Rigid3(Rotation.random(rng=rng).as_matrix(), rng.uniform(-50, 50, 3)) for _ in range(3)
    ]
    rows = [written(convention, pose, rng) for pose in poses]
    read = convention.world_from_cam(
        np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])
    )
    for pose, found in zip(poses, read, strict=True):
        np.testing.assert_allclose(found.rotation, pose.rotation, atol=1e-6)
        np.testing.assert_allclose(found.translation, pose.translation, atol=1e-4)


@pytest.mark.parametrize("axes", CAMERA_AXES)
def test_every_camera_axis_and_column_order_is_read_exactly(axes: str) -> None:
    rng = np.random.default_rng(0)
    pose = Rigid3(Rotation.random(rng=rng).as_matrix(), np.array([1.0, -2.0, 3.0]))
    for columns, direction, position in itertools.product(
        COLUMNS, ("world_from_cam", "cam_from_world"), ("centre", "translation")
    ):
        convention = Convention("matrix", direction, axes, position, columns)
        rotation, column = written(convention, pose, rng)
        (found,) = convention.world_from_cam(rotation[None], column[None])
        np.testing.assert_allclose(found.matrix, pose.matrix, atol=1e-12)


def test_there_are_all_axes_and_columns() -> None:
    assert len(CAMERA_AXES) == len(set(CAMERA_AXES)) == 48
    assert len(COLUMNS) == len(set(COLUMNS)) == 48


@pytest.mark.parametrize("handed", ["right", "left"])
def test_a_left_handed_camera_has_a_mirrored_world(handed: str) -> None:
    # Unity: x right, y up, z forward. A point ahead of the camera is ahead of it however read,
    # and what was to its right in the file's world is to its right in ours.
    axes = "RUF" if handed == "left" else "RDF"
    (pose,) = Convention("matrix", camera_axes=axes).world_from_cam(
        np.eye(3)[None], np.zeros((1, 3))
    )
    ahead_in_file, right_in_file = np.array([0, 0, 1.0]), np.array([1.0, 0, 0])
    mirror = np.diag([1, 1, -1 if handed == "left" else 1])
    np.testing.assert_allclose(pose.inverse() @ (mirror @ ahead_in_file), [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(pose.inverse() @ (mirror @ right_in_file), [1, 0, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wxy", "unknown rotation 'wxy'"),
        ("euler:x0y1:deg", "unknown rotation"),
        ("euler:x0y1z3:deg", "unknown rotation"),
        ("euler:x0y1z2:grad", "unknown rotation"),
        ("wxyz,up", "unknown direction 'up'"),
        ("wxyz,world_from_cam,RRF", "unknown camera axes"),
        ("wxyz,world_from_cam,RLF", "unknown camera axes"),
        ("wxyz,world_from_cam,RDF,somewhere", "unknown position"),
        ("wxyz,world_from_cam,RDF,centre,xxz", "unknown columns"),
        ("wxyz,world_from_cam,RDF,centre,xyz,more", "no convention"),
        ("", "unknown rotation ''"),
    ],
)
def test_what_is_no_convention_is_said(name: str, says: str) -> None:
    with pytest.raises(GeometryError, match=says):
        Convention.parse(name)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("matrix", (2, 4)), ("wxyz", (2, 3)), ("euler:x0y1z2:deg", (2, 4)), ("xyzw", (4,))],
)
def test_numbers_of_another_shape_are_refused(kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match="rotations of shape"):
        Convention(kind).world_from_cam(np.ones(shape), np.zeros((2, 3)))


def test_a_matrix_that_is_no_rotation_is_refused() -> None:
    with pytest.raises(GeometryError, match="no rotation"):
        Convention("matrix").world_from_cam(2 * np.eye(3)[None], np.zeros((1, 3)))


@pytest.mark.parametrize("quaternion", [np.zeros(4), np.full(4, np.nan)])
def test_a_quaternion_of_zeros_is_one_line(quaternion: np.ndarray) -> None:
    with pytest.raises(GeometryError):
        Convention("wxyz").world_from_cam(quaternion[None], np.zeros((1, 3)))


def test_a_position_of_another_shape_is_one_line() -> None:
    with pytest.raises(GeometryError):
        Convention("wxyz").world_from_cam([[1, 0, 0, 0]], [[1, 2]])


@pytest.mark.parametrize("euler", ["euler:x0x1z2:deg", "euler:x0y0z2:deg"])
def test_angles_that_do_not_span_all_rotations_are_still_a_convention(euler: str) -> None:
    # Nonsense in a file, but what the numbers mean is clear; the search of conventions decides.
    (pose,) = Convention(euler, camera_axes="RDF").world_from_cam([[10, 0, 20]], [[0, 0, 0]])
    assert np.isfinite(pose.matrix).all()
