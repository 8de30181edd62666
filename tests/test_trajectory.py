"""Smoothing on motion with known truth: better than raw, wrong frames out, honest about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from relocalize import Rigid3
from relocalize.errors import GeometryError
from relocalize.localization.trajectory import OnlineSmoother, Smoothed, smooth
from relocalize.localization.trajectory.block_chain import BlockChain
from relocalize.localization.trajectory.motion_model import right_jacobian_inverse


def walk(count: int, *, fps: float = 30.0, unit: float = 1.0) -> tuple[np.ndarray, list[Rigid3]]:
    """A hand-held walk: 1 m/s, sway and bob of steps, the camera looking around."""
    t = np.arange(count) / fps
    sway = 0.03 * np.sin(2 * np.pi * 0.9 * t)
    bob = 0.02 * np.sin(2 * np.pi * 1.8 * t)
    centres = np.stack([2 * np.cos(t / 2) + sway, 2 * np.sin(t / 2), 1.5 + bob], axis=1)
    angles = np.stack(
        [0.05 * np.sin(3 * t), 0.6 * np.sin(0.8 * t) + t / 2, 0.04 * np.sin(5 * t)], axis=1
    )
    rotations = Rotation.from_euler("xyz", angles)
    return t, [
        Rigid3(rotation, unit * centre)
        for rotation, centre in zip(rotations.as_matrix(), centres, strict=True)
    ]


@dataclass
class Measured:
    estimates: list[Rigid3 | None]
    covariances: list[np.ndarray | None]
    wrong: np.ndarray
    missing: np.ndarray


def measured(
    truth: list[Rigid3],
    *,
    sigma: float = 0.05,
    sigma_deg: float = 1.0,
    wrong: float = 0.0,
    missing: float = 0.0,
    seed: int = 0,
    stated: float = 1.0,
) -> Measured:
    """Estimates with correlated noise of a stated covariance, some wrong by metres, some failed."""
    rng = np.random.default_rng(seed)
    estimates, covariances = [], []
    is_wrong, is_missing = rng.random(len(truth)) < wrong, rng.random(len(truth)) < missing
    is_wrong &= ~is_missing
    for k, pose in enumerate(truth):
        if is_missing[k]:
            estimates.append(None)
            covariances.append(None)
            continue
        mix = np.eye(6) + 0.4 * rng.standard_normal((6, 6))
        scale = np.diag([sigma] * 3 + [np.radians(sigma_deg)] * 3) * rng.uniform(0.5, 1.5)
        root = scale @ mix
        covariance = root @ root.T
        error = root @ rng.standard_normal(6)
        if is_wrong[k]:
            error += np.concatenate([rng.normal(0, 3, 3), rng.normal(0, 1, 3)])
        turn = Rotation.from_rotvec(error[3:]).as_matrix()
        estimates.append(Rigid3(pose.rotation @ turn, pose.translation + error[:3]))
        covariances.append(covariance / stated**2)
    return Measured(estimates, covariances, is_wrong, is_missing)


def errors(found: list[Rigid3 | None], truth: list[Rigid3]) -> np.ndarray:
    """[N, 6] position in the world and rotation in the camera's axes, NaN where there is none."""
    rows = []
    for pose, true in zip(found, truth, strict=True):
        if pose is None:
            rows.append(np.full(6, np.nan))
            continue
        turn = Rotation.from_matrix(true.rotation.T @ pose.rotation).as_rotvec()
        rows.append(np.concatenate([pose.translation - true.translation, turn]))
    return np.array(rows)


def of(smoothed: Smoothed) -> list[Rigid3 | None]:
    return [pose.world_from_cam for pose in smoothed.poses]


def rms(rows: np.ndarray) -> tuple[float, float]:
    return (
        float(np.sqrt((rows[:, :3] ** 2).sum(axis=1).mean())),
        float(np.sqrt((rows[:, 3:] ** 2).sum(axis=1).mean())),
    )


