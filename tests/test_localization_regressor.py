"""The regressor as a localizer: trained, localizing, saved, found by its name, resumed."""

import copy
import json
import os
import re
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from localization_place import render
from relocalize import progress
from relocalize.errors import LocalizerError
from relocalize.evaluation import evaluate, names
from relocalize.geometry import Camera, Rigid3, position_error, rotation_error_deg
from relocalize.localization import LOCALIZERS, fitted
from relocalize.localization.regressor import RegressorLocalizer
from relocalize.localization.saving import DESCRIPTION
from relocalize.localization.store import folder_of, store
from relocalize.localization.stored_regressor import NETWORK, WEIGHTS
from relocalize.place import Place, Split
from relocalize.regression.agreement import answer_to_photo
from relocalize.regression.depths import cell_rays
from relocalize.regression.onnx_network import OnnxNetwork
from relocalize.regression.presets import preset
from relocalize.regression.settings import InputSettings, with_fields
from relocalize.regression.task import PoseTask
from rendered_walk import CAMERA, SPLIT, copy_of_walk, walk_poses

# The default recipe on small images, for a corner of a room.
SETTINGS = with_fields(
    preset("default"),
    {
        "input.width": 128,
        "input.height": 96,
        "copies": 2,
        "answer": "pose",
        "augment.turn_deg": 10.0,
        "augment.roll_deg": 5.0,
        "augment.jitter": 0.2,
        # Whole images without things in the way, as the photos here are: sigma is learnt on them.
        "augment.zoom": 1.0,
        "augment.occlusion": 0.0,
        "backbone.stages": ("group3", "group5"),
        "backbone.channels": 32,
        "head.width": 64,
        "head.grid": (6, 8),
        "head.drawn_cells": 24,
        "head.blocks": 1,
        "validation_share": 0.2,
        "optimizer.learning_rate": 3e-3,
        "optimizer.batch_size": 16,
        "optimizer.epochs": 300,
        "precision": "float32",
        "device": "cpu",
    },
)
# End to end, a few steps: what a resumed run has to get right, not what it learns.
END_TO_END = with_fields(
    preset("posenet-2015-resnet18"),
    {
        "backbone.name": "efficientnet_lite0",  # which leaves blocks out at random
        "backbone.weights": "none",
        "input": InputSettings(64, 64, geometry="posenet", mean_image=True),
        "augment.turn_deg": 5.0,
        "optimizer.batch_size": 30,
        "optimizer.epochs": 2,
        "precision": "float32",
        "device": "cpu",
    },
)


@pytest.fixture(scope="module")
def place(made_once, tmp_path_factory) -> Place:
    return copy_of_walk(made_once, tmp_path_factory.mktemp("walk"))


def of_every_second(split: Split) -> Split:
    """Half of the train images, for what is not about accuracy."""
    return replace(split, train=split.train[::2])


@pytest.fixture(scope="module")
def trained(place) -> RegressorLocalizer:
    return RegressorLocalizer.fit(place, place.split(SPLIT), settings=SETTINGS)


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    trained.save(folder)
    return folder


@pytest.fixture(scope="module")
def images(place):
    return {name: place.read_image(name) for name in place.split(SPLIT).test}


def truth(place, name):
    return place.map.images[name].world_from_cam


def test_frames_between_train_frames_are_localized_far_better_than_by_a_constant(
    place, trained, images
):
    constant = LOCALIZERS["constant"].fit(place, place.split(SPLIT))
    errors, turns, baseline, sigmas = [], [], [], []
    for name, image in images.items():
        found = trained.localize(image, CAMERA)
        assert (found.status, found.unit, found.camera) == ("localized", place.unit, CAMERA)
        assert found.covariance.shape == (6, 6)
        assert np.linalg.eigvalsh(found.covariance).min() > 0
        errors.append(position_error(found.world_from_cam, truth(place, name)))
        turns.append(rotation_error_deg(found.world_from_cam, truth(place, name)))
        baseline.append(position_error(constant.localize(image).world_from_cam, truth(place, name)))
        sigmas.append(found.position_sigma)
    assert np.median(errors) < 0.4 * np.median(baseline)
    assert np.median(turns) < 4
    # Sigma is calibrated on copies of frames farther from train frames than these: wide, not by
    # more than a factor of three of the median in three dimensions (1.54 sigma).
    sizes = np.divide(errors, sigmas)
    assert np.mean(sizes < 1.88) >= 0.5
    assert np.median(sizes) > 1.54 / 3


