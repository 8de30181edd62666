"""Finding the images that a registration speaks of, and bringing them into a Place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from relocalize import progress
from relocalize.errors import FormatError
from relocalize.formats.lenses import LARGEST_SIDE
from relocalize.formats.names import NameMatch, match_names, match_numbers, match_times
from relocalize.formats.registration import Registration
from relocalize.geometry import Camera
from relocalize.place import DroppedFrame

# What `Place.read_image` decodes.
IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_SAID = 5  # lines said of each kind of problem; all of them are in the capture's record
# What Pillow raises on a file that is no image, or not one to be believed.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    UnidentifiedImageError,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class ImageFile:
    """An image to import: its listed name, file, and place below ``images/``."""

    listed: str
    file: Path
    name: str
    width: int
    height: int


@dataclass(frozen=True)
class FoundImages:
    """What `find_images` found.

    Attributes:
        usable: images with a pose, in the natural order of their names.
        absent: listed images without an image.
        ambiguous: listed images whose name could mean several images.
        unusable: images with a pose that are damaged or of another shape than their camera.
        unposed: images without a pose.
        unmatched: of these, by name, why no pose of a trajectory is theirs.
    """

    usable: list[ImageFile]
    absent: tuple[str, ...]
    ambiguous: tuple[str, ...]
    unusable: tuple[DroppedFrame, ...]
    unposed: tuple[DroppedFrame, ...]
    unmatched: dict[str, str]

    @property
    def left_out(self) -> tuple[DroppedFrame, ...]:
        """All images that cannot be used, with the reason."""
        return (*self.unusable, *self.unposed)

    def say(self, registration: Registration) -> None:
        """Say what is missing or left out, and the first few of each."""
        say_some([f"{d.source}: {d.reason}" for d in self.unusable], "images were left out")
        unmatched = [f"{name}: {why}" for name, why in self.unmatched.items()]
        say_some(unmatched, "images have no pose")
        if not registration.times:  # a trajectory has more poses than images, as it should
            say_some(self.absent, "listed images have no image and were left out")
        say_some(self.ambiguous, "listed names could mean several images and were left out")


def find_images(registration: Registration, images: Path, capture: str) -> FoundImages:
    """The images of a registration below the folder ``images``.

    Raises:
        FormatError: there is no such folder, or no usable image with a pose in it.
    """
    if not images.is_dir():
        raise FormatError(f"{images} is no folder; --images takes the folder with the images")
    files = {
        path.relative_to(images).as_posix(): path
        for path in sorted(images.rglob("*"))
        if path.suffix.lower() in IMAGE_ENDINGS and path.is_file()
    }
    match = match_images(registration, files)
    unusable: list[DroppedFrame] = []
    usable: list[ImageFile] = []
    for listed, present in progress.track(match.present_of.items(), "image headers"):
        try:
            width, height = image_size(files[present])
            _check_size(registration, listed, width, height)
        except ValueError as error:
            unusable.append(DroppedFrame(present, str(error)))
            continue
        usable.append(ImageFile(listed, files[present], f"{capture}/{present}", width, height))
    if not usable:
        why = f"; {unusable[0].source} has {unusable[0].reason}" if unusable else ""
        raise FormatError(
            f"none of the {len(registration.poses)} images of {registration.source} has a usable "
            f"image among the {len(files)} in {images}; a listed name is "
            f"{next(iter(registration.poses))!r}"
            + (f", an image is {min(files)!r}" if files else "")
            + why
        )
    unused = sorted(set(files) - set(match.present_of.values()), key=natural_key)
    return FoundImages(
        usable=sorted(usable, key=lambda image: natural_key(image.name)),
        absent=match.absent,
        ambiguous=match.ambiguous,
        unusable=tuple(unusable),
        unposed=tuple(
            DroppedFrame(name, match.why.get(name, f"no pose in {registration.source}"))
            for name in unused
        ),
        unmatched=match.why,
    )


def match_images(registration: Registration, files: Iterable[str]) -> NameMatch:
    """Which pose is which image's: by name, by time, or by number, as the file has it."""
    if registration.times:
        return match_times(registration.times, files)
    if not all(re.fullmatch(r"[0-9]{1,18}", name) for name in registration.poses):
        return match_names(registration.poses, files)
    # Rows that are numbers are easily shifted by one against images that count from 1.
    rows = {int(name) for name in registration.poses}
    numbers = {frame_index(name) for name in files} - {None}
    if len(rows) == len(numbers) > 1 and rows != numbers and len(rows & numbers) > len(rows) / 2:
        raise FormatError(
            f"{registration.source} numbers its {len(rows)} poses {min(rows)} to {max(rows)}, and "
            f"as many images end in other numbers, such as {max(files)!r}: which is the first "
            "pose's? rename the images to the poses' numbers"
        )
    match = match_names(registration.poses, files)
    return match if match.present_of else match_numbers(registration.poses, files)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height from the image's header.

    Raises:
        ValueError: it cannot be read, or says a side that no image has.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
    except UNREADABLE as error:
        raise ValueError(f"no readable image ({type(error).__name__})") from error
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        raise ValueError(f"an image of {width} x {height} pixels")
    return width, height


def _check_size(registration: Registration, listed: str, width: int, height: int) -> None:
    """Refuse an image that cannot be a resized version of what the camera took."""
    index = registration.poses[listed][1]
    camera = None if index is None else registration.cameras[index]
    if not isinstance(camera, Camera):
        return
    stretch = (width / camera.width) / (height / camera.height)
    # Rounding to whole pixels changes the shape of a 100 pixel thumbnail by 1%.
    if abs(stretch - 1) > 0.02:
        raise ValueError(
            f"{width} x {height} pixels, but its camera has {camera.width} x {camera.height}"
        )


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts names by their numbers: frame-9 before frame-10."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts))


def frame_index(name: str) -> int | None:
    """The number at the end of an image's stem, or None."""
    digits = re.search(r"(\d{1,18})$", Path(name).name.split(".", 1)[0])
    return int(digits.group(1)) if digits else None


def say_some(lines: Sequence[str], what: str) -> None:
    """Say how many things went wrong, and the first few of them."""
    if lines:
        more = f", and {len(lines) - _SAID} more" if len(lines) > _SAID else ""
        progress.say(f"{len(lines)} {what}: " + "; ".join(lines[:_SAID]) + more)
