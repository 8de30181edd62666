"""Reading one photo: upright pixels, and what its EXIF says about the camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from relocalize.capture.exif import Exif, read_exif
from relocalize.errors import CaptureError, ImageError
from relocalize.geometry import Camera
from relocalize.place.image_file import open_image, rgb, upright

PHOTO_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".heic", ".heif", ".bmp")
)
_JPEG_QUALITY = 95


def photos_in(folder: Path) -> list[Path]:
    """The photos directly in a folder, by name.

    Raises:
        CaptureError: there are none.
    """
    files = sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
    )
    photos = [path for path in files if path.suffix.lower() in PHOTO_SUFFIXES]
    if not photos:
        others = Counter(path.suffix.lower() or "no ending" for path in files)
        holds = ", ".join(f"{n} x {kind}" for kind, n in others.most_common(3)) or "no files"
        raise CaptureError(
            f"folder {folder} holds no photos (JPEG, PNG, TIFF, WebP, HEIC) but {holds}; "
            "give the folder that has them, or one video file"
        )
    return photos


def photo_paths(sources: Sequence[Path]) -> list[Path]:
    """The photos meant: files as they are, folders as the photos directly in them.

    Raises:
        CaptureError: one does not exist, or a folder has no photos.
    """
    paths: list[Path] = []
    for source in sources:
        if not source.exists():
            raise CaptureError(f"{source} does not exist; give photos or folders of photos")
        paths += photos_in(source) if source.is_dir() else [source]
    return paths


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo, upright."""

    pixels: NDArray[np.uint8]  # RGB [H, W, 3]
    camera: Camera | None  # from the EXIF focal length, or None where the photo does not say
    exif: Exif  # what else it says
    # ``.jpg`` or ``.png`` when the file itself holds exactly these pixels, upright, in a form that
    # every tool reads; None when it has to be written anew for that
    plain_as: str | None


def read_photo(path: str | Path | bytes) -> Photo:
    """Decode a JPEG, PNG, TIFF, WebP, BMP or HEIC photo: a file, or the bytes of one.

    Raises:
        CaptureError: there is no such file, it is no photo, is damaged, or is too large.
    """
    try:
        image = open_image(path if isinstance(path, bytes) else Path(path))
    except ImageError as error:
        raise CaptureError(str(error)) from error
    exif = read_exif(image)
    pixels = rgb(upright(image))
    height, width = pixels.shape[:2]
    return Photo(pixels, exif.camera(width, height), exif, _plain_as(image, exif))


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


def _plain_as(image: Image.Image, exif: Exif) -> str | None:
    if exif.orientation != 1 or image.mode not in ("L", "RGB"):
        return None
    return {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png"}.get(image.format or "")
