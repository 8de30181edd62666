"""Least squares for camera poses, and where wanted for the lens that the photos share.

Levenberg-Marquardt on the reprojection error under Cauchy's loss, with the covariance of the
result: Huber, "Robust Statistics", 1981, section 7.6 (the M-estimator's scale on the inverse of
J^T J). Small dense problems: a photo has hundreds of matches, and numpy takes 0.1 ms a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray, rotations_from_rotvecs

_BEHIND = 1e6  # residual in pixels of a point that is not in front of the camera
_MIN_DEPTH = 1e-9
_POSE = 6  # pose parameters: centre in the world, rotation in the camera's axes

# Phone and web cameras have a radial term within a few hundredths, action cameras down to -0.3;
# it is held to that range only where the matches do not say.
RADIAL_SIGMA = 0.15
# Of the principal point about the image's centre, as a share of the focal length: stabilized
# and cheap lenses are off by up to a hundredth of the image; held to it likewise.
CENTRE_SIGMA = 0.01


class Freedom(IntEnum):
    """How much of a lens is estimated: the number of its parameters, in their order."""

    HELD = 0
    FOCAL_AND_RADIAL = 2  # what one photo determines, at best
    WHOLE = 5  # what photos of one camera determine together


@dataclass(frozen=True, eq=False)
class Lens:
    """COLMAP's RADIAL camera, in pixels relative to a point near the principal point."""

    focal: float  # pixels
    radial: float = 0.0  # ``k1`` of ``(1 + k1 r^2 + k2 r^4)``
    # of a prior on the focal length as a share of it, None without one
    focal_sigma: float | None = None
    radial2: float = 0.0  # ``k2``
    centre: tuple[float, float] = (0.0, 0.0)  # the principal point, pixels


@dataclass(frozen=True, eq=False)
class View:
    """Matches of one photo and the pose that is fitted to them."""

    pixels: FloatArray  # [N, 2] in the lens's pixels, x right, y down
    points: FloatArray  # [N, 3] in the world
    world_from_cam: Rigid3  # the pose
    feature_rows: NDArray[np.int64]  # [N] rows of the photo's features
    point_rows: NDArray[np.int64]  # [N] rows of the scene's points

    def only(self, keep: NDArray[np.bool_]) -> View:
        """The same with the matches ``keep`` [N] alone."""
        return replace(
            self,
            pixels=self.pixels[keep],
            points=self.points[keep],
            feature_rows=self.feature_rows[keep],
            point_rows=self.point_rows[keep],
        )


@dataclass(frozen=True, eq=False)
class Refined:
    """Poses and lens at the optimum."""

    views: tuple[View, ...]  # as given, with their poses refined
    lens: Lens  # as given, or refined


def reprojection_errors(view: View, lens: Lens) -> FloatArray:
    """[N] pixels; huge behind the camera."""
    residuals = _residuals(view, lens)
    return np.asarray(np.linalg.norm(residuals, axis=1), dtype=np.float64)


def refine(
    views: tuple[View, ...],
    lens: Lens,
    *,
    loss_scale: float,
    freedom: Freedom,
    iterations: int = 30,
) -> Refined:
    """Poses of all ``views``, and what is free of the lens they share, at least robust cost.

    Args:
        views: photos of one camera, each with 4 matches or more.
        lens: where to start.
        loss_scale: pixels from which on Cauchy's loss flattens.
        freedom: of the lens.
        iterations: at most.
    """
    start = lens
    residuals = [_residuals(view, lens) for view in views]
    cost = _cost(residuals, lens, start, loss_scale, freedom)
    damping = 1e-4
    for _ in range(iterations):
        blocks = [
            _normal_equations(view, lens, of_view, loss_scale, freedom)
            for view, of_view in zip(views, residuals, strict=True)
        ]
        # The poses are independent given the lens, so they are eliminated first (Schur).
        hessian_lens, gradient_lens = _lens_prior(lens, start, loss_scale, freedom)
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
        new_lens = _stepped(lens, lens_step)
        new_residuals = [_residuals(view, new_lens) for view in moved]
        new_cost = _cost(new_residuals, new_lens, start, loss_scale, freedom)
        if new_cost < cost:
            small = cost - new_cost < 1e-7 * cost
            views, lens, cost, residuals = moved, new_lens, new_cost, new_residuals
            damping = max(damping / 10, 1e-9)
            if small:
                break
        else:
            damping *= 10
            if damping > 1e4:
                break
    return Refined(views, lens)


