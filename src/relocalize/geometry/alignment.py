"""Bringing one set of camera poses onto another: robust similarity from centres and orientations.

Closed form: Umeyama, "Least-squares estimation of transformation parameters between two point
patterns", PAMI 1991. Orientations take part, so that a straight corridor, where centres alone
leave the turn about its axis open, is determined; gross errors are left out by consensus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from relocalize.errors import GeometryError
from relocalize.geometry.transforms import FloatArray, Rigid3, Similarity3, nearest_rotation

_HYPOTHESES = (
    400  # pairs of cameras tried; with half the poses wrong, 400 pairs miss with p < 1e-50
)
_INLIER_FACTOR = 3.0  # inlier bound in robust standard deviations (99.7% of a normal distribution)
_MAD_TO_SIGMA = 1.4826  # standard deviations per median absolute deviation of a normal distribution


@dataclass(frozen=True, eq=False)
class Alignment:
    """A similarity ``b_from_a`` estimated from matching camera poses, and how well they agree.

    Attributes:
        b_from_a: the transform.
        inliers: [N] bool, the pairs it was computed from.
        position_residuals: [N], distance of centres in frame b, in b's unit.
        rotation_residuals_deg: [N], angle between orientations, degrees.
    """

    b_from_a: Similarity3
    inliers: NDArray[np.bool_]
    position_residuals: FloatArray
    rotation_residuals_deg: FloatArray


def align_camera_poses(
    a_from_cams: Sequence[Rigid3],
    b_from_cams: Sequence[Rigid3],
    *,
    fix_scale: bool = False,
    seed: int = 0,
) -> Alignment:
    """Estimate ``b_from_a`` from poses of the same cameras in both frames.

    Hypotheses come from pairs of cameras (rotation from their orientations, scale from their
    distance), the consensus is refined over its inliers until it no longer changes.

    Args:
        a_from_cams: N poses in frame a.
        b_from_cams: the same N cameras in frame b.
        fix_scale: keep scale 1 (a rigid alignment).
        seed: of the choice of hypotheses.

    Raises:
        GeometryError: fewer than 2 poses, or all centres of one side in one point, so that
            scale cannot be determined.
    """
    if len(a_from_cams) != len(b_from_cams):
        raise GeometryError(f"{len(a_from_cams)} poses cannot be paired with {len(b_from_cams)}")
    if len(a_from_cams) < 2:
        raise GeometryError(
            f"an alignment needs at least 2 common poses, got {len(a_from_cams)}; "
            "do the image names of both sides match?"
        )
    centres_a = np.stack([pose.translation for pose in a_from_cams])
    centres_b = np.stack([pose.translation for pose in b_from_cams])
    # b_from_cam @ cam_from_a: what each camera alone says of the rotation between the frames.
    rotations = np.stack(
        [b.rotation @ a.rotation.T for a, b in zip(a_from_cams, b_from_cams, strict=True)]
    )
    spread_a, spread_b = _spread(centres_a), _spread(centres_b)
    if not fix_scale and (spread_a < 1e-9 or spread_b < 1e-9):
        raise GeometryError(
            f"the camera centres do not move (spread {spread_a:.3g} and {spread_b:.3g}), "
            "so the scale between the two frames cannot be determined"
        )

    best = _best_hypothesis(centres_a, centres_b, rotations, fix_scale=fix_scale, seed=seed)
    inliers: NDArray[np.bool_] = np.ones(len(centres_a), dtype=bool)
    for _ in range(20):
        position, angle = _residuals(best, centres_a, centres_b, rotations)
        now = (position <= _bound(position, 1e-6 * spread_b)) & (angle <= _bound(angle, 1e-6))
        if now.sum() < 2 or np.array_equal(now, inliers):
            break
        inliers = now
        best = _refined(centres_a, centres_b, rotations, inliers, fix_scale=fix_scale)
    position, angle = _residuals(best, centres_a, centres_b, rotations)
    return Alignment(best, inliers, position, np.degrees(angle))


def _spread(centres: FloatArray) -> float:
    """Median distance from the middle of the cameras that are not exactly there; 0 if none."""
    distances = np.linalg.norm(centres - np.median(centres, axis=0), axis=1)
    # A camera that rests for over half of its poses has a path all the same.
    moving = distances[distances > 1e-9 * max(1.0, float(distances.max()))]
    return float(np.median(moving)) if len(moving) else 0.0


def _bound(residuals: FloatArray, floor: float) -> float:
    # Residuals are lengths, so their scale is measured from 0 and not from their median.
    return max(_INLIER_FACTOR * _MAD_TO_SIGMA * float(np.median(residuals)), floor)


def _residuals(
    b_from_a: Similarity3, centres_a: FloatArray, centres_b: FloatArray, rotations: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Distances of centres [N] in b's unit, and angles [N] in radians."""
    position = np.linalg.norm(b_from_a @ centres_a - centres_b, axis=1)
    angle = Rotation.from_matrix(b_from_a.rotation.T @ rotations).magnitude()
    return position, np.asarray(angle, dtype=np.float64)


def _best_hypothesis(
    centres_a: FloatArray,
    centres_b: FloatArray,
    rotations: FloatArray,
    *,
    fix_scale: bool,
    seed: int,
) -> Similarity3:
    """The hypothesis with the smallest sum of median residuals, positions in units of spread."""
    count = len(centres_a)
    rng = np.random.default_rng(seed)
    unit = max(_spread(centres_b), 1e-12)
    best: tuple[float, Similarity3] | None = None
    for _ in range(_HYPOTHESES):
        i, j = rng.choice(count, size=2, replace=False)
        baseline_a = float(np.linalg.norm(centres_a[i] - centres_a[j]))
        baseline_b = float(np.linalg.norm(centres_b[i] - centres_b[j]))
        if not fix_scale and (baseline_a < 1e-12 or baseline_b < 1e-12):
            continue
        scale = 1.0 if fix_scale else baseline_b / baseline_a
        rotation = nearest_rotation(rotations[i] + rotations[j])
        translation = (
            centres_b[i] + centres_b[j] - scale * rotation @ (centres_a[i] + centres_a[j])
        ) / 2
        hypothesis = Similarity3(scale, rotation, translation)
        position, angle = _residuals(hypothesis, centres_a, centres_b, rotations)
        cost = float(np.median(position)) / unit + float(np.median(angle))
        if best is None or cost < best[0]:
            best = (cost, hypothesis)
    if best is None:
        raise GeometryError("no two camera centres differ, so the scale cannot be determined")
    return best[1]


def _refined(
    centres_a: FloatArray,
    centres_b: FloatArray,
    rotations: FloatArray,
    inliers: NDArray[np.bool_],
    *,
    fix_scale: bool,
) -> Similarity3:
    """Least squares over the inliers: Umeyama's with one more term for the orientations.

    Centres say the rotation through their covariance; each orientation adds itself with the
    weight of the centres' variance, so that both count alike and neither direction stays open.
    """
    a, b = centres_a[inliers], centres_b[inliers]
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    covariance = (b - mean_b).T @ (a - mean_a) / len(a)
    weight = np.trace(covariance @ covariance.T) ** 0.5 / 3**0.5
    rotation = nearest_rotation(covariance + max(weight, 1e-12) * rotations[inliers].mean(axis=0))
    if fix_scale:
        scale = 1.0
    else:
        variance_a = float(((a - mean_a) ** 2).sum() / len(a))
        scale = float(np.trace(rotation.T @ covariance)) / variance_a
    return Similarity3(scale, rotation, mean_b - scale * rotation @ mean_a)
