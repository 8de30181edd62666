"""What another tool says of a set of pictures: where each was taken, by which camera."""

from __future__ import annotations

from dataclasses import dataclass

from relocalize.geometry import Camera, Rigid3
from relocalize.place import MapModel


@dataclass(frozen=True)
class FocalOnly:
    """A camera of which a file gives only the focal length.

    The rest follows from the picture: its size, the principal point at its centre. Its distortion
    is unknown: a radial term of 0, which mapping estimates from the train images.

    Attributes:
        focal_px: in pixels of the picture.
    """

    focal_px: float


@dataclass(frozen=True, eq=False)
class Registration:
    """Poses read from a foreign file, under the image names of that file.

    Attributes:
        source: name of the file or folder.
        format: name of its format, for people: ``pose list``.
        cameras: what the file says of the cameras.
        poses: by image name, in the file's order: ``cam_from_world`` and the index of the camera
            in ``cameras``, or None where the file does not say.
        unit: ``metre`` or ``map unit``.
        scale_from: what makes the unit believable, or None.
        model: the points and the images' observations, where the format has such.
        problems: one line per row that was left out, with its place and why.
    """

    source: str
    format: str
    cameras: tuple[Camera | FocalOnly, ...]
    poses: dict[str, tuple[Rigid3, int | None]]
    unit: str
    scale_from: str | None = None
    model: MapModel | None = None
    problems: tuple[str, ...] = ()

    def world_from_cam(self, name: str) -> Rigid3:
        """The pose of one image; its translation is the camera centre."""
        return self.poses[name][0].inverse()

    def camera_of(self, name: str, width: int, height: int) -> Camera:
        """The camera of one image whose picture has ``width`` x ``height`` pixels."""
        index = self.poses[name][1]
        camera = None if index is None else self.cameras[index]
        if camera is None:
            return Camera.from_focal(width, height)
        if isinstance(camera, FocalOnly):
            return Camera.from_focal(width, height, camera.focal_px)
        if (camera.width, camera.height) == (width, height):
            return camera
        return camera.resized(width, height)
