"""Localizers on a rendered room with exactly known truth, from images to poses."""

import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from localization_place import (
    CAMERA,
    SPLIT,
    TEST_POSES,
    TRAIN_POSES,
    VISITOR,
    copy_of_room,
    looking_at,
    render,
)
from relocalize.absolute_pose import PoseSolver
from relocalize.absolute_pose.verification import Verification, usual_of
from relocalize.errors import LocalizerError, PlaceError, QueryError
from relocalize.features.database import open_database
from relocalize.geometry import Camera, Rigid3, position_error, rotation_error_deg
from relocalize.localization import LOCALIZERS, fitted
from relocalize.localization.prior import PosePrior
from relocalize.localization.query import Query
from relocalize.localization.registry import TRAINED
from relocalize.localization.retrieval import interpolated, measured_sigmas, signs_of
from relocalize.localization.saving import ARRAYS, DESCRIPTION
from relocalize.localization.structure import StructureLocalizer
from relocalize.mapping.points import seen_by
from relocalize.place import MapModel, Place
from relocalize.regression.time_blocks import time_blocks

JSON_KEYS = [
    *("image", "localizer", "status", "reason", "world_from_cam", "position", "quat_wxyz"),
    *("position_sigma", "rotation_sigma_deg", "covariance", "unit", "inliers", "captures"),
    *("camera", "milliseconds"),
]


@pytest.fixture(scope="module")
def place(made_once, tmp_path_factory):
    return copy_of_room(made_once, tmp_path_factory.mktemp("room"))


@pytest.fixture(scope="module")
def structure(place):
    return fitted(place, "structure", place.split(SPLIT))


@pytest.fixture(scope="module")
def images():
    return {name: render(pose) for name, pose in TEST_POSES.items()}


@pytest.fixture
def copied(place, tmp_path):
    return Place.open(shutil.copytree(place.root, tmp_path / "copy"))


def same(a, b):
    return (
        a.status == b.status
        and np.allclose(a.world_from_cam.matrix, b.world_from_cam.matrix, rtol=0, atol=1e-14)
        and np.array_equal(a.covariance, b.covariance)
        and (a.inliers, a.camera, a.unit) == (b.inliers, b.camera, b.unit)
    )


# -- poses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEST_POSES)
def test_a_photo_of_a_known_camera_is_localized_to_a_centimetre(structure, images, name):
    found = structure.localize(images[name], CAMERA)
    assert found.status == "localized"
    assert found.reason is None
    assert found.unit == "metre"
    assert found.inliers > 100
    # The walls are 4 to 6 m away.
    assert position_error(found.world_from_cam, TEST_POSES[name]) < 0.012
    assert rotation_error_deg(found.world_from_cam, TEST_POSES[name]) < 0.12


@pytest.mark.parametrize("name", TEST_POSES)
def test_the_focal_length_of_an_unknown_camera_is_recovered(structure, images, name):
    found = structure.localize(images[name])
    assert found.status == "localized"
    assert found.camera.focal_px == pytest.approx(CAMERA.focal_px, rel=0.01)
    assert position_error(found.world_from_cam, TEST_POSES[name]) < 0.03
    assert rotation_error_deg(found.world_from_cam, TEST_POSES[name]) < 0.15


def test_a_wrong_exif_focal_length_is_only_where_the_estimation_starts(structure, images):
    name = next(iter(TEST_POSES))
    prior = Camera.from_focal(CAMERA.width, CAMERA.height, 1.08 * CAMERA.focal_px)
    found = structure.localize(images[name], prior)
    assert found.camera.focal_px == pytest.approx(CAMERA.focal_px, rel=0.01)
    assert position_error(found.world_from_cam, TEST_POSES[name]) < 0.03


def test_photos_of_one_camera_calibrate_it_together(structure):
    photos = [render(pose, VISITOR) for pose in TEST_POSES.values()]
    camera = structure.calibrate(photos).camera
    assert camera.focal_px == pytest.approx(VISITOR.focal_px, rel=0.005)
    assert camera.params[3] == pytest.approx(VISITOR.params[3], abs=0.01)
    for found, true in zip(structure.localize_many(photos), TEST_POSES.values(), strict=True):
        assert found.camera == camera
        assert position_error(found.world_from_cam, true) < 0.025
        assert rotation_error_deg(found.world_from_cam, true) < 0.15


