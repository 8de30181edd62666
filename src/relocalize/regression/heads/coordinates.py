"""A head that says what each cell of the image sees, from which the pose follows."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from relocalize.regression.backbones.backbone import Stage
from relocalize.regression.heads.head import CellOutput, Head, PoseOutput, resized
from relocalize.regression.heads.shown import shown_of
from relocalize.regression.pose_layer import aligned, refined_pose
from relocalize.regression.rotations import columns_from_matrix
from relocalize.regression.settings import HeadSettings

_WHOLE = (2, 4)  # rows and columns that the whole image is averaged to
_STEPS = 5  # of Gauss-Newton, from the aligned pose; more change nothing
# Logarithms, of depth as a share of the typical one and of doubt in normalised image coordinates.
_LEAST_LOG_DEPTH, _MOST_LOG_DEPTH = -4.0, 4.0
_LEAST_LOG_DOUBT, _MOST_LOG_DOUBT = -7.0, 2.0
_FIRST_LOG_DOUBT = -2.0
_LEAST_SHOWN = 0.01  # of a cell, for its doubt


class CoordinateHead(Head):
    """Ours: cells say where in the place they look, and the pose is where they would see that.

    Each cell of the grid is turned into the point of the place that its middle sees, its
    depth, and a doubt; `pose_layer` makes the pose of them, and the loss goes through it. What a
    cell sees does not depend on where in the image it is, so the head need not learn what a
    turned camera does: that is geometry. Points from features are scene coordinates (Shotton et
    al., CVPR 2013; an MLP on fixed features: ACE, Brachmann et al., CVPR 2023); a pose from
    predicted points and depths by alignment is Altillawi et al.'s (Implicit learning of scene
    geometry from poses for global localization, RA-L 2024).

    In training the pose layer is left to the loss, and some cells, drawn anew, stand for all. Of
    what the whole image looks like they are told a part, drawn anew too (`context_dropout`): it
    tells one door from another, and it invites to know train images by heart.

    Cells beyond the image's edge, which a photo held upright or by a longer lens does not fill, say
    nothing, and nothing is told of them.

    Attributes:
        rays: [cells, 2] the cells' middles in normalised image coordinates.
        middle: [3] of what the train images see, standardised as positions are.
        spread: [] how far from there it is, typically.
        depth: [] how far from the cameras.
    """

    rays: Tensor
    middle: Tensor
    spread: Tensor
    depth: Tensor

    def __init__(
        self, stages: tuple[str, ...], maps: Mapping[str, Stage], settings: HeadSettings
    ) -> None:
        super().__init__(stages)
        self.grid, self.drawn = settings.grid, settings.drawn_cells
        count, width = settings.grid[0] * settings.grid[1], settings.width
        # Maps of different depths differ in scale by orders of magnitude.
        self.norms = nn.ModuleDict(
            {stage: nn.BatchNorm2d(maps[stage].channels, affine=False) for stage in stages}
        )
        self.cell_stages = [one for one in stages if one in settings.cell_stages] or list(stages)
        of_cell = sum(maps[stage].channels for stage in self.cell_stages)
        channels = sum(maps[stage].channels for stage in stages)
        self.reduce = nn.Linear(of_cell, width)
        # Doors of one kind look alike: what else is in the image says which one it is.
        self.told = nn.Dropout(settings.context_dropout)
        self.context = nn.Linear(channels * _WHOLE[0] * _WHOLE[1], width)
        self.blocks = nn.Sequential(
            *(CellBlock(width, settings.dropout) for _ in range(settings.blocks))
        )
        self.norm = nn.LayerNorm(width)
        self.says = nn.Linear(width, 5)
        with torch.no_grad():
            self.says.weight.mul_(0.1)
            self.says.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, _FIRST_LOG_DOUBT]))
        self.register_buffer("rays", torch.zeros(count, 2))
        self.register_buffer("middle", torch.zeros(3))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("depth", torch.ones(()))

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the cells."""
        return self.grid

    def look_at(self, rays: Tensor, points: Tensor, depth: float) -> None:
        """Take over the camera and the scene.

        Args:
            rays: [cells, 2] the cells' middles in normalised image coordinates.
            points: [P, 3] what the train images see, standardised as positions are.
            depth: how far from the cameras that typically is, in the same unit.
        """
        middle = points.median(0).values
        self.rays.copy_(rays)
        self.middle.copy_(middle)
        self.spread.copy_((points - middle).abs().mean())
        self.depth.fill_(depth)

    def forward(self, features: Mapping[str, Tensor]) -> PoseOutput:
        """The pose and, in training, what cells say of it."""
        maps = {
            stage: resized(norm(features[stage]), self.grid) for stage, norm in self.norms.items()
        }
        everything = torch.cat(list(maps.values()), 1)
        share = shown_of(features, self.grid)
        if share is not None:
            everything = everything * share
        whole = self.context(self.told(resized(everything, _WHOLE).flatten(1)))
        cells = torch.cat([maps[stage] for stage in self.cell_stages], 1).flatten(2)
        count = cells.shape[-1]
        if self.training and self.drawn < count:
            index = torch.randperm(count)[: self.drawn].to(cells.device)
            cells = cells[:, :, index]
        else:
            index = torch.arange(count, device=cells.device)
        width = self.reduce(cells.transpose(1, 2)) + whole[:, None]
        said = self.says(self.norm(self.blocks(width)))
        with torch.autocast(said.device.type, enabled=False):
            said = said.float()
            scene = said[..., :3] * self.spread + self.middle
            depth = said[..., 3].clamp(_LEAST_LOG_DEPTH, _MOST_LOG_DEPTH).exp() * self.depth
            log_doubt = said[..., 4].clamp(_LEAST_LOG_DOUBT, _MOST_LOG_DOUBT)
            if share is not None:
                share = share.flatten(1)[:, index]
                log_doubt = log_doubt - share.clamp(min=_LEAST_SHOWN).log()
            found = CellOutput(scene, depth, log_doubt, index, self.rays[index], share)
            return self._pose(found)

    def _pose(self, found: CellOutput) -> PoseOutput:
        doubts = found.log_doubt.exp()
        rays = torch.cat((found.rays, torch.ones_like(found.rays[:, :1])), 1)
        rotation, centre = aligned(found.scene, rays * found.depth[..., None], doubts**-2)
        if self.training:
            return PoseOutput(centre, columns_from_matrix(rotation), cells=found)
        rotation, centre, covariance = refined_pose(
            rotation, centre, found.scene, found.rays, doubts, self.depth, steps=_STEPS
        )
        # The shift is along the camera's axes, and asked for along those of the world.
        shift = ((rotation @ covariance[:, :3, :3]) * rotation).sum(-1)
        turn = torch.diagonal(covariance[:, 3:, 3:], dim1=1, dim2=2)
        variance = torch.cat((shift, turn), 1).clamp(min=math.exp(-30.0))
        return PoseOutput(centre, columns_from_matrix(rotation), variance.log(), cells=found)


class CellBlock(nn.Module):
    """Two layers beside what came in, the same for every cell."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, cells: Tensor) -> Tensor:
        """Cells [B, N, width], of the same shape."""
        inner = functional.gelu(self.first(self.norm(cells)))
        change: Tensor = self.second(self.dropout(inner))
        return cells + change
