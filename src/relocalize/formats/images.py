"""Finding the images that a registration speaks of, and bringing them into a Place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from relocalize import progress
from relocalize.capture.exif import read_exif
from relocalize.errors import FormatError, ImageError
from relocalize.formats.lenses import LARGEST_SIDE
from relocalize.formats.names import (
    NameMatch,
    match_names,
    match_numbers,
    match_times,
    seconds_of,
    stem,
)
from relocalize.formats.posed_images import place_image
from relocalize.formats.registration import Registration
from relocalize.geometry import Camera
from relocalize.parallel import map_in_order
from relocalize.place import DroppedFrame
from relocalize.place.captures import Fix
from relocalize.place.image_file import SIDES_EXCHANGED, image_size, open_image, rgb, upright

IMAGE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
)
_LATEST_COUNT = 1e8  # frames; whole seconds beyond it are a date
_SAID = 5  # lines said of each kind of problem; all of them are in the capture's record
# A turned JPEG has to be coded again; colours in full resolution keep what a turn would blur.
_JPEG_QUALITY = 95

# Which pixels of its images a file's poses are of: as they are stored in the files, or turned
# upright by their EXIF orientation.
STORED, UPRIGHT = "as stored", "upright by EXIF orientation"


@dataclass(frozen=True)
class Header:
    """What an image's file says."""

    width: int  # of the pixels as stored
    height: int  # likewise
    orientation: int  # of EXIF
    camera: Camera | None  # by the EXIF focal length, where the file has one
    gps: Fix | None  # where it says that it was taken

    def size(self, pixels: str) -> tuple[int, int]:
        """Width and height of the pixels `STORED` or `UPRIGHT`."""
        turned = pixels == UPRIGHT and self.orientation in SIDES_EXCHANGED
        return (self.height, self.width) if turned else (self.width, self.height)


@dataclass(frozen=True)
class ImageFile:
    """An image to import: its listed name, its file, and what the poses' tool saw of it."""

    listed: str  # its name in the registration
    file: Path  # where it lies
    name: str  # its path below the folder of images
    width: int  # of the pixels that the pose is of
    height: int  # likewise
    camera: Camera  # of these pixels
    header: Header  # of the file
    turned: bool  # whether these pixels are not the stored ones, but turned by the orientation

    def opened(self) -> Image.Image:
        """The image that the pose is of; raises `ImageError`."""
        image = open_image(self.file)
        return upright(image) if self.turned else image

    def place(self, target: Path) -> None:
        """Link the file to ``target``; where it has to be turned, write it turned."""
        if not self.turned:
            place_image(self.file, target)
            return
        # Pixels alone: no orientation may come along.
        image = Image.fromarray(rgb(self.opened()))
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix.lower() in {".jpg", ".jpeg"}:
            image.save(target, quality=_JPEG_QUALITY, subsampling=0)
        else:
            image.save(target)


