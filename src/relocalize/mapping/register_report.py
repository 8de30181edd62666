"""What registering photos did: for people, for `map/map.json`, and for whoever registers again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relocalize.plain import to_plain


@dataclass(frozen=True)
class RegisteredPhoto:
    """What came of one photo."""

    image: str  # its name in the Place
    registered: bool  # whether it has a pose in the map
    reason: str | None = None  # why not, or None
    # map points that it observes; of a failure, matches that agreed at best, or None
    inliers: int | None = None
    # standard deviation of the centre along its least certain axis, in the Place's unit; None for a
    # failure
    position_sigma: float | None = None
    rotation_sigma_deg: float | None = None  # the same of the orientation


@dataclass(frozen=True)
class RegisteredCamera:
    """The camera of a group of photos."""

    model: str  # COLMAP's
    width: int  # pixels
    height: int  # pixels
    params: tuple[float, ...]  # in COLMAP's order
    # ``estimated``, ``estimated from EXIF on`` (or from a given focal length on), ``given`` or
    # ``the capture's, found before``
    source: str
    focal_px: float  # mean focal length
    # its standard deviation by leaving out blocks of photos; None where it was not estimated from
    # three photos or more
    focal_sigma_px: float | None
    principal_point_sigma_px: float | None  # the larger one of the principal point's, likewise
    registered: int  # photos of this camera with a pose
    photos: int  # photos of this camera


@dataclass(frozen=True)
class RegisterReport:
    """The outcome of registering a capture.

    Attributes:
        capture: its name.
        unit: of positions.
        photos: every photo of the capture that was without a pose.
        cameras: of the photos, by size and EXIF.
        left_out: files that are no usable photos, and why.
        posed: images of the capture that have a pose now.
        images: images of the capture.
        refined: whether the whole map was adjusted afterwards.
        cpu_s: processor seconds of learning the map, of features, and of poses and cameras.
        unchanged: whether all was there already and nothing had to be done.
    """

    capture: str
    unit: str
    photos: tuple[RegisteredPhoto, ...]
    cameras: tuple[RegisteredCamera, ...]
    left_out: tuple[str, ...]
    posed: int
    images: int
    refined: bool
    cpu_s: dict[str, float]
    unchanged: bool = False

    def __repr__(self) -> str:
        new = sum(photo.registered for photo in self.photos)
        return (
            f"RegisterReport({new} of {len(self.photos)} photos registered; capture "
            f"{self.capture} has {self.posed} of {self.images} images in the map)"
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        plain: dict[str, Any] = to_plain(self)
        return plain
