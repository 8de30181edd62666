"""The learning rate as a function of how much of a run is over."""

from __future__ import annotations

import math
from dataclasses import dataclass

from relocalize.errors import LocalizerError
from relocalize.regression.settings import OptimizerSettings

# A run whose preparation took most of its minutes still trains for this share of them.
_LEAST_SHARE = 0.25
_FIRST_STEP = 1e-3  # of the run: where warming up begins, so that the first step is one


def learning_rate(settings: OptimizerSettings, share: float) -> float:
    """The learning rate once a ``share`` of the run, 0 to 1, is over.

    ``step`` multiplies it by the factor at every step (the founding rule halves it at every third
    of the run); ``cosine`` takes it to 0 (Loshchilov and Hutter 2017, "SGDR", equation 5 without
    restarts); over the warm-up it rises in proportion.
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


@dataclass(frozen=True)
class RunLength:
    """How long a run is: epochs, or minutes where those are over first.

    Time counts while the run is at work: from the start of its preparation (caching included),
    and after a kill on from the checkpoint that it resumes, so that neither the pause nor the
    work that was lost is taken off the budget.

    Attributes:
        epochs: passes over the train images.
        minutes: of the whole run, preparation included; None sets no bound.
        preparation: seconds before the first batch.
    """

    epochs: int
    minutes: float | None = None
    preparation: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or (self.minutes is not None and not self.minutes > 0):
            raise LocalizerError(
                f"a run of {self.epochs} epochs and {self.minutes} minutes; want more than 0"
            )

    @property
    def training_seconds(self) -> float | None:
        """What `minutes` leaves to training, or None."""
        if self.minutes is None:
            return None
        return max(60 * self.minutes - self.preparation, _LEAST_SHARE * 60 * self.minutes)

    def share(self, epochs: float, seconds: float) -> float:
        """How much of the run is over, 0 to 1, after ``epochs`` in ``seconds`` of training."""
        bound = self.training_seconds
        of_time = 0.0 if bound is None else seconds / bound
        return min(1.0, max(epochs / self.epochs, of_time))
