"""The map on disk: a COLMAP model in ``map/``, read into plain arrays.

Every image of the model has a pose. An image without observations is posed but not part of the
map's evidence: that is how imported poses of test images are kept apart from what is triangulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from relocalize.errors import GeometryError, PlaceError
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place.colmap_binary import check_whole

NO_POINT = -1  # in `PosedImage.point_rows`: this keypoint observes no point


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
    keypoints: NDArray[np.float32]
    point_rows: NDArray[np.int64]

    @property
    def world_from_cam(self) -> Rigid3:
        """The camera's pose in the world; its translation is the camera centre."""
        return self.cam_from_world.inverse()


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

    @classmethod
    def read(cls, folder: Path) -> MapModel:
        """Read a COLMAP model folder (binary or text).

        Raises:
            PlaceError: there is none, or it cannot be read.
        """
        if not any((folder / f"images{end}").exists() for end in (".bin", ".txt")):
            raise PlaceError(f"{folder} has no COLMAP model (images.bin or images.txt)")
        check_whole(folder)
        try:
            return cls.from_colmap(pycolmap.Reconstruction(str(folder)))
        except (RuntimeError, ValueError, IndexError, GeometryError) as error:
            said = " ".join(str(error).split())
            raise PlaceError(f"{folder} cannot be read as a COLMAP model: {said}") from error

    @classmethod
    def from_colmap(cls, reconstruction: pycolmap.Reconstruction) -> MapModel:
        """From pycolmap's reconstruction."""
        ids = np.array(sorted(reconstruction.points3D), dtype=np.int64)
        colmap_points = [reconstruction.points3D[int(i)] for i in ids]
        points = Points(
            ids=ids,
            positions=np.array([p.xyz for p in colmap_points], dtype=np.float64).reshape(-1, 3),
            colors=np.array([p.color for p in colmap_points], dtype=np.uint8).reshape(-1, 3),
            reprojection_errors=np.array([p.error for p in colmap_points], dtype=np.float64),
            track_lengths=np.array([p.track.length() for p in colmap_points], dtype=np.int64),
        )
        # COLMAP's files do not keep whether a focal length was known; a map's is.
        cameras = {
            key: Camera.from_colmap(camera, known="exact")
            for key, camera in reconstruction.cameras.items()
        }
        images: dict[str, PosedImage] = {}
        registered = (reconstruction.images[i] for i in reconstruction.reg_image_ids())
        for image in sorted(registered, key=lambda image: image.name):
            points2d = image.points2D
            keypoints = np.array([p.xy for p in points2d], dtype=np.float32).reshape(-1, 2)
            point_ids = np.array(
                [p.point3D_id if p.has_point3D() else -1 for p in points2d], dtype=np.int64
            )
            rows = np.searchsorted(ids, point_ids)
            images[image.name] = PosedImage(
                name=image.name,
                camera=cameras[image.camera_id],
                camera_id=int(image.camera_id),
                cam_from_world=Rigid3.from_colmap(image.cam_from_world()),
                keypoints=keypoints,
                point_rows=np.where(point_ids >= 0, rows, NO_POINT),
            )
        return cls(images, points)

    def write(self, folder: Path) -> None:
        """Write the model as COLMAP binary files into the existing ``folder``.

        Images are numbered from 1 in name order; points keep their ids and colors, and get their
        tracks from `PosedImage.point_rows`. Each image is its own frame (no camera rigs).
        """
        self.to_colmap().write_binary(str(folder))

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


def add_image(
    model: pycolmap.Reconstruction,
    name: str,
    image_id: int,
    camera_id: int,
    cam_from_world: pycolmap.Rigid3d,
    keypoints: FloatArray | NDArray[np.float32],
) -> None:
    """Add an image with its pose and its features' pixels [K, 2] to a model that has its camera."""
    model.add_image_with_trivial_frame(
        pycolmap.Image(
            name=name,
            keypoints=keypoints.astype(np.float64),
            camera_id=camera_id,
            image_id=image_id,
        ),
        cam_from_world,
    )
