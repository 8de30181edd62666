"""One camera for all photos of a camera: focal length and radial term estimated together.

A single photo leaves focal length and distance to trade against each other (0.6 cm median in the
kitchen, with outliers of several); the photos of one camera together do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from relocalize.absolute_pose.pose_solver import PoseSolver
from relocalize.absolute_pose.refinement import Freedom, Lens, derivatives, refine
from relocalize.absolute_pose.solve import Matches, Solved, camera_of
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray

MAX_PHOTOS = 40  # more photos of a camera do not make its calibration better in any figure
# Photos whose own focal length is further off than this from the median take no part: a wrong
# pose, or a flat scene that does not determine it.
_FOCAL_AGREEMENT = 0.15
# Stretches of the photos that are calibrated each for itself, to see how far they differ; each of
# at least so many photos.
_STRETCHES, _LEAST_OF_STRETCH = 5, 3
_FOCAL, _RADIAL = 0, 3  # among the parameters of SIMPLE_RADIAL


@dataclass(frozen=True, eq=False)
class SharedCamera:
    """A camera that several photos share."""

    camera: Camera  # its intrinsics; SIMPLE_RADIAL where they have a covariance
    # [2, 2] of focal length in pixels and radial term, where they were estimated from the photos;
    # None where that is not known
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
        focal, _, _, radial = self.camera.params
        lens = Lens(focal, radial)
        by_all = derivatives(points, world_from_cam, lens).reshape(2 * len(points), -1)
        by_pose, by_lens = by_all[:, :6], by_all[:, 6:8] / [focal, 1.0]  # of the focal length's log
        answer = -np.linalg.lstsq(by_pose, by_lens, rcond=None)[0]
        return np.asarray(answer @ self.covariance @ answer.T)


def shared_camera(
    solver: PoseSolver, photos: Sequence[Matches], *, least: int = 3, most: int = MAX_PHOTOS
) -> Camera | None:
    """The SIMPLE_RADIAL camera that photos of one size and camera share.

    Args:
        solver: of the place.
        photos: their matches, of cameras that are not exactly known.
        least: photos that have to be localized.
        most: photos that are asked, evenly from all.

    Returns:
        The camera, or None where fewer than ``least`` photos can be localized.
    """
    chosen = np.unique(np.linspace(0, len(photos) - 1, min(len(photos), most)).astype(int))
    solved: list[Solved] = []
    for index in chosen:
        found = solver.solve(photos[int(index)])
        if isinstance(found, Solved):
            solved.append(found)
    focals = np.array([photo.camera.focal_px for photo in solved])
    if solved:
        close = np.abs(np.log(focals / np.median(focals))) < _FOCAL_AGREEMENT
        solved = [photo for photo, keep in zip(solved, close, strict=True) if keep]
    if not solved or len(solved) < least:
        return None
    if len(solved) == 1:
        return solved[0].camera
    width, height = solved[0].camera.width, solved[0].camera.height
    start = Lens(
        float(np.median([photo.camera.focal_px for photo in solved])),
        float(np.median([photo.camera.params[3] for photo in solved])),
    )
    views = tuple(photo.view for photo in solved)
    scale = solver.settings.pose.loss_scale * photos[0].pixel
    result = refine(views, start, loss_scale=scale, freedom=Freedom.FOCAL_AND_RADIAL)
    return camera_of(result.lens, width, height)


def calibrated(solver: PoseSolver, photos: Sequence[Matches]) -> SharedCamera | None:
    """The camera that consecutive photos share, and how exactly they determine it.

    Photos of a stretch see the same points and share their errors, which the scatter of their
    matches does not show; other stretches see others. The covariance is that of the mean of
    stretches that are calibrated each for itself.
    """
    camera = shared_camera(solver, photos)
    if camera is None:
        return None
    prior = replace(camera, known="approximate")
    count = min(_STRETCHES, len(photos) // _LEAST_OF_STRETCH)
    found = [
        shared_camera(solver, [replace(photos[int(row)], camera=prior) for row in rows])
        for rows in np.array_split(np.arange(len(photos)), max(count, 1))
    ]
    lenses = [[one.params[_FOCAL], one.params[_RADIAL]] for one in found if one is not None]
    if len(lenses) < 2:
        return SharedCamera(camera)
    covariance = np.cov(np.array(lenses), rowvar=False) / len(lenses)
    return SharedCamera(camera, np.asarray(covariance))
