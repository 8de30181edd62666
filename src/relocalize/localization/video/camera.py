"""The camera that took a clip, how exactly it is known, and what that does to poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from relocalize import progress
from relocalize.absolute_pose import Matches
from relocalize.absolute_pose.pose_solver import PoseSolver
from relocalize.absolute_pose.shared_camera import MAX_PHOTOS, shared_camera
from relocalize.capture.video import open_video
from relocalize.errors import GeometryError
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.localization import Localizer
from relocalize.localization.structure import StructureLocalizer
from relocalize.localization.video.frames import frames_of

_UNKNOWN_LENGTH = 30  # frames from one to the next that calibrate, where no length is announced
# Stretches of the clip that are calibrated each for itself, to see how far they differ; each of at
# least so many frames.
_STRETCHES, _LEAST_FRAMES = 5, 3
_FOCAL, _RADIAL = 0, 3  # among the parameters of SIMPLE_RADIAL
_POSE_STEP = 1e-6  # of the scene's depth, and in radians: for derivatives


@dataclass(frozen=True, eq=False)
class ClipCamera:
    """A clip's camera.

    Attributes:
        camera: its intrinsics.
        covariance: [2, 2] of focal length in pixels and radial term, where it was calibrated from
            the clip; None where that is not known.
    """

    camera: Camera
    covariance: FloatArray | None = None

    def pose_covariance(self, world_from_cam: Rigid3, points: FloatArray) -> FloatArray:
        """What an error of the camera does to the pose of a frame.

        Least squares answers a lens that is off by d with a pose that is off by
        ``-(P^T P)^-1 P^T L d``, with the derivatives P and L of the pixels by pose and by lens.

        Args:
            world_from_cam: of the frame.
            points: [M, 3] in the world, that the pose was made from.

        Returns:
            [6, 6] as in `PoseEstimate`; zeros where it is not known how exact the camera is.
        """
        if self.covariance is None or len(points) < 4:
            return np.zeros((6, 6))
        by_pose = self._by_pose(world_from_cam, points)
        by_lens = self._by_lens(world_from_cam, points)
        answer = -np.linalg.lstsq(by_pose, by_lens, rcond=None)[0]
        return np.asarray(answer @ self.covariance @ answer.T)

    def _by_pose(self, world_from_cam: Rigid3, points: FloatArray) -> FloatArray:
        """[2 M, 6] by (centre in the world, rotation in the camera's axes)."""
        depth = float(np.median((world_from_cam.inverse() @ points)[:, 2]))
        columns = []
        for axis in range(6):
            pixels = []
            for sign in (1, -1):
                step = np.zeros(6)
                step[axis] = sign * _POSE_STEP * (depth if axis < 3 else 1.0)
                turn = Rotation.from_rotvec(step[3:]).as_matrix()
                moved = Rigid3(
                    world_from_cam.rotation @ turn, world_from_cam.translation + step[:3]
                )
                pixels.append(self.camera.img_from_cam(moved.inverse() @ points))
            length = 2 * _POSE_STEP * (depth if axis < 3 else 1.0)
            columns.append((pixels[0] - pixels[1]).ravel() / length)
        return np.stack(columns, axis=1)

    def _by_lens(self, world_from_cam: Rigid3, points: FloatArray) -> FloatArray:
        """[2 M, 2] by focal length and radial term."""
        in_cam = world_from_cam.inverse() @ points
        columns = []
        for row, size in ((_FOCAL, 1e-6 * self.camera.params[_FOCAL]), (_RADIAL, 1e-6)):
            pixels = []
            for sign in (1, -1):
                params = list(self.camera.params)
                params[row] += sign * size
                lens = replace(self.camera, params=tuple(params))
                pixels.append(lens.img_from_cam(in_cam))
            columns.append((pixels[0] - pixels[1]).ravel() / (2 * size))
        return np.stack(columns, axis=1)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        covariance = None if self.covariance is None else self.covariance.tolist()
        return {
            "model": self.camera.model,
            "width": self.camera.width,
            "height": self.camera.height,
            "params": list(self.camera.params),
            "known": self.camera.known,
            "covariance": covariance,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ClipCamera:
        """From what `to_json` gave; raises KeyError, TypeError, ValueError or GeometryError."""
        fields = dict(value)
        covariance = fields.pop("covariance")
        if covariance is not None:
            covariance = np.asarray(covariance, dtype=np.float64)
            if covariance.shape != (2, 2) or not np.isfinite(covariance).all():
                raise GeometryError(f"no covariance of a camera: {covariance.tolist()}")
        return cls(Camera.from_json(fields), covariance)


def camera_of_clip(path: Path, localizer: Localizer) -> ClipCamera | None:
    """The camera that took a clip, as some of its frames calibrate it together.

    Returns:
        What the container knows where the localizer calibrates nothing or too few frames can be
        localized; None where that is nothing either.
    """
    with open_video(path) as video:
        first = next(video.images(), None)
        if first is None:
            return None
        height, width = first.bgr().shape[:2]
        known = video.camera(width, height)
    prior = known if known.known != "unknown" else None
    stated = None if prior is None else ClipCamera(prior)
    if not isinstance(localizer, StructureLocalizer):
        return stated
    matches: list[Matches] = []
    with open_video(path) as video:
        length = video.announced_frames
        every = max(1, length // MAX_PHOTOS) if length else _UNKNOWN_LENGTH
        with progress.bar("calibrating the clip's camera", MAX_PHOTOS, "frames") as bar:
            for frame in frames_of(video, every):
                pixels = frame.rgb()
                if pixels.shape[:2] == (height, width):
                    features = localizer.features(pixels)
                    matches.append(localizer.solver.match(features, width, height))
                    bar.advance()
                if len(matches) >= MAX_PHOTOS:
                    break
    camera = shared_camera(localizer.solver, matches, prior=prior)
    if camera is None:
        return stated
    return ClipCamera(camera, _covariance(localizer.solver, matches, camera))


def _covariance(
    solver: PoseSolver, matches: Sequence[Matches], camera: Camera
) -> FloatArray | None:
    """Of the mean of stretches of the clip that are calibrated each for itself.

    Frames of a stretch see the same points and share their errors, which the scatter of their
    matches does not show; other stretches see others.
    """
    count = min(_STRETCHES, len(matches) // _LEAST_FRAMES)
    found = [
        shared_camera(solver, [matches[int(row)] for row in rows], prior=camera)
        for rows in np.array_split(np.arange(len(matches)), max(count, 1))
    ]
    lenses = [[one.params[_FOCAL], one.params[_RADIAL]] for one in found if one is not None]
    if len(lenses) < 2:
        return None
    return np.asarray(np.cov(np.array(lenses), rowvar=False) / len(lenses))
