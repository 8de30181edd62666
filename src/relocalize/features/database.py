"""The COLMAP database of a Place: features and matches, which is the feature cache.

An image, once in, keeps its number. Finished images and pairs are never computed again, so every
stage that writes here goes on where a kill left it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import pycolmap
from numpy.typing import NDArray

from relocalize import progress
from relocalize.errors import ImageError, MappingError, PlaceError
from relocalize.features.extraction import (
    KINDS,
    Descriptors,
    Features,
    FeatureSettings,
    extract_features,
)
from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray
from relocalize.parallel import map_in_order
from relocalize.place import Place, atomic
from relocalize.place.folder import read_json
from relocalize.place.image_file import open_image, rgb

Item = TypeVar("Item")
Pair = tuple[str, str]  # image names, in alphabetical order


@dataclass(frozen=True, eq=False)
class TwoView:
    """A verified relation of two images."""

    F: FloatArray  # [3, 3] fundamental matrix, ``x_second^T F x_first = 0`` in homogeneous pixels
    matches: NDArray[np.uint32]  # [V, 2] feature rows of the first and of the second image


@dataclass(frozen=True, eq=False)
class MatchedPair:
    """What came of matching two images."""

    first: str  # image name
    second: str  # image name
    matches: NDArray[np.uint32]  # [M, 2] before verification
    two_view: TwoView | None  # None when too few matches agree on one


# What COLMAP calls a pair whose fundamental matrix was verified (uncalibrated two-view geometry).
_UNCALIBRATED = pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED
DATABASE, SETTINGS = "database.db", "features.json"  # names of its two files
_SPARE_BYTES = 1 << 20  # of the disk, for the database's own pages
PAGES_OF_PAIR = 2 * 4096  # bytes that are written again where a verified pair is changed
_EXTRACTED_PER_COMMIT = 32  # images; a kill loses at most the work on so many


class FeatureDatabase:
    """Features and verified matches of a Place's images. Use `open_database`."""

    def __init__(self, path: Path, settings: FeatureSettings) -> None:
        self.path = path
        self.settings = settings
        self._db = pycolmap.Database.open(str(path))
        self._ids: dict[str, int] = {
            image.name: int(image.image_id) for image in self._db.read_all_images()
        }

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self, size: int) -> Iterator[None]:
        """One commit of about ``size`` bytes; raises where the disk has no room for it."""
        check_room(self.path, size)
        with pycolmap.DatabaseTransaction(self._db):
            yield

    # -- images ----------------------------------------------------------------------------

    @property
    def image_ids(self) -> Mapping[str, int]:
        """COLMAP's number of every image."""
        return self._ids

    def add_images(self, images: Sequence[tuple[str, Camera]]) -> None:
        """Add images that are not in yet; equal cameras of one capture are one camera."""
        known: dict[tuple[str, Camera], int] = {}
        cameras = {int(c.camera_id): Camera.from_colmap(c) for c in self._db.read_all_cameras()}
        for image in self._db.read_all_images():
            camera_id = int(image.camera_id)
            known[_capture_of(image.name), cameras[camera_id]] = camera_id
        with self._transaction(0):
            for name, camera in images:
                if name in self._ids:
                    continue
                key = (_capture_of(name), camera)
                if key not in known:
                    known[key] = self._add_camera(camera)
                image = pycolmap.Image()
                image.name, image.camera_id = name, known[key]
                image.image_id = self._db.write_image(image)
                frame = pycolmap.Frame()
                frame.rig_id = known[key]
                frame.add_data_id(image.data_id)
                self._db.write_frame(frame)
                self._ids[name] = int(image.image_id)

    def _add_camera(self, camera: Camera) -> int:
        colmap_camera = camera.to_colmap()
        colmap_camera.camera_id = self._db.write_camera(colmap_camera)
        rig = pycolmap.Rig()
        rig.add_ref_sensor(colmap_camera.sensor_id)
        self._db.write_rig(rig)
        return int(colmap_camera.camera_id)

    def camera_ids(self) -> dict[str, int]:
        """The camera number of every image."""
        return {image.name: int(image.camera_id) for image in self._db.read_all_images()}

    def camera(self, camera_id: int) -> Camera:
        """A camera as it is known before reconstruction."""
        return Camera.from_colmap(self._db.read_camera(camera_id))

    def update_camera(self, camera_id: int, camera: Camera) -> None:
        """Know a camera better before reconstruction."""
        with self._transaction(0):
            self._db.update_camera(camera.to_colmap(camera_id))

    # -- features --------------------------------------------------------------------------

    def extract(self, names: Iterable[str], images_dir: Path) -> int:
        """Extract the features of images that have none yet; returns how many those were."""
        missing = [name for name in names if not self._db.exists_descriptors(self._ids[name])]
        if not missing:
            return 0

        def features_of_file(name: str) -> tuple[str, Features | None]:
            try:
                pixels = rgb(open_image(images_dir / name))
            except ImageError:
                return name, None
            return name, extract_features(pixels, self.settings)

        with progress.bar("extracting features", len(missing)) as bar:
            for chunk in batched(map_in_order(features_of_file, missing), _EXTRACTED_PER_COMMIT):
                self._write_features(chunk, images_dir)
                bar.advance(len(chunk))
        return len(missing)

    def _write_features(
        self, extracted: Sequence[tuple[str, Features | None]], images_dir: Path
    ) -> None:
        size = sum(f.keypoints.nbytes + f.descriptors.nbytes for _, f in extracted if f is not None)
        with self._transaction(size):
            for name, features in extracted:
                if features is None:
                    raise MappingError(
                        f"{images_dir / name} cannot be read as an image; replace or remove it"
                    )
                image_id = self._ids[name]
                self._db.write_keypoints(image_id, features.keypoints)
                self._db.write_descriptors(
                    image_id,
                    pycolmap.FeatureDescriptors(
                        pycolmap.FeatureExtractorType.SIFT, features.descriptors.view(np.uint8)
                    ),
                )

    def take_over(self, other: FeatureDatabase, names: Mapping[str, str]) -> None:
        """Features and matches of another database's images, which was made with these settings.

        Args:
            other: the other database.
            names: what its images are called here; all others are left there.

        Raises:
            MappingError: an image is in both, with other features.
        """
        there = {name: names[name] for name in other.image_ids if name in names}
        camera_of = other.camera_ids()
        self.add_images([(new, other.camera(camera_of[old])) for old, new in there.items()])
        ids = {other.image_ids[old]: self._ids[new] for old, new in there.items()}
        for chunk in batched(ids.items(), _EXTRACTED_PER_COMMIT):
            with self._transaction(other.path.stat().st_size):
                for their_id, image_id in chunk:
                    self._take_features(other, their_id, image_id)
        verified = dict(zip(*other._db.read_two_view_geometries(), strict=True))
        with self._transaction(other.path.stat().st_size):
            for pair, matches in zip(*other._db.read_all_matches(), strict=True):
                theirs = pycolmap.pair_id_to_image_pair(pair)
                if not all(image_id in ids for image_id in theirs):
                    continue
                first, second = (ids[image_id] for image_id in theirs)
                if self._db.exists_matches(first, second):
                    continue
                self._db.write_matches(first, second, matches)
                if pair in verified:
                    self._db.write_two_view_geometry(first, second, verified[pair])

    def _take_features(self, other: FeatureDatabase, their_id: int, image_id: int) -> None:
        if not other._db.exists_descriptors(their_id):
            return
        keypoints = other._db.read_keypoints(their_id)
        if not self._db.exists_descriptors(image_id):
            self._db.write_keypoints(image_id, keypoints)
            self._db.write_descriptors(image_id, other._db.read_descriptors(their_id))
        elif not np.array_equal(keypoints, self._db.read_keypoints(image_id)):
            name = next(name for name, number in self._ids.items() if number == image_id)
            raise MappingError(
                f"{name} is in both Places with other features, of another version or processor; "
                "map one of them anew"
            )

    def features(self, name: str) -> Features:
        """The stored features of an image."""
        image_id = self._ids.get(name)
        if image_id is None or not self._db.exists_descriptors(image_id):
            raise MappingError(f"{self.path} has no features of {name!r}; run: relocalize map")
        keypoints = np.asarray(self._db.read_keypoints(image_id), dtype=np.float32)
        kind = KINDS[self.settings.kind]
        data = np.asarray(self._db.read_descriptors(image_id).data, dtype=np.uint8)
        # An image without features is stored as arrays without a width.
        positions = keypoints[:, :2] if keypoints.size else np.empty((0, 2), dtype=np.float32)
        return Features(positions, data.reshape(-1, kind.size).view(kind.dtype))

    # -- matches ---------------------------------------------------------------------------

    def untried_pairs(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Those that were never matched, names and pairs in order."""
        return sorted(
            (first, second)
            for first, second in {ordered_pair(*pair) for pair in pairs}
            # COLMAP lists only pairs with matches; one that has none was tried as well.
            if not self._db.exists_matches(self._ids[first], self._ids[second])
        )

    def write_pairs(self, pairs: Sequence[MatchedPair]) -> None:
        """Store pairs, in one commit."""
        with self._transaction(2 * sum(pair.matches.nbytes for pair in pairs)):
            for pair in pairs:
                id1, id2 = self._ids[pair.first], self._ids[pair.second]
                self._db.write_matches(id1, id2, pair.matches)
                if pair.two_view is not None:
                    geometry = pycolmap.TwoViewGeometry()
                    geometry.config = _UNCALIBRATED
                    geometry.F = pair.two_view.F
                    geometry.inlier_matches = pair.two_view.matches
                    self._db.write_two_view_geometry(id1, id2, geometry)

    def verified_matches(self) -> dict[Pair, NDArray[np.uint32]]:
        """Verified matches [V, 2] of every pair, names and columns in order."""
        names = {image_id: name for name, image_id in self._ids.items()}
        pairs, geometries = self._db.read_two_view_geometries()
        result: dict[Pair, NDArray[np.uint32]] = {}
        for pair, geometry in zip(pairs, geometries, strict=True):
            i, j = pycolmap.pair_id_to_image_pair(pair)
            matches = np.asarray(geometry.inlier_matches, dtype=np.uint32).reshape(-1, 2)
            if len(matches):
                a, b = names[i], names[j]
                result[ordered_pair(a, b)] = matches if a < b else matches[:, ::-1]
        return result

    def copy_without(self, pairs: Iterable[Pair], path: Path) -> None:
        """A copy of the database at ``path`` in which these pairs are not verified."""
        pairs = list(pairs)
        copy_database(self.path, path)
        check_room(path, PAGES_OF_PAIR * len(pairs))
        copy = pycolmap.Database.open(str(path))
        try:
            with pycolmap.DatabaseTransaction(copy):
                for first, second in pairs:
                    copy.delete_two_view_geometry(self._ids[first], self._ids[second])
        finally:
            copy.close()

    def copy_of(self, matches: Mapping[Pair, NDArray[np.uint32]], path: Path) -> None:
        """A copy of the database at ``path`` in which these matches [V, 2] alone are verified."""
        before = self.verified_matches()
        self.copy_without(before.keys() - matches.keys(), path)
        check_room(path, sum(rows.nbytes + PAGES_OF_PAIR for rows in matches.values()))
        copy = pycolmap.Database.open(str(path))
        try:
            with pycolmap.DatabaseTransaction(copy):
                for (first, second), rows in matches.items():
                    if len(rows) < len(before[first, second]):
                        ids = self._ids[first], self._ids[second]
                        geometry = copy.read_two_view_geometry(*ids)
                        geometry.inlier_matches = rows
                        copy.update_two_view_geometry(*ids, geometry)
        finally:
            copy.close()

    def fundamental_matrices(self, names: Collection[str]) -> FloatArray:
        """F [N, 3, 3] of the verified pairs among these images."""
        wanted = {self._ids[name] for name in names}
        pairs, geometries = self._db.read_two_view_geometries()
        ids = [pycolmap.pair_id_to_image_pair(pair) for pair in pairs]
        chosen = [
            np.asarray(geometry.F, dtype=np.float64)
            for (i, j), geometry in zip(ids, geometries, strict=True)
            if i in wanted and j in wanted and geometry.F is not None
        ]
        return np.array(chosen).reshape(-1, 3, 3)


# COLMAP has a SQLite of its own, and locks are the process's: a second SQLite in it lets go of
# those of a database that is open, ends its write-ahead log under it, and so spoils it (How to
# corrupt an SQLite database file, 2.2.1). So another process copies.
_COPY = """
import sqlite3, sys
source, target = map(sqlite3.connect, sys.argv[1:])
source.backup(target)
target.close()
source.close()
"""


# COLMAP ends the process over what it cannot read within a database.
_CHECK = """
import sqlite3, sys
source = sqlite3.connect(sys.argv[1])
try:
    (said,) = source.execute("pragma quick_check(1)").fetchone()
    if not source.execute("select 1 from sqlite_master where name = 'images'").fetchall():
        said = "it has no tables"
except sqlite3.OperationalError:
    said = "ok"  # it is in use, or cannot be opened, which COLMAP says
except sqlite3.DatabaseError as error:
    said = str(error)
source.close()
sys.exit(said != "ok")
"""


def check_room(path: Path, size: int) -> None:
    """Raise MappingError where a database's disk has no room; COLMAP would end the process."""
    # The write-ahead log holds it before the database does.
    free, need = shutil.disk_usage(path.parent).free, 2 * size + _SPARE_BYTES
    if free < need:
        raise MappingError(
            f"{path} needs {need / 1e6:.1f} MB, and its disk has {free / 1e6:.1f} MB free; "
            "free some"
        )


def copy_database(source: Path, target: Path) -> None:
    """Copy a database that may be open: what is still in its write-ahead log comes along.

    Raises:
        MappingError: it is damaged, or the disk is full.
    """
    target.unlink(missing_ok=True)
    command = [sys.executable, "-I", "-c", _COPY, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise MappingError(f"{source} cannot be copied to {target}: {why}")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to ``size`` consecutive items."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def ordered_pair(first: str, second: str) -> Pair:
    """A pair of image names as it is kept everywhere: in alphabetical order."""
    return (first, second) if first < second else (second, first)


def _capture_of(name: str) -> str:
    return name.partition("/")[0]


@contextmanager
def open_database(
    place: Place,
    settings: FeatureSettings | None = None,
    *,
    folder: Path | None = None,
    checked: bool = False,
) -> Iterator[FeatureDatabase]:
    """The Place's database; with ``settings``, one that was made with these.

    Features of other settings are of no use beside new ones, so a database of other settings is
    begun anew.

    Args:
        place: that it is of.
        settings: of its features.
        folder: where it is kept in place of the map's own folder.
        checked: whether `check_whole_features` was just asked.

    Raises:
        MappingError: there is none, it is damaged, or its disk is full.
    """
    folder = folder or place.map_dir
    path, record = folder / DATABASE, folder / SETTINGS
    if settings is not None:
        database = _of_settings(path, record, settings)
    else:
        if not checked:
            check_whole_features(place)
        database = _opened(path, FeatureSettings(**read_json(record)))
    try:
        yield database
    except RuntimeError as error:
        if "SQLite" not in str(error):
            raise
        said = str(error).rpartition("SQLite error: ")[2]
        raise MappingError(
            f"{path} cannot be used ({said}); if the disk is not full, delete this file and run: "
            f"relocalize map {place.root}"
        ) from error
    finally:
        database.close()


def check_has_features(place: Place) -> None:
    """Raises MappingError where the Place has no database of features."""
    if not all((place.map_dir / name).is_file() for name in (DATABASE, SETTINGS)):
        raise MappingError(f"{place.root} has no features yet; run: relocalize map {place.root}")


def check_whole_features(place: Place) -> None:
    """As `check_has_features`, and where the database is damaged; it is not changed."""
    check_has_features(place)
    _check_whole(place.map_dir / DATABASE)


def _check_whole(path: Path) -> None:
    command = [sys.executable, "-I", "-c", _CHECK, str(path)]
    if path.is_file() and subprocess.run(command, capture_output=True, check=False).returncode:
        raise MappingError(_damaged(path))


def _damaged(path: Path) -> str:
    return (
        f"{path} is damaged; delete it and make it anew with: relocalize map {path.parent.parent}"
    )


def _opened(path: Path, settings: FeatureSettings) -> FeatureDatabase:
    try:
        return FeatureDatabase(path, settings)
    except RuntimeError as error:
        check_room(path, 0)
        raise MappingError(_damaged(path)) from error


def _of_settings(path: Path, record: Path, settings: FeatureSettings) -> FeatureDatabase:
    """The database when it is of these settings and whole, else a new one."""
    try:
        if read_json(record) == asdict(settings):
            _check_whole(path)
            return _opened(path, settings)
    except (PlaceError, MappingError) as error:
        if record.is_file():
            progress.say(f"extracting features again: {error}")
    path.parent.mkdir(parents=True, exist_ok=True)
    check_room(path, 0)
    for old in path.parent.glob("database.db*"):
        old.unlink()
    atomic.write_json(record, asdict(settings))
    return FeatureDatabase(path, settings)


def remembered_settings(place: Place) -> FeatureSettings | None:
    """How the features beside the Place's map were extracted; None where there are none."""
    try:
        return FeatureSettings(**read_json(place.map_dir / SETTINGS))
    except (PlaceError, TypeError):
        return None


def features_of(place: Place, name: str) -> Features:
    """The features of one image of a map, in the rows of its `PosedImage.keypoints`."""
    with open_database(place) as database:
        return database.features(name)


class StoredDescriptors(Sequence[Descriptors]):
    """The descriptors [K, D] of each of the images ``names``, read when asked for.

    Those of a long walk do not fit into memory.
    """

    def __init__(self, database: FeatureDatabase, names: Sequence[str]) -> None:
        self._database = database
        self._names = tuple(names)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Descriptors: ...
    @overload
    def __getitem__(self, index: slice) -> StoredDescriptors: ...
    def __getitem__(self, index: int | slice) -> Descriptors | StoredDescriptors:
        if isinstance(index, slice):
            return StoredDescriptors(self._database, self._names[index])
        return self._database.features(self._names[index]).descriptors
