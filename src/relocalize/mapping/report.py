"""What mapping did: for people, for `map/map.json`, and for whoever maps again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from relocalize import progress
from relocalize.plain import to_plain

_LOOSE_SCALE, _LOOSE_DEG = 0.01, 0.5  # one sigma of a walk that is worth a line


@dataclass(frozen=True)
class StageTime:
    """What a stage cost."""

    wall_s: float  # seconds that passed
    cpu_s: float  # processor seconds of all threads
    count: int  # items it worked on; 0 when everything was done before
    unit: str  # of the items

    @property
    def cpu_s_each(self) -> float:
        """Processor seconds an item."""
        return self.cpu_s / max(1, self.count)


@dataclass(frozen=True)
class Apart:
    """Images that are not in the map: consecutive ones of one capture, and the likely cause."""

    images: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Drift:
    """What is open between two places of a map, by the noise of its observations alone."""

    first: str  # image at one of them
    last: str  # image at the other
    # of the scale at one in that at the other, as a share; the largest along the walk
    scale_sigma: float
    # of one's direction against the other's, about the worst axis; the largest along the walk
    heading_sigma_deg: float

    @property
    def is_large(self) -> bool:
        """Whether lengths and angles measured in the map suffer from it."""
        return self.scale_sigma > _LOOSE_SCALE or self.heading_sigma_deg > _LOOSE_DEG

    def __str__(self) -> str:
        return (
            f"from {self.first} to {self.last}, noise alone may change the scale by "
            f"{100 * self.scale_sigma:.2g}% and the direction by {self.heading_sigma_deg:.2g}° "
            "(1 sigma); systematic errors may add to that"
        )


@dataclass(frozen=True)
class MapReport:
    """The outcome of mapping a Place.

    Attributes:
        images: images that were to have a pose.
        registered: images that have one.
        keyframes: images that the map was reconstructed from.
        keyframes_registered: those of them that came into the reconstruction itself.
        points: of the map.
        reprojection_error: mean over the points, pixels.
        features: the kind of local features.
        fragments: models that stay apart from the map.
        look_alikes: pairs that matched well and were left out: the map says they show two things.
        alarms: what is suspicious about the map.
        drift: how far scale and direction are held over one walk; None where there is none.
        weak_links: parts of the map that little holds to each other, and how firmly.
        apart: images without a pose, and why.
        intrinsics: with given poses: a line for each way in which intrinsics were known.
        stages: costs by stage, of this run.
        unchanged: whether the map was there already and nothing had to be done.
    """

    images: int
    registered: int
    keyframes: int
    keyframes_registered: int
    points: int
    reprojection_error: float
    features: str = "sift"
    fragments: int = 0
    look_alikes: int = 0
    alarms: tuple[str, ...] = ()
    drift: Drift | None = None
    weak_links: tuple[str, ...] = ()
    apart: tuple[Apart, ...] = ()
    intrinsics: tuple[str, ...] = ()
    stages: dict[str, StageTime] = field(default_factory=dict)
    unchanged: bool = False

    def __repr__(self) -> str:
        alarms = f", {len(self.alarms)} alarms" if self.alarms else ""
        return (
            f"MapReport({self.registered} of {self.images} images have a pose, {self.points} "
            f"points, reprojection error {self.reprojection_error:.2f} px{alarms})"
        )

    @property
    def remarks(self) -> list[str]:
        """What of the map is to be known, a line each: who is not in it, and what is doubtful."""
        lines = []
        for run in self.apart:
            first, last = run.images[0], run.images[-1]
            several = f"{first} to {last} ({len(run.images)} images)"
            what = first if len(run.images) == 1 else several
            lines.append(f"not in the map: {what}: {run.reason}")
        lines += [f"warning: {alarm}" for alarm in self.alarms]
        lines += [f"loose: {self.drift}"] if self.drift and self.drift.is_large else []
        return lines + [f"weak link: {link}" for link in self.weak_links]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        plain: dict[str, Any] = to_plain(self)
        return plain


class Stages:
    """Measures stages as they run."""

    def __init__(self) -> None:
        self.times: dict[str, StageTime] = {}

    @contextmanager
    def measure(self, name: str, unit: str) -> Iterator[Count]:
        """Time a stage; its items go into the yielded count. A name met again adds up."""
        count = Count()
        wall, cpu = time.perf_counter(), time.process_time()
        yield count
        before = self.times.get(name, StageTime(0.0, 0.0, 0, unit))
        self.times[name] = StageTime(
            round(before.wall_s + time.perf_counter() - wall, 3),
            round(before.cpu_s + time.process_time() - cpu, 3),
            before.count + count.items,
            unit,
        )

    def say(self) -> None:
        """One line a stage, for people."""
        for name, stage in self.times.items():
            progress.say(
                f"  {name}: {stage.count} {stage.unit}, {stage.wall_s:.1f} s, "
                f"{stage.cpu_s:.1f} CPU s ({1000 * stage.cpu_s_each:.0f} ms each)"
            )


@dataclass
class Count:
    """How many items a stage worked on."""

    items: int = 0
