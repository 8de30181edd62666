"""The founding story's mistakes, one function each, and the file of the tool that they began with.

Numbers in, numbers out: `founding_story.py` makes each of them on the same data and the same
trained regressor. Poses are ``world_from_cam``; "first" is the frame of the map, "second" that of
the other tool's data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from relocalize import Camera, Rigid3, Similarity3, Split
from relocalize.geometry.conventions import axes_matrix
from relocalize.geometry.transforms import (
    FloatArray,
    nearest_rotation,
    rotation_angle_deg,
    rotation_from_quat_wxyz,
)

Pixels = NDArray[np.uint8]
_FILM_MM = 36.0  # RealityCapture's focal lengths are those of a 36 mm wide film


# -- the second data set ---------------------------------------------------------------------


@dataclass(frozen=True)
class OtherTool:
    """How another tool's registration of the same place differs from the truth.

    Attributes:
        units_per_metre: of its frame: without ground control nobody fixes it.
        offset: largest distance of its origin along each axis, in its unit.
        position_sigma_m: of a camera centre per axis, in metres.
        rotation_sigma_deg: of an orientation per axis.
        gross: share of `mistaken` cameras that are somewhere else altogether.
        seed: of everything random.
    """

    units_per_metre: float = 0.31
    offset: float = 4.0
    position_sigma_m: float = 0.004
    rotation_sigma_deg: float = 0.05
    gross: float = 0.1
    seed: int = 0


def registered_by(
    tool: OtherTool, truth: Mapping[str, Rigid3], mistaken: Sequence[str]
) -> dict[str, Rigid3]:
    """The true poses as the tool gives them: its own frame, its noise, a few gross mistakes.

    Args:
        tool: that registers.
        truth: of each photo, in metres.
        mistaken: photos of which a share goes wrong.
    """
    rng = np.random.default_rng([tool.seed, 17])
    tool_from_world = Similarity3(
        tool.units_per_metre,
        Rotation.random(rng=rng).as_matrix(),
        rng.uniform(-tool.offset, tool.offset, 3),
    )
    count = round(tool.gross * len(mistaken))
    wrong = {mistaken[int(row)] for row in rng.choice(len(mistaken), count, replace=False)}
    elsewhere = [pose.translation for pose in truth.values()]
    poses = {}
    for name, pose in truth.items():
        centre = pose.translation + rng.normal(0, tool.position_sigma_m, 3)
        turn = Rotation.from_rotvec(rng.normal(0, np.radians(tool.rotation_sigma_deg), 3))
        if name in wrong:
            centre = elsewhere[int(rng.integers(len(elsewhere)))]
            turn = Rotation.from_rotvec([0, 0, rng.uniform(1, np.pi)])
        moved = Rigid3(turn.as_matrix() @ pose.rotation, centre)
        poses[name] = tool_from_world.move_camera(moved)
    return poses


def reality_capture_table(poses: Mapping[str, Rigid3], camera: Camera) -> str:
    """A registration as RealityCapture writes it: ``#name,x,y,alt,heading,pitch,roll,f,px,...``.

    The conventions are those of `relocalize.formats.reality_capture`.

    Args:
        poses: of the photos, in the tool's frame.
        camera: that took all of them, COLMAP's RADIAL.
    """
    focal, cx, cy, k1, k2 = camera.params
    longer = max(camera.width, camera.height)
    lens = [
        focal / longer * _FILM_MM,
        (cx - camera.width / 2) / longer,
        (cy - camera.height / 2) / longer,
        k1,
        k2,
    ]
    lines = [
        f"#cameras {len(poses)}",
        "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2",
    ]
    for name, pose in poses.items():
        heading, pitch, roll = heading_pitch_roll(pose.rotation)
        numbers = [*pose.translation, heading, pitch, roll, *lens, 0.0, 0.0, 0.0, 0.0]
        lines.append(",".join([name, *(f"{number:.9g}" for number in numbers)]))
    return "\n".join(lines) + "\n"


def heading_pitch_roll(rotation: FloatArray) -> FloatArray:
    """RealityCapture's angles [3] in degrees of a ``world_from_cam`` [3, 3] in OpenCV axes."""
    up_and_back = rotation @ axes_matrix("RUB").T
    angles = Rotation.from_matrix(up_and_back).as_euler("ZXY", degrees=True)
    return np.asarray(angles * [-1, 1, 1], dtype=np.float64)


# -- mistakes of aligning --------------------------------------------------------------------


def without_scale(first_from_second: Similarity3, in_second: FloatArray) -> Similarity3:
    """The right rotation with a scale of 1, and the shift that is best for centres [N, 3] then."""
    middle = in_second.mean(axis=0)
    shift = first_from_second @ middle - first_from_second.rotation @ middle
    return Similarity3(1.0, first_from_second.rotation, shift)


