"""Checkpoints: whole or not there, of one run, nothing that is executed; stopping waits."""

import os
import pickle
import signal
import threading
import time

import pytest
import torch

from relocalize.regression.checkpoint import (
    CHECKPOINT,
    interruptible,
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)

CPU = torch.device("cpu")


def test_what_is_saved_comes_back_for_the_same_run_alone(tmp_path):
    path = tmp_path / CHECKPOINT
    state = {"weights": torch.arange(5.0), "run": {"epoch": 3, "best": None}, "list": [1, "a"]}
    save_checkpoint(path, "this", state)
    found = load_checkpoint(path, "this")
    assert found["run"] == state["run"]
    torch.testing.assert_close(found["weights"], state["weights"], rtol=0, atol=0)
    assert load_checkpoint(path, "another") is None
    assert load_checkpoint(tmp_path / "none", "this") is None
    assert [entry.name for entry in tmp_path.iterdir()] == [CHECKPOINT]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_checkpoint_that_would_execute_something_does_not(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    torch.save({"key": "this", "state": Evil()}, tmp_path / CHECKPOINT)
    assert load_checkpoint(tmp_path / CHECKPOINT, "this") is None
    (tmp_path / CHECKPOINT).write_bytes(pickle.dumps(Evil()))
    assert load_checkpoint(tmp_path / CHECKPOINT, "this") is None
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_checkpoint_that_was_cut_short_is_none(tmp_path, share):
    path = tmp_path / CHECKPOINT
    save_checkpoint(path, "this", {"weights": torch.randn(1000)})
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert load_checkpoint(path, "this") is None


def test_random_numbers_go_on_where_they_were():
    state = random_state(CPU)
    first = torch.rand(5)
    set_random_state(state, CPU)
    torch.testing.assert_close(torch.rand(5), first, rtol=0, atol=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_waits_for_a_checkpoint_and_a_second_time_does_not(number):
    before = signal.getsignal(number)
    with interruptible(minutes=100) as interruption:
        assert not interruption.due
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        assert interruption.due
        with pytest.raises(KeyboardInterrupt):
            interruption.saved()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            time.sleep(0.01)
    assert signal.getsignal(number) is before


def test_checkpoints_are_due_every_so_many_minutes_in_any_thread():
    def look():
        with interruptible(minutes=0.05 / 60) as interruption:
            seen.append(interruption.due)
            time.sleep(0.06)
            seen.append(interruption.due)
            interruption.saved()
            seen.append(interruption.due)

    seen = []
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [False, True, False]
