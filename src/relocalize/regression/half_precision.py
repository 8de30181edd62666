"""Weights in half precision, half the size on disk, where the answers stay what they were."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from relocalize.regression.device import Device
from relocalize.regression.heads import PoseOutput
from relocalize.regression.model import PoseRegressor

_EQUAL = 1e-3  # largest change of a standardised position or a number of the orientation


@torch.no_grad()
def round_to_half(module: nn.Module) -> None:
    """Round the weights of a module that is not trained yet, or never, to half precision.

    They are float32 still; a file can hold them in half the bytes without loss. Biases and
    statistics, which are few, keep their precision.
    """
    for value in _large(module):
        value.copy_(value.half().float())


@torch.no_grad()
def round_trained(model: PoseRegressor, images: NDArray[np.uint8], device: Device) -> None:
    """Round a trained model's weights to half precision, all or none, if its answers stay.

    Args:
        model: in evaluation mode, on the device.
        images: [N, h, w, 3] to compare the answers of.
        device: that the model is on.
    """
    before = _outputs(model, images, device)
    kept = [value.clone() for value in _large(model)]
    round_to_half(model)
    after = _outputs(model, images, device)
    change = max(float((new - old).abs().max()) for new, old in zip(after, before, strict=True))
    if not change <= _EQUAL:
        for value, exact in zip(_large(model), kept, strict=True):
            value.copy_(exact)


def as_stored(value: torch.Tensor) -> torch.Tensor:
    """The tensor in half precision where that loses nothing, else as it is."""
    if value.dtype != torch.float32 or value.dim() < 2:
        return value
    half = value.half()
    return half if bool((half.float() == value).all()) else value


def _large(module: nn.Module) -> list[nn.Parameter]:
    return [value for value in module.parameters() if value.dim() >= 2]


def _outputs(
    model: PoseRegressor, images: NDArray[np.uint8], device: Device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and rotations as they are regressed."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device.torch_device)
    output: PoseOutput = model(device.images(model.normalise(pixels)))
    return output.position, output.rotation
