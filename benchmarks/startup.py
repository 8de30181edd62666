"""CPU seconds of what everybody waits for: the import, the help, one photo's pose.

Run with a Place whose structure localizer is fitted, and a photo:

    python benchmarks/startup.py PLACE PHOTO [--before CHECKOUT]

Each is a process of its own; user and system time of all its threads, the median of several runs
with the files in the system's cache and the bytecode compiled. With ``--before`` another checkout's
runs alternate with these, so that what else the machine does is in both.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

import relocalize

_WANTED = {"import relocalize": 0.15, "relocalize --help": 0.5, "relocalize localize": 1.2}


@dataclass(frozen=True)
class Startup:
    """What is measured."""

    place: tyro.conf.Positional[Path]
    """A Place with a map."""
    photo: tyro.conf.Positional[Path]
    """A photo of it."""
    before: Path | None = None
    """Another checkout to compare with."""
    runs: int = 5
    """Of each process; their median counts."""


def main(settings: Startup) -> None:
    commands: dict[str, list[str | Path]] = {
        "python -c pass": ["-c", "pass"],
        "import relocalize": ["-c", "import relocalize"],
        "relocalize --help": ["-m", "relocalize", "--help"],
        "relocalize localize": ["-m", "relocalize", "localize", settings.place, settings.photo],
    }
    sources = {"now": Path(relocalize.__file__).parents[1]}
    if settings.before is not None:
        sources = {"before": settings.before / "src", **sources}
    print(
        f"{'CPU s, median of ' + str(settings.runs):24}", *(f"{one:>8}" for one in sources), end=""
    )
    print(f"{'ratio':>8}" if settings.before else "", f"{'wanted':>8}")
    for name, command in commands.items():
        found: dict[str, list[float]] = {source: [] for source in sources}
        for run in range(settings.runs + 1):
            for source, folder in sources.items():
                seconds = cpu_seconds([sys.executable, *(str(part) for part in command)], folder)
                if run:  # the first one fills the caches
                    found[source].append(seconds)
        medians = [statistics.median(values) for values in found.values()]
        print(f"{name:24}", *(f"{median:8.3f}" for median in medians), end="")
        print(f"{medians[0] / medians[-1]:8.1f}" if settings.before else "", end="")
        print(f" {_WANTED[name]:8.2f}" if name in _WANTED else "")


def cpu_seconds(command: list[str], source: Path) -> float:
    """Of a process that runs to its end with the package in the folder ``source``."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main(tyro.cli(Startup))
