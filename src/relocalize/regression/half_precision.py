"""Weights in half precision, half the size on disk, where the answers stay what they were."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from relocalize.regression.device import Device
from relocalize.regression.heads import PoseOutput
from relocalize.regression.inference import as_float
from relocalize.regression.model import PoseRegressor

_EQUAL = 1e-3  # largest change of a standardised position or a number of the orientation


@torch.no_grad()
def round_to_half(module: nn.Module) -> None:
    """Round the weights of a module that is not trained yet, or never, to half precision.

    They are float32 still; a file can hold them in half the bytes without loss. Biases and
    statistics, which are few, keep their precision.
    """
    for _, value in _large(module):
        value.copy_(value.half().float())


@torch.no_grad()
def round_trained(model: PoseRegressor, images: NDArray[np.uint8], device: Device) -> bool:
    """Round a trained model's weights to half precision, as `round_to_half`, if its answers stay.

    Args:
        model: in evaluation mode, on the device.
        images: [N, h, w, 3] to compare the answers of.
        device: that the model is on.

    Returns:
        Whether all weights were rounded; otherwise none were.
    """
    exact = Device(device.torch_device, None, device.channels_last, device.threads)
    before = _outputs(model, images, exact)
    kept = {name: value.clone() for name, value in _large(model)}
    round_to_half(model)
    change = max(
        float((new - old).abs().max())
        for new, old in zip(_outputs(model, images, exact), before, strict=True)
    )
    if change <= _EQUAL:
        return True
    for name, value in _large(model):
        value.copy_(kept[name])
    return False


def as_stored(value: torch.Tensor) -> torch.Tensor:
    """The tensor in half precision where that loses nothing, else as it is."""
    if value.dtype != torch.float32 or value.dim() < 2:
        return value
    half = value.half()
    return half if bool((half.float() == value).all()) else value


def _large(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [(name, value) for name, value in module.named_parameters() if value.dim() >= 2]


def _outputs(
    model: PoseRegressor, images: NDArray[np.uint8], device: Device
) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device.torch_device)
    output: PoseOutput = as_float(model(device.images(model.normalise(pixels))))
    return output.position, output.rotation
