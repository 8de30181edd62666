"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere.

Everything goes to stderr, so stdout stays the result. Library calls are silent; the command line
switches progress on for its own run with `shown`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")

_shown: ContextVar[bool] = ContextVar("relocalize_progress_shown", default=False)
_PLAIN_SECONDS = 15.0  # between two lines when stderr is not a terminal


@contextmanager
def shown(show: bool = True) -> Iterator[None]:
    """Within this context, `track`, `bar` and `say` write to stderr (or, with False, do not)."""
    token = _shown.set(show)
    try:
        yield
    finally:
        _shown.reset(token)


def say(message: str) -> None:
    """One line for people about what was done or found; silent in library use."""
    if _shown.get():
        print(message, file=sys.stderr, flush=True)


class Bar:
    """A running count; `advance` it once per finished item."""

    def __init__(self, what: str, total: int | None, unit: str, progress: Progress | None) -> None:
        self._what, self._total, self._unit, self._progress = what, total, unit, progress
        self._done = 0
        self._started = self._said = time.monotonic()
        self._task = (
            progress.add_task(what, total=total, unit=unit) if progress is not None else None
        )

    def advance(self, count: int = 1) -> None:
        """Count ``count`` more items as done."""
        self._done += count
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, count)
        elif _shown.get() and time.monotonic() - self._said >= _PLAIN_SECONDS:
            self._said = time.monotonic()
            say(self._line())

    def _line(self) -> str:
        elapsed = max(1e-9, time.monotonic() - self._started)
        rate = self._done / elapsed
        line = f"{self._what}: {self._done}"
        if self._total:
            left = (self._total - self._done) / rate if rate > 0 else float("inf")
            line += f" of {self._total} {self._unit}, {rate:.1f}/s, {left:.0f} s left"
        else:
            line += f" {self._unit}, {rate:.1f}/s"
        return line

    def finish(self) -> None:
        """Say the total, once, where there is no live bar that shows it."""
        if self._progress is None and _shown.get():
            elapsed = time.monotonic() - self._started
            say(f"{self._what}: {self._done} {self._unit} in {elapsed:.1f} s")


@contextmanager
def bar(what: str, total: int | None = None, unit: str = "images") -> Iterator[Bar]:
    """A progress bar for work that counts its own items."""
    if _shown.get() and sys.stderr.isatty() and total != 1:
        with _terminal_bar() as progress:
            yield Bar(what, total, unit, progress)
        return
    plain = Bar(what, total, unit, None)
    yield plain
    plain.finish()


def track(
    items: Iterable[Item], what: str, *, total: int | None = None, unit: str = "images"
) -> Iterator[Item]:
    """Iterate with a progress bar; ``total`` defaults to ``len(items)`` where that exists."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(what, total, unit) as running:
        for item in items:
            yield item
            running.advance()


def _terminal_bar() -> Progress:
    # rich takes a tenth of a second to import, which only a bar is worth.
    from rich import progress  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    class RateColumn(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.1f} {task.fields['unit']}/s" if speed else "", style="cyan")

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        RateColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
