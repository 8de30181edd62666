"""Several processes that train one network, each on its share of every batch (``torchrun``).

Gradients are averaged after the backward pass in one message. That is what DistributedDataParallel
computes; it hides the message behind the backward pass, which pays for networks far larger than
these, and knows only calls of ``forward``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn

Made = TypeVar("Made")


@dataclass(frozen=True)
class Workers:
    """The processes of a training; without ``torchrun`` this one alone."""

    rank: int = 0  # of this process; 0 writes
    count: int = 1  # how many there are
    local_rank: int = 0  # of this process on its machine, the number of its GPU

    @classmethod
    def from_environment(cls) -> Workers:
        """As ``torchrun`` started this process, or alone."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        rank, count, local = (int(os.environ[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(rank, count, local)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def share_of(self, rows: NDArray[np.int64], *, whole: int = 1) -> NDArray[np.int64]:
        """This process's part of a batch: parts are of equal size, so that means agree.

        Args:
            rows: of the batch.
            whole: how many belong together.
        """
        if self.count == 1:
            return rows
        size = max(1, len(rows) // (self.count * whole)) * whole
        start = min(self.rank * size, len(rows) - size)
        return rows[start : start + size]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def agree(self, numbers: list[float], device: torch.device) -> list[float]:
        """The first process's numbers."""
        if self.count == 1:
            return numbers
        tensor = torch.tensor(numbers, dtype=torch.float64, device=device)
        distributed.broadcast(tensor, src=0)
        return [float(number) for number in tensor]

    def same_state(self, module: nn.Module) -> None:
        """Give every process the first one's weights and buffers."""
        if self.count == 1:
            return
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, src=0)

    def leader_first(self, make: Callable[[], Made]) -> Made:
        """What ``make`` gives: the first process prepares it on disk, the others find it there."""
        if not self.leads:
            distributed.barrier()
        made = make()
        if self.leads and self.count > 1:
            distributed.barrier()
        return made
