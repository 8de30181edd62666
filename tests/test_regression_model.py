"""The pose regressor: world poses, cached features, samples, statistics, names of weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip("torch")

from relocalize.errors import LocalizerError  # noqa: E402 - after the skip where there is none
from relocalize.regression.answers import SHOWN  # noqa: E402
from relocalize.regression.losses import PoseTarget, make_loss  # noqa: E402
from relocalize.regression.model import PoseRegressor, make_regressor  # noqa: E402
from relocalize.regression.settings import (  # noqa: E402
    BackboneSettings,
    HeadSettings,
    InputSettings,
    TrainSettings,
)

torch.set_num_threads(1)

SMALL = TrainSettings(
    backbone=BackboneSettings("resnet18", "none", True, ("layer2", "layer3"), channels=8),
    input=InputSettings(96, 64),
    head=HeadSettings("grid", 16, 0.2, "6d", grid=(2, 3), blocks=1, hidden=16),
)


def regressor(settings: TrainSettings = SMALL) -> PoseRegressor:
    torch.manual_seed(0)
    return make_regressor(settings)


def random_pixels(batch: int = 3) -> torch.Tensor:
    generator = torch.manual_seed(1)
    return torch.randint(0, 256, (batch, 64, 96, 3), dtype=torch.uint8, generator=generator)


def poses_of(count: int, spread: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    positions = np.array([100.0, -20.0, 3.0]) + spread * rng.normal(size=(count, 3))
    turn = Rotation.from_rotvec([0.4, 2.0, -1.0])
    rotations = turn * Rotation.from_rotvec(0.2 * rng.normal(size=(count, 3)))
    return torch.from_numpy(positions).float(), torch.from_numpy(rotations.as_matrix()).float()


def test_standardised_positions_come_back_as_world_positions():
    model = regressor().eval()
    positions, rotations = poses_of(50, 4.0)
    model.set_statistics(positions, rotations)
    standardised = model.standardised(positions)
    assert standardised.mean(0).abs().max() < 1e-4
    assert float(standardised.square().mean()) == pytest.approx(1, abs=1e-3)
    output = model(model.normalise(random_pixels(50)))
    back, _ = model.poses(output._replace(position=standardised))
    torch.testing.assert_close(back, positions, rtol=0, atol=1e-4)
    # One scale for all axes, so that directions in space are kept.
    assert model.position_scale.shape == ()


def test_training_of_the_grid_head_starts_near_the_mean_pose():
    model = regressor().eval()
    positions, rotations = poses_of(50, 4.0)
    model.set_statistics(positions, rotations)
    found, turned = model.poses(model(model.normalise(random_pixels())))
    mean = Rotation.from_matrix(rotations.numpy()).mean()
    off = (Rotation.from_matrix(turned.detach().numpy()) * mean.inv()).magnitude()
    assert np.degrees(off).max() < 10
    assert (found.detach() - positions.mean(0)).norm(dim=1).max() < 2


def test_one_train_image_and_images_in_one_place_have_statistics_too():
    model = regressor()
    positions, rotations = poses_of(1, 0.0)
    model.set_statistics(positions, rotations)
    assert float(model.position_scale) == 1
    model.set_statistics(positions.expand(4, 3), rotations.expand(4, 3, 3))
    assert float(model.position_scale) == 1
    with pytest.raises(LocalizerError, match="0 train images"):
        model.set_statistics(positions[:0], rotations[:0])
    with pytest.raises(LocalizerError, match="finite"):
        model.set_statistics(positions * torch.nan, rotations)


def test_cached_features_give_the_same_poses():
    model = regressor().eval()
    images = model.normalise(random_pixels())
    features = model.features(images)
    assert {name: tuple(maps.shape) for name, maps in features.items()} == {
        "layer2": (3, 8, 8, 12),
        "layer3": (3, 8, 4, 6),
        SHOWN: (3, 1, 2, 3),
    }
    direct, cached = model(images), model.from_features(features)
    assert torch.equal(direct.position, cached.position)
    assert torch.equal(direct.rotation, cached.rotation)


def test_principal_channels_are_of_the_given_mean_and_directions():
    model = regressor().eval()
    images = model.normalise(random_pixels())
    maps = model.backbone(images, stages=("layer2",))["layer2"]
    rng = np.random.default_rng(0)
    basis = torch.from_numpy(np.linalg.qr(rng.normal(size=(128, 8)))[0].T).float()
    mean = maps.mean((0, 2, 3))
    model.reduction["layer2"].load_state_dict({"mean": mean, "basis": basis})
    reduced = model.features(images)["layer2"]
    wanted = torch.einsum("kc,bchw->bkhw", basis, maps - mean[:, None, None])
    torch.testing.assert_close(reduced, wanted, rtol=1e-4, atol=1e-4)
    assert reduced.mean((0, 2, 3)).abs().max() < 1e-4


def test_a_frozen_backbone_is_never_changed_and_a_trained_one_is():
    target = PoseTarget(torch.randn(3, 3), torch.eye(3).expand(3, 3, 3))
    thawed = replace(SMALL, backbone=replace(SMALL.backbone, frozen=False, channels=None))
    for settings, changes in ((SMALL, False), (thawed, True)):
        model = regressor(settings).train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        loss = make_loss(settings.loss, "6d")
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        loss(model(model.normalise(random_pixels())), target).backward()
        optimizer.step()
        after = model.state_dict()
        changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
        assert any(name.startswith("head.") for name in changed)
        assert any(name.startswith("backbone.") for name in changed) == changes
        assert not changed & {"position_mean", "position_scale", "input_mean", "input_std"}


def test_samples_differ_with_dropout_on_and_leave_the_model_as_it_was():
    model = regressor().eval()
    images = model.normalise(random_pixels())
    before = model(images)
    samples = model.sample_from_features(model.features(images), 20)
    assert samples.position.shape == (20, 3, 3)
    assert samples.rotation.shape == (20, 3, 6)
    assert bool((samples.position.std(0) > 0).all())
    positions, rotations = model.poses(samples)
    assert positions.shape == (20, 3, 3)
    assert rotations.shape == (20, 3, 3, 3)
    assert not any(module.training for module in model.modules())
    assert torch.equal(model(images).position, before.position)
    # Sample i of image j is of image j: their mean is near its answer without dropout.
    spread = samples.position.std(0) / 20**0.5
    assert bool(((samples.position.mean(0) - before.position).abs() < 6 * spread).all())


def test_weights_come_back_under_names_that_say_what_they_are():
    model = regressor()
    names = set(model.state_dict())
    assert {"position_mean", "position_scale", "input_mean", "input_std"} <= names
    assert {"backbone.conv1.weight", "reduction.layer2.basis", "head.pose.position.weight"} <= names
    assert {name.split(".")[0] for name in names} == {
        "backbone",
        "reduction",
        "head",
        "position_mean",
        "position_scale",
        "input_mean",
        "input_std",
    }
    positions, rotations = poses_of(9, 2.0)
    model.set_statistics(positions, rotations)
    other = make_regressor(TrainSettings.from_json(SMALL.to_json()))
    other.load_state_dict(model.state_dict())
    images = model.normalise(random_pixels())
    one, two = model.eval()(images), other.eval()(images)
    assert torch.equal(model.poses(one)[0], other.poses(two)[0])


def test_weights_are_counted_by_part():
    model = regressor()
    counts = model.parameter_counts()
    assert counts.backbone == 11_176_512  # torchvision's ResNet18 has 513,000 more, of classes
    assert counts.trained == counts.head
    thawed = replace(SMALL, backbone=replace(SMALL.backbone, frozen=False, channels=None))
    counts = regressor(thawed).parameter_counts()
    assert counts.trained == counts.head + counts.backbone


def test_images_are_normalised_by_the_backbones_colour_or_by_a_mean_image():
    model = regressor()
    white = torch.full((1, 64, 96, 3), 255, dtype=torch.uint8)
    mean, std = (torch.tensor(v) for v in (model.backbone.mean, model.backbone.std))
    torch.testing.assert_close(model.normalise(white)[0, :, 5, 7], (1 - mean) / std)
    with pytest.raises(LocalizerError, match="mean image"):
        model.set_input_mean(torch.zeros(3, 64, 96))
    paper = replace(SMALL, input=InputSettings(64, 64, "posenet", mean_image=True))
    model = regressor(paper)
    crop = random_pixels(1)[:, :, :64]
    model.set_input_mean(crop[0].movedim(-1, 0) / 255)
    assert model.normalise(crop).abs().max() < 1e-6
