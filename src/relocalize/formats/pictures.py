"""Finding the pictures that a registration speaks of, and bringing them into a Place."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from relocalize import progress
from relocalize.errors import FormatError
from relocalize.formats.names import NameMatch, match_names, match_numbers, match_times
from relocalize.formats.registration import Registration
from relocalize.geometry import Camera
from relocalize.place import DroppedFrame, Place, atomic

# What `Place.read_image` decodes.
IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_SAID = 5  # lines said of each kind of problem; all of them are in the capture's record
_LARGEST_SIDE = 65535  # JPEG's limit; a header that says more is not to be believed


@dataclass(frozen=True)
class Picture:
    """A picture to import: its listed name, file, and place below ``images/``."""

    listed: str
    file: Path
    name: str
    width: int
    height: int


@dataclass(frozen=True)
class FoundPictures:
    """What `find_pictures` found.

    Attributes:
        usable: pictures with a pose, in the natural order of their names.
        absent: listed images without a picture.
        ambiguous: listed images whose name could mean several pictures.
        unusable: pictures with a pose that are damaged or of another shape than their camera.
        unposed: pictures without a pose.
        unmatched: of these, by name, why no pose of a trajectory is theirs.
    """

    usable: list[Picture]
    absent: tuple[str, ...]
    ambiguous: tuple[str, ...]
    unusable: tuple[DroppedFrame, ...]
    unposed: tuple[DroppedFrame, ...]
    unmatched: dict[str, str]

    @property
    def left_out(self) -> tuple[DroppedFrame, ...]:
        """All pictures that cannot be used, with the reason."""
        return (*self.unusable, *self.unposed)

    def say(self, registration: Registration) -> None:
        """Say what is missing or left out, and the first few of each."""
        say_some([f"{d.source}: {d.reason}" for d in self.unusable], "pictures were left out")
        unmatched = [f"{name}: {why}" for name, why in self.unmatched.items()]
        say_some(unmatched, "pictures have no pose")
        if not registration.times:  # a trajectory has more poses than pictures, as it should
            say_some(self.absent, "listed images have no picture and were left out")
        say_some(self.ambiguous, "listed names could mean several pictures and were left out")


def find_pictures(registration: Registration, images: Path, capture: str) -> FoundPictures:
    """The pictures of a registration below the folder ``images``.

    Raises:
        FormatError: there is no such folder, or no usable picture with a pose in it.
    """
    if not images.is_dir():
        raise FormatError(f"{images} is no folder; --images takes the folder with the pictures")
    files = {
        path.relative_to(images).as_posix(): path
        for path in sorted(images.rglob("*"))
        if path.suffix.lower() in IMAGE_ENDINGS and path.is_file()
    }
    match = match_pictures(registration, files)
    unusable: list[DroppedFrame] = []
    usable: list[Picture] = []
    for listed, present in progress.track(match.present_of.items(), "picture headers"):
        try:
            width, height = _picture_size(files[present])
            _check_size(registration, listed, width, height)
        except ValueError as error:
            unusable.append(DroppedFrame(present, str(error)))
            continue
        usable.append(Picture(listed, files[present], f"{capture}/{present}", width, height))
    if not usable:
        why = f"; {unusable[0].source} has {unusable[0].reason}" if unusable else ""
        raise FormatError(
            f"none of the {len(registration.poses)} images of {registration.source} has a usable "
            f"picture among the {len(files)} in {images}; a listed name is "
            f"{next(iter(registration.poses))!r}"
            + (f", a picture is {min(files)!r}" if files else "")
            + why
        )
    unused = sorted(set(files) - set(match.present_of.values()), key=natural_key)
    return FoundPictures(
        usable=sorted(usable, key=lambda picture: natural_key(picture.name)),
        absent=match.absent,
        ambiguous=match.ambiguous,
        unusable=tuple(unusable),
        unposed=tuple(
            DroppedFrame(name, match.why.get(name, f"no pose in {registration.source}"))
            for name in unused
        ),
        unmatched=match.why,
    )


def match_pictures(registration: Registration, files: Iterable[str]) -> NameMatch:
    """Which pose is which picture's: by name, by time, or by number, as the file has it."""
    if registration.times:
        return match_times(registration.times, files)
    if not all(re.fullmatch(r"[0-9]{1,18}", name) for name in registration.poses):
        return match_names(registration.poses, files)
    # Rows that are numbers are easily shifted by one against pictures that count from 1.
    rows = {int(name) for name in registration.poses}
    numbers = {frame_index(name) for name in files} - {None}
    if len(rows) == len(numbers) > 1 and rows != numbers and len(rows & numbers) > len(rows) / 2:
        raise FormatError(
            f"{registration.source} numbers its {len(rows)} poses {min(rows)} to {max(rows)}, and "
            f"as many pictures end in other numbers, such as {max(files)!r}: which is the first "
            "pose's? rename the pictures to the poses' numbers"
        )
    match = match_names(registration.poses, files)
    return match if match.present_of else match_numbers(registration.poses, files)


def _picture_size(path: Path) -> tuple[int, int]:
    """Width and height from the picture's header; raises ValueError."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise ValueError(f"no readable picture ({type(error).__name__})") from error
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise ValueError(f"a picture of {width} x {height} pixels")
    return width, height


def _check_size(registration: Registration, listed: str, width: int, height: int) -> None:
    """Refuse a picture that cannot be a resized version of what the camera took."""
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
    """The number at the end of a picture's stem, or None."""
    digits = re.search(r"(\d{1,18})$", Path(name).name.split(".", 1)[0])
    return int(digits.group(1)) if digits else None


def link_pictures(place: Place, found: Sequence[Picture], capture: str) -> None:
    """Hard-link the pictures into ``images/<capture>/``, in one step for every reader."""
    with atomic.new_folder(place.images_dir / capture) as folder:
        for picture in progress.track(found, "pictures into the Place"):
            target = folder / picture.name.removeprefix(f"{capture}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(picture.file.resolve(), target)
            except OSError:  # another disk, or a file system without links
                shutil.copyfile(picture.file, target)


def say_some(lines: Sequence[str], what: str) -> None:
    """Say how many things went wrong, and the first few of them."""
    if lines:
        more = f", and {len(lines) - _SAID} more" if len(lines) > _SAID else ""
        progress.say(f"{len(lines)} {what}: " + "; ".join(lines[:_SAID]) + more)
