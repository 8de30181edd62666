"""Which test images are counted as one when it is asked how sure a number is.

Neighbouring frames of a walk are near-copies: where one is localized well, so is the next. To
resample them one by one would take each for a new witness and state intervals that are far too
narrow. Images that follow one another are therefore kept together: a run of them, such as a test
block of a split by blocks, is one piece. Where there are few runs, these are cut into pieces of
about the square root of the number of images (a length that grows with the sample, and slower than
it, as block methods need; Künsch, "The Jackknife and the Bootstrap for General Stationary
Observations", Annals of Statistics 1989).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BREAK = 4  # a run of images ends at a step so many times the usual one
_ENOUGH_RUNS = 10  # with fewer, intervals of whole runs would rest on next to nothing


def pieces(runs: Sequence[str], places: Sequence[int]) -> NDArray[np.int64]:
    """The piece [N] of each of N images, numbered from 0.

    Args:
        runs: [N] the walk that each image is of.
        places: [N] where in its walk each image is: frame or row numbers.
    """
    count = len(runs)
    numbers = np.unique(np.asarray(runs, dtype=str), return_inverse=True)[1].reshape(-1)
    at = np.asarray(places, dtype=np.int64)
    order = np.lexsort((at, numbers))
    steps = np.diff(at[order])
    same_run = np.diff(numbers[order]) == 0
    usual = float(np.median(steps[same_run])) if same_run.any() else 1.0
    begins = np.concatenate([[True], ~same_run | (steps > _BREAK * max(usual, 1.0))])[:count]
    found = np.zeros(count, dtype=np.int64)
    next_piece = 0
    starts = np.flatnonzero(begins)
    longest = count if len(starts) >= _ENOUGH_RUNS else max(1, int(np.sqrt(count)))
    for start, end in zip(starts, [*starts[1:], count], strict=True):
        parts = -(-(end - start) // longest)
        found[order[start:end]] = next_piece + np.arange(end - start) * parts // (end - start)
        next_piece += parts
    return found
