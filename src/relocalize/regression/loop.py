"""The training loop: steps, epochs, checkpoints, the choice of the epoch, and when to stop.

It knows nothing of cameras or networks: a `Task` gives it losses and judges its epochs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from relocalize import progress
from relocalize.errors import DivergenceError
from relocalize.regression.averaging import WeightAverage
from relocalize.regression.checkpoint import (
    CHECKPOINT,
    Interruption,
    interruptible,
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)
from relocalize.regression.device import Device
from relocalize.regression.distributed import Workers
from relocalize.regression.schedule import RunLength, learning_rate
from relocalize.regression.settings import OptimizerSettings
from relocalize.regression.training_log import TrainingLog

Rows = NDArray[np.int64]
# A constant answer has a validation score of 1. A run whose score is this many times worse than
# that and than its own best, three epochs in a row, has diverged; a single bad epoch is common
# with high learning rates, and slow starters begin far off.
_DIVERGED_SCORE = 10.0
_DIVERGED_EPOCHS = 3
_SAID_EVERY = 15.0  # seconds between two lines on how validation goes


@dataclass(frozen=True)
class Judgement:
    """How a network does on the validation images, in evaluation mode.

    Attributes:
        position: median distance of camera centres, in the Place's unit.
        rotation_deg: median angle.
        score: what the epoch is chosen by, the lower the better; a constant answer has about 1.
    """

    position: float
    rotation_deg: float
    score: float


class Task(Protocol):
    """What is trained.

    Attributes:
        module: everything with weights, the loss's included.
        unit: of positions.
    """

    module: nn.Module
    unit: str

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimizer is to change, as torch's groups; ``lr`` is a share of the rate."""
        ...

    def batches(self, epoch: int) -> Sequence[Rows]:
        """The rows of each batch, the same for the same epoch whenever it is asked."""
        ...

    def loss(self, epoch: int, number: int, share: float) -> torch.Tensor:
        """The mean loss of batch ``number`` of an epoch, once a ``share`` of the run is over."""
        ...

    def judge(self) -> Judgement:
        """How the network does on the validation images."""
        ...


@dataclass(eq=False)
class RunState:
    """Where a run is.

    Attributes:
        epoch: that is under way, from 1.
        batch: of it that comes next, from 0.
        seconds: of training so far.
        loss_sum: of the images of this epoch so far.
        images: of this epoch so far.
        epoch_seconds: of this epoch so far.
        bad_epochs: in a row that look like divergence.
        best: the epoch chosen so far, or None.
        best_weights: of that epoch, by name.
    """

    epoch: int = 1
    batch: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    images: int = 0
    epoch_seconds: float = 0.0
    bad_epochs: int = 0
    best: dict[str, float] | None = None
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RunResult:
    """What a run ended with; the task's module has the weights of the chosen epoch.

    Attributes:
        epochs: that were begun.
        best_epoch: the chosen one.
        validation: of the chosen epoch.
        seconds: of training, those before a kill included, those lost in one not.
        stopped: why it ended early, or None.
    """

    epochs: int
    best_epoch: int
    validation: Judgement
    seconds: float
    stopped: str | None