def test_a_zoomed_photo_among_others_of_its_size_gets_its_own_camera(structure):
    zoomed = Camera("SIMPLE_RADIAL", 560, 420, (650.0, 280.0, 210.0, 0.0))
    poses = [*TEST_POSES.values(), TEST_POSES["test-01.png"]]
    photos = [render(pose, VISITOR) for pose in poses[:-1]] + [render(poses[-1], zoomed)]
    *others, found = structure.localize_many(photos)
    assert found.camera.focal_px == pytest.approx(650.0, rel=0.02)
    assert position_error(found.world_from_cam, poses[-1]) < 0.08
    assert {other.camera for other in others} == {others[0].camera}
    assert others[0].camera.focal_px == pytest.approx(VISITOR.focal_px, rel=0.005)


def test_a_grossly_wrong_exif_focal_length_does_not_lose_the_photo(structure, images):
    prior = Camera.from_focal(CAMERA.width, CAMERA.height, 2.2 * CAMERA.focal_px)
    found = structure.localize(images["test-00.png"], prior)
    assert found.camera.focal_px == pytest.approx(CAMERA.focal_px, rel=0.02)
    assert position_error(found.world_from_cam, TEST_POSES["test-00.png"]) < 0.05


def test_two_photos_are_too_few_to_share_a_calibration(structure):
    poses = list(TEST_POSES.values())[:2]
    photos = [render(pose, VISITOR) for pose in poses]
    assert structure.calibrate(photos) is None
    first, second = structure.localize_many(photos)
    assert first.camera != second.camera


def test_errors_are_of_the_size_that_the_covariance_says(structure, images):
    squares = []
    for name, image in images.items():
        found = structure.localize(image, CAMERA)
        error = found.world_from_cam.translation - TEST_POSES[name].translation
        squares.append(error @ np.linalg.solve(found.covariance[:3, :3], error))
    # Chi-square with 3 degrees of freedom; 4 photos that share the map's own errors.
    assert 0.2 < np.mean(squares) < 15


