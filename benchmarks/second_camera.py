"""Photos of a second camera, localized by a regressor that was trained on another one.

Run with the folder of the kitchen walk (images/, poses_sfm.txt, splits/, second_camera/):

    python benchmarks/second_camera.py DATA/redkitchen [--place FOLDER] [--localizer posenet]

The regressor is the one called ``--localizer`` on the split ``blocks``, trained first by the
default recipe where there is none. The photos (800x450, other lens and exposure) have no truth
file, so their truth is where `relocalize register` puts them, in a copy of the Place: that agrees
to millimetres with the frames they were made from (`benchmarks/register.py`). The rows:

- canonical camera: what `relocalize localize` does, with the photos' calibration and without;
- no canonical camera: the photo resized to the network's input as if its camera were the one that
  was trained with, whatever its lens; squeezed to the shape, or with the shorter side fitted and
  the middle cut out, as papers do.

Medians are over all photos, doubted ones included, so that rows differ in their poses alone; the
last columns say how many of them the regressor refuses, and how many it then answers wrongly.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from kitchen import kitchen_place
from relocalize import progress
from relocalize.geometry import Camera, Rigid3, position_error, rotation_error_deg
from relocalize.localization.regressor import RegressorLocalizer
from relocalize.localization.store import folder_of, is_current, store
from relocalize.mapping.register_photos import RegisterPhotosSettings, register_photos
from relocalize.place import Place
from relocalize.regression.presets import preset

Pixels = NDArray[np.uint8]

_SPLIT = "blocks"
_CAPTURE = "second_camera"
_WRONG = 0.5, 20.0  # metres, degrees: an answer beyond either is wrong


@dataclass(frozen=True)
class Arguments:
    """Measure the regressor on another camera."""

    data: tyro.conf.Positional[Path]
    """Folder with images/, poses_sfm.txt, splits/ and second_camera/."""
    place: Path | None = None
    """Where the Place is made, or is already; a temporary folder by default."""
    localizer: str = "regressor"
    """Name of the trained regressor."""
    minutes: float | None = None
    """Time that training may take, where it is trained now."""


@dataclass(frozen=True)
class Photo:
    """A photo with its true pose and camera."""

    pixels: Pixels
    camera: Camera
    world_from_cam: Rigid3


def main(arguments: Arguments) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        place = kitchen_place(arguments.place or Path(temporary) / "place", arguments.data, _SPLIT)
        localizer = regressor(place, arguments)
        photos = registered(place, arguments.data, Path(temporary) / "registered")
    camera = photos[0].camera
    target = localizer.images.target
    print(
        f"{len(photos)} photos, {camera.model} {camera.width}x{camera.height} "
        f"{np.round(camera.params, 3).tolist()}; the network's camera is "
        f"{target.width}x{target.height}, focal length {target.focal_px:.1f} px"
    )
    head = f"{'median':>10}{'':>9}{'90%':>9}{'0.1 m 5°':>10}{'0.25 m 10°':>12}"
    print(f"\n{'':58}{head}{'refused':>9}{'wrong':>7}")
    rows: list[tuple[str, Callable[[Photo], tuple[Pixels, Camera | None]]]] = [
        ("canonical camera, calibrated", lambda photo: (photo.pixels, photo.camera)),
        ("canonical camera, intrinsics unknown", lambda photo: (photo.pixels, None)),
        (
            "no canonical camera, squeezed to the input's shape",
            lambda photo: squeezed(photo, target),
        ),
        ("no canonical camera, the middle cut out", lambda photo: cut(photo, target)),
    ]
    for what, shown in rows:
        show(what, localizer, photos, [shown(photo) for photo in photos])


def regressor(place: Place, arguments: Arguments) -> RegressorLocalizer:
    """The trained one, or one trained now."""
    split = place.split(_SPLIT)
    folder = folder_of(place, arguments.localizer, split)
    if not is_current(place, folder, split):
        settings = replace(preset("default"), minutes=arguments.minutes)
        store(place, folder, split, lambda: RegressorLocalizer.fit(place, split, settings=settings))
    return RegressorLocalizer.load(folder)


def registered(place: Place, data: Path, folder: Path) -> list[Photo]:
    """The photos with the poses and the camera that registering them finds, in a copy."""
    shutil.copytree(place.root, folder, ignore=shutil.ignore_patterns("localizers", "reports"))
    copy = Place.open(folder)
    images = data / "second_camera" / "images"
    register_photos(copy, [images], RegisterPhotosSettings(_CAPTURE))
    posed = copy.map.images
    names = [image.name for image in copy.capture(_CAPTURE).images]
    missing = [name for name in names if name not in posed]
    if missing:
        print(f"{len(missing)} photos could not be registered and are left out")
    return [
        Photo(
            copy.read_image(name),
            posed[name].camera,
            posed[name].world_from_cam,
        )
        for name in names
        if name in posed
    ]


def squeezed(photo: Photo, target: Camera) -> tuple[Pixels, Camera]:
    """The whole photo in the input's size, said to be by the camera that was trained with."""
    size = target.width, target.height
    return np.asarray(
        cv2.resize(photo.pixels, size, interpolation=cv2.INTER_AREA), np.uint8
    ), target


