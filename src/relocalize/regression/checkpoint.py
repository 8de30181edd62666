"""Checkpoints of a training under way: all that is needed to resume as if nothing had happened."""

from __future__ import annotations

import io
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from relocalize import progress
from relocalize.place import atomic

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(path: Path, key: str, state: dict[str, Any]) -> None:
    """Replace the checkpoint at ``path`` in one step.

    ``key`` says what run it is of: settings, images, poses. ``state`` is nested dicts and lists of
    tensors, numbers and strings, nothing executable.
    """
    data = io.BytesIO()
    torch.save({"key": key, "state": state}, data)
    atomic.write_bytes(path, data.getvalue())


def load_checkpoint(path: Path, key: str) -> dict[str, Any] | None:
    """The state that `save_checkpoint` stored; None where there is none of this run."""
    if not path.is_file():
        return None
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["key"] == key:
            state: dict[str, Any] = stored["state"]
            return state
        why = "it is of other settings or images"
    except Exception as error:  # whatever a damaged file makes torch raise
        why = f"it is damaged ({type(error).__name__})"
    progress.say(f"starting over: {path} is not resumed, {why}")
    return None


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of torch's random numbers, which dropout draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Resume the random numbers of `random_state`."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


@dataclass
class Interruption:
    """Whether somebody asked this process to stop, and when a checkpoint is due."""

    minutes: float  # between two checkpoints
    asked: bool = False  # that Ctrl-C or SIGTERM came
    _last: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        """Whether a checkpoint is to be written now."""
        return self.asked or time.monotonic() - self._last >= 60 * self.minutes

    def saved(self) -> None:
        """A checkpoint was written; raises KeyboardInterrupt where stopping was asked for."""
        self._last = time.monotonic()
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def interruptible(minutes: float) -> Iterator[Interruption]:
    """Within this context Ctrl-C and SIGTERM wait for the end of the step under way.

    A step that is cut in two would leave optimizer and weights at odds. A second Ctrl-C stops at
    once; in a thread other than the main one signals stay as they are.
    """
    interruption = Interruption(minutes)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if interruption.asked:
            raise KeyboardInterrupt
        interruption.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
