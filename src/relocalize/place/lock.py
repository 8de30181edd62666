"""One writer at a time: a lock that the operating system drops when its process dies."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relocalize.errors import PlaceError

try:
    import fcntl
except ImportError:  # Windows: the file alone says who writes
    fcntl = None  # type: ignore[assignment]

_held: dict[Path, int] = {}
_guard = threading.Lock()


@contextmanager
def write_lock(root: Path) -> Iterator[None]:
    """Hold the Place at ``root`` for writing; re-entrant within one process.

    Raises:
        PlaceError: another process holds it.
    """
    path = (root / ".lock").resolve()
    with _guard:
        nested = _held.get(path, 0) > 0
        if not nested:
            handle = _acquire(path)
        _held[path] = _held.get(path, 0) + 1
    try:
        yield
    finally:
        with _guard:
            _held[path] -= 1
            if not nested:
                os.close(handle)
                del _held[path]


def _acquire(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise PlaceError(
                f"{path.parent} is being written by another relocalize (process {holder}); "
                "wait for it to end, or stop it"
            ) from None
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    return handle
