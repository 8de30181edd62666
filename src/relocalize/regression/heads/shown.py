"""What an image shows of its camera's view: the rest has one colour and must not count.

A photo of a longer lens, of another shape or rolled leaves part of the canonical camera's image
without anything to show. There pixels are exactly `canonical.FILL`, which a network can see.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relocalize.regression.canonical import FILL
from relocalize.regression.heads.head import resized

SHOWN = "shown"  # of a map [B, 1, H, W] among features: the share of each cell that is shown
_LEAST = 1e-3  # of an image, where none of it is shown
_BRIGHTNESS = 0.449  # that images are brought to, at most by the gain: ImageNet's mean
_MOST_GAIN = 4.0


def levelled(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] of RGB in 0..1 at the same mean brightness of what they show.

    A photo in a quarter of the light, or overexposed by as much, becomes what it would have been.
    """
    seen = _seen(images)
    count = (3 * seen.sum((1, 2, 3), keepdim=True)).clamp(min=1.0)
    mean = (images * seen).sum((1, 2, 3), keepdim=True) / count
    gain = (_BRIGHTNESS / mean.clamp(min=1e-3)).clamp(1 / _MOST_GAIN, _MOST_GAIN)
    return images + seen * ((images * gain).clamp(max=1.0) - images)


def _seen(images: Tensor) -> Tensor:
    """[B, 1, H, W] 1 where images [B, 3, H, W] of RGB in 0..1 show something, else 0."""
    colour = torch.tensor(FILL, device=images.device)[:, None, None] / 255
    off = (images.float() - colour).abs().amax(1, keepdim=True)
    return (off > 0.5 / 255).float()


def shown_share(images: Tensor, mean: Tensor, std: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B, 1, rows, columns] the share of each cell of ``grid`` that images show.

    Args:
        images: [B, 3, H, W], normalised by ``mean`` and ``std``.
        mean: [3, 1, 1] that was subtracted from RGB in 0..1.
        std: [3, 1, 1] that it was divided by.
        grid: rows and columns.
    """
    return resized(_seen(images.float() * std + mean), grid)


def shown_only(maps: Tensor, shown: Tensor) -> Tensor:
    """Feature maps [B, C, H, W] with the mean of what is ``shown`` [B, 1, h, w] elsewhere."""
    height, width = (int(side) for side in maps.shape[-2:])
    share = resized(shown, (height, width)).to(maps)
    total = share.sum((2, 3), keepdim=True).clamp(min=_LEAST)
    mean = (maps * share).sum((2, 3), keepdim=True) / total
    return maps * share + mean * (1 - share)
