"""A service under load: latency, throughput, memory, killed workers, hostile uploads.

Run with a folder of photos of a Place that is mapped:

    python benchmarks/serve.py PLACE PHOTOS [--localizer structure] [--seconds 10]

Everything is measured in one run, by clients in this process, on the same processors as the
service. Beside it: what it takes to start `relocalize localize` for each photo, and what users of
hloc run (`hloc_style`).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote

import tyro

from hloc_style import HlocStyle
from relocalize.geometry import Camera
from relocalize.localization import fitted
from relocalize.localization.query import Query
from relocalize.localization.structure import StructureLocalizer
from relocalize.parallel import one_native_thread
from relocalize.place import Place
from relocalize.serve.worker import camera_of
from relocalize_client import Client, RefusedError


@dataclass(frozen=True)
class Arguments:
    """Measure a service under load."""

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    photos: tyro.conf.Positional[Path]
    """Folder of photos, JPEG or PNG."""
    localizer: str = "structure"
    """Which localizer answers."""
    workers: int = 2
    """Processes that localize."""
    latencies: int = 200
    """Requests of one client."""
    clients: tuple[int, ...] = (1, 4, 16, 64)
    """Numbers of clients at once."""
    seconds: float = 10.0
    """For each number of clients."""
    soak: int = 2000
    """Requests over which memory is watched, of as many clients as there are workers."""
    soak_minutes: float = 60.0
    """At most."""
    hostile: int = 1000
    """Hostile uploads."""
    commands: int = 3
    """Times that the command is started."""
    others: int = 30
    """Photos that are localized as hloc does."""
    camera: str | None = None
    """What is known of the camera, JSON as clients send it; without it nothing, or EXIF."""

    def run(self) -> None:
        """Do it all."""
        files = sorted(path for path in self.photos.iterdir() if path.is_file())
        photos = [path.read_bytes() for path in files]
        before = checksum(self.place)
        with _service(self) as service:
            one, cpu = self._latency(service, photos)
            self._against_others(service, files, one, cpu)
            for count in self.clients:
                self._throughput(service, photos, count)
            self._killed(service, photos)
            self._memory_over(service, photos)
            self._hostile(service, photos)
            _say_memory(service, "after all of it")
        same = checksum(self.place) == before
        print(f"the Place is {'the same to the byte' if same else 'CHANGED'} after all of it")

    def _latency(self, service: _Service, photos: list[bytes]) -> tuple[float, float]:
        """The median in seconds, and CPU ms a photo."""
        seconds, own = [], []
        with Client(service.url) as client:
            for _, photo in zip(range(10), cycle(photos)):
                client.localize(service.place, photo, camera=service.camera)
            cpu = service.cpu_seconds()
            for _, photo in zip(range(self.latencies), cycle(photos)):
                started = time.perf_counter()
                answer = client.localize(service.place, photo, camera=service.camera)
                seconds.append(time.perf_counter() - started)
                own.append(answer["milliseconds"])
        of_workers, of_service = (
            1e3 * (after - before) / self.latencies
            for after, before in zip(service.cpu_seconds(), cpu, strict=True)
        )
        _say_memory(service, "at work")
        time.sleep(_REST_S)
        _say_memory(service, "at rest")
        middle, late = _quantiles(seconds)
        print(
            f"CPU ms a photo, which other programs change little: {of_workers:.0f} of the worker, "
            f"{of_service:.1f} of the service"
        )
        print(
            f"one client, {self.localizer}: p50 {1e3 * middle:.0f} ms, p95 {1e3 * late:.0f} ms "
            f"(of which the localizer {statistics.median(own):.0f} ms)"
        )
        return middle, of_workers + of_service

    def _against_others(
        self, service: _Service, files: list[Path], one: float, one_cpu: float
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            # Of a copy, because the command keeps a localizer that it fits: once before all others.
            place = shutil.copytree(self.place, Path(folder) / self.place.resolve().name)
            self._against_command(place, files[0], one)
            self._against_hloc(service, Place.open(place), files, one, one_cpu)

    def _against_command(self, place: Path, photo: Path, one: float) -> None:
        times = []
        command = [*_RELOCALIZE, "localize", str(place), str(photo)]
        command += ["--localizer", self.localizer]
        for _ in range(1 + self.commands):
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - started)
        middle = statistics.median(times[1:])
        print(f"the command for one photo: {middle:.2f} s, {middle / one:.0f} times as long")

    def _against_hloc(
        self, service: _Service, place: Place, files: list[Path], one: float, one_cpu: float
    ) -> None:
        with one_native_thread():
            ours = fitted(place, "structure")
            assert isinstance(ours, StructureLocalizer)
            most = ours.solver.settings.features.max_features
            hloc = HlocStyle(place, ours.solver.scene, most)
            seconds, found, cpu = [], 0, time.process_time()
            for _, file in zip(range(self.others), cycle(files)):
                started = time.perf_counter()
                photo = file.read_bytes()
                height, width = Query.of(photo).pixels.shape[:2]
                camera = Camera.from_focal(width, height)
                if service.camera is not None:
                    camera = camera_of(service.camera, width, height)
                found += hloc.localize(photo, camera) is not None
                seconds.append(time.perf_counter() - started)
            cpu = 1e3 * (time.process_time() - cpu) / self.others
        middle, late = _quantiles(seconds)
        print(
            f"as hloc does, in this process: p50 {1e3 * middle:.0f} ms, p95 {1e3 * late:.0f} ms, "
            f"{cpu:.0f} CPU ms a photo, {found} of {self.others} localized; "
            f"{middle / one:.1f} times as long, {cpu / one_cpu:.1f} times the CPU time"
        )

    def _throughput(self, service: _Service, photos: list[bytes], count: int) -> None:
        outcomes: Counter[str] = Counter()
        seconds: list[float] = []
        end = time.perf_counter() + self.seconds

        def ask(number: int) -> None:
            with Client(service.url) as client:
                for photo in cycle(photos[number % len(photos) :] + photos):
                    if time.perf_counter() > end:
                        return
                    started = time.perf_counter()
                    outcome = _outcome(client, service, photo)
                    outcomes[outcome] += 1
                    if outcome in ("localized", "failed"):
                        seconds.append(time.perf_counter() - started)
                    elif outcome == "busy":
                        time.sleep(0.2)

        _in_threads(ask, count)
        middle, late = _quantiles(seconds)
        print(
            f"{count} clients: {len(seconds) / self.seconds:.1f} answers a second, p50 "
            f"{1e3 * middle:.0f} ms, p95 {1e3 * late:.0f} ms; {_counts(outcomes)}"
        )

    def _killed(self, service: _Service, photos: list[bytes]) -> None:
        stop = threading.Event()
        outcomes: Counter[str] = Counter()
        gaps: list[float] = []

        def ask(_: int) -> None:
            with Client(service.url) as client:
                for photo in cycle(photos):
                    if stop.is_set():
                        return
                    started = time.perf_counter()
                    outcomes[_outcome(client, service, photo)] += 1
                    gaps.append(time.perf_counter() - started)

        def kill(_: int) -> None:
            for _ in range(5):
                time.sleep(1.0)
                os.kill(service.workers()[0], signal.SIGKILL)
            time.sleep(1.0)
            stop.set()

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        kill(0)
        for thread in threads:
            thread.join()
        print(f"5 workers killed under 4 clients: {_counts(outcomes)}; longest {max(gaps):.2f} s")

    def _memory_over(self, service: _Service, photos: list[bytes]) -> None:
        step, end = max(1, self.soak // 10), time.monotonic() + 60 * self.soak_minutes
        turns, lock = iter(range(self.soak)), threading.Lock()

        def ask(_: int) -> None:
            with Client(service.url) as client:
                while time.monotonic() < end:
                    with lock:
                        number = next(turns, None)
                        if number is None:
                            return
                        if number % step == 0:
                            print(f"  after {number} requests: {_memory(service)}", flush=True)
                    client.localize(
                        service.place, photos[number % len(photos)], camera=service.camera
                    )

        _in_threads(ask, self.workers)
        print(f"  after {next(turns, self.soak)} requests: {_memory(service)}")

    def _hostile(self, service: _Service, photos: list[bytes]) -> None:
        outcomes: Counter[str] = Counter()
        before = _memory(service)
        for number in range(self.hostile):
            outcomes[_attack(service, number, photos[number % len(photos)])] += 1
        with Client(service.url) as client:
            answered = client.localize(service.place, photos[0])["status"]
        print(f"{self.hostile} hostile uploads: {_counts(outcomes)}; the next photo: {answered}")
        print(f"  memory before {before}, after {_memory(service)}")


_REST_S = 2.0  # after which workers have given back what they need for photos
_RELOCALIZE = (sys.executable, "-m", "relocalize")


@dataclass(frozen=True)
class _Service:
    """A service that runs.

    Attributes:
        url: of it.
        place: name of its Place.
        pid: of its process.
        camera: that clients send.
    """

    url: str
    place: str
    pid: int
    camera: dict[str, Any] | None

    def template(self) -> int:
        """The process that workers are copies of."""
        return children_of(self.pid)[0]

    def workers(self) -> list[int]:
        """The processes that localize."""
        return children_of(self.template())

    def cpu_seconds(self) -> tuple[float, float]:
        """Processor time of all workers, and of the service."""
        return sum(map(_cpu_seconds, self.workers())), _cpu_seconds(self.pid)


@contextmanager
def _service(arguments: Arguments) -> Iterator[_Service]:
    command = [*_RELOCALIZE, "serve", str(arguments.place), "--port", "0"]
    command += ["--localizer", arguments.localizer, "--workers", str(arguments.workers)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        with Client(url) as client:
            place = client.places()[0]["name"]
        try:
            camera = None if arguments.camera is None else json.loads(arguments.camera)
            yield _Service(url, place, running.pid, camera)
        finally:
            running.send_signal(signal.SIGINT)


def _outcome(client: Client, service: _Service, photo: bytes) -> str:
    try:
        return str(client.localize(service.place, photo, camera=service.camera)["status"])
    except RefusedError as error:
        return error.reason


def _in_threads(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _quantiles(seconds: list[float]) -> tuple[float, float]:
    ordered = sorted(seconds) or [0.0]
    return ordered[len(ordered) // 2], ordered[int(0.95 * (len(ordered) - 1))]


def _counts(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))


# -- attacks -----------------------------------------------------------------------------------


def _attack(service: _Service, number: int, photo: bytes) -> str:
    path = f"/v1/places/{service.place}/localize"
    rubbish = hashlib.sha512(str(number).encode()).digest() * 40
    camera = quote(json.dumps({"model": "OPENCV", "params": [number, -1e308, 0, 0, 9, 9, 9, 9]}))
    broken = bytearray(photo)
    broken[len(photo) // 2 + number % 99] ^= 0xFF
    attacks = (
        (path, photo[: len(photo) * (number % 97) // 97]),
        (path, _bomb()),
        (path, b"<svg xmlns='http://www.w3.org/2000/svg'/>" * 9),
        (path, b"\0\0\0\x18ftypheic" + rubbish),
        ("/geopose", b"[" * 200_000),
        (f"{path}?camera={camera}", photo),
        (path, bytes(broken)),
    )
    kind = number % (len(attacks) + 1)
    return _cut_off(service, path) if kind == len(attacks) else _post(service, *attacks[kind])


def _post(service: _Service, path: str, body: bytes) -> str:
    connection = http.client.HTTPConnection(service.url.partition("//")[2], timeout=60)
    try:
        connection.request("POST", path, body)
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def _cut_off(service: _Service, path: str) -> str:
    host, _, port = service.url.partition("//")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as slow:
        slow.sendall(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\n".encode())
    return "gone"


def _bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(bytes(90_001 * 8)))


# -- memory ------------------------------------------------------------------------------------


def _memory(service: _Service) -> str:
    """Resident sets of the service and of its processes, from Linux."""
    asked = (service.pid, service.template(), *service.workers())
    own, template, *workers = (f"{resident_megabytes(pid):.0f}" for pid in asked)
    return f"service {own}, template {template}, workers {' '.join(workers)} MB"


def _say_memory(service: _Service, when: str) -> None:
    first = resident_megabytes(service.template())
    own = [own_megabytes(pid) for pid in service.workers()]
    print(
        f"  {when}, workers have {' '.join(f'{one:.0f}' for one in own)} MB of their own, "
        f"{max(own) / first:.0%} of the {first:.0f} MB that are loaded once"
    )


def own_megabytes(pid: int) -> float:
    """What a process shares with no other."""
    return _rollup(pid, "Private_Dirty") + _rollup(pid, "Private_Clean")


def resident_megabytes(pid: int) -> float:
    """What a process has in memory, shared or not."""
    return _rollup(pid, "Rss")


def _rollup(pid: int, key: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def checksum(folder: Path) -> str:
    """Of all files below a folder: names, contents, times."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path} {path.stat().st_mtime_ns}".encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


if __name__ == "__main__":
    tyro.cli(Arguments).run()
