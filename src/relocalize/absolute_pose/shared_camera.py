"""One camera for all photos of a camera: focal length and radial term estimated together.

A single photo leaves focal length and distance to trade against each other (0.6 cm median in the
kitchen, with outliers of several); the photos of one camera together do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relocalize.absolute_pose.pose_solver import PoseSolver
from relocalize.absolute_pose.refinement import Freedom, Lens, refine
from relocalize.absolute_pose.solve import Matches, Solved, camera_of
from relocalize.geometry import Camera

MAX_PHOTOS = 40  # more photos of a camera do not make its calibration better in any figure
# Photos whose own focal length is further off than this from the median take no part: a wrong
# pose, or a flat scene that does not determine it.
_FOCAL_AGREEMENT = 0.15


def shared_camera(
    solver: PoseSolver,
    photos: Sequence[Matches],
    *,
    prior: Camera | None = None,
    least: int = 3,
    most: int = MAX_PHOTOS,
) -> Camera | None:
    """The SIMPLE_RADIAL camera that photos of one size and camera share.

    Args:
        solver: of the place.
        photos: their matches.
        prior: roughly the camera, such as EXIF's, or None.
        least: photos that have to be localized.
        most: photos that are asked, evenly from all.

    Returns:
        The camera, or None where fewer than ``least`` photos can be localized.
    """
    chosen = np.unique(np.linspace(0, len(photos) - 1, min(len(photos), most)).astype(int))
    solved: list[Solved] = []
    for index in chosen:
        found = solver.solve(photos[int(index)], prior=prior)
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
