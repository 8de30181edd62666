"""One camera for all photos of a camera: focal length and radial term estimated together.

A single photo leaves focal length and distance to trade against each other (0.6 cm median in the
kitchen, with outliers of several); the photos of one camera together do not.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry import Camera
from relocalize.localizers.estimate import PoseEstimate
from relocalize.localizers.photo_pose import Matches, Solved, camera_of, solve_pose
from relocalize.localizers.refinement import Lens, refine
from relocalize.localizers.structure import StructureLocalizer

MIN_PHOTOS = 3  # fewer photos of a camera are localized each for itself
_MAX_PHOTOS = 40  # more photos of a camera do not make its calibration better in any figure
# Photos whose own focal length is further off than this from the median take no part: a wrong
# pose, or a flat scene that does not determine it.
_FOCAL_AGREEMENT = 0.15
# With the right camera more points agree in the end, found again near their projections, than
# were matched before (frames of the kitchen, blurred ones too); a photo below that is tried alone
# as well, and the shared camera stays unless alone this many times as many agree.
_CONVINCING_SHARE = 1.0
_CLEARLY_MORE = 1.3


@dataclass(frozen=True, eq=False)
class UncalibratedPhoto:
    """A photo whose camera is to be estimated.

    Attributes:
        matches: with the localizer's map.
        prior: roughly its camera, such as EXIF's, or None.
        seconds: that reading the matches off the pixels took.
    """

    matches: Matches
    prior: Camera | None
    seconds: float

    @classmethod
    def of(
        cls, localizer: StructureLocalizer, image: NDArray[np.uint8], prior: Camera | None
    ) -> UncalibratedPhoto:
        """From an RGB image [H, W, 3]."""
        started = time.perf_counter()
        matches = localizer.match(localizer.features(image), image.shape[1], image.shape[0])
        return cls(matches, prior, time.perf_counter() - started)


def shared_camera(
    localizer: StructureLocalizer, photos: Sequence[Matches], *, prior: Camera | None = None
) -> Camera | None:
    """The SIMPLE_RADIAL camera that photos of one size and camera share.

    Args:
        localizer: of the place.
        photos: their matches.
        prior: roughly the camera, such as EXIF's, or None.

    Returns:
        The camera, or None where fewer than `MIN_PHOTOS` photos can be localized.
    """
    chosen = np.unique(np.linspace(0, len(photos) - 1, min(len(photos), _MAX_PHOTOS)).astype(int))
    settings = localizer.settings.pose
    solved: list[Solved] = []
    for index in chosen:
        found = solve_pose(photos[int(index)], localizer.scene, settings, prior=prior)
        if isinstance(found, Solved):
            solved.append(found)
    focals = np.array([photo.camera.focal_px for photo in solved])
    if solved:
        close = np.abs(np.log(focals / np.median(focals))) < _FOCAL_AGREEMENT
        solved = [photo for photo, keep in zip(solved, close, strict=True) if keep]
    if len(solved) < MIN_PHOTOS:
        return None
    width, height = solved[0].camera.width, solved[0].camera.height
    start = Lens(
        float(np.median([photo.camera.focal_px for photo in solved])),
        float(np.median([photo.camera.params[3] for photo in solved])),
    )
    views = tuple(photo.view for photo in solved)
    scale = settings.loss_scale * photos[0].pixel
    result = refine(views, start, loss_scale=scale, with_lens=True)
    return camera_of(result.lens, width, height)


def localize_together(
    localizer: StructureLocalizer, photos: Iterable[UncalibratedPhoto]
) -> list[PoseEstimate]:
    """The poses of photos of unknown cameras, in their order.

    Photos of one size whose EXIF tells the same camera (or none) are taken to be one camera's.
    """
    photos = list(photos)
    groups: dict[tuple[int, int, Camera | None], list[int]] = defaultdict(list)
    for index, photo in enumerate(photos):
        groups[photo.matches.width, photo.matches.height, photo.prior].append(index)
    estimates: dict[int, PoseEstimate] = {}
    for (_, _, prior), members in groups.items():
        camera = None
        started = time.perf_counter()
        if len(members) >= MIN_PHOTOS:
            matches = [photos[index].matches for index in members]
            camera = shared_camera(localizer, matches, prior=prior)
        share = (time.perf_counter() - started) / len(members)
        for index in members:
            found = _better_of_both(localizer, photos[index].matches, camera, prior)
            before = 1e3 * (photos[index].seconds + share)
            estimates[index] = replace(found, milliseconds=found.milliseconds + before)
    return [estimates[index] for index in range(len(photos))]


def _better_of_both(
    localizer: StructureLocalizer, matches: Matches, shared: Camera | None, prior: Camera | None
) -> PoseEstimate:
    """With the shared camera, unless this photo is evidently another camera's, or zoomed."""
    if shared is None:
        return localizer.pose_of(matches, prior=prior)
    found = localizer.pose_of(matches, camera=shared)
    convincing = _CONVINCING_SHARE * len(matches.feature_rows)
    if found.status == "localized" and (found.inliers or 0) >= convincing:
        return found
    alone = localizer.pose_of(matches, prior=prior)
    if alone.status == "failed":
        return found
    more = (alone.inliers or 0) > _CLEARLY_MORE * (found.inliers or 0)
    better = alone if found.status == "failed" or more else found
    return replace(better, milliseconds=found.milliseconds + alone.milliseconds)
