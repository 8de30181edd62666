"""How steady a training is: how much its validation error jumps, and differs between seeds.

Both are a **typical ratio**: the median over pairs of errors of ``|ln(a / b)|``, as the factor
``exp`` of it. 1 says that errors are the same; 1.1, that of two of them the larger is typically
10% above the smaller. A median, so that a single bad epoch does not stand for the run; of
logarithms, so that a run at 10 cm and one at 1 m are judged alike.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from statistics import median

_LAST = 2 / 3  # of the epochs are over where the last third begins


def epoch_to_epoch(errors: Sequence[float]) -> float | None:
    """The typical ratio of an epoch's validation error to that of the epoch before it, at least 1.

    Over the epochs of the last third of the run: of errors [E] those after number 2 E / 3, each
    with the one before it; None for fewer than two. Where there was no number it is infinite.
    """
    first = math.floor(_LAST * len(errors) + 1e-9)  # index of the first epoch of the last third
    return _typical_ratio(
        (errors[epoch - 1], errors[epoch]) for epoch in range(max(first, 1), len(errors))
    )


def seed_to_seed(errors: Sequence[float]) -> float | None:
    """The typical ratio of two of the final validation errors [S], one a seed; None for one seed.

    At least 1. That of a run which diverged is infinite.
    """
    return _typical_ratio(itertools.combinations(errors, 2))


def _typical_ratio(pairs: Iterable[tuple[float, float]]) -> float | None:
    logarithms = [_distance(a, b) for a, b in pairs]
    return math.exp(median(logarithms)) if logarithms else None


def _distance(a: float, b: float) -> float:
    """``|ln(a / b)|``; without an error to compare (or with none at all) it has no bound."""
    if a == b and math.isfinite(a):
        return 0.0
    if not (0 < a < math.inf and 0 < b < math.inf):
        return math.inf
    return abs(math.log(a / b))
