"""One writer at a time: a lock that the operating system drops when its process dies."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from relocalize.errors import PlaceError

try:
    import fcntl
except ImportError:  # Windows: the file alone says who writes
    fcntl = None  # type: ignore[assignment]


@dataclass
class _Held:
    """A lock of this process: its open file, and how many blocks hold it."""

    handle: int
    blocks: int = 0


_held: dict[Path, _Held] = {}
_guard = threading.Lock()
_patient: ContextVar[bool] = ContextVar("relocalize_patient_locks", default=False)


@contextmanager
def patient_locks() -> Iterator[None]:
    """Within this context a lock that another process holds is waited for.

    For processes of one work, which only now and then write the same; it is not for people.
    """
    token = _patient.set(True)
    try:
        yield
    finally:
        _patient.reset(token)


@contextmanager
def write_lock(root: Path) -> Iterator[None]:
    """Hold the Place at ``root`` for writing; re-entrant within one process and its threads.

    Raises:
        PlaceError: another process holds it, or the folder cannot be written.
    """
    path = (root / ".lock").resolve()
    with _guard:
        held = _held.get(path) or _held.setdefault(path, _Held(_acquire(path)))
        held.blocks += 1
    try:
        yield
    finally:
        with _guard:
            held.blocks -= 1
            if not held.blocks:
                os.close(held.handle)
                del _held[path]


def _acquire(path: Path) -> int:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise PlaceError(f"{path.parent} cannot be written: {error.strerror}") from error
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if _patient.get() else fcntl.LOCK_NB))
        except OSError:
            holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise PlaceError(
                f"{path.parent} is being written by another relocalize (process {holder}); "
                "wait for it to end, or stop it"
            ) from None
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
    except OSError as error:  # the disk is full
        os.close(handle)
        raise PlaceError(f"{path.parent} cannot be written: {error.strerror}") from error
    return handle
