"""Rigid and similarity transforms, named by what they map.

A variable ``b_from_a`` maps coordinates of frame a to frame b, so products read correctly:
``world_from_cam @ point_in_cam``, ``c_from_b @ b_from_a``. Quaternions are unit, w first, and
the same rotation has one quaternion here (w >= 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import pycolmap
from numpy.typing import ArrayLike, NDArray

from relocalize.errors import GeometryError

FloatArray = NDArray[np.float64]

# A 3x3 matrix counts as a rotation when R R^T differs from I by less than this in every entry:
# files with 6 significant digits pass, averaged or scaled matrices do not.
ROTATION_TOLERANCE = 1e-3


def rotation_from_quat_wxyz(quat_wxyz: ArrayLike) -> FloatArray:
    """The rotation matrix [3, 3] of a w-first quaternion [4] of any norm but zero."""
    quat = np.asarray(quat_wxyz, dtype=np.float64)
    if quat.shape != (4,) or not np.all(np.isfinite(quat)) or np.linalg.norm(quat) < 1e-9:
        raise GeometryError(f"no rotation: quaternion {quat.tolist()} (want 4 numbers, not all 0)")
    return rotations_from_quats_wxyz(quat)


def rotations_from_quats_wxyz(quats_wxyz: FloatArray) -> FloatArray:
    """Rotation matrices [..., 3, 3] of w-first quaternions [..., 4] of any norm but zero."""
    lengths = np.linalg.norm(quats_wxyz, axis=-1, keepdims=True)
    w, x, y, z = np.moveaxis(quats_wxyz / lengths, -1, 0)
    rotations = np.empty((*w.shape, 3, 3))
    rotations[..., 0, 0] = 1 - 2 * (y * y + z * z)
    rotations[..., 0, 1] = 2 * (x * y - w * z)
    rotations[..., 0, 2] = 2 * (x * z + w * y)
    rotations[..., 1, 0] = 2 * (x * y + w * z)
    rotations[..., 1, 1] = 1 - 2 * (x * x + z * z)
    rotations[..., 1, 2] = 2 * (y * z - w * x)
    rotations[..., 2, 0] = 2 * (x * z - w * y)
    rotations[..., 2, 1] = 2 * (y * z + w * x)
    rotations[..., 2, 2] = 1 - 2 * (x * x + y * y)
    return rotations


def rotations_from_rotvecs(rotvecs: FloatArray) -> FloatArray:
    """Rotation matrices [..., 3, 3] of rotation vectors [..., 3] (axis times angle in radians)."""
    half = np.linalg.norm(rotvecs, axis=-1, keepdims=True) / 2
    axis = rotvecs * np.sinc(half / np.pi) / 2  # sinc(x) is sin(pi x) / (pi x)
    return rotations_from_quats_wxyz(np.concatenate([np.cos(half), axis], axis=-1))


def skew(vectors: FloatArray) -> FloatArray:
    """Matrices [..., 3, 3] whose product with x is the cross product of vectors [..., 3] and x."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quat_wxyz_from_rotation(rotation: FloatArray) -> FloatArray:
    """The w-first unit quaternion [4] with w >= 0 of a rotation matrix [3, 3]."""
    quat: FloatArray = np.roll(pycolmap.Rotation3d(rotation).quat, 1)
    # Of half a turn, w = 0, the first number that is not zero is positive.
    first = quat[np.flatnonzero(quat)[0]] if quat[0] == 0 else quat[0]
    return -quat if first < 0 else quat


def checked_rotation(matrix: ArrayLike) -> FloatArray:
    """``matrix`` as the nearest exact rotation [3, 3].

    Raises:
        GeometryError: it is not a rotation to `ROTATION_TOLERANCE` (scaled, averaged, mirrored).
    """
    rotation = np.asarray(matrix, dtype=np.float64)
    if rotation.shape != (3, 3) or not np.all(np.isfinite(rotation)):
        raise GeometryError(f"no rotation: got shape {rotation.shape}, want finite [3, 3]")
    largest = float(np.abs(rotation).max())
    if largest > 1e9:  # its square may overflow
        raise GeometryError(f"no rotation: it has an entry of {largest:.3g} (want up to 1)")
    defect = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if defect > ROTATION_TOLERANCE or determinant(rotation) < 0:
        raise GeometryError(
            f"no rotation: R R^T is off the identity by {defect:.2g} and det R is "
            f"{determinant(rotation):.3g} (want 0 and +1); was it averaged, scaled or mirrored?"
        )
    return nearest_rotation(rotation)


def determinant(matrix: FloatArray) -> float:
    """The determinant of a matrix [3, 3]; of any numbers, without a warning."""
    (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
    return float(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))


