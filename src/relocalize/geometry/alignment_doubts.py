"""When an alignment must not be believed, and what the reason may be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from relocalize.errors import GeometryError
from relocalize.geometry.alignment import Alignment, align_points
from relocalize.geometry.transforms import FloatArray, Rigid3, mean_rotation, rotation_angle_deg

# With under half of the matches in agreement, the others could be the right ones.
_LEAST_SHARE = 0.5
_RIVAL_SHARE = 0.8  # of the inliers; so many others with another answer make it two answers
# What counts as agreement at all: the noise of a centre per axis, of the extent, and that of an
# orientation. Poses of unrelated frames differ by about 0.6 extents and 70 degrees per axis.
_MOST_NOISE = 0.2
_MOST_NOISE_DEG = 12.0
# Standard deviations of an answer that is one: 10% of scale, 6 degrees.
_MOST_SCALE_SIGMA = 0.1
_MOST_TURN_SIGMA_DEG = 6.0
_MIRRORED = 0.3  # of the noise as it is; if a mirror leaves less than that, there is one
_CONSTANT_TURN_DEG = 10.0  # how well the cameras must agree on a turn for it to be one


def why_not(alignment: Alignment, *, what: str = "poses", unit: str = "units") -> str | None:
    """Why an alignment is not determined by its data; None where it is.

    Args:
        alignment: of poses or points.
        what: what the matches are, for the sentence.
        unit: of frame b, for the sentence.
    """
    count, inside = len(alignment.inliers), int(alignment.inliers.sum())
    if inside < 2 or inside < _LEAST_SHARE * count:
        return f"only {inside} of {count} {what} agree on one transform"
    if alignment.rival is not None and alignment.rival[1] >= _RIVAL_SHARE * inside:
        return (
            f"two answers: {inside} {what} agree on one transform, {alignment.rival[1]} others on "
            "another"
        )
    return _disagreement(alignment, what, unit) or _openness(alignment, what, unit)


def _disagreement(alignment: Alignment, what: str, unit: str) -> str | None:
    noise = alignment.position_sigma / alignment.extent
    if noise <= _MOST_NOISE and alignment.rotation_sigma_deg <= _MOST_NOISE_DEG:
        return None
    position = float(np.median(alignment.position_residuals[alignment.inliers]))
    angle = float(np.median(alignment.rotation_residuals_deg[alignment.inliers]))
    angles = "" if angle == 0 else f" and {angle:.3g} degrees"
    return (
        f"the {what} do not agree: after the best transform their median distance is "
        f"{position:.3g} {unit}{angles}, and they extend over {alignment.extent:.3g} {unit}"
    )


def _openness(alignment: Alignment, what: str, unit: str) -> str | None:
    turn = rotation_sigma_deg(alignment)
    if np.isinf(turn):
        return f"the {what} lie on one line, which leaves the turn about it open"
    if turn > _MOST_TURN_SIGMA_DEG:
        return f"the rotation is determined to ±{turn:.0f} degrees only (1 sigma)"
    scale = scale_sigma(alignment)
    if scale > _MOST_SCALE_SIGMA:
        return (
            f"the scale is determined to ±{100 * scale:.0f}% only (1 sigma): the {what} extend "
            f"over {alignment.extent:.3g} {unit} with a noise of {alignment.position_sigma:.2g}"
        )
    return None


def rotation_sigma_deg(alignment: Alignment) -> float:
    """Standard deviation of the rotation about its worst axis, degrees."""
    block = alignment.middle_covariance[3:6, 3:6]
    if not np.isfinite(block).all():
        return float("inf")
    return float(np.degrees(np.sqrt(max(np.linalg.eigvalsh(block).max(), 0.0))))


def scale_sigma(alignment: Alignment) -> float:
    """Standard deviation of the scale as a share of it."""
    return float(np.sqrt(alignment.middle_covariance[6, 6]))


def why_poses_differ(a_from_cams: Sequence[Rigid3], b_from_cams: Sequence[Rigid3]) -> str | None:
    """What is wrong with poses that do not agree; None where nothing shows.

    Tried are centres alone, as they are and mirrored. Where they agree and the orientations do
    not, the usual cases are camera axes of another convention, or poses of a rig or a body instead
    of the camera: every camera is then turned in its own axes by the same rotation.
    """
    in_a = np.stack([pose.translation for pose in a_from_cams])
    in_b = np.stack([pose.translation for pose in b_from_cams])
    centres = _fit_of_centres(in_a, in_b)
    mirrored = _fit_of_centres(in_a, in_b * [1, 1, -1])
    # A path in one plane is its own mirror image, and nearly so where it is nearly flat.
    if mirrored is not None and (
        centres is None or mirrored.position_sigma < _MIRRORED * centres.position_sigma
    ):
        return "the centres of one side are a mirror image of the other's"
    if centres is None:
        return None
    rotation = centres.b_from_a.rotation
    turns = [
        (rotation @ a.rotation).T @ b.rotation
        for a, b, good in zip(a_from_cams, b_from_cams, centres.inliers, strict=True)
        if good
    ]
    turn = _robust_mean(turns)
    off = np.median([rotation_angle_deg(turn.T @ one) for one in turns])
    if off > _CONSTANT_TURN_DEG:
        return "the centres alone agree, but no turn of the camera's axes explains the orientations"
    return (
        "the centres alone agree, and every camera of the reference is turned by the same "
        f"{_described(turn)}: it has other camera axes, or the poses of something that the "
        "camera is mounted on"
    )


def _fit_of_centres(in_a: FloatArray, in_b: FloatArray) -> Alignment | None:
    try:
        centres = align_points(in_a, in_b)
    except GeometryError:
        return None
    return centres if why_not(centres) is None and centres.inliers.sum() >= 4 else None


def _robust_mean(rotations: Sequence[FloatArray]) -> FloatArray:
    stack = np.stack(rotations)
    traces = np.einsum("nij,mij->nm", stack, stack)
    nearest = stack[int(np.median(traces, axis=1).argmax())]
    angles = np.array([rotation_angle_deg(nearest.T @ one) for one in stack])
    return mean_rotation(list(stack[angles <= max(2 * float(np.median(angles)), 1e-6)]))


def _described(turn: FloatArray) -> str:
    vector = np.abs(Rotation.from_matrix(turn).as_rotvec(degrees=True))
    angle = float(np.linalg.norm(vector))
    off_axis = np.degrees(np.arccos(min(1.0, float(vector.max()) / max(angle, 1e-9))))
    about = "xyz"[int(vector.argmax())]
    words = f"{angle:.0f} degrees"
    return f"{words} about its {about} axis" if off_axis < _CONSTANT_TURN_DEG else words
