"""Where photos, or a video's frames, were taken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from relocalize import progress
from relocalize.localization import PoseEstimate, fitted
from relocalize.localization.query import ImageLike, Query
from relocalize.place import Place

if TYPE_CHECKING:
    from relocalize.localization.video import LocalizedClip


@overload
def localize(  # type: ignore[overload-overlap]  # str and bytes are one photo, though they can be iterated
    place: Place | str | Path,
    images: ImageLike,
    *,
    localizer: str = "structure",
    split: str | None = None,
    together: bool = True,
) -> PoseEstimate: ...
@overload
def localize(
    place: Place | str | Path,
    images: Iterable[ImageLike],
    *,
    localizer: str = "structure",
    split: str | None = None,
    together: bool = True,
) -> list[PoseEstimate]: ...
def localize(
    place: Place | str | Path,
    images: ImageLike | Iterable[ImageLike],
    *,
    localizer: str = "structure",
    split: str | None = None,
    together: bool = True,
) -> PoseEstimate | list[PoseEstimate]:
    """Say where in a Place images were taken, or why that cannot be said.

    Args:
        place: the Place or its folder; it has a map.
        images: the path of a photo or its bytes, upright RGB pixels [H, W, 3] of uint8, or a
            `Query` where more is known of the camera; or several of these.
        localizer: ``constant``, ``retrieval``, ``structure``, ``regressor``, or the name that one
            was trained under. It is fitted first where it is not.
        split: fitted on this split's train images alone; None: on all images.
        together: images that share a camera calibrate it together; else each is localized as if it
            were the only one.

    Returns:
        An estimate, or one for each of several images in their order. One that ``failed`` has a
        reason; of several images, so has a file that cannot be read.

    Raises:
        CaptureError: a single file cannot be read.
        QueryError: pixels are not an image, or a camera is of another size.
        RelocalizeError: the Place has no map, or there is no such localizer.
    """
    place = Place.of(place)
    ready = fitted(place, localizer, None if split is None else place.split(split))
    if isinstance(images, Query | str | bytes | PathLike | np.ndarray):
        return replace(ready.localize(images), place=place)
    tracked = progress.track(images, "localizing", unit="photos")
    if together:
        found = ready.localize_many(tracked)
    else:
        found = [estimate for image in tracked for estimate in ready.localize_many([image])]
    return [replace(estimate, place=place) for estimate in found]


def localize_video(
    place: Place | str | Path,
    video: str | Path,
    *,
    every: int = 1,
    out: str | Path | None = None,
    overlay: bool = True,
    localizer: str = "structure",
) -> LocalizedClip:
    """A pose per frame of a video, smoothed with the camera's motion.

    Written as TUM trajectory and as a video with the poses drawn over it.

    Args:
        place: the Place or its folder; it has a map.
        video: the video file.
        every: localize every so many frames.
        out: folder for the files; None: ``trajectories/<name>`` in the Place.
        overlay: whether the poses are drawn over the video.
        localizer: as for `localize`.

    Raises:
        CaptureError: the video cannot be read.
        RelocalizeError: the Place has no map, or there is no such localizer.
    """
    # H.264 encoding and smoothing are for this alone.
    from relocalize.localization.video import ClipSettings, localize_clip  # noqa: PLC0415

    settings = ClipSettings(localizer, every, overlay=overlay)
    folder = None if out is None else Path(out)
    return localize_clip(Place.of(place), Path(video), folder, settings)
