"""The training loop: steps, epochs, checkpoints, the choice of the epoch, and when to stop.

It knows nothing of cameras or networks: a `Task` gives it losses and judges its epochs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from relocalize import progress
from relocalize.errors import DivergenceError
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
from relocalize.regression.optimizer import WeightAverage, learning_rate, make_optimizer
from relocalize.regression.settings import OptimizerSettings
from relocalize.regression.time_blocks import Rows
from relocalize.regression.training_log import TrainingLog

# A constant answer has a validation score of 1. A run whose score is this many times worse than
# that and than its own best, three times in a row and over this share of the run, has diverged. A
# single bad epoch is common with high learning rates, slow starters begin far off, and over the
# first share, or while the rate still rises, nothing is said of a run.
_DIVERGED_SCORE = 10.0
_DIVERGED_JUDGEMENTS = 3
_DIVERGED_SHARE = 0.05
_STARTING_SHARE = 0.1
# One that has diverged goes on from its best state at this share of the learning rate, and is given
# up when it has diverged once more than so often.
_RESTART_RATE = 0.3
_MOST_RESTARTS = 3
# Scores this much apart are equal, of few validation images, and the later epoch the calmer.
_AS_GOOD = 1.02
# Of the run, from one look at the validation images to the next: few images make short epochs.
_JUDGED_SHARE = 1 / 200
_ROUNDING = 1e-9
_SAID_EVERY = 15.0  # seconds between two lines on how validation goes
# A run whose preparation took most of its minutes still trains for this share of them.
_LEAST_SHARE = 0.25


@dataclass(frozen=True)
class Judgement:
    """How a network does on the validation images, in evaluation mode."""

    position: float  # median distance of camera centres, in the Place's unit
    rotation_deg: float  # median angle
    score: float  # what the epoch is chosen by, the lower the better; a constant answer has about 1


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


@dataclass(frozen=True)
class RunLength:
    """How long a run is: epochs, or minutes where those are over first.

    Time counts while the run is at work: from the start of its preparation (caching included),
    and after a kill on from the checkpoint that it resumes, so that neither the pause nor the
    work that was lost is taken off the budget.
    """

    epochs: int  # passes over the train images
    minutes: float | None = None  # of the whole run, preparation included; None sets no bound
    preparation: float = 0.0  # seconds before the first batch

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


@dataclass(frozen=True)
class RunPlan:
    """How a task is trained."""

    optimizer: OptimizerSettings  # and its learning rate
    length: RunLength  # of the run
    device: Device  # that the task's module is on
    folder: Path  # for the checkpoint and the log
    key: str  # of everything that the result depends on; a checkpoint of another is not resumed
    checkpoint_minutes: float = 2.0  # from one checkpoint to the next
    workers: Workers = Workers()  # the processes that train together


@dataclass(eq=False)
class RunState:
    """Where a run is."""

    epoch: int = 1  # that is under way, from 1
    batch: int = 0  # of it that comes next, from 0
    seconds: float = 0.0  # of training so far
    loss_sum: float = 0.0  # of the images since the last judgement
    images: int = 0  # since then
    epoch_seconds: float = 0.0  # since then
    judged_share: float = 0.0  # of the run that was over when validation images were last looked at
    judged_epoch: int = 0  # after which that was
    bad: int = 0  # judgements in a row that look like divergence
    bad_since: float = 0.0  # share of the run that was over at the first of them
    restarts: int = 0  # from the best state, at a lower learning rate
    trouble: str | None = None  # why it was restarted last
    best: dict[str, float] | None = None  # the epoch chosen so far, or None
    # of that epoch, by name; before there is one, those that the run began with
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RunResult:
    """What a run ended with; the task's module has the weights of the chosen epoch."""

    epochs: int  # that were begun
    best_epoch: int  # the chosen one
    seconds: float  # of training, those before a kill included, those lost in one not
    stopped: str | None  # why it ended early, or None
    restarts: int  # from the best state at a lower learning rate, after it had diverged


