"""Principal channels of a feature map: the few directions that hold most of what varies.

A frozen backbone's channels repeat each other; kept as they are, the features of ten copies of
each frame of a building do not fit on a disk.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import Self

from relocalize.errors import LocalizerError


class ChannelReduction(nn.Module):
    """A feature map's channels relative to their mean, along fixed directions (PCA).

    Attributes:
        mean: [C] mean of the channels.
        basis: [c, C] orthonormal rows, from the largest variance down.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, channels: int, kept: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("basis", torch.eye(kept, channels))

    @classmethod
    def of(cls, mean: Tensor, basis: Tensor) -> Self:
        """With this mean [C] and basis [c, C]."""
        reduction = cls(len(mean), len(basis))
        reduction.load_state_dict({"mean": mean, "basis": basis})
        return reduction

    def forward(self, features: Tensor) -> Tensor:
        """Maps [B, c, H, W] of maps [B, C, H, W], in float32 as kept features are."""
        with torch.autocast(features.device.type, enabled=False):
            offset = self.basis @ self.mean
            return nn.functional.conv2d(features.float(), self.basis[:, :, None, None], -offset)


class ChannelStatistics:
    """The mean and covariance of channels, gathered batch by batch."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sum = torch.zeros(channels, dtype=torch.float64)
        self._products = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, maps: Tensor) -> None:
        """Take in maps [B, C, H, W]; every cell counts as one sample."""
        cells = maps.detach().float().movedim(1, -1).reshape(-1, maps.shape[1]).cpu()
        self._count += len(cells)
        self._sum += cells.sum(0, dtype=torch.float64)
        self._products += (cells.T @ cells).double()

    def principal(self, kept: int) -> ChannelReduction:
        """The reduction to the ``kept`` directions of largest variance.

        Raises:
            LocalizerError: too few cells were taken in, or they are not finite.
        """
        if self._count < 2 or not bool(torch.isfinite(self._products).all()):
            raise LocalizerError(
                f"no principal channels of {self._count} cells; "
                "are the backbone's weights and the images whole?"
            )
        mean = self._sum / self._count
        covariance = self._products / self._count - torch.outer(mean, mean)
        basis = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :kept].T.contiguous()
        # An eigenvector and its opposite are the same direction: one of them, always.
        largest = basis.abs().argmax(1, keepdim=True)
        basis = basis * basis.gather(1, largest).sign()
        return ChannelReduction.of(mean.float(), basis.float())
