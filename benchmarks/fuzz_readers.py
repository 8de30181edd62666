"""Reads broken files with every reader of foreign formats: no crash, no hang, one line each.

    python benchmarks/fuzz_readers.py [--inputs 100000] [--formats tum kitti ...] [--data FOLDER]

Input i of a format is the same on every run. What may come of it: a `Registration` whose poses and
cameras can be used, or a `RelocalizeError` of one line. Each format is read in a process of its own
with bounded memory; one that dies is told apart by its last input, and the rest goes on after it.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from fuzz_mutations import mutated
from fuzz_samples import Sample, samples
from relocalize.errors import RelocalizeError
from relocalize.formats.registry import FORMATS

_CPU_S_PER_INPUT = 5.0  # a reader that is not done with a few kilobytes by then hangs
_HUNG_S = 120.0  # without a next input, where a library does not listen to the timer
_MEMORY = 6 << 30  # address space of a reading process, the libraries' own included
_LONGEST_LINE = 1000
_DETECT_ALL = 20  # every so manieth input is shown to all formats' `detect`


class Hang(BaseException):
    """An input took too long; no `except Exception` may swallow this."""


@dataclass
class Outcome:
    """What came of the inputs of one format."""

    format: str
    inputs: int = 0
    read: int = 0
    refused: int = 0
    crashes: dict[str, int] = field(default_factory=dict)
    example: dict[str, int] = field(default_factory=dict)
    slowest_ms: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0

    def add(self, other: Outcome) -> None:
        """Count another process's inputs of the same format too."""
        self.inputs += other.inputs
        self.read += other.read
        self.refused += other.refused
        for what, count in other.crashes.items():
            self.crashes[what] = self.crashes.get(what, 0) + count
        self.example = other.example | self.example
        self.slowest_ms = max(self.slowest_ms, other.slowest_ms)
        self.cpu_s += other.cpu_s
        self.peak_mb = max(self.peak_mb, other.peak_mb)


def broken(format_name: str, own: list[Sample], number: int) -> tuple[Sample, str, bytes]:
    """Input ``number`` of a format: the sample, and which file of it becomes what."""
    rng = random.Random(f"{format_name} {number}")
    sample = rng.choice(own)
    names = sorted(sample.files)
    texts = [name for name in names if not name.endswith((".png", ".jpg"))]
    name = rng.choice(texts if rng.random() < 0.98 else names)
    return sample, name, mutated(rng, sample.files[name], name)


def fuzz(
    format_name: str,
    own: list[Sample],
    numbers: range,
    reached: Synchronized[int] | None = None,
) -> Outcome:
    """Read the inputs ``numbers`` of a format in this process.

    Args:
        format_name: key of `FORMATS`.
        own: its samples.
        numbers: which inputs.
        reached: is set to each input's number before it is read.
    """
    outcome = Outcome(format_name)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        roots = {}
        for number, sample in enumerate(own):
            roots[id(sample)] = Path(folder) / str(number)
            for name, data in sample.files.items():
                path = roots[id(sample)] / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        for number in numbers:
            if reached is not None:
                reached.value = number
            sample, name, data = broken(format_name, own, number)
            root = roots[id(sample)]
            (root / name).write_bytes(data)
            _read(outcome, root / sample.entry, number)
            (root / name).write_bytes(sample.files[name])
    outcome.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return outcome


def _read(outcome: Outcome, path: Path, number: int) -> None:
    outcome.inputs += 1
    started = time.process_time()
    try:
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, _CPU_S_PER_INPUT)
            outcome.read += _use(outcome.format, path, everywhere=number % _DETECT_ALL == 0)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except RelocalizeError as error:
        outcome.refused += 1
        message = str(error)
        if len(message.splitlines()) != 1 or len(message) > _LONGEST_LINE:
            _note(outcome, f"a message of several lines or 1000 letters: {message[:80]!r}", number)
    except (Exception, Hang) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {str(error)[:80]}"
        _note(outcome, f"{Path(where.filename).name}:{where.lineno} {said}", number)
    took = time.process_time() - started
    outcome.cpu_s += took
    outcome.slowest_ms = max(outcome.slowest_ms, 1000 * took)


