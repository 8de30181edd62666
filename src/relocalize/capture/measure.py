"""The first pass over a video: every frame measured once, resumable after a kill."""

from __future__ import annotations

import io
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relocalize import progress
from relocalize.capture.motion import MotionMeter, sharpness
from relocalize.capture.selection import Curve, Seen
from relocalize.capture.video import Image, open_video
from relocalize.place import atomic

_SAVE_SECONDS = 5.0  # at most this much work is lost to a kill
_NO_STAMP = -(2**63)
_FRAME = [("time", "f8"), ("motion", "f8"), ("sharpness", "f8"), ("seen", "i1"), ("stamp", "i8")]


@dataclass(frozen=True, eq=False)
class Measured:
    """What the first pass found."""

    curve: Curve  # the measurements of all N frames
    stamps: NDArray[np.int64]  # [N] presentation stamps, int64
    broke: str | None  # at which second and why the video ends early, or None

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
    run = _Run.load(checkpoint)
    if run.complete:
        return run.measured()
    saved = time.monotonic()
    with open_video(path) as video:
        done = len(run.frames)
        resume_at = max(0, done - 1)
        stamp = run.measured().stamp_of(resume_at) if done else None
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
        run.broke = video.where_it_broke(run.frames[-1][0] if run.frames else 0.0) or ""
    run.complete = True
    run.save(checkpoint)
    return run.measured()


@dataclass
class _Run:
    """The first pass under way: a row of `_FRAME` for each frame so far."""

    frames: list[tuple[float, float, float, int, int]] = field(default_factory=list)
    meter: MotionMeter = field(default_factory=MotionMeter)
    size: tuple[int, int] = (0, 0)
    start_s: float = 0.0
    broke: str = ""
    complete: bool = False

    def take(self, image: Image, frame_s: float) -> None:
        """Measure the next image."""
        number, shown_at = len(self.frames), image.time_s
        if number == 0:
            self.size = image.stored_size
            self.start_s = shown_at or 0.0
        since_start = number * frame_s if shown_at is None else shown_at - self.start_s
        at = max(since_start, self.frames[-1][0] if number else 0.0)
        seen, sharp = Seen.USABLE, 0.0
        if image.stored_size != self.size:
            seen = Seen.OTHER_SIZE
        elif image.is_damaged:
            seen = Seen.DAMAGED
        else:
            luma = image.luma()
            sharp = sharpness(luma)
            if not self.meter.see(luma):
                seen = Seen.NO_TEXTURE
        stamp = _NO_STAMP if image.stamp is None else image.stamp
        self.frames.append((at, self.meter.motion, sharp, int(seen), stamp))

    def measured(self) -> Measured:
        """What is known so far."""
        table = np.array(self.frames, _FRAME)
        curve = Curve(table["time"], table["motion"], table["sharpness"], table["seen"])
        return Measured(curve, table["stamp"], self.broke or None)

    def save(self, path: Path) -> None:
        """Write everything, in one step."""
        data = io.BytesIO()
        np.savez(
            data,
            allow_pickle=False,
            frames=np.array(self.frames, _FRAME),
            size=self.size,
            start_s=self.start_s,
            broke=self.broke,
            complete=self.complete,
            **{f"meter_{key}": value for key, value in self.meter.state().items()},
        )
        atomic.write_bytes(path, data.getvalue())

    @classmethod
    def load(cls, path: Path) -> _Run:
        """What `save` wrote, or a new one where there is nothing (readable)."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                meter = {
                    key.removeprefix("meter_"): arrays[key]
                    for key in arrays.files
                    if key.startswith("meter_")
                }
                width, height = arrays["size"].tolist()
                return cls(
                    frames=arrays["frames"].tolist(),
                    meter=MotionMeter.from_state(meter),
                    size=(width, height),
                    start_s=float(arrays["start_s"]),
                    broke=str(arrays["broke"]),
                    complete=bool(arrays["complete"]),
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return cls()
