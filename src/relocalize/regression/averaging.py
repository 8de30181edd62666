"""A moving average of a network's weights over its training (EMA): often the better network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class WeightAverage:
    """``average = decay * average + (1 - decay) * weights`` after every step.

    Early on the decay is less, (1 + steps) / (10 + steps), so that the start is forgotten.

    Attributes:
        steps: how many were averaged.
        average: by the name of each trained parameter.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module = module
        self._decay = decay
        self.steps = 0
        self.average = {name: value.detach().clone() for name, value in self._trained()}

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self._module.named_parameters() if p.requires_grad)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, value in self._trained():
            self.average[name].lerp_(value, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the module has the averaged weights."""
        with torch.no_grad():
            before = {name: value.detach().clone() for name, value in self._trained()}
            for name, value in self._trained():
                value.copy_(self.average[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._trained():
                    value.copy_(before[name])
