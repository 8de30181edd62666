"""A photo from outside: read with care, localized, and what is to be seen of the answer."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import CaptureError, RelocalizeError
from relocalize.localization import Localizer, PoseEstimate
from relocalize.localization.query import Query

# Of an uploaded file. A phone's photo has 2 to 15 MB, as a PNG up to 40.
MAX_BYTES = 64 << 20
_LONGEST_NAME = 60


@dataclass(frozen=True, eq=False)
class PlacedPhoto:
    """A photo and where it was taken, or why that is not known."""

    name: str  # of the file, made harmless
    query: Query  # its pixels and camera
    estimate: PoseEstimate  # the localizer's answer
    localizer: str  # which one it was

    @property
    def half(self) -> tuple[float, float]:
        """Half width and half height of the image at distance 1."""
        camera = self.estimate.camera or self.query.camera
        return camera.width / (2 * camera.focal_px), camera.height / (2 * camera.focal_px)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """RGB [H, W, 3]."""
        return self.query.pixels


class PhotoPlacer:
    """Localizes photos one at a time; the localizer is loaded when the first one comes."""

    def __init__(self, load: Callable[[], Localizer], name: str) -> None:
        """``load`` gives the localizer ``name``."""
        self._load, self._name = load, name
        self._localizer: Localizer | None = None
        self._one_at_a_time = threading.Lock()

    @property
    def is_ready(self) -> bool:
        """Whether the localizer is loaded; before that it may have to be fitted for minutes."""
        return self._localizer is not None

    def place_file(self, path: Path) -> PlacedPhoto:
        """Localize the photo at ``path``.

        Raises:
            RelocalizeError: it is no photo, or the localizer cannot be loaded.
        """
        return self._place(harmless_name(path.name), Query.of(path))

    def place_upload(self, name: str, content: bytes) -> PlacedPhoto:
        """Localize a photo that somebody sent; neither its name nor its bytes are trusted.

        Raises:
            RelocalizeError: it is too large, no photo, or the localizer cannot be loaded.
        """
        shown = harmless_name(name)
        if len(content) > MAX_BYTES:
            raise CaptureError(too_large(shown, len(content)))
        if not content:
            raise CaptureError(f"photo {shown} is empty; send another")
        try:
            query = Query.of(content)
        except CaptureError as error:
            raise CaptureError(str(error).replace("the photo", f"photo {shown}", 1)) from error
        return self._place(shown, query)

    def _place(self, name: str, query: Query) -> PlacedPhoto:
        with self._one_at_a_time:
            if self._localizer is None:
                self._localizer = self._load()
            localizer = self._localizer
            try:
                estimate = localizer.localize(query)
            except MemoryError as error:
                raise RelocalizeError(
                    f"photo {name} needs more memory than there is; make it smaller"
                ) from error
        return PlacedPhoto(name, query, estimate, self._name)


def harmless_name(name: str) -> str:
    """A file name of a stranger with only letters, digits, and a few signs."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._ -]", "_", last)[:_LONGEST_NAME] or "photo"


def too_large(name: str, size: int) -> str:
    """What is said of a file that is too large."""
    return (
        f"photo {name} has {size / 1e6:.0f} MB; want at most {MAX_BYTES >> 20} MB: make it smaller"
    )
