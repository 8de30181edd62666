"""What an image's EXIF says about its camera.

Tags and units: EXIF 2.32 (CIPA DC-008), sections 4.6.4 and 4.6.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import ExifTags, Image

from relocalize.geometry import Camera
from relocalize.place.captures import Fix
from relocalize.place.image_file import orientation_of

# Diagonal of the 24 x 36 mm frame that "35 mm equivalent" refers to (CIPA DCG-001).
FILM_DIAGONAL_MM = math.hypot(24.0, 36.0)
# Outside of these shares of the longer side no lens is meant, but a broken tag: 0.2 is a
# fisheye of 136 degrees, 30 a telephoto of 1000 mm.
_PLAUSIBLE_FOCAL = (0.2, 30.0)
_HIGHEST = 100_000.0  # metres
_MM_PER_RESOLUTION_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}


@dataclass(frozen=True)
class Exif:
    """The part of a photo's EXIF that relocalize uses; None where the photo does not say."""

    make: str | None = None  # camera maker
    model: str | None = None  # camera model
    lens: str | None = None  # lens model
    focal_mm: float | None = None  # focal length of the lens
    focal_35mm: float | None = None  # focal length that gives the same view on 35 mm film
    # resolution of the sensor, in pixels of the image as the camera wrote it
    pixels_per_mm: float | None = None
    # longer side in pixels of the image as the camera wrote it
    written_longer_side: int | None = None
    orientation: int = 1  # 1 to 8; 1 is upright
    gps: Fix | None = None  # where the photo was taken

    def focal_px(self, width: int, height: int) -> float | None:
        """Focal length in pixels of the image at ``width`` x ``height``, or None."""
        longer = max(width, height)
        if self.focal_35mm:
            focal = self.focal_35mm / FILM_DIAGONAL_MM * math.hypot(width, height)
        elif self.focal_mm and self.pixels_per_mm:
            resized = longer / (self.written_longer_side or longer)
            focal = self.focal_mm * self.pixels_per_mm * resized
        else:
            return None
        low, high = _PLAUSIBLE_FOCAL
        return focal if low * longer <= focal <= high * longer else None

    def camera(self, width: int, height: int) -> Camera | None:
        """The camera of the upright image of ``width`` x ``height``, or None."""
        focal = self.focal_px(width, height)
        return None if focal is None else Camera.from_focal(width, height, focal)


def read_exif(image: Image.Image) -> Exif:
    """The EXIF of an opened image; what cannot be read counts as not said."""
    try:
        main = image.getexif()
        tags = {**main, **main.get_ifd(ExifTags.IFD.Exif)}
    except Exception:
        # Pillow's parser raises many kinds on damaged EXIF; the image itself may be fine.
        return Exif()
    base = ExifTags.Base
    unit = _MM_PER_RESOLUTION_UNIT.get(_whole(tags.get(base.FocalPlaneResolutionUnit)) or 2)
    resolution = _number(tags.get(base.FocalPlaneXResolution))
    sides = [_whole(tags.get(base.ExifImageWidth)), _whole(tags.get(base.ExifImageHeight))]
    return Exif(
        make=_text(tags.get(base.Make)),
        model=_text(tags.get(base.Model)),
        lens=_text(tags.get(base.LensModel)),
        focal_mm=_number(tags.get(base.FocalLength)),
        focal_35mm=_number(tags.get(base.FocalLengthIn35mmFilm)),
        pixels_per_mm=resolution / unit if resolution and unit else None,
        written_longer_side=max((side for side in sides if side), default=None),
        orientation=orientation_of(image),
        gps=_fix(image),
    )


def _fix(image: Image.Image) -> Fix | None:
    """The GPS position, or None where there is none, or none on earth."""
    try:
        tags = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        latitude = _degrees(tags[ExifTags.GPS.GPSLatitude])
        longitude = _degrees(tags[ExifTags.GPS.GPSLongitude])
        if str(tags.get(ExifTags.GPS.GPSLatitudeRef, "N")).upper().startswith("S"):
            latitude = -latitude
        if str(tags.get(ExifTags.GPS.GPSLongitudeRef, "E")).upper().startswith("W"):
            longitude = -longitude
        height = tags.get(ExifTags.GPS.GPSAltitude)
        below = tags.get(ExifTags.GPS.GPSAltitudeRef) in {1, b"\x01"}
        metres = None if height is None else float(height) * (-1 if below else 1)
    except Exception:
        # Pillow's parser raises many kinds on damaged EXIF; the image itself may be fine.
        return None
    if metres is not None and not abs(metres) < _HIGHEST:
        metres = None
    # Cameras that have no fix yet write 0, 0, which is in the sea.
    if not (abs(latitude) <= 90 and abs(longitude) <= 180) or latitude == longitude == 0:
        return None
    return Fix(latitude, longitude, metres)


def _degrees(values: object) -> float:
    degrees, minutes, seconds = (float(one) for one in values)  # type: ignore[attr-defined]
    return degrees + minutes / 60 + seconds / 3600


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]  # any EXIF type; what is none raises
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return "".join(c for c in value if c.isprintable()).strip()[:100] or None
