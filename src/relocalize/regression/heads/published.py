"""Heads as published: PoseNet's, PoseLSTM's, AtLoc's.

Sizes that a paper leaves open are those of the authors' or the most used public code, and
docs/reference/presets.md says which.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from relocalize.regression.backbones.backbone import Stage
from relocalize.regression.heads.head import Head, PoseLayers, PoseOutput, resized
from relocalize.regression.settings import HeadSettings

# GoogLeNet's feature maps that the two auxiliary heads see.
AUXILIARY_STAGES = ("inception4a", "inception4d")


class PoseNetHead(Head):
    """PoseNet (Kendall, Grimes, Cipolla, ICCV 2015): a localization feature, then the pose.

    The paper's section 3.1: in place of GoogLeNet's classifier the deepest map averaged over the
    image, a fully connected layer of 2048, ReLU, dropout 0.5, and the pose; in place of each
    auxiliary classifier a pose too. The founding experiments have the same on a ResNet, with a
    layer of 512.
    """

    def __init__(
        self, stages: tuple[str, ...], maps: Mapping[str, Stage], settings: HeadSettings
    ) -> None:
        sides = AUXILIARY_STAGES if settings.auxiliary else ()
        main = [stage for stage in stages if stage not in sides][-1]
        super().__init__((*sides, main))
        self.map_dropout = nn.Dropout(settings.map_dropout)
        self.feature = nn.Linear(maps[main].channels, settings.width)
        nn.init.kaiming_normal_(self.feature.weight)
        nn.init.zeros_(self.feature.bias)
        self.dropout = nn.Dropout(settings.dropout)
        self.auxiliary = nn.ModuleDict(
            {stage: AuxiliaryHead(maps[stage].channels, settings) for stage in sides}
        )
        self.pose = PoseLayers(self.add_layers(settings), settings)

    def add_layers(self, settings: HeadSettings) -> int:
        """Make the layers of `changed`; the width of what that gives."""
        return settings.width

    def changed(self, feature: Tensor) -> Tensor:
        """What comes between the feature [B, width] and the pose."""
        return feature

    def forward(self, features: Mapping[str, Tensor]) -> PoseOutput:
        """The pose and, in training, those of the auxiliary heads."""
        averaged = self.map_dropout(features[self.stages[-1]]).mean((2, 3))
        feature = self.changed(functional.relu(self.feature(averaged)))
        output: PoseOutput = self.pose(self.dropout(feature))
        if not self.training:
            return output
        sides = tuple(head(features[stage]) for stage, head in self.auxiliary.items())
        return output._replace(auxiliary=sides)


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


class LstmHead(PoseNetHead):
    """PoseLSTM (Walch et al., ICCV 2017): LSTMs shorten the feature in place of a wide layer."""

    def add_layers(self, settings: HeadSettings) -> int:
        """Make the LSTMs."""
        self.lstm = FourDirectionLstm(settings.width, settings.hidden)
        return 4 * settings.hidden

    def changed(self, feature: Tensor) -> Tensor:
        """The LSTMs' last states [B, 4 hidden]."""
        states: Tensor = self.lstm(feature)
        return states


class FourDirectionLstm(nn.Module):
    """A feature read as an image, in four directions (PoseLSTM, section 3.2).

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


class AttentionHead(PoseNetHead):
    """AtLoc (Wang et al., AAAI 2020): the feature attends to itself before the pose.

    With x the 2048-d feature and theta, phi, g linear maps to an eighth of it, equation 3:
    ``y = softmax(phi(x) theta(x)^T) g(x)``, an outer product, and ``W y + x`` goes on to the pose.
    """

    def add_layers(self, settings: HeadSettings) -> int:
        """Make the linear maps."""
        inner = max(1, settings.width // 8)
        self.theta = nn.Linear(settings.width, inner)
        self.phi = nn.Linear(settings.width, inner)
        self.value = nn.Linear(settings.width, inner)
        self.widen = nn.Linear(inner, settings.width)
        for layer in (self.theta, self.phi, self.value, self.widen):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        return settings.width

    def changed(self, feature: Tensor) -> Tensor:
        """The feature [B, width] and what it attends to."""
        similarity = self.phi(feature)[:, :, None] * self.theta(feature)[:, None, :]
        attended = (similarity.softmax(-1) @ self.value(feature)[:, :, None]).squeeze(-1)
        both: Tensor = self.widen(attended) + feature
        return both
