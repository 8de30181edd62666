"""CPU seconds of what everybody waits for: the import, the help, one photo's pose.

Run with a Place that has a map, and a photo:

    python benchmarks/startup.py PLACE PHOTO [--before CHECKOUT]

Each is a process of its own; user and system time of all its threads, the median of several runs
with the files in the system's cache and the bytecode compiled. With ``--before`` another checkout's
runs alternate with these, so that what else the machine does is in both.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

import relocalize

_WANTED = {
    "python -c pass": None,
    "import relocalize": 0.15,
    "relocalize --help": 0.5,
    "relocalize localize": 1.2,
}


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
    sources = {"now": Path(relocalize.__file__).parents[1]}
    if settings.before is not None:
        sources = {"before": settings.before / "src", **sources}
    heads = "".join(f"{source:>9}" for source in sources)
    print(f"CPU s, median of {settings.runs:<7}{heads}{'ratio':>9}{'wanted':>9}")
    with tempfile.TemporaryDirectory() as temporary:
        # One for each: another version's localizers are fitted anew.
        places = {source: Path(temporary, source) for source in sources}
        for place in places.values():
            shutil.copytree(settings.place, place)
        for name, wanted in _WANTED.items():
            found: dict[str, list[float]] = {source: [] for source in sources}
            for run in range(settings.runs + 1):
                for source, folder in sources.items():
                    command = _command(name, places[source], settings.photo)
                    seconds = cpu_seconds(command, folder)
                    if run:  # the first one fits, and fills the caches
                        found[source].append(seconds)
            medians = [statistics.median(values) for values in found.values()]
            numbers = "".join(f"{median:9.3f}" for median in medians)
            ratio = f"{medians[0] / medians[-1]:9.1f}"
            print(f"{name:24}{numbers}{ratio}" + (f"{wanted:9.2f}" if wanted else ""), flush=True)


def _command(name: str, place: Path, photo: Path) -> list[str]:
    arguments = {
        "python -c pass": ["-c", "pass"],
        "import relocalize": ["-c", "import relocalize"],
        "relocalize --help": ["-m", "relocalize", "--help"],
        "relocalize localize": ["-m", "relocalize", "localize", str(place), str(photo)],
    }
    return [sys.executable, *arguments[name]]


def cpu_seconds(command: list[str], source: Path) -> float:
    """Of a process that runs to its end with the package in the folder ``source``."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main(tyro.cli(Startup))
