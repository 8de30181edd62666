"""Does a map show that its camera moved? Tried by the one explanation without a place at all.

A camera that stands still, turns and zooms sees one picture of directions. Where such a picture
explains what the images of a map saw, their focal length and every depth are a guess, however
small the errors: a zoom is mapped as a walk towards a wall, a slide along a far wall as anything.
The covariance does not tell, for it asks near one solution only. The model is a panorama's with
rotations and focal lengths free (Brown and Lowe, "Automatic Panoramic Image Stitching", 2007);
that the simpler model has to be ruled out is Torr's point ("Geometric motion segmentation and
model selection", 1998).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from relocalize.geometry.transforms import FloatArray, skew
from relocalize.place import MapModel

_IMAGES, _POINTS = 24, 400  # asked, evenly: enough to tell, in less than a second
_LEAST_POINTS, _LEAST_SEEN, _LEAST_SHARED = 20, 3, 4
_NOISE = 0.5  # pixels; that of rendered images is less, but no lens is known better
_SCALE = 2.0  # pixels, of the robust loss
# Parallax is what the nearest tenth of the observations shows, for the far ones have none. It has
# to stand out from the noise: five maps of cameras that stood, zoomed or slid before a far wall
# have 0.75 to 1.0 times the noise, fifteen right ones 3.5 (a turn with the arm stretched out), 7
# and more.
_SHARE, _LEAST_PARALLAX = 0.9, 1.5
_ROUNDS, _TRIES = 60, 8
_ENOUGH = 1e-5  # relative decrease of cost
_FOCALS = (0.1, 30.0)  # over the longer image side


def parallax(model: MapModel) -> float:
    """How far the images differ from those of a camera that stands still, turns and zooms.

    As a multiple of the noise of their observations: about 1 where they do not differ, infinite
    where there is too little to tell or such a camera cannot even be set up.
    """
    found = _Seen.of(model)
    if found is None:
        return np.inf
    errors = _errors(found)
    if errors is None:
        return np.inf
    standing = _noise(errors, 4 * found.images + 2 * found.points)
    # Poses have 6 numbers, points 3, and 7 of all are the world's.
    moving = _noise(found.map_errors, 6 * found.images + 3 * found.points - 7)
    return float(standing / max(moving, _NOISE))


def standing(model: MapModel) -> tuple[str, ...]:
    """An alarm where a camera that stands still explains what a map's images saw; else none."""
    if parallax(model) > _LEAST_PARALLAX:
        return ()
    return (
        "a camera that stands still, turns and zooms would have seen the same: its focal length "
        "and all depths are a guess; move sideways while filming, past things that are near",
    )


@dataclass(frozen=True, eq=False)
class _Seen:
    """What some images saw of some points: M observations."""

    images: int
    points: int
    image_rows: NDArray[np.int64]  # [M]
    point_rows: NDArray[np.int64]  # [M]
    pixels: FloatArray  # [M, 2] from the principal point, without distortion
    map_errors: FloatArray  # [M] pixels from where the map has the point
    focal_px: FloatArray  # [N] the map's
    sizes: FloatArray  # [N] longer sides, pixels

    @classmethod
    def of(cls, model: MapModel) -> _Seen | None:
        """A sample of a map; None where its images share too little."""
        views = [model.views[row] for row in _evenly(len(model.views), _IMAGES)]
        rows = [np.unique(v.point_rows, return_index=True) for v in views]
        known = [(points[points >= 0], at[points >= 0]) for points, at in rows]
        seen = np.bincount(np.concatenate([[0], *(p for p, _ in known)]), minlength=1)
        often = np.flatnonzero(seen >= _LEAST_SEEN)
        chosen = often[_evenly(len(often), _POINTS)]
        if len(chosen) < _LEAST_POINTS:
            return None
        number = np.full(len(seen), -1)
        number[chosen] = np.arange(len(chosen))
        image_rows, point_rows, pixels, errors = [], [], [], []
        for row, (view, (points, at)) in enumerate(zip(views, known, strict=True)):
            mine = number[points] >= 0
            camera, keypoints = view.camera, view.keypoints[at[mine]].astype(np.float64)
            world = model.points.positions[points[mine]]
            projected = camera.img_from_cam(view.cam_from_world @ world)
            image_rows.append(np.full(len(keypoints), row))
            point_rows.append(number[points[mine]])
            pixels.append(camera.cam_from_img(keypoints) * camera.focal_px)
            errors.append(np.linalg.norm(projected - keypoints, axis=1))
        cameras = [view.camera for view in views]
        return cls(
            len(views),
            len(chosen),
            np.concatenate(image_rows),
            np.concatenate(point_rows),
            np.concatenate(pixels),
            np.concatenate(errors),
            np.array([camera.focal_px for camera in cameras]),
            np.array([max(camera.width, camera.height) for camera in cameras], dtype=float),
        )


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _noise(errors: FloatArray, unknown: int) -> float:
    """Pixels of a coordinate, by the errors [M] that all but the largest stay below."""
    freedom = max(1, 2 * len(errors) - unknown)
    typical = float(np.quantile(np.nan_to_num(errors, nan=np.inf), _SHARE, method="lower"))
    return float(typical * np.sqrt(len(errors) / freedom / -np.log(1 - _SHARE)))


