"""Poses of photos of unknown cameras: those of one camera calibrate it together."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from relocalize.absolute_pose import Matches
from relocalize.absolute_pose.shared_camera import shared_camera
from relocalize.geometry import Camera
from relocalize.localization.estimate import PoseEstimate
from relocalize.localization.structure import StructureLocalizer

MIN_PHOTOS = 3  # fewer photos of a camera are localized each for itself
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
        height, width = image.shape[:2]
        matches = localizer.solver.match(localizer.features(image), width, height)
        return cls(matches, prior, time.perf_counter() - started)


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
            camera = shared_camera(localizer.solver, matches, prior=prior, least=MIN_PHOTOS)
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