def cut(photo: Photo, target: Camera) -> tuple[Pixels, Camera]:
    """The middle of the photo after the side that fits the input's is made as long."""
    height, width = photo.pixels.shape[:2]
    scale = max(target.width / width, target.height / height)
    size = round(width * scale), round(height * scale)
    whole = cv2.resize(photo.pixels, size, interpolation=cv2.INTER_AREA)
    left, top = (size[0] - target.width) // 2, (size[1] - target.height) // 2
    middle = whole[top : top + target.height, left : left + target.width]
    return np.ascontiguousarray(middle, np.uint8), target


def show(
    what: str,
    localizer: RegressorLocalizer,
    photos: Sequence[Photo],
    shown: Sequence[tuple[Pixels, Camera | None]],
) -> None:
    """Print a row."""
    estimates = [localizer.localize(*given) for given in shown]
    # The same without limits: poses of refused photos, too.
    sure = replace(
        localizer.calibration,
        largest_position=math.inf,
        largest_rotation=math.inf,
        largest_novelty=math.inf,
    )
    bold = RegressorLocalizer(replace(localizer.parts, calibration=sure, retrieval=None))
    errors = np.array(
        [
            errors_of(bold.localize(*given).world_from_cam, photo)
            for given, photo in zip(shown, photos, strict=True)
        ]
    )
    answered = np.array([estimate.status == "localized" for estimate in estimates])
    wrong = (errors > _WRONG).any(axis=1)
    recalls = [
        100 * float(((errors[:, 0] <= metres) & (errors[:, 1] <= degrees)).mean())
        for metres, degrees in ((0.1, 5.0), (0.25, 10.0))
    ]
    median, most = np.median(errors, axis=0), np.quantile(errors, 0.9, axis=0)
    print(
        f"{what:58}{100 * median[0]:>7.1f} cm{median[1]:>7.2f} °{100 * most[0]:>6.0f} cm"
        f"{recalls[0]:>8.0f} %{recalls[1]:>10.0f} %{int((~answered).sum()):>9}"
        f"{int((answered & wrong).sum()):>7}"
    )
    focals = [e.camera.focal_px for e in estimates if e.camera is not None]
    if shown[0][1] is None and focals:
        print(f"    guessed focal length: median {np.median(focals):.0f} px")


def errors_of(pose: Rigid3 | None, photo: Photo) -> tuple[float, float]:
    """Metres and degrees; no pose is infinitely far off."""
    if pose is None:
        return math.inf, math.inf
    true = photo.world_from_cam
    return position_error(pose, true), rotation_error_deg(pose, true)


if __name__ == "__main__":
    with progress.shown():
        main(tyro.cli(Arguments))
