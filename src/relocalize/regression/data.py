"""What a training learns from: the train images of a Place, and which of them validate."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place, Split
from relocalize.regression.depths import cell_depths
from relocalize.regression.frames import TrainingFrames
from relocalize.regression.image_input import ImageInput
from relocalize.regression.settings import TrainSettings
from relocalize.regression.time_blocks import Rows

# Settings that a killed run may be resumed with other values of. Whether there is a bound of
# minutes matters to a resumed run, where it lies does not.
_NOT_OF_THE_RESULT = ("checkpoint_minutes", "threads", "minutes")


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Train images, those to train on and those to validate on."""

    place: Place  # that they are of
    settings: TrainSettings  # of the training
    frames: TrainingFrames  # all train images of the split that have a pose
    images: ImageInput  # how they become the network's input
    train: Rows  # rows of the frames to train on
    validation: Rows  # rows of those that choose the epoch and calibrate the uncertainty

    @classmethod
    def prepare(cls, place: Place, split: Split | None, settings: TrainSettings) -> TrainingData:
        """The train images of a split (without one: all that have a pose).

        Validation images are cut from them by blocks of time.

        Raises:
            LocalizerError: too few images, or none that has a pose.
        """
        frames = TrainingFrames.prepare(place, split, settings.input)
        # A split that asks for the end of a walk is prepared for by the same question.
        asks_for_end = split is not None and split.rule == "later"
        train, validation = frames.validation(
            settings.validation_share, where="end" if asks_for_end else "even"
        )
        images = ImageInput(settings.input, frames.target)
        return cls(place, settings, frames, images, train, validation)

    @property
    def train_poses(self) -> FloatArray:
        """world_from_cam [N, 4, 4] of the images to train on."""
        return self.frames.world_from_cams[self.train]

    @property
    def validation_poses(self) -> FloatArray:
        """world_from_cam [V, 4, 4] of the validation images."""
        return self.frames.world_from_cams[self.validation]

    @property
    def copies(self) -> int:
        """Augmented copies of each frame whose features are kept."""
        return self.settings.copies_of(len(self.frames))

    @property
    def key(self) -> str:
        """Changes when anything does that the result of a training depends on."""
        values = asdict(self.settings)
        for name in _NOT_OF_THE_RESULT:
            values.pop(name)
        digest = hashlib.sha256(json.dumps([values, self.frames.key, self.frames.names]).encode())
        digest.update(self.frames.world_from_cams.tobytes())
        return digest.hexdigest()

    def depths(
        self, row: int, world_from_cam: FloatArray, cells: tuple[int, int]
    ) -> NDArray[np.float32]:
        """`cell_depths` [2, cells] of a frame, or of a copy of it with that pose [4, 4]."""
        points = self.frames.points(row)
        return cell_depths(self.frames.target, points, world_from_cam, cells).astype(np.float32)
