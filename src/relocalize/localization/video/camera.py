"""The camera that took a clip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from relocalize import progress
from relocalize.absolute_pose.shared_camera import MAX_PHOTOS, SharedCamera
from relocalize.capture.video import Video, open_video
from relocalize.geometry import Camera
from relocalize.localization import Localizer
from relocalize.localization.query import Query
from relocalize.localization.video.frames import frames_of

_UNKNOWN_LENGTH = 30  # frames from one to the next that calibrate, where no length is announced


def camera_of_clip(path: Path, localizer: Localizer) -> SharedCamera | None:
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
    stated = SharedCamera(known) if known.known != "unknown" else None
    with open_video(path) as video:
        length = video.announced_frames
        every = max(1, length // MAX_PHOTOS) if length else _UNKNOWN_LENGTH
        with progress.bar("calibrating the clip's camera", MAX_PHOTOS, "frames") as bar:
            return localizer.calibrate(_queries(video, every, known, bar)) or stated


def _queries(video: Video, every: int, camera: Camera, bar: progress.Bar) -> Iterator[Query]:
    """The first `MAX_PHOTOS` frames of the camera's size."""
    count = 0
    for frame in frames_of(video, every):
        pixels = frame.rgb()
        if pixels.shape[:2] != (camera.height, camera.width):
            continue
        yield Query.of(pixels, camera)
        bar.advance()
        count += 1
        if count == MAX_PHOTOS:
            return
