"""Small images of the test images, shown where the pointer is; all of them in a few megabytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from relocalize import progress
from relocalize.errors import ImageError, PlaceError
from relocalize.place import Place
from relocalize.place.image_file import open_image, rgb, upright

# Longer side in pixels and WebP quality, best first; the first that fits the budget is taken.
_SIZES = ((320, 60), (240, 55), (180, 50), (128, 45), (96, 40), (64, 35))
_SAMPLE = 24  # images that say how large the others will be


def thumbnails(place: Place, names: Sequence[str], *, budget: int) -> list[str | None]:
    """A ``data:`` address per image, as large as all together stay within a budget of bytes.

    None where the image is missing or damaged, or where not even the smallest size leaves room for
    it (then every k-th image has one).
    """
    sample = [names[int(at)] for at in np.linspace(0, len(names) - 1, min(_SAMPLE, len(names)))]
    size, quality, each = _SIZES[-1][0], _SIZES[-1][1], 0.0
    for size, quality in _SIZES:
        made = [len(one) for name in sample if (one := _thumbnail(place, name, size, quality))]
        each = float(np.mean(made)) if made else 0.0
        if each * len(names) <= budget:
            break
    every = max(1, int(np.ceil(each * len(names) / budget)))
    return [
        _thumbnail(place, name, size, quality) if index % every == 0 else None
        for index, name in enumerate(progress.track(names, "thumbnails"))
    ]


def _thumbnail(place: Place, name: str, size: int, quality: int) -> str | None:
    try:
        pixels = rgb(upright(open_image(place.image_path(name), at_least=(size, size))))
    except (PlaceError, ImageError):
        return None
    small = Image.fromarray(pixels)
    small.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return webp(small, quality=quality, method=2)


def webp(image: Image.Image, **settings: int) -> str:
    """An image as a ``data:`` address."""
    file = io.BytesIO()
    image.save(file, "WEBP", **settings)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
