"""How pictures become what a regressor sees: brought to one camera, or PoseNet's crops of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray
from relocalize.learning.augmentation import AugmentSettings, augment, copy_rng
from relocalize.learning.canonical import warp
from relocalize.learning.crops import centre_crop, posenet_crops, random_crop
from relocalize.learning.frames import TrainingFrames
from relocalize.learning.settings import InputSettings

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class PictureInput:
    """From pictures to the network's input.

    Attributes:
        settings: size and geometry.
        target: the camera that pictures are brought to; PoseNet's crops are cut from its picture.
    """

    settings: InputSettings
    target: Camera

    @property
    def _side(self) -> int:
        return min(self.settings.width, self.settings.height)

    def of_photo(self, pixels: Pixels, camera: Camera, *, crops: int | None = None) -> Pixels:
        """[K, h, w, 3] of a photo [H, W, 3] by ``camera``: K crops, their poses to be averaged.

        Args:
            pixels: of the photo.
            camera: of the photo.
            crops: K; default as the settings say.

        Raises:
            GeometryError: the photo is not the camera's, or it has no pinhole view.
        """
        picture, _ = warp(pixels, camera, self.target)
        return self.of_target(picture, self.settings.test_crops if crops is None else crops)

    def of_target(self, picture: Pixels, crops: int = 1) -> Pixels:
        """[K, h, w, 3] of a picture that the target camera sees [H, W, 3]."""
        if self.settings.geometry == "canonical":
            return picture[None]
        cut = posenet_crops(self.target, crops, self._side)
        return np.stack([np.asarray(crop.of(picture), dtype=np.uint8) for crop in cut])

    def of_frames(self, frames: TrainingFrames, rows: NDArray[np.int64]) -> Pixels:
        """[B, h, w, 3] of train frames as they are; of crops the middle ones."""
        return np.concatenate([self.of_target(frames.pixels[row]) for row in rows])

    def varied(
        self, frames: TrainingFrames, row: int, settings: AugmentSettings, *, seed: int, epoch: int
    ) -> tuple[Pixels, FloatArray]:
        """A copy [h, w, 3] of train frame ``row`` for one epoch, and its pose [4, 4].

        PoseNet's random crop turns the view by up to 12 degrees and leaves the label as it is,
        as the paper does.
        """
        rng = copy_rng(seed, epoch, row)
        pose = frames.world_from_cams[row]
        if settings.is_none:
            picture: Pixels = np.asarray(frames.pixels[row])
        else:
            picture, pose = augment(
                frames.source(row),
                frames.cameras[row],
                pose,
                self.target,
                rng,
                settings,
                points=frames.points(row) if settings.shift else None,
            )
        if self.settings.geometry == "canonical":
            return picture, pose
        crop = random_crop(self.target, rng, self._side)
        return np.asarray(crop.of(picture), dtype=np.uint8), pose

    def mean_picture(self, frames: TrainingFrames, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[3, h, w] RGB in 0..1: the mean of the inputs of train frames ``rows``."""
        total = np.zeros((3, self.settings.height, self.settings.width))
        for row in rows:
            total += self.of_target(frames.pixels[row])[0].transpose(2, 0, 1)
        return np.asarray(total / (255 * max(1, len(rows))), dtype=np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        if self.settings.geometry == "canonical":
            return self.target.height, self.target.width
        crop = centre_crop(self.target, self._side).camera
        return crop.height, crop.width
