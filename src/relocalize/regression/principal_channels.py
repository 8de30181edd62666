"""Principal channels of a feature map: the few directions that hold most of what varies.

A frozen backbone's channels repeat each other; kept as they are, the features of ten copies of
each frame of a building do not fit on a disk.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from relocalize.errors import LocalizerError
from relocalize.place import atomic

_LEAST_SHARE = 1e-6  # of the largest variance; less is rounding, and is not magnified


@dataclass(frozen=True, eq=False)
class PrincipalChannels:
    """A change of channels: ``basis @ (features - mean)``.

    Attributes:
        mean: [C] of the channels.
        basis: [c, C] rows from the largest variance down: orthonormal, or, whitened, scaled so
            that each new channel has variance 1.
        share: of the variance that is kept, 0 to 1.
    """

    mean: Tensor
    basis: Tensor
    share: float

    def of(self, maps: Tensor) -> Tensor:
        """Maps [B, c, H, W] of maps [B, C, H, W]."""
        offset = self.basis @ self.mean
        return torch.nn.functional.conv2d(maps, self.basis[:, :, None, None], -offset)


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

    def principal(self, kept: int, *, whiten: bool = False) -> PrincipalChannels:
        """The ``kept`` directions of largest variance (PCA).

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
        variances, directions = torch.linalg.eigh(covariance)
        variances = variances.flip(0).clamp(min=0)
        basis = directions.flip(1)[:, :kept].T.contiguous()
        # An eigenvector and its opposite are the same direction: one of them, always.
        largest = basis.abs().argmax(1, keepdim=True)
        basis = basis * basis.gather(1, largest).sign()
        if whiten:
            floor = max(float(variances[0]) * _LEAST_SHARE, 1e-30)
            basis = basis / variances[: len(basis)].clamp(min=floor).sqrt()[:, None]
        share = float(variances[: len(basis)].sum() / variances.sum().clamp(min=1e-30))
        return PrincipalChannels(mean.float(), basis.float(), share)


def write_principal(path: Path, principal: Mapping[str, PrincipalChannels]) -> None:
    """Keep the principal channels of each stage in one file."""
    arrays = {}
    for stage, channels in principal.items():
        arrays[f"{stage}.mean"] = channels.mean.numpy()
        arrays[f"{stage}.basis"] = channels.basis.numpy()
        arrays[f"{stage}.share"] = np.array(channels.share)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    atomic.write_bytes(path, buffer.getvalue())


def read_principal(path: Path, stages: tuple[str, ...]) -> dict[str, PrincipalChannels] | None:
    """What `write_principal` wrote for ``stages``, or None where it is not whole."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {
                stage: PrincipalChannels(
                    torch.from_numpy(arrays[f"{stage}.mean"]),
                    torch.from_numpy(arrays[f"{stage}.basis"]),
                    float(arrays[f"{stage}.share"]),
                )
                for stage in stages
            }
    except Exception:  # whatever is wrong with it, it can be made again
        return None
