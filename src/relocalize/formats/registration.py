"""What another tool says of a set of images: where each was taken, by which camera."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.text import one_line
from relocalize.geometry import Camera, Convention, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import MapModel


@dataclass(frozen=True)
class SizelessCamera:
    """A camera of which a file does not give the image's size.

    Attributes:
        focal: in ``unit``.
        unit: ``pixel``, or ``longer side``: shares of the image's longer side.
        focal_y: where it differs from ``focal``.
        principal_offset: [2], of the principal point from the image's centre, in ``unit``.
        distortion: ``k1``, ``k1 k2``, ``k1 k2 p1 p2`` or ``k1 k2 p1 p2 k3`` in OpenCV's sense
            and order. Empty says that it is unknown: a radial term of 0, which mapping estimates.
    """

    focal: float
    unit: str = "pixel"
    focal_y: float | None = None
    principal_offset: tuple[float, float] = (0.0, 0.0)
    distortion: tuple[float, ...] = ()

    def of_image(self, width: int, height: int) -> Camera:
        """The camera of an image of ``width`` x ``height`` pixels, in the smallest model."""
        unit = 1.0 if self.unit == "pixel" else float(max(width, height))
        fx, fy = self.focal * unit, (self.focal_y or self.focal) * unit
        cx = width / 2 + self.principal_offset[0] * unit
        cy = height / 2 + self.principal_offset[1] * unit
        return brown_camera(width, height, (fx, fy, cx, cy), self.distortion)


def brown_camera(
    width: int,
    height: int,
    pinhole: tuple[float, float, float, float],
    distortion: tuple[float, ...] = (),
) -> Camera:
    """The camera in COLMAP's smallest model that holds these numbers.

    Args:
        width: pixels.
        height: pixels.
        pinhole: fx, fy, cx, cy in pixels; (0, 0) is the corner of the top-left pixel.
        distortion: ``k1``, ``k1 k2``, ``k1 k2 p1 p2`` or ``k1 k2 p1 p2 k3`` as OpenCV has them;
            empty gives a radial term of 0, which mapping estimates.

    Raises:
        FormatError: the distortion has another length.
    """
    if len(distortion) > 5 or len(distortion) == 3:
        raise FormatError(f"{len(distortion)} distortion terms; want k1 k2 p1 p2 k3")
    fx, fy, cx, cy = pinhole
    k1, k2, p1, p2, k3 = (*distortion, *([0.0] * (5 - len(distortion))))
    if k3:
        return Camera(
            "FULL_OPENCV", width, height, (fx, fy, cx, cy, k1, k2, p1, p2, k3, 0.0, 0.0, 0.0)
        )
    if fx != fy or p1 or p2:
        return Camera("OPENCV", width, height, (fx, fy, cx, cy, k1, k2, p1, p2))
    if k2:
        return Camera("RADIAL", width, height, (fx, cx, cy, k1, k2))
    return Camera("SIMPLE_RADIAL", width, height, (fx, cx, cy, k1))


@dataclass(frozen=True, eq=False)
class StatedPoses:
    """The poses as the numbers that stand in the file, and how the format says to read them.

    Attributes:
        names: image names, in the file's order.
        rotations: [N, 3, 3], [N, 4] or [N, 3] as ``convention.rotation`` says.
        positions: [N, 3].
        convention: the one that the format states, or the user.
    """

    names: tuple[str, ...]
    rotations: FloatArray
    positions: FloatArray
    convention: Convention


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
        stated_poses: the numbers behind ``poses``, where the format has its own.
        declared: whether the format or the file says which convention that is; otherwise the
            stated one is merely the commonest, and only the images can prove it.
        times: seconds, of trajectories whose poses have a time and no image's name.
        train: names of the train images, where the format lists them.
        test: names of the test images, likewise.
        columns: further columns of the file by image name, as text.
        problems: one line per row that was left out, with its place and why.
        remarks: what else a user should know of the file.
    """

    source: str
    format: str
    cameras: tuple[Camera | SizelessCamera, ...]
    poses: dict[str, tuple[Rigid3, int | None]]
    unit: str
    scale_from: str | None = None
    model: MapModel | None = None
    stated_poses: StatedPoses | None = None
    declared: bool = True
    times: dict[str, float] = field(default_factory=dict)
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # They quote names and numbers of a stranger's file.
        object.__setattr__(self, "remarks", tuple(map(one_line, self.remarks)))

    def world_from_cam(self, name: str) -> Rigid3:
        """The pose of one image; its translation is the camera centre."""
        return self.poses[name][0].inverse()

    def camera_of(self, name: str, width: int, height: int) -> Camera:
        """The camera of one image whose image has ``width`` x ``height`` pixels."""
        index = self.poses[name][1]
        camera = None if index is None else self.cameras[index]
        if camera is None:
            return Camera.from_focal(width, height)
        if isinstance(camera, SizelessCamera):
            return camera.of_image(width, height)
        if (camera.width, camera.height) == (width, height):
            return camera
        return camera.resized(width, height)

    @property
    def stated(self) -> StatedPoses:
        """The numbers of the file; matrices of ``world_from_cam`` where it has none of its own."""
        if self.stated_poses is not None:
            return self.stated_poses
        poses = [self.world_from_cam(name) for name in self.poses]
        return StatedPoses(
            names=tuple(self.poses),
            rotations=np.array([pose.rotation for pose in poses]).reshape(-1, 3, 3),
            positions=np.array([pose.translation for pose in poses]).reshape(-1, 3),
            convention=Convention("matrix", camera_axes="RDF"),
        )

    def under(self, convention: Convention) -> Registration:
        """The same file read under another convention; its points do not come along."""
        stated = self.stated
        if convention == stated.convention:
            return self
        poses = convention.world_from_cam(stated.rotations, stated.positions)
        return replace(
            self,
            poses={
                name: (pose.inverse(), self.poses[name][1])
                for name, pose in zip(stated.names, poses, strict=True)
            },
            model=None,
            stated_poses=replace(stated, convention=convention),
        )