def nearest_rotation(matrix: FloatArray) -> FloatArray:
    """The rotations [..., 3, 3] nearest to matrices in the Frobenius norm (SVD)."""
    u, _, vt = np.linalg.svd(matrix)
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    result: FloatArray = u @ vt
    return result


def _frozen(array: FloatArray) -> FloatArray:
    array = np.array(array, dtype=np.float64)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Rigid3:
    """A rotation, then a translation: ``x_b = rotation @ x_a + translation``.

    Attributes:
        rotation: [3, 3], orthonormal with determinant +1.
        translation: [3], in the units of frame b.
    """

    rotation: FloatArray
    translation: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "rotation", _frozen(checked_rotation(self.rotation)))
        translation = np.asarray(self.translation, dtype=np.float64)
        if translation.shape != (3,) or not np.all(np.isfinite(translation)):
            raise GeometryError(f"no translation: {translation.tolist()} (want 3 finite numbers)")
        object.__setattr__(self, "translation", _frozen(translation))

    @classmethod
    def identity(cls) -> Rigid3:
        """The transform of a frame onto itself."""
        return cls(np.eye(3), np.zeros(3))

    @classmethod
    def from_quat_wxyz(cls, quat_wxyz: ArrayLike, translation: ArrayLike) -> Rigid3:
        """From a w-first quaternion [4] and a translation [3]."""
        return cls(rotation_from_quat_wxyz(quat_wxyz), np.asarray(translation, dtype=np.float64))

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> Rigid3:
        """From a [4, 4] (last row 0 0 0 1) or [3, 4] matrix."""
        values = np.asarray(matrix, dtype=np.float64)
        if values.shape not in {(4, 4), (3, 4)}:
            raise GeometryError(f"no rigid transform: got shape {values.shape}, want [4, 4]")
        if values.shape == (4, 4) and not np.allclose(values[3], [0, 0, 0, 1], atol=1e-6):
            raise GeometryError(f"no rigid transform: last row is {values[3]}, want 0 0 0 1")
        return cls(values[:3, :3], values[:3, 3])

    @classmethod
    def from_colmap(cls, rigid: pycolmap.Rigid3d) -> Rigid3:
        """From pycolmap's transform."""
        return cls(rigid.rotation.matrix(), rigid.translation)

    def to_colmap(self) -> pycolmap.Rigid3d:
        """As pycolmap's transform."""
        return pycolmap.Rigid3d(pycolmap.Rotation3d(self.rotation), self.translation)

    @property
    def quat_wxyz(self) -> FloatArray:
        """Unit quaternion [4], w first, w >= 0."""
        return quat_wxyz_from_rotation(self.rotation)

    @property
    def matrix(self) -> FloatArray:
        """The homogeneous [4, 4] matrix."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotation, self.translation
        return matrix

    def inverse(self) -> Rigid3:
        """``a_from_b`` of this ``b_from_a``."""
        return Rigid3(self.rotation.T, -self.rotation.T @ self.translation)

    def shifted(self, by: FloatArray) -> Rigid3:
        """The same, its translation ``by`` [3] further on."""
        return Rigid3(self.rotation, self.translation + by) if np.any(by) else self

    @overload
    def __matmul__(self, other: Rigid3) -> Rigid3: ...
    @overload
    def __matmul__(self, other: NDArray[Any]) -> FloatArray: ...
    def __matmul__(self, other: Rigid3 | NDArray[Any]) -> Rigid3 | FloatArray:
        """Compose with a transform, or map points [..., 3]."""
        if isinstance(other, Rigid3):
            return Rigid3(
                self.rotation @ other.rotation, self.rotation @ other.translation + self.translation
            )
        points: FloatArray = np.asarray(other, dtype=np.float64) @ self.rotation.T
        return points + self.translation


@dataclass(frozen=True, eq=False)
class Similarity3:
    """A rotation and scaling, then a translation: ``x_b = scale * rotation @ x_a + translation``.

    Attributes:
        scale: units of b per unit of a, > 0.
        rotation: [3, 3].
        translation: [3], in the units of frame b.
    """

    scale: float
    rotation: FloatArray
    translation: FloatArray

    def __post_init__(self) -> None:
        if not np.isfinite(self.scale) or self.scale <= 0:
            raise GeometryError(f"no similarity: scale is {self.scale}, want > 0")
        rigid = Rigid3(self.rotation, self.translation)
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "rotation", rigid.rotation)
        object.__setattr__(self, "translation", rigid.translation)

    @classmethod
    def identity(cls) -> Similarity3:
        """The transform of a frame onto itself."""
        return cls(1.0, np.eye(3), np.zeros(3))

    @property
    def quat_wxyz(self) -> FloatArray:
        """Unit quaternion [4], w first, w >= 0."""
        return quat_wxyz_from_rotation(self.rotation)

    def inverse(self) -> Similarity3:
        """``a_from_b`` of this ``b_from_a``."""
        rotation = self.rotation.T
        return Similarity3(1.0 / self.scale, rotation, -(rotation @ self.translation) / self.scale)

    @overload
    def __matmul__(self, other: Similarity3) -> Similarity3: ...
    @overload
    def __matmul__(self, other: NDArray[Any]) -> FloatArray: ...
    def __matmul__(self, other: Similarity3 | NDArray[Any]) -> Similarity3 | FloatArray:
        """Compose with a similarity, or map points [..., 3]."""
        if isinstance(other, Similarity3):
            return Similarity3(
                self.scale * other.scale,
                self.rotation @ other.rotation,
                self.scale * self.rotation @ other.translation + self.translation,
            )
        points: FloatArray = np.asarray(other, dtype=np.float64) @ self.rotation.T
        return self.scale * points + self.translation

    def to_colmap(self) -> pycolmap.Sim3d:
        """As pycolmap's transform."""
        return pycolmap.Sim3d(self.scale, pycolmap.Rotation3d(self.rotation), self.translation)

    def move_camera(self, a_from_cam: Rigid3) -> Rigid3:
        """The camera's pose in frame b: ``b_from_cam``, with the camera's own unit now b's."""
        return Rigid3(self.rotation @ a_from_cam.rotation, self @ a_from_cam.translation)


