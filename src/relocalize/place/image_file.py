"""Opening image files: the one way in, for every command.

The first picture of a file, 8 bits a channel. Whether its pixels are taken as they are stored or
upright by the EXIF orientation is the caller's word; there is no other rule. Orientations: EXIF
2.32 (CIPA DC-008), section 4.6.4.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from relocalize.errors import ImageError, ImageTooLargeError

# Pixels are bounded before they are decoded: a file of a few bytes can declare gigabytes. This
# is Pillow's own hard limit (twice its warning's), 537 MB as RGB; the warning says nothing more.
MAX_PIXELS = 178_956_970
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", message="Corrupt EXIF data")  # it counts as not said

# What Pillow may try, by content: its other decoders are many, and some start programs.
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
_UPRIGHT_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The same of pixels counted from the image's middle, as rows of a matrix [2, 2].
_UPRIGHT_FROM_STORED = {
    1: ((1, 0), (0, 1)),
    2: ((-1, 0), (0, 1)),
    3: ((-1, 0), (0, -1)),
    4: ((1, 0), (0, -1)),
    5: ((0, 1), (1, 0)),
    6: ((0, -1), (1, 0)),
    7: ((0, -1), (-1, 0)),
    8: ((0, 1), (-1, 0)),
}
# A file, or the bytes of one that somebody sent.
ImageFile: TypeAlias = "Path | bytes"
SIDES_EXCHANGED = frozenset({5, 6, 7, 8})  # orientations whose upright image is as wide as high


def open_image(path: ImageFile, *, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode the first picture of a JPEG, PNG, TIFF, WebP, BMP or HEIC file, as it is stored.

    Args:
        path: the file, or its bytes.
        at_least: width and height that are enough: a JPEG is decoded at a fraction of its size
            that is no smaller, and of its cost.

    Raises:
        ImageError: there is no such file, it is no image, is damaged, too large, or has pixels
            whose range nothing states (32 bits).
    """
    photo = _called(path)
    if isinstance(path, Path) and not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ImageError(f"{photo} {what}; give the path of a photo")
    try:
        image: Image.Image
        with Image.open(_readable(path), formats=_formats(path)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageTooLargeError(_too_large(photo, f"{width} x {height}"))
            if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
                raise ImageError(
                    f"{photo} has 32-bit pixels, whose range nothing states; convert it to 8 "
                    "or 16 bits"
                )
            if at_least is not None:
                image.draft(None, at_least)
            image.load()
            return image
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(_too_large(photo, "too many")) from error
    except UnidentifiedImageError as error:
        size = path.stat().st_size if isinstance(path, Path) else len(path)
        what = "is not an image of these kinds" if size else "is empty"
        raise ImageError(
            f"{photo} {what}: want JPEG, PNG, TIFF, WebP, BMP or HEIC; convert it first"
        ) from error
    except PermissionError as error:
        raise ImageError(f"{photo} cannot be read: {error.strerror}") from error
    except Exception as error:
        # The decoders of six formats raise a dozen kinds on damaged files; all mean this.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(f"{photo} is damaged ({reason}); copy it again") from error


def image_size(path: ImageFile) -> tuple[int, int]:
    """Width and height as stored, from the header alone; raises `ImageError` as `open_image`."""
    try:
        with Image.open(_readable(path), formats=_formats(path)) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(_too_large(_called(path), "too many")) from error
    except Exception as error:
        raise ImageError(
            f"{_called(path)} has no readable header ({type(error).__name__})"
        ) from error
    return int(width), int(height)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 is upright, and what a file says that does not say."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
        orientation = int(value) if isinstance(value, int | float | str) else 1
    except Exception:
        # Pillow's parser raises many kinds on damaged EXIF; the image itself may be fine.
        return 1
    return orientation if orientation in _UPRIGHT_BY else 1


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says."""
    orientation = orientation_of(image)
    return image.transpose(_UPRIGHT_BY[orientation]) if orientation in _UPRIGHT_BY else image


def upright_pixels(
    pixels: NDArray[np.float64], orientation: int, width: int, height: int
) -> NDArray[np.float64]:
    """Where pixels [N, 2] of an image of this size as stored are in the upright one."""
    size = np.array([width, height], dtype=np.float64)
    turned = size[::-1] if orientation in SIDES_EXCHANGED else size
    result: NDArray[np.float64] = (pixels - size / 2) @ np.array(
        _UPRIGHT_FROM_STORED[orientation], dtype=np.float64
    ).T + turned / 2
    return result


def rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels [H, W, 3]; 16 bits are scaled to 8, transparency is dropped."""
    if image.mode.startswith("I"):
        # Pillow's conversion clips 16 bits at 255 instead of scaling them.
        grey = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)


def shrunk(pixels: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Pixels [H, W, 3] no larger than ``longest`` along either side."""
    import cv2  # noqa: PLC0415 - a tenth of a second, and few files need it

    height, width = pixels.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return pixels
    size = (max(1, round(factor * width)), max(1, round(factor * height)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _readable(path: ImageFile) -> Path | io.BytesIO:
    return path if isinstance(path, Path) else io.BytesIO(path)


def _called(path: ImageFile) -> str:
    return f"photo {path}" if isinstance(path, Path) else "the photo"


def _formats(path: ImageFile) -> tuple[str, ...]:
    """What the file may be; the decoder of HEIC is loaded for files that begin as one does."""
    if isinstance(path, Path):
        with path.open("rb") as file:
            start = file.read(12)
    else:
        start = path[:12]
    if start[4:8] != b"ftyp":
        return _FORMATS
    import pillow_heif  # noqa: PLC0415 - few photos need it

    pillow_heif.register_heif_opener()
    return ("HEIF",)


def _too_large(photo: str, size: str) -> str:
    limit = MAX_PIXELS // 1_000_000
    return f"{photo} has {size} pixels; want at most {limit} megapixels: make it smaller"
