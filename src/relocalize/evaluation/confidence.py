"""How far a number of a table might be off: bootstrap intervals over clusters of images.

Neighbouring frames of a walk are near-copies: where one is localized well, so is the next. To
resample them one by one would take each for a new witness and state intervals that are far too
narrow. Images that follow one another are therefore kept together: a run of them, such as a test
block of a split by blocks, is one cluster. Where there are few runs, these are cut into clusters of
about the square root of the number of images (a length that grows with the sample, and slower than
it, as block methods need; Künsch, "The Jackknife and the Bootstrap for General Stationary
Observations", Annals of Statistics 1989).

Intervals are percentiles (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).
`scipy.stats.bootstrap` knows no clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.transforms import FloatArray

LEVEL = 0.95
SAMPLES = 1000
# The percentiles of so few clusters would be the smallest and the largest of them.
FEWEST_CLUSTERS = 5
_BREAK = 4  # a run of images ends at a step so many times the usual one
_ENOUGH_RUNS = 10  # with fewer, intervals of whole runs would rest on next to nothing
_AT_ONCE = 4_000_000  # counts of images held in memory

Interval = tuple[float, float]


def clusters_of(runs: Sequence[str], places: Sequence[int]) -> NDArray[np.int64]:
    """The cluster [N], counted from 0, of N images: by the walk of each, and its row there."""
    count = len(runs)
    numbers = np.unique(np.asarray(runs, dtype=str), return_inverse=True)[1].reshape(-1)
    at = np.asarray(places, dtype=np.int64)
    order = np.lexsort((at, numbers))
    steps = np.diff(at[order])
    same_run = np.diff(numbers[order]) == 0
    usual = float(np.median(steps[same_run])) if same_run.any() else 1.0
    begins = np.concatenate([[True], ~same_run | (steps > _BREAK * max(usual, 1.0))])[:count]
    found = np.zeros(count, dtype=np.int64)
    next_cluster = 0
    starts = np.flatnonzero(begins)
    longest = count if len(starts) >= _ENOUGH_RUNS else max(1, int(np.sqrt(count)))
    for start, end in zip(starts, [*starts[1:], count], strict=True):
        parts = -(-(end - start) // longest)
        found[order[start:end]] = next_cluster + np.arange(end - start) * parts // (end - start)
        next_cluster += parts
    return found


@dataclass(frozen=True, eq=False)
class Resamples:
    """Draws of test images, the same ones for every localizer and number."""

    clusters: NDArray[np.int64]  # [N] the cluster of each image
    counts: NDArray[np.int64]  # [B, P] how often each of P clusters is in each of B draws

    @classmethod
    def of(cls, clusters: NDArray[np.int64], *, samples: int = SAMPLES, seed: int = 0) -> Resamples:
        """Draw as many clusters as there are, with replacement, ``samples`` times."""
        many = int(clusters.max()) + 1
        draws = np.random.default_rng(seed).integers(many, size=(samples, many))
        rows = np.arange(samples)[:, None] * many
        counts = np.bincount((rows + draws).ravel(), minlength=samples * many)
        return cls(clusters, counts.reshape(samples, many))

    def medians(self, values: FloatArray) -> FloatArray:
        """[B] the median of values [N] in each draw, where infinity is a number like others."""
        order = np.argsort(values, kind="stable")
        ordered, clusters = values[order], self.clusters[order]
        found = np.empty(len(self.counts))
        parts = -(-self.counts.shape[0] * len(values) // _AT_ONCE)
        for rows in np.array_split(np.arange(len(found)), parts):
            up_to = self.counts[rows][:, clusters].cumsum(axis=1)
            half = up_to[:, -1:]
            below = (2 * up_to >= half).argmax(axis=1)
            above = (2 * up_to > half).argmax(axis=1)
            found[rows] = (ordered[below] + ordered[above]) / 2
        return found

    def means(self, values: FloatArray) -> FloatArray:
        """[B] the mean of values [N] in each draw; infinite where one of its values is."""
        endless = ~np.isfinite(values)
        many = self.counts.shape[1]
        sums = np.bincount(self.clusters, weights=np.where(endless, 0, values), minlength=many)
        sizes = np.bincount(self.clusters, minlength=many)
        has_endless = np.bincount(self.clusters, weights=endless, minlength=many)
        found = (self.counts @ sums) / (self.counts @ sizes)
        return np.where(self.counts @ has_endless > 0, np.inf, found)

    def interval(self, draws: FloatArray) -> Interval | None:
        """Where 95% of the draws [B] lie; None where there are too few clusters to say."""
        if self.counts.shape[1] < FEWEST_CLUSTERS:
            return None
        tail = (1 - LEVEL) / 2
        # Of two neighbours the outer one: between a number and infinity there is nothing.
        low = np.quantile(draws, tail, method="lower")
        high = np.quantile(draws, 1 - tail, method="higher")
        return float(low), float(high)
