"""Sigmas are calibrated, doubts grow with what tells of errors, other places are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from relocalize.regression.agreement import Agreement
from relocalize.regression.answers import SHOWN
from relocalize.regression.inference import described
from relocalize.regression.novelty import KnownViews
from relocalize.regression.uncertainty import Blend, Calibration, Signs, pose_distances
from relocalize.regression.validation import ConstantBaseline, better_answers
from relocalize.regression.wrong_lens import RATIOS, WrongLens

COVERED = 1.878  # of sigma: where 68.3% of a Gaussian in three dimensions lies within


def made_up(count, seed, *, with_variance=False, informative=True):
    """Signs and errors of ``count`` poses, where the distance to the nearest view tells."""
    rng = np.random.default_rng(seed)
    away = rng.uniform(0.1, 2.0, (count, 2))
    sigma = 0.02 + 0.2 * away if informative else np.full((count, 2), 0.2)
    errors = np.linalg.norm(rng.standard_normal((count, 2, 3)), axis=2) * sigma
    variance = None
    if with_variance:
        variance = np.repeat(sigma**2, 3, axis=1) * 9  # three times too unsure
    return Signs(rng.uniform(0, 0.4, count), away, variance), errors


def sigmas(calibration, signs):
    covariances = calibration.covariances(signs)
    return np.sqrt(covariances[:, [0, 3], [0, 3]])


def upside_down(signs):
    """Of images that look like no train image, and are answered no better than by chance."""
    variance = None if signs.variance is None else 100 * signs.variance
    return Signs(np.full(len(signs.novelty), 0.9), np.full_like(signs.away, 4.0), variance)


@pytest.mark.parametrize("with_variance", [False, True])
@pytest.mark.parametrize("informative", [False, True])
def test_as_many_errors_lie_within_sigma_as_should_on_other_photos(with_variance, informative):
    signs, errors = made_up(80, 0, with_variance=with_variance, informative=informative)
    calibration = Calibration.learn(signs, signs, errors, upside_down(signs))
    others, their_errors = made_up(2000, 1, with_variance=with_variance, informative=informative)
    inside = their_errors < COVERED * sigmas(calibration, others)
    assert np.all(np.abs(inside.mean(axis=0) - 0.683) < 0.12)


def test_what_tells_of_errors_makes_sigmas_differ_and_what_does_not_does_not():
    for informative, least, most in ((True, 3.0, 30.0), (False, 1.0, 1.6)):
        signs, errors = made_up(300, 0, informative=informative)
        calibration = Calibration.learn(signs, signs, errors, upside_down(signs))
        found = sigmas(calibration, Signs(np.zeros(2), np.array([[0.1, 0.1], [2.0, 2.0]])))
        assert least < found[1, 0] / found[0, 0] < most


def test_sigmas_are_learnt_on_copies_and_limits_on_images_as_they_are():
    copies, errors = made_up(100, 0)
    near = Signs(np.linspace(0, 0.2, 20), np.full((20, 2), 0.1))
    calibration = Calibration.learn(near, copies, errors, upside_down(copies))
    of_copies = Calibration.learn(copies, copies, errors, upside_down(copies))
    assert calibration.position == of_copies.position
    assert calibration.rotation == of_copies.rotation
    assert calibration.largest_novelty == pytest.approx((0.2 + 0.9) / 2)
    assert calibration.largest_position < of_copies.largest_position
    far, their_errors = made_up(2000, 1)
    inside = their_errors < COVERED * sigmas(calibration, far)
    assert np.all(np.abs(inside.mean(axis=0) - 0.683) < 0.12)


def test_predicted_variances_keep_their_shape():
    signs, errors = made_up(60, 0, with_variance=True)
    signs.variance[:, 0] *= 4
    calibration = Calibration.learn(signs, signs, errors, upside_down(signs))
    covariances = calibration.covariances(signs)
    np.testing.assert_allclose(covariances[:, 0, 0] / covariances[:, 1, 1], 4)
    assert np.linalg.eigvalsh(covariances).min() > 0


def test_a_handful_of_validation_images_gives_one_number():
    signs, errors = made_up(4, 0)
    calibration = Calibration.learn(signs, signs, errors, upside_down(signs))
    assert calibration.position[1:] == (0.0,)
    assert (errors[:, 0] <= COVERED * sigmas(calibration, signs)[:, 0] + 1e-9).mean() >= 0.68


def test_errors_of_zero_are_no_division_by_zero():
    signs, errors = made_up(20, 0)
    calibration = Calibration.learn(signs, signs, 0 * errors, upside_down(signs))
    assert np.isfinite(calibration.covariances(signs)).all()


def test_the_novel_and_the_unsure_are_refused_with_a_reason():
    signs, errors = made_up(60, 0)
    calibration = Calibration.learn(signs, signs, errors, upside_down(signs))
    usual = signs.novelty.max()
    assert usual < calibration.largest_novelty < 0.9
    assert all(calibration.doubt(signs, row, "metre") is None for row in range(60))
    foreign = Signs(np.array([0.95]), np.array([[0.1, 0.1]]))
    assert "looks like no train image (novelty 0.95" in calibration.doubt(foreign, 0, "metre")
    between = (calibration.largest_novelty + calibration.sure_novelty) / 2
    for away, answered in (0.0, True), (4.5, False):
        # Where sigma tells upright from upside down, a sure answer counts for more.
        unlike = Signs(np.array([between]), np.array([[away, away]]))
        assert (calibration.doubt(unlike, 0, "metre") is None) == answered
    lost = Signs(np.array([0.1]), np.array([[50.0, 0.1]]))
    assert "too unsure" in calibration.doubt(lost, 0, "metre")
    assert "metre" in calibration.doubt(lost, 0, "metre")


def test_cells_that_agree_outweigh_novelty_and_sigma_but_not_all_novelty():
    signs, errors = made_up(60, 0)
    upright = replace(signs, support=np.full(60, 0.25))
    turned = upside_down(signs)
    turned = replace(turned, support=np.linspace(0, 0.01, len(turned.novelty)))
    calibration = Calibration.learn(upright, signs, errors, turned, agreement=Agreement(0.02, 0.05))
    assert calibration.agreement == Agreement(0.02, 0.05, pytest.approx(0.05))
    between = (calibration.largest_novelty + calibration.sure_novelty) / 2
    hidden = Signs(np.array([between]), np.array([[50.0, 0.1]]), support=np.array([0.06]))
    assert calibration.doubt(hidden, 0, "metre") is None
    assert calibration.is_sure(hidden, 0)
    too_few = replace(hidden, support=np.array([0.04]))
    assert "looks like no train image" in calibration.doubt(too_few, 0, "metre")
    foreign = replace(hidden, novelty=np.array([0.95]))
    assert "looks like no train image" in calibration.doubt(foreign, 0, "metre")
    assert Calibration.from_json(calibration.to_json()) == calibration


def test_a_calibration_comes_back_from_json_and_others_are_refused():
    signs, errors = made_up(30, 0)
    calibration = Calibration.learn(signs, signs, errors, upside_down(signs))
    values = calibration.to_json()
    assert Calibration.from_json(values) == calibration
    former = {name: value for name, value in values.items() if name != "wrong_lens"}
    assert Calibration.from_json(former).wrong_lens == WrongLens()
    damages = ({"position": [1.0]}, {"rotation": ["x", 1]}, {"largest_novelty": float("nan")})
    for damaged in ({}, *({**values, **damage} for damage in damages)):
        with pytest.raises(ValueError):
            Calibration.from_json(damaged)


def test_a_focal_length_is_found_by_how_far_away_things_look():
    rng = np.random.default_rng(0)

    def looks(ratios):  # biased, and flatter through short lenses
        return -0.03 + 0.2 * (1 - np.exp(1.5 * ratios)) + 0.02 * rng.normal(size=ratios.shape)

    wrong_lens = WrongLens.learn(looks(np.tile(RATIOS, (40, 1))))
    assumed, focals = np.linspace(400.0, 900.0, 10), np.geomspace(400.0, 900.0, 82)
    off = []
    for true in (520.0, 600.0, 750.0):
        shown = (looks(np.log(assumed / true)) for _ in range(9))
        photos = [wrong_lens.unlikely(one, assumed, focals) for one in shown]
        alone = [focals[one.argmin()] for one in photos]
        off += [abs(np.log(one / true)) for one in alone]
        together = focals[np.median(photos, axis=0).argmin()]
        assert abs(np.log(together / true)) < 0.03
    assert np.median(off) < 0.04
    assert 0.04 < wrong_lens.focal_sigma < 0.1  # 0.02 of depth by a slope of 0.3
    assert np.isfinite(WrongLens().unlikely(looks(RATIOS), assumed[:9], focals)).all()


def test_distances_of_poses_are_in_units_and_radians():
    a, b = np.tile(np.eye(4), (1, 1, 1)), np.tile(np.eye(4), (1, 1, 1))
    b[0, :3, 3] = [3, 4, 0]
    b[0, :2, :2] = [[0, -1], [1, 0]]
    np.testing.assert_allclose(pose_distances(a, b), [[5, np.pi / 2]])


def walked():
    """Feature maps [60, 8, 6, 8] along a walk, and poses."""
    torch.manual_seed(0)
    walk = torch.randn(1, 8, 6, 8) + torch.cumsum(torch.randn(60, 8, 6, 8) * 0.1, 0)
    poses = np.tile(np.eye(4), (60, 1, 1))
    poses[:, 0, 3] = np.arange(60)
    return walk, poses


def seen_in(maps):
    """Descriptions of images that fill their input."""
    return described({"deep": maps, SHOWN: torch.ones(len(maps), 1, 6, 8)})[0].numpy()


def test_a_view_of_which_only_a_part_is_shown_is_as_little_novel():
    walk, poses = walked()
    views = KnownViews.learn(seen_in(walk[::2]), poses[::2])
    whole = torch.ones(30, 1, 6, 8)
    upright = whole.clone()
    upright[..., :2] = upright[..., 6:] = 0  # the middle of each image
    beyond = walk[::2] * upright + 5.0 * (1 - upright)  # what is beyond says nothing
    cut, share = (one.numpy() for one in described({"deep": beyond, SHOWN: upright}))
    known = views.compare(cut, share)
    assert known.novelty.max() < 0.05
    np.testing.assert_allclose(known.nearest[:, 0, 3], np.arange(0, 60, 2))
    others = described({"deep": torch.randn(30, 8, 6, 8), SHOWN: upright})[0].numpy()
    assert views.compare(others, share).novelty.min() > 0.3
    assert views.compare(cut).novelty.min() > 3 * known.novelty.max()  # taken for the whole image


def test_train_views_are_not_novel_others_are_and_files_give_the_same_back():
    walk, poses = walked()
    seen = seen_in(walk)
    views = KnownViews.learn(seen[::2], poses[::2])
    known = views.compare(seen[::2])
    assert known.novelty.max() < 0.01
    np.testing.assert_allclose(known.nearest[:, 0, 3], np.arange(0, 60, 2))
    between = views.compare(seen[1::2])
    others = views.compare(seen_in(torch.randn(30, 8, 6, 8)))
    turned = views.compare(seen_in(walk[:30].flip(2, 3)))
    assert between.novelty.max() < 0.5 * others.novelty.min()
    assert between.novelty.max() < 0.5 * np.median(turned.novelty)
    again = KnownViews.from_arrays(views.to_arrays())
    np.testing.assert_array_equal(again.compare(seen).novelty, views.compare(seen).novelty)
    damaged = views.to_arrays()
    damaged["familiar.basis"] = damaged["familiar.basis"][:3]
    with pytest.raises(ValueError, match="do not fit"):
        KnownViews.from_arrays(damaged)


def test_a_blend_follows_the_better_answer_and_beats_both_where_they_are_alike():
    rng = np.random.default_rng(0)
    count = 200
    true = np.tile(np.eye(4), (count, 1, 1))
    true[:, :3, :3] = Rotation.random(count, random_state=0).as_matrix()
    true[:, :3, 3] = rng.normal(size=(count, 3)) * 5

    def off_by(metres, radians):
        found = true.copy()
        found[:, :3, 3] += rng.normal(size=(count, 3)) * metres
        turns = Rotation.from_rotvec(rng.normal(size=(count, 3)) * radians)
        found[:, :3, :3] = found[:, :3, :3] @ turns.as_matrix()
        return found

    def medians(pose, view):
        signs = Signs(rng.uniform(0.2, 0.3, count), pose_distances(pose, view))
        blend = Blend.learn(signs, pose_distances(pose, true), pose_distances(view, true))
        answers = (pose, view, blend(pose, view, signs))
        return np.array([np.median(pose_distances(one, true), axis=0) for one in answers])

    alike = medians(off_by(0.3, 0.05), off_by(0.3, 0.05))
    assert (alike[2] < 0.85 * alike[:2].min(axis=0)).all()
    unlike = medians(off_by(0.02, 0.005), off_by(0.5, 0.1))
    assert (unlike[2] < 1.1 * unlike[0]).all()


@pytest.mark.parametrize(
    ("errors", "chosen"),
    [
        ({"pose": 0.1, "view": 1.0, "blend": 0.098, "retrieval": 1.0}, "pose"),
        ({"pose": 0.1, "view": 0.12, "blend": 0.06, "retrieval": 1.0}, "blend"),
        ({"pose": 0.9, "view": 0.8, "blend": 0.75, "retrieval": 1.0}, "retrieval"),
        ({"pose": 0.9, "view": 0.8, "retrieval": 1.0, "interpolation": 0.6}, "interpolation"),
        ({"pose": 0.9, "view": 1.0, "blend": 0.9}, "view"),
        ({"pose": 0.5, "view": 1.0, "blend": 0.6}, "pose"),
    ],
)
def test_what_is_clearly_better_than_retrieval_is_the_answer(errors, chosen):
    baseline = ConstantBaseline(np.eye(4)[None], 1.0, 1.0)
    spread = np.random.default_rng(0).uniform(0.05, 0.2, (20, 1))
    positions = {name: np.hstack([by * spread, spread]) for name, by in errors.items()}
    usual = "retrieval" if "retrieval" in errors else "view"
    assert better_answers(positions, baseline) == (chosen, usual)