def run(
    task: Task,
    settings: OptimizerSettings,
    length: RunLength,
    device: Device,
    folder: Path,
    *,
    key: str,
    checkpoint_minutes: float = 2.0,
    workers: Workers = Workers(),
) -> RunResult:
    """Train, or go on where a killed run of the same ``key`` left its checkpoint in ``folder``.

    The loss is averaged over images, the learning rate set before every step, and each epoch
    judged on validation images with averaged weights where there are such. What a run draws at
    random depends on the epoch alone or is in the checkpoint, so that a run that was killed ends
    with the weights of one that was not (with ``length.minutes`` the clock decides too).

    Raises:
        DivergenceError: the loss is not finite, or grows without end, before any good epoch.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    trainer = _Trainer(task, settings, length, device, workers)
    path = folder / CHECKPOINT
    stored = load_checkpoint(path, key)
    if stored is not None:
        trainer.restore(stored)
        state = trainer.state
        progress.say(f"going on at epoch {state.epoch}, after {state.seconds:.0f} s of training")
    workers.same_state(task.module)
    log = TrainingLog(folder, epochs_done=trainer.state.epoch - 1) if workers.leads else None
    try:
        with (
            interruptible(checkpoint_minutes) as interruption,
            _RunBar.shown(trainer, length) as bar,
        ):
            for row in trainer.epochs(path if workers.leads else None, key, interruption, bar):
                if log is not None:
                    log.add(row)
    finally:
        if log is not None:
            log.close()
    return trainer.finish()


class _RunBar:
    """Progress in images, or in seconds where those bound the run."""

    def __init__(self, bar: progress.Bar, *, in_seconds: bool) -> None:
        self._bar, self._in_seconds = bar, in_seconds
        self._done = 0

    @classmethod
    @contextmanager
    def shown(cls, trainer: _Trainer, length: RunLength) -> Iterator[_RunBar]:
        """The bar of a run, from where it is."""
        seconds = length.training_seconds
        per_epoch = sum(len(rows) for rows in trainer.task.batches(1))
        total = per_epoch * length.epochs if seconds is None else math.ceil(seconds)
        unit = "images" if seconds is None else "s"
        with progress.bar("training", total, unit) as bar:
            running = cls(bar, in_seconds=seconds is not None)
            state = trainer.state
            running.at((state.epoch - 1) * per_epoch + state.images, state.seconds)
            yield running

    def at(self, images: int, seconds: float) -> None:
        """So far this many images of the run were seen, in so many seconds."""
        done = int(seconds) if self._in_seconds else images
        self._bar.advance(done - self._done)
        self._done = done


class _Trainer:
    """A run under way."""

    def __init__(
        self,
        task: Task,
        settings: OptimizerSettings,
        length: RunLength,
        device: Device,
        workers: Workers,
    ) -> None:
        self.task, self.settings, self.length = task, settings, length
        self.device, self.workers = device, workers
        self.state = RunState()
        groups = task.parameter_groups()
        self._rate_shares = [float(group.pop("lr", 1.0)) for group in groups]
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._optimizer = _make_optimizer(settings, groups)
        self._average = WeightAverage(task.module, settings.ema) if settings.ema else None
        self._stopped: str | None = None
        self._said = time.monotonic()

    # -- epochs and steps ------------------------------------------------------------------

    def epochs(
        self, path: Path | None, key: str, interruption: Interruption, bar: _RunBar
    ) -> Iterator[dict[str, Any]]:
        """Train; yields what the log says of each epoch as it ends."""
        state = self.state
        while state.epoch <= self.length.epochs and self._stopped is None:
            batches = self.task.batches(state.epoch)
            before = (state.epoch - 1) * sum(len(rows) for rows in batches)
            over = state.images > 0 and self._share(len(batches)) >= 1.0
            while state.batch < len(batches) and not over and self._stopped is None:
                self._step(len(batches[state.batch]), len(batches))
                over = self._share(len(batches)) >= 1.0
                bar.at(before + state.images, state.seconds)
                if interruption.due and path is not None:
                    save_checkpoint(path, key, self.to_state())
                    interruption.saved()
            if state.images:
                yield self._end_epoch()
            if over:
                return

    def _share(self, batches: int) -> float:
        epochs = self.state.epoch - 1 + self.state.batch / batches
        (seconds,) = self.workers.agree([self.state.seconds], self.device.torch_device)
        return self.length.share(epochs, seconds)

    def _step(self, images: int, batches: int) -> None:
        state, started = self.state, time.perf_counter()
        share = self._share(batches)
        rate = learning_rate(self.settings, share)
        for group, part in zip(self._optimizer.param_groups, self._rate_shares, strict=True):
            group["lr"] = rate * part
        self.task.module.train()
        loss = self.task.loss(state.epoch, state.batch, share)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([loss])
        self.workers.average_gradients(self._parameters)
        length = nn.utils.clip_grad_norm_(self._parameters, self.settings.clip or math.inf)
        value, norm = self.workers.agree(
            [float(loss.detach()), float(length)], self.device.torch_device
        )
        if not (math.isfinite(value) and math.isfinite(norm)):
            what = "the loss" if not math.isfinite(value) else "its gradient"
            self._stopped = (
                f"{what} is not finite in epoch {state.epoch} at learning rate {rate:.2g}"
            )
            return
        self._optimizer.step()
        if self._average is not None:
            self._average.update()
        state.batch += 1
        state.loss_sum += value * images
        state.images += images
        self._count_time(started)

    def _count_time(self, started: float) -> None:
        seconds = time.perf_counter() - started
        self.state.seconds += seconds
        self.state.epoch_seconds += seconds

    def _end_epoch(self) -> dict[str, Any]:
        state, started = self.state, time.perf_counter()
        training_seconds = state.epoch_seconds
        judgement = self._judge()
        usual = math.inf if state.best is None else max(1.0, state.best["score"])
        if not math.isfinite(judgement.score) or judgement.score > _DIVERGED_SCORE * usual:
            state.bad_epochs += 1
        else:
            state.bad_epochs = 0
        if state.bad_epochs >= _DIVERGED_EPOCHS and self._stopped is None:
            self._stopped = (
                f"it diverged: for {state.bad_epochs} epochs validation is far worse than before, "
                f"now {judgement.score:.3g} times as bad as a constant answer"
            )
        is_best = math.isfinite(judgement.score) and (
            state.best is None or judgement.score < state.best["score"]
        )
        if is_best:
            state.best = {
                "epoch": float(state.epoch),
                "position": judgement.position,
                "rotation_deg": judgement.rotation_deg,
                "score": judgement.score,
            }
            state.best_weights = self._weights()
        self._count_time(started)
        row = {
            "epoch": state.epoch,
            "train_loss": state.loss_sum / max(1, state.images),
            "validation_position": judgement.position,
            "validation_rotation_deg": judgement.rotation_deg,
            "validation_score": judgement.score,
            "best": is_best,
            "learning_rate": float(self._optimizer.param_groups[0]["lr"]),
            "images_per_second": state.images / max(training_seconds, 1e-9),
            "epoch_seconds": state.epoch_seconds,
            "seconds": state.seconds,
        }
        self._say(row)
        state.epoch, state.batch = state.epoch + 1, 0
        state.loss_sum, state.images, state.epoch_seconds = 0.0, 0, 0.0
        return row

    def _say(self, row: dict[str, Any]) -> None:
        if not self.workers.leads or time.monotonic() - self._said < _SAID_EVERY:
            return
        self._said = time.monotonic()
        best = self.state.best
        progress.say(
            f"epoch {row['epoch']}: train loss {row['train_loss']:.3f} | validation "
            f"{row['validation_position']:.3f} {self.task.unit}, "
            f"{row['validation_rotation_deg']:.2f} deg"
            + (f" (best in epoch {best['epoch']:.0f})" if best is not None else "")
            + f" | {row['images_per_second']:.0f} images/s"
        )

    def _judge(self) -> Judgement:
        self.workers.same_state(self.task.module)
        if not self.workers.leads:
            numbers = [0.0, 0.0, 0.0]
        else:
            judgement = self._judged_here()
            numbers = [judgement.position, judgement.rotation_deg, judgement.score]
        return Judgement(*self.workers.agree(numbers, self.device.torch_device))

    def _judged_here(self) -> Judgement:
        self.task.module.eval()
        with torch.no_grad():
            if self._average is None:
                return self.task.judge()
            with self._average.applied():
                return self.task.judge()

    # -- state -----------------------------------------------------------------------------

    def _weights(self) -> dict[str, torch.Tensor]:
        """What is to be kept of an epoch: averaged weights and buffers; not what is frozen."""
        weights = _moving_state(self.task.module)
        average = {} if self._average is None else self._average.average
        return {**weights, **{name: value.cpu().clone() for name, value in average.items()}}

    def to_state(self) -> dict[str, Any]:
        """All of the run."""
        average = self._average
        return {
            "run": dict(vars(self.state)),
            "module": _moving_state(self.task.module),
            "optimizer": self._optimizer.state_dict(),
            "average": None
            if average is None
            else {"steps": average.steps, "weights": average.average},
            "random": random_state(self.device.torch_device),
        }

    def restore(self, stored: dict[str, Any]) -> None:
        """Go on with what `to_state` gave."""
        self.state = RunState(**stored["run"])
        self.task.module.load_state_dict(stored["module"], strict=False)
        self._optimizer.load_state_dict(stored["optimizer"])
        if self._average is not None and stored["average"] is not None:
            self._average.steps = stored["average"]["steps"]
            for name, value in stored["average"]["weights"].items():
                self._average.average[name].copy_(value)
        set_random_state(stored["random"], self.device.torch_device)

    def finish(self) -> RunResult:
        """Put the chosen epoch's weights into the module."""
        state = self.state
        if state.best is None or (self._stopped and state.best["score"] > 1.0):
            raise DivergenceError(
                f"training stopped: {self._stopped or 'no epoch was finished'}; lower "
                "--optimizer.learning-rate, or set --optimizer.clip 1"
            )
        self.task.module.load_state_dict(state.best_weights, strict=False)
        self.task.module.eval()
        if self._stopped and self.workers.leads:
            progress.say(f"training stopped early: {self._stopped}; the best epoch before is kept")
        best = state.best
        if best["score"] > 1.0 and self.workers.leads:
            progress.say(
                f"this regressor does no better than a constant answer on validation images "
                f"({best['score']:.2f} times its error); train it for longer"
            )
        return RunResult(
            epochs=state.epoch - 1,
            best_epoch=int(best["epoch"]),
            validation=Judgement(best["position"], best["rotation_deg"], best["score"]),
            seconds=state.seconds,
            stopped=self._stopped,
        )


def _moving_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """A copy, on the processor, of the state of a module without its frozen weights."""
    frozen = {name for name, value in module.named_parameters() if not value.requires_grad}
    return {
        name: value.detach().cpu().clone()
        for name, value in module.state_dict().items()
        if name not in frozen
    }


def _make_optimizer(
    settings: OptimizerSettings, groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum, weight_decay=decay)
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(
        groups, lr=rate, betas=(settings.momentum, 0.999), eps=settings.eps, weight_decay=decay
    )
