"""Thread counts, chosen and not inherited.

On shared cores two OpenMP threads inside each of two workers can be ten times slower than one,
so parallel work here is over items (images, pairs), each on one native thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import cv2
import numpy  # noqa: F401  # its BLAS must be loaded before its threads can be limited
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")

cv2.setNumThreads(1)
_native_threads = ThreadpoolController()


@contextmanager
def one_native_thread() -> Iterator[None]:
    """Within this context, BLAS and OpenMP run on the calling thread alone.

    The small products of localization gain nothing from more, and idle threads that wait in a
    loop double the processor time of a photo.
    """
    with _native_threads.limit(limits=1):
        yield


def use_image_threads(count: int) -> None:
    """From now on an image is worked on by so many threads: where images come one by one."""
    cv2.setNumThreads(count)


def image_threads() -> int:
    """By how many threads an image is worked on, 1 unless `use_image_threads` said so."""
    return int(cv2.getNumThreads())


def worker_count() -> int:
    """Processors this process may use (its affinity mask, not the machine's size), at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None
) -> Iterator[Result]:
    """Apply ``function`` in threads; yields results in the order of ``items``.

    At most two items per worker are under way, so memory does not grow with the input. The
    function should spend its time in native code that releases the GIL.

    Raises:
        Whatever ``function`` raises, at its item's turn; the items after it are cancelled.
    """
    workers = workers or worker_count()
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(max_workers=workers)
    with one_native_thread():
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
