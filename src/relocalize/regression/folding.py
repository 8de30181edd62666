"""A frozen network with its batch norms folded into the convolutions before them.

With fixed statistics a batch norm is a scale and an offset per channel, which the convolution can
have in its own weights. Measured on EfficientNet-Lite0 at 192 x 256, one thread of a processor:
22 ms per image become 15 in bfloat16, 45 become 32 in float32.
"""

from __future__ import annotations

import copy
from collections import Counter
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from relocalize.regression.backbones import Backbone
from relocalize.regression.backbones.backbone import SMALLEST_SIDE

AnyBackbone = TypeVar("AnyBackbone", bound=Backbone)

_TOLERANCE = 1e-3  # of the largest feature: what reordered float32 sums differ by, at most


def folded(backbone: AnyBackbone) -> AnyBackbone:
    """A copy that computes the same features faster; where folding changes them, a plain copy.

    Args:
        backbone: whose weights do not change any more; the copy is frozen.
    """
    plain = copy.deepcopy(backbone).freeze()
    faster = copy.deepcopy(plain)
    weights = next(backbone.parameters())
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 3, SMALLEST_SIDE, SMALLEST_SIDE, generator=generator)
    image = noise.to(weights.device, weights.dtype)
    with torch.no_grad():
        for before, after in _pairs(plain, image):
            layers: list[Any] = [faster.get_submodule(name) for name in (before, after)]
            faster.set_submodule(before, fuse_conv_bn_eval(*layers))
            faster.set_submodule(after, nn.Identity())
        expected, found = plain(image), faster.freeze()(image)
    same = all(
        bool((found[stage] - maps).abs().max() <= _TOLERANCE * maps.abs().max())
        for stage, maps in expected.items()
    )
    return faster if same else plain


def _pairs(backbone: Backbone, image: Tensor) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch norms that take their output as it is."""
    made: dict[int, tuple[str, Tensor]] = {}  # by address; held, so that no two have the same
    pairs: list[tuple[str, str]] = []

    def note(name: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made[id(output)] = (name, output)
        elif id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], name))

    handles = [
        module.register_forward_hook(partial(note, name))
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    backbone(image)
    for handle in handles:
        handle.remove()
    # A module that runs twice has one set of weights for two places.
    runs = Counter(name for pair in pairs for name in pair)
    return [pair for pair in pairs if runs[pair[0]] == runs[pair[1]] == 1]
