"""Which parts of its input an image shows: what is beyond its edge has one colour, `FILL`.

A photo held upright, or by a longer lens, fills only a part of the canonical camera. What it does
not show is told from the colour itself, pixel by pixel, so that a network needs no second input.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from relocalize.regression.answers import SHOWN
from relocalize.regression.canonical import FILL
from relocalize.regression.heads.head import resized

_GRID = (12, 16)  # rows and columns, where no head says any
_NEARLY = 0.25  # of a grey level: rounding, not another colour


def shown(images: Tensor, mean: Tensor, std: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
    """The share of each cell that an image shows, as a map beside feature maps.

    Args:
        images: [B, 3, H, W] RGB, normalised.
        mean: [3, 1, 1] or [3, H, W], that was subtracted from RGB in 0..1.
        std: [3, 1, 1], that it was divided by.
        grid: rows and columns.

    Returns:
        [B, 1, *grid] in 0..1.
    """
    fill = (torch.tensor(FILL)[:, None, None].to(images) / 255 - mean) / std
    differs = ((images - fill).abs() * std).amax(1, keepdim=True) > _NEARLY / 255
    return resized(differs.to(images.dtype), grid or _GRID)


def shown_of(maps: Mapping[str, Tensor], grid: tuple[int, int]) -> Tensor | None:
    """[B, 1, *grid] of what `shown` put beside feature maps, or None without."""
    return resized(maps[SHOWN].float(), grid) if SHOWN in maps else None