def squares(smoothed: Smoothed, truth: list[Rigid3]) -> np.ndarray:
    off = errors(of(smoothed), truth)
    return np.array(
        [e @ np.linalg.solve(p.covariance, e) for e, p in zip(off, smoothed.poses, strict=True)]
    )


def test_smoothed_is_far_better_than_raw_and_says_how_good_it_is() -> None:
    t, truth = walk(300)
    given = measured(truth)
    smoothed = smooth(t, given.estimates, given.covariances)
    raw, now = rms(errors(given.estimates, truth)), rms(errors(of(smoothed), truth))
    assert now[0] < 0.6 * raw[0] and now[1] < 0.6 * raw[1]
    assert all(pose.status == "localized" for pose in smoothed.poses)
    assert 0.5 < squares(smoothed, truth).mean() / 6 < 2.0
    assert 0.6 < smoothed.jitter <= 1.0


def test_wrong_frames_do_not_pull_and_are_named() -> None:
    t, truth = walk(300)
    clean = measured(truth, missing=0.1)
    given = measured(truth, missing=0.1, wrong=0.25)
    smoothed = smooth(t, given.estimates, given.covariances)
    rejected = np.array([pose.status == "rejected" for pose in smoothed.poses])
    bridged = np.array([pose.status == "bridged" for pose in smoothed.poses])
    assert given.wrong.sum() > 40
    assert (rejected & given.wrong).sum() >= 0.97 * given.wrong.sum()
    assert (rejected & ~given.wrong).sum() <= 0.02 * len(truth)
    assert (bridged == given.missing).all()
    without = rms(errors(of(smooth(t, clean.estimates, clean.covariances)), truth))
    now = rms(errors(of(smoothed), truth))
    assert now[0] < 1.5 * without[0] and now[1] < 1.5 * without[1]
    assert 0.5 < squares(smoothed, truth).mean() / 6 < 2.0


@pytest.mark.parametrize("seed", [0, 2])
def test_wrong_frames_that_face_anywhere_do_not_take_right_ones_with_them(seed: int) -> None:
    t, truth = walk(150)
    given = measured(truth, sigma=0.02, wrong=0.1, seed=seed)
    rng = np.random.default_rng(seed + 50)
    for k in np.flatnonzero(given.wrong):
        centre = truth[k].translation + rng.normal(0, 3, 3)
        given.estimates[k] = Rigid3(Rotation.random(rng=rng).as_matrix(), centre)
    smoothed = smooth(t, given.estimates, given.covariances)
    rejected = np.array([pose.status == "rejected" for pose in smoothed.poses])
    assert (rejected == given.wrong).all()


def test_a_run_of_wrong_frames_in_one_place_is_rejected() -> None:
    t, truth = walk(240)
    given = measured(truth)
    elsewhere = Rigid3(
        Rotation.from_euler("z", 90, degrees=True).as_matrix(), np.array([9.0, 4, 1])
    )
    for k in range(100, 112):  # a look-alike, answered alike twelve times
        given.estimates[k] = elsewhere
    smoothed = smooth(t, given.estimates, given.covariances)
    statuses = [pose.status for pose in smoothed.poses]
    assert statuses[100:112] == ["rejected"] * 12
    assert statuses.count("rejected") <= 14
    off = np.linalg.norm(errors(of(smoothed), truth)[100:112, :3], axis=1)
    assert off.max() < 0.15


def test_over_a_gap_the_uncertainty_grows_and_holds_the_truth() -> None:
    t, truth = walk(300)
    given = measured(truth, sigma=0.02)
    for k in range(120, 150):
        given.estimates[k] = given.covariances[k] = None
    smoothed = smooth(t, given.estimates, given.covariances)
    sigmas = np.array([np.sqrt(np.trace(p.covariance[:3, :3])) for p in smoothed.poses])
    assert {pose.status for pose in smoothed.poses[120:150]} == {"bridged"}
    assert sigmas[135] > 3 * sigmas[60]
    assert (np.diff(sigmas[119:134]) > 0).all() and (np.diff(sigmas[137:150]) < 0).all()
    off = np.linalg.norm(errors(of(smoothed), truth)[120:150, :3], axis=1)
    assert (off < 3 * sigmas[120:150]).all()
    ends = smooth(t, [*given.estimates[:200], *[None] * 100], given.covariances)
    last = [np.sqrt(np.trace(p.covariance[:3, :3])) for p in ends.poses[200:]]
    assert (np.diff(last) > 0).all() and last[-1] > 20 * sigmas[60]


