"""The one list of backbones by name."""

from __future__ import annotations

from collections.abc import Callable

from relocalize.errors import LocalizerError
from relocalize.regression.backbones.backbone import Backbone
from relocalize.regression.backbones.efficientnet_lite import (
    efficientnet_lite0,
    efficientnet_lite1,
    efficientnet_lite2,
)
from relocalize.regression.backbones.googlenet import googlenet, googlenet_caffe
from relocalize.regression.backbones.resnet import resnet18, resnet34, resnet50
from relocalize.regression.backbones.timm_model import PREFIX, TimmModel

BACKBONES: dict[str, Callable[[str], Backbone]] = {
    "efficientnet_lite0": efficientnet_lite0,
    "efficientnet_lite1": efficientnet_lite1,
    "efficientnet_lite2": efficientnet_lite2,
    "googlenet": googlenet,
    "googlenet_caffe": googlenet_caffe,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
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