def test_retrieval_states_what_other_images_are_off_and_not_neighbouring_frames():
    """A walk of 2 cm a frame, described by where it is; 25 frames and 5 beside them unseen."""
    count, step = 600, 0.02
    rng = np.random.default_rng(0)
    places = np.cumsum(np.full(count, step))
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = places
    waves, phases = rng.normal(0, 1.5, 64), rng.uniform(0, 2 * np.pi, 64)
    vectors = np.cos(places[:, None] * waves + phases).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"walk/frame-{index:06d}.png" for index in range(count)]
    block = (np.arange(count) // 25) % 4 == 2
    gap = np.convolve(block, np.ones(11), "same") > 0
    train, test = np.flatnonzero(~gap), np.flatnonzero(block)
    others, held = (train[rows] for rows in time_blocks([names[row] for row in train], 0.25))
    sigmas = measured_sigmas(vectors[held] @ vectors[others].T, poses[held], poses[others])
    similarity = vectors[test] @ vectors[train].T
    off = np.abs(places[test] - places[train][similarity.argmax(axis=1)])
    stated = signs_of(similarity.max(axis=1)) @ sigmas[0]
    # Of a train image, the most similar one is a step away; of these, 6 to 18 steps.
    assert np.median(stated) > 3 * step
    within = np.mean(off / stated < 1.8779)  # the ellipsoid of 68%
    assert 0.5 < within < 0.95
    # What is less like its answer is off by more, and is said to be.
    assert stated[off > 0.3].mean() > 1.3 * stated[off < 0.2].mean()
    near = train[np.argsort(-similarity, axis=1)[:, :8]]
    pairs = zip(test, near, strict=True)
    between = [interpolated(vectors[row], vectors[rows], poses[rows])[0, 3] for row, rows in pairs]
    assert np.median(np.abs(between - places[test])) < 0.5 * np.median(off)


def test_the_maps_noise_is_what_images_meet_that_are_not_in_it(place):
    """Poses that are off by a centimetre in a way that the points made with them share."""
    model = place.map
    rng = np.random.default_rng(0)
    moved = {}
    for name, image in model.images.items():
        pose = image.world_from_cam
        shifted = Rigid3(pose.rotation, pose.translation + rng.normal(0, 0.01, 3))
        moved[name] = replace(image, cam_from_world=shifted.inverse())
    train = list(place.split(SPLIT).train)
    noisy = seen_by(MapModel(moved, model.points), train)
    with open_database(place) as database:
        known = PoseSolver.learn(noisy, database)
        held, others = train[::3], [name for name in train if name not in train[::3]]
        asked = known.with_held_out(noisy, database, held=held, others=others)
    # An image that is localized by points which it helped to make finds part of its own error.
    assert asked.noise.position > 1.05 * known.noise.position
    assert 0.005 < asked.noise.position < 0.03
    assert asked.scene is known.scene


# -- refusals ------------------------------------------------------------------------------


def _noise(sigma):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((360, 480, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigma) * 2 * sigma
    return np.clip(128 + 60 * noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((360, 480, 3), np.uint8), "hardly any features"),
        (np.full((360, 480, 3), 200, np.uint8), "hardly any features"),
        (np.zeros((1, 1, 3), np.uint8), "hardly any features"),
        (_noise(1.5), "match"),
        (_noise(4.0), "match"),
        (render(TEST_POSES["test-00.png"], room=1), "match"),
        (cv2.GaussianBlur(render(TEST_POSES["test-00.png"]), (0, 0), 25), "blurred"),
    ],
    ids=["black", "white", "one pixel", "fine noise", "coarse noise", "other place", "blurred"],
)
@pytest.mark.parametrize("known", [True, False])
def test_what_cannot_be_localized_fails_with_a_reason(structure, image, reason, known):
    camera = CAMERA.resized(image.shape[1], image.shape[0]) if known else None
    found = structure.localize(image, camera)
    assert found.status == "failed"
    assert reason in found.reason
    assert found.world_from_cam is None
    assert found.covariance is None


# Where the floor is the same as well, the pose is answered: a bound that refuses it refuses every
# fifth true photo that was taken from a new side.
LOOK_ALIKES = {"one wall": (0, 1, 1), "the other wall": (1, 0, 1)}


@pytest.mark.parametrize("rooms", LOOK_ALIKES.values(), ids=LOOK_ALIKES)
@pytest.mark.parametrize("known", [True, False])
def test_a_look_alike_is_refused_by_what_stands_around_it(structure, rooms, known):
    # Another place with something of this one in it: its matches alone agree on a pose.
    for pose in (TEST_POSES["test-00.png"], TEST_POSES["test-03.png"]):
        image = render(pose, room=rooms)
        found = structure.localize(image, CAMERA if known else None)
        assert found.status == "failed"
        assert "look-alike" in found.reason
        assert found.inliers > 30


def test_other_exposure_and_something_in_the_way_are_no_look_alikes(structure, images):
    for name, image in images.items():
        dark = (255 * (image / 255.0) ** 1.6).astype(np.uint8)
        blurred = cv2.GaussianBlur(image, (0, 0), 1.2)
        covered = image.copy()
        covered[:, 60:160] = _noise(1.5)[:, 60:160]
        for changed in (dark, blurred, covered):
            found = structure.localize(changed, CAMERA)
            assert found.status == "localized", found.reason
            assert position_error(found.world_from_cam, TEST_POSES[name]) < 0.03


def test_the_bound_on_look_alikes_is_the_maps_own(place, structure, tmp_path):
    structure.save(tmp_path)
    loaded = StructureLocalizer.load(tmp_path)
    usual = structure.solver.settings.pose.usual
    assert loaded.solver.settings.pose.usual == usual
    assert 0.15 < usual.max_missing <= 0.5
    assert usual.elsewhere == 1, "every view shows the whole room: without it there is no map left"