@dataclass(frozen=True, eq=False)
class _Panorama:
    """Directions, and the cameras that look at them from one spot."""

    turns: FloatArray  # [N, 3, 3] of each image from the world
    log_focals: FloatArray  # [N]
    directions: FloatArray  # [P, 3] of unit length

    def residuals(self, seen: _Seen) -> tuple[FloatArray, FloatArray, FloatArray]:
        """[M, 2] pixels; the directions [M, 3] in the cameras' axes; the focal lengths [M]."""
        inside = np.einsum(
            "nij,nj->ni", self.turns[seen.image_rows], self.directions[seen.point_rows]
        )
        focals = np.exp(self.log_focals)[seen.image_rows]
        depth = np.maximum(inside[:, 2:], 1e-3)
        return focals[:, None] * inside[:, :2] / depth - seen.pixels, inside, focals


def _errors(seen: _Seen) -> FloatArray | None:
    """[M] pixels from what the best standing camera sees; None where none can be set up."""
    now = _begun(seen)
    if now is None:
        return None
    damping = 1e-3
    residuals, inside, focals = now.residuals(seen)
    cost = _cost(residuals)
    low, high = (np.log(limit * seen.sizes) for limit in _FOCALS)
    for _ in range(_ROUNDS):
        step = _Step.of(now, seen, residuals, inside, focals)
        for _ in range(_TRIES):
            cameras, points = step.solved(damping)
            turns = Rotation.from_rotvec(cameras[:, :3]).as_matrix() @ now.turns
            log_focals = np.clip(now.log_focals + cameras[:, 3], low, high)
            moved = now.directions + np.einsum("pab,pb->pa", step.tangents, points)
            tried = _Panorama(turns, log_focals, _unit(moved))
            found = tried.residuals(seen)
            if (lower := _cost(found[0])) < cost:
                break
            damping *= 4
        else:
            break
        now, (residuals, inside, focals), damping = tried, found, max(damping / 5, 1e-9)
        enough, cost = cost - lower < _ENOUGH * cost, lower
        if enough:
            break
    return np.asarray(np.linalg.norm(residuals, axis=1))


def _cost(residuals: FloatArray) -> float:
    return float(np.log1p((residuals**2).sum(axis=1) / _SCALE**2).sum())


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _begun(seen: _Seen) -> _Panorama | None:
    """One image after the other, turned to the directions that those before saw."""
    focals = seen.focal_px[seen.image_rows]
    rays = _unit(np.column_stack([seen.pixels / focals[:, None], np.ones(len(focals))]))
    turns = np.tile(np.eye(3), (seen.images, 1, 1))
    directions = np.zeros((seen.points, 3))
    known = np.zeros(seen.points, dtype=bool)
    waiting = set(range(seen.images))
    while waiting:
        shared = np.bincount(seen.image_rows[known[seen.point_rows]], minlength=seen.images)
        row = max(waiting, key=lambda image: (shared[image], -image))
        if known.any():
            if shared[row] < _LEAST_SHARED:
                return None
            both = (seen.image_rows == row) & known[seen.point_rows]
            turns[row] = Rotation.align_vectors(rays[both], directions[seen.point_rows[both]])[
                0
            ].as_matrix()
        new = (seen.image_rows == row) & ~known[seen.point_rows]
        directions[seen.point_rows[new]] = rays[new] @ turns[row]
        known[seen.point_rows[new]] = True
        waiting.remove(row)
    return _Panorama(turns, np.log(seen.focal_px), directions)


