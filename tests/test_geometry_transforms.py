"""Transforms: group axioms, quaternions, and what is refused as a rotation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from relocalize import RelocalizeError, Rigid3, Similarity3
from relocalize.errors import GeometryError
from relocalize.geometry.transforms import (
    checked_rotation,
    mean_rotation,
    quat_wxyz_from_rotation,
    rotation_angle_deg,
    rotation_from_quat_wxyz,
)

coordinates = st.floats(-100, 100, allow_subnormal=False)
vectors = arrays(np.float64, 3, elements=coordinates)
quaternions = arrays(np.float64, 4, elements=st.floats(-1, 1, allow_subnormal=False)).filter(
    lambda quat: np.linalg.norm(quat) > 1e-2
)
rigids = st.builds(Rigid3.from_quat_wxyz, quaternions, vectors)
similarities = st.builds(
    lambda scale, rigid: Similarity3(scale, rigid.rotation, rigid.translation),
    st.floats(0.01, 100),
    rigids,
)


def assert_same(one: Rigid3 | Similarity3, other: Rigid3 | Similarity3, tolerance: float) -> None:
    """Equality of the maps themselves, by what they do to four points that fix them."""
    points = np.vstack([np.zeros(3), np.eye(3)])
    np.testing.assert_allclose(one @ points, other @ points, atol=tolerance, rtol=1e-9)


@given(rigids, rigids, rigids)
def test_rigid_transforms_are_a_group(d_from_c: Rigid3, c_from_b: Rigid3, b_from_a: Rigid3) -> None:
    identity = Rigid3.identity()
    assert_same((d_from_c @ c_from_b) @ b_from_a, d_from_c @ (c_from_b @ b_from_a), 1e-9)
    assert_same(identity @ b_from_a, b_from_a, 1e-12)
    assert_same(b_from_a @ identity, b_from_a, 1e-12)
    assert_same(b_from_a.inverse() @ b_from_a, identity, 1e-10)
    assert_same(b_from_a @ b_from_a.inverse(), identity, 1e-10)


@given(similarities, similarities, similarities)
def test_similarities_are_a_group(
    d_from_c: Similarity3, c_from_b: Similarity3, b_from_a: Similarity3
) -> None:
    identity = Similarity3.identity()
    scale = d_from_c.scale * c_from_b.scale * 100
    assert_same(
        (d_from_c @ c_from_b) @ b_from_a, d_from_c @ (c_from_b @ b_from_a), 1e-10 * (1 + scale)
    )
    assert_same(identity @ b_from_a, b_from_a, 1e-12)
    assert_same(b_from_a @ identity, b_from_a, 1e-12)
    assert_same(b_from_a.inverse() @ b_from_a, identity, 1e-10 * (1 + 1 / b_from_a.scale) * 100)
    assert_same(b_from_a @ b_from_a.inverse(), identity, 1e-10 * (1 + b_from_a.scale) * 100)


@given(rigids, rigids, vectors)
def test_a_product_maps_points_right_to_left(
    c_from_b: Rigid3, b_from_a: Rigid3, point_in_a: np.ndarray
) -> None:
    np.testing.assert_allclose(
        (c_from_b @ b_from_a) @ point_in_a, c_from_b @ (b_from_a @ point_in_a), atol=1e-9
    )
    homogeneous = c_from_b.matrix @ b_from_a.matrix @ np.append(point_in_a, 1)
    np.testing.assert_allclose((c_from_b @ b_from_a) @ point_in_a, homogeneous[:3], atol=1e-9)


@given(rigids, st.integers(0, 5), st.integers(0, 4))
def test_points_keep_their_array_shape_and_distances(
    b_from_a: Rigid3, rows: int, cols: int
) -> None:
    points = np.arange(rows * cols * 3, dtype=np.float64).reshape(rows, cols, 3)
    mapped = b_from_a @ points
    assert mapped.shape == points.shape
    if rows and cols:
        np.testing.assert_allclose(
            np.linalg.norm(mapped - mapped[0, 0], axis=-1),
            np.linalg.norm(points - points[0, 0], axis=-1),
            atol=1e-9,
        )


def test_a_known_quarter_turn() -> None:
    # +90 degrees about z: w = cos 45, z = sin 45; x goes to y.
    b_from_a = Rigid3.from_quat_wxyz([np.sqrt(0.5), 0, 0, np.sqrt(0.5)], [10, 0, 0])
    np.testing.assert_allclose(b_from_a @ np.array([1.0, 0, 0]), [10, 1, 0], atol=1e-12)
    np.testing.assert_allclose(b_from_a @ np.array([0, 1.0, 0]), [9, 0, 0], atol=1e-12)
    assert rotation_angle_deg(b_from_a.rotation) == pytest.approx(90)


@given(quaternions, st.floats(0.1, 10))
def test_a_quaternion_and_its_negative_are_one_rotation(quat: np.ndarray, factor: float) -> None:
    rotation = rotation_from_quat_wxyz(quat)
    np.testing.assert_allclose(rotation_from_quat_wxyz(-factor * quat), rotation, atol=1e-12)
    back = quat_wxyz_from_rotation(rotation)
    assert back[0] >= 0
    assert np.linalg.norm(back) == pytest.approx(1)
    unit = quat / np.linalg.norm(quat)
    assert min(np.abs(back - unit).max(), np.abs(back + unit).max()) < 1e-7


@given(rigids)
def test_matrix_and_quaternion_round_trips(b_from_a: Rigid3) -> None:
    assert_same(Rigid3.from_matrix(b_from_a.matrix), b_from_a, 1e-9)
    assert_same(Rigid3.from_matrix(b_from_a.matrix[:3]), b_from_a, 1e-9)
    assert_same(Rigid3.from_quat_wxyz(b_from_a.quat_wxyz, b_from_a.translation), b_from_a, 1e-9)


@given(rigids)
def test_a_rotation_written_with_six_digits_is_taken_as_the_exact_one(b_from_a: Rigid3) -> None:
    written = np.round(b_from_a.rotation, 6)
    read = checked_rotation(written)
    np.testing.assert_allclose(read @ read.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(read, b_from_a.rotation, atol=2e-6)


@given(quaternions, st.one_of(st.floats(0.1, 0.99), st.floats(1.01, 10)))
def test_a_scaled_matrix_is_no_rotation(quat: np.ndarray, scale: float) -> None:
    with pytest.raises(GeometryError, match="no rotation"):
        checked_rotation(scale * rotation_from_quat_wxyz(quat))


@given(quaternions, st.sampled_from([0, 1, 2]))
def test_a_mirrored_matrix_is_no_rotation(quat: np.ndarray, axis: int) -> None:
    mirror = np.eye(3)
    mirror[axis, axis] = -1
    with pytest.raises(GeometryError, match="no rotation"):
        checked_rotation(rotation_from_quat_wxyz(quat) @ mirror)


@given(quaternions, vectors.filter(lambda v: np.linalg.norm(v) > 0.1), st.floats(6, 180))
def test_averaged_matrices_are_no_rotation(
    quat: np.ndarray, axis: np.ndarray, angle_deg: float
) -> None:
    # Two orientations more than some degrees apart: their element-wise mean has shrunk.
    half = np.radians(angle_deg) / 2
    turn = np.concatenate([[np.cos(half)], np.sin(half) * axis / np.linalg.norm(axis)])
    one = rotation_from_quat_wxyz(quat)
    other = one @ rotation_from_quat_wxyz(turn)
    with pytest.raises(GeometryError, match="averaged"):
        checked_rotation((one + other) / 2)
    if angle_deg < 170:
        mean = mean_rotation([one, other])
        assert rotation_angle_deg(mean.T @ one) == pytest.approx(angle_deg / 2, abs=1e-6)
        assert rotation_angle_deg(mean.T @ other) == pytest.approx(angle_deg / 2, abs=1e-6)


@pytest.mark.parametrize(
    "rotation",
    [np.zeros((3, 3)), np.full((3, 3), np.nan), np.eye(4), np.eye(2), np.arange(9).reshape(3, 3)],
)
def test_other_matrices_are_no_rotation(rotation: np.ndarray) -> None:
    with pytest.raises(GeometryError, match="no rotation"):
        Rigid3(rotation, np.zeros(3))


@pytest.mark.parametrize("quat", [[0, 0, 0, 0], [1, 0, 0], [np.nan, 0, 0, 1], [np.inf, 0, 0, 1]])
def test_other_quaternions_are_no_rotation(quat: list[float]) -> None:
    with pytest.raises(GeometryError, match="quaternion"):
        rotation_from_quat_wxyz(quat)


@pytest.mark.parametrize("translation", [[1, 2], [1, 2, np.nan], [[1, 2, 3]]])
def test_other_vectors_are_no_translation(translation: list[float]) -> None:
    with pytest.raises(GeometryError, match="translation"):
        Rigid3(np.eye(3), np.array(translation))


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf])
def test_a_similarity_needs_a_positive_scale(scale: float) -> None:
    with pytest.raises(GeometryError, match="scale"):
        Similarity3(scale, np.eye(3), np.zeros(3))


def test_a_matrix_with_another_last_row_is_no_rigid_transform() -> None:
    matrix = np.eye(4)
    matrix[3, 0] = 0.5
    with pytest.raises(GeometryError, match="last row"):
        Rigid3.from_matrix(matrix)


def test_a_transform_does_not_change_with_the_array_it_came_from() -> None:
    translation = np.zeros(3)
    b_from_a = Rigid3(np.eye(3), translation)
    translation[0] = 7
    assert b_from_a.translation[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        b_from_a.translation[0] = 7


@given(similarities, rigids, vectors)
def test_a_moved_camera_sees_the_moved_point_where_it_saw_it(
    b_from_a: Similarity3, a_from_cam: Rigid3, point_in_a: np.ndarray
) -> None:
    in_cam = a_from_cam.inverse() @ point_in_a
    in_moved_cam = b_from_a.move_camera(a_from_cam).inverse() @ (b_from_a @ point_in_a)
    np.testing.assert_allclose(
        in_moved_cam, b_from_a.scale * in_cam, atol=1e-9 * (1 + 1000 * b_from_a.scale)
    )


def test_every_refusal_is_an_error_of_ours() -> None:
    assert issubclass(GeometryError, RelocalizeError)
