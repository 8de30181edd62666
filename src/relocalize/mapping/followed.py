"""Matches along a walk that the images between them confirm.

Straight ahead a corridor repeats itself: a door is found again in the next door, on the very line
that geometry allows, once the first is out of sight. No verification of a pair of images tells, but
the images between them do: what is the same thing is followed from one to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from relocalize.features.database import Pair
from relocalize.features.matching import Rows

_SURE = 2  # images further on: by then a thing may have left, but hardly its double be in its place
_LEAST = 15  # matches that a pair is verified by


def followed(
    matches: Mapping[Pair, NDArray[np.uint32]], names: Sequence[str]
) -> dict[Pair, NDArray[np.uint32]]:
    """The matches of neighbours in time without those that no image between confirms.

    Pairs with no image between that matches both (all blurred, say) stay as they are.

    Args:
        matches: verified, [V, 2] of each pair.
        names: images in time order.
    """
    place = {name: row for row, name in enumerate(names)}
    ordered: dict[tuple[int, int], tuple[Pair, bool]] = {}
    size = dict.fromkeys(range(len(names)), 0)
    for pair, rows in matches.items():
        ends = [place[name] for name in pair]
        ordered[min(ends), max(ends)] = pair, ends[0] > ends[1]
        for end, column in zip(ends, rows.T, strict=True):
            size[end] = max(size[end], int(column.max(initial=0)) + 1)
    ahead: dict[tuple[int, int], Rows] = {}  # of each feature of the first its match in the second
    back: dict[tuple[int, int], Rows] = {}
    kept: dict[Pair, NDArray[np.uint32]] = {}
    for i, j in sorted(ordered, key=lambda ends: (ends[1] - ends[0], ends)):
        pair, turned = ordered[i, j]
        a, b = matches[pair].T[::-1] if turned else matches[pair].T
        between = [k for k in range(i + 1, j) if (i, k) in ahead and (k, j) in back]
        votes = np.zeros(len(a), dtype=np.int64)
        for k in between:
            x, y = ahead[i, k][a], back[k, j][b]
            votes += np.where((x >= 0) & (y >= 0), np.where(x == y, 1, -1), 0)
        keep = votes >= (1 if between and j - i > _SURE else 0)
        if keep.sum() < _LEAST:
            continue
        kept[pair] = matches[pair][keep]
        ahead[i, j], back[i, j] = (np.full(size[end], -1, dtype=np.int64) for end in (i, j))
        ahead[i, j][a[keep]], back[i, j][b[keep]] = b[keep], a[keep]
    return kept
