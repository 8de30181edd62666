"""How exactly images alone determine the poses of a map: what bundle adjustment leaves open.

The covariance of all poses together, with points and lenses unknown too: the inverse of the
normal equations of the robust reprojection errors, points eliminated (Triggs et al., "Bundle
Adjustment - A Modern Synthesis", 1999). A map from images has no frame of its own; what is
said is how far each pose is off once the map is laid over the truth by the similarity that fits
all poses best (the free network of geodesy), so that nothing is exact by decree. Errors that
images have in common, such as a lens that its model does not describe, are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import lapack

from relocalize import progress
from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray, skew
from relocalize.place import MapModel, Place, PosedImage
from relocalize.place.bundle_adjustment import LOSS_SCALE
from relocalize.place.model import NO_POINT, observation_counts

# Of 680 images with 200,000 observations it takes 9 CPU seconds and 1.3 GB; memory grows with the
# square of the number of images.
MOST_IMAGES = 1000
_LEAST_OBSERVATIONS = 6  # of an image: fewer leave its own 6 numbers open
_STEP = 1e-6  # of numerical derivatives, relative
# Of an image's typical depth: nearer points are none. A match of two images alone may end in the
# very centre of one, where it says nothing and its derivatives are without bound.
_LEAST_DEPTH = 1e-3


def pose_covariances(place: Place) -> dict[str, FloatArray]:
    """The covariance [6, 6] of each image's pose, by name, in the order of `PoseEstimate`.

    A point is one witness, however many images see it: what moves a feature moves it along its
    whole track. Images that hardly observe anything have none. A map of more than `MOST_IMAGES`
    images has none at all, and one line says so.
    """
    model = place.map.about(place.map.local_origin)
    observations = Observations.of(model)
    if observations is None:
        return {}
    if len(observations.images) > MOST_IMAGES:
        progress.say(
            f"how exact each pose is, is not worked out: the map has {len(observations.images)} "
            f"images, which takes up to {MOST_IMAGES}"
        )
        return {}
    blocks = _free_covariances(observations.of_witnesses())
    return {image.name: block for image, block in zip(observations.images, blocks, strict=True)}


def lens_sigmas(
    model: MapModel, *, principal_points: bool = True
) -> tuple[dict[int, FloatArray], float]:
    """How exactly images determine the parameters [P] of each camera, by its number.

    Infinite where they leave them open; 0 for principal points if held; none at all where there
    are too many images and cameras to ask. Beside them the noise of the observations from which
    that follows, in pixels.
    """
    every = {
        number: np.full(len(camera.params), np.inf) for number, camera in model.cameras.items()
    }
    observations = Observations.of(model, principal_points=principal_points)
    if observations is None:
        return every, 0.0
    if 6 * len(observations.images) + observations.lenses.size > 6 * MOST_IMAGES:
        return {}, 0.0
    noise = float(np.sqrt(observations.variance))
    covariance = _free_covariance(observations)
    if covariance is None:
        return every, noise
    poses = 6 * len(observations.images)
    variances = observations.variance * np.diag(covariance)[poses:]
    variances = np.where(variances >= 0, variances, np.inf)
    for image in observations.images:
        every[image.camera_id] = sigmas = np.zeros(len(image.camera.params))
        free = observations.lenses.free(image.camera)
        sigmas[free] = np.sqrt(variances[observations.lenses.at(image.camera)])
    return every, noise


@dataclass(frozen=True, eq=False)
class Observations:
    """Who sees what, with the derivatives of where."""

    images: Sequence[PosedImage]  # [N] those that take part
    image_rows: NDArray[np.int64]  # [M] the image of each observation
    point_rows: NDArray[np.int64]  # [M] its point, numbered from 0 among those that take part
    by_pose: FloatArray  # [M, 2, 6] pixels per unit of the camera's centre and per radian
    by_point: FloatArray  # [M, 2, 3] pixels per unit of the point's position
    by_lens: FloatArray  # [M, 2, K] pixels per parameter of the lens; 0 beyond its own
    lens_columns: NDArray[np.int64]  # [M, K] which of the L parameters of all lenses these are
    weights: FloatArray  # [M] of the robust loss
    variance: float  # of a pixel coordinate with weight 1
    depth: float  # typical distance of points
    lenses: _Lenses  # where whose parameters are

    @classmethod
    def of(cls, model: MapModel, *, principal_points: bool = False) -> Observations | None:
        """Those of a map; None where they are fewer than what they are to determine."""
        images = [
            image for image in model.images.values() if len(image.observed) >= _LEAST_OBSERVATIONS
        ]
        seen = observation_counts(images, len(model.points))
        number = np.where(seen >= 2, np.cumsum(seen >= 2) - 1, NO_POINT)
        lenses = _Lenses([i.camera for i in images], principal_points=principal_points)
        parts = [
            _of_image(row, image, model.points.positions, number, lenses)
            for row, image in enumerate(images)
        ]
        if len(parts) < 2:
            return None
        rows, points, residuals, by_pose, by_point, by_lens, lens_columns, depths = map(
            np.concatenate, zip(*parts, strict=True)
        )
        squares = (residuals**2).sum(axis=1)
        weights = 1 / (1 + squares / LOSS_SCALE**2)
        unknown = 6 * len(images) + lenses.size + 3 * int((seen >= 2).sum()) - 7
        freedom = 2 * len(rows) - unknown
        if freedom <= 0:
            return None
        return cls(
            images,
            rows,
            points,
            by_pose,
            by_point,
            by_lens,
            lens_columns,
            weights,
            float((weights * squares).sum() / freedom),
            float(np.median(depths)),
            lenses,
        )

    def of_witnesses(self) -> Observations:
        """These, all observations of a point weighing as much as one."""
        seen = np.bincount(self.point_rows)
        return replace(self, weights=self.weights / seen[self.point_rows])


class _Lenses:
    """The parameters of all lenses that bundle adjustment estimates, principal points if asked."""

    def __init__(self, cameras: Sequence[Camera], *, principal_points: bool) -> None:
        self._first: dict[Camera, int] = {}
        self._free: dict[Camera, list[int]] = {}
        self.size = 0
        for camera in dict.fromkeys(cameras):
            colmap = camera.to_colmap()
            fixed = set() if principal_points else set(colmap.principal_point_idxs())
            self._first[camera] = self.size
            self._free[camera] = [i for i in range(len(camera.params)) if i not in fixed]
            self.size += len(self._free[camera])

    def at(self, camera: Camera) -> slice:
        """Where the parameters of a camera are among all."""
        first = self._first[camera]
        return slice(first, first + len(self._free[camera]))

    def free(self, camera: Camera) -> list[int]:
        """Which of a camera's parameters are estimated."""
        return self._free[camera]

    def derivatives(
        self, camera: Camera, in_cam: FloatArray
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """[M, 2, K] of the pixels of points [M, 3] in the camera's axes, and their columns [M, K].

        K is the same for all cameras; what one has less is 0, of whichever parameter.
        """
        widest = max(map(len, self._free.values()))
        found = np.zeros((len(in_cam), 2, widest))
        columns = np.zeros((len(in_cam), widest), dtype=np.int64)
        for column, index in enumerate(self._free[camera]):
            columns[:, column] = self._first[camera] + column
            step = _STEP * max(1.0, abs(camera.params[index]))
            sides = []
            for sign in (1, -1):
                params = list(camera.params)
                params[index] += sign * step
                moved = Camera(camera.model, camera.width, camera.height, tuple(params))
                sides.append(moved.img_from_cam(in_cam))
            found[:, :, column] = (sides[0] - sides[1]) / (2 * step)
        return found, columns


def _of_image(
    row: int, image: PosedImage, positions: FloatArray, number: NDArray[np.int64], lenses: _Lenses
) -> tuple[
    NDArray[np.int64],
    NDArray[np.int64],
    FloatArray,
    FloatArray,
    FloatArray,
    FloatArray,
    NDArray[np.int64],
    FloatArray,
]:
    """Its observations' image, points, residuals, derivatives and depths."""
    used = image.point_rows != NO_POINT
    used[used] = number[image.point_rows[used]] != NO_POINT
    points = image.point_rows[used]
    in_cam = image.cam_from_world @ positions[points]
    pixels = image.camera.img_from_cam(in_cam)
    residuals = pixels - image.keypoints[used].astype(np.float64)
    least = _LEAST_DEPTH * max(float(np.median(in_cam[:, 2])), 0.0) if len(in_cam) else 0.0
    fine = np.isfinite(residuals).all(axis=1) & (in_cam[:, 2] > least)
    points, in_cam, residuals = points[fine], in_cam[fine], residuals[fine]
    by_cam = np.empty((len(points), 2, 3))
    for axis in range(3):
        step = np.zeros((len(points), 3))
        step[:, axis] = _STEP * in_cam[:, 2]
        sides = [image.camera.img_from_cam(in_cam + sign * step) for sign in (1, -1)]
        by_cam[:, :, axis] = (sides[0] - sides[1]) / (2 * step[:, axis, None])
    by_point = by_cam @ image.cam_from_world.rotation
    # The camera turned by w about its own axes sees x + x cross w.
    by_turn = by_cam @ skew(in_cam)
    return (
        np.full(len(points), row, dtype=np.int64),
        number[points],
        residuals,
        np.concatenate([-by_point, by_turn], axis=2),
        by_point,
        *lenses.derivatives(image.camera, in_cam),
        in_cam[:, 2],
    )


def _free_covariance(found: Observations) -> FloatArray | None:
    """[6 N + L, 6 N + L] of poses and lenses in some frame, for a variance of 1; None if open."""
    normal = normal_equations(found).toarray()
    frame = _frame_changes(found, len(normal))
    # Scaled to ones on the diagonal, the equations are as well-posed as they can be; the changes
    # of frame, which they leave open, are closed by hand and taken out again below.
    diagonal = np.diag(normal)
    scale = 1 / np.sqrt(np.where(diagonal > np.finfo(float).tiny, diagonal, 1.0))
    open_part = np.linalg.qr(frame / scale[:, None])[0]
    closed = scale[:, None] * normal * scale + open_part @ open_part.T
    factor, failed = lapack.dpotrf(closed, lower=1, overwrite_a=1)
    if failed:
        return None
    inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    covariance: FloatArray = scale[:, None] * inverse * scale
    return covariance


def _free_covariances(found: Observations) -> FloatArray:
    """[N, 6, 6] of every pose, in the frame that fits all of them best."""
    count = len(found.images)
    covariance = _free_covariance(found)
    if covariance is None:
        return np.full((count, 6, 6), np.nan)
    frame = _frame_changes(found, len(covariance))
    # The similarity that fits all poses best weighs a turn by how far it moves what is seen.
    weight = np.zeros(len(covariance))
    weight[: 6 * count] = np.tile([1.0] * 3 + [found.depth**2] * 3, count)
    fit = np.linalg.inv(frame.T @ (weight[:, None] * frame))
    along = covariance @ (weight[:, None] * frame)
    within = fit @ (frame.T @ (weight[:, None] * along)) @ fit
    blocks = np.empty((count, 6, 6))
    for row in range(count):
        at = slice(6 * row, 6 * row + 6)
        mixed = frame[at] @ fit @ along[at].T
        blocks[row] = covariance[at, at] - mixed - mixed.T + frame[at] @ within @ frame[at].T
    return found.variance * blocks


def normal_equations(found: Observations) -> sparse.csr_array:
    """[6 N + L, 6 N + L] of poses and lenses, points eliminated."""
    poses = 6 * len(found.images)
    size = poses + found.lenses.size
    root = np.sqrt(found.weights)[:, None, None]
    by_rest = np.concatenate([found.by_pose, found.by_lens], axis=2) * root
    columns = np.concatenate(
        [
            6 * found.image_rows[:, None] + np.arange(6),
            poses + found.lens_columns,
        ],
        axis=1,
    )
    rest = _rows(by_rest, columns, size)
    by_point = found.by_point * root
    points = int(found.point_rows.max()) + 1
    inside = np.zeros((points, 3, 3))
    np.add.at(inside, found.point_rows, by_point.transpose(0, 2, 1) @ by_point)
    # A point on a line with all who see it is held a little; it says nothing of their poses.
    inside += (
        1e-9 * np.trace(inside, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        + np.eye(3) * np.finfo(float).tiny
    )
    spread = np.linalg.cholesky(np.linalg.inv(inside))
    columns = 3 * found.point_rows[:, None] + np.arange(3)
    eliminated = rest.T @ _rows(by_point @ spread[found.point_rows], columns, 3 * points)
    whole = rest.T @ rest - eliminated @ eliminated.T
    return sparse.csr_array((whole + whole.T) / 2)


def _rows(values: FloatArray, columns: NDArray[np.int64], size: int) -> sparse.csr_array:
    """Derivatives [M, 2, K] in these columns [M, K] as a sparse matrix [2 M, size]."""
    many, _, width = values.shape
    indices = np.repeat(columns[:, None, :], 2, axis=1).ravel()
    starts = np.arange(0, 2 * many * width + 1, width)
    return sparse.csr_array((values.ravel(), indices, starts), shape=(2 * many, size))


def _frame_changes(found: Observations, size: int) -> FloatArray:
    """[size, 7] what a shift, a turn and a growth of the whole world do to all poses."""
    centres = np.stack([image.world_from_cam.translation for image in found.images])
    middle = centres.mean(axis=0)
    changes = np.zeros((size, 7))
    for row, image in enumerate(found.images):
        arm = centres[row] - middle
        at = slice(6 * row, 6 * row + 3)
        changes[at, :3] = np.eye(3)
        changes[at, 3:6] = -skew(arm)
        changes[at, 6] = arm
        changes[6 * row + 3 : 6 * row + 6, 3:6] = image.cam_from_world.rotation
    return changes