def covariance(view: View, lens: Lens, *, loss_scale: float, freedom: Freedom) -> FloatArray:
    """[6, 6] of (centre in the world, rotation in the camera's axes in radians) at the optimum.

    What a free lens leaves open is part of it. Directions that the matches do not determine have
    variance ``inf`` on the diagonal.
    """
    information = _normal_equations(view, lens, _residuals(view, lens), np.inf, freedom)[0]
    information[_POSE:, _POSE:] += _lens_prior(lens, lens, loss_scale, freedom)[0]
    variance = _variance_of_unit_weight(view, lens, loss_scale, len(information))
    inverse = _inverse(information)
    if variance is None or inverse is None:
        return np.diag(np.full(_POSE, np.inf))
    result: FloatArray = variance * inverse[:_POSE, :_POSE]
    symmetric: FloatArray = (result + result.T) / 2
    return symmetric


def _variance_of_unit_weight(view: View, lens: Lens, loss_scale: float, size: int) -> float | None:
    """What ``(J^T J)^-1`` is multiplied by, or None where ``size`` parameters are too many."""
    residuals = _residuals(view, lens)
    squared = (residuals**2).sum(axis=1) / loss_scale**2
    weight = 1 / (1 + squared)
    freedom = 2 * len(residuals) - size
    slopes = weight - weight**2 * squared
    slope = float(slopes.mean())
    if freedom <= 0 or slope <= 0:
        return None
    correction = 1 + size / (2 * len(residuals)) * float(slopes.var()) / slope**2
    scatter = float((weight**2 * squared).sum()) * loss_scale**2 / freedom
    return correction**2 * scatter / slope**2


def _inverse(information: FloatArray) -> FloatArray | None:
    """The inverse, or None where a direction is not determined."""
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    scaled = information / np.outer(scale, scale)
    if np.linalg.cond(scaled) > 1e12:
        return None
    inverse: FloatArray = np.linalg.inv(scaled) / np.outer(scale, scale)
    return inverse


