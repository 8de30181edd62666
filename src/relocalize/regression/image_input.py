"""How images become what a regressor sees: brought to one camera, or PoseNet's crops of it.

A photo may be shown several times, and the answers averaged: PoseNet's crops (ICCV 2015, section
3.1), or, brought to one camera, as it is and as seen by the camera turned a little each way. A
turn moves what is seen across the borders of the network's cells, and its answer with it, by as
much as its error: that part averages out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray, rotations_from_rotvecs
from relocalize.regression.augmentation import augment, copy_rng
from relocalize.regression.canonical import warp
from relocalize.regression.crops import posenet_crops, random_crop
from relocalize.regression.settings import AugmentSettings, InputSettings

if TYPE_CHECKING:  # what reads images of every format is for training
    from relocalize.regression.frames import TrainingFrames

Pixels = NDArray[np.uint8]

# Degrees about the camera's y and x axis: to the sides, up and down. With the default input 5 are
# a cell of its grid, and half a cell of the deepest map.
_TURNS_DEG = ((0.0, 0.0), (5.0, 0.0), (-5.0, 0.0), (0.0, 5.0), (0.0, -5.0))


@dataclass(frozen=True)
class ImageInput:
    """From images to the network's input."""

    settings: InputSettings  # size and geometry
    target: Camera  # the camera that images are brought to; PoseNet's crops are cut from its image

    @property
    def _side(self) -> int:
        return min(self.settings.width, self.settings.height)

    @property
    def turns(self) -> FloatArray | None:
        """[K, 3, 3] from the photo's camera axes to those of what `of_photo` shows of it.

        None where crops are taken for the whole image, as in PoseNet.
        """
        return None if self.settings.geometry == "posenet" else _turns(self.settings.test_crops)

    def of_photo(
        self,
        pixels: Pixels,
        camera: Camera,
        *,
        crops: int | None = None,
        rolled: FloatArray | None = None,
    ) -> Pixels:
        """[K, h, w, 3] of a photo [H, W, 3] by ``camera``; the first is the photo as it is.

        Args:
            pixels: of the photo.
            camera: of the photo.
            crops: K; default as the settings say.
            rolled: rotation [3, 3] about the viewing direction, from the photo's camera axes to
                those in which it is shown; default none. The turns are those of that camera.

        Raises:
            GeometryError: the photo is not the camera's, or it has no pinhole view.
        """
        count = self.settings.test_crops if crops is None else crops
        image, _ = warp(pixels, camera, self.target, rolled)
        if self.settings.geometry == "posenet":
            return self.of_target(image, count)
        once = rolled is not None
        turns = _turns(count)[1:] if rolled is None else _turns(count)[1:] @ rolled
        turned = (warp(pixels, camera, self.target, R, kept=not once)[0] for R in turns)
        return np.stack([image, *turned])

    def of_frame(self, frames: TrainingFrames, row: int) -> Pixels:
        """[K, h, w, 3] of a train frame, as `of_photo` of a photo."""
        if self.settings.geometry == "posenet" or self.settings.test_crops == 1:
            return self.of_target(frames.pixels[row], self.settings.test_crops)
        return self.of_photo(frames.source(row), frames.cameras[row])

    def of_target(self, image: Pixels, crops: int = 1) -> Pixels:
        """[K, h, w, 3] of an image that the target camera sees [H, W, 3]."""
        if self.settings.geometry == "canonical":
            return image[None]
        cut = posenet_crops(self.target, crops, self._side)
        return np.stack([np.asarray(crop.of(image), dtype=np.uint8) for crop in cut])

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
        image, pose = self._copy(frames, row, settings, rng)
        if self.settings.geometry == "canonical":
            return image, pose
        crop = random_crop(self.target, rng, self._side)
        return np.asarray(crop.of(image), dtype=np.uint8), pose

    def of_copy(
        self, frames: TrainingFrames, row: int, settings: AugmentSettings, *, seed: int, number: int
    ) -> tuple[Pixels, FloatArray]:
        """[K, h, w, 3] of a copy of frame ``row``, as `of_photo`, and its pose [4, 4]."""
        image, pose = self._copy(frames, row, settings, copy_rng(seed, number, row))
        if self.settings.geometry == "posenet" or self.settings.test_crops == 1:
            return self.of_target(image, self.settings.test_crops), pose
        return self.of_photo(image, self.target), pose

    def _copy(
        self, frames: TrainingFrames, row: int, settings: AugmentSettings, rng: np.random.Generator
    ) -> tuple[Pixels, FloatArray]:
        """A copy of a frame as the target camera sees it, and its pose [4, 4]."""
        pose = frames.world_from_cams[row]
        if settings.is_none:
            return np.asarray(frames.pixels[row]), pose
        return augment(
            frames.source(row),
            frames.cameras[row],
            pose,
            self.target,
            rng,
            settings,
            points=frames.points(row) if settings.shift else None,
        )

    def mean_image(self, frames: TrainingFrames, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[3, h, w] RGB in 0..1: the mean of the inputs of train frames ``rows``."""
        total = np.zeros((3, self.settings.height, self.settings.width))
        for row in rows:
            total += self.of_target(frames.pixels[row])[0].transpose(2, 0, 1)
        return np.asarray(total / (255 * max(1, len(rows))), dtype=np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        canonical = self.settings.geometry == "canonical"
        return (self.target.height, self.target.width) if canonical else (self._side, self._side)


def _turns(count: int) -> FloatArray:
    about_y, about_x = np.radians(_TURNS_DEG[:count]).T
    none = np.zeros(count)
    rotations: FloatArray = rotations_from_rotvecs(
        np.stack([about_x, none, none], axis=1)
    ) @ rotations_from_rotvecs(np.stack([none, about_y, none], axis=1))
    return rotations
