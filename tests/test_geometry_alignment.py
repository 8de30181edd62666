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
from relocalize.geometry import (
    align_camera_poses,
    align_points,
    position_error,
    rotation_error_deg,
)
from relocalize.geometry.alignment_doubts import rotation_sigma_deg, why_not, why_poses_differ
from relocalize.geometry.transforms import rotation_angle_deg


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


@settings(max_examples=10, deadline=None)
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


@pytest.mark.parametrize("walk", [random_walk, corridor])
@pytest.mark.parametrize("count", [10, 30, 200])
def test_two_fifths_of_gross_errors_are_all_found(walk, count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(2):
        b_from_a, poses = random_similarity(rng), walk(rng, count)
        others = moved(b_from_a, poses, rng, position_sigma=0.02, angle_sigma_deg=1.0)
        good = spoil(others, 0.4, rng)
        alignment = align_camera_poses(poses, others)
        assert not alignment.inliers[~good].any()
        assert alignment.inliers[good].all()
        assert why_not(alignment) is None


def test_a_pose_that_is_wrong_in_one_thing_only_is_found() -> None:
    rng = np.random.default_rng(0)
    b_from_a, poses = random_similarity(rng), random_walk(rng, 40)
    others = moved(b_from_a, poses, rng, position_sigma=0.01, angle_sigma_deg=0.5)
    # Eight standard deviations: 8 cm, and 4 degrees.
    others[3] = Rigid3(
        others[3].rotation, others[3].translation + b_from_a.scale * np.array([0.08, 0, 0])
    )
    turn = Rotation.from_rotvec(np.radians([0, 4.0, 0])).as_matrix()
    others[7] = Rigid3(turn @ others[7].rotation, others[7].translation)
    alignment = align_camera_poses(poses, others)
    assert set(np.flatnonzero(~alignment.inliers)) == {3, 7}


def test_noise_alone_has_hardly_any_outliers() -> None:
    rng = np.random.default_rng(0)
    lost = 0
    for _ in range(10):
        b_from_a, poses = random_similarity(rng), random_walk(rng, 100)
        others = moved(b_from_a, poses, rng, position_sigma=0.05, angle_sigma_deg=2.0)
        lost += int((~align_camera_poses(poses, others).inliers).sum())
    assert lost <= 2  # of 1000


def test_orientations_count_by_their_noise() -> None:
    # Orientations good to 0.05 degrees, centres to a fifth of the extent: the rotation has to come
    # from the orientations. And the other way round, from the centres.
    rng = np.random.default_rng(0)
    b_from_a, poses = random_similarity(rng), random_walk(rng, 60)
    for position_sigma, angle_sigma_deg, most in ((0.2, 0.05, 0.05), (1e-4, 8.0, 0.05)):
        others = moved(
            b_from_a, poses, rng, position_sigma=position_sigma, angle_sigma_deg=angle_sigma_deg
        )
        found = align_camera_poses(poses, others).b_from_a
        assert rotation_angle_deg(found.rotation.T @ b_from_a.rotation) <= most


def test_the_covariance_is_that_of_repeated_trials() -> None:
    rng = np.random.default_rng(0)
    b_from_a, poses = random_similarity(rng), random_walk(rng, 40)
    distances = []
    for _ in range(30):
        others = moved(b_from_a, poses, rng, position_sigma=0.03, angle_sigma_deg=1.5)
        alignment = align_camera_poses(poses, others)
        found = alignment.b_from_a
        error = np.concatenate(
            [
                found.translation - b_from_a.translation,
                Rotation.from_matrix(found.rotation @ b_from_a.rotation.T).as_rotvec(),
                [np.log(found.scale / b_from_a.scale)],
            ]
        )
        distances.append(error @ np.linalg.solve(alignment.covariance, error))
    # Squared Mahalanobis distances of 7 numbers have mean 7 if the covariance is right.
    assert 5 <= np.mean(distances) <= 9


def test_leaving_one_out_is_what_it_says() -> None:
    rng = np.random.default_rng(0)
    b_from_a, poses = random_similarity(rng), random_walk(rng, 12)
    others = moved(b_from_a, poses, rng, position_sigma=0.02, angle_sigma_deg=1.0)
    alignment = align_camera_poses(poses, others)
    assert alignment.inliers.all()
    for i in (0, 5, 11):
        rest = [j for j in range(12) if j != i]
        without = align_camera_poses([poses[j] for j in rest], [others[j] for j in rest]).b_from_a
        error = position_error(without.move_camera(poses[i]), others[i])
        # The noise that weighs centres against orientations is estimated anew from 11 poses.
        assert alignment.left_out_position[i] == pytest.approx(error, rel=0.05)
        assert alignment.left_out_position[i] > alignment.position_residuals[i]


def test_what_is_aligned_is_aligned() -> None:
    rng = np.random.default_rng(0)
    b_from_a, poses = random_similarity(rng), random_walk(rng, 50)
    others = moved(b_from_a, poses, rng, position_sigma=0.03, angle_sigma_deg=1.0)
    spoil(others, 0.2, rng)
    first = align_camera_poses(poses, others).b_from_a
    again = align_camera_poses([first.move_camera(pose) for pose in poses], others).b_from_a
    assert again.scale == pytest.approx(1, abs=1e-9)
    assert rotation_angle_deg(again.rotation) <= 1e-6
    np.testing.assert_allclose(again @ others[0].translation, others[0].translation, rtol=1e-8)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_way_back_is_the_inverse(seed: int, fix_scale: bool) -> None:
    rng = np.random.default_rng(seed)
    b_from_a, poses = random_similarity(rng), random_walk(rng, 30)
    if fix_scale:
        b_from_a = Similarity3(1.0, b_from_a.rotation, b_from_a.translation)
    others = moved(b_from_a, poses, rng, position_sigma=0.05, angle_sigma_deg=2.0)
    there = align_camera_poses(poses, others, fix_scale=fix_scale).b_from_a
    back = align_camera_poses(others, poses, fix_scale=fix_scale).b_from_a
    assert_close(there, back.inverse(), scale=1e-9, degrees=1e-5, length=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 30))
