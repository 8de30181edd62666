"""Which frames are trained on together, the same for the same epoch whenever it is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def epoch_batches(rows: Rows, batch_size: int, *, seed: int, epoch: int) -> list[Rows]:
    """The frames ``rows`` in random order, in batches of nearly equal size.

    A last batch of a few frames would be a step of their noise, and batch normalisation cannot
    do with one.

    Args:
        rows: of train frames.
        batch_size: the largest.
        seed: of the run.
        epoch: from 1.
    """
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    return np.array_split(order, max(1, -(-len(order) // batch_size)))


def epoch_tuples(
    rows: Rows,
    batch_size: int,
    *,
    size: int,
    spacing: int,
    captures: Sequence[str],
    seed: int,
    epoch: int,
) -> list[Rows]:
    """Batches of tuples of frames in time order, as many that each frame comes about once.

    Tuples do not span captures, nor what was cut out for validation (they may bridge it, as
    spacing does). A walk that is too short for the spacing has closer tuples.

    Args:
        rows: of train frames, rising, in time order within each capture.
        batch_size: in frames.
        size: frames of a tuple.
        spacing: frames from one of a tuple to the next.
        captures: of every frame.
        seed: of the run.
        epoch: from 1.
    """
    tuples = []
    for capture in dict.fromkeys(captures[row] for row in rows):
        walk = np.array([row for row in rows if captures[row] == capture])
        step = max(1, min(spacing, (len(walk) - 1) // max(1, size - 1)))
        last = len(walk) - step * (size - 1)
        tuples += [walk[start : start + step * (size - 1) + 1 : step] for start in range(last)]
    order = np.random.default_rng((seed, epoch)).permutation(len(tuples))
    kept = [tuples[index] for index in order[: max(1, -(-len(rows) // size))]]
    count = max(1, -(-len(kept) * size // batch_size))
    return [
        np.concatenate([kept[index] for index in part])
        for part in np.array_split(np.arange(len(kept)), count)
        if len(part)
    ]
