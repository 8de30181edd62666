"""Which frames of a video to keep: sharp ones at even steps of image motion.

A selection runs along a *track*: a number per frame that never falls and grows by 1 from one
kept frame to the next. Motion divided by the step is a track, and so is time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import percentile_filter

from relocalize.geometry.transforms import FloatArray


class Seen(IntEnum):
    """What the decoder and the motion measurement say about a frame."""

    USABLE = 0
    NO_TEXTURE = 1
    DAMAGED = 2
    OTHER_SIZE = 3


_UNUSABLE = {
    Seen.NO_TEXTURE: "nothing to see: no texture",
    Seen.DAMAGED: "damaged: the decoder had to make up parts of it",
    Seen.OTHER_SIZE: "the image has another size than the first",
}


@dataclass(frozen=True, eq=False)
class Curve:
    """What was measured on each of a video's N frames."""

    times: FloatArray  # [N] seconds from the first frame
    motion: FloatArray  # [N] sum of image motion so far, in shares of the image's longer side
    sharpness: FloatArray  # [N] variance of the Laplacian
    seen: NDArray[np.int8]  # [N] `Seen`

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True)
class SelectionSettings:
    """How frames are selected."""

    # 0.0135 and 15 a second give every third frame of a 30 fps walk at indoor speed (7-Scenes
    # redkitchen), which leaves mapping three times what it needs to choose its keyframes from.
    step: float = 0.0135  # image motion between kept frames, in shares of the longer side
    max_rate: float = 15.0  # kept frames a second at most, where no count or time step is given
    window: float = 0.35  # of a step, in which a kept frame lies around its ideal place
    # A horizontal blur of 5% of the width takes the variance to 0.35-0.4 of what it was.
    blur: float = 0.45  # of its neighbours' sharpness: a frame that has less is blurred
    blur_reach: float = 0.7  # seconds within which neighbours lie
    blurred_gap: float = 0.15  # motion after which a blurred frame is better than none
    rest: float = 0.008  # motion per second below which the camera rests,
    rest_seconds: float = 0.5  # over this long at least


DEFAULT_SELECTION = SelectionSettings()


@dataclass(frozen=True, eq=False)
class Selection:
    """The result."""

    kept: list[int]  # indices of the kept frames, ascending
    reasons: list[str]  # [N] why each frame was not kept; empty where it was
    relative_sharpness: FloatArray  # [N] share of the sharpness that near frames have


def select(
    curve: Curve,
    settings: SelectionSettings,
    *,
    count: int | None = None,
    every_s: float | None = None,
) -> Selection:
    """Choose by even motion, about ``count`` frames of it, or one frame each ``every_s``."""
    sharp, resting = relative_sharpness(curve, settings), rests(curve, settings)
    if every_s is not None:
        kept = _along(curve.times / every_s, curve, settings, sharp, resting, by_time=True)
    elif count is not None:
        kept = _about(count, curve, settings, sharp, resting)
    else:
        kept = _along(_motion_track(curve, settings), curve, settings, sharp, resting)
    reasons = np.full(len(curve), "too near a kept frame", dtype=object)
    reasons[sharp < settings.blur] = "blurred"
    reasons[resting] = "the camera rests"
    for seen, words in _UNUSABLE.items():
        reasons[curve.seen == seen] = words
    reasons[kept] = ""
    return Selection(kept, reasons.tolist(), sharp)


def relative_sharpness(curve: Curve, settings: SelectionSettings) -> FloatArray:
    """Sharpness over that of the sharper frames within `blur_reach` seconds; near 1 if sharp.

    The 75th percentile of the neighbours stands for what the view could give: it survives
    bursts of blur up to three quarters of the time looked at.
    """
    if len(curve) == 0:
        return np.zeros(0)
    reach = max(1, round(settings.blur_reach / _frame_seconds(curve)))
    near = percentile_filter(curve.sharpness, 75, size=2 * reach + 1, mode="nearest")
    return np.asarray(curve.sharpness / np.maximum(near, 1e-9), dtype=np.float64)