def test_an_answer_is_by_the_cells_of_five_images(trained, images):
    one = copy.copy(trained)
    one.images = replace(trained.images, settings=InputSettings(128, 96, test_crops=1))
    image = next(iter(images.values()))
    found = trained.localize(image, CAMERA).world_from_cam
    shown = trained.images.of_photo(image, CAMERA)
    assert len(shown) == 5
    each, turns = trained.network(shown), trained.images.turns
    agreement = trained.calibration.agreement
    rays = cell_rays(trained.images.target, SETTINGS.head.grid)
    of_cells = answer_to_photo(each, turns, agreement, rays)
    np.testing.assert_allclose(found.matrix, of_cells.world_from_cams[0], atol=1e-5)
    mean = Rigid3.from_matrix(each.averaged(turns).world_from_cams[0])
    assert 0 < rotation_error_deg(found, mean) < 2  # the turns are taken back
    assert 0 < rotation_error_deg(found, one.localize(image, CAMERA).world_from_cam) < 5


def test_a_regressor_that_learnt_nothing_of_agreement_answers_by_the_mean(trained, images):
    before = copy.copy(trained)
    before.calibration = replace(trained.calibration, agreement=None)
    image = next(iter(images.values()))
    mean = trained.network(trained.images.of_photo(image, CAMERA)).averaged(trained.images.turns)
    found = before.localize(image, CAMERA).world_from_cam
    np.testing.assert_allclose(found.matrix, mean.world_from_cams[0], atol=1e-5)


def test_what_is_no_view_of_the_place_fails_with_a_reason(trained):
    rng = np.random.default_rng(0)
    others = [render(pose, CAMERA, room=5) for pose in list(walk_poses().values())[::20]]
    junk = [
        np.zeros((120, 160, 3), np.uint8),
        np.full((120, 160, 3), 255, np.uint8),
        rng.integers(0, 256, (120, 160, 3)).astype(np.uint8),
    ]
    small = CAMERA.resized(160, 120)
    found = [trained.localize(image, CAMERA) for image in others]
    found += [trained.localize(image, small) for image in junk]
    assert sum(estimate.status == "failed" for estimate in found) >= len(found) - 1
    failed = next(estimate for estimate in found if estimate.status == "failed")
    assert "looks like no train image" in failed.reason
    assert failed.world_from_cam is None
    tiny = trained.localize(np.zeros((2, 3, 3), np.uint8))
    assert tiny.status == "failed"


def test_a_photo_of_an_unknown_camera_is_seen_at_about_its_focal_length(trained):
    wide = Camera("SIMPLE_PINHOLE", 240, 180, (160.0, 120.0, 90.0))
    photos = [render(pose, wide) for pose in list(walk_poses().values())[::20]]
    guesses = [wide.width * trained._tried(photo).best for photo in photos]
    assert 130 < np.median(guesses) < 200
    # Photos of one camera choose together.
    together = trained.localize_many(photos)
    found = [one for one in together if one.status == "localized"]
    assert {one.camera.known for one in found} == {"unknown"}
    focals = {one.camera.focal_px for one in found}
    alone = np.abs(np.log(np.array(guesses) / wide.focal_px))
    assert len(focals) == 1
    assert abs(np.log(focals.pop() / wide.focal_px)) <= alone.max()
    # A default that nobody knows to be true counts as unknown.
    default = Camera.from_focal(240, 180)
    with_default, without = (trained.localize(photos[-1], c) for c in (default, None))
    assert (with_default.status, with_default.reason) == (without.status, without.reason)
    assert with_default.camera == without.camera


def test_a_photo_is_localized_however_the_phone_was_held(trained, images):
    turned = Camera("PINHOLE", 180, 240, (195.0, 195.0, 90.0, 120.0))
    # So little has been learnt that few answers are sure enough.
    sure = copy.copy(trained)
    sure.calibration = replace(trained.calibration, sure_position=np.inf, sure_rotation=np.inf)
    differences = []
    for image in images.values():
        upright = trained.localize(image, CAMERA)
        for count, camera in ((1, turned), (2, CAMERA), (3, turned)):
            photo = np.ascontiguousarray(np.rot90(image, count))
            found = sure.localize(photo, camera)
            if found.status == "localized" == upright.status:
                # Turned to the left, what is up in the place is on the photo's left.
                rotation = upright.world_from_cam.rotation @ _quarters(count)
                pose = Rigid3(rotation, np.zeros(3))
                differences.append(rotation_error_deg(found.world_from_cam, pose))
    assert len(differences) > 2 * len(images)
    assert np.median(differences) < 5.0


def _quarters(count):
    """[3, 3] from the axes of a camera whose photo was turned left to those of the photo before."""
    once = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    return np.linalg.matrix_power(once, count)


