"""Bundler's ``bundle.out`` with its list of images, which many tools write.

Source: "Bundler v0.3 User's Manual" (Snavely), "Output format and scene representation": R and t
map the world to a camera with x right, y up, z back; pixels are ``f r(p) p`` with
``r = 1 + k1 |p|^2 + k2 |p|^4``, counted from the image's middle, y up. The middle is that of the
image, half its width and height from its corner: Bundler subtracts (width - 1) / 2 from keypoints
that count from the first pixel's centre. A camera whose focal length is 0 was not registered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from relocalize import progress
from relocalize.errors import FormatError, ImageError
from relocalize.formats.lenses import (
    LARGEST_SIDE,
    LARGEST_TERM,
    LONGEST_FOCAL,
    SizelessCamera,
    brown_camera,
)
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.text import first_lines, floats, read_lines
from relocalize.formats.tracks import Observation, model_of_tracks
from relocalize.geometry import Camera, Convention
from relocalize.place.folder import MAP_UNIT
from relocalize.place.image_file import (
    SIDES_EXCHANGED,
    image_size,
    open_image,
    orientation_of,
)

NAME = "Bundler file"
CONVENTION = Convention("matrix", "cam_from_world", "RUB", "translation")
_WANT = "f k1 k2, a rotation of 3 x 3 numbers and a translation"
_FIRST_LINE = re.compile(r"#\s*Bundle file v(\d+\.\d+)", re.IGNORECASE)
_VERSION = "0.3"
_LISTS = ("list.txt", "imagelist.lst", "image_list.txt", "imagelist.txt", "image-list.txt")
_NUMBER = re.compile(r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?")
_FARTHEST = 1e9  # a coordinate beyond this is no place, in any unit


def detect(path: Path) -> bool:
    """Whether the file, or the folder's ``bundle.out``, begins as Bundler's files do."""
    file = _bundle(path)
    lines = first_lines(file) if file.is_file() else []
    return bool(lines) and _FIRST_LINE.match(lines[0].strip()) is not None


def read(path: Path) -> Registration:
    """Read a bundle file, or the folder with ``bundle.out``; names are from the list beside it.

    Points come along where the listed images lie beside the list, since the file has no image
    sizes and counts pixels from the middle.
    """
    file = _bundle(path)
    reader = _Reader(file, read_lines(file))
    count, points = reader.counts()
    names, folder = _image_names(file, count)
    sizes = _sizes(folder, names)
    rows = PoseRows(file, NAME, CONVENTION, _WANT)
    for index, name in enumerate(names):
        where, numbers = reader.numbers(15, f"camera {index} of {count}")
        if numbers[0] == 0:
            rows.said["cameras are not registered (f is 0)"] += 1
            continue
        with rows.row(where):
            focal, k1, k2 = numbers[:3]
            terms = all(abs(term) <= LARGEST_TERM for term in (k1, k2))
            if not terms or not 1 <= focal <= LONGEST_FOCAL:
                raise ValueError(f"{name} has f, k1, k2 of {focal:g}, {k1:g}, {k2:g}")
            camera: Camera | SizelessCamera = SizelessCamera(focal, distortion=(k1, k2))
            if name in sizes:
                width, height = sizes[name]
                pinhole = (focal, focal, width / 2, height / 2)
                camera = brown_camera(width, height, pinhole, (k1, k2))
            rows.add(name, np.reshape(numbers[3:12], (3, 3)), numbers[12:], camera)
    if rows.said.total() == count:
        raise FormatError(f"{file} has no registered camera: f is 0 for all {count}")
    registration = rows.registration(unit=MAP_UNIT)
    if points and not all(name in sizes for name in registration.poses):
        return registration.remarked(
            f"its {points} points are left out: not all images lie beside the list, upright as "
            "stored, and the file has no image sizes"
        )
    if not points:
        return registration
    positions, colors, observations, error = reader.tracks(points, names, sizes)
    said = [f"points after the {len(positions)}. are left out: {error}"] if error else []
    return registration.remarked(*said).with_model(
        lambda: model_of_tracks(registration, positions, colors, observations)
    )


def _bundle(path: Path) -> Path:
    if not path.is_dir():
        return path
    inner = path / "bundle" / "bundle.out"
    return inner if inner.is_file() else path / "bundle.out"


def _image_names(file: Path, count: int) -> tuple[list[str], Path]:
    """The names of the cameras' images in order, and the folder of the list that has them."""
    stem = file.name.removesuffix(".out").removesuffix(".bundle")
    own = (
        *(f"{stem}.list.txt", f"{stem}-list.txt", f"{stem}.lst", f"{file.name}.list.txt"),
        f"{stem.replace('bundle', 'list')}.txt",  # list.rd.txt, which Bundler makes for PMVS
    )
    candidates = [file.parent / name for name in (*own, *_LISTS)]
    candidates += [file.parent.parent / name for name in _LISTS]
    for candidate in candidates:
        if not candidate.is_file():
            continue
        names = [_listed_name(line) for line in read_lines(candidate) if line.strip()]
        if len(names) != count:
            raise FormatError(
                f"{candidate} lists {len(names)} images and {file} has {count} cameras; "
                "are they of one export?"
            )
        return names, candidate.parent
    raise FormatError(
        f"no list of images beside {file}, which has none of their names; put {_LISTS[0]} there"
    )