def test_the_unit_of_length_changes_nothing() -> None:
    t, truth = walk(150)
    given = measured(truth, wrong=0.1)
    in_metres = smooth(t, given.estimates, given.covariances)
    unit = 40.0
    scale = np.diag([unit] * 3 + [1.0] * 3)
    scaled = [Rigid3(pose.rotation, unit * pose.translation) for pose in given.estimates]
    in_units = smooth(t, scaled, [scale @ one @ scale for one in given.covariances])
    for one, other in zip(in_metres.poses, in_units.poses, strict=True):
        off = one.world_from_cam.translation - other.world_from_cam.translation / unit
        assert np.abs(off).max() < 1e-3 and one.status == other.status


def test_covariances_that_promise_too_much_do_no_harm() -> None:
    t, truth = walk(300, fps=10)
    given = measured(truth, stated=4.0)  # four times as exact as it is
    smoothed = smooth(t, given.estimates, given.covariances)
    rejected = sum(pose.status == "rejected" for pose in smoothed.poses)
    assert rejected < 0.05 * len(truth)
    now, raw = rms(errors(of(smoothed), truth)), rms(errors(given.estimates, truth))
    assert now[0] < 1.02 * raw[0] and now[1] < 1.02 * raw[1]


def test_errors_that_neighbours_share_stay_in_the_uncertainty() -> None:
    t, truth = walk(300)
    given = measured(truth, sigma=0.005, sigma_deg=0.1)
    rng = np.random.default_rng(5)
    walkers = np.stack([np.interp(t, t[::30], rng.normal(0, 0.05, 10)) for _ in range(3)], axis=1)
    drifted = [
        Rigid3(pose.rotation, pose.translation + off)
        for pose, off in zip(given.estimates, walkers, strict=True)
    ]
    stated = np.diag([0.05**2] * 3 + [np.radians(0.3) ** 2] * 3)
    smoothed = smooth(t, drifted, [stated] * 300)
    assert smoothed.jitter < 0.2
    assert sum(pose.status != "localized" for pose in smoothed.poses) == 0
    off = errors(of(smoothed), truth)[:, :3]
    said = np.array([np.diag(pose.covariance)[:3] for pose in smoothed.poses])
    assert 0.3 < (off**2 / said).mean() < 2.0


def test_errors_known_to_be_shared_are_not_smoothed_away() -> None:
    """A map that is off by the same everywhere, which nothing in the video shows."""
    t, truth = walk(60)
    of_map = np.diag([0.03**2] * 3 + [np.radians(0.5) ** 2] * 3)
    told, untold = [], []
    for seed in range(8):
        given = measured(truth, sigma=0.01, sigma_deg=0.2, seed=seed)
        off = np.linalg.cholesky(of_map) @ np.random.default_rng(100 + seed).standard_normal(6)
        turn = Rotation.from_rotvec(off[3:]).as_matrix()
        moved = [Rigid3(p.rotation @ turn, p.translation + off[:3]) for p in given.estimates]
        whole = [own + of_map for own in given.covariances]
        told.append(squares(smooth(t, moved, whole, [of_map] * len(t)), truth).mean() / 6)
        untold.append(squares(smooth(t, moved, given.covariances), truth).mean() / 6)
    assert 0.5 < np.mean(told) < 1.5
    assert np.mean(untold) > 5  # what the same estimates say where nobody tells


