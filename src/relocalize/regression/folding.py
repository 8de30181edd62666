"""A frozen network with its batch norms folded into the convolutions before them.

With fixed statistics a batch norm is a scale and an offset per channel, which the convolution can
have in its own weights. Measured on EfficientNet-Lite0 at 192 x 256, one thread of a processor:
22 ms per image become 15 in bfloat16, 45 become 32 in float32.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import TypeVar

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
    for names in _pairs(plain):
        convolution, norm = (faster.get_submodule(name) for name in names)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            _replace(faster, names[0], fuse_conv_bn_eval(convolution, norm))
            _replace(faster, names[1], nn.Identity())
    return faster.freeze() if _agree(plain, faster) else plain


def _pairs(backbone: Backbone) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch norms that take their output as it is."""
    made_by: dict[int, str] = {}
    outputs: list[Tensor] = []  # held, so that no two have the same address
    pairs: list[tuple[str, str]] = []
    handles = []

    def note_output(name: str, output: Tensor) -> None:
        outputs.append(output)
        made_by[id(output)] = name

    def note_input(name: str, value: Tensor) -> None:
        if id(value) in made_by:
            pairs.append((made_by[id(value)], name))

    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(
                module.register_forward_hook(
                    lambda _module, _inputs, output, name=name: note_output(name, output)
                )
            )
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(
                module.register_forward_pre_hook(
                    lambda _module, inputs, name=name: note_input(name, inputs[0])
                )
            )
    with torch.no_grad():
        backbone(_a_image(backbone))
    for handle in handles:
        handle.remove()
    # A module that runs twice has one set of weights for two places.
    runs = Counter(name for pair in pairs for name in pair)
    return [pair for pair in pairs if runs[pair[0]] == runs[pair[1]] == 1]


def _agree(plain: Backbone, faster: Backbone) -> bool:
    image = _a_image(plain)
    with torch.no_grad():
        before, after = plain(image), faster(image)
    return all(
        bool((after[stage] - maps).abs().max() <= _TOLERANCE * maps.abs().max())
        for stage, maps in before.items()
    )


def _a_image(backbone: Backbone) -> Tensor:
    weights = next(backbone.parameters())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, SMALLEST_SIDE, SMALLEST_SIDE, generator=generator)
    return image.to(weights.device, weights.dtype)


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, module)
