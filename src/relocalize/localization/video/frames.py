"""A clip's frames: every Nth, upright, with its time; and the camera that took them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from relocalize import progress
from relocalize.absolute_pose.shared_camera import MAX_PHOTOS, SharedCamera
from relocalize.capture.video import Image, Video, open_video
from relocalize.geometry import Camera
from relocalize.localization import Localizer
from relocalize.localization.query import Query

_UNKNOWN_LENGTH = 30  # frames from one to the next that calibrate, where no length is announced


@dataclass(frozen=True, eq=False)
class ClipFrame:
    """One frame."""

    number: int  # in the video, from 0
    time_s: float  # since the video's first frame; ascends
    image: Image  # the decoded image, converted when it is asked for

    def rgb(self) -> NDArray[np.uint8]:
        """Upright pixels [H, W, 3]."""
        return np.asarray(cv2.cvtColor(self.image.bgr(), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def frames_of(video: Video, every: int) -> Iterator[ClipFrame]:
    """Every ``every``-th frame of an open video, from its first on."""
    start_s: float | None = None
    last_s = -1.0
    for number, image in enumerate(video.images()):
        shown_at = image.time_s
        if start_s is None:
            start_s = shown_at or 0.0
        time_s = number * video.frame_s if shown_at is None else shown_at - start_s
        if number % every:
            continue
        # Damaged containers repeat times or step back; a trajectory's times ascend.
        time_s = time_s if time_s > last_s else last_s + 1e-3
        last_s = time_s
        yield ClipFrame(number, round(time_s, 6), image)


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