@dataclass(frozen=True)
class FoundImages:
    """What `find_images` found."""

    usable: list[ImageFile]  # images with a pose, in the natural order of their names
    absent: tuple[str, ...]  # listed images without an image
    # by listed name that could mean several images, a line that says which
    ambiguous: dict[str, str]
    # images with a pose that are damaged or of another shape than their camera
    unusable: tuple[DroppedFrame, ...]
    unposed: tuple[DroppedFrame, ...]  # images without a pose
    unmatched: dict[str, str]  # of these, by name, why no pose of a trajectory is theirs
    pixels: str = STORED  # `STORED` or `UPRIGHT`: what the poses are of
    # what says so; None where nothing yet does, and it makes a difference
    pixels_from: str | None = "no image has an EXIF orientation"

    @property
    def left_out(self) -> tuple[DroppedFrame, ...]:
        """All images that cannot be used, with the reason."""
        return (*self.unusable, *self.unposed)

    def below(self, folder: str) -> FoundImages:
        """The same, the images' names below ``folder``."""
        usable = [replace(image, name=f"{folder}/{image.name}") for image in self.usable]
        return replace(self, usable=usable)

    def say(self, registration: Registration) -> None:
        """Say what is missing or left out, and the first few of each."""
        say_some([f"{d.source}: {d.reason}" for d in self.unusable], "images were left out")
        self._say_scaled(registration)
        for line in self.outside():
            progress.say(line)
        turned = sum(image.header.orientation != 1 for image in self.usable)
        if turned:
            because = self.pixels_from or "this was not tested"
            progress.say(f"{turned} images have an EXIF orientation; read {self.pixels}: {because}")
        unmatched = [f"{name}: {why}" for name, why in self.unmatched.items()]
        say_some(unmatched, "images have no pose")
        if not registration.times:  # a trajectory has more poses than images, as it should
            say_some(self.absent, "listed images have no image and were left out")
        say_some(
            tuple(self.ambiguous.values()),
            "listed names could mean several images and were left out",
        )

    def _say_scaled(self, registration: Registration) -> None:
        """Say where the images are not of the size that their cameras have."""
        scaled: Counter[tuple[int, int, int, int]] = Counter()
        for image in self.usable:
            index = registration.poses[image.listed][1]
            camera = None if index is None else registration.cameras[index]
            if isinstance(camera, Camera) and camera.width != image.width:
                scaled[camera.width, camera.height, image.width, image.height] += 1
        for (width, height, *size), count in scaled.most_common(1):
            progress.say(
                f"{scaled.total()} images have another size than their cameras, such as {count} "
                f"of {size[0]} x {size[1]} whose camera has {width} x {height}: intrinsics are "
                "scaled; where the poses are of undistorted or cropped images, give those"
            )

    def outside(self) -> list[str]:
        """A line where principal points are beyond the images, as of images of another size."""
        found = [
            (image, x, y)
            for image in self.usable
            for x, y in [image.camera.principal_point]
            if not (0 < x < image.width and 0 < y < image.height)
        ]
        return [
            f"{len(found)} images have a principal point outside of them, such as ({x:g}, {y:g}) "
            f"of {image.width} x {image.height} pixels: are the intrinsics those of another image "
            "size?"
            for image, x, y in found[:1]
        ]


def find_images(registration: Registration, images: Path) -> FoundImages:
    """The images of a registration below the folder ``images``, each decoded once.

    Where images have an EXIF orientation, the sizes of the claimed cameras say whether the poses
    are of their pixels as stored or upright; where they do not, that is left open.

    Raises:
        FormatError: there is no such folder, or no usable image with a pose in it.
    """
    if not images.is_dir():
        raise FormatError(f"{images} is no folder; --images takes the folder with the images")
    found = {
        path.relative_to(images).as_posix(): path
        for path in sorted(images.rglob("*"))
        if path.suffix.lower() in IMAGE_ENDINGS and path.is_file()
    }
    # Hidden ones are other programs' thumbnails and leavings, unless all are.
    files = {name: path for name, path in found.items() if not f"/{name}".count("/.")} or found
    match = match_images(registration, files, below=images.resolve())
    unusable: list[DroppedFrame] = []
    headers: dict[str, Header] = {}
    looked = map_in_order(_header, [files[name] for name in match.present_of.values()])
    tracked = progress.track(looked, "images", total=len(match.present_of))
    for (listed, present), header in zip(match.present_of.items(), tracked, strict=True):
        if isinstance(header, str):
            unusable.append(DroppedFrame(present, header))
        else:
            headers[listed] = header
    pixels, pixels_from = _pixels(registration, headers)
    usable: list[ImageFile] = []
    for listed, header in headers.items():
        present = match.present_of[listed]
        image = _image_file(registration, listed, files[present], present, header, pixels)
        if isinstance(image, str):
            unusable.append(DroppedFrame(present, image))
        else:
            usable.append(image)
    if not usable:
        raise FormatError(_nothing_usable(registration, images, files, match, unusable))
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
        pixels=pixels,
        pixels_from=pixels_from,
    )


