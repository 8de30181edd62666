"""What another tool says of a set of images: where each was taken, by which camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from relocalize import progress
from relocalize.errors import FormatError
from relocalize.formats.lenses import SizelessCamera
from relocalize.formats.text import one_line
from relocalize.geometry import Camera, Convention, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import MapModel

_ROWS_SAID = 20  # rows that are left out and have a line each; more would hide the outcome


@dataclass(frozen=True, eq=False)
class StatedPoses:
    """The poses as the numbers that stand in the file, and how the format says to read them."""

    names: tuple[str, ...]  # of images, in the file's order
    rotations: FloatArray  # [N, 3, 3], [N, 4] or [N, 3] as ``convention.rotation`` says
    positions: FloatArray  # [N, 3]
    convention: Convention  # the one that the format states, or the user

    @classmethod
    def of(cls, world_from_cam: dict[str, Rigid3]) -> StatedPoses:
        """Poses without numbers of their own, as matrices along OpenCV axes."""
        poses = world_from_cam.values()
        return cls(
            names=tuple(world_from_cam),
            rotations=np.array([pose.rotation for pose in poses]).reshape(-1, 3, 3),
            positions=np.array([pose.translation for pose in poses]).reshape(-1, 3),
            convention=Convention("matrix", camera_axes="RDF"),
        )

    def only(self, names: tuple[str, ...], rows: list[int]) -> StatedPoses:
        """Some of the poses, by their rows, under other names."""
        return StatedPoses(names, self.rotations[rows], self.positions[rows], self.convention)


@dataclass(frozen=True, eq=False)
class Registration:
    """Poses read from a foreign file, under the image names of that file."""

    source: str  # name of the file or folder
    format: str  # name of its format, for people: ``pose list``
    cameras: tuple[Camera | SizelessCamera, ...]  # what the file says of the cameras
    # by image name, in the file's order: ``cam_from_world`` and the index of the camera in
    # ``cameras``, or None where the file does not say
    poses: dict[str, tuple[Rigid3, int | None]]
    unit: str  # ``metre`` or ``map unit``
    scale_from: str | None = None  # what makes the unit believable
    model: MapModel | None = None  # the points and the images' observations, if it has such
    stated_poses: StatedPoses | None = None  # the numbers behind ``poses``, if it has its own
    # whether the format or the file says which convention that is; otherwise the stated one is
    # merely the commonest, and only the images can prove it
    declared: bool = True
    # seconds, of trajectories whose poses have a time and no image's name
    times: dict[str, float] = field(default_factory=dict)
    # whether the poses are those of all images in the order of their names, where their own names
    # are no image's, or numbers and the images count from 1
    in_order: bool = False
    train: tuple[str, ...] = ()  # names of the train images, where the format lists them
    test: tuple[str, ...] = ()  # names of the test images, likewise
    # further columns of the file by image name, as text
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()  # a line per row that was left out, with its place and why
    remarks: tuple[str, ...] = ()  # what else a user should know of the file

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
        return self.stated_poses or StatedPoses.of(
            {name: self.world_from_cam(name) for name in self.poses}
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

    def say(self) -> None:
        """Say which rows were left out, and what else a user should know of the file."""
        for problem in self.problems[:_ROWS_SAID]:
            progress.say(f"left out: {problem}")
        if len(self.problems) > _ROWS_SAID:
            progress.say(f"left out: {len(self.problems) - _ROWS_SAID} more rows")
        for remark in self.remarks:
            progress.say(f"{self.source}: {remark}")

    def remarked(self, *remarks: str) -> Registration:
        """The same with more to say of it."""
        return replace(self, remarks=(*self.remarks, *remarks))

    def with_model(self, read: Callable[[], MapModel | None]) -> Registration:
        """The same with its points; where they cannot be read, a remark says so."""
        try:
            return replace(self, model=read())
        except (FormatError, OSError) as error:
            return self.remarked(f"the points are left out: {error}")