def project(
    points: FloatArray, world_from_cam: Rigid3, lens: Lens
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The lens's pixels [N, 2] of points, and which points [N] lie in front."""
    in_cam = (points - world_from_cam.translation) @ world_from_cam.rotation
    front = in_cam[:, 2] > _MIN_DEPTH
    plane = in_cam[:, :2] / np.where(front, in_cam[:, 2], 1.0)[:, None]
    squared = np.einsum("ni,ni->n", plane, plane)
    stretch = 1 + lens.radial * squared + lens.radial2 * squared**2
    pixels: FloatArray = lens.focal * stretch[:, None] * plane + np.array(lens.centre)
    return pixels, front


def _residuals(view: View, lens: Lens) -> FloatArray:
    """[N, 2] pixels."""
    pixels, front = project(view.points, view.world_from_cam, lens)
    residuals = pixels - view.pixels
    residuals[~front] = _BEHIND
    return residuals


def derivatives(
    points: FloatArray, world_from_cam: Rigid3, lens: Lens, freedom: Freedom = Freedom.WHOLE
) -> FloatArray:
    """Of the pixels of points [N, 3], [N, 2, 6 + freedom]; zero for points behind the camera.

    Columns: centre in the world (3), rotation in the camera's axes (3; world_from_cam is
    multiplied by it from the right), log focal length, both radial terms, principal point as a
    share of the focal length (2).
    """
    rotation = world_from_cam.rotation
    in_cam = (points - world_from_cam.translation) @ rotation
    front = in_cam[:, 2] > _MIN_DEPTH
    inverse_depth = 1 / np.where(front, in_cam[:, 2], 1.0)
    x, y = in_cam[:, 0] * inverse_depth, in_cam[:, 1] * inverse_depth
    squared = x * x + y * y
    stretch = 1 + lens.radial * squared + lens.radial2 * squared**2
    slope = 2 * lens.radial + 4 * lens.radial2 * squared

    # By the point in the camera's axes: projection after distortion.
    by_plane = np.empty((len(x), 2, 2))
    by_plane[:, 0, 0] = stretch + slope * x * x
    by_plane[:, 1, 1] = stretch + slope * y * y
    by_plane[:, 0, 1] = by_plane[:, 1, 0] = slope * x * y
    by_cam = np.empty((len(x), 2, 3))
    by_cam[:, :, :2] = by_plane * (lens.focal * inverse_depth)[:, None, None]
    by_cam[:, :, 2] = -by_cam[:, :, 0] * x[:, None] - by_cam[:, :, 1] * y[:, None]

    jacobian = np.zeros((len(x), 2, _POSE + freedom))
    jacobian[:, :, :3] = -by_cam @ rotation.T
    # A turn w of the camera moves the point p in its axes by p x w, so rows b become b x p.
    px, py, pz = in_cam.T
    jacobian[:, :, 3] = by_cam[:, :, 1] * pz[:, None] - by_cam[:, :, 2] * py[:, None]
    jacobian[:, :, 4] = by_cam[:, :, 2] * px[:, None] - by_cam[:, :, 0] * pz[:, None]
    jacobian[:, :, 5] = by_cam[:, :, 0] * py[:, None] - by_cam[:, :, 1] * px[:, None]
    if freedom >= Freedom.FOCAL_AND_RADIAL:
        plane = np.stack([x, y], axis=1)
        jacobian[:, :, 6] = lens.focal * stretch[:, None] * plane
        jacobian[:, :, 7] = lens.focal * squared[:, None] * plane
    if freedom == Freedom.WHOLE:
        jacobian[:, :, 8] = lens.focal * squared[:, None] ** 2 * plane
        jacobian[:, 0, 9] = jacobian[:, 1, 10] = lens.focal
    jacobian[~front] = 0
    return jacobian


def _normal_equations(
    view: View, lens: Lens, residuals: FloatArray, loss_scale: float, freedom: Freedom
) -> tuple[FloatArray, FloatArray]:
    """``J^T W J`` [6 + freedom, 6 + freedom], ``J^T W r``; W is 1 where the scale is infinite."""
    weight = 1 / (1 + (residuals**2).sum(axis=1) / loss_scale**2)
    rows = derivatives(view.points, view.world_from_cam, lens, freedom).reshape(
        2 * len(residuals), -1
    )
    weighted = rows * np.repeat(weight, 2)[:, None]
    return weighted.T @ rows, weighted.T @ residuals.ravel()


def _stepped(lens: Lens, step: FloatArray) -> Lens:
    """The lens changed by a step of its free parameters [0, 2 or 5]."""
    whole = np.zeros(Freedom.WHOLE)
    whole[: len(step)] = step
    return replace(
        lens,
        focal=lens.focal * float(np.exp(np.clip(whole[0], -0.5, 0.5))),
        radial=lens.radial + float(whole[1]),
        radial2=lens.radial2 + float(whole[2]),
        centre=(
            lens.centre[0] + lens.focal * float(whole[3]),
            lens.centre[1] + lens.focal * float(whole[4]),
        ),
    )


def _prior_residuals(lens: Lens, start: Lens, freedom: Freedom) -> tuple[FloatArray, FloatArray]:
    """How far the free parameters are off what is expected of lenses, and their sigmas."""
    off = np.array(
        [
            np.log(lens.focal / start.focal),
            lens.radial,
            lens.radial2,
            lens.centre[0] / lens.focal,
            lens.centre[1] / lens.focal,
        ]
    )
    focal_sigma = np.inf if start.focal_sigma is None else start.focal_sigma
    sigmas = np.array([focal_sigma, RADIAL_SIGMA, RADIAL_SIGMA, CENTRE_SIGMA, CENTRE_SIGMA])
    return off[:freedom], sigmas[:freedom]


def _lens_prior(
    lens: Lens, start: Lens, loss_scale: float, freedom: Freedom
) -> tuple[FloatArray, FloatArray]:
    """The priors' part of the normal equations, weighed like one residual of ``loss_scale``."""
    off, sigmas = _prior_residuals(lens, start, freedom)
    weights = (loss_scale / sigmas) ** 2
    return np.diag(weights), weights * off


def _cost(
    residuals: Sequence[FloatArray], lens: Lens, start: Lens, loss_scale: float, freedom: Freedom
) -> float:
    total = 0.0
    for of_view in residuals:
        total += float(np.log1p((of_view**2).sum(axis=1) / loss_scale**2).sum())
    off, sigmas = _prior_residuals(lens, start, freedom)
    return float(loss_scale**2 * (total + ((off / sigmas) ** 2).sum()))


def _moved(view: View, step: FloatArray) -> View:
    """The view with its pose changed by a step [6]."""
    pose = view.world_from_cam
    turn = rotations_from_rotvecs(step[3:])
    return replace(view, world_from_cam=Rigid3(pose.rotation @ turn, pose.translation + step[:3]))
