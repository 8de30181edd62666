"""Whether one localizer is better than another: a paired test on the same images.

The test asks how often a difference as large would come about if it did not matter which of the
two answered: the two answers to all images of a cluster (see `clusters_of`) change sides by the
toss of a coin, all coins at once where there are few clusters, else 9,999 times. A failure is an
infinite error, of which no difference can be taken, so errors count by their rank among those of
both localizers together (the rank difference test; Kornbrot, British Journal of Mathematical and
Statistical Psychology 1990); what is right or wrong counts as it is (McNemar's test, were every
image a cluster of its own).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import rankdata

from relocalize.evaluation.confidence import Interval, Resamples
from relocalize.evaluation.metrics import LEAD_THRESHOLD, PoseErrors
from relocalize.geometry.transforms import FloatArray

_ALL_COINS = 13  # clusters up to which every one of 2^n outcomes is looked at
_TOSSES = 9999
_SAME = 1e-9  # relative: sums that differ by rounding alone are as extreme


@dataclass(frozen=True)
class Difference:
    """One number of two localizers on the same images."""

    a: str  # the one localizer
    b: str  # the other
    metric: str  # ``median_position``, ``median_rotation_deg`` or ``recall_`` and a threshold's key
    difference: float  # a's number minus b's; not finite where one median is infinite
    # 95% of the difference, or None where there are too few clusters to say
    interval: Interval | None
    p: float  # how often chance alone makes a difference as large
    # the same when asked of all pairs of the table at once (Holm, Scandinavian Journal of
    # Statistics 1979)
    p_holm: float


def differences(
    errors: Mapping[str, PoseErrors], resamples: Resamples, *, metric: bool
) -> list[Difference]:
    """Every pair of localizers in each number; recall only where lengths are metres."""
    compared = [
        _Compared(name, values, resamples.medians, np.median, _rank_differences)
        for name, values in (
            ("median_position", {name: one.position for name, one in errors.items()}),
            ("median_rotation_deg", {name: one.rotation_deg for name, one in errors.items()}),
        )
    ]
    if metric:
        right = {name: one.within(LEAD_THRESHOLD).astype(float) for name, one in errors.items()}
        name = f"recall_{LEAD_THRESHOLD.key}"
        compared.append(_Compared(name, right, resamples.means, np.mean, np.subtract))
    return [one for number in compared for one in number.differences(resamples)]


@dataclass(frozen=True)
class _Compared:
    """A number of a table, by localizer."""

    name: str  # in result files
    values: dict[str, FloatArray]  # [N] that it is made of, by localizer
    drawn: Callable[[FloatArray], FloatArray]  # the number in each draw of the images
    of_all: Callable[[FloatArray], Any]  # the number of all images
    # what the test sums up, of two localizers' values
    by_image: Callable[[FloatArray, FloatArray], FloatArray]

    def differences(self, resamples: Resamples) -> list[Difference]:
        """Of each two localizers."""
        values, pairs = self.values, list(combinations(self.values, 2))
        drawn = {name: self.drawn(one) for name, one in values.items()}
        p = []
        for a, b in pairs:
            by_image = self.by_image(values[a], values[b])
            by_cluster = np.bincount(resamples.clusters, weights=by_image).astype(np.float64)
            p.append(sign_flip_p(by_cluster))
        return [
            Difference(
                a,
                b,
                self.name,
                float(_minus(self.of_all(values[a]), self.of_all(values[b]))),
                resamples.interval(_minus(drawn[a], drawn[b])),
                alone,
                corrected,
            )
            for (a, b), alone, corrected in zip(pairs, p, _holm(p), strict=True)
        ]


def sign_flip_p(values: FloatArray, *, seed: int = 0) -> float:
    """How often random signs give values [P] a sum as far from 0 as the one that they have.

    Exact where P is small, else a Monte Carlo estimate that counts what was seen as one of the
    tosses, so that it is never 0 (Phipson and Smyth, "Permutation P-values Should Never Be Zero",
    2010). `scipy.stats.permutation_test` is equal, and takes 6 to 40 times as long.
    """
    seen = abs(float(values.sum()))
    limit = seen - _SAME * float(np.abs(values).sum())
    if len(values) <= _ALL_COINS:
        bits = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
        return float((np.abs((2 * bits - 1) @ values) >= limit).mean())
    signs = 2 * np.random.default_rng(seed).integers(2, size=(_TOSSES, len(values))) - 1
    return float(((np.abs(signs @ values) >= limit).sum() + 1) / (_TOSSES + 1))


def _rank_differences(a: FloatArray, b: FloatArray) -> FloatArray:
    ranks = rankdata(np.concatenate([a, b]))
    return np.asarray(ranks[: len(a)] - ranks[len(a) :], dtype=np.float64)


def _minus(a: Any, b: Any) -> FloatArray:
    """The difference ``a - b``; 0 where both are infinite."""
    both = np.isinf(a) & np.isinf(b)
    return np.asarray(np.where(both, 0, a) - np.where(both, 0, b), dtype=np.float64)


def _holm(p: list[float]) -> list[float]:
    """Corrected for their number."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    times = np.arange(len(p), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(np.take(p, order) * times))
    return list(corrected.tolist())
