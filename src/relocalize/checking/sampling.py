"""Which images are looked at, and which of them are matched with which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from relocalize.checking.claims import Claims
from relocalize.checking.measuring import (
    MeasuredPair,
    Pair,
    View,
    evenly,
    measure_pair,
    measure_pairs,
    read_views,
    with_focal_lengths,
)
from relocalize.features.vlad import Vlad, VladSettings

# Images that a convention is judged by: 200 pairs of them say it beyond doubt on both a walk and
# a set of photos, in ten seconds.
SAMPLE = 60
_STEPS = (1, 2, 3, 5, 8)
# Fewer measured pairs than this with parallax, and the next way of choosing is tried.
_ENOUGH = 40
_RUN = 6  # neighbours in each cluster, where an even sample is too sparse to overlap
_STRIDES = (1, 2, 4, 8, 16, 32, 64)
_PROBES = 12
# A stride is used while this share of the probes still match across it.
_OVERLAPPING = 0.75
_FEW = 25  # loose photos up to this many are matched each with each
_LIKE = 2  # look-alikes elsewhere that each image is matched with as well


@dataclass(frozen=True, eq=False)
class Sample:
    """Some of the images, matched with each other."""

    claims: Claims  # of just these
    views: list[View]  # of them, by row
    pairs: list[Pair]  # of rows that were matched
    measured: list[MeasuredPair]  # those of them with a relative pose

    @classmethod
    def of(cls, claims: Claims, views: list[View], pairs: list[Pair]) -> Sample:
        """Match the pairs; focal lengths that nobody claims come from the matches."""
        views = with_focal_lengths(views, pairs)
        return cls(claims, views, pairs, measure_pairs(views, pairs))

    @property
    def evidence(self) -> int:
        """Pairs with parallax."""
        return sum(pair.is_moving for pair in self.measured)


def sample_pairs(claims: Claims) -> Sample:
    """Measured pairs among some of the images.

    An even sample first; where its images do not overlap, clusters of neighbours; where these
    do not either (loose photos), each with each.
    """
    count = len(claims.names)
    spread = claims.only(evenly(count, SAMPLE))
    views = read_views(spread)
    best = Sample.of(spread, views, _step_pairs(len(views)))
    if best.evidence < _ENOUGH and count > SAMPLE:
        starts = np.linspace(0, count - _RUN, SAMPLE // _RUN).round().astype(int)
        clusters = claims.only(np.unique(starts[:, None] + np.arange(_RUN)).tolist())
        pairs = _step_pairs(len(clusters.names), _STEPS[:3])
        clustered = Sample.of(clusters, read_views(clusters), pairs)
        best = max(best, clustered, key=lambda sample: sample.evidence)
    if best.evidence < _ENOUGH:
        each = Sample.of(spread, views, list(combinations(range(len(views)), 2)))
        best = max(best, each, key=lambda sample: sample.evidence)
    return best


def _step_pairs(count: int, steps: Sequence[int] = _STEPS) -> list[Pair]:
    return [(i, i + step) for step in steps for i in range(count - step)]


def check_pairs(views: Sequence[View], runs: Sequence[range]) -> list[Pair]:
    """Pairs that test every image: near and far neighbours in its run, look-alikes elsewhere."""
    pairs: set[Pair] = set()
    for run in runs:
        stride = _stride(views, run)
        steps = sorted({1, max(1, stride // 4), max(1, stride // 2), stride})
        pairs |= {(i, i + step) for step in steps for i in run[: len(run) - step]}
    pairs |= _look_alikes(views, apart=8)
    if len(views) <= _FEW:
        pairs |= set(combinations(range(len(views)), 2))
    return sorted(pairs)


def _stride(views: Sequence[View], run: range) -> int:
    """The farthest step across which most images of a run still match."""
    chosen = 1
    for stride in _STRIDES:
        if stride >= len(run):
            break
        probes = evenly(len(run) - stride, _PROBES)
        matched = [measure_pair(views, (run[at], run[at + stride])) is not None for at in probes]
        if np.mean(matched) < _OVERLAPPING:
            break
        chosen = stride
    return chosen


def _look_alikes(views: Sequence[View], *, apart: int) -> set[Pair]:
    """Each image with those most like it, at least ``apart`` rows away."""
    descriptors = [view.features.descriptors for view in views]
    count = sum(map(len, descriptors))
    if len(views) < 3 or not count:
        return set()
    words = min(VladSettings().words, max(1, count // 8))
    vlad = Vlad.fit(descriptors, VladSettings(words=words))
    vectors = np.stack([vlad.describe(rows) for rows in descriptors])
    similarity = vectors @ vectors.T
    rows = np.arange(len(views))
    near = np.abs(rows[:, None] - rows[None]) < min(apart, len(views) // 3)
    similarity[near] = -np.inf
    best = np.argsort(-similarity, axis=1)[:, :_LIKE]
    return {
        (min(i, int(j)), max(i, int(j)))
        for i in range(len(views))
        for j in best[i]
        if np.isfinite(similarity[i, j])
    }
