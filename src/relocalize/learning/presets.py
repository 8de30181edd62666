"""The published recipes of camera pose regression and our own, each one value.

What each takes from which paper, and where it differs and why: docs/presets.md.
"""

from __future__ import annotations

from dataclasses import replace

from relocalize.errors import LocalizerError
from relocalize.learning.augmentation import AugmentSettings
from relocalize.learning.settings import (
    BackboneSettings,
    HeadSettings,
    InputSettings,
    LossSettings,
    OptimizerSettings,
    TrainSettings,
)

_PAPER_INPUT = InputSettings(width=224, height=224, geometry="posenet", mean_image=True)

# PoseNet (Kendall, Grimes, Cipolla, ICCV 2015), section 3: SGD, learning rate 1e-5, a tenth of it
# after every 80 epochs, momentum 0.9, batches of 75.
_POSENET_2015 = TrainSettings(
    preset="posenet-2015",
    backbone=BackboneSettings(name="googlenet", weights="places365", frozen=False),
    input=_PAPER_INPUT,
    augment=AugmentSettings.none(),
    head=HeadSettings(
        kind="posenet", width=2048, dropout=0.5, orientation="quaternion", auxiliary=True
    ),
    loss=LossSettings(kind="beta", norm="l2", unit="world", beta=500.0, normalise=False),
    optimizer=OptimizerSettings(
        name="sgd",
        learning_rate=1e-5,
        weight_decay=0.0,
        momentum=0.9,
        schedule="step",
        step_share=1 / 3,
        step_factor=0.1,
        batch_size=75,
        epochs=240,
    ),
)

# The founding experiments: the optimizer of the PyTorch port of PoseNet on a ResNet18, the learning
# rate halved after every third of the run.
_FOUNDING = TrainSettings(
    preset="posenet-2015-resnet18",
    backbone=BackboneSettings(name="resnet18", weights="places365", frozen=False),
    input=_PAPER_INPUT,
    augment=AugmentSettings.none(),
    head=HeadSettings(kind="founding", width=512, dropout=0.7, orientation="quaternion"),
    loss=LossSettings(kind="beta", norm="mse", unit="world", beta=50.0),
    optimizer=OptimizerSettings(
        name="adam",
        learning_rate=5e-4,
        weight_decay=0.0625,
        eps=1.0,
        schedule="step",
        batch_size=64,
        epochs=200,
    ),
)

# Modelling Uncertainty in Deep Learning for Camera Relocalization (Kendall, Cipolla, ICRA 2016):
# PoseNet with dropout left on, 40 samples.
_BAYESIAN = replace(_POSENET_2015, preset="bayesian-posenet", samples=40)

# Geometric loss functions (Kendall, Cipolla, CVPR 2017), section 4: Adam, 1e-4, batches of 64.
_POSENET_2017 = TrainSettings(
    preset="posenet-2017",
    backbone=BackboneSettings(name="googlenet", weights="imagenet", frozen=False),
    input=InputSettings(width=224, height=224, geometry="posenet"),
    augment=AugmentSettings.none(),
    head=HeadSettings(kind="posenet", width=2048, dropout=0.5, orientation="quaternion"),
    loss=LossSettings(kind="homoscedastic", norm="l1", unit="world"),
    optimizer=OptimizerSettings(
        name="adam",
        learning_rate=1e-4,
        weight_decay=0.0,
        schedule="constant",
        batch_size=64,
        epochs=300,
    ),
)
_GEOMETRIC = replace(
    _POSENET_2017,
    preset="posenet-2017-geometric",
    loss=replace(_POSENET_2017.loss, kind="reprojection"),
)

# Image-based localization using LSTMs (Walch et al., ICCV 2017).
_POSE_LSTM = replace(
    _POSENET_2015,
    preset="poselstm",
    head=HeadSettings(kind="lstm", width=2048, hidden=256, dropout=0.5, orientation="quaternion"),
    loss=replace(_POSENET_2015.loss, normalise=True),
    optimizer=OptimizerSettings(
        name="adam",
        learning_rate=5e-4,
        weight_decay=0.0625,
        eps=1.0,
        schedule="constant",
        batch_size=75,
        epochs=400,
    ),
)

# Geometry-aware learning of maps (Brahmbhatt et al., CVPR 2018), MapNet alone.
_MAPNET = TrainSettings(
    preset="mapnet",
    backbone=BackboneSettings(name="resnet34", weights="imagenet", frozen=False),
    input=InputSettings(width=256, height=256, geometry="posenet"),
    augment=AugmentSettings.none(),
    head=HeadSettings(kind="posenet", width=2048, dropout=0.5, orientation="log_quaternion"),
    loss=LossSettings(
        kind="homoscedastic",
        norm="l1",
        unit="world",
        relative_weight=1.0,
        tuple_size=3,
        tuple_spacing=10,
    ),
    optimizer=OptimizerSettings(
        name="adam",
        learning_rate=1e-4,
        weight_decay=5e-4,
        schedule="constant",
        clip=5.0,
        batch_size=60,
        epochs=300,
    ),
)

# AtLoc (Wang et al., AAAI 2020).
_ATLOC = replace(
    _MAPNET,
    preset="atloc",
    augment=replace(AugmentSettings.none(), brightness=0.35, contrast=0.7, saturation=0.7),
    head=replace(_MAPNET.head, kind="attention"),
    loss=LossSettings(kind="homoscedastic", norm="l1", unit="world"),
    optimizer=replace(_MAPNET.optimizer, learning_rate=5e-5, clip=None, batch_size=64, epochs=100),
)

_DEFAULT = TrainSettings(
    preset="default",
    backbone=BackboneSettings(
        name="efficientnet_lite0",
        weights="imagenet",
        frozen=True,
        stages=("group3", "group5", "head"),
        channels=64,
    ),
    optimizer=OptimizerSettings(weight_decay=1e-2, warm_up=0.05, clip=5.0),
)

PRESETS: dict[str, TrainSettings] = {
    settings.preset: settings
    for settings in (
        _DEFAULT,
        _POSENET_2015,
        _FOUNDING,
        _BAYESIAN,
        _POSENET_2017,
        _GEOMETRIC,
        _POSE_LSTM,
        _MAPNET,
        _ATLOC,
    )
}


def preset(name: str) -> TrainSettings:
    """The settings of a preset.

    Raises:
        LocalizerError: there is none of that name.
    """
    if name not in PRESETS:
        raise LocalizerError(f"no preset {name[:60]!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
