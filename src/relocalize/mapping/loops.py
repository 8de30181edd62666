"""Loops that disagree with a map made in time, and yet are true: what the map drifted between.

One pair is no proof. Pairs between the same two stretches of a walk that agree on one similarity
are a loop, if the map is loose enough between the two for that similarity (its covariance), and if
as much of what the one sees is found again in the other as in neighbours in time: a look-alike
door brings its door alone. `pose_graph` closes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from relocalize.features.database import Pair
from relocalize.geometry import Rigid3, Similarity3
from relocalize.geometry.transforms import FloatArray, rotvec_from_rotation
from relocalize.mapping.drift import Looseness
from relocalize.mapping.pose_covariance import Observations
from relocalize.place import MapModel, PosedImage
from relocalize.place.model import NO_POINT

_REACH = 8  # images along the walk within which loops are of the same two stretches
_LEAST_PAIRS = 3  # that agree on one similarity
_LEAST_POINTS = 20
_LEAST_AGREEING = 0.5  # share of a loop's points
_SAME = 0.02  # distance of a point from its counterpart, as a share of its distance to the camera
_SHOWN = 0.1  # quantile of neighbours in time: they show at least so much of what is expected
# Two loops of the same stretches that put points so much of their distance apart contradict each
# other; one is believed if it has so many times the pairs.
_DISPUTED, _MANY = 0.2, 3
_ASKED = 1000  # neighbours in time that are asked
_MOST_SIGMAS = 5.0  # of what the map leaves open between the two
_MOST_OPEN = 0.5  # of the scale: where the map leaves open more, it confirms nothing
_COMMON_ERRORS = 4.0  # times the noise alone is what maps are off by


@dataclass(frozen=True, eq=False)
class Loop:
    """Two stretches of a walk that show one place."""

    first: str  # image of the earlier one
    second: str  # image of the later one
    # where the world of the second belongs in the world of the first
    first_from_second: Similarity3
    pairs: tuple[Pair, ...]  # those that agree on it


def find_loops(
    model: MapModel,
    names: Sequence[str],
    loops: Mapping[Pair, NDArray[np.uint32]],
    neighbours: Mapping[Pair, NDArray[np.uint32]],
) -> list[Loop]:
    """What of the loops is one, though the map disagrees.

    Args:
        model: of neighbours in time alone.
        names: images along the walk.
        loops: verified matches [V, 2] of pairs far apart in time.
        neighbours: the same of neighbours in time.
    """
    place = {name: row for row, name in enumerate(names) if name in model.images}
    groups: dict[tuple[int, int], list[Pair]] = {}
    for pair in loops:
        if all(name in place for name in pair):
            low, high = sorted(place[name] for name in pair)
            groups.setdefault((low // _REACH, high // _REACH), []).append(pair)
    found = [
        loop
        for _, pairs in sorted(groups.items())
        if len(pairs) >= _LEAST_PAIRS
        for loop in [_agreed(model, place, {pair: loops[pair] for pair in pairs})]
        if loop is not None
    ]
    inside = [pair for pair in sorted(neighbours) if all(name in place for name in pair)]
    if not found or not inside:
        return []
    asked = inside[:: 1 + len(inside) // _ASKED]
    least = np.quantile([_shown(model, pair, neighbours[pair], None) for pair in asked], _SHOWN)
    found = [
        loop
        for loop in found
        if np.median([_shown(model, p, loops[p], _moved(loop, p, place)) for p in loop.pairs])
        >= least
    ]
    return _undisputed(model, place, _plausible(model, names, found))


def _undisputed(model: MapModel, place: Mapping[str, int], loops: Sequence[Loop]) -> list[Loop]:
    """Those that no other of the same two stretches contradicts, unless far fewer pairs say so."""
    reach = 2 * _REACH

    def disputes(one: Loop, other: Loop) -> bool:
        if abs(place[one.first] - place[other.first]) > reach:
            return False
        if abs(place[one.second] - place[other.second]) > reach:
            return False
        image = model.images[one.second]
        points = model.points.positions[image.observed]
        away = np.linalg.norm(points - image.world_from_cam.translation, axis=1)
        apart = np.linalg.norm(
            one.first_from_second @ points - other.first_from_second @ points, axis=1
        )
        return bool(np.median(apart / away) > _DISPUTED)

    return [
        loop
        for loop in loops
        if all(
            len(loop.pairs) >= _MANY * len(other.pairs)
            for other in loops
            if other is not loop and disputes(loop, other)
        )
    ]


def _agreed(
    model: MapModel, place: Mapping[str, int], matches: Mapping[Pair, NDArray[np.uint32]]
) -> Loop | None:
    """The one similarity that pairs of two stretches agree on."""
    ends, sides, pair_of, reach = [], [], [], []
    ordered = [sorted(pair, key=place.__getitem__) for pair in matches]
    for number, (pair, rows) in enumerate(matches.items()):
        first, second = ordered[number]
        columns = (0, 1) if first == pair[0] else (1, 0)
        one, other = model.images[first], model.images[second]
        a, b = one.point_rows[rows[:, columns[0]]], other.point_rows[rows[:, columns[1]]]
        both = (a != NO_POINT) & (b != NO_POINT) & (a != b)
        ends.append(model.points.positions[a[both]])
        sides.append(model.points.positions[b[both]])
        pair_of.append(np.full(int(both.sum()), number))
        reach.append(np.linalg.norm(ends[-1] - one.world_from_cam.translation, axis=1))
    first_world, second_world = np.concatenate(ends), np.concatenate(sides)
    numbers, distance = np.concatenate(pair_of), np.concatenate(reach)
    if len(first_world) < _LEAST_POINTS:
        return None
    options = pycolmap.RANSACOptions()
    options.max_error = _SAME * float(np.median(distance))
    options.random_seed = 0
    # Its annotation says a Sim3d; it is a dict.
    found: Any = pycolmap.estimate_sim3d_robust(second_world, first_world, options)
    if found is None or not found["tgt_from_src"].scale > 0:
        return None
    sim = found["tgt_from_src"]
    similarity = Similarity3(sim.scale, sim.rotation.matrix(), sim.translation)
    inside = np.linalg.norm(similarity @ second_world - first_world, axis=1) <= _SAME * distance
    agreeing = np.bincount(numbers[inside], minlength=len(ordered))
    of = np.bincount(numbers, minlength=len(ordered))
    sure = np.flatnonzero((agreeing >= _LEAST_AGREEING * of) & (agreeing >= 5))
    images = [{ordered[row][side] for row in sure} for side in (0, 1)]
    if inside.sum() < _LEAST_POINTS or len(sure) < _LEAST_PAIRS or min(map(len, images)) < 2:
        return None
    pairs = list(matches)
    best = int(sure[np.argmax(agreeing[sure])])
    first, second = ordered[best]
    return Loop(first, second, similarity, tuple(pairs[row] for row in sure))


def _moved(loop: Loop, pair: Pair, place: Mapping[str, int]) -> tuple[str, Similarity3]:
    """The later image of a pair, and where its world belongs."""
    return max(pair, key=place.__getitem__), loop.first_from_second


def _shown(
    model: MapModel, pair: Pair, rows: NDArray[np.uint32], moved: tuple[str, Similarity3] | None
) -> float:
    """The share that is matched of the points of either image that the other should see."""
    matched = expected = 0
    for side in (0, 1):
        seen_by, shown_to = model.images[pair[side]], model.images[pair[1 - side]]
        points = seen_by.observed
        positions, pose = model.points.positions[points], shown_to.cam_from_world
        if moved is not None:
            name, similarity = moved
            # Points go into the world of the image that they are shown to.
            change = similarity.inverse() if shown_to.name == name else similarity
            positions = change @ positions
        expected += int(_inside(shown_to, pose, positions).sum())
        matched += int((seen_by.point_rows[rows[:, side]] != NO_POINT).sum())
    return matched / max(1, expected)


def _inside(image: PosedImage, cam_from_world: Rigid3, positions: FloatArray) -> NDArray[np.bool_]:
    in_cam = cam_from_world @ positions
    ahead = in_cam[:, 2] > 1e-6
    pixels = image.camera.img_from_cam(np.where(ahead[:, None], in_cam, [0.0, 0.0, 1.0]))
    size = (image.camera.width, image.camera.height)
    inside: NDArray[np.bool_] = ahead & ((pixels >= 0) & (pixels < size)).all(axis=1)
    return inside


def _plausible(model: MapModel, names: Sequence[str], loops: Sequence[Loop]) -> list[Loop]:
    """Those that the map is loose enough for between their two ends."""
    observations = Observations.of(model)
    looseness = None if observations is None else Looseness.of(observations)
    if looseness is None:
        return []
    row_of = looseness.row_of
    walk = [name for name in names if name in row_of]
    at = {name: number for number, name in enumerate(walk)}
    kept = []
    for loop in loops:
        if not {loop.first, loop.second} <= at.keys():
            continue
        first, second = (
            np.array([row_of[name] for name in walk[max(0, at[one] - 4) : at[one] + 5]])
            for one in (loop.first, loop.second)
        )
        change = loop.first_from_second
        centre = model.images[loop.second].world_from_cam.translation
        way = np.array(
            [
                np.log(change.scale),
                *rotvec_from_rotation(change.rotation),
                *(change @ centre - centre),
            ]
        )
        covariance = _COMMON_ERRORS**2 * looseness.between(first, second)
        if not np.isfinite(covariance).all() or covariance[0, 0] > _MOST_OPEN**2:
            continue
        scale = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
        correlation = covariance / np.outer(scale, scale) + 1e-6 * np.eye(7)
        apart = float((way / scale) @ np.linalg.solve(correlation, way / scale))
        if apart <= _MOST_SIGMAS**2:
            kept.append(loop)
    return kept
