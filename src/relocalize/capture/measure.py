"""The first pass over a video: every frame measured once, resumable after a kill."""

from __future__ import annotations

import io
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize import progress
from relocalize.capture.motion import MotionMeter, sharpness
from relocalize.capture.selection import Curve, Seen
from relocalize.capture.video import Image, open_video
from relocalize.place import atomic

_SAVE_SECONDS = 5.0  # at most this much work is lost to a kill
_NO_STAMP = -(2**63)


@dataclass(frozen=True, eq=False)
class Measured:
    """What the first pass found.

    Attributes:
        curve: the measurements of all N frames.
        stamps: [N] presentation stamps, int64.
        broke: at which second and why the video ends early, or None.
    """

    curve: Curve
    stamps: NDArray[np.int64]
    broke: str | None

    def stamp_of(self, number: int) -> int | None:
        """The stamp of frame ``number`` if stamps name frames uniquely in this video."""
        if np.all(np.diff(self.stamps) > 0) and self.stamps[0] != _NO_STAMP:
            return int(self.stamps[number])
        return None


def measure(path: Path, checkpoint: Path) -> Measured:
    """Measure every frame of a video; ``checkpoint`` (.npz) keeps what was measured so far.

    Raises:
        CaptureError: the video cannot be opened.
    """
    run = _Run.load(checkpoint) or _Run()
    if run.complete:
        return run.measured()
    saved = time.monotonic()
    with open_video(path) as video:
        known = run.measured()
        done = len(run.times)
        resume_at = max(0, done - 1)
        stamp = known.stamp_of(resume_at) if done else None
        with progress.bar("measuring motion", video.announced_frames, "frames") as bar:
            bar.advance(done)
            for number, image in video.images_from(resume_at, stamp):
                if number < done:
                    continue
                run.take(image, video.frame_s)
                bar.advance()
                if time.monotonic() - saved > _SAVE_SECONDS:
                    run.save(checkpoint)
                    saved = time.monotonic()
        run.broke = video.where_it_broke(run.times[-1] if run.times else 0.0)
    run.complete = True
    run.save(checkpoint)
    return run.measured()


@dataclass
class _Run:
    """The first pass under way."""

    times: list[float] = field(default_factory=list)
    motion: list[float] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    meter: MotionMeter = field(default_factory=MotionMeter)
    size: tuple[int, int] = (0, 0)
    start_s: float = 0.0
    broke: str | None = None
    complete: bool = False

    def take(self, image: Image, frame_s: float) -> None:
        """Measure the next image."""
        number = len(self.times)
        shown_at = image.time_s
        if number == 0:
            self.size = image.stored_size
            self.start_s = shown_at or 0.0
        since_start = number * frame_s if shown_at is None else shown_at - self.start_s
        self.times.append(max(since_start, self.times[-1] if number else 0.0))
        self.stamps.append(_NO_STAMP if image.stamp is None else image.stamp)
        if image.stored_size != self.size:
            seen, sharp = Seen.OTHER_SIZE, 0.0
        elif image.is_damaged:
            seen, sharp = Seen.DAMAGED, 0.0
        else:
            luma = image.luma()
            seen = Seen.USABLE if self.meter.see(luma) else Seen.NO_TEXTURE
            sharp = sharpness(luma)
        self.motion.append(self.meter.motion)
        self.sharpness.append(sharp)
        self.seen.append(int(seen))

    def measured(self) -> Measured:
        """What is known so far."""
        curve = Curve(
            times=np.array(self.times, dtype=np.float64),
            motion=np.array(self.motion, dtype=np.float64),
            sharpness=np.array(self.sharpness, dtype=np.float64),
            seen=np.array(self.seen, dtype=np.int8),
        )
        return Measured(curve, np.array(self.stamps, dtype=np.int64), self.broke)

    def save(self, path: Path) -> None:
        """Write everything, in one step."""
        arrays: dict[str, Any] = {
            "times": np.array(self.times),
            "motion": np.array(self.motion),
            "sharpness": np.array(self.sharpness),
            "seen": np.array(self.seen, dtype=np.int8),
            "stamps": np.array(self.stamps, dtype=np.int64),
            "size": np.array(self.size),
            "start_s": np.array(self.start_s),
            "broke": np.array(self.broke or ""),
            "complete": np.array(self.complete),
        }
        arrays |= {f"meter_{key}": value for key, value in self.meter.state().items()}
        data = io.BytesIO()
        np.savez(data, **arrays)
        atomic.write_bytes(path, data.getvalue())

    @classmethod
    def load(cls, path: Path) -> _Run | None:
        """What `save` wrote, or None where there is nothing (readable)."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                meter = {
                    key.removeprefix("meter_"): arrays[key]
                    for key in arrays.files
                    if key.startswith("meter_")
                }
                width, height = arrays["size"].tolist()
                return cls(
                    times=arrays["times"].tolist(),
                    motion=arrays["motion"].tolist(),
                    sharpness=arrays["sharpness"].tolist(),
                    seen=arrays["seen"].tolist(),
                    stamps=arrays["stamps"].tolist(),
                    meter=MotionMeter.from_state(meter),
                    size=(width, height),
                    start_s=float(arrays["start_s"]),
                    broke=str(arrays["broke"]) or None,
                    complete=bool(arrays["complete"]),
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None