def test_what_is_in_the_way_is_no_look_alike_in_a_map_that_has_none():
    own = [Verification(missing, 0.0, 0.05) for missing in (0.1, 0.12, 0.15)]
    covered = Verification(missing=0.4, unlike=0.4, astray=0.06)
    assert covered.lookalike(usual_of(own, wrong=0, asked=60)) is None
    assert "40%" in (covered.lookalike(usual_of(own, wrong=40, asked=60)) or "")
    assert "40%" in (covered.lookalike(usual_of(own, wrong=0, asked=0)) or "")
    # Nothing looks alike there, and much as elsewhere: no map is so sure of itself.
    worse = Verification(missing=0.9, unlike=0.9, astray=0.4)
    assert worse.lookalike(usual_of(own, wrong=0, asked=60)) is not None
    plain = Verification(missing=0.13, unlike=0.0, astray=0.2)
    assert plain.lookalike(usual_of(own, wrong=60, asked=60)) is None


def test_a_prior_tells_which_of_two_equal_rooms_it_is(structure, images):
    name, apart = "test-00.png", np.array([60.0, 0.0, 0.0])
    scene, alone = structure.solver.scene, structure.localize(images[name], CAMERA)
    twice = replace(
        scene,
        positions=np.concatenate([scene.positions, scene.positions + apart]),
        descriptors=np.tile(scene.descriptors, (2, 1)),
        centres=np.concatenate([scene.centres, scene.centres + apart]),
        view_starts=np.append(scene.view_starts, scene.view_starts[1:] + len(scene.seen_rows)),
        seen_rows=np.append(scene.seen_rows, scene.seen_rows + len(scene.positions)),
        vectors=np.tile(scene.vectors, (2, 1)),
        seen_in={capture: np.tile(seen, 2) for capture, seen in scene.seen_in.items()},
    )
    rooms = StructureLocalizer(replace(structure.solver, scene=twice), "metre")
    assert rooms.localize(images[name], CAMERA).status == "failed"
    for shift in (0 * apart, apart):
        expected = alone.world_from_cam.shifted(shift)
        thought = Rigid3(np.eye(3), expected.translation + np.array([0.7, -0.5, 0.3]))
        found = rooms.localize(images[name], CAMERA, PosePrior(thought, np.eye(3)))
        assert position_error(found.world_from_cam, expected) < 0.003
    away = PosePrior(Rigid3(np.eye(3), 10 * apart), np.eye(3))
    (found,) = rooms.localize_many([Query.of(images[name], CAMERA, away)])
    assert "no image of the map shows what is seen from about the prior" in found.reason


def test_a_pose_that_contradicts_the_prior_is_not_answered(place, structure, images):
    name = "test-00.png"
    alone, true = structure.localize(images[name], CAMERA), TEST_POSES[name]
    covariance = np.diag([0.01**2] * 3 + [np.radians(1.0) ** 2] * 3)
    right = PosePrior(true, covariance + alone.covariance)
    found = structure.localize(images[name], CAMERA, right)
    assert position_error(found.world_from_cam, alone.world_from_cam) < 0.003  # not drawn to it
    turned = looking_at(true.translation, [-3.0, 0.0, 0.0])
    for wrong, said in ((true.shifted(np.array([0.3, 0, 0])), "0.29"), (turned, "deg")):
        refused = structure.localize(images[name], CAMERA, PosePrior(wrong, covariance))
        assert (refused.status, refused.world_from_cam) == ("failed", None)
        assert "contradicts the prior" in refused.reason
        assert said in refused.reason
    # So says any localizer, as far as it is sure of itself: metres, here.
    constant, wrong = fitted(place, "constant"), true.shifted(np.array([30.0, 0, 0]))
    assert constant.localize(images[name], CAMERA, right).status == "localized"
    assert constant.localize(images[name], CAMERA, PosePrior(wrong, covariance)).reason
    # Where nothing is known of the rotation it does not count.
    anywhere = PosePrior(turned, covariance[:3, :3])
    assert structure.localize(images[name], CAMERA, anywhere).status == "localized"
    for bad in (np.zeros((6, 6)), np.eye(4), np.diag([1.0, 1.0, -1.0]), np.full((3, 3), np.nan)):
        with pytest.raises(QueryError, match="covariance"):
            PosePrior(true, bad)