def test_points_are_aligned_exactly(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    b_from_a, points = random_similarity(rng), rng.normal(size=(count, 3))
    alignment = align_points(points, b_from_a @ points)
    assert alignment.position_residuals.max() <= 1e-7 * b_from_a.scale
    if np.linalg.svd(points - points.mean(axis=0))[1][1] > 0.1:
        assert_close(alignment.b_from_a, b_from_a, scale=1e-8, degrees=1e-5, length=1e-5)


def test_a_wrong_point_of_five_is_found() -> None:
    rng = np.random.default_rng(0)
    b_from_a, points = random_similarity(rng), rng.normal(size=(6, 3))
    measured = b_from_a @ points + b_from_a.scale * rng.normal(0, 0.001, (6, 3))
    measured[4] += b_from_a.scale * np.array([0.5, 0, 0])
    alignment = align_points(points, measured)
    assert list(alignment.inliers) == [True, True, True, True, False, True]


def test_points_that_cannot_be_aligned_are_refused() -> None:
    points = np.random.default_rng(0).normal(size=(5, 3))
    with pytest.raises(GeometryError, match="at least 3 of them, got 2"):
        align_points(points[:2], points[:2])
    with pytest.raises(GeometryError, match="want \\[N, 3\\]"):
        align_points(points, points[:4])
    with pytest.raises(GeometryError, match="no finite"):
        align_points(points, np.full((5, 3), np.nan))
    with pytest.raises(GeometryError, match="scale"):
        align_points(np.ones((5, 3)), points)


def test_points_on_a_line_leave_the_turn_open() -> None:
    line = np.outer([0.0, 1, 2.5, 4], [1, 2, 3])
    alignment = align_points(line, 2 * line)
    assert np.isinf(rotation_sigma_deg(alignment))
    assert why_not(alignment) == "the poses lie on one line, which leaves the turn about it open"


def test_unrelated_poses_are_no_alignment() -> None:
    rng = np.random.default_rng(0)
    for count in (3, 6, 30, 100):
        alignment = align_camera_poses(random_walk(rng, count), random_walk(rng, count))
        assert why_not(alignment) is not None


def test_two_equal_answers_are_none() -> None:
    rng = np.random.default_rng(0)
    poses, one, other = random_walk(rng, 40), random_similarity(rng), random_similarity(rng)
    others = moved(one, poses[:21], rng, position_sigma=0.01, angle_sigma_deg=0.5)
    others += moved(other, poses[21:], rng, position_sigma=0.01, angle_sigma_deg=0.5)
    reason = why_not(align_camera_poses(poses, others))
    assert reason is not None and ("two answers" in reason or "only" in reason)


def test_a_smaller_group_with_its_own_answer_is_told() -> None:
    rng = np.random.default_rng(0)
    poses, one, other = random_walk(rng, 60), random_similarity(rng), random_similarity(rng)
    others = moved(one, poses[:45], rng, position_sigma=0.01, angle_sigma_deg=0.5)
    others += moved(
        Similarity3(one.scale, other.rotation, other.translation),
        poses[45:],
        rng,
        position_sigma=0.01,
        angle_sigma_deg=0.5,
    )
    alignment = align_camera_poses(poses, others)
    assert why_not(alignment) is None
    np.testing.assert_array_equal(alignment.inliers, np.arange(60) < 45)
    assert alignment.rival is not None and alignment.rival[1] == 15
    assert rotation_angle_deg(alignment.rival[0].rotation.T @ other.rotation) <= 1


def test_a_scale_that_noise_hides_is_refused_and_rigid_is_not() -> None:
    rng = np.random.default_rng(0)
    poses = [Rigid3(Rotation.random(rng=rng).as_matrix(), rng.normal(0, 0.01, 3)) for _ in range(8)]
    b_from_a = Similarity3(1.0, Rotation.random(rng=rng).as_matrix(), np.zeros(3))
    others = moved(b_from_a, poses, rng, position_sigma=0.01, angle_sigma_deg=0.5)
    reason = why_not(align_camera_poses(poses, others))
    assert reason is not None and ("scale" in reason or "do not agree" in reason)


def test_other_camera_axes_are_the_diagnosis() -> None:
    rng = np.random.default_rng(0)
    b_from_a, poses = random_similarity(rng), random_walk(rng, 30)
    others = moved(b_from_a, poses, rng, position_sigma=0.01, angle_sigma_deg=0.5)
    opengl = [Rigid3(o.rotation @ np.diag([1.0, -1, -1]), o.translation) for o in others]
    assert why_not(align_camera_poses(poses, opengl)) is not None
    diagnosis = why_poses_differ(poses, opengl)
    assert diagnosis is not None and "180 degrees about its x axis" in diagnosis


def test_a_mirrored_world_is_the_diagnosis() -> None:
    rng = np.random.default_rng(0)
    poses = random_walk(rng, 30)
    mirrored = [Rigid3(pose.rotation, pose.translation * [1, -1, 1]) for pose in poses]
    assert why_not(align_camera_poses(poses, mirrored)) is not None
    diagnosis = why_poses_differ(poses, mirrored)
    assert diagnosis == "the centres of one side are a mirror image of the other's"
