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
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")

_shown: ContextVar[bool] = ContextVar("relocalize_progress_shown", default=False)
_PLAIN_SECONDS = 15.0  # between two lines when stderr is not a terminal
_RECENT_SECONDS = 60.0  # over which a rate is taken
_LEAST_RATE = 1.0  # items a second that are told as such where nobody knows how many there are


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
        _write(message)


def _write(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class Bar:
    """A running count; `advance` it once per finished item, from any thread."""

    def __init__(self, what: str, total: int | None, unit: str, progress: Progress | None) -> None:
        self._what, self._total, self._unit, self._progress = what, total, unit, progress
        self._done = 0
        self._started = time.monotonic()
        self._past = [(self._started, 0)]  # when how much was done, once for each line
        self._lock = Lock()
        self._task = (
            progress.add_task(what, total=total, unit=unit) if progress is not None else None
        )

    def advance(self, count: int = 1) -> None:
        """Count ``count`` more items as done."""
        with self._lock:
            self._done += count
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, count)

    def line(self) -> str:
        """How far it is, how fast it was lately, and how long the rest takes at that rate."""
        now, done = time.monotonic(), self._done
        # Work that is tried again outgrows its total.
        total = self._total if self._total and done <= self._total else None
        of = f" of {total}" if total else ""
        line = f"{self._what}: {done}{of} {self._unit}"
        # What is slow now stays slow: the beginning says little of the rest.
        while len(self._past) > 1 and now - self._past[1][0] >= _RECENT_SECONDS:
            self._past.pop(0)
        then, before = self._past[0]
        self._past.append((now, done))
        rate = (done - before) / max(1e-9, now - then)
        # Where nobody knows how much there is, a rate of few steps says nothing.
        if rate <= 0 or (not total and rate < _LEAST_RATE):
            return f"{line}, at work for {now - self._started:.0f} s"
        if not total:
            return f"{line}, {rate:.1f}/s"
        return f"{line}, {rate:.1f}/s, {(total - done) / rate:.0f} s left"

    def total_line(self) -> str:
        """What was done, in how long."""
        elapsed = time.monotonic() - self._started
        of = f" of {self._total}" if self._total and self._done < self._total else ""
        return f"{self._what}: {self._done}{of} {self._unit} in {elapsed:.1f} s"


@contextmanager
def bar(what: str, total: int | None = None, unit: str = "images") -> Iterator[Bar]:
    """A progress bar for work that counts its own items."""
    if _shown.get() and sys.stderr.isatty() and total != 1:
        with _terminal_bar() as progress:
            yield Bar(what, total, unit, progress)
        return
    plain = Bar(what, total, unit, None)
    if not _shown.get():
        yield plain
        return
    # From a thread of its own, so that a line comes also while nothing is finished.
    finished = Event()

    def tell() -> None:
        while not finished.wait(_PLAIN_SECONDS):
            _write(plain.line())

    teller = Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield plain
    finally:
        finished.set()
        teller.join()
    _write(plain.total_line())


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
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        speed_estimate_period=_RECENT_SECONDS,
    )
