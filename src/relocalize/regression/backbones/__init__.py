"""Networks that turn images into feature maps, each with its paper and its own weights' names."""

from relocalize.regression.backbones.backbone import Backbone, Stage
from relocalize.regression.backbones.registry import BACKBONES, make_backbone

__all__ = ["BACKBONES", "Backbone", "Stage", "make_backbone"]