def reread(
    registration: Registration, files: FoundImages, pixels: str, pixels_from: str | None
) -> FoundImages:
    """The same images with their pixels `STORED` or `UPRIGHT`, and what says so."""
    usable = []
    for image in files.usable:
        one = image.listed, image.file, image.name, image.header
        other = _image_file(registration, *one, pixels)
        if isinstance(other, ImageFile):
            usable.append(other)
    return replace(files, usable=usable, pixels=pixels, pixels_from=pixels_from)


def _nothing_usable(
    registration: Registration,
    folder: Path,
    files: Iterable[str],
    match: NameMatch,
    unusable: Sequence[DroppedFrame],
) -> str:
    files = sorted(files)
    why = ""
    if unusable:
        why = f"; {unusable[0].source}: {unusable[0].reason}"
    elif match.ambiguous:
        why = f"; {next(iter(match.ambiguous.values()))}"
    elif match.why:
        name, reason = next(iter(match.why.items()))
        why = f"; {name}: {reason}"
    return (
        f"none of the {len(registration.poses)} images of {registration.source} has a usable "
        f"image among the {len(files)} in {folder}; a listed name is "
        f"{next(iter(registration.poses))!r}" + (f", an image is {files[0]!r}" if files else "")
    ) + why


def _header(path: Path) -> Header | str:
    """What a file that can be decoded whole says, or why it cannot be used."""
    try:
        image = open_image(path, at_least=(1, 1))
        width, height = image_size(path)  # which a JPEG decoded small has lost
    except ImageError as error:
        return str(error).removeprefix(f"photo {path} ")
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        return f"an image of {width} x {height} pixels"
    exif = read_exif(image)
    return Header(width, height, exif.orientation, exif.camera(width, height), exif.gps)


def _pixels(registration: Registration, headers: dict[str, Header]) -> tuple[str, str | None]:
    """Which pixels the claimed sizes say that the poses are of, and that they do."""
    turned = {listed: header for listed, header in headers.items() if header.orientation != 1}
    if not turned:
        return STORED, "no image has an EXIF orientation"
    fits = {
        pixels: sum(
            _size_fault(registration, listed, header.size(pixels)) is None
            for listed, header in turned.items()
        )
        for pixels in (STORED, UPRIGHT)
    }
    if fits[STORED] == fits[UPRIGHT]:
        return STORED, None
    return max(fits, key=lambda pixels: fits[pixels]), "the sizes of the cameras"


def _image_file(
    registration: Registration, listed: str, file: Path, name: str, header: Header, pixels: str
) -> ImageFile | str:
    """The image as the poses' tool saw it, or why it cannot be that."""
    width, height = header.size(pixels)
    fault = _size_fault(registration, listed, (width, height))
    if fault is not None:
        return fault + (
            f" (EXIF orientation {header.orientation}: stored as {header.width} x {header.height})"
            if header.orientation != 1
            else ""
        )
    camera = registration.camera_of(listed, width, height)
    if camera.known == "unknown" and registration.poses[listed][1] is None and header.camera:
        camera = Camera.from_focal(width, height, header.camera.focal_px)
    turned = pixels == UPRIGHT and header.orientation != 1
    return ImageFile(listed, file, name, width, height, camera, header, turned)


