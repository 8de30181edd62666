"""How weights change in a training: the optimizer, its learning rate, and their moving average."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from relocalize.regression.settings import OptimizerSettings

_FIRST_STEP = 1e-3  # of the run: where warming up begins, so that the first step is one


def make_optimizer(
    settings: OptimizerSettings, groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    """The optimizer of ``settings`` for torch's parameter groups."""
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum, weight_decay=decay)
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(
        groups, lr=rate, betas=(settings.momentum, 0.999), eps=settings.eps, weight_decay=decay
    )


def learning_rate(settings: OptimizerSettings, share: float) -> float:
    """The learning rate once a ``share`` of the run, 0 to 1, is over.

    Torch's schedulers count steps, and a run may be bounded by minutes. ``step`` multiplies it by
    the factor at every step (the founding rule halves it at every third of the run); ``cosine``
    takes it to 0 (Loshchilov and Hutter 2017, "SGDR", equation 5 without restarts); over the
    warm-up it rises in proportion.
    """
    share = min(max(share, 0.0), 1.0)
    factor = 1.0
    if settings.schedule == "step":
        # At the very end no further step is due, and a third of 3 epochs is 1 despite rounding.
        steps = math.floor(min(share, 1 - 1e-9) / settings.step_share + 1e-9)
        factor = settings.step_factor**steps
    elif settings.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * share))
    if share < settings.warm_up:
        factor *= (share + _FIRST_STEP) / (settings.warm_up + _FIRST_STEP)
    return settings.learning_rate * factor


class WeightAverage:
    """A moving average of the trained weights (EMA): often the better network.

    ``average = decay * average + (1 - decay) * weights`` after every step. Early on the decay is
    less, (1 + steps) / (10 + steps), so that the start is forgotten, which torch's AveragedModel
    does not do.

    Attributes:
        steps: how many were averaged.
        average: by the name of each trained parameter.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._weights = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._decay = decay
        self.steps = 0
        self.average = {name: value.detach().clone() for name, value in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, value in self._weights.items():
            self.average[name].lerp_(value, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the module has the averaged weights."""
        before = {name: value.detach().clone() for name, value in self._weights.items()}
        self._set(self.average)
        try:
            yield
        finally:
            self._set(before)

    @torch.no_grad()
    def _set(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in self._weights.items():
            value.copy_(values[name])

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"steps": self.steps, "weights": self.average}

    def restore(self, stored: dict[str, Any]) -> None:
        """Resume from what `state` gave."""
        self.steps = stored["steps"]
        for name, value in stored["weights"].items():
            self.average[name].copy_(value)
