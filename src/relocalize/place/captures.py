"""A capture: one camera on one run, the images it gave, and when each was taken."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from relocalize.geometry import Camera
from relocalize.plain import from_plain


@dataclass(frozen=True)
class Fix:
    """A position on the earth: degrees of WGS84, and metres of height where they are known."""

    latitude: float
    longitude: float
    height: float | None = None


@dataclass(frozen=True)
class CapturedImage:
    """One image of a Place.

    Attributes:
        name: path below ``images/`` with forward slashes: ``walk1/frame-000123.jpg``.
        camera: index into the capture's ``cameras``.
        time_s: seconds from the start of the capture, or None for loose photos.
        frame_index: index of the frame in its video, or None.
        sharpness: the selection's measure (higher is sharper), or None.
        gps: where the photo says that it was taken, or None.
    """

    name: str
    camera: int = 0
    time_s: float | None = None
    frame_index: int | None = None
    sharpness: float | None = None
    gps: Fix | None = None


@dataclass(frozen=True)
class DroppedFrame:
    """A frame or file that was seen and not kept, and why."""

    source: str
    reason: str
    time_s: float | None = None


@dataclass(frozen=True)
class Capture:
    """The record of one capture, stored as ``captures/<name>.json``.

    Attributes:
        name: folder below ``images/``.
        kind: ``video`` (time-ordered frames of one video), ``photos`` or ``imported``.
        source: file or folder name it was made from.
        cameras: what is known of the cameras before any map (EXIF, container metadata).
        images: in time order, or in name order where there is no time.
        dropped: what was left out.
        settings: of the selection, and whatever else makes it reproducible.
    """

    name: str
    kind: str
    source: str
    cameras: tuple[Camera, ...]
    images: tuple[CapturedImage, ...]
    dropped: tuple[DroppedFrame, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def is_registered(self) -> bool:
        """Whether it joined a finished map, which is made without it."""
        return self.settings.get("registered") is True

    @property
    def left_out(self) -> dict[str, int]:
        """How many frames or files were not kept, by reason."""
        counted: dict[str, int] = self.settings.get("left_out") or {}
        return counted or dict(Counter(row.reason for row in self.dropped))

    @property
    def image_names(self) -> list[str]:
        """Names below ``images/``, in the capture's order."""
        return [image.name for image in self.images]

    def camera_of(self, image: CapturedImage) -> Camera:
        """The camera prior of one image."""
        return self.cameras[image.camera]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Capture:
        """From plain values; raises ValueError or GeometryError where they are not a capture."""
        settings = dict(value.get("settings") or {})
        # Version 0.1 told a calibrated camera from EXIF's by a setting of the capture.
        exact = value.get("kind") == "imported" or settings.pop("calibrated", False)
        cameras = []
        for row in value.get("cameras") or ():
            camera = Camera.from_json(row)
            given = "focal_is_known" in row and camera.known == "approximate"
            cameras.append(replace(camera, known="exact") if given and exact else camera)
        made = from_plain(cls, {**value, "cameras": [], "settings": settings})
        return replace(made, cameras=tuple(cameras))
