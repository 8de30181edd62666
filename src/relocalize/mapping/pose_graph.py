"""A walk bent so that its loops close: a pose graph of similarities, scale drifts too.

After Strasdat, Montiel and Davison, Scale drift-aware large scale monocular SLAM (RSS 2010).
Adjustment of the whole settles afterwards where it bent. COLMAP's pose graph has no scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycolmap

from relocalize.geometry import Rigid3, Similarity3
from relocalize.geometry.transforms import FloatArray, rotations_from_rotvecs
from relocalize.mapping.loops import Loop

# What a step along a walk drifts by, against which loops are weighed: radians, log of scale, and
# share of the step. A loop is held ten times as firmly.
_STEP_SIGMAS = np.array([0.004, 0.002, 0.002, 0.002])
_STEP_SHARE = 0.01
_LOOP_FIRMNESS = 10.0
_ROUNDS = 20


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
