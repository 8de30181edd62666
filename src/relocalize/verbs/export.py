"""Writing a Place's posed images for another tool, in any format that can be written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from relocalize import progress
from relocalize.errors import FormatError
from relocalize.formats.lenses import LARGEST_SIDE
from relocalize.formats.posed_images import CAMERAS_FILE, PosedImages
from relocalize.formats.registry import FORMATS, Format
from relocalize.formats.resizing import ASPECTS, Aspect, Resizing
from relocalize.place import MapModel, Place, PosedImage, Split
from relocalize.place.folder import METRE
from relocalize.plain import to_plain

AUTO, NONE = "auto", "none"
_JPEG_QUALITY = 95
_MEAN = "mean"  # file name of the mean image, without its ending


@dataclass(frozen=True, repr=False)
class ExportReport:
    """What came of an export.

    Attributes:
        out: the file or folder written.
        format: the format's name.
        images: images written.
        train: of them, those listed as train.
        test: likewise.
        split: the split's name, or None.
        not_in_split: posed images that the split leaves out of both sides.
        resized: per size and shape of image, what happened to it.
        mean_image_of: how many train images the mean image is of, or None.
        points: map points that were there to be written.
        unit: of the poses.
        remarks: what the format has no place for.
    """

    out: str
    format: str
    images: int
    train: int
    test: int
    split: str | None
    not_in_split: int
    resized: tuple[str, ...]
    mean_image_of: int | None
    points: int
    unit: str
    remarks: tuple[str, ...]

    def __repr__(self) -> str:
        return f"ExportReport({self.images} images in {self.out} as {self.format})"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        values: dict[str, Any] = to_plain(self)
        return values


def export(
    place: Place | str | Path,
    out: str | Path,
    format: str,
    *,
    split: str = AUTO,
    capture: str | None = None,
    resize: tuple[int, int] | None = None,
    aspect: Aspect = "crop",
    mean_image: bool = False,
) -> ExportReport:
    """Write posed images of a Place in another tool's format.

    The result is whole or not there. The Place is only read.

    Args:
        place: the Place or its folder.
        out: file or folder to make; where it is there, it has to be an empty folder.
        format: a key of `FORMATS` that can be written.
        split: name of the split whose images are exported as train and test; ``auto`` takes the
            only one there is where the format says which image is which, and every posed image
            where it does not; ``none`` exports every posed image and no lists.
        capture: only its images; None is all.
        resize: width and height of the exported images; None keeps them.
        aspect: what gives where the shapes differ: ``crop`` (the default, because it keeps the
            shape of things and fills every pixel, as networks want it), ``pad`` or ``stretch``.
        mean_image: whether the mean of the train images is written beside them.

    Raises:
        FormatError: the format cannot be written, there is nothing to write, ``out`` holds
            something, or an image or camera cannot be resized.
        PlaceError: there is no Place, map, capture or split of that name.
    """
    chosen, write = _writer(format)
    if aspect not in ASPECTS:
        raise FormatError(f"unknown aspect {aspect!r}; want {', '.join(ASPECTS)}")
    if resize is not None and not all(1 <= side <= LARGEST_SIDE for side in resize):
        width, height = resize
        raise FormatError(f"images of {width}x{height} pixels; want sides of 1 to {LARGEST_SIDE}")
    place, out = Place.of(place), Path(out)
    _check_out(place, out)
    cut = _split(place, split, chosen)
    posed, not_in_split = _posed_images(place, cut, capture)
    if cut is not None and not_in_split:
        progress.say(
            f"{not_in_split} posed images are in neither side of split {cut.name} and are left "
            f"out; --split {NONE} exports all"
        )
    sizes = sorted({(one.width, one.height) for one in posed.model.cameras.values()})
    changes = {size: Resizing.to(size, resize, aspect) for size in sizes if resize is not None}
    with _unfinished(out) as aside:
        mean = _mean_image(place, posed, changes) if mean_image else None
        if changes:
            posed = _resized(place, posed, changes, aside / "images")
        whole = aside / "whole" / out.name
        whole.parent.mkdir()
        write(posed, whole)
        if mean is not None:
            _write_mean(mean, whole, chosen.name)
        if out.is_dir():
            out.rmdir()
        whole.rename(out)
    return ExportReport(
        out=str(out),
        format=chosen.name,
        images=len(posed.model.images),
        train=len(posed.train),
        test=len(posed.test),
        split=None if cut is None else cut.name,
        not_in_split=not_in_split,
        resized=tuple(dict.fromkeys(change.description for change in changes.values())),
        mean_image_of=None if mean is None else len(posed.training),
        points=len(posed.model.points),
        unit=posed.unit,
        remarks=tuple(_lost(chosen, posed)),
    )


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """A hidden folder on the disk of ``out``, which becomes it in one step.

    What a kill leaves of it is cleared away by the next export to the same place.
    """
    aside = out.resolve().with_name(f".writing-{out.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


# -- what is asked for -----------------------------------------------------------------------


def _writer(format_name: str) -> tuple[Format, Callable[[PosedImages, Path], None]]:
    known = FORMATS.get(format_name)
    if known is None or known.write is None:
        what = "unknown format" if known is None else "relocalize reads and does not write"
        writable = ", ".join(name for name, one in FORMATS.items() if one.write is not None)
        raise FormatError(f"{what} {format_name!r}; it writes {writable}")
    return known, known.write


def _lost(chosen: Format, posed: PosedImages) -> Iterator[str]:
    """What a reader of the written files cannot know."""
    cameras_of = [image.camera for image in posed.model.images.values()]
    for known, what in (("unknown", "nobody stated"), ("approximate", "is known approximately")):
        guessed = [camera for camera in cameras_of if camera.known == known]
        if guessed:
            yield (
                f"{len(guessed)} images have a focal length that {what}, such as "
                f"{guessed[0].focal_px:.4g} px: relocalize map estimates it; export after that"
            )
    if chosen.poses_only:
        cameras = list(posed.model.cameras.values())
        more = f" and {len(cameras) - 1} more" if len(cameras) > 1 else ""
        one = cameras[0]
        params = ", ".join(f"{value:.9g}" for value in one.params)
        yield (
            f"a {chosen.name} has no place for intrinsics, which are "
            f"{one.model} {one.width}x{one.height} ({params}){more}: "
            f"they are beside it in {CAMERAS_FILE}, which relocalize reads and other tools do not"
        )
    if chosen.poses_only and posed.unit != METRE:
        yield f"other tools read a {chosen.name} as metres, and these are {posed.unit}s"


def _check_out(place: Place, out: Path) -> None:
    if out.resolve().is_relative_to(place.root.resolve()):
        raise FormatError(f"{out} lies in the Place {place.root}; give a folder outside of it")
    if out.is_dir():
        if any(out.iterdir()):
            raise FormatError(f"{out} is not empty; give a new or empty folder")
    elif out.exists():
        raise FormatError(f"{out} is there already; give a name that is not")


def _split(place: Place, name: str, chosen: Format) -> Split | None:
    if name == AUTO and not chosen.lists:
        return None  # what cannot say who is train and test is given all images
    if name == NONE or (name == AUTO and not place.split_names):
        return None
    if name == AUTO and len(place.split_names) > 1:
        raise FormatError(
            f"{place.root} has the splits {', '.join(place.split_names)}: name one with --split, "
            f"or --split {NONE} for every posed image and no lists"
        )
    return place.split(None if name == AUTO else name)


def _posed_images(
    place: Place, split: Split | None, capture: str | None
) -> tuple[PosedImages, int]:
    """The images to write, and how many posed images belong to neither side of the split."""
    if capture is not None:
        place.capture(capture)
    names = [name for name in place.map.images if capture in {None, name.split("/", 1)[0]}]
    listed = set(names) if split is None else {*split.train, *split.test}
    kept = [name for name in names if name in listed]
    if not kept:
        raise FormatError(
            f"none of the {len(place.map.images)} posed images of {place.root} is in "
            + (f"capture {capture}" if capture else "the export")
            + (f" and in split {split.name}" if split else "")
        )
    files = {name: place.image_path(name) for name in kept}
    missing = [name for name, file in files.items() if not file.is_file()]
    if missing:
        raise FormatError(f"{len(missing)} images are missing, such as {files[missing[0]]}")
    chosen = set(kept)
    posed = PosedImages(
        model=place.map.only(kept),
        files=files,
        unit=place.unit,
        train=() if split is None else tuple(name for name in split.train if name in chosen),
        test=() if split is None else tuple(name for name in split.test if name in chosen),
        times={
            image.name: image.time_s
            for _, image in place.images()
            if image.name in chosen and image.time_s is not None
        },
    )
    return posed, len(names) - len(kept)


# -- other sizes -----------------------------------------------------------------------------


def _resized(
    place: Place, posed: PosedImages, changes: dict[tuple[int, int], Resizing], folder: Path
) -> PosedImages:
    """The same images in another size, which are written below ``folder``."""
    images: dict[str, PosedImage] = {}
    for name, image in progress.track(posed.model.images.items(), "images resized"):
        change = changes[image.camera.width, image.camera.height]
        _write_image(folder / name, change.pixels(place.read_image(name)))
        points = change.points(image.keypoints)
        inside = np.all((points >= 0) & (points <= change.new_size), axis=1)
        images[name] = replace(
            image,
            camera=change.camera(image.camera),
            keypoints=points[inside],
            point_rows=image.point_rows[inside],
        )
    return replace(
        posed,
        model=MapModel(images, posed.model.points).only(images),
        files={name: folder / name for name in posed.files},
    )


def _write_image(path: Path, rgb: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_jpeg = path.suffix.lower() in {".jpg", ".jpeg"}
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if is_jpeg else []
    try:
        done, data = cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    except cv2.error:  # an ending that OpenCV does not write
        done = False
    if not done:
        raise FormatError(f"images ending in {path.suffix!r} cannot be written in another size")
    path.write_bytes(data.tobytes())


def _mean_image(
    place: Place, posed: PosedImages, changes: dict[tuple[int, int], Resizing]
) -> NDArray[np.float32]:
    """The mean [H, W, 3] of the train images in the size in which they are written, RGB."""
    names = posed.training
    cameras = [posed.model.images[name].camera for name in names]
    sizes = {(camera.width, camera.height) for camera in cameras}
    if not names or (len(sizes) > 1 and not changes):
        said = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)) or "none"
        raise FormatError(f"a mean image needs train images of one size, not {said}; --resize")
    width, height = next(iter(changes.values())).new_size if changes else sizes.pop()
    total = np.zeros((height, width, 3))
    for name, camera in progress.track(list(zip(names, cameras, strict=True)), "mean image"):
        rgb = place.read_image(name)
        if changes:
            rgb = changes[camera.width, camera.height].pixels(rgb)
        if rgb.shape != total.shape:
            raise FormatError(f"{name} has {rgb.shape[1]}x{rgb.shape[0]} pixels, not its camera's")
        total += rgb
    return np.asarray(total / len(names), dtype=np.float32)


def _write_mean(mean: NDArray[np.float32], folder: Path, format_name: str) -> None:
    if not folder.is_dir():
        raise FormatError(f"a {format_name} is one file, with no place for a mean image")
    np.save(folder / f"{_MEAN}.npy", mean)
    _write_image(folder / f"{_MEAN}.png", np.rint(mean).astype(np.uint8))
