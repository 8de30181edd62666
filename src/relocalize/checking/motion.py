"""Whether claimed poses follow one another as a camera in a hand does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray

# A step is a jump when it is this many times the median of the steps around it, and of all steps.
# A walk's fastest steps are 5 times its median.
_JUMP = 12.0
_WINDOW = 15
_SHORT = 40  # fewer images are a set of photos, which may be anywhere
# A pose between two others is isolated when these are this much nearer to each other than to it.
_ISOLATION = 0.25
# Photos in no order have steps as long as the place; a walk's median step is a small part of it.
_WALK = 0.15


@dataclass(frozen=True)
class Motion:
    """What is implausible about a run of poses.

    Attributes:
        isolated: rows that are far from both neighbours, which are near each other.
        jumps: rows after which the camera is suddenly elsewhere.
        is_walk: whether the run moves in steps at all; else nothing is said of it.
    """

    isolated: tuple[int, ...]
    jumps: tuple[int, ...]
    is_walk: bool


def implausible_motion(poses: Sequence[Rigid3], run: range) -> Motion:
    """Isolated poses and jumps in one run of images, in order."""
    centres = np.array([poses[row].translation for row in run]).reshape(-1, 3)
    if len(centres) < _SHORT:
        return Motion((), (), is_walk=False)
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    extent = float(np.linalg.norm(centres - np.median(centres, axis=0), axis=1).max())
    median = float(np.median(steps))
    if median > _WALK * extent:
        return Motion((), (), is_walk=False)
    long = steps > _JUMP * np.maximum(_local_median(steps), max(median, 1e-9 * extent))
    isolated, jumps = [], []
    for at in np.flatnonzero(long):
        if at + 1 < len(steps) and long[at + 1] and _is_isolated(centres, at + 1):
            isolated.append(run[int(at) + 1])
        elif not (at > 0 and long[at - 1] and _is_isolated(centres, int(at))):
            jumps.append(run[int(at)])
    return Motion(tuple(isolated), tuple(jumps), is_walk=True)


def _is_isolated(centres: FloatArray, row: int) -> bool:
    if not 0 < row < len(centres) - 1:
        return False
    across = float(np.linalg.norm(centres[row + 1] - centres[row - 1]))
    away = np.linalg.norm(centres[[row - 1, row + 1]] - centres[row], axis=1)
    return across < _ISOLATION * float(away.min())


def _local_median(steps: FloatArray) -> NDArray[np.float64]:
    half = _WINDOW // 2
    padded = np.pad(steps, half, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    return np.median(windows, axis=1)
