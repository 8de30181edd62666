"""Whether claimed poses follow one another as a camera in a hand does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray

# A step is a jump when it is this many times the median of the steps around it, and of all steps.
# A walk's fastest steps are 5 times its median.
_JUMP = 12.0
_WINDOW = 15  # odd
_SHORT = 40  # fewer images are a set of photos, which may be anywhere
# A pose between two others is isolated when these are this much nearer to each other than to it.
_ISOLATION = 0.25
# Photos in no order have steps as long as the place; a walk's median step is a small part of it.
_WALK = 0.15


class Motion(NamedTuple):
    """What is implausible about a run of poses."""

    isolated: list[int]  # rows that are far from both neighbours, which are near each other
    jumps: list[int]  # rows after which the camera is suddenly elsewhere


def implausible_motion(poses: Sequence[Rigid3], run: range) -> Motion:
    """Isolated poses and jumps in one run of images, in order; none where it is no walk."""
    centres = np.array([poses[row].translation for row in run]).reshape(-1, 3)
    motion = Motion([], [])
    if len(centres) < _SHORT:
        return motion
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    extent = float(np.linalg.norm(centres - np.median(centres, axis=0), axis=1).max())
    median = float(np.median(steps))
    if median > _WALK * extent:
        return motion
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(steps, _WINDOW // 2, mode="reflect"), _WINDOW
    )
    typical = np.maximum(np.median(windows, axis=1), max(median, 1e-9 * extent))
    long = steps > _JUMP * typical
    for at in np.flatnonzero(long).tolist():
        if at + 1 < len(steps) and long[at + 1] and _is_isolated(centres, at + 1):
            motion.isolated.append(run[at + 1])
        elif not (at > 0 and long[at - 1] and _is_isolated(centres, at)):
            motion.jumps.append(run[at])
    return motion


def _is_isolated(centres: FloatArray, row: int) -> bool:
    if not 0 < row < len(centres) - 1:
        return False
    across = float(np.linalg.norm(centres[row + 1] - centres[row - 1]))
    away = np.linalg.norm(centres[[row - 1, row + 1]] - centres[row], axis=1)
    return across < _ISOLATION * float(away.min())
