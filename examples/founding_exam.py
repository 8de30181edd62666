"""The founding story's test: photos of the second camera, what was answered, and how far off.

Answers are kept in files, since some mistakes are made on the answers and others before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from founding_mistakes import Off, off, squeezed, taken_as
from numpy.typing import NDArray

from relocalize import Camera, Localizer, Place, Rigid3, progress
from relocalize.capture.photos import read_photo
from relocalize.localization.regressor import RegressorLocalizer
from relocalize.place import atomic
from relocalize.place.folder import read_json
from relocalize.regression.device import choose_device
from relocalize.regression.inference import answers_to

REGRESSOR, STRUCTURE = "regressor", "structure"
# How photos are given to the localizers.
RIGHT, FIRST_CAMERA, SQUEEZED = "right", "first_camera", "squeezed"

Poses = dict[str, Rigid3]
Answers = dict[str, Rigid3 | None]


def file_name(image: str) -> str:
    """Of an image of a Place."""
    return image.rpartition("/")[2]


@dataclass(frozen=True, eq=False)
class Exam:
    """Photos of the second data set, and who is asked where they were taken.

    Attributes:
        photos: files by file name.
        cameras: of them.
        truth: their poses in the first data set's frame, from the aligned second one.
        walk_camera: the camera that the localizers learned from.
        regressor: trained on the walk.
        structure: fitted on it.
        folder: for answers.
    """

    photos: dict[str, Path]
    cameras: dict[str, Camera]
    truth: Poses
    walk_camera: Camera
    regressor: RegressorLocalizer
    structure: Localizer
    folder: Path

    @classmethod
    def of(
        cls,
        second: Place,
        without: set[str],
        walk_camera: Camera,
        localizers: tuple[RegressorLocalizer, Localizer],
        folder: Path,
    ) -> Exam:
        """The photos of a Place but for those that were given to the first one too."""
        images = {
            file_name(image.name): image
            for image in second.posed_images()
            if file_name(image.name) not in without
        }
        return cls(
            {name: second.image_path(image.name) for name, image in images.items()},
            {name: image.camera for name, image in images.items()},
            {name: image.world_from_cam for name, image in images.items()},
            walk_camera,
            *localizers,
            folder,
        )

    def regressed(self, how: str = RIGHT) -> Answers:
        """The regressor's answers; none where it calls itself too unsure."""
        return {name: _pose(row["answer"]) for name, row in self._rows(REGRESSOR, how).items()}

    def regressed_anyway(self, how: str = RIGHT) -> Answers:
        """What the network alone says, as the students' did: an answer to every photo."""
        return {name: _pose(row["anyway"]) for name, row in self._rows(REGRESSOR, how).items()}

    def structured(self, how: str = RIGHT) -> Answers:
        """The structure localizer's answers."""
        return {name: _pose(row["answer"]) for name, row in self._rows(STRUCTURE, how).items()}

    def errors(
        self, truth: Mapping[str, Rigid3] | None = None, how: str = RIGHT
    ) -> tuple[Off, Off]:
        """Of the regressor (made to answer) and the structure localizer, against a truth."""
        against = self.truth if truth is None else truth
        return off(self.regressed_anyway(how), against), off(self.structured(how), against)

    def seen(self, name: str, how: str) -> tuple[NDArray[np.uint8], Camera]:
        """A photo [H, W, 3] and its camera, as they are or as a mistake has them."""
        pixels = read_photo(self.photos[name]).pixels
        if how == SQUEEZED:
            return squeezed(pixels, self.walk_camera), self.walk_camera
        if how == FIRST_CAMERA:
            return pixels, taken_as(self.walk_camera, pixels)
        return pixels, self.cameras[name]

    def _rows(self, localizer: str, how: str) -> dict[str, Any]:
        path = self.folder / f"{localizer}-{how}.json"
        training = self.regressor.facts.training
        trained = [training["seconds"], training["preparation_seconds"]]
        if path.is_file():
            known = read_json(path)
            if known["trained"] == trained and known["rows"].keys() == self.photos.keys():
                rows: dict[str, Any] = known["rows"]
                return rows
        rows = {
            name: self._row(localizer, *self.seen(name, how))
            for name in progress.track(
                self.photos, f"{localizer}, {how}", total=len(self.photos), unit="photos"
            )
        }
        self.folder.mkdir(exist_ok=True)
        atomic.write_json(path, {"trained": trained, "rows": rows})
        return rows

    def _row(self, localizer: str, pixels: NDArray[np.uint8], camera: Camera) -> dict[str, Any]:
        asked = self.regressor if localizer == REGRESSOR else self.structure
        estimate = asked.localize(pixels, camera)
        pose = estimate.world_from_cam
        row = {
            "answer": None if pose is None else pose.matrix.tolist(),
            "reason": estimate.reason,
        }
        if localizer == REGRESSOR:
            row["anyway"] = self._anyway(pixels, camera).tolist()
        return row

    def _anyway(self, pixels: NDArray[np.uint8], camera: Camera) -> NDArray[np.float64]:
        settings = self.regressor.facts.settings
        device = choose_device("cpu", threads=settings.threads, precision=settings.precision)
        inputs = self.regressor.images.of_photo(pixels, camera)
        with device.running():
            answers = answers_to(self.regressor.parts.model, inputs, device)
        turns = self.regressor.images.turns
        pose: NDArray[np.float64] = answers.averaged(turns).world_from_cams[0]
        return pose


def _pose(matrix: Any) -> Rigid3 | None:
    return None if matrix is None else Rigid3.from_matrix(np.array(matrix))
