"""What is to be checked: images with the poses that somebody claims for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import PlaceError
from relocalize.formats import Registration, StatedPoses
from relocalize.formats.images import FoundImages, natural_key
from relocalize.geometry import Camera, Convention, Rigid3
from relocalize.place import Place
from relocalize.place.image_file import rgb

ReadPixels = Callable[[str], NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Claims:
    """N images in the natural order of their names, and what is claimed of them."""

    source: str  # what is checked, for people
    names: tuple[str, ...]  # of the images
    stated: StatedPoses  # the numbers of their poses, a row per image
    read: ReadPixels  # decodes an image, RGB [H, W, 3]
    camera_of: Callable[[str, int, int], Camera]  # the claimed camera of an image of so many pixels
    # images that could not be used, with the reason, as ``name: reason``
    unused: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()  # rows of the file that were left out

    @classmethod
    def of_files(cls, registration: Registration, files: FoundImages) -> Claims:
        """The listed images, under the file's names, that have an image among ``files``."""
        file_of = {image.listed: image for image in files.usable}
        stated = registration.stated
        row_of = {name: row for row, name in enumerate(stated.names)}
        return cls(
            source=registration.source,
            names=tuple(file_of),
            stated=stated.only(tuple(file_of), [row_of[name] for name in file_of]),
            read=lambda name: rgb(file_of[name].opened()),
            camera_of=lambda name, width, height: file_of[name].camera,
            unused=(
                *(f"{name}: no image" for name in files.absent),
                *(f"{name}: {why}" for name, why in files.ambiguous.items()),
                *(f"{dropped.source}: {dropped.reason}" for dropped in files.left_out),
            ),
            problems=registration.problems,
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
        return cls(
            source=str(place.root),
            names=names,
            stated=StatedPoses.of({name: images[name].world_from_cam for name in names}),
            read=place.read_image,
            camera_of=lambda name, width, height: images[name].camera,
        )

    def only(self, rows: Sequence[int]) -> Claims:
        """The claims of some of the images."""
        names = tuple(self.names[row] for row in rows)
        return replace(self, names=names, stated=self.stated.only(names, list(rows)))

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
