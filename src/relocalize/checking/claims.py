"""What is to be checked: images with the poses that somebody claims for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from relocalize.capture.photos import read_photo
from relocalize.checking.measuring import ReadPixels
from relocalize.errors import PlaceError
from relocalize.formats import Registration, StatedPoses
from relocalize.formats.images import find_images, natural_key
from relocalize.geometry import Camera, Convention, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place


@dataclass(frozen=True, eq=False)
class Claims:
    """N images in the natural order of their names, and what is claimed of them.

    Attributes:
        names: of the images.
        stated: the numbers of their poses, a row per image.
        read: decodes an image, RGB [H, W, 3].
        camera_of: the claimed camera of an image of so many pixels.
        unused: images that could not be used, with the reason, as ``name: reason``.
    """

    names: tuple[str, ...]
    stated: StatedPoses
    read: ReadPixels
    camera_of: Callable[[str, int, int], Camera]
    unused: tuple[str, ...] = ()

    @classmethod
    def of_registration(cls, registration: Registration, images: Path) -> Claims:
        """The listed images, under the file's names, that have an image in ``images``.

        Raises:
            FormatError: there is none.
        """
        files = find_images(registration, images, "images")
        found = files.usable
        stated = registration.stated
        row_of = {name: row for row, name in enumerate(stated.names)}
        rows = np.array([row_of[image.listed] for image in found])
        file_of = {image.listed: image.file for image in found}
        return cls(
            names=tuple(file_of),
            stated=_rows_of(stated, tuple(file_of), rows),
            read=lambda name: read_photo(file_of[name]).pixels,
            camera_of=registration.camera_of,
            unused=(
                *(f"{name}: no image" for name in files.absent),
                *(f"{name}: could mean several images" for name in files.ambiguous),
                *(f"{dropped.source}: {dropped.reason}" for dropped in files.left_out),
            ),
        )

    @classmethod
    def of_place(cls, place: Place) -> Claims:
        """Every posed image of a Place.

        Raises:
            PlaceError: it has no poses.
        """
        if not place.has_map:
            raise PlaceError(
                f"{place.root} has no poses to check; make them with: relocalize map {place.root}"
            )
        images = place.map.images
        names = tuple(sorted(images, key=natural_key))
        poses = [images[name].cam_from_world.inverse() for name in names]
        return cls(
            names=names,
            stated=StatedPoses(
                names=names,
                rotations=np.array([pose.rotation for pose in poses]).reshape(-1, 3, 3),
                positions=np.array([pose.translation for pose in poses]).reshape(-1, 3),
                convention=Convention("matrix", camera_axes="RDF"),
            ),
            read=place.read_image,
            camera_of=lambda name, width, height: images[name].camera,
        )

    def only(self, rows: Sequence[int]) -> Claims:
        """The claims of some of the images."""
        names = tuple(self.names[row] for row in rows)
        return replace(self, names=names, stated=_rows_of(self.stated, names, np.asarray(rows)))

    def poses(self, convention: Convention) -> list[Rigid3]:
        """``world_from_cam`` of each image under a convention."""
        return convention.world_from_cam(self.stated.rotations, self.stated.positions)

    @property
    def runs(self) -> list[range]:
        """Rows of images in one folder: a walk's frames lie together, in order."""
        folders = [str(PurePosixPath(name).parent) for name in self.names]
        starts = [row for row, here in enumerate(folders) if not row or here != folders[row - 1]]
        return [
            range(start, end)
            for start, end in zip(starts, [*starts[1:], len(folders)], strict=True)
        ]


def _rows_of(stated: StatedPoses, names: tuple[str, ...], rows: FloatArray) -> StatedPoses:
    chosen = rows.astype(int)
    return replace(
        stated,
        names=names,
        rotations=stated.rotations[chosen],
        positions=stated.positions[chosen],
    )
