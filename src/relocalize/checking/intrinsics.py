"""Whether claimed intrinsics explain the images as well as others would.

With the poses held, the epipolar errors of the matches are minimised over the focal length, the
aspect of the pixels, the principal point and the amount of distortion. What moves far, and by
more than its own uncertainty, is suspicious.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeResult, least_squares

from relocalize.checking.agreement import sampson, unit
from relocalize.checking.correction import Correction, corner_shift, distorts, undistorted_only
from relocalize.checking.measuring import MeasuredPair, View, evenly
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray, skew

_MIN_PAIRS = 20
_MAX_PAIRS = 250
_MATCHES_PER_PAIR = 24
# What is reported: two percent of focal length move a photo's position by two percent of the depth;
# one percent of the image's size in the principal point turns it by half a degree.
_MIN_FOCAL = 0.02
_MIN_ASPECT = 0.01
_MIN_OFFSET = 0.01
_MIN_CORNER = 0.01  # of the image's size, at its corner, by wrong distortion
# Matches of a pair share its noise, so their count overstates the certainty.
_SIGMAS = 8.0
# A fault is one where the best fit without its mending leaves an error larger by this much.
_MIN_GAIN = 0.1
# Which unknowns of a `Correction` are one fault.
_UNKNOWNS = {"focal length": [0], "aspect": [1], "principal point": [2, 3], "distortion": [4]}
# Cameras of one model and size are one camera where their focal lengths are within this factor.
_ALIKE = 1.1


@dataclass(frozen=True)
class IntrinsicsFit:
    """The intrinsics that the matches ask for, beside the claimed ones."""

    camera: Camera  # as claimed; of several that are alike, the one with the middle focal length
    images: tuple[int, ...]  # rows of its images
    correction: Correction  # of the claimed intrinsics
    principal_offset_px: tuple[float, float]  # [2] wanted principal point minus the claimed one
    # wanted amount of the claimed distortion (1: as claimed, 0: none); None where the claimed
    # camera has none
    distortion_amount: float | None
    # where it has none, the shift that is wanted at the corner, as a share of the image's longer
    # side
    missing_distortion: float
    faults: tuple[str, ...]  # ``focal length``, ``aspect``, ``principal point``, ``distortion``


def fit_intrinsics(
    views: Sequence[View],
    poses: Sequence[Rigid3],
    measured: Sequence[MeasuredPair],
    *,
    excluded: Collection[int] = (),
) -> list[IntrinsicsFit]:
    """A fit for each claimed camera that enough pairs of its own images test.

    Cameras that are alike, as where a tool gives each image of one camera its own calibration,
    are fitted together.

    Args:
        views: by row.
        poses: claimed ``world_from_cam`` by row.
        measured: pairs of rows.
        excluded: rows whose pose is known to be wrong.
    """
    kinds = _kinds([view.camera for view in views])
    by_kind: dict[Camera, list[MeasuredPair]] = defaultdict(list)
    for pair in measured:
        first, second = (kinds[views[row].camera] for row in pair.pair)
        usable = pair.is_moving and not set(pair.pair) & set(excluded)
        if first == second and first.known != "unknown" and usable:
            by_kind[first].append(pair)
    rows_of: dict[Camera, list[int]] = defaultdict(list)
    for row, view in enumerate(views):
        rows_of[kinds[view.camera]].append(row)
    return [
        _fit(kind, rows_of[kind], views, poses, pairs)
        for kind, pairs in by_kind.items()
        if len(pairs) >= _MIN_PAIRS
    ]


def _kinds(cameras: Sequence[Camera]) -> dict[Camera, Camera]:
    """Each camera's like: cameras of one model, size and, nearly, focal length are one."""
    alike: dict[tuple[object, ...], set[Camera]] = defaultdict(set)
    for camera in cameras:
        alike[camera.model, camera.width, camera.height, camera.known != "unknown"].add(camera)
    kinds: dict[Camera, Camera] = {}
    for group in alike.values():
        ordered = sorted(group, key=lambda camera: (camera.focal_px, camera.params))
        one = ordered[-1].focal_px <= _ALIKE * ordered[0].focal_px
        middle = ordered[len(ordered) // 2]
        kinds |= {camera: middle if one else camera for camera in ordered}
    return kinds


def _fit(
    camera: Camera,
    rows: Sequence[int],
    views: Sequence[View],
    poses: Sequence[Rigid3],
    pairs: Sequence[MeasuredPair],
) -> IntrinsicsFit:
    data = _Data(camera, views, poses, [pairs[at] for at in evenly(len(pairs), _MAX_PAIRS)])
    start = data.claimed
    solution = data.fitted(start)
    after = float(np.median(np.abs(solution.fun)))
    change = np.asarray(solution.x - start)
    jacobian = np.asarray(solution.jac, dtype=np.float64)
    variance = float(np.mean(np.minimum(solution.fun**2, 9.0)))
    sigma = np.sqrt(np.maximum(np.diag(np.linalg.pinv(jacobian.T @ jacobian)), 0))
    clear = np.abs(change) > _SIGMAS * sigma * np.sqrt(variance)
    side = max(camera.width, camera.height)
    K = camera.calibration_matrix
    offset = change[2:4] * np.array([K[0, 0], K[1, 1]])
    corner = float(change[4]) * data.corner_shift
    correction = Correction(*map(float, solution.x))
    suspects = {
        "focal length": clear[0] and abs(correction.focal_ratio - 1) > _MIN_FOCAL,
        "aspect": clear[1] and abs(1 / correction.aspect - 1) > _MIN_ASPECT,
        "principal point": clear[2:4].any() and float(np.abs(offset).max()) > _MIN_OFFSET * side,
        "distortion": clear[4] and abs(corner) > _MIN_CORNER,
    }
    return IntrinsicsFit(
        camera=camera,
        images=tuple(rows),
        correction=correction,
        principal_offset_px=(float(offset[0]), float(offset[1])),
        distortion_amount=float(solution.x[4]) if data.is_distorted else None,
        missing_distortion=0.0 if data.is_distorted else corner,
        faults=tuple(
            fault
            for fault, suspected in suspects.items()
            if suspected and after < (1 - _MIN_GAIN) * data.error_with_claimed(fault, solution.x)
        ),
    )


class _Data:
    """Matches of one kind of camera on the image plane, with and without distortion.

    The unknowns are the numbers of a `Correction`.
    """

    steps = np.array([0.01, 0.01, 0.01, 0.01, 0.1])

    def __init__(
        self,
        camera: Camera,
        views: Sequence[View],
        poses: Sequence[Rigid3],
        pairs: Sequence[MeasuredPair],
    ) -> None:
        self.is_distorted = distorts(camera)
        # How far one unit of the last unknown moves a point at the corner, in image sizes.
        corners = np.array([[0.0, 0.0], [camera.width, camera.height]])
        radius = float(np.linalg.norm(undistorted_only(camera, corners), axis=1).max())
        focal = float(camera.calibration_matrix[0, 0]) / max(camera.width, camera.height)
        self.corner_shift = corner_shift(camera) if self.is_distorted else radius**3 * focal
        self.claimed = np.array([0.0, 0.0, 0.0, 0.0, 1.0 if self.is_distorted else 0.0])

        raw: tuple[list[FloatArray], list[FloatArray]] = ([], [])
        undistorted: tuple[list[FloatArray], list[FloatArray]] = ([], [])
        essential: list[FloatArray] = []
        pixels: list[float] = []
        for pair in pairs:
            rows = evenly(len(pair.matches), _MATCHES_PER_PAIR)
            for side in (0, 1):
                view = views[pair.pair[side]]
                keypoints = view.features.keypoints[pair.matches[rows, side]].astype(np.float64)
                raw[side].append(undistorted_only(view.camera, keypoints))
                undistorted[side].append(view.camera.cam_from_img(keypoints))
            relative = poses[pair.pair[1]].inverse() @ poses[pair.pair[0]]
            essential += [skew(unit(relative.translation)) @ relative.rotation] * len(rows)
            pixels += [pair.max_error / 2] * len(rows)
        self._essential = np.array(essential)
        self._pixel = np.array(pixels)
        self._raw = [np.concatenate(points) for points in raw]
        self._undistorted = [np.concatenate(points) for points in undistorted]

    def fitted(self, start: FloatArray, *, held: Sequence[int] = ()) -> OptimizeResult:
        """The unknowns that explain the matches best, with some of them held as they are."""
        free = [row for row in range(len(start)) if row not in held]

        def residuals(values: FloatArray) -> FloatArray:
            unknowns = start.copy()
            unknowns[free] = values
            return self.residuals(unknowns)

        scale = self.steps[free]
        return least_squares(residuals, start[free], loss="soft_l1", x_scale=scale, max_nfev=60)

    def error_with_claimed(self, fault: str, unknowns: FloatArray) -> float:
        """Median error of the best fit that keeps what is claimed of one fault."""
        start = unknowns.copy()
        start[_UNKNOWNS[fault]] = self.claimed[_UNKNOWNS[fault]]
        return float(np.median(np.abs(self.fitted(start, held=_UNKNOWNS[fault]).fun)))

    def residuals(self, unknowns: FloatArray) -> FloatArray:
        """[M] signed Sampson errors in pixels at 640."""
        first, second = (self._rays(side, Correction(*unknowns)) for side in (0, 1))
        error = sampson(self._essential, first, second) / self._pixel
        return np.asarray(np.nan_to_num(error, nan=0.0))

    def _rays(self, side: int, correction: Correction) -> FloatArray:
        points = correction.plane_points(
            self._raw[side], self._undistorted[side], is_distorted=self.is_distorted
        )
        return np.concatenate([points, np.ones((len(points), 1))], axis=1)
