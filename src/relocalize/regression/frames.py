"""The train frames of a Place as a network wants them: small, undistorted, in memory maps.

Images are decoded once. What comes of them lies in the Place under ``localizers/.cache/``, in a
folder named by everything that it depends on; deleting it costs the time to make it again.
Nothing of a test image is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from relocalize import progress
from relocalize.errors import GeometryError, LocalizerError
from relocalize.formats.images import frame_index
from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray
from relocalize.parallel import map_in_order
from relocalize.place import MapModel, Place, PosedImage, Split
from relocalize.place.model import NO_POINT
from relocalize.regression.canonical import canonical_camera, shrunk, shrunk_shape, warp
from relocalize.regression.crops import CROP_SIDE, RESIZED_SIDE, posenet_camera
from relocalize.regression.disk_rows import DiskRows, RowLayout
from relocalize.regression.settings import InputSettings
from relocalize.regression.time_blocks import Rows, time_blocks

_VERSION = 2  # of how images are prepared; others are made again
_BLOCK = 64  # frames between two points that a killed run resumes from
_LEAST_VIEWS = 2  # train frames that see a map point, or it is not theirs


@dataclass(frozen=True, eq=False)
class ObservedPoints:
    """Map points that frames see, padded."""

    positions: NDArray[np.float32]  # [N, P, 3] in the world, 0 where there are fewer than P
    seen: NDArray[np.bool_]  # [N, P] which of them are points


@dataclass(frozen=True, eq=False)
class TrainingFrames:
    """Train frames, in the order of captures and of time within each."""

    names: tuple[str, ...]  # below ``images/``
    captures: tuple[str, ...]  # of each frame
    # [N] seconds, or numbers of frames or files, within the capture; NaN for neither
    times: FloatArray
    cameras: tuple[Camera, ...]  # of each frame, as the map has them
    world_from_cams: FloatArray  # [N, 4, 4]
    target: Camera  # the camera that all images were brought to
    # [N, h, w, 3] uint8 RGB, what ``target`` sees; a read-only memory map
    origin: FloatArray  # [3] in the world, from which poses and points count here
    pixels: NDArray[np.uint8]
    key: str  # of the images, their cameras and the target, but not the poses
    _sources: NDArray[np.uint8]
    _map: MapModel

    @classmethod
    def prepare(
        cls,
        place: Place,
        split: Split | None,
        settings: InputSettings,
        *,
        workers: int | None = None,
    ) -> TrainingFrames:
        """The posed train images of a split (without one: all), decoded unless they were before.

        With ``posenet`` geometry the frames are the resized images that crops are cut from.
        ``workers`` are threads, by default one per processor.

        Raises:
            LocalizerError: none of the train images has a pose, or the disk is full.
            PlaceError: an image is missing or damaged, or another process writes to the Place.
        """
        images, captures, times = _train_images(place, split)
        origin = place.map.local_origin
        cameras = tuple(image.camera for image in images)
        target = input_camera(cameras, settings)
        key = _fingerprint(place, images, target)
        shapes = [shrunk_shape(camera, target) for camera in dict.fromkeys(cameras)]
        source_bytes = max(height * width * 3 for height, width in shapes)
        layouts = {
            "pixels": RowLayout((target.height, target.width, 3), "uint8"),
            "sources": RowLayout((source_bytes,), "uint8"),
        }
        rows = DiskRows(cache_folder(place) / f"frames-{key}", len(images), layouts)
        if rows.finished < rows.rows:
            with place.lock():
                rows.make({"frames": len(images), "target": asdict(target)})
                _fill(place, rows, images, target, source_bytes, workers)
        return cls(
            names=tuple(image.name for image in images),
            captures=captures,
            times=times,
            cameras=cameras,
            world_from_cams=np.stack(
                [image.world_from_cam.shifted(-origin).matrix for image in images]
            ),
            origin=origin,
            target=target,
            pixels=rows.array("pixels"),
            key=key,
            _sources=rows.array("sources"),
            _map=place.map.about(origin),
        )

    def __len__(self) -> int:
        return len(self.names)

    def source(self, row: int) -> NDArray[np.uint8]:
        """Frame ``row`` before it was brought to the target, for `augment`: [H, W, 3].

        It is the whole image, averaged down to little more than the target's resolution, and
        goes with ``cameras[row]``.
        """
        height, width = shrunk_shape(self.cameras[row], self.target)
        return np.asarray(self._sources[row, : height * width * 3].reshape(height, width, 3))

    def validation(
        self, share: float, *, where: Literal["even", "end"] = "even"
    ) -> tuple[Rows, Rows]:
        """Rows that train and rows that validate, as `time_blocks` cuts them."""
        return time_blocks(
            self.names,
            share,
            captures=self.captures,
            times=self.times,
            centres=self.world_from_cams[:, :3, 3],
            where=where,
        )

    def points(self, row: int) -> FloatArray:
        """[P, 3] the map points that frame ``row`` and another train frame see, in the world."""
        return self._map.points.positions[self._point_rows(row)]

    def _point_rows(self, row: int) -> NDArray[np.int64]:
        candidates = np.unique(self._map.images[self.names[row]].point_rows)
        return candidates[self._views[candidates] >= _LEAST_VIEWS]

    @cached_property
    def _views(self) -> NDArray[np.int64]:
        """How many train frames see each point; the last counts what is no point: none."""
        views = np.zeros(len(self._map.points) + 1, dtype=np.int64)
        for name in self.names:
            views[np.unique(self._map.images[name].point_rows)] += 1
        views[NO_POINT] = 0
        return views

    def observed_points(self, most: int, *, seed: int = 0) -> ObservedPoints:
        """Up to ``most`` map points per frame that it and another train frame see, at random."""
        positions = np.zeros((len(self), most, 3), dtype=np.float32)
        seen = np.zeros((len(self), most), dtype=bool)
        for row in range(len(self)):
            candidates = self._point_rows(row)
            if len(candidates) > most:
                rng = np.random.default_rng((seed, row))
                candidates = np.sort(rng.choice(candidates, most, replace=False))
            positions[row, : len(candidates)] = self._map.points.positions[candidates]
            seen[row, : len(candidates)] = True
        return ObservedPoints(positions, seen)


def cache_folder(place: Place) -> Path:
    """Where a Place keeps what trainings prepare; it may be deleted at any time."""
    return place.root / "localizers" / ".cache"


def input_camera(cameras: Sequence[Camera], settings: InputSettings) -> Camera:
    """The camera that images are brought to: of the input's size, or PoseNet's before crops.

    Args:
        cameras: one per train frame.
        settings: of the input.
    """
    if settings.geometry == "posenet":
        side = min(settings.width, settings.height)
        return posenet_camera(cameras, smaller_side=round(side * RESIZED_SIDE / CROP_SIDE))
    return canonical_camera(cameras, settings.width, settings.height)


def _train_images(
    place: Place, split: Split | None
) -> tuple[list[PosedImage], tuple[str, ...], FloatArray]:
    posed = place.map.images
    wanted = set(posed) if split is None else set(split.train) & posed.keys()
    images, captures, times = [], [], []
    for capture, image in place.images():
        if image.name in wanted:
            known = (image.time_s, image.frame_index, frame_index(image.name))
            time = next((value for value in known if value is not None), None)
            images.append(posed[image.name])
            captures.append(capture.name)
            times.append(np.nan if time is None else float(time))
    if not images:
        asked = "the Place" if split is None else f"split {split.name!r}"
        raise LocalizerError(
            f"no train image of {asked} has a pose; make a map with: relocalize map {place.root}"
        )
    return images, tuple(captures), np.array(times)


def _fingerprint(place: Place, images: Sequence[PosedImage], target: Camera) -> str:
    digest = hashlib.sha256(json.dumps([_VERSION, asdict(target)]).encode())
    for image in images:
        path = place.image_path(image.name)
        stat = path.stat() if path.is_file() else None  # a missing one is named when it is read
        size = None if stat is None else (stat.st_size, stat.st_mtime_ns)
        camera: dict[str, Any] = asdict(image.camera)
        digest.update(json.dumps([image.name, size, camera]).encode())
    return digest.hexdigest()[:16]


def _fill(
    place: Place,
    rows: DiskRows,
    images: Sequence[PosedImage],
    target: Camera,
    source_bytes: int,
    workers: int | None,
) -> None:
    def prepared(row: int) -> tuple[int, NDArray[np.uint8], NDArray[np.uint8]]:
        image = images[row]
        pixels = place.read_image(image.name)
        if pixels.shape[:2] != (image.camera.height, image.camera.width):
            raise LocalizerError(
                f"image {image.name} has {pixels.shape[1]} x {pixels.shape[0]} pixels and its "
                f"camera in the map {image.camera.width} x {image.camera.height}; "
                f"make the map again with: relocalize map {place.root}"
            )
        try:
            source = shrunk(pixels, image.camera, target)
            canonical, _ = warp(source, image.camera, target)
        except GeometryError as error:
            raise LocalizerError(f"image {image.name}: {error}") from error
        padded = np.zeros(source_bytes, dtype=np.uint8)
        padded[: source.size] = source.ravel()
        return row, canonical, padded

    missing = [int(row) for row in rows.missing]
    found = map_in_order(prepared, missing, workers=workers)
    todo = progress.track(found, "images for training", total=len(missing))
    for done, (row, canonical, padded) in enumerate(todo, start=1):
        rows.write(row, {"pixels": canonical[None], "sources": padded[None]})
        if done % _BLOCK == 0:
            rows.commit()
    rows.commit()
