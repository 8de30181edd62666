"""Loops that disagree with a map made in time, and yet are true: what the map drifted between.

One pair is no proof. Pairs between the same two stretches of a walk that agree on one similarity
are a loop, if the map is loose enough between the two for that similarity (its covariance), and if
as much of what the one sees is found again in the other as in neighbours in time: a look-alike
door brings its door alone. A pose graph with scale then bends the walk so that all loops close;
adjustment of the whole settles where it bent.
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
from relocalize.geometry.transforms import FloatArray, rotations_from_rotvecs, rotvec_from_rotation
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
# What a step along a walk drifts by, against which loops are weighed: radians, log of scale, and
# share of the step. A loop is held ten times as firmly.
_STEP_SIGMAS = np.array([0.004, 0.002, 0.002, 0.002])
_STEP_SHARE = 0.01
_LOOP_FIRMNESS = 10.0
_ROUNDS = 20


@dataclass(frozen=True, eq=False)
class Loop:
    """Two stretches of a walk that show one place.

    Attributes:
        first: image of the earlier one.
        second: image of the later one.
        first_from_second: where the world of the second belongs in the world of the first.
        pairs: those that agree on it.
    """

    first: str
    second: str
    first_from_second: Similarity3
    pairs: tuple[Pair, ...]


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
        points = model.points.positions[image.point_rows[image.point_rows != NO_POINT]]
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
    model: MapModel,
    pair: Pair,
    rows: NDArray[np.uint32],
    moved: tuple[str, Similarity3] | None,
) -> float:
    """The share that is matched of the points of either image that the other should see."""
    matched = expected = 0
    for side in (0, 1):
        seen_by, shown_to = model.images[pair[side]], model.images[pair[1 - side]]
        points = seen_by.point_rows[seen_by.point_rows != NO_POINT]
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


def close_loops(
    model: pycolmap.Reconstruction, names: Sequence[str], loops: Sequence[Loop]
) -> pycolmap.Reconstruction:
    """A copy of the model, bent so that the loops close; every stretch keeps its shape.

    Args:
        model: of neighbours in time alone.
        names: images along the walk.
        loops: what is to close.
    """
    ids = {image.name: int(image.image_id) for image in model.images.values() if image.has_pose}
    walk = [name for name in names if name in ids]
    row_of = {name: row for row, name in enumerate(walk)}
    poses = [
        Rigid3.from_colmap(model.images[ids[name]].cam_from_world()).inverse() for name in walk
    ]
    changes = _bent(
        poses, [(row_of[c.first], row_of[c.second], c.first_from_second) for c in loops]
    )
    bent = pycolmap.Reconstruction(model)
    for name, pose, change in zip(walk, poses, changes, strict=True):
        frame = bent.frames[bent.images[ids[name]].frame_id]
        frame.rig_from_world = change.move_camera(pose).inverse().to_colmap()
    order = {ids[name]: row for row, name in enumerate(walk)}
    for point in bent.points3D.values():
        rows = sorted(order[e.image_id] for e in point.track.elements if e.image_id in order)
        if rows:
            point.xyz = changes[rows[len(rows) // 2]] @ point.xyz
    return bent


def _bent(
    poses: Sequence[Rigid3], loops: Sequence[tuple[int, int, Similarity3]]
) -> list[Similarity3]:
    """new_from_old of the world about each pose world_from_cam, by a pose graph with scale."""
    from scipy import sparse  # noqa: PLC0415  # takes half a second
    from scipy.sparse.linalg import spsolve  # noqa: PLC0415

    count = len(poses)
    graph = _Graph(poses, loops)
    scales, rotations, centres = graph.start()
    held = sparse.diags_array(np.concatenate([np.full(7, 1e9), np.full(7 * (count - 1), 1e-9)]))
    for _ in range(_ROUNDS):
        residuals = graph.residuals(scales, rotations, centres)
        # Robust: loops that contradict the others lose their say.
        weights = 1 / (1 + (residuals**2).sum(axis=1) / 7)
        weights[: count - 1] = 1.0
        jacobian = graph.jacobian(scales, rotations, centres, residuals)
        root = np.repeat(np.sqrt(weights), 7)
        scaled = sparse.diags_array(root) @ jacobian
        step = spsolve((scaled.T @ scaled + held).tocsc(), -scaled.T @ (root * residuals.ravel()))
        scales, rotations, centres = graph.moved(scales, rotations, centres, step.reshape(-1, 7))
        if np.abs(step).max() < 1e-8:
            break
    changes = []
    for pose, scale, rotation, centre in zip(poses, scales, rotations, centres, strict=True):
        turn = rotation @ pose.rotation.T
        changes.append(Similarity3(scale, turn, centre - scale * turn @ pose.translation))
    return changes


class _Graph:
    """Similarities world_from_cam, each step of the walk and each loop an edge."""

    def __init__(
        self, poses: Sequence[Rigid3], loops: Sequence[tuple[int, int, Similarity3]]
    ) -> None:
        self._rotations = np.stack([pose.rotation for pose in poses])
        self._centres = np.stack([pose.translation for pose in poses])
        steps = np.arange(len(poses) - 1)
        self._i = np.concatenate([steps, [first for first, _, _ in loops]]).astype(int)
        self._j = np.concatenate([steps + 1, [second for _, second, _ in loops]]).astype(int)
        change = [np.eye(3)] * len(steps) + [change.rotation for _, _, change in loops]
        target = [self._centres[j] for j in steps + 1]
        target += [change @ self._centres[second] for _, second, change in loops]
        self._scale = np.concatenate([np.ones(len(steps)), [c.scale for _, _, c in loops]])
        at_i = self._rotations[self._i].transpose(0, 2, 1)
        self._turn = at_i @ np.stack(change) @ self._rotations[self._j]
        shift = np.einsum("eij,ej->ei", at_i, np.stack(target) - self._centres[self._i])
        self._shift = shift
        lengths = np.linalg.norm(np.diff(self._centres, axis=0), axis=1)
        step = np.maximum(lengths, 0.1 * np.median(lengths))
        sigmas = np.empty((len(self._i), 7))
        sigmas[:, :4] = _STEP_SIGMAS
        sigmas[: len(steps), 4:] = _STEP_SHARE * step[:, None]
        sigmas[len(steps) :, 4:] = _STEP_SHARE * float(np.median(step))
        sigmas[len(steps) :] /= _LOOP_FIRMNESS
        self._sigmas = sigmas

    def start(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        return np.ones(len(self._centres)), self._rotations, self._centres

    def residuals(
        self, scales: FloatArray, rotations: FloatArray, centres: FloatArray
    ) -> FloatArray:
        """[E, 7] in sigmas: log of scale, turn, shift."""
        i, j = self._i, self._j
        return self._of_edges(
            scales[i], rotations[i], centres[i], scales[j], rotations[j], centres[j]
        )

    def _of_edges(self, *ends: FloatArray) -> FloatArray:
        from scipy.spatial.transform import Rotation  # noqa: PLC0415

        scale_i, at_i, centre_i, scale_j, at_j, centre_j = ends
        back = at_i.transpose(0, 2, 1)
        turn = self._turn.transpose(0, 2, 1) @ back @ at_j
        shift = np.einsum("eij,ej->ei", back, centre_j - centre_i) / scale_i[:, None]
        return (
            np.column_stack(
                [
                    np.log(scale_j / scale_i / self._scale),
                    Rotation.from_matrix(turn).as_rotvec(),
                    shift - self._shift,
                ]
            )
            / self._sigmas
        )

    def jacobian(
        self, scales: FloatArray, rotations: FloatArray, centres: FloatArray, residuals: FloatArray
    ) -> Any:
        """[7 E, 7 N] of the residuals."""
        from scipy import sparse  # noqa: PLC0415

        rows, columns, values = [], [], []
        edges = np.arange(len(self._i))
        small = 1e-6
        for end, nodes in enumerate((self._i, self._j)):
            for axis in range(7):
                step = np.zeros((len(nodes), 7))
                step[:, axis] = small
                ends = [
                    (scales[which], rotations[which], centres[which])
                    for which in (self._i, self._j)
                ]
                ends[end] = self.moved(*ends[end], step)
                change = (self._of_edges(*ends[0], *ends[1]) - residuals) / small
                rows.append((7 * edges[:, None] + np.arange(7)).ravel())
                columns.append(np.repeat(7 * nodes + axis, 7))
                values.append(change.ravel())
        size = (7 * len(edges), 7 * len(scales))
        return sparse.csr_array(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=size
        )

    @staticmethod
    def moved(
        scales: FloatArray, rotations: FloatArray, centres: FloatArray, step: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Similarities after a step [N, 7]."""
        return (
            scales * np.exp(step[:, 0]),
            rotations @ rotations_from_rotvecs(step[:, 1:4]),
            centres + step[:, 4:],
        )
