"""What a trained network answers to images: poses, their spread, and what it saw in them."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from relocalize.regression.answers import SHOWN, Answers, Cells
from relocalize.regression.device import Device
from relocalize.regression.folding import folded
from relocalize.regression.heads import PoseOutput
from relocalize.regression.heads.head import CellOutput, resized
from relocalize.regression.model import PoseRegressor
from relocalize.regression.novelty import PARTS
from relocalize.regression.rotations import nearest_rotation

_AT_ONCE = 32  # images per forward pass
_DROPOUT_SEED = 0  # the same photo gets the same samples
_LEAST_SHARE = 1e-3  # of a cell that is shown, where it is divided by


def described(features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Of images for `KnownViews`: each map averaged over a few cells, every stage of one weight.

    Args:
        features: maps [B, C, H, W] by stage name, and `SHOWN`.

    Returns:
        descriptions [B, D], of D / K numbers for each of the K cells, which change fastest, and the
        share [B, K] of each cell that the image shows.
    """
    seen = features[SHOWN].float()
    grid = (int(seen.shape[-2]), int(seen.shape[-1]))
    share = resized(seen, PARTS)
    parts = []
    for stage, maps in features.items():
        if stage == SHOWN:
            continue
        cells = resized(resized(maps.float(), grid) * seen, PARTS) / share.clamp(min=_LEAST_SHARE)
        # As long as if the rest of the image were like what it shows.
        length = (cells.square() * share).sum((1, 2, 3)) / share.mean((1, 2, 3)).clamp(_LEAST_SHARE)
        parts.append((cells / length.clamp(min=1e-20).sqrt()[:, None, None, None]).flatten(1))
    return torch.cat(parts, dim=1), share.flatten(1)


def world_cells(model: PoseRegressor, cells: CellOutput) -> tuple[Tensor, Tensor, Tensor]:
    """Points [B, N, 3] and depths [B, N] of cells in the Place's unit, and their log doubts."""
    scale = model.position_scale
    return cells.scene * scale + model.position_mean, cells.depth * scale, cells.log_doubt


class TorchNetwork:
    """A trained network as torch runs it.

    Attributes:
        model: the network, in evaluation mode.
    """

    def __init__(self, model: PoseRegressor, device: Device, *, samples: int = 0) -> None:
        """Of a model, which is left as it is; ``samples`` as for `answers_to`."""
        # Folding makes an answer a third faster, and what it makes is no longer the model's state.
        self.model = copy.deepcopy(model)
        self.model.backbone = folded(model.backbone)
        self._device, self._samples = device, samples
        device.place(self.model)

    def __call__(self, pixels: NDArray[np.uint8]) -> Answers:
        """The answers to images [N, h, w, 3] RGB of its input size."""
        with self._device.running():
            return answers_to(self.model, pixels, self._device, samples=self._samples)


@torch.no_grad()
def answers_to(
    model: PoseRegressor, pixels: NDArray[np.uint8], device: Device, *, samples: int = 0
) -> Answers:
    """The answers to images.

    Args:
        model: in evaluation mode, on the device.
        pixels: [N, h, w, 3] RGB of the network's input size.
        device: that the model is on.
        samples: answers per image with dropout left on; 0: one without.
    """
    parts = []
    for start in range(0, len(pixels), _AT_ONCE):
        chunk = torch.from_numpy(np.ascontiguousarray(pixels[start : start + _AT_ONCE]))
        images = device.images(model.normalise(chunk.to(device.torch_device)))
        with device.mixed():
            features = model.features(images)
        # Heads cost little beside backbones, and validate on kept features in float32 too.
        exact = {stage: maps.float() for stage, maps in features.items()}
        parts.append(answers_from(model, exact, samples=samples))
    return Answers.joined(parts)


@torch.no_grad()
def answers_from(
    model: PoseRegressor, features: Mapping[str, Tensor], *, samples: int = 0
) -> Answers:
    """The answers to images of these features: maps [N, C, H, W] by stage name."""
    if samples == 0:
        output = model.from_features(features)
        positions, rotations = model.poses(output)
        spread: Tensor | None = None
    else:
        with torch.random.fork_rng():
            torch.manual_seed(_DROPOUT_SEED)
            output = model.sample_from_features(features, samples)
        every_position, every_rotation = model.poses(output)
        positions, rotations = every_position.mean(0), nearest_rotation(every_rotation.mean(0))
        spread = _spread(every_position, positions, every_rotation, rotations)
    variance = spread
    if output.log_variance is not None:
        predicted = output.log_variance.exp()
        if samples:
            predicted = predicted.mean(0)
        scale = model.position_scale.square()
        predicted = torch.cat((predicted[:, :3] * scale, predicted[:, 3:]), 1)
        variance = predicted if spread is None else predicted.cpu() + spread
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, :3, :3] = rotations.cpu().double().numpy()
    poses[:, :3, 3] = positions.cpu().double().numpy()
    cells = _cells(model, output)
    descriptions, share = described(features)
    return Answers(
        poses,
        None if variance is None else variance.cpu().double().numpy(),
        descriptions.cpu().numpy(),
        None if cells is None else cells.depth_off(poses),
        share.cpu().numpy(),
        cells,
    )


def _cells(model: PoseRegressor, output: PoseOutput) -> Cells | None:
    if output.cells is None:
        return None
    found = world_cells(model, output.cells)
    return Cells(*(values.cpu().numpy() for values in found))


def _spread(positions: Tensor, mean: Tensor, rotations: Tensor, middle: Tensor) -> Tensor:
    """[N, 6] variances of samples [S, N, ...] about their mean."""
    off = (positions - mean).square().mean(0)
    turns = (middle.transpose(-1, -2) @ rotations.cpu().double()).numpy()
    vectors = Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_rotvec()
    about = torch.from_numpy((vectors.reshape(*turns.shape[:2], 3) ** 2).mean(axis=0))
    return torch.cat((off.cpu().double(), about), 1)
