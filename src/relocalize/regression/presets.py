"""The published recipes of camera pose regression and our own, each one value.

What each takes from which paper, and where it differs and why: docs/reference/presets.md.
"""

from __future__ import annotations

from dataclasses import replace

from relocalize.errors import LocalizerError
from relocalize.regression.settings import (
    AugmentSettings,
    BackboneSettings,
    HeadSettings,
    InputSettings,
    LossSettings,
    OptimizerSettings,
    TrainSettings,
)

_PAPER_INPUT = InputSettings(width=224, height=224, geometry="posenet", mean_image=True)

# PoseNet (Kendall, Grimes, Cipolla, ICCV 2015), section 3: SGD, learning rate 1e-5, a tenth of it
# after every 80 epochs, momentum 0.9, batches of 75; beta 500 is that of the released network.
_POSENET_2015 = TrainSettings(
    preset="posenet-2015",
    backbone=BackboneSettings(name="googlenet_caffe", weights="places365", frozen=False),
    input=_PAPER_INPUT,
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

# The optimizer of PoseLSTM's authors' PyTorch code (hazirbas/poselstm-pytorch), for PoseNet too.
_POSE_LSTM_OPTIMIZER = OptimizerSettings(
    name="adam",
    learning_rate=5e-4,
    weight_decay=0.0625,
    eps=1.0,
    schedule="constant",
    batch_size=75,
    epochs=1200,
)

# The founding experiments: that optimizer on a ResNet18, its learning rate halved after every
# third of the run.
_FOUNDING = TrainSettings(
    preset="posenet-2015-resnet18",
    backbone=BackboneSettings(name="resnet18", weights="places365", frozen=False),
    input=_PAPER_INPUT,
    head=HeadSettings(kind="founding", width=512, dropout=0.7, orientation="quaternion"),
    loss=LossSettings(kind="beta", norm="mse", unit="world", beta=50.0),
    optimizer=replace(_POSE_LSTM_OPTIMIZER, schedule="step", batch_size=64, epochs=200),
)

# Modelling uncertainty in deep learning for camera relocalization (Kendall, Cipolla, ICRA 2016):
# dropout after the last inception module too, left on for 40 samples; no mean image in the code.
_BAYESIAN = replace(
    _POSENET_2015,
    preset="bayesian-posenet",
    input=replace(_PAPER_INPUT, mean_image=False),
    head=replace(_POSENET_2015.head, map_dropout=0.5),
    samples=40,
)

# Geometric loss functions for camera pose regression (Kendall, Cipolla, CVPR 2017), section 4:
# Adam, 1e-4, batches of 64.
_POSENET_2017 = TrainSettings(
    preset="posenet-2017",
    backbone=BackboneSettings(name="googlenet", weights="imagenet", frozen=False),
    input=replace(_PAPER_INPUT, mean_image=False),
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

# Image-based localization using LSTMs for structured feature correlation (Walch et al., ICCV 2017).
_POSE_LSTM = replace(
    _POSENET_2015,
    preset="poselstm",
    input=replace(_PAPER_INPUT, mean_image=False),
    head=HeadSettings(
        kind="lstm",
        width=2048,
        hidden=256,
        dropout=0.5,
        orientation="quaternion",
        auxiliary=True,
    ),
    loss=LossSettings(kind="beta", norm="mse", unit="world", beta=500.0),
    optimizer=_POSE_LSTM_OPTIMIZER,
)

# Geometry-aware learning of maps for camera localization (Brahmbhatt et al., CVPR 2018), MapNet
# alone, with the numbers of scripts/configs/mapnet.ini of its code: 20 tuples of 3 frames a batch.
_MAPNET = TrainSettings(
    preset="mapnet",
    backbone=BackboneSettings(name="resnet34", weights="imagenet", frozen=False),
    input=InputSettings(width=341, height=256),
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

# AtLoc (Wang et al., AAAI 2020), with the numbers of tools/options.py of its code.
_ATLOC = replace(
    _MAPNET,
    preset="atloc",
    input=InputSettings(width=256, height=256, geometry="posenet"),
    augment=AugmentSettings(jitter=1.0),
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
        stages=("group4", "group5", "head"),
        channels=64,
    ),
    input=InputSettings(test_crops=5),
    augment=AugmentSettings(
        roll_deg=15.0,
        turn_deg=12.0,
        shift=0.04,
        zoom=1.5,
        jitter=0.3,
        blur_px=1.0,
        noise=2.0,
        occlusion=0.3,
    ),
    head=HeadSettings(
        kind="coordinates",
        width=192,
        dropout=0.0,
        grid=(12, 16),
        blocks=3,
        # What is deeper sees half of the image in each cell, and knows train images by heart.
        cell_stages=("group4", "group5"),
        context_dropout=0.5,
    ),
    loss=LossSettings(kind="coordinates"),
    answer="validation",
    optimizer=OptimizerSettings(
        learning_rate=2e-3,
        weight_decay=2e-2,
        warm_up=0.03,
        clip=1.0,
        epochs=None,
    ),
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
