"""Validation frames: whole blocks of time out of the train frames, with a gap around each.

Neighbouring frames of a walk are near-copies. A validation set of shuffled frames measures how
well a network remembers their neighbours; one of blocks measures what a photo will meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from relocalize import progress
from relocalize.errors import LocalizerError
from relocalize.formats.images import frame_index
from relocalize.geometry.transforms import FloatArray

Rows = NDArray[np.int64]

# Blocks of 20 frames are as hard as test blocks of a video's second; three shorter ones say more of
# a small place than one of its corners would.
_BLOCK, _LEAST_BLOCK = 20, 5
_LEAST_BLOCKS, _MOST_BLOCKS = 3, 20
_GAP = 0.2  # dropped on either side, as a share of the block length: the same as of test blocks
# A walk's step from frame to frame is far shorter than the way between any two of its frames;
# an unordered set's is as long. Measured: 0.01 to 0.04 on videos, 0.1 to 0.2 on photos in order,
# 0.9 to 1.1 on the same in any order (from 0.4 up where they are only a dozen).
_WALKING = 0.4


def time_blocks(
    names: Sequence[str],
    share: float,
    *,
    captures: Sequence[str] | None = None,
    times: ArrayLike | None = None,
    centres: ArrayLike | None = None,
    where: Literal["even", "end"] = "even",
) -> tuple[Rows, Rows]:
    """Which frames train and which validate; frames near a validation block do neither.

    Each capture gives its share, in blocks that lie evenly over its time. A capture whose frames
    have no order, or whose order is no walk (given ``centres``), gives clusters of position in
    place of blocks of time, which is said.

    Args:
        names: of the train frames.
        share: of the frames that validate, above 0 to 0.5.
        captures: of each frame; default: the folder in its name.
        times: [N] increasing with time within a capture, in any unit, NaN where unknown; default:
            the last number in the name.
        centres: [N, 3] camera centres.
        where: ``even`` over the time of a capture, as photos of places that it saw; ``end``: its
            last part, as photos of where it had not been.

    Returns:
        Rows that train and rows that validate, each rising.

    Raises:
        LocalizerError: the share is no share, or there are too few frames for both sides.
    """
    if not 0 < share <= 0.5:
        raise LocalizerError(f"a validation share of {share}; want above 0 to 0.5")
    count = len(names)
    if captures is None:
        captures = [name.rpartition("/")[0] for name in names]
    at = np.array([_number(name) for name in names] if times is None else times, dtype=np.float64)
    positions = None if centres is None else np.asarray(centres, dtype=np.float64)
    train: list[Rows] = []
    validation: list[Rows] = []
    clustered: list[str] = []
    for capture in dict.fromkeys(captures):
        rows = np.array([row for row in range(count) if captures[row] == capture])
        centres_here = None if positions is None else positions[rows]
        order = _order(at[rows], centres_here)
        if order is not None:
            kept, held = _cut(len(rows), share, where)
            train.append(rows[order[kept]])
            validation.append(rows[order[held]])
        elif centres_here is not None:
            kept, held = _clusters(centres_here, share)
            train.append(rows[kept])
            validation.append(rows[held])
            clustered.append(capture)
        else:
            raise LocalizerError(
                f"the {len(rows)} frames of capture {capture!r} have neither times nor numbers in "
                "their names; give their camera centres to validate on clusters of them"
            )
    none = np.arange(0)
    rows_of = [np.sort(np.concatenate([none, *part])) for part in (train, validation)]
    if not (len(rows_of[0]) and len(rows_of[1])):
        raise LocalizerError(
            f"{count} train frames are too few to hold a share of {share} back for validation; "
            "want at least 10"
        )
    for capture in clustered:
        progress.say(
            f"the frames of {capture or 'the Place'} have no order in time: "
            "validation is by clusters of position"
        )
    return rows_of[0], rows_of[1]


def _number(name: str) -> float:
    number = frame_index(name)
    return np.nan if number is None else float(number)


def _order(times: FloatArray, centres: FloatArray | None) -> Rows | None:
    """Rows in time order, or None where times are missing, repeated, or those of no walk."""
    if not np.isfinite(times).all() or len(np.unique(times)) < len(times):
        return None
    order = np.argsort(times, kind="stable")
    if centres is None or len(order) < 8:
        return order
    walked = centres[order]
    step = np.median(np.linalg.norm(np.diff(walked, axis=0), axis=1))
    # Half the capture apart: as far from each other as its frames are on the whole.
    apart = np.median(np.linalg.norm(walked - np.roll(walked, len(walked) // 2, axis=0), axis=1))
    return order if step <= _WALKING * apart or apart == 0 else None


def _cut(count: int, share: float, where: Literal["even", "end"]) -> tuple[Rows, Rows]:
    """Positions in a sequence of ``count`` that train, and that validate."""
    wanted = share * count
    least = max(1, min(_LEAST_BLOCKS, int(wanted / _LEAST_BLOCK)))
    blocks = 1 if where == "end" else int(np.clip(round(wanted / _BLOCK), least, _MOST_BLOCKS))
    length = max(1, round(wanted / blocks))
    reach = max(1, round(_GAP * length))
    if blocks * (length + 2 * reach) > count - 2:
        return np.arange(count), np.arange(0)
    middles = (np.arange(blocks) + (0.5 if where == "even" else 1.0)) * count / blocks
    starts = np.clip(np.rint(middles - length / 2).astype(np.int64), 0, count - length)
    side = np.zeros(count, dtype=np.int8)
    for start in starts:
        side[max(0, start - reach) : start + length + reach] = 1
    for start in starts:
        side[start : start + length] = 2
    return np.flatnonzero(side == 0), np.flatnonzero(side == 2)


def _clusters(centres: FloatArray, share: float) -> tuple[Rows, Rows]:
    """Rows that train and that validate: whole cells of space, with a gap around them."""
    count = len(centres)
    if count < 4:
        return np.arange(count), np.arange(0)
    cells = list(_cells(centres, np.arange(count), max(2, round(share * count / 2))))
    held_cells = max(1, round(share * len(cells)))
    picked = np.rint((np.arange(held_cells) + 0.5) * len(cells) / held_cells - 0.5).astype(int)
    held = np.sort(np.concatenate([cells[cell] for cell in picked]))
    others = np.setdiff1d(np.arange(count), held)
    nearest = np.asarray(cKDTree(centres).query(centres, k=2)[0])[:, 1]
    # A photo as near to a validation photo as photos here are to each other is its near-copy.
    clear = np.asarray(cKDTree(centres[held]).query(centres[others])[0]) > np.median(nearest)
    return others[clear], held


def _cells(centres: FloatArray, rows: Rows, most: int) -> Iterator[Rows]:
    """Rows in cells of at most ``most``, halved along the direction of largest spread."""
    if len(rows) <= most:
        yield rows
        return
    offsets = centres[rows] - centres[rows].mean(axis=0)
    direction = np.linalg.svd(offsets, full_matrices=False)[2][0]
    direction = direction * (1.0 if direction[np.abs(direction).argmax()] > 0 else -1.0)
    order = rows[np.argsort(offsets @ direction, kind="stable")]
    half = len(order) // 2
    yield from _cells(centres, order[:half], most)
    yield from _cells(centres, order[half:], most)
