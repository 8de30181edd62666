"""What registering photos did: for people, for `map/map.json`, and for whoever registers again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relocalize.plain import to_plain


@dataclass(frozen=True)
class RegisteredPhoto:
    """What came of one photo.

    Attributes:
        image: its name in the Place.
        registered: whether it has a pose in the map.
        reason: why not, or None.
        inliers: map points that it observes; of a failure, matches that agreed at best, or None.
        position_sigma: standard deviation of the centre along its least certain axis, in the
            Place's unit; None for a failure.
        rotation_sigma_deg: the same of the orientation.
    """

    image: str
    registered: bool
    reason: str | None = None
    inliers: int | None = None
    position_sigma: float | None = None
    rotation_sigma_deg: float | None = None


@dataclass(frozen=True)
class RegisteredCamera:
    """The camera of a group of photos.

    Attributes:
        model: COLMAP's.
        width: pixels.
        height: pixels.
        params: in COLMAP's order.
        source: ``estimated``, ``estimated from EXIF on`` (or from a given focal length on),
            ``given`` or ``the capture's, found before``.
        focal_px: mean focal length.
        focal_sigma_px: its standard deviation by leaving out blocks of photos; None where it was
            not estimated from three photos or more.
        principal_point_sigma_px: the larger one of the principal point's, likewise.
        registered: photos of this camera with a pose.
        photos: photos of this camera.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]
    source: str
    focal_px: float
    focal_sigma_px: float | None
    principal_point_sigma_px: float | None
    registered: int
    photos: int


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
