"""A video or photos to sharp, well-spaced frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relocalize.capture.frames import capture_frames
from relocalize.place import Capture, Place


@dataclass(frozen=True, repr=False)
class FramesReport:
    """A capture that was added to a Place, or was there already.

    Attributes:
        place: that has it.
        capture: its images and cameras, and what was left out.
    """

    place: Place
    capture: Capture

    def to_json(self) -> dict[str, Any]:
        """As plain values; without the images themselves."""
        capture, settings = self.capture, self.capture.settings
        return {
            "capture": capture.name,
            "kind": capture.kind,
            "source": capture.source,
            "images": len(capture.images),
            "frames_in_source": settings.get("frames_in_source"),
            "seconds": settings.get("seconds"),
            "broke": settings.get("broke"),
            "left_out": capture.left_out,
            "cameras": [
                {
                    "size": [camera.width, camera.height],
                    "focal_px": round(camera.focal_px, 2) if camera.known != "unknown" else None,
                }
                for camera in capture.cameras
            ],
            "folder": str(self.place.images_dir / capture.name),
            "contact_sheet": str(self.place.root / "captures" / f"{capture.name}.png"),
        }

    def __repr__(self) -> str:
        kept, dropped = len(self.capture.images), len(self.capture.dropped)
        return f"FramesReport({self.capture.name}: {kept} images kept, {dropped} left out)"


def frames(
    source: str | Path | Sequence[str | Path],
    place: Place | str | Path,
    *,
    capture: str | None = None,
    count: int | None = None,
    every: float | None = None,
) -> FramesReport:
    """Add a capture to a Place: sharp, well-spaced frames of a video, or photos.

    Frames are kept at even steps of image motion: none where the camera rests, more where it
    turns, and of each step the sharpest. The same call after a kill resumes.

    Args:
        source: a video file, a folder of photos, or one or several photos.
        place: the Place or its folder; made if there is none.
        capture: name of the capture; None: after the source.
        count: keep about this many frames of the video.
        every: keep one frame of the video each so many seconds.

    Raises:
        CaptureError: the source cannot be used, or the name belongs to another capture.
        PlaceError: the folder holds something else, or another process writes to it.
    """
    made = capture_frames(source, place, name=capture, count=count, every_s=every)
    return FramesReport(place if isinstance(place, Place) else Place.open(place), made)
