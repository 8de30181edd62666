"""Where a map breaks the walk that it was made from: neighbours in time see another motion there.

At a sharp turn a few distant points can carry a reconstruction on with another scale or direction.
Its points then still fit and its reprojection error stays small, for what did not fit became no
point. The matches of neighbours in time remember: right maps agree with them all along.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from relocalize.features.database import Pair
from relocalize.mapping.followed import followed
from relocalize.mapping.look_alikes import MAX_EPIPOLAR, epipolar_errors
from relocalize.place import MapModel

_REACH = 3  # images: neighbours so near share most of what they see
_LEAST = 60  # matches across a place of the walk
# By how much more of them than at its typical place a map may contradict. 13 maps of kitchen,
# corridors, office and long walks do by at most 9%, a drive that loses scale at a turn by 35%, a
# hand-held walk that is bent at a weak link by 29%, a ring round a statue that is none by 72%. A
# chessboard, whose matches repeat everywhere, is mapped right and does so by 22%.
_MOST = 0.25


def breaks(
    model: MapModel,
    matches: Mapping[Pair, NDArray[np.uint32]],
    neighbours: Collection[Pair],
    names: Sequence[str],
) -> tuple[str, ...]:
    """An alarm that names the place of a walk with most contradicted matches, or none.

    Args:
        model: the map.
        matches: verified ones [V, 2] of pairs.
        neighbours: those pairs that are neighbours in time.
        names: images in time order.
    """
    posed = [name for name in names if name in model.images]
    row_of = {name: row for row, name in enumerate(posed)}
    in_time = {
        pair: rows
        for pair, rows in matches.items()
        if pair in neighbours and all(name in row_of for name in pair)
    }
    total, contradicted = np.zeros((2, len(posed)), dtype=np.int64)
    for (first, second), rows in followed(in_time, posed).items():
        start, end = sorted((row_of[first], row_of[second]))
        if end - start <= _REACH:
            one, other = model.images[first], model.images[second]
            errors = epipolar_errors(one, rows[:, 0], other, rows[:, 1])
            total[start:end] += len(errors)
            contradicted[start:end] += int((errors > MAX_EPIPOLAR).sum())
    asked = np.flatnonzero(total >= _LEAST)
    if not len(asked):
        return ()
    share = contradicted[asked] / total[asked]
    typical, worst = float(np.median(share)), int(np.argmax(share))
    if share[worst] - typical <= _MOST:
        return ()
    before, after = list(pairwise(posed))[asked[worst]]
    return (
        f"from {before} to {after} it contradicts {share[worst]:.0%} of the matches between "
        f"neighbours in time, elsewhere {typical:.0%}: its scale or direction is lost there; film "
        "that piece again, more slowly, and turn while walking on",
    )
