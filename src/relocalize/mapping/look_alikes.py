"""Pairs of images that look alike and are not the same: found by holding a map against them.

Buildings repeat themselves. Two doors of one kind match as well as two views of one door, and a
few such pairs fold a map. A map made from neighbours in time alone cannot be folded by them; it
drifts, but where it puts two images it is right to a fraction of a room. So its points tell: if
the two images saw the same thing, a point that one of them sees lies, by the map, about where
the other has the matching feature.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relocalize.checking.agreement import sampson, unit
from relocalize.features.database import Pair
from relocalize.geometry.transforms import FloatArray, skew
from relocalize.place import MapModel, PosedImage
from relocalize.place.model import NO_POINT

# How far from its match, as a share of the image diagonal, the points of a pair may be projected
# on the median: 55 pixels of 960x540, a quarter of a metre at 3 metres. Drift of the loops of a
# building's floor stays below; another door does not.
_MAX_TRANSFER = 0.05
MAX_EPIPOLAR = 4.0  # pixels, twice what a pair is verified with
_MIN_TRANSFERS = 5  # matches with a point that a verdict needs
_MOST = 0.5  # share of the matches that a map has to agree with; right ones have 0.75 and more


@dataclass(frozen=True)
class Verdict:
    """What maps say of pairs of images."""

    confirmed: frozenset[Pair]  # they show the same thing
    contradicted: frozenset[Pair]  # they do not: look-alikes


def judge_pairs(models: Iterable[MapModel], matches: Mapping[Pair, NDArray[np.uint32]]) -> Verdict:
    """Hold pairs with their matches [V, 2] against every model that has both images.

    A pair that no model has both images of, or too few points for, is in neither set.
    """
    confirmed: set[Pair] = set()
    contradicted: set[Pair] = set()
    for model in models:
        for pair, rows in matches.items():
            first, second = (model.images.get(name) for name in pair)
            if first is None or second is None:
                continue
            errors = np.concatenate(
                [
                    _transfer_errors(model, first, rows[:, 0], second, rows[:, 1]),
                    _transfer_errors(model, second, rows[:, 1], first, rows[:, 0]),
                ]
            )
            if len(errors) >= _MIN_TRANSFERS:
                agrees = float(np.median(errors)) <= _MAX_TRANSFER
                (confirmed if agrees else contradicted).add(pair)
    return Verdict(frozenset(confirmed - contradicted), frozenset(contradicted))


def agreement(model: MapModel, matches: Mapping[Pair, NDArray[np.uint32]]) -> float:
    """The share of verified matches [V, 2] of pairs that the map's poses agree with.

    Pairs of which the map lacks an image count as disagreeing; 0 where there is none.
    """
    agreeing = total = 0
    for (first, second), rows in matches.items():
        total += len(rows)
        one, other = model.images.get(first), model.images.get(second)
        if one is not None and other is not None:
            errors = epipolar_errors(one, rows[:, 0], other, rows[:, 1])
            agreeing += int((errors <= MAX_EPIPOLAR).sum())
    return agreeing / max(1, total)


def contradictions(
    model: MapModel,
    matches: Mapping[Pair, NDArray[np.uint32]],
    trusted: Collection[Pair] = (),
    *,
    because: str = "they show too little of one thing, or things that look alike",
) -> tuple[str, ...]:
    """An alarm where a map disagrees with most matches between its images; else none.

    A map is made from some of the matches; a wrong one can have small errors in all of these.

    Args:
        model: the map.
        matches: verified ones [V, 2] of pairs.
        trusted: pairs that cannot be look-alikes, which count alone; without such, all do.
        because: what that means.
    """
    both = {
        pair: rows
        for pair, rows in matches.items()
        if (not trusted or pair in trusted) and all(name in model.images for name in pair)
    }
    share = agreement(model, both)
    if not both or share >= _MOST:
        return ()
    return (f"it agrees with only {share:.0%} of the matches between its images: {because}",)


def epipolar_errors(
    first: PosedImage, rows: NDArray[np.uint32], second: PosedImage, matched: NDArray[np.uint32]
) -> FloatArray:
    """Sampson errors, in pixels of the second image, of matches under the map's poses."""
    relative = second.cam_from_world @ first.cam_from_world.inverse()
    E = skew(unit(relative.translation)) @ relative.rotation
    a, b = (
        np.column_stack([image.camera.cam_from_img(image.keypoints[at]), np.ones(len(at))])
        for image, at in ((first, rows), (second, matched))
    )
    errors = np.abs(sampson(np.broadcast_to(E, (len(a), 3, 3)), a, b))
    return np.asarray(errors * second.camera.focal_px)


def _transfer_errors(
    model: MapModel,
    seen_by: PosedImage,
    rows: NDArray[np.uint32],
    shown_to: PosedImage,
    matched: NDArray[np.uint32],
) -> FloatArray:
    """Distances, in image diagonals, of the points of one image from their matches in another.

    Infinite for a point behind the other camera.
    """
    points = seen_by.point_rows[rows]
    known = points != NO_POINT
    world = model.points.positions[points[known]]
    camera = shown_to.camera
    projected = camera.img_from_cam(shown_to.cam_from_world @ world)
    distances = np.linalg.norm(projected - shown_to.keypoints[matched[known]], axis=1)
    diagonal = float(np.hypot(camera.width, camera.height))
    result: FloatArray = np.nan_to_num(distances / diagonal, nan=np.inf)
    return result