def local_origin(positions: ArrayLike) -> FloatArray:
    """Where to count from near positions [N, 3], so that single precision holds millimetres: [3].

    World coordinates can be as large as UTM's (5e6 m), of which single precision keeps half a
    metre. A multiple of 1000 units, so that a frame with its own origin nearby stays as it is.
    """
    middle = np.median(np.asarray(positions, dtype=np.float64).reshape(-1, 3), axis=0)
    origin: FloatArray = 1000.0 * np.round(np.nan_to_num(middle) / 1000.0) + 0.0
    return origin


def rotation_angle_deg(rotation: FloatArray) -> float:
    """The angle of a rotation matrix [3, 3], in [0, 180] degrees."""
    return float(np.degrees(rotation_angles(rotation)))


def rotation_angles(rotations: FloatArray) -> FloatArray:
    """The angles [...] of rotation matrices [..., 3, 3], in [0, pi] radians."""
    # Twice the sine times the axis: exact for small angles, where the cosine is not.
    axis = np.stack(
        [
            rotations[..., 2, 1] - rotations[..., 1, 2],
            rotations[..., 0, 2] - rotations[..., 2, 0],
            rotations[..., 1, 0] - rotations[..., 0, 1],
        ],
        axis=-1,
    )
    angles: FloatArray = np.arctan2(
        np.linalg.norm(axis, axis=-1), np.trace(rotations, axis1=-2, axis2=-1) - 1
    )
    return angles


def rotvec_from_rotation(rotation: FloatArray) -> FloatArray:
    """The rotation vector [3] (axis times angle in radians, at most pi) of a matrix [3, 3]."""
    w, *axis = quat_wxyz_from_rotation(rotation)
    half_sine = float(np.linalg.norm(axis))
    if half_sine < 1e-150:
        return np.zeros(3)
    rotvec: FloatArray = np.array(axis) * (2 * np.arctan2(half_sine, w) / half_sine)
    return rotvec


def position_error(estimated_world_from_cam: Rigid3, true_world_from_cam: Rigid3) -> float:
    """Distance between the camera centres, in the world's unit."""
    difference = estimated_world_from_cam.translation - true_world_from_cam.translation
    return float(np.linalg.norm(difference))


def rotation_error_deg(estimated_world_from_cam: Rigid3, true_world_from_cam: Rigid3) -> float:
    """The angle of ``estimated^-1 * true``, in [0, 180] degrees."""
    return rotation_angle_deg(estimated_world_from_cam.rotation.T @ true_world_from_cam.rotation)


def mean_rotation(rotations: Sequence[FloatArray]) -> FloatArray:
    """The chordal mean [3, 3] of rotation matrices (a rotation, unlike their element-wise mean)."""
    if not len(rotations):
        raise GeometryError("no mean rotation of 0 rotations")
    return nearest_rotation(np.sum(np.stack(rotations), axis=0))


def worst_sigma(covariance: FloatArray) -> float:
    """The standard deviation along the least certain direction of a covariance [N, N]."""
    return float(np.sqrt(max(0.0, float(np.linalg.eigvalsh(covariance)[-1]))))
