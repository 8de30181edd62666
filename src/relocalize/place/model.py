"""The map on disk: a COLMAP model in ``map/``, read into plain arrays.

Every image of the model has a pose. An image without observations is posed but not part of the
map's evidence: that is how imported poses of test images are kept apart from what is triangulated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from relocalize.errors import GeometryError, PlaceError
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray, local_origin
from relocalize.place import colmap_files
from relocalize.place.colmap_files import ImageRow, PointRows

NO_POINT = -1  # in `PosedImage.point_rows`: this keypoint observes no point; the last row, too


@dataclass(frozen=True, eq=False)
class PosedImage:
    """An image with its camera and pose.

    Attributes:
        name: path below ``images/``.
        camera: intrinsics as the map has them.
        camera_id: the camera's number in the model; images that share it share intrinsics.
        cam_from_world: maps world points into the camera's axes (x right, y down, z forward).
        keypoints: [K, 2] pixels, row i being feature i of the database; [0, 2] where the model
            has none.
        point_rows: [K] row of each keypoint's point in `Points`, or `NO_POINT`.
    """

    name: str
    camera: Camera
    camera_id: int
    cam_from_world: Rigid3
    keypoints: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    point_rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def world_from_cam(self) -> Rigid3:
        """The camera's pose in the world; its translation is the camera centre."""
        return self.cam_from_world.inverse()

    @property
    def observed(self) -> NDArray[np.int64]:
        """[I] rows in `Points` of those that it observes."""
        rows: NDArray[np.int64] = self.point_rows[self.point_rows != NO_POINT]
        return rows


@dataclass(frozen=True, eq=False)
class Points:
    """The points of a map.

    Attributes:
        ids: [P] COLMAP's point3D ids.
        positions: [P, 3] in the world frame.
        colors: [P, 3] RGB, uint8.
        reprojection_errors: [P] mean error in pixels.
        track_lengths: [P] how many images observe each.
    """

    ids: NDArray[np.int64]
    positions: FloatArray
    colors: NDArray[np.uint8]
    reprojection_errors: FloatArray
    track_lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def none(cls) -> Points:
        """No points."""
        ids = np.zeros(0, dtype=np.int64)
        return cls(ids, np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), ids)


@dataclass(frozen=True, eq=False)
class MapModel:
    """Posed images and points.

    Attributes:
        images: by name, in name order.
        points: what they observe.
    """

    images: dict[str, PosedImage]
    points: Points

    @property
    def cameras(self) -> dict[int, Camera]:
        """The model's cameras by their number."""
        return {image.camera_id: image.camera for image in self.images.values()}

    @property
    def views(self) -> list[PosedImage]:
        """The images that observe points."""
        return [image for image in self.images.values() if len(image.observed)]

    @classmethod
    def read(cls, folder: Path) -> MapModel:
        """Read a COLMAP model folder (binary or text).

        Raises:
            PlaceError: there is none, or it cannot be read.
        """
        if colmap_files.ending(folder) is None:
            raise PlaceError(f"{folder} has no COLMAP model (images.bin or images.txt)")
        colmap_files.check_whole(folder, ("rigs.bin", "frames.bin"))
        cameras = colmap_files.read_cameras(folder)
        images = []
        for row in colmap_files.read_images(folder):
            camera = cameras.get(row.camera, f"there is no camera {row.camera}")
            if row.reason is not None or isinstance(camera, str):
                raise PlaceError(
                    f"{folder} is damaged: images, {row.where}: {row.reason or camera}"
                )
            try:
                row.name.encode()
                images.append((row, camera, pose_of(row)))
            except (GeometryError, ValueError) as error:
                raise PlaceError(f"{folder} is damaged: images, {row.where}: {error}") from error
        return cls.of_rows(images, colmap_files.read_points(folder))

    @classmethod
    def of_rows(
        cls, images: Iterable[tuple[ImageRow, Camera, Rigid3]], points: PointRows
    ) -> MapModel:
        """Of the rows of a COLMAP model: images with camera and ``cam_from_world``, and points."""
        posed: dict[str, PosedImage] = {}
        lengths = np.zeros(len(points.ids) + 1, dtype=np.int64)
        ids = np.append(points.ids, NO_POINT)
        for row, camera, cam_from_world in sorted(images, key=lambda image: image[0].name):
            at = np.searchsorted(points.ids, row.point_ids)
            rows = np.where((row.point_ids >= 0) & (ids[at] == row.point_ids), at, NO_POINT)
            np.add.at(lengths, rows, 1)
            posed[row.name] = PosedImage(
                row.name, camera, row.camera, cam_from_world, row.keypoints, rows
            )
        return cls(posed, Points(*points, track_lengths=lengths[:-1]))

    @classmethod
    def from_colmap(cls, reconstruction: pycolmap.Reconstruction) -> MapModel:
        """From pycolmap's reconstruction."""
        ids = sorted(reconstruction.points3D)
        points = [reconstruction.points3D[i] for i in ids]
        rows = PointRows(
            ids=np.array(ids, dtype=np.int64),
            positions=np.array([p.xyz for p in points], dtype=np.float64).reshape(-1, 3),
            colors=np.array([p.color for p in points], dtype=np.uint8).reshape(-1, 3),
            errors=np.array([p.error for p in points], dtype=np.float64),
        )
        registered = [reconstruction.images[i] for i in reconstruction.reg_image_ids()]
        # COLMAP's files do not keep whether a focal length was known; a map's is. That of images
        # which lost their pose again may be anything.
        cameras = {
            key: Camera.from_colmap(reconstruction.cameras[key], known="exact")
            for key in {image.camera_id for image in registered}
        }
        images = []
        for image in registered:
            seen = image.points2D
            row = ImageRow(
                where="",
                name=image.name,
                camera=int(image.camera_id),
                keypoints=np.array([p.xy for p in seen], dtype=np.float32).reshape(-1, 2),
                point_ids=np.array(
                    [p.point3D_id if p.has_point3D() else NO_POINT for p in seen], dtype=np.int64
                ),
            )
            pose = Rigid3.from_colmap(image.cam_from_world())
            images.append((row, cameras[image.camera_id], pose))
        return cls.of_rows(images, rows)

    @property
    def local_origin(self) -> FloatArray:
        """Where to count from near the cameras: [3], see `geometry.transforms.local_origin`."""
        if not self.images:
            return np.zeros(3)
        return local_origin([image.world_from_cam.translation for image in self.images.values()])

    def about(self, origin: FloatArray) -> MapModel:
        """The same map in a world that counts from ``origin`` [3]."""
        if not np.any(origin):
            return self
        images = {
            name: replace(
                image,
                cam_from_world=image.cam_from_world.shifted(image.cam_from_world.rotation @ origin),
            )
            for name, image in self.images.items()
        }
        return MapModel(
            images, replace(self.points, positions=self.points.positions - np.asarray(origin))
        )

    def only(self, names: Iterable[str]) -> MapModel:
        """Some of the images, with the points of which these have two observations or more."""
        chosen = set(names)
        kept = {name: image for name, image in self.images.items() if name in chosen}
        counts = observation_counts(kept.values(), len(self.points))
        alive = counts >= 2
        new_row = np.append(np.where(alive, np.cumsum(alive) - 1, NO_POINT), NO_POINT)
        points = self.points
        return MapModel(
            {n: replace(one, point_rows=new_row[one.point_rows]) for n, one in kept.items()},
            Points(
                points.ids[alive],
                points.positions[alive],
                points.colors[alive],
                points.reprojection_errors[alive],
                counts[alive],
            ),
        )

    def write(self, folder: Path) -> None:
        """Write the model as COLMAP binary files into the existing ``folder``.

        Images are numbered from 1 in name order; points keep their ids and colors, and get their
        tracks from `PosedImage.point_rows`. Each image is its own frame (no camera rigs).
        """
        write_model(self.to_colmap(), folder)

    def to_colmap(self) -> pycolmap.Reconstruction:
        """As pycolmap's reconstruction."""
        reconstruction = pycolmap.Reconstruction()
        for camera_id, camera in sorted(self.cameras.items()):
            reconstruction.add_camera_with_trivial_rig(camera.to_colmap(camera_id))
        tracks = [pycolmap.Track() for _ in range(len(self.points))]
        for image_id, image in enumerate(self.images.values(), start=1):
            pose = image.cam_from_world.to_colmap()
            add_image(reconstruction, image.name, image_id, image.camera_id, pose, image.keypoints)
            for keypoint in np.flatnonzero(image.point_rows != NO_POINT):
                tracks[image.point_rows[keypoint]].add_element(image_id, int(keypoint))
        for row, track in enumerate(tracks):
            point = pycolmap.Point3D()
            point.xyz = self.points.positions[row]
            point.color = self.points.colors[row]
            point.error = float(self.points.reprojection_errors[row])
            point.track = track
            reconstruction.add_point3D_with_id(int(self.points.ids[row]), point)
        return reconstruction