def test_a_gap_has_the_shared_errors_of_its_neighbours() -> None:
    t, truth = walk(90)
    given = measured(truth, sigma=0.01, sigma_deg=0.2)
    of_map = np.diag([0.5**2] * 3 + [0.1**2] * 3)
    gap = range(40, 45)
    estimates = [None if k in gap else one for k, one in enumerate(given.estimates)]
    whole = [None if k in gap else one + of_map for k, one in enumerate(given.covariances)]
    shared = [None if k in gap else of_map for k in range(len(t))]
    smoothed = smooth(t, estimates, whole, shared)
    assert all(np.linalg.eigvalsh(p.covariance - of_map)[0] > -1e-9 for p in smoothed.poses)
    with pytest.raises(GeometryError, match="not positive definite"):
        smooth(t, estimates, whole, [None if one is None else 2 * one for one in whole])
    with pytest.raises(GeometryError, match="3 shared parts"):
        smooth(t, estimates, whole, shared[:3])


def test_what_trembles_in_the_hand_is_not_smoothed_away() -> None:
    t, truth = walk(240)
    rng = np.random.default_rng(7)
    trembling = [
        Rigid3(
            pose.rotation @ Rotation.from_rotvec(rng.normal(0, 0.003, 3)).as_matrix(),
            pose.translation + rng.normal(0, 0.002, 3),
        )
        for pose in truth
    ]
    given = measured(trembling, sigma=0.001, sigma_deg=0.04)
    smoothed = smooth(t, given.estimates, given.covariances)
    raw, now = rms(errors(given.estimates, trembling)), rms(errors(of(smoothed), trembling))
    assert now[0] < 1.02 * raw[0] and now[1] < 1.02 * raw[1]
    assert sum(pose.status == "rejected" for pose in smoothed.poses) <= 5


def test_a_jerk_of_the_hand_is_followed_and_not_rejected() -> None:
    t, truth = walk(240)
    jerked = [
        Rigid3(
            pose.rotation
            @ Rotation.from_rotvec([0, 0.2 * np.exp(-(((s - 4) / 0.15) ** 2)), 0]).as_matrix(),
            pose.translation + np.array([0.0, 0.0, 0.06 * np.exp(-(((s - 4) / 0.15) ** 2))]),
        )
        for s, pose in zip(t, truth, strict=True)
    ]
    given = measured(jerked, sigma=0.01, sigma_deg=0.3)
    smoothed = smooth(t, given.estimates, given.covariances)
    assert sum(pose.status == "rejected" for pose in smoothed.poses) <= 2
    raw, now = rms(errors(given.estimates, jerked)), rms(errors(of(smoothed), jerked))
    assert now[0] < raw[0] and now[1] < raw[1]


def test_few_frames_or_bad_numbers_are_one_line() -> None:
    t, truth = walk(6)
    given = measured(truth)
    with pytest.raises(GeometryError, match="3 of 6 frames are localized"):
        smooth(t, [*given.estimates[:3], None, None, None], given.covariances)
    with pytest.raises(GeometryError, match="ascend"):
        smooth(t[::-1], given.estimates, given.covariances)
    with pytest.raises(GeometryError, match="frame 2 has no covariance"):
        smooth(t, given.estimates, [c if k != 2 else None for k, c in enumerate(given.covariances)])
    with pytest.raises(GeometryError, match="not positive definite"):
        smooth(t, given.estimates, [-c for c in given.covariances])
    with pytest.raises(GeometryError, match="6 x 6"):
        smooth(t, given.estimates, [c * np.nan for c in given.covariances])
    smoothed = smooth(t, given.estimates, given.covariances)
    assert len(smoothed.poses) == 6


def test_a_camera_that_stands_still_stays_where_it_is() -> None:
    t = np.arange(60) / 30
    pose = Rigid3(np.eye(3), np.array([1.0, 2.0, 3.0]))
    exact = [np.diag([1e-6] * 6)] * 60
    for smoothed in (
        smooth(t, [pose] * 60, exact),
        smooth(t, [pose] * 60, [np.zeros((6, 6))] * 60),
    ):
        assert (
            np.abs(
                np.array([p.world_from_cam.translation for p in smoothed.poses]) - [1, 2, 3]
            ).max()
            < 1e-6
        )
        assert all(np.isfinite(p.covariance).all() for p in smoothed.poses)


