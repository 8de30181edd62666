"""Heads: the layers that turn a backbone's feature maps into a pose.

Each follows its paper where there is one; sizes that the paper leaves open are those of the
authors' or the most used public code, and docs/presets.md says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from relocalize.errors import LocalizerError
from relocalize.learning.backbones.backbone import Stage
from relocalize.learning.rotations import (
    columns_from_matrix,
    log_from_matrix,
    quaternion_from_matrix,
)
from relocalize.learning.settings import HeadSettings, Orientation

ORIENTATION_SIZE: dict[Orientation, int] = {"quaternion": 4, "log_quaternion": 3, "6d": 6}
# GoogLeNet's feature maps that the two auxiliary heads see.
AUXILIARY_STAGES = ("inception4a", "inception4d")


class PoseOutput(NamedTuple):
    """What a head says of B pictures.

    Attributes:
        position: [B, 3] camera centres, standardised by the model's train statistics.
        rotation: [B, k] orientations as they were regressed: k is 4, 3 or 6.
        log_variance: [B, 6] logarithms of the variances of the position (world axes, standardised
            units) and of the rotation vector (camera axes, radians); None where not predicted.
        auxiliary: what auxiliary heads say, in training.
    """

    position: Tensor
    rotation: Tensor
    log_variance: Tensor | None = None
    auxiliary: tuple[PoseOutput, ...] = ()


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


class _PooledHead(Head):
    """A head that averages the deepest map over the picture and widens it: `feature` [B, C]."""

    def __init__(self, stages: tuple[str, ...], channels: int, settings: HeadSettings) -> None:
        super().__init__(stages)
        self.map_dropout = nn.Dropout(settings.map_dropout)
        self.feature = nn.Linear(channels, settings.width)
        nn.init.kaiming_normal_(self.feature.weight)
        nn.init.zeros_(self.feature.bias)
        self.dropout = nn.Dropout(settings.dropout)

    def pooled(self, features: Mapping[str, Tensor]) -> Tensor:
        """The averaged, widened feature [B, width], not below 0."""
        averaged = self.map_dropout(features[self.stages[-1]]).mean((2, 3))
        return functional.relu(self.feature(averaged))


class _HeadWithSides(_PooledHead):
    """A pooled head that may have an `AuxiliaryHead` on each of GoogLeNet's two branches."""

    def __init__(
        self, stages: tuple[str, ...], maps: Mapping[str, Stage], settings: HeadSettings
    ) -> None:
        sides = AUXILIARY_STAGES if settings.auxiliary else ()
        main = [stage for stage in stages if stage not in sides][-1]
        super().__init__((*sides, main), maps[main].channels, settings)
        self.auxiliary = nn.ModuleDict(
            {stage: AuxiliaryHead(maps[stage].channels, settings) for stage in sides}
        )

    def with_sides(self, output: PoseOutput, features: Mapping[str, Tensor]) -> PoseOutput:
        """The output and, in training, those of the auxiliary heads."""
        if not self.training:
            return output
        sides = tuple(head(features[stage]) for stage, head in self.auxiliary.items())
        return output._replace(auxiliary=sides)


class PoseNetHead(_HeadWithSides):
    """PoseNet (Kendall, Grimes, Cipolla, ICCV 2015): a localization feature, then the pose.

    The paper's section 3.1: in place of GoogLeNet's classifier a fully connected layer of 2048,
    ReLU, dropout 0.5, and the pose; in place of each auxiliary classifier a pose too.
    """

    def __init__(
        self, stages: tuple[str, ...], maps: Mapping[str, Stage], settings: HeadSettings
    ) -> None:
        super().__init__(stages, maps, settings)
        self.pose = PoseLayers(settings.width, settings)

    def forward(self, features: Mapping[str, Tensor]) -> PoseOutput:
        """The pose and, in training, those of the auxiliary heads."""
        return self.with_sides(self.pose(self.dropout(self.pooled(features))), features)


class AuxiliaryHead(nn.Module):
    """An auxiliary classifier of GoogLeNet with a pose in place of the classes.

    Average pooling 5x5 with stride 3, 1x1 convolution to 128 channels, fully connected to 1024,
    dropout 0.7 (Szegedy et al., Going deeper with convolutions, CVPR 2015, section 5). Maps that
    do not give 4x4 cells (inputs other than 224x224) are averaged to that. With the lstm head the
    1024 go through LSTMs too, as in the authors' code.
    """

    def __init__(self, channels: int, settings: HeadSettings) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, 128, 1)
        self.feature = nn.Linear(128 * 4 * 4, 1024)
        with_lstm = settings.kind == "lstm"
        self.lstm = FourDirectionLstm(1024, settings.hidden) if with_lstm else nn.Identity()
        self.dropout = nn.Dropout(0.7)
        self.pose = PoseLayers(4 * settings.hidden if with_lstm else 1024, settings)

    def forward(self, features: Tensor) -> PoseOutput:
        """The pose, from one map [B, C, H, W]."""
        if min(features.shape[-2:]) >= 5:
            features = functional.avg_pool2d(features, 5, 3)
        cells = functional.relu(self.reduce(resized(features, (4, 4))))
        feature = functional.relu(self.feature(cells.flatten(1)))
        pose: PoseOutput = self.pose(self.dropout(self.lstm(feature)))
        return pose