def _use(format_name: str, path: Path, *, everywhere: bool) -> bool:
    """Detect and read, and ask what a user of the registration asks."""
    for name in FORMATS if everywhere else [format_name]:
        FORMATS[name].detect(path)
    registration = FORMATS[format_name].read(path)
    for line in (*registration.problems, *registration.remarks):
        if len(line.splitlines()) != 1 or len(line) > _LONGEST_LINE:
            raise ValueError(f"a problem of several lines or 1000 letters: {line[:80]!r}")
    for name in list(registration.poses)[:3]:
        registration.world_from_cam(name)
        registration.camera_of(name, 640, 480)
    registration.stated.convention.world_from_cam(
        registration.stated.rotations[:3], registration.stated.positions[:3]
    )
    return True


def _note(outcome: Outcome, what: str, number: int) -> None:
    outcome.crashes[what] = outcome.crashes.get(what, 0) + 1
    outcome.example.setdefault(what, number)


# -- processes -------------------------------------------------------------------------------


def _on_timer(*_: object) -> None:
    raise Hang(f"more than {_CPU_S_PER_INPUT:g} s of one input")


def _child(
    format_name: str, own: list[Sample], numbers: range, reached: Synchronized[int], out: Any
) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGVTALRM, _on_timer)
    warnings.simplefilter("error")  # they would be lines on the user's terminal
    out.send(fuzz(format_name, own, numbers, reached))


def fuzz_apart(format_name: str, own: list[Sample], inputs: int, batch: int = 25_000) -> Outcome:
    """Read ``inputs`` inputs of a format in processes of their own, which may die."""
    context = multiprocessing.get_context("spawn")
    total, first = Outcome(format_name), 0
    while first < inputs:
        reached = context.Value("q", first)
        receiver, sender = context.Pipe(duplex=False)
        numbers = range(first, min(inputs, first + batch))
        child = context.Process(target=_child, args=(format_name, own, numbers, reached, sender))
        child.start()
        sender.close()
        seen, since = reached.value, time.monotonic()
        while not receiver.poll(1.0) and child.is_alive():
            if reached.value != seen:
                seen, since = reached.value, time.monotonic()
            elif time.monotonic() - since > _HUNG_S:
                child.kill()
        try:
            total.add(receiver.recv())
            first = numbers.stop
        except EOFError:
            # What the process had counted before is lost with it; this input is what matters.
            child.join()
            _note(total, f"the process ended with {child.exitcode}", int(reached.value))
            total.inputs += int(reached.value) + 1 - first
            first = int(reached.value) + 1
        child.join()
    return total


def main(
    inputs: int = 100_000,
    formats: tuple[str, ...] = (),
    data: Path | None = None,
    show: int | None = None,
    json_file: Path | None = None,
) -> None:
    """Fuzz every reader, or some.

    Args:
        inputs: broken files per format.
        formats: keys of FORMATS; none is all.
        data: folder of other tools' exports, whose small files are broken too.
        show: instead write this one input of the one format to stdout.
        json_file: also write the outcomes there.
    """
    own = samples(data)
    if show is not None:
        _, name, content = broken(formats[0], own[formats[0]], show)
        print(f"{name}:", file=sys.stderr)
        sys.stdout.buffer.write(content)
        return
    outcomes = []
    for name in formats or tuple(FORMATS):
        outcomes.append(fuzz_apart(name, own[name], inputs))
        print(f"{name}: {len(outcomes[-1].crashes)} kinds of crash", file=sys.stderr, flush=True)
        if json_file is not None:
            json_file.write_text(json.dumps([asdict(one) for one in outcomes], indent=1))
    table = Table("reader", "inputs", "read", "refused", "crashes", "slowest ms", "CPU s", "MB")
    for one in outcomes:
        counts = (one.inputs, one.read, one.refused, sum(one.crashes.values()))
        cells = (f"{one.slowest_ms:.0f}", f"{one.cpu_s:.0f}", f"{one.peak_mb:.0f}")
        table.add_row(one.format, *(str(count) for count in counts), *cells)
    Console(width=100).print(table)
    for one in outcomes:
        for what, count in one.crashes.items():
            print(f"{one.format}: {count} x {what} (first: input {one.example[what]})")


if __name__ == "__main__":
    tyro.cli(main)
