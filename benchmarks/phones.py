"""Photos as phones take them, of places that a regressor was trained on, localized by it.

    python benchmarks/phones.py PLACE --split blocks --localizer regressor [--every 5]

Every fifth test image is shown as it is and changed in ways of which the truth is known exactly:

- portrait: the middle of it, 3:4; cut to two thirds: the middle, as by a longer lens;
- rolled by 20, 90 and 180 degrees (by 20 within its frame: the corners are of a mean colour);
- a blob of another place on 15, 30 and 45% of the area (an ellipse; the place is rendered noise
  unless `--other` names a folder of photos);
- a quarter of the light with noise; evening: half of it, noise, blur and a blob of 15%;
- camera unknown: one photo by itself, and all of them together.

Errors are medians of the photos that are answered, `refused` counts the others, `wrong` the answers
beyond half a metre or 20 degrees, and `within` says how many errors lie within what is stated to
hold 95.5% of them. `--validation` shows the images that the training held back in place of test
images: for choosing between recipes.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from scipy.stats import chi2

from relocalize import progress
from relocalize.evaluation.calibration import SigmaError
from relocalize.geometry import Camera, Rigid3, position_error, rotation_error_deg
from relocalize.localization.regressor import RegressorLocalizer
from relocalize.localization.store import folder_of
from relocalize.place import Place
from relocalize.regression.canonical import warp
from relocalize.regression.data import TrainingData

Pixels = NDArray[np.uint8]

_WRONG = 0.5, 20.0  # of the Place's unit, degrees
_RADIUS = float(np.sqrt(chi2.ppf(0.9545, 3)))


@dataclass(frozen=True)
class Arguments:
    """Measure a regressor on photos as phones take them."""

    place: tyro.conf.Positional[Path]
    """The Place, with the trained regressor."""
    split: str = "blocks"
    """The split that it was trained on."""
    localizer: str = "regressor"
    """Its name."""
    every: int = 5
    """Take every so many images."""
    validation: bool = False
    """Show validation images in place of test images."""
    other: Path | None = None
    """A folder of photos of another place, for blobs."""


@dataclass(frozen=True)
class Photo:
    """A photo with its camera and its true pose."""

    pixels: Pixels
    camera: Camera
    world_from_cam: Rigid3


Change = Callable[[Photo, np.random.Generator], Photo]


def main(arguments: Arguments) -> None:
    place = Place.open(arguments.place)
    split = place.split(arguments.split)
    localizer = RegressorLocalizer.load(folder_of(place, arguments.localizer, split))
    names = list(split.test)
    if arguments.validation:
        data = TrainingData.prepare(place, split, localizer.facts.settings)
        names = [data.frames.names[row] for row in data.validation]
    posed = place.map.images
    photos = [
        Photo(place.read_image(name), posed[name].camera, posed[name].world_from_cam)
        for name in names[:: arguments.every]
        if name in posed
    ]
    others = _others(arguments.other)
    unit = place.unit
    print(f"{len(photos)} photos; answers by {localizer.calibration.answers}")
    print(f"{'':26}{unit:>9}{'deg':>7}{'refused':>9}{'wrong':>7}{'within':>12}{'focal':>8}")
    for name, change in _changes(others).items():
        rng = np.random.default_rng(0)
        shown = [change(photo, rng) for photo in photos]
        _show(name, [localizer.localize(one.pixels, one.camera) for one in shown], shown)
    for name, change in {"": _same, "portrait, ": _portrait, "two thirds, ": _cut}.items():
        shown = [change(photo, np.random.default_rng(0)) for photo in photos]
        alone = [localizer.localize(one.pixels) for one in shown]
        _show(f"{name}camera unknown", alone, shown)
        together = localizer.localize_many([one.pixels for one in shown])
        _show(f"{name}unknown, together", together, shown)


def _changes(others: list[Pixels]) -> dict[str, Change]:
    return {
        "plain": _same,
        "portrait": _portrait,
        "two thirds": _cut,
        "rolled by 20": _rolled,
        "rolled by 90": lambda photo, rng: _quarters(photo, 1),
        "rolled by 180": lambda photo, rng: _quarters(photo, 2),
        "blob on 15%": lambda photo, rng: _blob(photo, rng, others, 0.15),
        "blob on 30%": lambda photo, rng: _blob(photo, rng, others, 0.30),
        "blob on 45%": lambda photo, rng: _blob(photo, rng, others, 0.45),
        "quarter of the light": lambda photo, rng: _dark(photo, rng, 0.25, 4.0),
        "evening": lambda photo, rng: _evening(photo, rng, others),
    }


def _show(name: str, estimates: list, shown: list[Photo]) -> None:  # type: ignore[type-arg]
    errors, within, focals = [], [], []
    for found, photo in zip(estimates, shown, strict=True):
        if found.world_from_cam is None:
            continue
        true = photo.world_from_cam
        errors.append(
            (
                position_error(found.world_from_cam, true),
                rotation_error_deg(found.world_from_cam, true),
            )
        )
        sigma = SigmaError.of(found.world_from_cam, found.covariance, true)
        within.append((sigma.position <= _RADIUS, sigma.rotation <= _RADIUS))
        focals.append(found.camera.focal_px / photo.camera.focal_px)
    refused = len(shown) - len(errors)
    if not errors:
        print(f"{name:26}{'-':>9}{'-':>7}{refused:>9}{0:>7}", flush=True)
        return
    position, rotation = np.median(errors, axis=0)
    wrong = int((np.array(errors) > _WRONG).any(axis=1).sum())
    inside = "{:.0%} {:.0%}".format(*np.mean(within, axis=0))
    print(
        f"{name:26}{position:>9.4f}{rotation:>7.2f}{refused:>9}{wrong:>7}{inside:>12}"
        f"{np.median(focals):>8.2f}",
        flush=True,
    )


# -- changes ------------------------------------------------------------------------------------


def _same(photo: Photo, _: np.random.Generator) -> Photo:
    return photo


def _part(photo: Photo, width: int, height: int) -> Photo:
    """The middle of it."""
    left, top = (photo.camera.width - width) // 2, (photo.camera.height - height) // 2
    matrix = photo.camera.calibration_matrix
    x, y = matrix[0, 2] - left, matrix[1, 2] - top
    whole = _pinhole(photo)
    camera = Camera("PINHOLE", width, height, (matrix[0, 0], matrix[1, 1], x, y))
    part = np.ascontiguousarray(whole[top : top + height, left : left + width])
    return Photo(part, camera, photo.world_from_cam)


def _pinhole(photo: Photo) -> Pixels:
    """Its pixels without the lens's distortion."""
    matrix, camera = photo.camera.calibration_matrix, photo.camera
    params = (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
    pinhole = Camera("PINHOLE", camera.width, camera.height, params)
    return (
        photo.pixels if camera.model.endswith("PINHOLE") else warp(photo.pixels, camera, pinhole)[0]
    )


def _portrait(photo: Photo, _: np.random.Generator) -> Photo:
    width, height = photo.camera.width, photo.camera.height
    if height > width:
        return photo
    return _part(photo, round(height * 3 / 4), height)


def _cut(photo: Photo, _: np.random.Generator) -> Photo:
    return _part(photo, round(photo.camera.width * 2 / 3), round(photo.camera.height * 2 / 3))


def _about_axis(degrees: float) -> NDArray[np.float64]:
    """Rotation [3, 3] from the camera's axes to those of one that is rolled."""
    angle = np.radians(degrees)
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _rolled_pose(photo: Photo, rolled_from_cam: NDArray[np.float64]) -> Rigid3:
    pose = photo.world_from_cam
    return Rigid3(pose.rotation @ rolled_from_cam.T, pose.translation)


def _rolled(photo: Photo, _: np.random.Generator) -> Photo:
    whole = _part(photo, photo.camera.width, photo.camera.height)
    turn = _about_axis(20.0)
    pixels, _seen = warp(whole.pixels, whole.camera, whole.camera, turn)
    return Photo(pixels, whole.camera, _rolled_pose(photo, turn))


def _quarters(photo: Photo, count: int) -> Photo:
    """Turned by so many quarters: what was up is to the right after one."""
    whole = _part(photo, photo.camera.width, photo.camera.height)
    pixels, camera, pose = whole.pixels, whole.camera, photo
    for _ in range(count):
        fx, fy, x, y = camera.params
        height = camera.height
        pixels = np.ascontiguousarray(np.rot90(pixels, -1))
        camera = Camera("PINHOLE", camera.height, camera.width, (fy, fx, height - y, x))
        # The rolled camera's x is minus the old y, its y the old x.
        turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        pose = Photo(pixels, camera, _rolled_pose(pose, turn))
    return pose


def _blob(photo: Photo, rng: np.random.Generator, others: list[Pixels], share: float) -> Photo:
    """An ellipse of another place over it, of this share of its area."""
    height, width = photo.pixels.shape[:2]
    other = others[int(rng.integers(len(others)))]
    other = np.asarray(cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    shape = float(np.exp(rng.uniform(-0.4, 0.4)))
    along = np.sqrt(share / np.pi) * np.array([shape, 1 / shape])
    middle = rng.uniform(np.minimum(along, 0.5), np.maximum(1 - along, 0.5))
    y, x = np.mgrid[:height, :width]
    away = [(x / width - middle[0]) / along[0], (y / height - middle[1]) / along[1]]
    covered = (away[0] ** 2 + away[1] ** 2 < 1)[..., None]
    return Photo(np.where(covered, other, photo.pixels), photo.camera, photo.world_from_cam)


def _dark(photo: Photo, rng: np.random.Generator, light: float, noise: float) -> Photo:
    """With a share of the light: pixel values are about its root 2.2; and noise, of 255."""
    values = photo.pixels / 255.0
    values = 255 * (light * values**2.2) ** (1 / 2.2) + noise * rng.normal(size=values.shape)
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return Photo(pixels, photo.camera, photo.world_from_cam)


def _evening(photo: Photo, rng: np.random.Generator, others: list[Pixels]) -> Photo:
    soft = np.asarray(cv2.GaussianBlur(photo.pixels, (0, 0), photo.camera.width / 640), np.uint8)
    with_person = _blob(Photo(soft, photo.camera, photo.world_from_cam), rng, others, 0.15)
    return _dark(with_person, rng, 0.5, 6.0)


def _others(folder: Path | None) -> list[Pixels]:
    if folder is not None:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".png"})
        read = [cv2.imread(str(path)) for path in paths[:20]]
        return [np.ascontiguousarray(one[..., ::-1]) for one in read if one is not None]
    rng = np.random.default_rng(1)
    small = [rng.integers(0, 256, (12, 16, 3), dtype=np.uint8) for _ in range(8)]
    big = [cv2.resize(one, (640, 480), interpolation=cv2.INTER_CUBIC) for one in small]
    return [np.asarray(one, np.uint8) for one in big]


if __name__ == "__main__":
    with progress.shown():
        main(tyro.cli(Arguments))
