"""The training loop: resuming, stopping, choosing the epoch."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from relocalize import progress
from relocalize.errors import LocalizerError
from relocalize.regression.checkpoint import CHECKPOINT
from relocalize.regression.device import choose_device
from relocalize.regression.loop import Judgement, RunLength, RunPlan, run
from relocalize.regression.settings import OptimizerSettings
from relocalize.regression.training_log import read_log

CPU = choose_device("cpu", precision="float32")
SETTINGS = OptimizerSettings(learning_rate=1e-2, batch_size=16, epochs=6, clip=1.0, ema=0.9)


class Toy:
    """A small regression with all that makes resuming hard: dropout, batch statistics, order."""

    unit = "metre"

    def __init__(self, *, at_step=None, judge=None):
        torch.manual_seed(0)
        self.module = nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2)
        )
        rng = np.random.default_rng(0)
        self.x = torch.tensor(rng.standard_normal((96, 6)), dtype=torch.float32)
        self.y = self.x[:, :2] * 2 + 1
        self.steps, self.seen, self.modes = 0, [], []
        self.at_step = at_step or (lambda step, loss: loss)
        self.judge_by = judge

    def parameter_groups(self):
        return [{"params": list(self.module.parameters())}]

    def batches(self, epoch):
        return np.split(np.random.default_rng([7, epoch]).permutation(80), 5)

    def loss(self, epoch, number, share):
        rows = self.batches(epoch)[number]
        self.steps += 1
        self.modes.append(self.module.training)
        self.seen.append(rows)
        loss = (self.module(self.x[rows]) - self.y[rows]).abs().mean()
        return self.at_step(self.steps, loss)

    def judge(self):
        self.modes.append(self.module.training)
        with torch.no_grad():
            error = float((self.module(self.x[80:]) - self.y[80:]).abs().mean())
        score = error if self.judge_by is None else self.judge_by(self)
        return Judgement(error, 0.0, score)


def train(task, folder, *, save_every=100.0, settings=SETTINGS, key="toy", **length):
    folder.mkdir(exist_ok=True)
    length = RunLength(settings.epochs, **length)
    torch.manual_seed(3)
    return run(task, RunPlan(settings, length, CPU, folder, key, checkpoint_minutes=save_every))


def weights(task):
    return {name: value.clone() for name, value in task.module.state_dict().items()}


def numbers(folder):
    timed = {"epoch_seconds", "seconds", "images_per_second"}
    return [{k: v for k, v in row.items() if k not in timed} for row in read_log(folder)]


def in_a_child(function):
    """Run it in a process that may be killed; returns the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killing(at):
    def at_step(step, loss):
        if step == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss

    return at_step


def interrupting(step, loss):
    if step == 8:
        os.kill(os.getpid(), signal.SIGINT)
    return loss


def test_progress_and_seconds_count_each_epoch_once_though_not_each_is_judged(
    tmp_path, monkeypatch
):
    shown = []
    advance = progress.Bar.advance
    monkeypatch.setattr(
        progress.Bar, "advance", lambda bar, by=1: (shown.append(by), advance(bar, by))
    )
    train(Toy(), tmp_path / "run", settings=replace(SETTINGS, epochs=400))
    rows = read_log(tmp_path / "run")
    assert len(rows) == 200
    assert sum(shown) == 400 * 80
    assert min(shown) >= 0
    each = np.diff([0, *(row["epoch"] for row in rows)])
    seconds = sum(row["epoch_seconds"] * count for row, count in zip(rows, each, strict=True))
    assert seconds == pytest.approx(rows[-1]["seconds"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
def test_killed_three_times_a_run_ends_with_the_same_weights_and_log(tmp_path):
    whole = Toy()
    straight = train(whole, tmp_path / "whole")
    folder = tmp_path / "killed"
    for steps in (4, 9, 7):  # in the middle of epochs, each counted from where it goes on
        ended = in_a_child(lambda: train(Toy(at_step=killing(steps)), folder, save_every=0))  # noqa: B023 - run at once
        assert ended == -signal.SIGKILL
    resumed = Toy()
    result = train(resumed, folder)
    assert resumed.steps == 30 - (3 + 8 + 6)  # what a checkpoint had was not done again
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], value, rtol=0, atol=0)
    assert result.best_epoch == straight.best_epoch
    assert numbers(folder) == numbers(tmp_path / "whole")
    assert len(numbers(folder)) == SETTINGS.epochs