def write_model(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Write a model as COLMAP binary files into the existing ``folder``.

    Raises:
        PlaceError: the disk is full, of which COLMAP's own writer says nothing.
    """
    model.write_binary(str(folder))
    try:
        colmap_files.check_whole(folder)
    except PlaceError as error:
        raise PlaceError(f"{folder} cannot be written, the disk may be full: {error}") from error


def is_whole(folder: Path) -> bool:
    """Whether ``folder`` has a model that no kill and no full disk cut short."""
    try:
        colmap_files.check_whole(folder)
    except PlaceError:
        return False
    names = ("cameras", "images", "points3D", "rigs", "frames")
    return all((folder / f"{name}.bin").is_file() for name in names)


def add_image(
    model: pycolmap.Reconstruction,
    name: str,
    image_id: int,
    camera_id: int,
    cam_from_world: pycolmap.Rigid3d,
    keypoints: FloatArray | NDArray[np.float32],
    observations: Iterable[tuple[int, int]] = (),
) -> None:
    """Add an image with its pose and keypoints [K, 2], in pixels, to a model that has its camera.

    ``observations`` are rows of these, and numbers of the model's points that they see.
    """
    model.add_image_with_trivial_frame(
        pycolmap.Image(
            name=name,
            keypoints=keypoints.astype(np.float64),
            camera_id=camera_id,
            image_id=image_id,
        ),
        cam_from_world,
    )
    for row, point in observations:
        model.add_observation(int(point), pycolmap.TrackElement(image_id, int(row)))


def pose_of(row: ImageRow) -> Rigid3:
    """The ``cam_from_world`` of an image's row, to the bit as COLMAP has it.

    Raises:
        GeometryError: its numbers are no rotation or translation.
    """
    w, x, y, z = row.quat_wxyz
    rotation = pycolmap.Rotation3d(np.array([x, y, z, w]))
    return Rigid3.from_colmap(pycolmap.Rigid3d(rotation, np.array(row.translation)))


def observation_counts(images: Iterable[PosedImage], points: int) -> NDArray[np.int64]:
    """How many observations each point [P] has in the images."""
    rows = [np.zeros(0, np.int64), *(image.observed for image in images)]
    return np.bincount(np.concatenate(rows), minlength=points)
