"""Claimed intrinsics changed as the matches want them: focal length, aspect, centre, distortion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray

# Distortion that moves no corner by more than this share of the image's longer side is none.
_NO_DISTORTION = 1e-3
_OUTWARDS = (0.25, 0.5, 0.75, 1.0)  # from the principal point to a corner


@dataclass(frozen=True)
class Correction:
    """A change of a camera's claimed intrinsics."""

    log_scale: float  # log of a factor on both coordinates of the plane at depth 1
    log_stretch: float  # log of a further factor on y
    offset_x: float  # of the principal point, on that plane
    offset_y: float  # likewise
    # amount of the claimed distortion (1: as claimed, 0: none); where the claimed camera has none,
    # the factor of r^2 by which a point moves outwards
    distortion: float

    @property
    def focal_ratio(self) -> float:
        """Wanted mean focal length over the claimed one."""
        # The plane's points are multiplied, so the focal length is divided.
        return float(np.exp(-self.log_scale - self.log_stretch / 2))

    @property
    def aspect(self) -> float:
        """Wanted fy / fx over the claimed one."""
        return float(np.exp(-self.log_stretch))

    def plane_points(
        self, raw: FloatArray, undistorted: FloatArray, *, is_distorted: bool
    ) -> FloatArray:
        """Points [M, 2] of the plane at depth 1 under the wanted intrinsics.

        Args:
            raw: [M, 2] under the claimed ones without their distortion.
            undistorted: [M, 2] under the claimed ones.
            is_distorted: whether the claimed camera distorts.
        """
        if is_distorted:
            points = raw + self.distortion * (undistorted - raw)
        else:
            points = raw * (1 + self.distortion * (raw**2).sum(axis=1, keepdims=True))
        scale = np.exp([self.log_scale, self.log_scale + self.log_stretch])
        moved: FloatArray = (points - [self.offset_x, self.offset_y]) * scale
        return moved

    def rays(self, camera: Camera, pixels: FloatArray) -> FloatArray:
        """Undistorted points [M, 2] of the plane at depth 1 that pixels [M, 2] look along."""
        return self.plane_points(
            undistorted_only(camera, pixels),
            camera.cam_from_img(pixels),
            is_distorted=distorts(camera),
        )


def undistorted_only(camera: Camera, pixels: FloatArray) -> FloatArray:
    """Points [M, 2] of the plane at depth 1 of pixels [M, 2], as if the camera did not distort."""
    K = camera.calibration_matrix
    result: FloatArray = (pixels - K[:2, 2]) / [K[0, 0], K[1, 1]]
    return result


def corner_shift(camera: Camera) -> float:
    """By how much the distortion moves a corner, as a share of the image's longer side.

    Where the model has no answer at the corners, as far out as it has one.
    """
    K = camera.calibration_matrix
    corners = np.array([[0.0, 0.0], [camera.width, camera.height]])
    points = np.concatenate([K[:2, 2] + share * (corners - K[:2, 2]) for share in _OUTWARDS])
    apart = camera.cam_from_img(points) - undistorted_only(camera, points)
    shifts = np.linalg.norm(apart, axis=1) * float(K[0, 0]) / max(camera.width, camera.height)
    return float(np.max(shifts[np.isfinite(shifts)], initial=0.0))


def distorts(camera: Camera) -> bool:
    """Whether a camera's claimed distortion is worth the name."""
    return corner_shift(camera) > _NO_DISTORTION
