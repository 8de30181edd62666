"""Which images are matched with which: neighbours in time, look-alikes, and across fragments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import MappingError
from relocalize.features.database import FeatureDatabase, Pair, ordered_pair
from relocalize.features.vlad import Vlad, VladSettings


@dataclass(frozen=True)
class PairSettings:
    """Which images are matched with which.

    Attributes:
        overlap: each image with so many that follow it.
        reach: and with those 2, 4, 8, ... times ``overlap`` further on, up to so many images
            (COLMAP's quadratic overlap).
        loops: each image with so many of its most similar images elsewhere.
        exhaustive: loose photos up to this many are matched each with each.
    """

    overlap: int = 10
    reach: int = 320
    loops: int = 5
    exhaustive: int = 60


def sequential_pairs(names: Sequence[str], settings: PairSettings) -> set[Pair]:
    """Neighbours in time, and ever rarer ones further on."""
    steps = list(range(1, settings.overlap + 1))
    step = 2 * settings.overlap
    while step <= settings.reach:
        steps.append(step)
        step *= 2
    return {
        ordered_pair(names[i], names[i + step]) for step in steps for i in range(len(names) - step)
    }


def exhaustive_pairs(names: Sequence[str]) -> set[Pair]:
    """Each with each."""
    return {ordered_pair(a, b) for i, a in enumerate(names) for b in names[i + 1 :]}


class Similarity:
    """How alike images of a place look, by VLAD over its own features.

    Attributes:
        names: the images that were described.
        vlad: the description, learned from them unless it is given.
        vectors: [N, D] unit vectors.
    """

    def __init__(
        self, database: FeatureDatabase, names: Sequence[str], vlad: Vlad | None = None
    ) -> None:
        descriptors = [database.features(name).descriptors for name in names]
        count = sum(map(len, descriptors))
        if not count:
            raise MappingError(
                f"the {len(names)} images show nothing that could be recognized: they are black, "
                "blank or blurred; add sharp ones with: relocalize frames"
            )
        # A place of few features still gets a vocabulary, of as many words as it can carry.
        words = min(VladSettings().words, max(1, count // 8))
        self.names = list(names)
        self.vlad = vlad or Vlad.fit(descriptors, VladSettings(words=words))
        self.vectors = np.stack([self.vlad.describe(rows) for rows in descriptors])
        self._row = {name: row for row, name in enumerate(names)}

    def most_similar(
        self, name: str, count: int, *, among: Collection[str] | None = None, apart: int = 0
    ) -> list[str]:
        """The ``count`` images most like ``name``, best first.

        Args:
            name: one of `names`.
            count: how many at most.
            among: only these.
            apart: only images more than so many places before or behind it in `names`.
        """
        row = self._row[name]
        excluded = np.zeros(len(self.names), dtype=bool)
        excluded[max(0, row - apart) : row + apart + 1] = True
        if among is not None:
            wanted = np.zeros(len(self.names), dtype=bool)
            wanted[[self._row[other] for other in among if other in self._row]] = True
            excluded |= ~wanted
        return self._best(self.vectors[row], count, excluded)

    def _best(
        self, vector: NDArray[np.float32], count: int, excluded: NDArray[np.bool_]
    ) -> list[str]:
        scores = np.where(excluded, -np.inf, self.vectors @ vector)
        order = np.argsort(-scores, kind="stable")[:count]
        return [self.names[int(i)] for i in order if not excluded[i]]


def loop_pairs(similarity: Similarity, settings: PairSettings) -> set[Pair]:
    """Each image with its most similar images beyond its neighbours in time."""
    return {
        ordered_pair(name, other)
        for name in similarity.names
        for other in similarity.most_similar(name, settings.loops, apart=settings.overlap)
    }


def pairs_between(
    similarity: Similarity, first: Iterable[str], second: Collection[str], count: int
) -> set[Pair]:
    """Each image of ``first`` with its ``count`` most similar ones in ``second``."""
    return {
        ordered_pair(name, other)
        for name in first
        for other in similarity.most_similar(name, count, among=second)
    }
