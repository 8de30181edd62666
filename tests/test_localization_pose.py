"""Pose, lens and covariance from 2D-3D matches with exactly known truth; matching; VLAD."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from localization_place import looking_at
from relocalize.absolute_pose.map_noise import measured_noise
from relocalize.absolute_pose.ransac import ransac_pose, ransac_pose_and_focal
from relocalize.absolute_pose.refinement import (
    Freedom,
    Lens,
    View,
    covariance,
    project,
    refine,
    reprojection_errors,
)
from relocalize.absolute_pose.scene import Scene
from relocalize.absolute_pose.solve import Matches, PoseSettings, solve_pose
from relocalize.errors import MappingError
from relocalize.features.matching import match_nearby, mutual_matches
from relocalize.features.vlad import Vlad, VladSettings
from relocalize.geometry import Camera, position_error, rotation_error_deg

LENS = Lens(520.0, -0.05)


def cloud(rng, count):
    return rng.uniform([2, -2, -1.5], [5, 2, 1.5], (count, 3))


def view_of(rng, lens, *, count=150, noise=0.0, wrong=0.0):
    pose = looking_at(rng.uniform(-0.5, 0.5, 3), (3.5, 0, 0), rng.uniform(-20, 20))
    points = cloud(rng, count)
    pixels, front = project(points, pose, lens)
    assert front.all()
    pixels = pixels + noise * rng.standard_normal(pixels.shape)
    bad = rng.random(count) < wrong
    pixels[bad] = rng.uniform([-320, -240], [320, 240], (int(bad.sum()), 2))
    return View(pixels, points, pose, np.arange(len(pixels)), np.arange(len(pixels)))


def disturbed(rng, view):
    turn = Rotation.from_rotvec(rng.normal(0, 0.01, 3)).as_matrix()
    pose = view.world_from_cam
    moved = type(pose)(pose.rotation @ turn, pose.translation + rng.normal(0, 0.02, 3))
    return replace(view, world_from_cam=moved)


def test_ransac_finds_the_pose_among_sixty_percent_wrong_matches():
    rng = np.random.default_rng(1)
    for _ in range(5):
        view = view_of(rng, Lens(520.0), noise=0.5, wrong=0.6)
        found = ransac_pose(view.pixels, view.points, 520.0, max_error=4.0)
        assert position_error(found.world_from_cam, view.world_from_cam) < 0.02
        assert rotation_error_deg(found.world_from_cam, view.world_from_cam) < 0.4


@pytest.mark.parametrize("focal", [230.0, 520.0, 1300.0])
def test_ransac_and_refinement_find_an_unknown_focal_length(focal):
    rng = np.random.default_rng(2)
    for _ in range(3):
        view = view_of(rng, Lens(focal), noise=0.3, wrong=0.4)
        first = ransac_pose_and_focal(
            view.pixels, view.points, longer_side=640, prior=None, max_error=10.0
        )
        start = replace(view, world_from_cam=first.world_from_cam).only(first.inliers)
        found = refine(
            (start,), Lens(first.focal), loss_scale=2.0, freedom=Freedom.FOCAL_AND_RADIAL
        )
        assert found.lens.focal == pytest.approx(focal, rel=0.01)
        assert position_error(found.views[0].world_from_cam, view.world_from_cam) < 0.05


def test_too_few_matches_give_no_pose():
    none = np.zeros((3, 2)), np.zeros((3, 3))
    assert ransac_pose(*none, 500.0, max_error=4.0) is None
    assert ransac_pose_and_focal(*none, longer_side=640, prior=None, max_error=4.0) is None


def test_exact_matches_give_the_exact_pose_and_lens():
    rng = np.random.default_rng(3)
    views = [view_of(rng, LENS) for _ in range(4)]
    starts = tuple(disturbed(rng, view) for view in views)
    found = refine(
        starts, Lens(540.0), loss_scale=2.0, freedom=Freedom.FOCAL_AND_RADIAL, iterations=60
    )
    # The radial term's prior of 0.15 keeps it from being exact.
    assert found.lens.focal == pytest.approx(LENS.focal, rel=1e-4)
    assert found.lens.radial == pytest.approx(LENS.radial, abs=1e-3)
    for view, true in zip(found.views, views, strict=True):
        assert position_error(view.world_from_cam, true.world_from_cam) < 1e-3
        assert reprojection_errors(view, found.lens).max() < 0.05


@pytest.mark.parametrize("freedom", [Freedom.HELD, Freedom.FOCAL_AND_RADIAL])
@pytest.mark.parametrize("noise", [0.3, 1.5])
def test_the_covariance_is_calibrated_under_pixel_noise(freedom, noise):
    rng = np.random.default_rng(4)
    squares = []
    for _ in range(150):
        view = view_of(rng, LENS, count=60, noise=noise)
        start = (disturbed(rng, view),)
        found = refine(start, LENS, loss_scale=2.0, freedom=freedom)
        refined = found.views[0]
        cov = covariance(refined, found.lens, loss_scale=2.0, freedom=freedom)
        true, estimated = view.world_from_cam, refined.world_from_cam
        error = np.concatenate(
            [
                true.translation - estimated.translation,
                Rotation.from_matrix(estimated.rotation.T @ true.rotation).as_rotvec(),
            ]
        )
        squares.append(error @ np.linalg.solve(cov, error))
    # Chi-square with 6 degrees of freedom: mean 6, 95% below 12.59; 150 trials.
    assert 4.8 < np.mean(squares) < 7.6
    assert np.mean(np.array(squares) < 12.59) > 0.85


def test_a_pose_that_the_matches_leave_open_has_infinite_covariance():
    rng = np.random.default_rng(5)
    view = view_of(rng, LENS, count=3)
    assert np.isinf(np.diag(covariance(view, LENS, loss_scale=2.0, freedom=Freedom.HELD))).all()


def test_the_maps_noise_is_measured_where_there_is_some():
    rng = np.random.default_rng(6)
    true = [looking_at(rng.uniform(-1, 1, 3), (4, 0, 0)) for _ in range(60)]
    own = np.diag([0.01**2] * 3 + [0.001**2] * 3)
    found = []
    for pose in true:
        centre = pose.translation + rng.normal(0, np.hypot(0.01, 0.03), 3)
        turn = Rotation.from_rotvec(rng.normal(0, 0.001, 3)).as_matrix()
        found.append((type(pose)(pose.rotation @ turn, centre), own))
    noise = measured_noise(found, true)
    assert noise.position == pytest.approx(0.03, rel=0.3)
    assert noise.rotation_rad < 0.0006


def test_features_found_again_near_a_pose_are_no_proof_of_it():
    rng = np.random.default_rng(3)
    points = cloud(rng, 60)
    pose = looking_at((0.1, 0.2, 0.0), (3.5, 0, 0), 5.0)
    pixels, _ = project(points, pose, LENS)
    matched = np.arange(16)
    descriptors = rng.integers(0, 256, (60, 128), dtype=np.uint8)
    vlad = Vlad.fit([descriptors], VladSettings(words=8, local_size=8))
    rows, camera = np.arange(60), Camera.from_focal(640, 480)
    scene = Scene(
        positions=points,
        descriptors=descriptors,
        centres=pose.translation[None],
        view_starts=np.array([0, 60]),
        seen_rows=rows,
        vlad=vlad,
        vectors=vlad.describe(descriptors)[None],
    )

    def solved(noise):
        keypoints = pixels + np.array([320.0, 240.0])
        keypoints[matched] += noise * rng.standard_normal((16, 2))
        matches = Matches(camera, keypoints, descriptors, rows, matched, matched)
        return solve_pose(matches, scene, PoseSettings(verified=False))

    assert len(solved(0.5).view.pixels) >= 50  # most of them found again
    assert "matches agree on a pose" in solved(5.0).reason


# -- matching ------------------------------------------------------------------------------


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_matches_are_mutual_and_clear():
    rng = np.random.default_rng(7)
    points = unit(rng.random((300, 128)) - 0.5)
    order = rng.permutation(300)[:100]
    query = unit(points[order] + 0.03 * rng.standard_normal((100, 128)))
    rows, columns = mutual_matches(query, points, 0.8).T
    assert len(rows) == 100
    assert np.array_equal(columns, order[rows])
    # A point that is there twice is no longer clear, nor is one asked for by nobody matched.
    twice = np.concatenate([points, points[order[:50]]])
    rows, _ = mutual_matches(query, twice, 0.8).T
    assert set(rows) == set(range(50, 100))
    assert len(mutual_matches(query, points[:0], 0.8)) == 0


def test_nearby_matches_stay_within_the_radius():
    rng = np.random.default_rng(8)
    points = unit(rng.random((50, 128)) - 0.5)
    projected = rng.uniform(0, 600, (50, 2))
    pixels = projected + rng.uniform(-2, 2, (50, 2))
    pixels[:10] += 50
    rows, columns = match_nearby(points, points, pixels, projected, radius=4.0, similarity=0.7)
    assert np.array_equal(rows, np.arange(10, 50))
    assert np.array_equal(columns, rows)


# -- retrieval -----------------------------------------------------------------------------


def descriptors_of_scenes(rng, scenes=12, images=4, features=300):
    """Images of the same scene share two thirds of their features, up to noise."""
    result = []
    for _ in range(scenes):
        world = rng.integers(0, 120, (features, 128))
        for _ in range(images):
            chosen = rng.permutation(features)[: 2 * features // 3]
            own = rng.integers(0, 120, (features // 3, 128))
            rows = np.concatenate([world[chosen], own]) + rng.integers(-8, 9, (features, 128))
            result.append(np.clip(rows, 0, 255).astype(np.uint8))
    return result


def test_vlad_finds_images_of_the_same_scene_and_is_deterministic():
    images = descriptors_of_scenes(np.random.default_rng(9))
    vlad = Vlad.fit(images, VladSettings(seed=3))
    vectors = np.stack([vlad.describe(rows) for rows in images])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similarity = vectors @ vectors.T - 2 * np.eye(len(images))
    found = similarity.argmax(axis=1) // 4 == np.arange(len(images)) // 4
    assert found.mean() > 0.9
    again = Vlad.fit(images, VladSettings(seed=3))
    loaded = Vlad.from_arrays(again.to_arrays())
    for rows, vector in zip(images, vectors, strict=True):
        assert np.array_equal(loaded.describe(rows), vector)


def test_vlad_of_few_images_and_of_no_features():
    images = descriptors_of_scenes(np.random.default_rng(10), scenes=1, images=2)
    vlad = Vlad.fit(images)
    assert np.isfinite(vlad.describe(images[0])).all()
    assert not vlad.describe(np.zeros((0, 128), np.uint8)).any()
    with pytest.raises(MappingError, match="128 words"):
        Vlad.fit([images[0][:20]])
    arrays = vlad.to_arrays()
    with pytest.raises(MappingError, match="words"):
        Vlad.from_arrays({**arrays, "words": arrays["words"][:, :5]})
    with pytest.raises(MappingError, match="image_mean"):
        Vlad.from_arrays({key: arrays[key] for key in arrays if key != "image_mean"})