@dataclass(frozen=True, eq=False)
class _Step:
    """The normal equations of a panorama, directions to be eliminated."""

    tangents: FloatArray  # [P, 3, 2] in which way directions may move
    of_cameras: FloatArray  # [N, 4, 4]: turn, then focal length
    of_points: FloatArray  # [P, 2, 2]
    mixed: FloatArray  # [4 N, P, 2]
    right_of_cameras: FloatArray  # [4 N]
    right_of_points: FloatArray  # [P, 2]

    @classmethod
    def of(
        cls,
        now: _Panorama,
        seen: _Seen,
        residuals: FloatArray,
        inside: FloatArray,
        focals: FloatArray,
    ) -> _Step:
        """Of the robust loss at a panorama."""
        weights = 1 / (_SCALE**2 + (residuals**2).sum(axis=1))
        depth = np.maximum(inside[:, 2], 1e-3)
        by_inside = np.zeros((len(residuals), 2, 3))
        by_inside[:, 0, 0] = by_inside[:, 1, 1] = focals / depth
        by_inside[:, :, 2] = -focals[:, None] * inside[:, :2] / depth[:, None] ** 2
        by_focal = (residuals + seen.pixels)[:, :, None]
        by_camera = np.concatenate([by_inside @ -skew(inside), by_focal], axis=2)
        aside = np.where(np.abs(now.directions[:, :1]) < 0.8, [[1.0, 0, 0]], [[0, 1.0, 0]])
        across = _unit(np.cross(now.directions, aside))
        tangents = np.stack([across, np.cross(now.directions, across)], axis=2)
        by_point = by_inside @ now.turns[seen.image_rows] @ tangents[seen.point_rows]
        weighted = by_camera * weights[:, None, None]
        of_cameras = np.zeros((seen.images, 4, 4))
        np.add.at(of_cameras, seen.image_rows, weighted.transpose(0, 2, 1) @ by_camera)
        of_points = np.zeros((seen.points, 2, 2))
        by_weight = by_point * weights[:, None, None]
        np.add.at(of_points, seen.point_rows, by_weight.transpose(0, 2, 1) @ by_point)
        mixed = np.zeros((seen.images, 4, seen.points, 2))
        mixed[seen.image_rows, :, seen.point_rows] = weighted.transpose(0, 2, 1) @ by_point
        right_of_cameras = np.zeros((seen.images, 4))
        np.add.at(right_of_cameras, seen.image_rows, -np.einsum("mia,mi->ma", weighted, residuals))
        right_of_points = np.zeros((seen.points, 2))
        np.add.at(right_of_points, seen.point_rows, -np.einsum("mia,mi->ma", by_weight, residuals))
        return cls(
            tangents,
            of_cameras,
            of_points,
            mixed.reshape(4 * seen.images, seen.points, 2),
            right_of_cameras.ravel(),
            right_of_points,
        )

    def solved(self, damping: float) -> tuple[FloatArray, FloatArray]:
        """The step of the cameras [N, 4] and of the directions [P, 2]."""
        size = len(self.mixed)
        trace = np.einsum("pii->p", self.of_points)[:, None, None]
        inverse = np.linalg.inv(self.of_points + (damping * trace / 2 + 1e-12) * np.eye(2))
        along = np.einsum("npa,pab->npb", self.mixed, inverse)
        whole = -along.reshape(size, -1) @ self.mixed.reshape(size, -1).T
        for row, block in enumerate(self.of_cameras):
            at = slice(4 * row, 4 * row + 4)
            whole[at, at] += block + damping * np.diag(np.diag(block)) + 1e-12 * np.eye(4)
        right = self.right_of_cameras - along.reshape(size, -1) @ self.right_of_points.ravel()
        cameras = np.linalg.solve(whole, right)
        back = self.right_of_points - np.einsum("npa,n->pa", self.mixed, cameras)
        return cameras.reshape(-1, 4), np.einsum("pab,pb->pa", inverse, back)
