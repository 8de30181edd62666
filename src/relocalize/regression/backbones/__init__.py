"""Networks that turn images into feature maps, each with its paper and its own weights' names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from relocalize.errors import LocalizerError
from relocalize.regression.backbones.backbone import Backbone, Stage
from relocalize.regression.backbones.efficientnet_lite import EfficientNetLite
from relocalize.regression.backbones.googlenet import GoogLeNet
from relocalize.regression.backbones.resnet import BasicBlock, Bottleneck, ResNet
from relocalize.regression.backbones.timm_model import PREFIX, TimmModel

__all__ = ["BACKBONES", "Backbone", "Stage", "make_backbone"]

BACKBONES: dict[str, Callable[[str], Backbone]] = {
    # 3.4, 4.1 and 4.8 million parameters, trained at 224, 240 and 260 pixels.
    "efficientnet_lite0": partial(EfficientNetLite, size=0),
    "efficientnet_lite1": partial(EfficientNetLite, size=1),
    "efficientnet_lite2": partial(EfficientNetLite, size=2),
    "googlenet": partial(GoogLeNet, caffe=False),
    "googlenet_caffe": partial(GoogLeNet, caffe=True),
    "resnet18": partial(ResNet, block=BasicBlock, depths=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, block=BasicBlock, depths=(3, 4, 6, 3)),
    "resnet50": partial(ResNet, block=Bottleneck, depths=(3, 4, 6, 3)),
}


def make_backbone(name: str) -> Backbone:
    """The backbone of this name, or ``timm:MODEL``, with initial values and no trained weights.

    Raises:
        LocalizerError: no such backbone, or its package is not installed.
    """
    if name.startswith(PREFIX):
        return TimmModel(name)
    if name not in BACKBONES:
        raise LocalizerError(
            f"no backbone is called {name!r}; there are {', '.join(BACKBONES)} and {PREFIX}MODEL"
        )
    return BACKBONES[name](name)