def averaged_matrix(first: Sequence[Rigid3], second: Sequence[Rigid3]) -> FloatArray:
    """The mean [4, 4] of the matrices that bring each camera of the second frame to the first."""
    pairs = zip(first, second, strict=True)
    mean: FloatArray = np.mean([a.matrix @ b.inverse().matrix for a, b in pairs], axis=0)
    return mean


def moved_by_matrix(matrix: FloatArray, pose: Rigid3) -> Rigid3:
    """The pose moved by any [4, 4], and what a quaternion makes of the rotation that is none."""
    product = matrix @ pose.matrix
    return Rigid3(nearest_rotation(product[:3, :3]), product[:3, 3])


def scaled(pose: Rigid3, scale: float) -> Rigid3:
    """The pose with its centre in another unit."""
    return Rigid3(pose.rotation, scale * pose.translation)


# -- mistakes of reading ---------------------------------------------------------------------


def written_w_last(pose: Rigid3) -> Rigid3:
    """A pose written as COLMAP's ``qw qx qy qz tx ty tz``, and read as ``qx qy qz qw tx ty tz``."""
    cam_from_world = pose.inverse()
    x, y, z, w = cam_from_world.quat_wxyz
    return Rigid3(rotation_from_quat_wxyz([w, x, y, z]), cam_from_world.translation).inverse()


def skipped_rows(
    names: Sequence[str], poses: Mapping[str, Rigid3], skipped: int
) -> dict[str, Rigid3]:
    """Images as the folder lists them, zipped with the poses of a table's later rows.

    Args:
        names: of the images, in order.
        poses: of the table, in its order.
        skipped: rows of poses that were taken for its header.
    """
    rows = list(poses.values())[skipped:]
    return dict(zip(sorted(names), rows, strict=False))


# -- mistakes of the camera ------------------------------------------------------------------


def squeezed(pixels: Pixels, camera: Camera) -> Pixels:
    """A photo [H, W, 3] pressed into the size of another camera's images."""
    size = (camera.width, camera.height)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def taken_as(camera: Camera, pixels: Pixels) -> Camera:
    """The numbers of a calibration file, used for a photo [H, W, 3] of another camera."""
    height, width = pixels.shape[:2]
    return Camera(camera.model, width, height, camera.params)


# -- mistakes of validating ------------------------------------------------------------------


def shuffled_split(names: Sequence[str], share: float, *, seed: int = 0) -> Split:
    """Frames of one video drawn at random for validation, their neighbours for training."""
    rng = np.random.default_rng([seed, 23])
    drawn = {int(row) for row in rng.choice(len(names), round(share * len(names)), replace=False)}
    return Split(
        "shuffled",
        "shuffled",
        train=tuple(name for row, name in enumerate(names) if row not in drawn),
        test=tuple(name for row, name in enumerate(names) if row in drawn),
    )


# -- what comes of them ----------------------------------------------------------------------


@dataclass(frozen=True)
class Off:
    """How far answers are off, over N photos; refusals count as infinitely far.

    Attributes:
        position: median, in metres.
        rotation_deg: median.
        n: photos.
        refused: of them, without an answer.
    """

    position: float
    rotation_deg: float
    n: int
    refused: int


def off(answers: Mapping[str, Rigid3 | None], truth: Mapping[str, Rigid3]) -> Off:
    """Medians over the photos that both have."""
    positions, angles = [], []
    for name in answers.keys() & truth.keys():
        answer = answers[name]
        if answer is None:
            positions.append(np.inf)
            angles.append(np.inf)
            continue
        positions.append(float(np.linalg.norm(answer.translation - truth[name].translation)))
        angles.append(rotation_angle_deg(answer.rotation.T @ truth[name].rotation))
    return Off(
        position=_median(positions),
        rotation_deg=_median(angles),
        n=len(positions),
        refused=int(np.isinf(positions).sum()),
    )


def turned_away_deg(pose: Rigid3, walk: Sequence[Rigid3]) -> float:
    """The angle between a photo's viewing direction and that of the walk where it was nearest."""
    nearest = min(walk, key=lambda one: float(np.linalg.norm(one.translation - pose.translation)))
    cosine = float(np.clip(nearest.rotation[:, 2] @ pose.rotation[:, 2], -1, 1))
    return float(np.degrees(np.arccos(cosine)))


def _median(values: Sequence[float]) -> float:
    """The upper one of two middle values, so that infinity is never averaged."""
    return sorted(values)[len(values) // 2] if values else float("nan")
