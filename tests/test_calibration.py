"""Stated uncertainties against errors: what is stated truly is covered as often as expected."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from relocalize.evaluation.answers import Answer
from relocalize.evaluation.calibration import EXPECTED, SigmaError, coverage
from relocalize.evaluation.results import Outcome
from relocalize.evaluation.truth import Truth
from relocalize.geometry import Rigid3, Similarity3, align_camera_poses
from relocalize.localization import PoseEstimate


def drawn(covariance: np.ndarray, count: int, *, seed: int = 1):
    """Estimates whose errors are of that covariance, and their truths."""
    rng = np.random.default_rng(seed)
    for off in rng.multivariate_normal(np.zeros(6), covariance, count):
        true = Rigid3(Rotation.random(rng=rng).as_matrix(), rng.normal(size=3))
        turn = Rotation.from_rotvec(off[3:]).as_matrix()
        yield Rigid3(true.rotation @ turn.T, true.translation - off[:3]), true


@pytest.fixture
def covariance() -> np.ndarray:
    """Correlated and of different size by axis."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6)) * np.array([[0.3, 0.1, 0.02, 0.01, 0.02, 0.003]]).T
    return root @ root.T


def test_a_true_covariance_covers_what_it_should(covariance):
    errors = [SigmaError.of(one, covariance, true) for one, true in drawn(covariance, 4000)]
    found = coverage(errors)
    assert found["n"] == 4000
    np.testing.assert_allclose(found["position"], EXPECTED, atol=0.025)
    np.testing.assert_allclose(found["rotation"], EXPECTED, atol=0.025)


def test_half_the_sigma_covers_too_little_and_twice_too_much(covariance):
    at = EXPECTED.index(0.6827)
    bold = coverage([SigmaError.of(o, covariance / 4, t) for o, t in drawn(covariance, 500)])
    shy = coverage([SigmaError.of(o, covariance * 4, t) for o, t in drawn(covariance, 500)])
    assert bold["position"][at] < 0.35
    assert shy["position"][at] > 0.95


def test_an_error_is_measured_along_its_own_axis():
    stated = np.diag([0.01, 0.04, 0.25, *np.radians([1.0, 2.0, 3.0])]) ** 2
    true = Rigid3(Rotation.from_euler("xyz", [80, -40, 10], degrees=True).as_matrix(), np.ones(3))
    turned = Rigid3(
        true.rotation @ Rotation.from_euler("y", 5, degrees=True).as_matrix(),
        true.translation + np.array([0, 0.1, 0]),
    )
    found = SigmaError.of(turned, stated, true)
    assert found.position == pytest.approx(2.5)
    assert found.rotation == pytest.approx(2.5)


def test_a_sigma_of_zero_is_right_only_where_the_error_is_zero():
    stated = np.diag([0.0, 1, 1, 1, 1, 1])
    here = Rigid3.identity()
    assert SigmaError.of(Rigid3(np.eye(3), np.array([0.1, 0, 0])), stated, here).position == np.inf
    assert SigmaError.of(Rigid3(np.eye(3), np.array([0, 0.1, 0])), stated, here).position < 0.2
    assert coverage([SigmaError(np.inf, 0.0)])["position"] == [0.0] * len(EXPECTED)


def test_nothing_stated_is_no_coverage():
    assert coverage([]) is None


def test_the_noise_of_a_truth_in_another_frame_is_not_held_against_a_localizer():
    rng = np.random.default_rng(3)
    place = [Rigid3(Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)) for _ in range(300)]
    frame = Similarity3(2.0, Rotation.random(rng=rng).as_matrix(), np.array([5.0, 1, 2]))
    noisy = [
        Rigid3(
            true.rotation @ Rotation.from_rotvec(rng.normal(0, np.radians(0.5), 3)).as_matrix(),
            true.translation + rng.normal(0, 0.04, 3),
        )
        for true in map(frame.move_camera, place)
    ]
    alignment = align_camera_poses(place, noisy)
    names = [f"{index}.jpg" for index in range(len(place))]
    truth = Truth(dict(zip(names, noisy, strict=True)), "metre", "a", "b", alignment)

    def in_sigmas(name: str, pose: Rigid3) -> SigmaError:
        exact = PoseEstimate(
            "localized", "metre", 1.0, world_from_cam=pose, covariance=1e-12 * np.eye(6)
        )
        return Outcome.of(Answer.of(exact, 1.0, 1.0), name, truth).in_sigmas

    found = coverage(list(map(in_sigmas, names, place)))
    np.testing.assert_allclose(found["position"], EXPECTED, atol=0.09)
    np.testing.assert_allclose(found["rotation"], EXPECTED, atol=0.09)
