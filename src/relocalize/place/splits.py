"""Splits: which images train and which test, and by which rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from relocalize.errors import PlaceError


@dataclass(frozen=True)
class Split:
    """A division of a Place's posed images.

    Attributes:
        name: file name in ``splits/`` without its ending.
        rule: how it came about: ``blocks``, ``later``, ``captures``, ``list``.
        train: image names that localizers may learn from.
        test: image names that are only ever scored.
        settings: the rule's own numbers.
    """

    name: str
    rule: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "train", tuple(self.train))
        object.__setattr__(self, "test", tuple(self.test))
        both = set(self.train) & set(self.test)
        if both:
            raise PlaceError(
                f"split {self.name!r} has {len(both)} images both in train and in test, "
                f"such as {min(both)!r}"
            )
        if not self.train:
            raise PlaceError(f"split {self.name!r} has no train images")


def split_by_blocks(
    names: Sequence[str],
    *,
    name: str = "blocks",
    blocks: int = 40,
    every: int = 4,
    gap: float = 0.2,
) -> Split:
    """Every ``every``-th of ``blocks`` blocks of consecutive images is test.

    Neighbouring frames of one walk are near-copies, so frames within ``gap`` block lengths of a
    test block belong to neither side.

    Args:
        names: images of one capture in time order.
        name: of the split.
        blocks: how many blocks the walk is cut into (fewer when it has under 4 images a block).
        every: one block of this many is test.
        gap: dropped on either side of a test block, as a share of the block length.

    Raises:
        PlaceError: too few images for one train and one test block.
    """
    blocks = min(blocks, len(names) // 4)
    if blocks < every:
        raise PlaceError(
            f"a split by blocks needs at least {4 * every} posed images, got {len(names)}"
        )
    edges = np.linspace(0, len(names), blocks + 1)
    block = np.searchsorted(edges, np.arange(len(names)), side="right") - 1
    is_test = block % every == every - 1
    reach = max(1, round(gap * len(names) / blocks))
    test_at = np.flatnonzero(is_test)
    tests_before = np.concatenate([[0], np.cumsum(is_test)])
    at = np.arange(len(names))
    first, last = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(names))
    is_train = tests_before[first] == tests_before[last]
    return Split(
        name,
        "blocks",
        train=tuple(names[int(i)] for i in np.flatnonzero(is_train)),
        test=tuple(names[int(i)] for i in test_at),
        settings={"blocks": blocks, "every": every, "gap": gap},
    )
