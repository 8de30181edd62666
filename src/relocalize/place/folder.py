"""The Place itself: opening, making, and reading what the folder holds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from relocalize.errors import GeometryError, ImageError, PlaceError
from relocalize.geometry import Camera
from relocalize.place import atomic
from relocalize.place.captures import Capture, CapturedImage, Fix
from relocalize.place.from_above import svg_from_above
from relocalize.place.image_file import open_image, rgb
from relocalize.place.lock import write_lock
from relocalize.place.model import MapModel, Points, PosedImage
from relocalize.place.splits import Split
from relocalize.plain import from_plain

SCHEMA = 1
MAP_UNIT = "map unit"
METRE = "metre"
MADE = "made.json"  # in a new map's folder, until place.json says the same
MOVED = "moved.json"  # in the map's folder: the moves it went through
_DIGESTED = ("cameras.bin", "images.bin", "points3D.bin", "features.json")  # of the map's files
_SHOWN = "[!.]*"  # a pattern for names, not of what is being written aside
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Frame:
    """The world frame of a Place.

    Attributes:
        up: ``z`` when the map's z axis points up against gravity, None when nobody knows.
        up_from: what says so, or None.
        unit: ``metre``, or ``map unit`` when nothing fixed the scale.
        scale_from: what fixed the scale, or None.
        enu_origin: where on the earth the origin is, where x is east, y north and z up; or None.
    """

    up: str | None = None
    up_from: str | None = None
    unit: str = MAP_UNIT
    scale_from: str | None = None
    enu_origin: Fix | None = None


@dataclass(frozen=True)
class Move:
    """A change of the world frame: ``x_now = scale * R(quat_wxyz) @ x_before + translation``.

    Attributes:
        scale: units of the frame since then per unit of the one before.
        quat_wxyz: [4].
        translation: [3], in the units since then.
        onto: what the frame was moved onto, for people.
        frame_before: what was known of the frame before.
    """

    scale: float
    quat_wxyz: tuple[float, ...]
    translation: tuple[float, ...]
    onto: str
    frame_before: Frame


@dataclass(frozen=True)
class _Manifest:
    """``place.json``."""

    schema: int
    name: str
    created_with: str
    frame: Frame
    captures: tuple[str, ...]
    poses_from: str | None = None
    moves: tuple[Move, ...] = ()

    def __post_init__(self) -> None:
        for name in self.captures:
            checked_name(name, "capture")


@dataclass(frozen=True)
class _Moved:
    """What `MOVED` says of the Place: all moves of the map beside it, and the frame since then."""

    moves: tuple[Move, ...]
    frame: Frame


@dataclass(frozen=True)
class Made:
    """What `MADE` says of the Place: where the poses beside it come from, and their frame."""

    poses_from: str
    frame: Frame


class Place:
    """A Place folder. Reads are lazy and always from disk; writes are atomic and locked.

    Attributes:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        """Use `open`, `create` or `open_or_create`."""
        self.root = root
        self._map: tuple[int, MapModel] | None = None

    def __repr__(self) -> str:
        return f"Place({str(self.root)!r})"

    def _repr_html_(self) -> str | None:
        """From above, in notebooks; None where there is no map."""
        return svg_from_above(self) if self.has_map else None

    # -- opening ---------------------------------------------------------------------------

    @classmethod
    def open(cls, root: str | Path, *, recover: bool = True) -> Place:
        """An existing Place.

        Args:
            root: the folder.
            recover: finish what a killed command left half done; False leaves everything on disk
                as it is.

        Raises:
            PlaceError: no Place there, of a later schema, or damaged.
        """
        place = cls(Path(root))
        if not place._manifest_path.is_file():
            raise PlaceError(
                f"{root} is no Place (it has no place.json); "
                "make one with: relocalize frames VIDEO PLACE"
            )
        place._manifest()
        if recover:
            place._recover()
            place._finish_map()
            place._finish_move()
        return place

    def _recover(self) -> None:
        parents = (self.root, *(self.root / name for name in ("images", "localizers", "reports")))
        interrupted = [path for parent in parents for path in atomic.interrupted_folders(parent)]
        if not interrupted:
            return
        # Under the lock, because a writer at work has such folders too, between two renames.
        with suppress(PlaceError), self.lock():
            for path in interrupted:
                atomic.recover_folder(path)

    @classmethod
    def create(cls, root: str | Path) -> Place:
        """A new, empty Place in a folder that does not exist or is empty.

        Raises:
            PlaceError: the folder holds something else.
        """
        root = Path(root)
        # Hidden files do not count: an interrupted first try leaves some, and so do file browsers.
        if root.is_dir() and any(not entry.name.startswith(".") for entry in root.iterdir()):
            raise PlaceError(f"{root} holds other files; give a new or empty folder for a Place")
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlaceError(f"{root} cannot be made a folder: {error.strerror}") from error
        from importlib.metadata import version  # noqa: PLC0415 - only a new Place needs it

        place = cls(root)
        name = root.resolve().name
        with place.lock():
            place._write_manifest(
                _Manifest(SCHEMA, name, f"relocalize {version('relocalize')}", Frame(), (), None)
            )
        return place

    @classmethod
    def open_or_create(cls, root: str | Path) -> Place:
        """The Place at ``root``, made if there is none."""
        return cls.open(root) if (Path(root) / "place.json").is_file() else cls.create(root)

    @classmethod
    def of(cls, place: Place | str | Path, *, create: bool = False) -> Place:
        """The Place itself, or the one in a folder; made there if there is none and ``create``."""
        if isinstance(place, Place):
            return place
        return cls.open_or_create(place) if create else cls.open(place)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the Place for writing; raises `PlaceError` when another process does."""
        return write_lock(self.root)

    # -- the manifest ----------------------------------------------------------------------

    @property
    def _manifest_path(self) -> Path:
        return self.root / "place.json"

    def _manifest(self) -> _Manifest:
        value = read_json(self._manifest_path)
        schema = value.get("schema")
        if not isinstance(schema, int) or schema < 1:
            raise PlaceError(f"{self._manifest_path} has schema {schema!r}; want {SCHEMA}")
        if schema > SCHEMA:
            raise PlaceError(
                f"{self._manifest_path} has schema {schema}, this relocalize reads up to {SCHEMA}; "
                "update relocalize"
            )
        try:
            # A key of the frame that nobody knows may change what the others mean.
            if isinstance(value.get("frame"), dict):
                Frame(**value["frame"])
            return from_plain(_Manifest, value)
        except (ValueError, TypeError) as error:
            raise PlaceError(f"{self._manifest_path} is damaged: {error}") from error

    def _write_manifest(self, manifest: _Manifest) -> None:
        atomic.write_json(self._manifest_path, asdict(manifest))

    @property
    def name(self) -> str:
        """The folder's name when the Place was made."""
        return self._manifest().name

    @property
    def frame(self) -> Frame:
        """Axes, unit and scale of the world frame."""
        return self._manifest().frame

    @property
    def unit(self) -> str:
        """``metre`` or ``map unit``."""
        return self.frame.unit

    @property
    def poses_from(self) -> str | None:
        """What the poses in ``map/`` come from, or None while there are none."""
        return self._manifest().poses_from

    def record_poses(self, *, poses_from: str, frame: Frame) -> None:
        """Note where new poses come from and what is known of their frame."""
        with self.lock():
            self._write_manifest(
                replace(self._manifest(), poses_from=poses_from, frame=frame, moves=())
            )
            (self.map_dir / MADE).unlink(missing_ok=True)

    @property
    def moves(self) -> tuple[Move, ...]:
        """How the world frame has changed since the poses were made, the latest last."""
        return self._manifest().moves

    def record_moves(self, moves: tuple[Move, ...], frame: Frame) -> None:
        """Note all changes of the world frame, and what is known of it now."""
        with self.lock():
            self._write_manifest(replace(self._manifest(), moves=moves, frame=frame))

    def _finish_map(self) -> None:
        """Note what a kill kept out of ``place.json`` about a new map."""
        path = self.map_dir / MADE
        if not path.is_file():
            return
        with suppress(PlaceError, ValueError, OSError):
            made = from_plain(Made, read_json(path))
            self.record_poses(poses_from=made.poses_from, frame=made.frame)

    def _finish_move(self) -> None:
        """Note a move of the map that a kill kept out of ``place.json``."""
        path = self.map_dir / MOVED
        if not path.is_file():
            return
        # A record that is damaged, or a Place that cannot be written, is left as it is.
        with suppress(PlaceError, ValueError):
            moved = from_plain(_Moved, read_json(path))
            known = self._manifest().moves
            if len(moved.moves) == len(known) + 1 and moved.moves[:-1] == known:
                self.record_moves(moved.moves, moved.frame)

    # -- captures and images ---------------------------------------------------------------

    @property
    def images_dir(self) -> Path:
        """Where the images are, a folder per capture."""
        return self.root / "images"

    @property
    def captures(self) -> dict[str, Capture]:
        """All captures by name, in the order in which they were added."""
        return {name: self.capture(name) for name in self._manifest().captures}

    def capture(self, name: str) -> Capture:
        """One capture.

        Raises:
            PlaceError: there is none of that name, or its record is damaged.
        """
        known = self._manifest().captures
        if name not in known:
            raise PlaceError(f"{self.root} has no capture {name!r}; it has {list(known)}")
        path = self.root / "captures" / f"{name}.json"
        try:
            return Capture.from_json(read_json(path))
        except (KeyError, TypeError, ValueError, GeometryError) as error:
            raise PlaceError(f"{path} is damaged: {error!r}") from error

    def write_capture(self, capture: Capture) -> None:
        """Add a capture, or replace the record of the one with its name."""
        checked_name(capture.name, "capture")
        with self.lock():
            atomic.write_json(self.root / "captures" / f"{capture.name}.json", asdict(capture))
            manifest = self._manifest()
            if capture.name not in manifest.captures:
                captures = (*manifest.captures, capture.name)
                self._write_manifest(replace(manifest, captures=captures))

    def images(self) -> Iterator[tuple[Capture, CapturedImage]]:
        """Every image of the Place with its capture, in the captures' order."""
        for capture in self.captures.values():
            for image in capture.images:
                yield capture, image

    def image_path(self, name: str) -> Path:
        """Where the image ``name`` (below ``images/``) lies; it cannot lie outside."""
        path = self.images_dir / name
        if "\0" in name or not path.resolve().is_relative_to(self.images_dir.resolve()):
            raise PlaceError(f"image name {name!r} leads out of {self.images_dir}")
        return path

    def read_image(self, name: str) -> NDArray[np.uint8]:
        """The image ``name`` as RGB [H, W, 3]: as stored, which is what its camera and pose are of.

        Raises:
            PlaceError: it is missing or cannot be decoded.
        """
        return rgb(self.open_image(name))

    def open_image(self, name: str) -> Image.Image:
        """The image ``name`` with its EXIF; its pixels, and what is raised, as of `read_image`."""
        path = self.image_path(name)
        if not path.is_file():
            raise PlaceError(f"image {path} is missing")
        try:
            return open_image(path)
        except ImageError as error:
            raise PlaceError(f"image {name} cannot be decoded: {error}") from error

    # -- the map ---------------------------------------------------------------------------

    @property
    def map_dir(self) -> Path:
        """The COLMAP model's folder."""
        return self.root / "map"

    @property
    def has_map(self) -> bool:
        """Whether there are posed images."""
        return (self.map_dir / "images.bin").is_file()

    def map_digest(self) -> str:
        """SHA-256 of the map's files: changes when what localizers are fitted on does.

        Raises:
            PlaceError: there is no map yet.
        """
        self._check_map()
        digest = hashlib.sha256()
        for name in _DIGESTED:
            path = self.map_dir / name
            digest.update(name.encode())
            digest.update(path.read_bytes() if path.is_file() else b"")
        return digest.hexdigest()

    def _check_map(self) -> None:
        if not self.has_map:
            raise PlaceError(f"{self.root} has no map; make one with: relocalize map {self.root}")

    @property
    def map(self) -> MapModel:
        """Posed images and points, read again whenever the file has changed.

        Raises:
            PlaceError: there is no map yet, or it is damaged.
        """
        self._check_map()
        stamp = (self.map_dir / "images.bin").stat().st_mtime_ns
        if self._map is None or self._map[0] != stamp:
            try:
                self._map = (stamp, self._as_known(MapModel.read(self.map_dir)))
            except PlaceError as error:
                raise PlaceError(
                    f"{error}; put a whole one there, or make it anew with: "
                    f"relocalize map {self.root}"
                ) from error
        return self._map[1]

    def _as_known(self, model: MapModel) -> MapModel:
        """The map with cameras that nothing has estimated yet known as their capture says."""
        images = dict(model.images)
        for capture, image in self.images():
            posed = images.get(image.name)
            if posed is None or not capture.cameras:
                continue
            prior = capture.camera_of(image)
            if prior.known != "exact" and replace(prior, known="exact") == posed.camera:
                images[image.name] = replace(posed, camera=prior)
        return replace(model, images=images)

    def posed_images(self) -> Iterator[PosedImage]:
        """Every image with a pose, in name order."""
        yield from self.map.images.values()

    @property
    def cameras(self) -> Mapping[int, Camera]:
        """The map's cameras by their number."""
        return self.map.cameras

    @property
    def points(self) -> Points:
        """The map's points."""
        return self.map.points

    # -- splits, localizers, reports -------------------------------------------------------

    @property
    def split_names(self) -> list[str]:
        """Names of the stored splits."""
        return sorted(path.stem for path in (self.root / "splits").glob(f"{_SHOWN}.json"))

    def split(self, name: str | None = None) -> Split:
        """A stored split; without a name, the only one there is.

        Raises:
            PlaceError: no such split, or several to choose from.
        """
        names = self.split_names
        if name is None:
            if len(names) != 1:
                what = f"has several splits {names}; name one" if names else "has no split"
                raise PlaceError(f"{self.root} {what}")
            name = names[0]
        if name not in names:
            raise PlaceError(f"{self.root} has no split {name!r}; it has {names}")
        path = self.root / "splits" / f"{name}.json"
        try:
            return Split(**read_json(path))
        except TypeError as error:
            raise PlaceError(f"{path} is damaged: {error}") from error

    def write_split(self, split: Split) -> None:
        """Store a split under its name."""
        checked_name(split.name, "split")
        with self.lock():
            atomic.write_json(self.root / "splits" / f"{split.name}.json", asdict(split))

    def localizer_dir(self, name: str) -> Path:
        """Where the localizer ``name`` is or will be."""
        return self.root / "localizers" / checked_name(name, "localizer")

    @property
    def localizer_names(self) -> list[str]:
        """Names of the fitted localizers."""
        folder = self.root / "localizers"
        return sorted(path.parent.name for path in folder.glob(f"{_SHOWN}/localizer.json"))

    def report_dir(self, name: str) -> Path:
        """Where the report ``name`` is or will be."""
        return self.root / "reports" / checked_name(name, "report")


def checked_name(name: str, what: str) -> str:
    """``name`` if it can be a file name everywhere.

    Raises:
        PlaceError: it is empty, too long, or holds other characters than letters, digits, ._-
    """
    if not _NAME.fullmatch(name):
        raise PlaceError(
            f"{name!r} cannot name a {what}: use letters, digits, '.', '_' and '-', "
            "starting with a letter or digit"
        )
    return name


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of ours.

    Raises:
        PlaceError: it is missing or is no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlaceError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise PlaceError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise PlaceError(f"{path} is damaged: want a JSON object, got {type(value).__name__}")
    return value
