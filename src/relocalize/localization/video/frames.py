"""A clip's frames: every Nth, upright, with its time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from relocalize.capture.video import Image, Video


@dataclass(frozen=True, eq=False)
class ClipFrame:
    """One frame.

    Attributes:
        number: in the video, from 0.
        time_s: since the video's first frame; ascends.
        image: the decoded image, converted when it is asked for.
    """

    number: int
    time_s: float
    image: Image

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