def rests(curve: Curve, settings: SelectionSettings) -> NDArray[np.bool_]:
    """[N] whether the camera rests: slower than `rest` all through `rest_seconds`."""
    times, motion = curve.times, curve.motion
    span = settings.rest_seconds
    resting = np.zeros(len(curve), dtype=bool)
    # Each frame opens a span; where the motion within it is small, all of it rests.
    ends = np.searchsorted(times, times + span - 1e-9)
    for start, end in enumerate(ends.tolist()):
        whole = end < len(curve)
        if whole and motion[end] - motion[start] < settings.rest * (times[end] - times[start]):
            resting[start : end + 1] = True
    return resting


def _along(
    track: FloatArray,
    curve: Curve,
    settings: SelectionSettings,
    sharp: FloatArray,
    resting: NDArray[np.bool_],
    *,
    by_time: bool = False,
) -> list[int]:
    """The best frame about each whole number of ``track`` [N]; by time, at rest too."""
    kept: list[int] = []
    if len(track) == 0:
        return kept
    window, gap = settings.window, settings.blurred_gap
    target, last_target = 0.0, float(track[-1]) + window
    while target <= last_target:
        begin = int(np.searchsorted(track, target - window, side="left"))
        end = int(np.searchsorted(track, target + window, side="right"))
        if begin == len(track):
            break
        if begin == end:
            # So fast that no frame falls into the window: on to the next there is.
            target, end = max(target, float(np.round(track[begin]))), begin + 1
        candidates = np.arange(max(begin, kept[-1] + 1) if kept else begin, end)
        candidates = candidates[curve.seen[candidates] == Seen.USABLE]
        if kept:
            candidates = candidates[track[candidates] - track[kept[-1]] >= 0.5]
        if not by_time:
            moving = candidates[~resting[candidates]]
            candidates = moving if len(moving) else candidates[:1]
        if len(candidates):
            off = np.abs(track[candidates] - target) / window
            # At the window's edge a frame has to be 1.4 times as sharp as at its centre.
            best = int(candidates[np.argmax(sharp[candidates] * (1.0 - 0.3 * off))])
            since = curve.motion[best] - curve.motion[kept[-1]] if kept else gap
            if by_time or sharp[best] >= settings.blur or since >= gap:
                kept.append(best)
        target += 1.0
    return kept


def _motion_track(curve: Curve, settings: SelectionSettings) -> FloatArray:
    """Steps of motion, but growing by at most `max_rate` a second."""
    steps = np.diff(curve.motion) / settings.step
    most = np.maximum(np.diff(curve.times), 0.0) * settings.max_rate
    return np.concatenate([[0.0], np.cumsum(np.minimum(steps, most))])


def _about(
    count: int,
    curve: Curve,
    settings: SelectionSettings,
    sharp: FloatArray,
    resting: NDArray[np.bool_],
) -> list[int]:
    """Bisect the step until about ``count`` frames are kept."""
    motion = curve.motion
    total = float(motion[-1]) if len(motion) else 0.0
    if total <= 0.0:
        return _along(motion, curve, settings, sharp, resting)
    best: list[int] = []
    # With a step under 1/8 of the smallest mean step, every frame that moves is its own step.
    low, high = total / (8.0 * len(motion)), total
    for _ in range(24):
        step = float(np.sqrt(low * high))
        kept = _along(motion / step, curve, settings, sharp, resting)
        if not best or abs(len(kept) - count) < abs(len(best) - count):
            best = kept
        if len(kept) == count:
            break
        low, high = (step, high) if len(kept) > count else (low, step)
    return best


def _frame_seconds(curve: Curve) -> float:
    steps = np.diff(curve.times)
    steps = steps[steps > 0]
    return float(np.median(steps)) if len(steps) else 1.0 / 30.0
