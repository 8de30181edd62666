"""Rotations in torch equal scipy's in every form, and their gradients are finite everywhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

torch = pytest.importorskip("torch")

from relocalize.regression import rotations as r  # noqa: E402 - after the skip where there is none

torch.set_num_threads(1)

ANGLES = (0.0, 1e-12, 1e-8, 1e-4, 0.3, 1.5, 3.0, np.pi - 1e-4, np.pi - 1e-8, np.pi)
AXES = np.array(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [1, 1, 0], [1, -2, 3], [-1e-3, 1e-3, 1]], float
)


def hard_rotations() -> Rotation:
    axes = AXES / np.linalg.norm(AXES, axis=1, keepdims=True)
    vectors = np.concatenate([axes * angle for angle in ANGLES])
    random = Rotation.random(200, random_state=np.random.default_rng(0)).as_rotvec()
    return Rotation.from_rotvec(np.concatenate([vectors, random]))


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def assert_equal(found: torch.Tensor, wanted: np.ndarray, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=atol)


def test_quaternions_and_matrices_are_scipys():
    rotations = hard_rotations()
    matrices, quats = rotations.as_matrix(), rotations.as_quat(scalar_first=True)
    assert_equal(r.matrix_from_quaternion(tensor(quats)), matrices, 1e-12)
    assert_equal(r.matrix_from_quaternion(tensor(-3 * quats)), matrices, 1e-12)
    found = r.quaternion_from_matrix(tensor(matrices)).numpy()
    assert np.all(found[:, 0] >= 0)
    # Half turns have two quaternions with w = 0; either will do.
    assert np.abs((found * quats).sum(1)).min() > 1 - 1e-12
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-12


def test_logarithms_are_half_of_scipys_rotation_vectors():
    rotations = hard_rotations()
    logs = r.log_from_matrix(tensor(rotations.as_matrix()))
    lengths = logs.norm(dim=1)
    assert lengths.max() <= np.pi / 2 + 1e-9
    short = rotations.magnitude() < np.pi - 1e-5
    assert_equal(logs[short], rotations.as_rotvec()[short] / 2)
    assert_equal(r.matrix_from_log(logs), rotations.as_matrix())
    assert_equal(r.matrix_from_log(tensor(rotations.as_rotvec() / 2)), rotations.as_matrix())


def test_the_logarithm_of_a_negated_quaternion_is_the_same():
    quats = tensor(hard_rotations().as_quat(scalar_first=True))
    away = quats[:, 0].abs() > 1e-6
    assert_equal(
        r.log_from_quaternion(-quats[away]), r.log_from_quaternion(quats[away]).numpy(), 1e-12
    )


def test_six_numbers_are_the_first_two_columns():
    rotations = hard_rotations()
    matrices = tensor(rotations.as_matrix())
    columns = r.columns_from_matrix(matrices)
    assert_equal(columns[:, :3], rotations.as_matrix()[:, :, 0])
    assert_equal(r.matrix_from_6d(columns), rotations.as_matrix())
    # Any length of the first, and anything of the first added to the second.
    bent = torch.cat((5 * columns[:, :3], 0.1 * columns[:, 3:] - 2 * columns[:, :3]), 1)
    assert_equal(r.matrix_from_6d(bent), rotations.as_matrix())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6))
def test_any_six_numbers_give_a_finite_matrix_that_is_a_rotation_where_one_is_meant(numbers):
    six = torch.tensor(numbers, dtype=torch.float64)
    matrix = r.matrix_from_6d(six)
    assert torch.isfinite(matrix).all()
    a, b = six[:3], six[3:]
    if torch.linalg.cross(a, b).norm() > 1e-6 * (a.norm() * b.norm()) > 1e-6:
        assert (matrix @ matrix.T - torch.eye(3)).abs().max() < 1e-8
        assert torch.linalg.det(matrix) > 0.99


def test_nearer_picks_the_same_rotation_on_the_side_of_the_other():
    rotations = hard_rotations()
    quats = tensor(rotations.as_quat(scalar_first=True))
    toward = torch.randn(quats.shape, dtype=torch.float64, generator=torch.manual_seed(0))
    picked = r.nearer(quats, toward)
    assert bool(((picked * toward).sum(-1) >= 0).all())
    assert_equal(r.matrix_from_quaternion(picked), rotations.as_matrix(), 1e-12)


def test_nearer_logarithms_are_the_same_rotation_and_no_farther():
    rotations = hard_rotations()
    logs = r.log_from_matrix(tensor(rotations.as_matrix()))
    toward = torch.randn(logs.shape, dtype=torch.float64, generator=torch.manual_seed(0))
    picked = r.nearer_log(logs, toward)
    assert_equal(r.matrix_from_log(picked), rotations.as_matrix())
    assert bool(((picked - toward).norm(dim=1) <= (logs - toward).norm(dim=1) + 1e-12).all())
    # A prediction just past half a turn is next to a truth just before it.
    truth = torch.tensor([[0.0, 0.0, np.pi / 2 - 0.01]])
    past = torch.tensor([[0.0, 0.0, -np.pi / 2 + 0.01]])
    assert (r.nearer_log(truth, past) - past).norm() < 0.021


FORMS: list[tuple[str, int, Callable[[torch.Tensor], torch.Tensor]]] = [
    ("quaternion", 4, r.matrix_from_quaternion),
    ("log", 3, r.matrix_from_log),
    ("6d", 6, r.matrix_from_6d),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "size", "to_matrix"), FORMS)
def test_gradients_to_matrices_are_finite_even_from_zero(name, size, to_matrix, dtype):
    for values in (torch.zeros(size), torch.full((size,), 1e-20), torch.ones(size)):
        numbers = values.to(dtype).requires_grad_()
        (to_matrix(numbers) * torch.arange(9.0, dtype=dtype).view(3, 3)).sum().backward()
        assert torch.isfinite(numbers.grad).all(), (name, values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_logarithms_are_finite_at_none_and_at_half_a_turn(dtype):
    moving = tensor(hard_rotations().as_matrix()).to(dtype).requires_grad_()
    r.log_from_matrix(moving).sum().backward()
    assert torch.isfinite(moving.grad).all()


def test_gradients_are_the_slopes():
    generator = torch.manual_seed(3)
    for _, size, to_matrix in FORMS:
        numbers = torch.randn(size, dtype=torch.float64, generator=generator, requires_grad=True)
        torch.autograd.gradcheck(to_matrix, numbers)
    matrix = tensor(Rotation.from_rotvec([0.3, -0.8, 1.2]).as_matrix()).requires_grad_()
    torch.autograd.gradcheck(r.quaternion_from_matrix, matrix)


def test_following_the_gradient_of_the_logarithm_turns_any_start_onto_the_target():
    starts = hard_rotations()
    target = tensor(Rotation.from_rotvec([0.2, 0.5, -1.0]).as_matrix())
    six = r.columns_from_matrix(tensor(starts.as_matrix())).requires_grad_()

    def log_of_turn():
        return r.log_from_matrix(target.T @ r.matrix_from_6d(six))

    before = 2 * log_of_turn().norm(dim=-1).detach()
    optimizer = torch.optim.Adam([six], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        log_of_turn().abs().sum().backward()
        optimizer.step()
    after = 2 * log_of_turn().norm(dim=-1).detach()
    assert before.max() > 2
    assert after.max() < 0.1
