"""How far a number of a table might be off: bootstrap intervals over pieces of the walk.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993: the percentile interval; what is
drawn with replacement are the pieces of `pieces`, whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.transforms import FloatArray

LEVEL = 0.95
SAMPLES = 1000
# The percentiles of so few pieces would be the smallest and the largest piece.
FEWEST_PIECES = 5
_AT_ONCE = 4_000_000  # counts of images held in memory

Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Resamples:
    """Draws of test images, the same ones for every localizer and number.

    Attributes:
        pieces: [N] the piece of each image.
        counts: [B, P] how often each of P pieces is in each of B draws.
    """

    pieces: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, pieces: NDArray[np.int64], *, samples: int = SAMPLES, seed: int = 0) -> Resamples:
        """Draw as many pieces as there are, with replacement, ``samples`` times."""
        many = int(pieces.max()) + 1
        draws = np.random.default_rng(seed).integers(many, size=(samples, many))
        rows = np.arange(samples)[:, None] * many
        counts = np.bincount((rows + draws).ravel(), minlength=samples * many)
        return cls(pieces, counts.reshape(samples, many))

    @property
    def say_something(self) -> bool:
        """Whether there are pieces enough for an interval."""
        return len(self.counts[0]) >= FEWEST_PIECES

    def medians(self, values: FloatArray) -> FloatArray:
        """[B] the median of values [N] in each draw, where infinity is a number like others."""
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        found = np.empty(len(self.counts))
        for rows, counts in self._of_images(self.pieces[order]):
            up_to = counts.cumsum(axis=1)
            half = up_to[:, -1:]
            below = (2 * up_to >= half).argmax(axis=1)
            above = (2 * up_to > half).argmax(axis=1)
            found[rows] = (ordered[below] + ordered[above]) / 2
        return found

    def means(self, values: FloatArray) -> FloatArray:
        """[B] the mean of values [N] in each draw; infinite where one of its values is."""
        endless = ~np.isfinite(values)
        many = self.counts.shape[1]
        sums = np.bincount(self.pieces, weights=np.where(endless, 0, values), minlength=many)
        sizes = np.bincount(self.pieces, minlength=many)
        has_endless = np.bincount(self.pieces, weights=endless, minlength=many)
        found = (self.counts @ sums) / (self.counts @ sizes)
        return np.where(self.counts @ has_endless > 0, np.inf, found)

    def interval(self, draws: FloatArray) -> Interval | None:
        """Where 95% of the draws [B] lie; None where there are too few pieces to say."""
        if not self.say_something:
            return None
        tail = (1 - LEVEL) / 2
        # Of two neighbours the outer one: between a number and infinity there is nothing.
        low = np.quantile(draws, tail, method="lower")
        high = np.quantile(draws, 1 - tail, method="higher")
        return float(low), float(high)

    def _of_images(self, pieces: NDArray[np.int64]) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        """How often each image is in each draw [b, N], some draws at a time."""
        step = max(1, _AT_ONCE // max(1, len(pieces)))
        for start in range(0, len(self.counts), step):
            rows = slice(start, start + step)
            yield rows, self.counts[rows][:, pieces]
