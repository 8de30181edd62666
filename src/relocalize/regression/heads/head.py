"""What all heads share: what they say, and the layers that say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from relocalize.regression.rotations import (
    columns_from_matrix,
    log_from_matrix,
    quaternion_from_matrix,
)
from relocalize.regression.settings import HeadSettings, Orientation

ORIENTATION_SIZE: dict[Orientation, int] = {"quaternion": 4, "log_quaternion": 3, "6d": 6}


class CellOutput(NamedTuple):
    """What N cells of each of B images say."""

    scene: Tensor  # [B, N, 3] the points that they see, standardised as positions are
    depth: Tensor  # [B, N] how far before the camera, in the same unit
    # [B, N] logarithms of what they expect their residual to be, in normalised image coordinates
    log_doubt: Tensor
    chosen: Tensor  # [N] which cells of the head's grid they are
    rays: Tensor  # [N, 2] where these are, in normalised image coordinates
    shown: Tensor | None = None  # [B, N] the share of each that the image shows; None: all


class PoseOutput(NamedTuple):
    """What a head says of B images."""

    position: Tensor  # [B, 3] camera centres, standardised by the model's train statistics
    rotation: Tensor  # [B, k] orientations as they were regressed: k is 4, 3 or 6
    # [B, 6] logarithms of the variances of the position (world axes, standardised units) and of the
    # rotation vector (camera axes, radians); None where not predicted
    log_variance: Tensor | None = None
    auxiliary: tuple[PoseOutput, ...] = ()  # what auxiliary heads say, in training
    # what single cells of the image say; None where heads have no such
    cells: CellOutput | None = None


class PoseLayers(nn.Module):
    """The last layers of every head: a feature [B, C] to position and orientation."""

    def __init__(self, channels: int, settings: HeadSettings) -> None:
        super().__init__()
        self.orientation_kind = settings.orientation
        self.position = nn.Linear(channels, 3)
        self.orientation = nn.Linear(channels, ORIENTATION_SIZE[settings.orientation])
        for layer in (self.position, self.orientation):
            # PoseNet's orientation layer. Its position layer's 0.5 is for metres, not for
            # standardised positions, which begin at the mean position so.
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        self.log_variance = nn.Linear(channels, 6) if settings.log_variance else None
        if self.log_variance is not None:
            nn.init.zeros_(self.log_variance.weight)
            nn.init.zeros_(self.log_variance.bias)

    def forward(self, feature: Tensor) -> PoseOutput:
        """The pose of each feature [B, C], in float32 whatever came before.

        In bfloat16 a position of 1 is known to 0.004 and an orientation to a quarter of a degree.
        """
        with torch.autocast(feature.device.type, enabled=False):
            feature = feature.float()
            return PoseOutput(
                self.position(feature),
                self.orientation(feature),
                None if self.log_variance is None else self.log_variance(feature),
            )

    def start_at(self, rotation: Tensor) -> None:
        """Begin training at this orientation [3, 3] in place of none."""
        forms = {
            "quaternion": quaternion_from_matrix,
            "log_quaternion": log_from_matrix,
            "6d": columns_from_matrix,
        }
        with torch.no_grad():
            self.orientation.bias.copy_(forms[self.orientation_kind](rotation))


class Head(nn.Module):
    """A network from feature maps by stage name to a pose.

    Attributes:
        stages: the stages whose maps it needs, deepest last.
    """

    def __init__(self, stages: tuple[str, ...]) -> None:
        super().__init__()
        self.stages = stages

    def forward(self, features: Mapping[str, Tensor]) -> PoseOutput:
        """The pose, from maps [B, C, H, W] by stage name."""
        raise NotImplementedError

    def start_at(self, rotation: Tensor) -> None:
        """Begin training at this orientation [3, 3]; published heads begin as published."""

    @property
    def cells(self) -> tuple[int, int] | None:
        """Rows and columns of the cells that it says scene coordinates of, or None."""
        return None


def resized(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Feature maps [B, C, H, W] averaged, or where they are coarser interpolated, to ``grid``."""
    height, width = (int(side) for side in features.shape[-2:])  # no tensors, when traced
    rows, columns = grid
    if (height, width) == grid:
        return features
    if height % rows == 0 and width % columns == 0:
        return functional.avg_pool2d(features, (height // rows, width // columns))
    if height >= rows and width >= columns:
        down, right = averaging(height, rows), averaging(width, columns)
        return down.to(features) @ features @ right.to(features).T
    return functional.interpolate(features, grid, mode="bilinear", align_corners=False)


def averaging(size: int, cells: int) -> Tensor:
    """Weights [cells, size] of means over ``cells`` overlapping runs, as adaptive average pooling.

    That operator itself has no counterpart in ONNX where the runs differ in length.
    """
    starts = torch.arange(cells) * size // cells
    ends = -(-(torch.arange(1, cells + 1) * size) // cells)
    places = torch.arange(size)
    inside = (places >= starts[:, None]) & (places < ends[:, None])
    return inside / inside.sum(1, keepdim=True)
