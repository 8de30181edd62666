"""Any network of timm (PyTorch Image Models) that can give feature maps."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from torch import Tensor

from relocalize.errors import LocalizerError
from relocalize.regression.backbones.backbone import Backbone, Stage

PREFIX = "timm:"


class TimmModel(Backbone):
    """``timm:MODEL``: the feature maps of timm's ``create_model(MODEL, features_only=True)``."""

    def __init__(self, name: str) -> None:
        self.model_name = name.removeprefix(PREFIX)
        body = create_timm_model(self.model_name, pretrained=False)
        info = body.feature_info
        stages = {
            module.replace(".", "_"): Stage(channels, stride)
            for module, channels, stride in zip(
                info.module_name(), info.channels(), info.reduction(), strict=True
            )
        }
        given = body.pretrained_cfg
        super().__init__(name, tuple(given["mean"]), tuple(given["std"]), stages)
        self.body = body

    def _walk(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield from zip(self.stages, self.body(images), strict=True)


def create_timm_model(model_name: str, *, pretrained: bool) -> Any:
    """Timm's network ``model_name``; with ``pretrained``, timm fetches and checks its weights.

    Raises:
        LocalizerError: timm cannot be imported, lacks this model, or cannot fetch its weights.
    """
    try:
        timm: Any = import_module("timm")
    except Exception as error:  # a torchvision of another torch fails with RuntimeError here
        raise LocalizerError(
            f"{PREFIX}{model_name} needs timm, which cannot be imported here ({error}); "
            "install it with: pip install timm"
        ) from None
    try:
        return timm.create_model(model_name, pretrained=pretrained, features_only=True)
    except Exception as error:
        raise LocalizerError(
            f"timm does not give {model_name!r} with feature maps: {str(error)[:200]}; "
            "timm.list_models() names those that it has"
        ) from None
