"""Aligning one set of poses onto another: exact, robust, along a corridor, and refused."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator
from scipy.spatial.transform import Rotation

from relocalize import Rigid3, Similarity3
from relocalize.errors import GeometryError
from relocalize.geometry import align_camera_poses, position_error, rotation_error_deg


def random_similarity(rng: Generator) -> Similarity3:
    return Similarity3(
        float(np.exp(rng.uniform(-3, 3))),
        Rotation.random(rng=rng).as_matrix(),
        rng.uniform(-50, 50, 3),
    )


def random_walk(rng: Generator, count: int) -> list[Rigid3]:
    """Cameras along a wandering path of a few units, looking anywhere."""
    centres = np.cumsum(rng.normal(0, 0.3, (count, 3)), axis=0)
    rotations = Rotation.random(count, rng=rng).as_matrix()
    return [Rigid3(r, c) for r, c in zip(rotations, centres, strict=True)]


def corridor(rng: Generator, count: int) -> list[Rigid3]:
    """Centres exactly on one line: they alone leave the turn about it open."""
    return [
        Rigid3(Rotation.random(rng=rng).as_matrix(), np.array([0.1 * i, 0.2 * i, 0.0]))
        for i in range(count)
    ]


def moved(
    b_from_a: Similarity3,
    poses: Sequence[Rigid3],
    rng: Generator,
    *,
    position_sigma: float = 0.0,
    angle_sigma_deg: float = 0.0,
) -> list[Rigid3]:
    """The poses in frame b, with noise in the units of frame a."""
    result = []
    for pose in poses:
        exact = b_from_a.move_camera(pose)
        turn = Rotation.from_rotvec(np.radians(rng.normal(0, angle_sigma_deg, 3)))
        shift = b_from_a.scale * rng.normal(0, position_sigma, 3)
        result.append(Rigid3(turn.as_matrix() @ exact.rotation, exact.translation + shift))
    return result


def spoil(poses: list[Rigid3], share: float, rng: Generator) -> np.ndarray:
    """Replace a share of the poses by gross errors; returns which are left, [N] bool."""
    good = np.ones(len(poses), dtype=bool)
    centres = np.stack([pose.translation for pose in poses])
    size = np.ptp(centres, axis=0).max()
    for i in rng.choice(len(poses), size=int(share * len(poses)), replace=False):
        good[i] = False
        poses[int(i)] = Rigid3(
            Rotation.random(rng=rng).as_matrix(), centres[i] + rng.uniform(0.5, 2, 3) * size
        )
    return good


def assert_close(
    found: Similarity3, true: Similarity3, *, scale: float, degrees: float, length: float
) -> None:
    """Bounds: relative scale, degrees, and the offset at the origin in units of frame a."""
    assert found.scale / true.scale == pytest.approx(1, abs=scale)
    assert (
        rotation_error_deg(Rigid3(found.rotation, np.zeros(3)), Rigid3(true.rotation, np.zeros(3)))
        <= degrees
    )
    assert np.linalg.norm(found.translation - true.translation) / true.scale <= length


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_exact_poses_are_aligned_exactly(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    b_from_a, poses = random_similarity(rng), random_walk(rng, count)
    alignment = align_camera_poses(poses, moved(b_from_a, poses, rng))
    assert_close(alignment.b_from_a, b_from_a, scale=1e-9, degrees=1e-6, length=1e-7)
    assert alignment.inliers.all()
    assert alignment.position_residuals.max() <= 1e-7 * b_from_a.scale
    assert alignment.rotation_residuals_deg.max() <= 1e-5


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_third_of_gross_errors_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    b_from_a, poses = random_similarity(rng), random_walk(rng, 60)
    others = moved(b_from_a, poses, rng)
    good = spoil(others, 0.3, rng)
    alignment = align_camera_poses(poses, others)
    assert_close(alignment.b_from_a, b_from_a, scale=1e-9, degrees=1e-6, length=1e-7)
    np.testing.assert_array_equal(alignment.inliers, good)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_noise_and_a_third_of_gross_errors_leave_millimetres(seed: int) -> None:
    # 1 cm and 0.5 degrees of noise per pose, on a path of a few metres.
    rng = np.random.default_rng(seed)
    b_from_a, poses = random_similarity(rng), random_walk(rng, 100)
    others = moved(b_from_a, poses, rng, position_sigma=0.01, angle_sigma_deg=0.5)
    good = spoil(others, 0.3, rng)
    alignment = align_camera_poses(poses, others)
    centre = np.mean([pose.translation for pose in poses], axis=0)
    offset = (alignment.b_from_a @ centre - b_from_a @ centre) / b_from_a.scale
    assert np.linalg.norm(offset) <= 0.006
    assert alignment.b_from_a.scale / b_from_a.scale == pytest.approx(1, abs=0.01)
    assert not alignment.inliers[~good].any()
    assert alignment.inliers[good].mean() >= 0.9


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3]))
def test_a_straight_corridor_is_determined_by_the_orientations(seed: int, spoiled: float) -> None:
    rng = np.random.default_rng(seed)
    b_from_a, poses = random_similarity(rng), corridor(rng, 40)
    others = moved(b_from_a, poses, rng)
    spoil(others, spoiled, rng)
    alignment = align_camera_poses(poses, others)
    assert_close(alignment.b_from_a, b_from_a, scale=1e-9, degrees=1e-5, length=1e-6)


def test_a_noisy_corridor_keeps_its_turn_about_its_axis() -> None:
    rng = np.random.default_rng(3)
    b_from_a, poses = random_similarity(rng), corridor(rng, 200)
    others = moved(b_from_a, poses, rng, position_sigma=0.005, angle_sigma_deg=0.5)
    alignment = align_camera_poses(poses, others)
    error = rotation_error_deg(
        Rigid3(alignment.b_from_a.rotation, np.zeros(3)), Rigid3(b_from_a.rotation, np.zeros(3))
    )
    assert error <= 0.15


def test_a_rigid_alignment_keeps_scale_1() -> None:
    rng = np.random.default_rng(1)
    b_from_a = Similarity3(1.0, Rotation.random(rng=rng).as_matrix(), np.array([1.0, 2, 3]))
    poses = random_walk(rng, 30)
    others = moved(b_from_a, poses, rng, position_sigma=0.01)
    alignment = align_camera_poses(poses, others, fix_scale=True)
    assert alignment.b_from_a.scale == 1.0
    assert_close(alignment.b_from_a, b_from_a, scale=0, degrees=1.0, length=0.05)


def test_a_turning_camera_that_rests_is_aligned_rigidly() -> None:
    rng = np.random.default_rng(1)
    poses = [Rigid3(Rotation.random(rng=rng).as_matrix(), np.ones(3)) for _ in range(10)]
    b_from_a = Similarity3(1.0, Rotation.random(rng=rng).as_matrix(), np.array([1.0, 2, 3]))
    alignment = align_camera_poses(poses, moved(b_from_a, poses, rng), fix_scale=True)
    assert_close(alignment.b_from_a, b_from_a, scale=0, degrees=1e-5, length=1e-7)


def test_a_camera_that_mostly_rests_is_still_aligned() -> None:
    # Most of a recording from one spot, then a few steps: the scale is in the steps.
    rng = np.random.default_rng(2)
    steps = random_walk(rng, 8)
    poses = [Rigid3(pose.rotation, np.zeros(3)) for pose in random_walk(rng, 20)] + steps
    b_from_a = random_similarity(rng)
    alignment = align_camera_poses(poses, moved(b_from_a, poses, rng))
    assert_close(alignment.b_from_a, b_from_a, scale=1e-9, degrees=1e-6, length=1e-7)


def test_the_same_input_gives_the_same_answer() -> None:
    rng = np.random.default_rng(4)
    poses = random_walk(rng, 30)
    others = moved(random_similarity(rng), poses, rng, position_sigma=0.02)
    one, two = (align_camera_poses(poses, others).b_from_a for _ in range(2))
    assert one.scale == two.scale
    np.testing.assert_array_equal(one.translation, two.translation)


def test_too_few_or_unmatched_poses_are_refused() -> None:
    pose = Rigid3.identity()
    with pytest.raises(GeometryError, match="at least 2 common poses, got 1"):
        align_camera_poses([pose], [pose])
    with pytest.raises(GeometryError, match="at least 2 common poses, got 0"):
        align_camera_poses([], [])
    with pytest.raises(GeometryError, match="2 poses cannot be paired with 1"):
        align_camera_poses([pose, pose], [pose])


@pytest.mark.parametrize("resting", ["a", "b", "both"])
def test_scale_from_a_camera_that_does_not_move_is_refused(resting: str) -> None:
    rng = np.random.default_rng(0)
    walk = random_walk(rng, 5)
    rest = [Rigid3(pose.rotation, np.ones(3)) for pose in walk]
    sides = {"a": (rest, walk), "b": (walk, rest), "both": (rest, rest)}
    with pytest.raises(GeometryError, match="scale"):
        align_camera_poses(*sides[resting])


@settings(max_examples=30)
@given(st.floats(0, 180), st.integers(0, 1000))
def test_the_rotation_error_is_the_angle_between(angle_deg: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    turn = Rotation.from_rotvec(np.radians(angle_deg) * axis / np.linalg.norm(axis)).as_matrix()
    true = Rigid3(Rotation.random(rng=rng).as_matrix(), np.array([1.0, 2.0, 3.0]))
    estimated = Rigid3(turn @ true.rotation, true.translation + np.array([3.0, 0.0, 4.0]))
    assert rotation_error_deg(estimated, true) == pytest.approx(angle_deg, abs=1e-5)
    assert rotation_error_deg(true, estimated) == pytest.approx(angle_deg, abs=1e-5)
    assert position_error(estimated, true) == pytest.approx(5.0)
