"""Networks that turn pictures into feature maps, each with its paper and its own weights' names."""

from relocalize.learning.backbones.backbone import Backbone, Stage
from relocalize.learning.backbones.registry import BACKBONES, make_backbone

__all__ = ["BACKBONES", "Backbone", "Stage", "make_backbone"]
