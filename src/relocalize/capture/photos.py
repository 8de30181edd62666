"""Reading one photo: upright pixels, and what its EXIF says about the camera."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from relocalize.capture.exif import Exif, read_exif
from relocalize.errors import CaptureError
from relocalize.geometry import Camera

# Pixels are bounded before they are decoded: a file of a few bytes can declare gigabytes. This
# is Pillow's own hard limit (twice its warning's), 537 MB as RGB; the warning says nothing more.
MAX_PIXELS = 178_956_970
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", message="Corrupt EXIF data")  # it counts as not said

PHOTO_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".heic", ".heif", ".bmp")
)
# What Pillow may try, by content: its other decoders are many, and some start programs.
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
_JPEG_QUALITY = 95
_UPRIGHT_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo, upright.

    Attributes:
        pixels: RGB [H, W, 3].
        camera: from the EXIF focal length, or None where the photo does not say.
        exif: what else it says.
        plain_as: ``.jpg`` or ``.png`` when the file itself holds exactly these pixels, upright,
            in a form that every tool reads; None when it has to be written anew for that.
    """

    pixels: NDArray[np.uint8]
    camera: Camera | None
    exif: Exif
    plain_as: str | None


def read_photo(path: str | Path) -> Photo:
    """Decode a JPEG, PNG, TIFF, WebP, BMP or HEIC photo.

    Raises:
        CaptureError: there is no such file, it is no photo, is damaged, or is too large.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CaptureError(f"photo {path} {what}; give the path of a photo")
    try:
        with Image.open(path, formats=_formats(path)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise CaptureError(_too_large(path, f"{width} x {height}"))
            image.load()
            exif = read_exif(image)
            plain_as = _plain_as(image, exif)
            pixels = _upright_rgb(image, exif)
    except CaptureError:
        raise
    except Image.DecompressionBombError as error:
        raise CaptureError(_too_large(path, "too many")) from error
    except UnidentifiedImageError as error:
        raise CaptureError(
            f"photo {path} is not a JPEG, PNG, TIFF, WebP, BMP or HEIC image; convert it first"
        ) from error
    except PermissionError as error:
        raise CaptureError(f"photo {path} cannot be read: {error.strerror}") from error
    except Exception as error:
        # The decoders of six formats raise a dozen kinds on damaged files; all mean this.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CaptureError(f"photo {path} is damaged ({reason}); copy it again") from error
    height, width = pixels.shape[:2]
    return Photo(pixels, exif.camera(width, height), exif, plain_as)


def _formats(path: Path) -> tuple[str, ...]:
    """What the file may be; the decoder of HEIC is loaded for files that begin as one does."""
    with path.open("rb") as file:
        if file.read(12)[4:8] != b"ftyp":
            return _FORMATS
    import pillow_heif  # noqa: PLC0415 - few photos need it

    pillow_heif.register_heif_opener()
    return ("HEIF",)


def jpeg(bgr: NDArray[Any]) -> bytes:
    """An image [H, W, 3] in OpenCV's order of colours as a JPEG of high quality.

    Raises:
        CaptureError: it has more pixels than a JPEG holds.
    """
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        height, width = bgr.shape[:2]
        raise CaptureError(f"{width} x {height} pixels exceed what JPEG holds; export it smaller")
    return data.tobytes()


def _too_large(path: Path, size: str) -> str:
    limit = MAX_PIXELS // 1_000_000
    return f"photo {path} has {size} pixels; want at most {limit} megapixels: make it smaller"


def _plain_as(image: Image.Image, exif: Exif) -> str | None:
    if exif.orientation != 1 or image.mode not in ("L", "RGB"):
        return None
    return {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png"}.get(image.format or "")


def _upright_rgb(image: Image.Image, exif: Exif) -> NDArray[np.uint8]:
    if exif.orientation in _UPRIGHT_BY:
        image = image.transpose(_UPRIGHT_BY[exif.orientation])
    if image.mode.startswith("I;16"):
        # Pillow's conversion clips 16 bits at 255 instead of scaling them.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(image.convert("RGB"), dtype=np.uint8)