def match_images(
    registration: Registration, files: Iterable[str], *, below: Path | None = None
) -> NameMatch:
    """Which pose is which image's below a folder: by name, time or number, as the file has it."""
    front = "" if below is None else below.as_posix()
    files = list(files)
    numbers = {index: name for name in files if (index := frame_index(name)) is not None}
    if registration.times:
        match = match_times(registration.times, files)
        counts = _counts(registration.times)
        # Seconds that are whole are frames' numbers where most frames have a pose.
        if match.present_of or 2 * len(counts) < len(numbers) or not counts:
            return match
        _refuse_other_numbers(registration.source, set(counts.values()), numbers)
        return match_numbers(counts, files)
    if not all(re.fullmatch(r"[0-9]{1,18}", name) for name in registration.poses):
        match = match_names(registration.poses, files, below=front)
        by_order = registration.in_order and not match.present_of
        return _match_order(registration, files) if by_order else match
    rows = {name: int(name) for name in registration.poses}
    if registration.in_order and numbers.keys() == {row + 1 for row in rows.values()}:
        return NameMatch({name: numbers[row + 1] for name, row in rows.items()}, {}, ())
    _refuse_other_numbers(registration.source, set(rows.values()), numbers)
    match = match_names(registration.poses, files, below=front)
    return match if match.present_of else match_numbers(rows, files)


def _counts(times: Mapping[str, float]) -> dict[str, int]:
    """The times as numbers of frames, as DROID-SLAM and DPVO write them; none where one is not."""
    whole = all(time == int(time) and time < _LATEST_COUNT for time in times.values())
    return {name: int(time) for name, time in times.items()} if whole else {}


def _refuse_other_numbers(source: str, rows: set[int], numbers: Mapping[int, str]) -> None:
    """Raise where images, by their number, seem to count otherwise than poses told by numbers.

    A list of rows is easily shifted: by one against images that count from 1, or as the images are
    those frames of a video, or nodes of a graph, that the rows are of.
    """
    if rows == numbers.keys() or len(numbers) < 2 or not rows & numbers.keys():
        return
    from_1 = 0 in rows and 0 not in numbers and 1 in numbers
    # A trajectory may end before its images do: then all of its poses have one, or there are few
    # images, of far apart frames.
    as_many = 2 * len(numbers) > len(rows)
    beyond = max(numbers) > max(rows) and as_many and not rows <= numbers.keys()
    if from_1 or beyond:
        raise FormatError(
            f"{source} numbers its {len(rows)} poses {min(rows)} to {max(rows)}, and "
            f"{len(numbers)} images end in the numbers {min(numbers)} to {max(numbers)}, such as "
            f"{numbers[max(numbers)]!r}: which is the first pose's? rename the images to the "
            "poses' numbers"
        )


def _match_order(registration: Registration, files: Sequence[str]) -> NameMatch:
    """Poses without names and as many images, in the order of their names."""
    if len(files) != len(registration.poses):
        raise FormatError(
            f"{registration.source} has {len(registration.poses)} poses and no names, and its "
            f"images are told by their order; --images has {len(files)}, want exactly these "
            f"{len(registration.poses)}"
        )
    return NameMatch(dict(zip(registration.poses, sorted(files), strict=True)), {}, ())


def _size_fault(registration: Registration, listed: str, size: tuple[int, int]) -> str | None:
    """Why an image cannot be a resized version of what the camera took, or None."""
    width, height = size
    index = registration.poses[listed][1]
    camera = None if index is None else registration.cameras[index]
    if not isinstance(camera, Camera):
        return None
    stretch = (width / camera.width) / (height / camera.height)
    # Rounding to whole pixels changes the shape of a 100 pixel thumbnail by 1%.
    if abs(stretch - 1) <= 0.02:
        return None
    return f"{width} x {height} pixels, but its camera has {camera.width} x {camera.height}"


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts names by their numbers: frame-9 before frame-10."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts))


def frame_index(name: str) -> int | None:
    """The number at the end of an image's stem, or None."""
    if seconds_of(stem(name)) is not None:  # a time, whose digits count nothing
        return None
    digits = re.search(r"(\d{1,18})$", stem(name))
    return int(digits.group(1)) if digits else None


def say_some(lines: Sequence[str], what: str) -> None:
    """Say how many things went wrong, and the first few of them."""
    if lines:
        more = f", and {len(lines) - _SAID} more" if len(lines) > _SAID else ""
        progress.say(f"{len(lines)} {what}: " + "; ".join(lines[:_SAID]) + more)
