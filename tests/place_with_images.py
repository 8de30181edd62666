"""A Place of a walk with small images that can be told apart, poses and points; no mapping."""

from pathlib import Path

import cv2
import numpy as np

from numbers_place import CAMERA, make_numbers_place, poses_of_a_walk
from relocalize.place import Place, Split


def image_of(number: int) -> np.ndarray:
    """The RGB image [480, 640, 3] of frame ``number``, as it was before it was written."""
    coarse = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    size = (CAMERA.width, CAMERA.height)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))


def make_imaged_place(
    root: Path, count: int = 24, *, captures: tuple[str, ...] = ("walk",)
) -> Place:
    """A Place of ``count`` images; its split ``odd`` trains on the even and tests the odd."""
    place = make_numbers_place(root, poses_of_a_walk(count), captures=captures, points=400)
    for number, name in enumerate(place.map.images):
        path = place.image_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image_of(number)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    names = list(place.map.images)
    place.write_split(Split("odd", "list", train=tuple(names[::2]), test=tuple(names[1::2])))
    return place