def test_a_loaded_regressor_gives_identical_estimates(place, trained, saved, images):
    loaded = RegressorLocalizer.load(saved)
    assert isinstance(loaded.network, OnnxNetwork)
    for image in list(images.values())[:3]:
        for camera in (CAMERA, None):
            a, b = trained.localize(image, camera), loaded.localize(image, camera)
            assert (a.status, a.reason) == (b.status, b.reason)
            if a.status == "localized":
                np.testing.assert_array_equal(a.world_from_cam.matrix, b.world_from_cam.matrix)
                np.testing.assert_allclose(a.covariance, b.covariance, rtol=1e-5)
            assert camera is None or a.status == "localized"
    assert loaded.facts == trained.facts
    assert loaded.facts.settings == SETTINGS
    assert loaded.unit == place.unit


def test_what_is_saved_is_small_complete_and_says_how_it_came_about(saved):
    assert sum(path.stat().st_size for path in saved.rglob("*") if path.is_file()) < 9e6
    description = json.loads((saved / DESCRIPTION).read_text())
    assert description["settings"]["optimizer"]["epochs"] == 300
    assert description["settings"]["seed"] == 0
    assert description["validation"]["images"] >= 15
    assert 0 < description["validation"]["score"] < 0.6
    assert description["training"]["seconds"] > 0
    assert {"torch", "relocalize"} <= set(description["training"]["with"])
    assert len((saved / "training.jsonl").read_text().splitlines()) == 150
    assert not [path for path in saved.rglob("*") if path.suffix in {".pt", ".pkl", ".pth"}]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / WEIGHTS).write_bytes(b""),
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:5000]),
        lambda folder: (folder / WEIGHTS).unlink(),
        lambda folder: _edit(folder, lambda value: value.pop("calibration")),
        lambda folder: _edit(folder, lambda value: value["calibration"].update(position=["x"])),
        lambda folder: (folder / NETWORK).write_bytes((folder / NETWORK).read_bytes()[:5000]),
        lambda folder: (folder / NETWORK).write_bytes(b"no network"),
        lambda folder: _edit(folder, lambda value: value["settings"].update(seed="x")),
        lambda folder: _edit(folder, lambda value: value["camera"].update(width=-1)),
        lambda folder: _edit(folder, lambda value: value.update(unit=3)),
        lambda folder: _edit(folder, lambda value: value.update(version=99)),
    ],
)
def test_a_damaged_regressor_is_one_line(saved, tmp_path, damage):
    folder = tmp_path / "damaged"
    shutil.copytree(saved, folder)
    damage(folder)
    with pytest.raises(LocalizerError) as caught:
        RegressorLocalizer.load(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(("by_view", "answers"), [(False, "pose"), (True, "view")])
def test_a_regressor_of_version_0_1_still_answers(saved, images, tmp_path, by_view, answers):
    folder = tmp_path / "former"
    shutil.copytree(saved, folder)

    def as_before(value):
        value.update(localizer="posenet", version=3)
        calibration = value["calibration"]
        del calibration["answers"], calibration["blend"]
        calibration["by_view"] = by_view

    _edit(folder, as_before)
    former = RegressorLocalizer.load(folder)
    assert former.calibration.answers == (answers, answers)
    assert former.localize(next(iter(images.values())), CAMERA).status in ("localized", "failed")


def _edit(folder, change):
    value = json.loads((folder / DESCRIPTION).read_text())
    change(value)
    (folder / DESCRIPTION).write_text(json.dumps(value))


@pytest.fixture
def own(place, tmp_path) -> Place:
    shutil.copytree(place.root, tmp_path / "own")
    return Place.open(tmp_path / "own")


def test_several_trained_ones_are_used_by_their_names(own, trained, images, monkeypatch):
    split = own.split(SPLIT)
    store(own, folder_of(own, "mine", split), split, lambda: trained)
    image = next(iter(images.values()))
    expected = trained.localize(image, CAMERA).world_from_cam.matrix
    # With its split; without, as it is the only one; by its whole name.
    for found in (fitted(own, "mine", split), fitted(own, "mine"), fitted(own, f"mine.{SPLIT}")):
        pose = found.localize(image, CAMERA).world_from_cam
        np.testing.assert_array_equal(pose.matrix, expected)
    with pytest.raises(LocalizerError, match=r"no localizer 'his'.*relocalize train .*--name his"):
        fitted(own, "his")
    monkeypatch.setattr(names, "BASELINES", ("constant",))  # retrieval needs a map's features
    result = evaluate(own, split=SPLIT, localizers=("mine",))
    assert list(result.outcomes) == ["constant", "mine"]

    other = replace(split, name="other")
    own.write_split(other)
    store(own, folder_of(own, "mine", other), other, lambda: trained)
    with pytest.raises(LocalizerError, match=r"several splits.*mine\.other, mine\.walk"):
        fitted(own, "mine")


def test_an_evaluation_has_all_that_are_trained_on_its_split(own, trained, monkeypatch, capsys):
    split = own.split(SPLIT)
    other = replace(split, name="other", train=split.train[1:])
    own.write_split(other)
    for name, on in (("mine", split), ("regressor", split), ("his", other)):
        store(own, folder_of(own, name, on), on, lambda: trained)
    monkeypatch.setattr(names, "BASELINES", ("constant",))  # retrieval needs a map's features
    monkeypatch.setattr(RegressorLocalizer, "fit", None)  # nothing is trained by the way
    result = evaluate(own, split=SPLIT)
    assert list(result.outcomes) == ["constant", "regressor", "mine"]

    # What was trained on other images is no row of this split, and that is said.
    own.write_split(replace(split, train=split.train[:-1]))
    capsys.readouterr()
    with progress.shown():
        result = evaluate(own, split=SPLIT)
    assert list(result.outcomes) == ["constant"]
    said = capsys.readouterr().err
    assert re.search(r"mine is left out: .*relocalize train .*--name mine", said)
    assert "his" not in said


def test_a_place_that_changed_trains_again_with_the_settings_of_before(own, trained, monkeypatch):
    split = own.split(SPLIT)
    store(own, folder_of(own, "mine", split), split, lambda: trained)
    asked = []

    def fit(place, split, *, settings):
        asked.append(settings)
        return trained

    monkeypatch.setattr(RegressorLocalizer, "fit", fit)
    fitted(own, "mine", split)
    assert not asked
    fitted(own, "mine", replace(split, train=split.train[:-1]))
    assert asked == [SETTINGS]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
@pytest.mark.parametrize("settings", [END_TO_END, with_fields(SETTINGS, {"optimizer.epochs": 2})])
def test_trainings_killed_three_times_end_with_the_same_weights(own, monkeypatch, settings):
    settings = with_fields(
        settings, {"checkpoint_minutes": 1e-9, "optimizer.batch_size": 8}
    )  # several steps an epoch
    split = of_every_second(own.split(SPLIT))
    whole = RegressorLocalizer.fit(own, split, settings=settings)
    shutil.rmtree(whole.work_folder)
    original, calls = PoseTask.loss, []

    def dying(self, epoch, number, share):
        calls.append((epoch, number))
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, epoch, number, share)

    monkeypatch.setattr(PoseTask, "loss", dying)
    for _ in range(3):
        child = os.fork()
        if child == 0:
            RegressorLocalizer.fit(own, split, settings=settings)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    monkeypatch.setattr(PoseTask, "loss", original)
    resumed = RegressorLocalizer.fit(own, split, settings=settings)
    assert resumed.facts.validation == whole.facts.validation
    before = whole.parts.model.state_dict()
    for name, value in resumed.parts.model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_one_that_learnt_nothing_answers_no_worse_than_image_retrieval(
    place, trained, images, tmp_path
):
    split = of_every_second(place.split(SPLIT))
    quick = with_fields(SETTINGS, {"optimizer.epochs": 1, "answer": "validation"})
    hardly = RegressorLocalizer.fit(place, split, settings=quick)
    validation = hardly.facts.validation
    assert set(validation["answers_by"].values()) <= {"retrieval", "interpolation"}
    assert validation["sources"]["retrieval"]["position"] < validation["position"]
    retrieval = fitted(place, "retrieval", split)

    def medians(localizer):
        poses = [localizer.localize(image, CAMERA).world_from_cam for image in images.values()]
        true = [truth(place, name) for name in images]
        return [
            np.median([error(*pair) for pair in zip(poses, true, strict=True)])
            for error in (position_error, rotation_error_deg)
        ]

    answers = medians(hardly)
    assert (np.array(answers) <= np.array(medians(retrieval)) + 1e-6).all()
    hardly.save(tmp_path)
    loaded = RegressorLocalizer.load(tmp_path)
    assert medians(loaded) == answers
    # How a photo was held does not matter to retrieval, and does to the answer.
    name = next(iter(images))
    held = np.ascontiguousarray(np.rot90(images[name], 2))
    found = loaded.localize(held, CAMERA)
    if found.world_from_cam is not None:
        assert rotation_error_deg(found.world_from_cam, truth(place, name)) > 90
    assert trained.calibration.answers == ("pose", "pose")  # as its settings want
    assert trained.retrieval is None