def run(task: Task, plan: RunPlan) -> RunResult:
    """Train, or resume where a killed run of the same key left its checkpoint.

    The loss is averaged over images, the learning rate set before every step, and epochs are
    judged on validation images (of very short ones not each), with averaged weights where there
    are such. One that diverges goes on from its best state at a lower learning rate. What a run
    draws at random depends on the epoch alone or is in the checkpoint, so that a run that was
    killed ends with the weights of one that was not (with a bound of minutes the clock decides
    too).

    Raises:
        DivergenceError: the loss is not finite, or grows without end, before any good epoch and
            after every restart.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    trainer = _Trainer(task, plan)
    stored = load_checkpoint(plan.folder / CHECKPOINT, plan.key)
    if stored is not None:
        trainer.restore(stored)
        state = trainer.state
        progress.say(f"resuming at epoch {state.epoch}, after {state.seconds:.0f} s of training")
    plan.workers.same_state(task.module)
    log = None
    if plan.workers.leads:
        log = TrainingLog(plan.folder, epochs_done=trainer.state.epoch - 1)
    try:
        with interruptible(plan.checkpoint_minutes) as interruption, trainer.bar() as bar:
            for row in trainer.epochs(interruption, bar):
                if log is not None:
                    log.add(row)
    finally:
        if log is not None:
            log.close()
    return trainer.finish()


class _Trainer:
    """A run under way."""

    def __init__(self, task: Task, plan: RunPlan) -> None:
        self.task, self.plan = task, plan
        self.state = RunState()
        self._begin_steps()
        self.state.best_weights = self._weights()
        self._images_per_epoch = sum(len(rows) for rows in task.batches(1))
        self._stopped: str | None = None
        self._said = time.monotonic()
        self._shown = 0

    def _begin_steps(self) -> None:
        """An optimizer, and averaged weights, that know of no step yet."""
        groups = self.task.parameter_groups()
        self._rate_shares = [float(group.pop("lr", 1.0)) for group in groups]
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._optimizer = make_optimizer(self.plan.optimizer, groups)
        decay = self.plan.optimizer.ema
        self._average = WeightAverage(self.task.module, decay) if decay else None

    def bar(self) -> AbstractContextManager[progress.Bar]:
        """Progress in images, or in seconds where those bound the run."""
        seconds = self.plan.length.training_seconds
        if seconds is None:
            return progress.bar("training", self._images_per_epoch * self.plan.length.epochs)
        return progress.bar("training", math.ceil(seconds), "s")

    def _show(self, bar: progress.Bar, batches: int) -> None:
        state = self.state
        done = round((state.epoch - 1 + state.batch / batches) * self._images_per_epoch)
        if self.plan.length.training_seconds is not None:
            done = int(state.seconds)
        bar.advance(done - self._shown)
        self._shown = done

    # -- epochs and steps ------------------------------------------------------------------

    def epochs(self, interruption: Interruption, bar: progress.Bar) -> Iterator[dict[str, Any]]:
        """Train; yields what the log says of each epoch that is judged, as it ends."""
        state, plan = self.state, self.plan
        over = False
        while not over and self._stopped is None:
            batches = self.task.batches(state.epoch)
            over = state.images > 0 and self._share(len(batches)) >= 1.0
            while state.batch < len(batches) and not over and self._stopped is None:
                self._step(len(batches[state.batch]), len(batches))
                over = self._share(len(batches)) >= 1.0
                self._show(bar, len(batches))
                if interruption.due and plan.workers.leads:
                    save_checkpoint(plan.folder / CHECKPOINT, plan.key, self.to_state())
                    interruption.saved()
            share = self._share(len(batches))
            over = over or state.epoch >= plan.length.epochs
            due = share - state.judged_share >= _JUDGED_SHARE - _ROUNDING
            if state.images and (over or due or self._stopped is not None):
                yield self._judged_epoch(share)
            state.epoch, state.batch = state.epoch + 1, 0

    def _share(self, batches: int) -> float:
        epochs = self.state.epoch - 1 + self.state.batch / batches
        (seconds,) = self._agreed(self.state.seconds)
        return self.plan.length.share(epochs, seconds)

    def _agreed(self, *numbers: float) -> list[float]:
        """The first process's numbers."""
        return self.plan.workers.agree(list(numbers), self.plan.device.torch_device)

    def _step(self, images: int, batches: int) -> None:
        state, plan, started = self.state, self.plan, time.perf_counter()
        share = self._share(batches)
        rate = learning_rate(plan.optimizer, share) * _RESTART_RATE**state.restarts
        for group, part in zip(self._optimizer.param_groups, self._rate_shares, strict=True):
            group["lr"] = rate * part
        self.task.module.train()
        loss = self.task.loss(state.epoch, state.batch, share)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([loss])
        plan.workers.average_gradients(self._parameters)
        length = nn.utils.clip_grad_norm_(self._parameters, plan.optimizer.clip or math.inf)
        value, norm = self._agreed(float(loss.detach()), float(length))
        if not (math.isfinite(value) and math.isfinite(norm)):
            what = "the loss" if not math.isfinite(value) else "its gradient"
            self._restart_or_stop(
                f"{what} is not finite in epoch {state.epoch} at learning rate {rate:.2g}"
            )
            state.batch += 1
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

    def _judged_epoch(self, share: float) -> dict[str, Any]:
        state, started = self.state, time.perf_counter()
        training_seconds = state.epoch_seconds
        judgement = self._judge()
        state.judged_share = share
        least = math.inf if state.best is None else state.best["least"]
        is_best = math.isfinite(judgement.score) and judgement.score <= _AS_GOOD * least
        if is_best:
            least = min(least, judgement.score)
            state.best = {"epoch": float(state.epoch), "least": least, **asdict(judgement)}
            state.best_weights = self._weights()
        learning = float(self._optimizer.param_groups[0]["lr"])
        self._look_for_divergence(judgement.score, share)
        self._count_time(started)
        row = {
            "epoch": state.epoch,
            "train_loss": state.loss_sum / max(1, state.images),
            "validation_position": judgement.position,
            "validation_rotation_deg": judgement.rotation_deg,
            "validation_score": judgement.score,
            "best": is_best,
            "learning_rate": learning,
            "images_per_second": state.images / max(training_seconds, 1e-9),
            "epoch_seconds": state.epoch_seconds / (state.epoch - state.judged_epoch),
            "seconds": state.seconds,
        }
        self._say(row)
        state.loss_sum, state.images, state.epoch_seconds = 0.0, 0, 0.0
        state.judged_epoch = state.epoch
        return row

    def _look_for_divergence(self, score: float, share: float) -> None:
        state = self.state
        if share <= max(_STARTING_SHARE, self.plan.optimizer.warm_up):
            return
        usual = math.inf if state.best is None else max(1.0, state.best["score"])
        if math.isfinite(score) and score <= _DIVERGED_SCORE * usual:
            state.bad = 0
            return
        state.bad_since = state.bad_since if state.bad else share
        state.bad += 1
        if state.bad >= _DIVERGED_JUDGEMENTS and share - state.bad_since >= _DIVERGED_SHARE:
            self._restart_or_stop(
                f"it diverged: over {share - state.bad_since:.0%} of the run validation is far "
                f"worse than before, now {score:.3g} times as bad as a constant answer"
            )

    def _restart_or_stop(self, why: str) -> None:
        """Go on from the best state at a lower learning rate, unless that was of no help before."""
        state = self.state
        state.trouble = why
        if state.restarts >= _MOST_RESTARTS:
            self._stopped = why
            return
        state.restarts, state.bad = state.restarts + 1, 0
        self.task.module.load_state_dict(state.best_weights, strict=False)
        self._begin_steps()
        if self.plan.workers.leads:
            at = "the start" if state.best is None else f"epoch {state.best['epoch']:.0f}"
            progress.say(
                f"training goes on from {at} at {_RESTART_RATE**state.restarts:.2g} of the "
                f"learning rate: {why}"
            )

    def _say(self, row: dict[str, Any]) -> None:
        if not self.plan.workers.leads or time.monotonic() - self._said < _SAID_EVERY:
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
        """Of the first process's network, averaged weights included."""
        self.plan.workers.same_state(self.task.module)
        judgement = Judgement(0.0, 0.0, 0.0)
        if self.plan.workers.leads:
            self.task.module.eval()
            average = nullcontext() if self._average is None else self._average.applied()
            with torch.no_grad(), average:
                judgement = self.task.judge()
        return Judgement(*self._agreed(*astuple(judgement)))

    # -- state -----------------------------------------------------------------------------

    def _weights(self) -> dict[str, torch.Tensor]:
        """What is to be kept of an epoch: averaged weights and buffers; not what is frozen."""
        weights = _moving_state(self.task.module)
        average = {} if self._average is None else self._average.average
        return {**weights, **{name: value.cpu().clone() for name, value in average.items()}}

    def to_state(self) -> dict[str, Any]:
        """All of the run."""
        return {
            "run": dict(vars(self.state)),
            "module": _moving_state(self.task.module),
            "optimizer": self._optimizer.state_dict(),
            "average": None if self._average is None else self._average.state(),
            "random": random_state(self.plan.device.torch_device),
        }

    def restore(self, stored: dict[str, Any]) -> None:
        """Resume from what `to_state` gave."""
        self.state = RunState(**stored["run"])
        self.task.module.load_state_dict(stored["module"], strict=False)
        self._optimizer.load_state_dict(stored["optimizer"])
        if self._average is not None and stored["average"] is not None:
            self._average.restore(stored["average"])
        set_random_state(stored["random"], self.plan.device.torch_device)

    def finish(self) -> RunResult:
        """Put the chosen epoch's weights into the module."""
        state = self.state
        if state.best is None or (state.trouble and state.best["score"] > 1.0):
            raise DivergenceError(
                f"training stopped: {state.trouble or 'no epoch was finished'}; going on at lower "
                f"rates ({state.restarts} times) did not help; lower --optimizer.learning-rate"
            )
        self.task.module.load_state_dict(state.best_weights, strict=False)
        self.task.module.eval()
        if self._stopped and self.plan.workers.leads:
            progress.say(f"training stopped early: {self._stopped}; the best epoch before is kept")
        best = state.best
        if best["score"] > 1.0 and self.plan.workers.leads:
            progress.say(
                f"this regressor does no better than a constant answer on validation images "
                f"({best['score']:.2f} times its error); train it for longer"
            )
        return RunResult(
            epochs=state.epoch - 1,
            best_epoch=int(best["epoch"]),
            seconds=state.seconds,
            stopped=self._stopped,
            restarts=state.restarts,
        )


def _moving_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """A copy, on the processor, of the state of a module without its frozen weights."""
    frozen = {name for name, value in module.named_parameters() if not value.requires_grad}
    return {
        name: value.detach().cpu().clone()
        for name, value in module.state_dict().items()
        if name not in frozen
    }
