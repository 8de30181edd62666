"""Least squares for camera poses, and where wanted for the lens that the photos share.

Levenberg-Marquardt on the reprojection error under Cauchy's loss, with the covariance of the
result: Huber, "Robust Statistics", 1981, section 7.6 (the M-estimator's scale on the inverse of
J^T J). Small dense problems: a photo has hundreds of matches, and numpy takes 0.1 ms a step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray

_BEHIND = 1e6  # residual in pixels of a point that is not in front of the camera
_MIN_DEPTH = 1e-9
_POSE = 6  # pose parameters: centre in the world, rotation in the camera's axes

# Phone and web cameras have a radial term within a few hundredths, action cameras down to -0.3;
# it is held to that range only where the matches do not say.
RADIAL_SIGMA = 0.15


@dataclass(frozen=True, eq=False)
class Lens:
    """Focal length and COLMAP's SIMPLE_RADIAL term, with the principal point at (0, 0).

    Attributes:
        focal: pixels.
        radial: ``k`` of ``(1 + k r^2)``.
        focal_sigma: of a prior on the focal length as a share of it, None without one.
    """

    focal: float
    radial: float = 0.0
    focal_sigma: float | None = None


@dataclass(frozen=True, eq=False)
class View:
    """Matches of one photo and the pose that is fitted to them.

    Attributes:
        pixels: [N, 2] relative to the principal point, x right, y down.
        points: [N, 3] in the world.
        world_from_cam: the pose.
    """

    pixels: FloatArray
    points: FloatArray
    world_from_cam: Rigid3

    def only(self, keep: NDArray[np.bool_]) -> View:
        """The same with the matches ``keep`` [N] alone."""
        return replace(self, pixels=self.pixels[keep], points=self.points[keep])


@dataclass(frozen=True, eq=False)
class Refined:
    """Poses and lens at the optimum.

    Attributes:
        views: as given, with their poses refined.
        lens: as given, or refined.
        cost: the robust cost.
    """

    views: tuple[View, ...]
    lens: Lens
    cost: float


def reprojection_errors(view: View, lens: Lens) -> FloatArray:
    """[N] pixels; huge behind the camera."""
    residuals = _residuals(view, lens)
    return np.asarray(np.linalg.norm(residuals, axis=1), dtype=np.float64)


def refine(
    views: tuple[View, ...],
    lens: Lens,
    *,
    loss_scale: float,
    with_lens: bool,
    iterations: int = 30,
) -> Refined:
    """Poses of all ``views``, and with ``with_lens`` the lens they share, at least robust cost.

    Args:
        views: photos of one camera, each with 4 matches or more.
        lens: where to start.
        loss_scale: pixels from which on Cauchy's loss flattens.
        with_lens: whether focal length and radial term are free.
        iterations: at most.
    """
    lens_size = 2 if with_lens else 0
    start = lens
    cost = _cost(views, lens, start, loss_scale, with_lens=with_lens)
    damping = 1e-4
    for _ in range(iterations):
        blocks = [_normal_equations(view, lens, loss_scale, lens_size) for view in views]
        # The poses are independent given the lens, so they are eliminated first (Schur).
        hessian_lens, gradient_lens = _lens_prior(lens, start, loss_scale, lens_size)
        inverses = []
        for hessian, gradient in blocks:
            damped = hessian[:_POSE, :_POSE] + damping * np.diag(np.diag(hessian)[:_POSE])
            inverse = np.linalg.pinv(damped, hermitian=True)
            cross = hessian[:_POSE, _POSE:]
            hessian_lens = hessian_lens + hessian[_POSE:, _POSE:] - cross.T @ inverse @ cross
            gradient_lens = gradient_lens + gradient[_POSE:] - cross.T @ inverse @ gradient[:_POSE]
            inverses.append(inverse)
        lens_step = (
            -np.linalg.pinv(hessian_lens + damping * np.diag(np.diag(hessian_lens)), hermitian=True)
            @ gradient_lens
        )
        moved = tuple(
            _moved(view, -inverse @ (gradient[:_POSE] + hessian[:_POSE, _POSE:] @ lens_step))
            for view, inverse, (hessian, gradient) in zip(views, inverses, blocks, strict=True)
        )
        new_lens = lens
        if with_lens:
            focal = lens.focal * float(np.exp(np.clip(lens_step[0], -0.5, 0.5)))
            new_lens = replace(lens, focal=focal, radial=lens.radial + float(lens_step[1]))
        new_cost = _cost(moved, new_lens, start, loss_scale, with_lens=with_lens)
        if new_cost < cost:
            small = cost - new_cost < 1e-7 * cost
            views, lens, cost = moved, new_lens, new_cost
            damping = max(damping / 10, 1e-9)
            if small:
                break
        else:
            damping *= 10
            if damping > 1e4:
                break
    return Refined(views, lens, cost)


def covariance(view: View, lens: Lens, *, loss_scale: float, with_lens: bool) -> FloatArray:
    """[6, 6] of (centre in the world, rotation in the camera's axes in radians) at the optimum.

    With ``with_lens`` what focal length and radial term leave open is part of it. Directions
    that the matches do not determine have variance ``inf`` on the diagonal.
    """
    lens_size = 2 if with_lens else 0
    residuals, jacobian = _residuals(view, lens), _jacobian(view, lens)
    jacobian = jacobian[:, :, : _POSE + lens_size]
    squared = (residuals**2).sum(axis=1) / loss_scale**2
    weight = 1 / (1 + squared)
    size = jacobian.shape[2]
    freedom = 2 * len(residuals) - size
    slopes = weight - weight**2 * squared
    slope = float(slopes.mean())
    information = np.einsum("nij,nik->jk", jacobian, jacobian)
    if with_lens:
        prior, _ = _lens_prior(lens, lens, loss_scale, lens_size)
        information[_POSE:, _POSE:] += prior
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    if freedom <= 0 or slope <= 0 or np.linalg.cond(information / np.outer(scale, scale)) > 1e12:
        return np.diag(np.full(_POSE, np.inf))
    correction = 1 + size / (2 * len(residuals)) * float(slopes.var()) / slope**2
    scatter = float((weight**2 * squared).sum()) * loss_scale**2 / freedom
    variance = correction**2 * scatter / slope**2
    inverse = np.linalg.inv(information / np.outer(scale, scale)) / np.outer(scale, scale)
    result: FloatArray = variance * inverse[:_POSE, :_POSE]
    symmetric: FloatArray = (result + result.T) / 2
    return symmetric


def project(
    points: FloatArray, world_from_cam: Rigid3, lens: Lens
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Pixels [N, 2] relative to the principal point, and which points [N] lie in front."""
    in_cam = (points - world_from_cam.translation) @ world_from_cam.rotation
    front = in_cam[:, 2] > _MIN_DEPTH
    plane = in_cam[:, :2] / np.where(front, in_cam[:, 2], 1.0)[:, None]
    stretch = 1 + lens.radial * np.einsum("ni,ni->n", plane, plane)
    pixels: FloatArray = lens.focal * stretch[:, None] * plane
    return pixels, front


def _residuals(view: View, lens: Lens) -> FloatArray:
    """[N, 2] pixels."""
    pixels, front = project(view.points, view.world_from_cam, lens)
    residuals = pixels - view.pixels
    residuals[~front] = _BEHIND
    return residuals


def _jacobian(view: View, lens: Lens) -> FloatArray:
    """Of the residuals, [N, 2, 8]; zero for points behind the camera.

    Columns: centre in the world (3), rotation in the camera's axes (3; world_from_cam is
    multiplied by it from the right), log focal length, radial term.
    """
    rotation = view.world_from_cam.rotation
    in_cam = (view.points - view.world_from_cam.translation) @ rotation
    front = in_cam[:, 2] > _MIN_DEPTH
    inverse_depth = 1 / np.where(front, in_cam[:, 2], 1.0)
    x, y = in_cam[:, 0] * inverse_depth, in_cam[:, 1] * inverse_depth
    squared = x * x + y * y
    stretch = 1 + lens.radial * squared

    # By the point in the camera's axes: projection after distortion.
    by_plane = np.empty((len(x), 2, 2))
    by_plane[:, 0, 0] = stretch + 2 * lens.radial * x * x
    by_plane[:, 1, 1] = stretch + 2 * lens.radial * y * y
    by_plane[:, 0, 1] = by_plane[:, 1, 0] = 2 * lens.radial * x * y
    by_cam = np.empty((len(x), 2, 3))
    by_cam[:, :, :2] = by_plane * (lens.focal * inverse_depth)[:, None, None]
    by_cam[:, :, 2] = -by_cam[:, :, 0] * x[:, None] - by_cam[:, :, 1] * y[:, None]

    jacobian = np.empty((len(x), 2, 8))
    jacobian[:, :, :3] = -by_cam @ rotation.T
    # A turn w of the camera moves the point p in its axes by p x w, so rows b become b x p.
    px, py, pz = in_cam.T
    jacobian[:, :, 3] = by_cam[:, :, 1] * pz[:, None] - by_cam[:, :, 2] * py[:, None]
    jacobian[:, :, 4] = by_cam[:, :, 2] * px[:, None] - by_cam[:, :, 0] * pz[:, None]
    jacobian[:, :, 5] = by_cam[:, :, 0] * py[:, None] - by_cam[:, :, 1] * px[:, None]
    plane = np.stack([x, y], axis=1)
    jacobian[:, :, 6] = lens.focal * stretch[:, None] * plane
    jacobian[:, :, 7] = lens.focal * squared[:, None] * plane
    jacobian[~front] = 0
    return jacobian


def _normal_equations(
    view: View, lens: Lens, loss_scale: float, lens_size: int
) -> tuple[FloatArray, FloatArray]:
    residuals, jacobian = _residuals(view, lens), _jacobian(view, lens)
    weight = 1 / (1 + (residuals**2).sum(axis=1) / loss_scale**2)
    rows = jacobian[:, :, : _POSE + lens_size].reshape(2 * len(residuals), -1)
    weighted = rows * np.repeat(weight, 2)[:, None]
    return weighted.T @ rows, weighted.T @ residuals.ravel()


def _lens_prior(
    lens: Lens, start: Lens, loss_scale: float, lens_size: int
) -> tuple[FloatArray, FloatArray]:
    """The priors' part of the normal equations, weighed like one residual of ``loss_scale``."""
    hessian, gradient = np.zeros((lens_size, lens_size)), np.zeros(lens_size)
    if lens_size:
        focal = 0.0 if start.focal_sigma is None else (loss_scale / start.focal_sigma) ** 2
        radial = (loss_scale / RADIAL_SIGMA) ** 2
        hessian = np.diag([focal, radial])
        gradient = np.array([focal * np.log(lens.focal / start.focal), radial * lens.radial])
    return hessian, gradient


def _cost(
    views: tuple[View, ...], lens: Lens, start: Lens, loss_scale: float, *, with_lens: bool
) -> float:
    total = 0.0
    for view in views:
        residuals = _residuals(view, lens)
        total += float(np.log1p((residuals**2).sum(axis=1) / loss_scale**2).sum())
    total *= loss_scale**2
    if with_lens:
        total += (loss_scale * lens.radial / RADIAL_SIGMA) ** 2
        if start.focal_sigma is not None:
            total += (loss_scale * np.log(lens.focal / start.focal) / start.focal_sigma) ** 2
    return float(total)


def _moved(view: View, step: FloatArray) -> View:
    """The view with its pose changed by a step [6]."""
    pose = view.world_from_cam
    turn = Rotation.from_rotvec(step[3:]).as_matrix()
    return replace(view, world_from_cam=Rigid3(pose.rotation @ turn, pose.translation + step[:3]))
