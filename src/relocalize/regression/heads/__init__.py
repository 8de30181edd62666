"""Heads: the layers that turn a backbone's feature maps into a pose."""

from __future__ import annotations

from collections.abc import Mapping

from relocalize.errors import LocalizerError
from relocalize.regression.backbones.backbone import Stage
from relocalize.regression.heads.coordinates import CoordinateHead
from relocalize.regression.heads.grid import GridHead
from relocalize.regression.heads.head import CellOutput, Head, PoseOutput, resized
from relocalize.regression.heads.published import (
    AUXILIARY_STAGES,
    AttentionHead,
    LstmHead,
    PoseNetHead,
)
from relocalize.regression.settings import HeadSettings

__all__ = ["HEADS", "CellOutput", "CoordinateHead", "Head", "PoseOutput", "make_head", "resized"]

HEADS = {
    "posenet": PoseNetHead,
    "founding": PoseNetHead,
    "lstm": LstmHead,
    "attention": AttentionHead,
    "grid": GridHead,
    "coordinates": CoordinateHead,
}


def make_head(settings: HeadSettings, maps: Mapping[str, Stage], stages: tuple[str, ...]) -> Head:
    """The head of ``settings`` on a backbone's ``stages``.

    Args:
        settings: which head.
        maps: channels of every stage of the backbone, shallow to deep.
        stages: those that the head may see; none: the deepest.

    Raises:
        LocalizerError: the backbone has no such stage.
    """
    wanted = set(stages or tuple(maps)[-1:])
    if settings.auxiliary:
        wanted.update(AUXILIARY_STAGES)
    if missing := wanted - maps.keys():
        raise LocalizerError(
            f"the backbone has no feature map {', '.join(sorted(missing))}; "
            f"it has {', '.join(maps)}"
        )
    return HEADS[settings.kind](tuple(name for name in maps if name in wanted), maps, settings)
