"""A head that keeps where in the image a feature is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from relocalize.regression.backbones.backbone import Stage
from relocalize.regression.heads.head import Head, PoseLayers, PoseOutput, resized
from relocalize.regression.settings import HeadSettings


class GridHead(Head):
    """Ours: maps of several depths on one grid, and where a feature is in the image is kept.

    Averaging over the image forgets where things are, which is what a pose shows in; here every
    cell of the grid keeps its own place in the vector that the pose is regressed from (flatten),
    or says where it is before cells are weighed against each other (attention).
    """

    def __init__(
        self, stages: tuple[str, ...], maps: Mapping[str, Stage], settings: HeadSettings
    ) -> None:
        super().__init__(stages)
        width, cells = settings.width, settings.grid[0] * settings.grid[1]
        self.grid = settings.grid
        # Maps of different depths differ in scale by orders of magnitude.
        self.norms = nn.ModuleDict(
            {stage: nn.BatchNorm2d(maps[stage].channels, affine=False) for stage in stages}
        )
        self.reduce = nn.Conv2d(sum(maps[stage].channels for stage in stages), width, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(settings.blocks)))
        self.dropout = nn.Dropout(settings.dropout)
        self.pooling = settings.pooling
        if settings.pooling == "flatten":
            narrow = max(1, width // 2)
            self.narrow = nn.Conv2d(width, narrow, 1)
            pooled = narrow * cells
        else:
            self.place = nn.Parameter(torch.randn(1, width, *settings.grid) * 0.02)
            self.score = nn.Conv2d(width, 8, 1)
            pooled = 8 * width
        self.feature = nn.Linear(pooled, settings.hidden)
        self.pose = PoseLayers(settings.hidden, settings)

    def forward(self, features: Mapping[str, Tensor]) -> PoseOutput:
        """The pose."""
        maps = [resized(norm(features[stage]), self.grid) for stage, norm in self.norms.items()]
        cells = self.blocks(functional.gelu(self.reduce(torch.cat(maps, 1))))
        if self.pooling == "flatten":
            pooled = functional.gelu(self.narrow(cells)).flatten(1)
        else:
            placed = (cells + self.place).flatten(2)
            weights = self.score(cells + self.place).flatten(2).softmax(-1)
            pooled = (weights @ placed.transpose(1, 2)).flatten(1)
        feature = functional.gelu(self.feature(self.dropout(pooled)))
        output: PoseOutput = self.pose(self.dropout(feature))
        return output

    def start_at(self, rotation: Tensor) -> None:
        """Begin training at this orientation [3, 3]."""
        self.pose.start_at(rotation)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside what came in (He et al., Identity mappings, ECCV 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        groups = next(count for count in (8, 4, 2, 1) if width % count == 0)
        self.first = nn.Sequential(
            nn.GroupNorm(groups, width), nn.GELU(), nn.Conv2d(width, width, 3, padding=1)
        )
        self.second = nn.Sequential(
            nn.GroupNorm(groups, width), nn.GELU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, cells: Tensor) -> Tensor:
        """Cells [B, width, H, W], of the same shape."""
        change: Tensor = self.second(self.first(cells))
        return cells + change
