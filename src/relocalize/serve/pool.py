"""The workers of one Place: a bounded queue before them, and new ones when the Place changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relocalize.errors import RelocalizeError, ServeError
from relocalize.parallel import worker_count
from relocalize.serve.messages import packed, read_message
from relocalize.serve.refusals import RefusedError, busy
from relocalize.serve.settings import ServeSettings

_log = logging.getLogger("relocalize.serve")
_LOOK_EVERY_S = 1.0  # for a Place that has changed
# More gain little: the first third of SIFT, its pyramid, is one thread's.
_MOST_THREADS = 4
_TRIES = 3  # a request whose worker was killed goes to another one
# What answers depend on; see `Place.map_digest`.
_WATCHED = ("place.json", "map/cameras.bin", "map/images.bin", "map/points3D.bin")
# glibc would give the memory of every photo back to the system and take it anew: 3,400 page faults,
# 11 of 72 CPU ms of a photo of 640 x 480. What is larger than 32 MB is still given back.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}


@dataclass(eq=False)
class _Worker:
    """A connection to a worker."""

    pid: int
    generation: _Generation
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, job: dict[str, Any], body: bytes) -> dict[str, Any]:
        self.writer.write(packed(job, body))
        await self.writer.drain()
        answer, _ = await read_message(self.reader)
        return answer

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.writer.close()


@dataclass(eq=False)
class _Generation:
    """A Place as it was at some time: a template, its workers, what it is."""

    stamp: _Stamp  # of the files that it was loaded from
    # done when the first worker is there, or the template has failed to load the Place
    loaded: asyncio.Future[None]
    facts: dict[str, Any] = field(default_factory=dict)  # of the Place; known when it is loaded
    floor: bytes = b""  # plan, PNG
    workers: set[_Worker] = field(default_factory=set)  # all that are connected
    busy: int = 0  # how many of them are at work
    process: asyncio.subprocess.Process | None = None  # the template
    listening: asyncio.Server | None = None  # for its workers

    def end(self) -> None:
        """Its template ends, and so do its workers."""
        if self.listening is not None:
            self.listening.close()
        if self.process is not None and self.process.returncode is None:
            if self.loaded.done() and self.process.stdin is not None:
                self.process.stdin.close()
            else:  # it does not listen while it loads
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
        for worker in self.workers:
            worker.writer.close()


_Stamp = tuple[tuple[str, int, int], ...]


class Pool:
    """Answers about one Place."""

    def __init__(self, root: Path, settings: ServeSettings) -> None:
        self._root, self._settings = root, settings
        self._generation: _Generation | None = None
        self._idle: list[_Worker] = []
        self._waiting: deque[asyncio.Future[_Worker]] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._folder = tempfile.TemporaryDirectory(prefix="relocalize-")
        self._count = 0

    async def start(self) -> None:
        """Load the Place and fork the workers.

        Raises:
            ServeError: the Place cannot be served.
        """
        self._take(await self._load(_stamp_of(self._root, self._settings.localizers)))
        self._tasks = [asyncio.create_task(self._watch())]

    async def stop(self) -> None:
        """End all processes."""
        for task in self._tasks:
            task.cancel()
        generation, self._generation = self._generation, None
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if generation is not None:
                generation.end()
                if generation.process is not None:
                    await generation.process.wait()
        finally:
            self._folder.cleanup()

    @property
    def facts(self) -> dict[str, Any]:
        """What clients are told of the Place."""
        return self._now.facts

    @property
    def name(self) -> str:
        """Of the Place."""
        return str(self._now.facts["name"])

    @property
    def floor(self) -> bytes:
        """The floor plan, PNG."""
        return self._now.floor

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return len(self._waiting)

    @property
    def pids(self) -> list[int]:
        """Of the workers."""
        return sorted(worker.pid for worker in self._now.workers)

    @property
    def _now(self) -> _Generation:
        if self._generation is None:
            raise busy("the service is ending")
        return self._generation

    def check_room(self) -> None:
        """Raise `RefusedError` (503) where a request would not find a place in the queue."""
        if not self._idle and len(self._waiting) >= self._settings.limits.waiting:
            raise busy(f"{len(self._waiting)} requests are waiting already")

    async def localize(
        self,
        photo: bytes,
        *,
        localizer: str | None = None,
        camera: dict[str, Any] | None = None,
        prior: dict[str, Any] | None = None,
        extras: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """The answer about one photo's bytes, as `relocalize localize --json` gives it.

        ``camera`` is as `worker.camera_of` takes it (None: what EXIF says), ``prior`` as
        `PosePrior.from_json`; ``extras`` may be ``points`` (some of the map's points that were
        matched) and ``shared`` (the part of the covariance that answers have in common).

        Raises:
            RefusedError: it is no photo, too large, takes too long, or everybody is busy.
        """
        name = localizer or self._settings.localizers[0]
        if name not in self._settings.localizers:
            known = ", ".join(self._settings.localizers)
            raise RefusedError(404, "no_localizer", f"localizer {name!r} is not served; {known} is")
        self.check_room()
        limits = self._settings.limits
        job = {"localizer": name, "camera": camera, "prior": prior, "pixels": limits.pixels}
        job.update(dict.fromkeys(extras, True))
        for _ in range(_TRIES):
            worker = await self._free_worker()
            worker.generation.busy += 1
            free = worker_count() // worker.generation.busy
            job["threads"] = min(max(free, 1), _MOST_THREADS)
            try:
                answer = await asyncio.wait_for(worker.ask(job, photo), limits.seconds)
            except (TimeoutError, asyncio.TimeoutError):
                worker.kill()
                raise RefusedError(
                    422,
                    "too_slow",
                    f"the photo took more than {limits.seconds:g} s; make it smaller",
                ) from None
            except (asyncio.IncompleteReadError, ConnectionError):
                _log.warning(json.dumps({"event": "worker lost", "pid": worker.pid}))
                continue
            except BaseException:
                worker.kill()  # it would answer to nobody
                raise
            finally:
                worker.generation.busy -= 1
            self._release(worker)
            if "refused" in answer:
                refused = answer["refused"]
                raise RefusedError(refused["status"], refused["reason"], refused["message"])
            found: dict[str, Any] = answer["answer"]
            return {"place": worker.generation.facts["name"], "localizer": name, **found}
        raise busy("the workers were killed")

    async def _free_worker(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()  # the one whose caches and memory are warm
            if not worker.reader.at_eof() and worker.generation is self._generation:
                return worker
        turn: asyncio.Future[_Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await asyncio.wait_for(turn, self._settings.limits.seconds)
        except (TimeoutError, asyncio.TimeoutError):
            raise busy("no worker was free") from None
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)

    def _release(self, worker: _Worker) -> None:
        """To whoever waits longest; one of another Place than the one now is for nobody."""
        if worker.generation is not self._generation:
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(worker)
                return
        self._idle.append(worker)

    # -- generations -----------------------------------------------------------------------

    async def _load(self, stamp: _Stamp) -> _Generation:
        """A generation whose Place is loaded.

        Raises:
            ServeError: it cannot be.
        """
        generation = _Generation(stamp, asyncio.get_running_loop().create_future())
        self._count += 1
        address = f"{self._folder.name}/{self._count}"
        generation.listening = await asyncio.start_unix_server(
            self._connecting(generation), address
        )
        settings = {
            "place": str(self._root),
            "localizers": self._settings.localizers,
            "workers": self._settings.workers,
        }
        generation.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relocalize.serve.template", address, json.dumps(settings)),
            stdin=asyncio.subprocess.PIPE,
            # What it leaves when it is killed goes with our folder.
            env={**_KEEP_MEMORY, **os.environ, "TMPDIR": self._folder.name},
        )
        ended = asyncio.create_task(generation.process.wait())
        try:
            either: set[asyncio.Future[Any]] = {ended, generation.loaded}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not generation.loaded.done():
                raise ServeError(f"{self._root} could not be loaded (exit code {ended.result()})")
            generation.loaded.result()
        except BaseException:
            generation.end()
            await ended
            raise
        return generation

    def _connecting(
        self, generation: _Generation
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                message, body = await read_message(reader)
            except asyncio.IncompleteReadError:
                return
            if "worker" in message:
                worker = _Worker(message["worker"], generation, reader, writer)
                generation.workers.add(worker)
                generation.workers = {one for one in generation.workers if not one.reader.at_eof()}
                if not generation.loaded.done():
                    generation.loaded.set_result(None)
                self._release(worker)
            elif "failed" in message:
                generation.loaded.set_exception(ServeError(message["failed"]))
            else:
                generation.facts, generation.floor = message["facts"], body
                generation.facts["localizers"] = list(self._settings.localizers)

        return connected

    def _take(self, generation: _Generation) -> None:
        """Its workers answer from now on."""
        self._generation = generation
        self._idle.clear()
        for worker in list(generation.workers):
            self._release(worker)

    async def _watch(self) -> None:
        """Take the Place as it is, whenever it has changed; on what fails, the old one stays."""
        tried = self._now.stamp
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            stamp = await asyncio.to_thread(_stamp_of, self._root, self._settings.localizers)
            process = self._now.process
            if stamp == tried and process is not None and process.returncode is None:
                continue
            try:
                fresh = await self._load(stamp)
            except (RelocalizeError, OSError) as error:
                _log.warning(json.dumps({"event": "place not reloaded", "why": str(error)}))
                tried = stamp
                continue
            tried = stamp
            old = self._now
            self._take(fresh)
            _log.info(json.dumps({"event": "place reloaded", "place": self.name}))
            self._tasks = [*self._tasks[:1], asyncio.create_task(_end_when_done(old))]


async def _end_when_done(generation: _Generation) -> None:
    """Requests that are under way are answered by the Place as it was."""
    try:
        while generation.busy:
            await asyncio.sleep(_LOOK_EVERY_S / 10)
    finally:
        generation.end()


def _stamp_of(root: Path, localizers: tuple[str, ...]) -> _Stamp:
    """Of the files that answers depend on: path, time, size."""
    paths = [root / name for name in _WATCHED]
    for name in localizers:
        paths += sorted(root.glob(f"localizers/{name}*/localizer.json"))
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(found)