def _listed_name(line: str) -> str:
    """The name in ``name``, ``name 0 focal`` or, by some tools, ``name focal``."""
    words = line.split()
    if len(words) > 2 and words[-2] == "0" and _NUMBER.fullmatch(words[-1]):
        return line.strip().rsplit(None, 2)[0]
    if len(words) > 1 and _NUMBER.fullmatch(words[-1]):
        return line.strip().rsplit(None, 1)[0]
    return line.strip()


def _sizes(folder: Path, names: list[str]) -> dict[str, tuple[int, int]]:
    """Width and height of the listed images that lie below the list's folder.

    Where EXIF turns an image by a quarter, its file does not say which size the poses are of.
    """
    sizes = {}
    for name in names:
        image = folder / name.replace("\\", "/")
        try:
            below = folder.resolve() in image.resolve().parents
            if below and orientation_of(open_image(image, at_least=(1, 1))) not in SIDES_EXCHANGED:
                sizes[name] = image_size(image)
        except (OSError, ValueError, ImageError):
            continue
    return sizes


class _Reader:
    """The numbers of a bundle file one after the other."""

    def __init__(self, path: Path, lines: list[str]) -> None:
        self._path = path
        version = _FIRST_LINE.match(lines[0].strip()) if lines else None
        if version is None:
            raise FormatError(f"{path} is no {NAME}: want '# Bundle file v{_VERSION}' first")
        if version[1] != _VERSION:
            raise FormatError(f"{path} is of version {version[1]}; want {_VERSION}")
        self._line = 1
        self._words = self._stream(lines)

    def _stream(self, lines: list[str]) -> Iterator[str]:
        for self._line, line in enumerate(lines[1:], start=2):
            yield from line.split()

    def counts(self) -> tuple[int, int]:
        """Numbers of cameras and points."""
        _, (cameras, points) = self.numbers(2, "the numbers of cameras and points")
        if not (cameras.is_integer() and points.is_integer() and cameras >= 1 and points >= 0):
            raise FormatError(
                f"{self._path}, line {self._line}: {cameras:g} cameras and {points:g} points"
            )
        return int(cameras), int(points)

    def numbers(self, count: int, what: str) -> tuple[str, list[float]]:
        """The next ``count`` numbers and the line of the first."""
        words: list[str] = []
        where = ""
        for word in self._words:
            where = where or f"line {self._line}"
            words.append(word)
            if len(words) == count:
                try:
                    return where, floats(words)
                except ValueError as error:
                    raise FormatError(f"{self._path}, {where}: {what}: {error}") from None
        raise FormatError(f"{self._path} ends in {what}; was it cut off?")

    def tracks(
        self, count: int, names: list[str], sizes: dict[str, tuple[int, int]]
    ) -> tuple[list[list[float]], list[list[float]], list[Observation], FormatError | None]:
        """Positions [P, 3], colours [P, 3] and observations of the points, up to an error."""
        positions: list[list[float]] = []
        colors: list[list[float]] = []
        seen: list[Observation] = []
        try:
            for row in progress.track(range(count), "points", unit="points"):
                what = f"point {row} of {count}"
                _, numbers = self.numbers(7, what)
                near = all(abs(number) <= _FARTHEST for number in numbers)
                if not near or not numbers[6].is_integer():
                    raise FormatError(f"{self._path}, line {self._line}: {what} is no point")
                positions.append(numbers[:3])
                colors.append(numbers[3:6])
                for _ in range(int(numbers[6])):
                    _, (camera, _, x, y) = self.numbers(4, what)
                    if not camera.is_integer() or not 0 <= camera < len(names):
                        raise FormatError(f"{self._path}: {what} is seen by camera {camera:g}")
                    name = names[int(camera)]
                    if name in sizes and abs(x) <= LARGEST_SIDE and abs(y) <= LARGEST_SIDE:
                        width, height = sizes[name]
                        seen.append((name, width / 2 + x, height / 2 - y, row))
        except FormatError as error:
            return positions, colors, seen, error
        return positions, colors, seen, None
