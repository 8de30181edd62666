"""Whether one localizer is better than another: a paired test on the same images.

The test asks how often a difference as large would come about if it did not matter which of the
two answered: the two answers to all images of a piece (see `pieces`) change sides by the toss of
a coin, all coins at once where there are few pieces, else 9,999 times. A failure is an infinite
error, of which no difference can be taken, so errors count by their rank among those of both
localizers together (the rank difference test; Kornbrot, British Journal of Mathematical and
Statistical Psychology 1990); what is right or wrong counts as it is (McNemar's test, were every
image a piece of its own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from relocalize.evaluation.confidence import Interval, Resamples
from relocalize.evaluation.metrics import LEAD_THRESHOLD, PoseErrors, finite, median
from relocalize.geometry.transforms import FloatArray

_ALL_COINS = 13  # pieces up to which every one of 2^n outcomes is looked at
_TOSSES = 9999
_SAME = 1e-9  # relative: sums that differ by rounding alone are as extreme


@dataclass(frozen=True)
class Difference:
    """One number of two localizers on the same images.

    Attributes:
        a: the one localizer.
        b: the other.
        metric: ``median_position``, ``median_rotation_deg`` or ``recall_`` and a threshold's key.
        difference: a's number minus b's; not finite where both medians are infinite.
        interval: 95% of the difference, or None where there are too few pieces to say.
        p: how often chance alone makes a difference as large.
        p_holm: the same when asked of all pairs of the table at once (Holm, Scandinavian Journal
            of Statistics 1979).
    """

    a: str
    b: str
    metric: str
    difference: float
    interval: Interval | None
    p: float
    p_holm: float

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values: an infinite number is None."""
        return {
            "a": self.a,
            "b": self.b,
            "metric": self.metric,
            "difference": finite(self.difference),
            "interval": self.interval and [finite(end) for end in self.interval],
            "p": self.p,
            "p_holm": self.p_holm,
        }


def differences(
    errors: Mapping[str, PoseErrors], resamples: Resamples, *, metric: bool, seed: int = 0
) -> list[Difference]:
    """Every pair of localizers in each number; recall only where lengths are metres.

    Args:
        errors: by localizer, on the same images.
        resamples: of these images.
        metric: whether positions are in metres.
        seed: of the coins.
    """
    found = []
    for name, values in _medians(errors).items():
        drawn = {which: resamples.medians(one) for which, one in values.items()}
        found += _corrected(
            [
                Difference(
                    a,
                    b,
                    name,
                    _minus(median(values[a]), median(values[b])),
                    resamples.interval(_minus(drawn[a], drawn[b])),
                    *_p(_rank_differences(values[a], values[b]), resamples.pieces, seed),
                )
                for a, b in combinations(errors, 2)
            ]
        )
    if metric:
        right = {name: one.within(LEAD_THRESHOLD).astype(float) for name, one in errors.items()}
        found += _corrected(
            [
                Difference(
                    a,
                    b,
                    f"recall_{LEAD_THRESHOLD.key}",
                    float(right[a].mean() - right[b].mean()),
                    resamples.interval(resamples.means(right[a]) - resamples.means(right[b])),
                    *_p(right[a] - right[b], resamples.pieces, seed),
                )
                for a, b in combinations(errors, 2)
            ]
        )
    return found


def sign_flip_p(values: FloatArray, *, seed: int = 0) -> float:
    """How often random signs give values [P] a sum as far from 0 as the one that they have.

    Exact where P is small, else a Monte Carlo estimate that counts what was seen as one of the
    tosses, so that it is never 0 (Phipson and Smyth, "Permutation P-values Should Never Be Zero",
    2010).
    """
    seen = abs(float(values.sum()))
    limit = seen - _SAME * float(np.abs(values).sum())
    if len(values) <= _ALL_COINS:
        bits = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
        return float((np.abs((2 * bits - 1) @ values) >= limit).mean())
    signs = 2 * np.random.default_rng(seed).integers(2, size=(_TOSSES, len(values))) - 1
    return float(((np.abs(signs @ values) >= limit).sum() + 1) / (_TOSSES + 1))


def _medians(errors: Mapping[str, PoseErrors]) -> dict[str, dict[str, FloatArray]]:
    return {
        "median_position": {name: one.position for name, one in errors.items()},
        "median_rotation_deg": {name: one.rotation_deg for name, one in errors.items()},
    }


def _rank_differences(a: FloatArray, b: FloatArray) -> FloatArray:
    ranks = rankdata(np.concatenate([a, b]))
    return np.asarray(ranks[: len(a)] - ranks[len(a) :], dtype=np.float64)


def _p(by_image: FloatArray, pieces: NDArray[np.int64], seed: int) -> tuple[float, float]:
    by_piece = np.asarray(np.bincount(pieces, weights=by_image), dtype=np.float64)
    p = sign_flip_p(by_piece, seed=seed)
    return p, p


def _minus(a: Any, b: Any) -> Any:
    """The difference ``a - b``; 0 where both are infinite."""
    both = np.isinf(a) & np.isinf(b)
    difference = np.where(both, 0, a) - np.where(both, 0, b)
    return difference if np.ndim(a) else float(difference)


def _corrected(found: Sequence[Difference]) -> list[Difference]:
    """With Holm's correction for their number."""
    order = sorted(range(len(found)), key=lambda row: found[row].p)
    corrected = list(found)
    largest = 0.0
    for place, row in enumerate(order):
        largest = max(largest, min(1.0, found[row].p * (len(found) - place)))
        corrected[row] = replace(found[row], p_holm=largest)
    return corrected
