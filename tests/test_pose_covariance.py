"""How exact a map's poses are: what is stated against what noise really does to them."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from numbers_place import make_numbers_place, poses_of_a_walk
from relocalize import progress
from relocalize.absolute_pose.map_noise import MapNoise
from relocalize.evaluation.metrics import PoseErrors
from relocalize.evaluation.truth import truth_of_place
from relocalize.evaluation.truth_sigma import truth_sigma
from relocalize.geometry import Rigid3, align_camera_poses
from relocalize.localization.structure import StructureLocalizer
from relocalize.mapping import pose_covariance
from relocalize.mapping.pose_covariance import pose_covariances
from relocalize.place import MapModel, atomic
from relocalize.place.bundle_adjustment import refine_map

NOISE_PX = 0.4


def noisy_map(place, seed):
    """The place's map as bundle adjustment makes it of noisy keypoints."""
    rng = np.random.default_rng(seed)
    model = place.map.to_colmap()
    for image in model.images.values():
        for point in image.points2D:
            point.xy = point.xy + rng.normal(0, NOISE_PX, 2)
    refine_map(model)
    return MapModel.from_colmap(model)


def test_independent_errors_leave_what_is_stated_over_the_length_of_tracks(tmp_path):
    poses = poses_of_a_walk()
    place = make_numbers_place(tmp_path / "place", poses, points=150)
    shares = []
    for seed in range(4):
        adjusted = noisy_map(place, seed)
        with atomic.new_folder(place.map_dir) as folder:
            adjusted.write(folder)
        covariances = pose_covariances(place)
        assert set(covariances) == set(adjusted.images)
        found = [image.world_from_cam for image in place.map.images.values()]
        back = align_camera_poses(found, poses).b_from_a.inverse()
        for name, pose, true in zip(covariances, found, poses, strict=True):
            here = back.move_camera(true)
            turn = Rotation.from_matrix(here.rotation.T @ pose.rotation).as_rotvec()
            error = np.concatenate([pose.translation - here.translation, turn])
            # All observations of a point count as one.
            variance = covariances[name] / adjusted.to_colmap().compute_mean_track_length()
            shares.append(error @ np.linalg.solve(variance, error) / 6)
    # Squared errors over their variance: 1 on average, 0.89 in the middle (chi-squared of 6).
    assert 0.6 < np.median(shares) < 1.3


def test_images_that_observe_nothing_have_no_covariance(tmp_path):
    place = make_numbers_place(tmp_path / "place", [*poses_of_a_walk(6), Rigid3.identity()])
    found = pose_covariances(place)
    blind = [n for n, i in place.map.images.items() if (i.point_rows >= 0).sum() < 6]
    assert blind
    assert not set(blind) & set(found)


def test_a_map_of_too_many_images_is_left_alone_in_one_line(tmp_path, monkeypatch, capsys):
    place = make_numbers_place(tmp_path / "place", poses_of_a_walk(8), points=200)
    monkeypatch.setattr(pose_covariance, "MOST_IMAGES", 7)
    with progress.shown():
        assert pose_covariances(place) == {}
    assert "8 images" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 2])
def test_a_map_of_next_to_nothing_states_nothing_or_numbers(tmp_path, count):
    place = make_numbers_place(tmp_path / "place", poses_of_a_walk(count), points=20)
    for covariance in pose_covariances(place).values():
        assert covariance.shape == (6, 6)


# -- as the truth's own error ---------------------------------------------------------------


def test_the_truth_of_a_map_from_images_is_as_exact_as_bundle_adjustment_says(tmp_path):
    poses = [*poses_of_a_walk(), Rigid3.identity()]
    place = make_numbers_place(tmp_path / "place", poses, points=150)
    adjusted = noisy_map(place, 0)
    with atomic.new_folder(place.map_dir) as folder:
        adjusted.write(folder)
    covariances = pose_covariances(place)
    names = list(place.map.images)
    sigma = truth_sigma(place, truth_of_place(place), names, {})
    assert sigma.to_json()["n"] == len(covariances)
    for row, name in enumerate(names):
        if name in covariances:
            expected = np.sqrt(np.trace(covariances[name][:3, :3]))
            assert sigma.of_image(row)["position"] == pytest.approx(expected)
        else:
            assert sigma.of_image(row) is None


def test_imported_poses_are_as_exact_as_images_agree_with_them(tmp_path):
    place = make_numbers_place(tmp_path / "place", poses_of_a_walk(6))
    place.record_poses(poses_from="imported: poses.txt (pose list)", frame=place.frame)
    names, truth = list(place.map.images), truth_of_place(place)
    assert truth_sigma(place, truth, names, {}) is None
    structure = object.__new__(StructureLocalizer)
    structure.map_noise = MapNoise(0.002, np.radians(0.1))
    sigma = truth_sigma(place, truth, names, {"structure": structure})
    assert sigma.position == pytest.approx(0.002 * np.sqrt(3))
    assert sigma.rotation_deg == pytest.approx(0.1 * np.sqrt(3))
    errors = PoseErrors(*(np.array([0.001, 0.004, np.inf, 1, 1, 1]),) * 2, *(np.zeros((6, 3)),) * 2)
    assert sigma.shares_of(errors)["position"] == pytest.approx(1 / 6)