def test_a_chain_is_solved_as_the_whole_matrix() -> None:
    rng = np.random.default_rng(2)
    count, size = 7, 4
    root = np.zeros((count * size, count * size))
    for k in range(count):
        for j in (k, k - 1):
            if j >= 0:
                block = rng.standard_normal((size, size)) + 3 * (j == k) * np.eye(size)
                root[k * size : (k + 1) * size, j * size : (j + 1) * size] = block
    whole = root @ root.T
    cut = whole.reshape(count, size, count, size).transpose(0, 2, 1, 3)
    chain = BlockChain(
        np.stack([cut[k, k] for k in range(count)]),
        np.stack([cut[k + 1, k] for k in range(count - 1)]),
    )
    right = rng.standard_normal((count, size))
    solution, log_determinant = chain.solve(right)
    assert np.allclose(solution.ravel(), np.linalg.solve(whole, right.ravel()))
    assert log_determinant == pytest.approx(np.linalg.slogdet(whole)[1])
    inverse = np.linalg.inv(whole).reshape(count, size, count, size)
    for k, block in enumerate(chain.inverse_diagonal()):
        assert np.allclose(block, inverse[k, :, k])


def test_the_jacobian_of_a_rotation_vector_is_its_derivative() -> None:
    vector = np.array([[0.3, -0.2, 0.4]])
    step = 1e-6
    for axis in range(3):
        small = np.zeros(3)
        small[axis] = step
        after = (Rotation.from_rotvec(vector[0]) * Rotation.from_rotvec(small)).as_rotvec()
        derivative = (after - vector[0]) / step
        assert np.allclose(derivative, right_jacobian_inverse(vector)[0, :, axis], atol=1e-3)


def online(t, given: Measured, device: list[Rigid3] | None = None) -> list:
    smoother = OnlineSmoother()
    return [
        smoother.add(
            float(t[k]),
            given.estimates[k],
            given.covariances[k],
            device_from_cam=None if device is None else device[k],
        )
        for k in range(len(t))
    ]


def test_a_device_that_moves_is_followed_and_its_own_odometry_helps() -> None:
    t, truth = walk(36, fps=5.0)
    given = measured(truth, wrong=0.15, missing=0.15)
    start = Rigid3(Rotation.from_euler("xyz", [0.3, -0.4, 1.0]).as_matrix(), np.array([5.0, 2, 1]))
    device = [start @ pose for pose in truth]
    plain, helped = online(t, given), online(t, given, device)
    settled = slice(16, None)
    right = ~given.wrong & ~given.missing

    def median(found: list[Rigid3 | None], rows: np.ndarray) -> float:
        off = np.linalg.norm(errors(found, truth)[settled, :3], axis=1)
        return float(np.median(off[rows[settled]]))

    raw = median(given.estimates, right)
    follows = [one and one.world_from_cam for one in plain]
    assert median(follows, right) < 0.95 * raw
    assert median([one and one.world_from_cam for one in helped], right) < 0.6 * raw
    # Wrong and missing ones are what the others say.
    assert median([one and one.world_from_cam for one in helped], ~right) < raw
    statuses = np.array([one.status for one in helped])[settled]
    assert (statuses[given.wrong[settled]] == "rejected").mean() > 0.7  # some are wrong by little
    assert (statuses[given.missing[settled]] == "bridged").all()


def test_a_device_that_nothing_is_known_of_for_seconds_is_lost() -> None:
    t, truth = walk(16, fps=5.0)
    smoother = OnlineSmoother()
    covariance = np.diag([1e-4] * 6)
    for k in range(14):
        assert smoother.add(float(t[k]), truth[k], covariance) is not None
    bridged = smoother.add(float(t[14]), None, None)
    assert bridged.status == "bridged"
    assert smoother.add(float(t[13]) + 3.0, None, None) is None
    with pytest.raises(GeometryError, match="times ascend"):
        smoother.add(float(t[3]), truth[3], covariance)
