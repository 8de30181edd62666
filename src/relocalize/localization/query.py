"""An image to localize, with what is known of its camera: validated once, here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from relocalize.capture.photos import read_photo
from relocalize.errors import QueryError
from relocalize.geometry import Camera
from relocalize.localization.prior import PosePrior
from relocalize.place.image_file import MAX_PIXELS

_RGB, _RGBA = 3, 4  # channels


@dataclass(frozen=True, eq=False)
class Query:
    """An image to localize.

    Attributes:
        pixels: upright RGB [H, W, 3].
        camera: of these pixels; `Camera.known` says how well.
        name: of the file it came from, or empty.
        prior: where the camera is thought to be: poses that contradict it are not answered.
    """

    pixels: NDArray[np.uint8]
    camera: Camera
    name: str = ""
    prior: PosePrior | None = None

    @classmethod
    def of(
        cls, image: ImageLike, camera: Camera | None = None, prior: PosePrior | None = None
    ) -> Query:
        """A query of a file or of pixels.

        Args:
            image: the path of a photo, whose EXIF says which way is up and roughly the focal
                length, or the bytes of such a file; or upright uint8 pixels: RGB [H, W, 3], RGBA
                [H, W, 4] or grey [H, W]; or a query.
            camera: of the upright image; ``exact`` intrinsics are used as they are, of
                ``approximate`` ones the focal length is a start. None takes what EXIF says, if
                anything.
            prior: where the camera is thought to be.

        Raises:
            CaptureError: the file is missing, damaged, too large, or not a photo.
            QueryError: the pixels are not an image, or the camera is of another size.
        """
        if prior is not None:
            return replace(cls.of(image, camera), prior=prior)
        if isinstance(image, Query):
            if camera is None:
                return image
            return replace(cls._checked(image.pixels, camera, image.name), prior=image.prior)
        if isinstance(image, np.ndarray):
            return cls._checked(image, camera, "")
        if isinstance(image, bytes):
            photo = read_photo(image)
            return cls._checked(photo.pixels, camera or photo.camera, "")
        if isinstance(image, str | PathLike):
            photo = read_photo(Path(image))
            return cls._checked(photo.pixels, camera or photo.camera, str(image))
        raise QueryError(
            f"a {type(image).__name__} is not an image; give a path or pixels [H, W, 3] of uint8"
        )

    @classmethod
    def _checked(cls, pixels: NDArray[np.uint8], camera: Camera | None, name: str) -> Query:
        shape = "x".join(map(str, pixels.shape))
        if pixels.dtype != np.uint8:
            raise QueryError(f"pixels are {pixels.dtype}; want uint8, 0 to 255: convert them first")
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[:, :, None], _RGB, axis=2)
        if pixels.ndim != 3 or pixels.shape[2] not in (_RGB, _RGBA) or not pixels.size:
            raise QueryError(f"pixels of shape {shape} are not an image; want [H, W, 3]")
        height, width = pixels.shape[:2]
        if width * height > MAX_PIXELS:
            raise QueryError(
                f"{width} x {height} pixels are too many; want at most {MAX_PIXELS // 1_000_000} "
                "megapixels: make the image smaller"
            )
        if camera is None:
            camera = Camera.from_focal(width, height)
        if (camera.width, camera.height) != (width, height):
            raise QueryError(
                f"the camera is of {camera.width} x {camera.height} pixels, the image has "
                f"{width} x {height}; resize the camera if the image was resized: "
                f"camera.resized({width}, {height})"
            )
        return cls(pixels[:, :, :_RGB], camera, name)


ImageLike: TypeAlias = Union[Query, str, bytes, "PathLike[str]", NDArray[np.uint8]]