def test_ctrl_c_waits_for_the_step_writes_a_checkpoint_and_is_gone_on_from(tmp_path):
    whole = Toy()
    train(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(Toy(at_step=interrupting), tmp_path / "stopped")
    resumed = Toy()
    train(resumed, tmp_path / "stopped")
    assert resumed.steps == 30 - 8
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], value, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"\x80\x04cos\nsystem\n"])
def test_a_checkpoint_that_is_damaged_or_of_another_run_starts_over(tmp_path, damage):
    with pytest.raises(KeyboardInterrupt):
        train(Toy(at_step=interrupting), tmp_path)
    if damage:
        (tmp_path / CHECKPOINT).write_bytes(damage)
    again = Toy()
    train(again, tmp_path, key="toy" if damage else "other settings")
    assert again.steps == 30
    assert [row["epoch"] for row in read_log(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_the_epoch_is_chosen_on_validation_alone_in_evaluation_mode(tmp_path):
    kept = {}

    def worse_from_the_fourth_on(task):
        epoch = task.steps // 5
        kept[epoch] = {n: v.clone() for n, v in task.module.state_dict().items()}
        return 0.5 + abs(epoch - 3) / 10

    task = Toy(judge=worse_from_the_fourth_on)
    result = train(task, tmp_path)
    assert result.best_epoch == 3
    for name, value in weights(task).items():  # what was validated, averaged weights included
        torch.testing.assert_close(value, kept[3][name], rtol=0, atol=0)
    losses = [row["train_loss"] for row in read_log(tmp_path)]
    assert losses[-1] < losses[2]  # the training loss would have chosen another
    steps, judged = task.modes.count(True), task.modes.count(False)
    assert (steps, judged) == (30, 6)


def test_a_run_that_diverges_goes_on_from_its_best_state_at_a_lower_rate(tmp_path):
    nan = {3, 8, 22}
    task = Toy(at_step=lambda step, loss: loss * float("nan") if step in nan else loss)
    task.judge_by = lambda task: 0.9 / task.steps
    settings = replace(SETTINGS, schedule="constant")
    result = train(task, tmp_path, settings=settings)
    assert (result.stopped, result.restarts, task.steps) == (None, 3, 30)
    rates = [row["learning_rate"] / 1e-2 for row in read_log(tmp_path)]
    assert rates == pytest.approx([0.3, 0.09, 0.09, 0.09, 0.027, 0.027])
    assert result.best_epoch == 6
    # Validation alone tells of it too, but not of one that is only starting.
    rough = Toy(judge=lambda task: 1e3 if task.steps in {10, 15, 45, 50, 55} else 0.5)
    assert train(rough, tmp_path / "rough", settings=replace(settings, epochs=30)).restarts == 1


def test_nan_that_stays_stops_with_a_reason_and_keeps_the_best_epoch_before(tmp_path):
    task = Toy(at_step=lambda step, loss: loss * float("nan") if step >= 23 else loss)
    task.judge_by = lambda task: 0.9
    result = train(task, tmp_path)
    assert "not finite in epoch 6" in result.stopped
    assert result.best_epoch == 5  # of equal ones the last
    assert all(torch.isfinite(value).all() for value in weights(task).values())
    json.loads((tmp_path / "training.jsonl").read_text().splitlines()[-1])


def test_a_run_that_never_was_any_good_is_an_error_with_a_reason(tmp_path):
    nan = Toy(at_step=lambda step, loss: loss * float("nan"))
    with pytest.raises(LocalizerError, match=r"not finite in epoch 1 .*learning-rate"):
        train(nan, tmp_path / "nan")
    far = Toy(judge=lambda task: 20.0 if task.steps == 5 else 1e3)
    with pytest.raises(LocalizerError, match=r"diverged.*constant answer"):
        train(far, tmp_path / "far")
    # One that begins far off and comes nearer is let be.
    slow = Toy(judge=lambda task: 100.0 / task.steps)
    assert train(slow, tmp_path / "slow").best_epoch == 6


def test_minutes_end_a_run_early_and_the_schedule_knows(tmp_path):
    settings = OptimizerSettings(learning_rate=1e-2, epochs=100_000)
    task = Toy()
    train(task, tmp_path, settings=settings, minutes=1.0 / 60)
    rows = read_log(tmp_path)
    assert 2 < len(rows) < 100_000
    assert rows[0]["learning_rate"] > 0.8e-2
    assert rows[-1]["learning_rate"] < 0.1e-2
    assert 0.9 < rows[-1]["seconds"] < 3


def test_the_log_says_what_a_reader_needs(tmp_path):
    train(Toy(), tmp_path)
    row = read_log(tmp_path)[0]
    assert {
        "epoch", "train_loss", "validation_position", "validation_rotation_deg", "learning_rate",
        "epoch_seconds", "images_per_second", "best",
    } <= set(row)  # fmt: skip
    assert any((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