def test_a_scene_without_points_has_the_views_that_mostly_see_others(structure):
    scene = structure.solver.scene
    rows = scene.seen_rows[scene.view_starts[0] : scene.view_starts[1]]
    gone = np.zeros(len(scene.positions), dtype=bool)
    assert len(scene.without(gone).centres) == len(scene.centres)
    gone[rows] = True
    rest = scene.without(gone)
    assert rest is None or not np.isin(rest.seen_rows, rows).any()
    gone[:] = False
    gone[rows[: len(rows) // 4]] = True
    rest = scene.without(gone)
    assert rest.seen_by(range(len(rest.centres))).tolist() == sorted(
        set(np.flatnonzero(~gone)) & set(rest.seen_rows)
    )
    assert not gone[rest.seen_rows].any()
    assert len(rest.vectors) == len(rest.centres) == len(rest.view_starts) - 1


def test_a_flat_patch_does_not_determine_an_unknown_camera(structure, images):
    # A small part of one wall, pasted on grey: focal length and distance cannot be told apart.
    image = np.full_like(images["test-00.png"], 90)
    image[120:200, 300:400] = images["test-00.png"][120:200, 300:400]
    found = structure.localize(image)
    if found.status == "localized":
        assert position_error(found.world_from_cam, TEST_POSES["test-00.png"]) < (
            4 * found.position_sigma
        )


# -- fitting, saving, loading --------------------------------------------------------------


def test_nothing_of_a_test_image_is_used(place, structure, copied, images):
    for name in copied.split(SPLIT).test:
        copied.image_path(name).unlink()
    again = StructureLocalizer.fit(copied, copied.split(SPLIT))
    assert len(again.solver.scene.centres) == len(TRAIN_POSES)
    for name, image in images.items():
        assert same(again.localize(image, CAMERA), structure.localize(image, CAMERA)), name
    for pose in TEST_POSES.values():
        distances = np.linalg.norm(again.solver.scene.centres - pose.translation, axis=1)
        assert distances.min() > 1e-3


@pytest.mark.parametrize("name", sorted(set(LOCALIZERS) - TRAINED))
def test_a_loaded_localizer_gives_identical_estimates(place, images, tmp_path, name):
    split = place.split(SPLIT)
    localizer = LOCALIZERS[name].fit(place, split)
    localizer.save(tmp_path)
    assert not list(tmp_path.glob("*.pkl"))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_000_000
    loaded = LOCALIZERS[name].load(tmp_path)
    for image in images.values():
        assert same(loaded.localize(image, CAMERA), localizer.localize(image, CAMERA))


def test_a_current_localizer_is_loaded_and_an_outdated_one_fitted_again(copied):
    split = copied.split(SPLIT)
    path = copied.localizer_dir(f"structure.{SPLIT}") / DESCRIPTION
    first = fitted(copied, "structure", split)
    stamp = path.stat().st_mtime_ns
    fitted(copied, "structure", split)
    assert path.stat().st_mtime_ns == stamp

    # A train image less is another localizer.
    fewer = replace(split, train=split.train[:-1])
    second = fitted(copied, "structure", fewer)
    assert len(second.solver.scene.centres) == len(first.solver.scene.centres) - 1
    assert path.stat().st_mtime_ns != stamp

    # So is another map, here one whose unit became known to be something else.
    stamp = path.stat().st_mtime_ns
    copied.record_poses(poses_from=copied.poses_from, frame=replace(copied.frame, unit="map unit"))
    assert fitted(copied, "structure", fewer).unit == "map unit"
    assert path.stat().st_mtime_ns != stamp


@pytest.mark.parametrize("damage", ["truncated", "missing", "pickle", "version", "rows"])
def test_a_damaged_localizer_is_refused_by_load_and_fitted_again(copied, structure, images, damage):
    split = copied.split(SPLIT)
    fitted(copied, "structure", split)
    folder = copied.localizer_dir(f"structure.{SPLIT}")
    arrays = folder / ARRAYS
    if damage == "truncated":
        arrays.write_bytes(arrays.read_bytes()[:-500])
    elif damage == "missing":
        arrays.unlink()
    elif damage == "pickle":
        arrays.write_bytes(pickle.dumps({"positions": np.zeros((3, 3))}))
    elif damage == "version":
        description = json.loads((folder / DESCRIPTION).read_text())
        (folder / DESCRIPTION).write_text(json.dumps({**description, "version": 99}))
    else:
        with np.load(arrays) as saved:
            values = dict(saved)
        values["seen_steps"] = values["seen_steps"] + 1000
        np.savez_compressed(arrays, **values)
    with pytest.raises(LocalizerError):
        StructureLocalizer.load(folder)
    again = fitted(copied, "structure", split)
    image = images["test-00.png"]
    assert same(again.localize(image, CAMERA), structure.localize(image, CAMERA))


def test_unknown_localizers_and_places_without_a_map_are_refused(place, tmp_path):
    with pytest.raises(LocalizerError, match=r"perceptron.*structure.*relocalize train"):
        fitted(place, "perceptron")
    with pytest.raises(PlaceError, match="relocalize map"):
        fitted(Place.create(tmp_path / "empty"), "structure")


# -- baselines -----------------------------------------------------------------------------


def test_retrieval_answers_with_a_train_pose_that_sees_the_same(place, images):
    localizer = fitted(place, "retrieval", place.split(SPLIT))
    train = [pose.translation for pose in TRAIN_POSES.values()]
    for name, image in images.items():
        found = localizer.localize(image)
        distance = np.linalg.norm(np.array(train) - found.world_from_cam.translation, axis=1)
        assert distance.min() < 1e-6
        assert rotation_error_deg(found.world_from_cam, TEST_POSES[name]) < 40
        assert 0.01 < found.position_sigma < 2
    assert localizer.localize(np.zeros((360, 480, 3), np.uint8)).status == "failed"


def test_the_constant_pose_is_the_middle_of_the_train_poses(place, images):
    found = fitted(place, "constant", place.split(SPLIT)).localize(images["test-00.png"])
    centres = np.array([pose.translation for pose in TRAIN_POSES.values()])
    assert np.allclose(found.world_from_cam.translation, np.median(centres, axis=0), atol=1e-6)
    spread = [rotation_error_deg(found.world_from_cam, pose) for pose in TRAIN_POSES.values()]
    assert np.mean(spread) < 25
    assert found.position_sigma == pytest.approx(
        np.sqrt(((centres - np.median(centres, axis=0)) ** 2).mean(axis=0).max()), rel=0.3
    )


# -- the command ---------------------------------------------------------------------------


def _localize(*arguments):
    command = [sys.executable, "-c", "from relocalize.cli.main import main; main()", "localize"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_command_prints_one_object_per_photo(place, images, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in images.items():
        cv2.imwrite(str(folder / name), image[:, :, ::-1])
    cv2.imwrite(str(folder / "z-black.png"), np.zeros((360, 480, 3), np.uint8))
    (folder / "z-text.jpg").write_text("no image")
    done = _localize(place.root, folder, "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(row["image"]).name for row in rows] == [*TEST_POSES, "z-black.png", "z-text.jpg"]
    assert list(rows[0]) == JSON_KEYS
    for row, pose in zip(rows, TEST_POSES.values(), strict=False):
        assert row["status"] == "localized"
        assert np.linalg.norm(np.array(row["position"]) - pose.translation) < 0.02
        assert np.allclose(np.array(row["world_from_cam"])[:3, 3], row["position"])
    assert [row["status"] for row in rows[-2:]] == ["failed", "failed"]
    assert "hardly any features" in rows[-2]["reason"]
    assert "z-text.jpg" in rows[-1]["reason"]


@pytest.mark.slow
def test_a_missing_photo_stops_the_command_before_anything_runs(place, tmp_path):
    done = _localize(place.root, tmp_path / "nowhere.jpg", "--json")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "nowhere.jpg does not exist" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
