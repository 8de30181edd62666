"""What a trained network answers to images: poses, their spread, and what it saw in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from relocalize.geometry.transforms import FloatArray
from relocalize.regression.device import Device
from relocalize.regression.heads import PoseOutput
from relocalize.regression.model import PoseRegressor, rotation_matrices
from relocalize.regression.novelty import Float32Array, described
from relocalize.regression.rotations import nearest_rotation

_AT_ONCE = 32  # images per forward pass
_DROPOUT_SEED = 0  # the same photo gets the same samples
_LEAST_VARIANCE = 1e-18
_PARTS = (slice(0, 3), slice(3, 6))  # of variances: the centre's and the rotation vector's


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers to N images."""

    world_from_cams: FloatArray  # [N, 4, 4]
    # [N, 6] predicted and sampled variances added, of the centre (world axes, the Place's unit) and
    # the rotation vector (camera axes, radians); None without either
    variance: FloatArray | None
    descriptions: Float32Array  # [N, D] of what the network saw, for `KnownViews`
    # [N] logarithm of how many times as far away things look as they are from there, by cells that
    # are sure: not 0 for a wrong focal length. None where no cells say depths.
    depth_off: FloatArray | None = None

    def averaged(self, turns: FloatArray | None = None) -> Answers:
        """One answer from those to K images of one photo, the first of them the photo itself.

        Those that are sure count more, by their predicted variances. The variance is the mean one
        and what they differ by: they err alike, so that it does not fall with their number.

        Args:
            turns: [K, 3, 3] from the photo's camera axes to each image's; None for crops whose
                poses are taken for the photo's (PoseNet, ICCV 2015, section 3.1).
        """
        if len(self.world_from_cams) == 1:
            return self
        positions, rotations = self.world_from_cams[:, :3, 3], self.world_from_cams[:, :3, :3]
        if turns is not None:
            rotations = rotations @ turns
        variance = np.zeros((len(positions), 6)) if self.variance is None else self.variance
        # Equal where nothing is predicted.
        of_position, of_rotation = (
            1 / (variance[:, columns].mean(axis=1) + _LEAST_VARIANCE) for columns in _PARTS
        )
        mean = np.eye(4)
        mean[:3, 3] = np.average(positions, axis=0, weights=of_position)
        turned_back = Rotation.from_matrix(rotations)
        middle = turned_back.mean(weights=of_rotation)
        mean[:3, :3] = middle.as_matrix()
        off = np.hstack([positions - mean[:3, 3], (middle.inv() * turned_back).as_rotvec()])
        spread = variance + off**2
        variances = [
            np.average(spread[:, columns], axis=0, weights=weights)
            for columns, weights in zip(_PARTS, (of_position, of_rotation), strict=True)
        ]
        described = self.descriptions
        described = described.mean(axis=0, keepdims=True) if turns is None else described[:1]
        depth_off = None if self.depth_off is None else self.depth_off[:1]
        return Answers(mean[None], np.concatenate(variances)[None], described, depth_off)

    @classmethod
    def joined(cls, parts: Iterable[Answers]) -> Answers:
        """Those of several groups of images, one after the other."""
        parts = list(parts)
        variances = [part.variance for part in parts if part.variance is not None]
        depths = [part.depth_off for part in parts if part.depth_off is not None]
        return cls(
            np.concatenate([part.world_from_cams for part in parts]),
            np.concatenate(variances) if variances else None,
            np.concatenate([part.descriptions for part in parts]),
            np.concatenate(depths) if depths else None,
        )


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
    return Answers(
        poses,
        None if variance is None else variance.cpu().double().numpy(),
        described(features),
        depth_off(output),
    )


def depth_off(output: PoseOutput) -> FloatArray | None:
    """[N] weighted medians over cells, as `Answers.depth_off`, or None without cells."""
    if output.cells is None:
        return None
    found = output.cells
    rotation = rotation_matrices(output.rotation, "6d")
    depth = ((found.scene - output.position[:, None]) @ rotation)[..., 2]
    # A point behind the camera is infinitely nearer than its cell says.
    off = (found.depth.log() - depth.clamp(min=torch.finfo(depth.dtype).tiny).log()).double()
    order = off.argsort(1)
    weight = (-2 * found.log_doubt.double()).exp().gather(1, order).cumsum(1)
    middle = (weight < weight[:, -1:] / 2).sum(1, keepdim=True)
    median: FloatArray = off.gather(1, order).gather(1, middle)[:, 0].cpu().numpy()
    return median


def _spread(positions: Tensor, mean: Tensor, rotations: Tensor, middle: Tensor) -> Tensor:
    """[N, 6] variances of samples [S, N, ...] about their mean."""
    off = (positions - mean).square().mean(0)
    turns = (middle.transpose(-1, -2) @ rotations.cpu().double()).numpy()
    vectors = Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_rotvec()
    about = torch.from_numpy((vectors.reshape(*turns.shape[:2], 3) ** 2).mean(axis=0))
    return torch.cat((off.cpu().double(), about), 1)