class FoundingHead(_PooledHead):
    """The founding experiments' head on a ResNet: average pool, 512, ReLU, dropout, pose."""

    def __init__(
        self, stages: tuple[str, ...], maps: Mapping[str, Stage], settings: HeadSettings
    ) -> None:
        super().__init__(stages[-1:], maps[stages[-1]].channels, settings)
        self.pose = PoseLayers(settings.width, settings)

    def forward(self, features: Mapping[str, Tensor]) -> PoseOutput:
        """The pose."""
        output: PoseOutput = self.pose(self.dropout(self.pooled(features)))
        return output


class LstmHead(_HeadWithSides):
    """PoseLSTM (Walch et al., ICCV 2017): LSTMs shorten the feature in place of a wide layer."""

    def __init__(
        self, stages: tuple[str, ...], maps: Mapping[str, Stage], settings: HeadSettings
    ) -> None:
        super().__init__(stages, maps, settings)
        self.lstm = FourDirectionLstm(settings.width, settings.hidden)
        self.pose = PoseLayers(4 * settings.hidden, settings)

    def forward(self, features: Mapping[str, Tensor]) -> PoseOutput:
        """The pose and, in training, those of the auxiliary heads."""
        states = self.lstm(self.pooled(features))
        return self.with_sides(self.pose(self.dropout(states)), features)


class FourDirectionLstm(nn.Module):
    """A feature read as a picture, in four directions (PoseLSTM, section 3.2).

    It is laid out as 32 rows. LSTMs run over the rows down and up, and over the columns right and
    left; their last states together are the shortened feature.
    """

    _ROWS = 32

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.over_rows = nn.LSTM(width // self._ROWS, hidden, batch_first=True, bidirectional=True)
        self.over_columns = nn.LSTM(self._ROWS, hidden, batch_first=True, bidirectional=True)

    def forward(self, feature: Tensor) -> Tensor:
        """States [B, 4 hidden] of features [B, width]."""
        rows = feature.view(len(feature), self._ROWS, -1)
        _, (down_up, _) = self.over_rows(rows)
        _, (right_left, _) = self.over_columns(rows.transpose(1, 2))
        return torch.cat((*down_up, *right_left), 1)


class AttentionHead(_PooledHead):
    """AtLoc (Wang et al., AAAI 2020): the feature attends to itself before the pose.

    With x the 2048-d feature and theta, phi, g linear maps to an eighth of it, equation 3:
    ``y = softmax(phi(x) theta(x)^T) g(x)``, an outer product, and ``W y + x`` goes on to the pose.
    """

    def __init__(
        self, stages: tuple[str, ...], maps: Mapping[str, Stage], settings: HeadSettings
    ) -> None:
        super().__init__(stages[-1:], maps[stages[-1]].channels, settings)
        inner = max(1, settings.width // 8)
        self.theta = nn.Linear(settings.width, inner)
        self.phi = nn.Linear(settings.width, inner)
        self.value = nn.Linear(settings.width, inner)
        self.widen = nn.Linear(inner, settings.width)
        for layer in (self.theta, self.phi, self.value, self.widen):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.pose = PoseLayers(settings.width, settings)

    def forward(self, features: Mapping[str, Tensor]) -> PoseOutput:
        """The pose."""
        x = self.pooled(features)
        similarity = self.phi(x)[:, :, None] * self.theta(x)[:, None, :]
        attended = (similarity.softmax(-1) @ self.value(x)[:, :, None]).squeeze(-1)
        output: PoseOutput = self.pose(self.dropout(self.widen(attended) + x))
        return output


class GridHead(Head):
    """Ours: maps of several depths on one grid, and where a feature is in the picture is kept.

    Averaging over the picture forgets where things are, which is what a pose shows in; here every
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


HEADS = {
    "posenet": PoseNetHead,
    "founding": FoundingHead,
    "lstm": LstmHead,
    "attention": AttentionHead,
    "grid": GridHead,
}


def make_head(settings: HeadSettings, maps: Mapping[str, Stage], stages: tuple[str, ...]) -> Head:
    """The head of ``settings`` on a backbone's ``stages``.

    Args:
        settings: which head.
        maps: channels of every stage of the backbone, shallow to deep.
        stages: those that the head may see; none: the deepest.

    Raises:
        LocalizerError: the backbone has no such stage.
    """
    wanted = set(stages or tuple(maps)[-1:])
    if settings.auxiliary:
        wanted.update(AUXILIARY_STAGES)
    if missing := wanted - maps.keys():
        raise LocalizerError(
            f"the backbone has no feature map {', '.join(sorted(missing))}; "
            f"it has {', '.join(maps)}"
        )
    return HEADS[settings.kind](tuple(name for name in maps if name in wanted), maps, settings)
