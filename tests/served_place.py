"""A service in a thread, for tests from outside: HTTP, WebSocket, browser."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest

from relocalize.serve.settings import Limits, ServeSettings

needs_serve = pytest.mark.skipif(
    importlib.util.find_spec("fastapi") is None,
    reason="the extra serve is not installed",
)


@dataclass(frozen=True)
class Served:
    url: str
    port: int


@contextmanager
def served(
    places: Sequence[Path], settings: ServeSettings = ServeSettings(), certificate=None
) -> Iterator[Served]:
    """A service of Places at a free port of this machine."""
    from relocalize.serve import running

    listener = running.listening("127.0.0.1", 0)
    port = listener.getsockname()[1]
    ready, failed = threading.Event(), []
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    async def run() -> None:
        async with running.serving(places, settings, listener, certificate):
            ready.set()
            await end.wait()

    def in_thread() -> None:
        try:
            loop.run_until_complete(run())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=in_thread)
    thread.start()
    ready.wait(120)
    try:
        if failed:
            raise failed[0]
        yield Served(f"http{'s' if certificate else ''}://127.0.0.1:{port}", port)
    finally:
        if not failed:
            loop.call_soon_threadsafe(end.set)
        thread.join(60)
        loop.close()


def jpeg(pixels) -> bytes:
    done, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert done
    return data.tobytes()


def until(done, what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"after {seconds:.0f} s still not: {what}"
        time.sleep(0.05)


SMALL = Limits(upload_bytes=1 << 20, pixels=1_000_000, seconds=20.0, upload_seconds=1.0)
