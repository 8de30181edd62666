"""Where the batches of a training come from: images varied on the fly, or kept features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relocalize.geometry.transforms import FloatArray
from relocalize.regression.batches import Rows
from relocalize.regression.depths import cell_depths
from relocalize.regression.device import Device
from relocalize.regression.feature_cache import FeatureCache
from relocalize.regression.frames import TrainingFrames
from relocalize.regression.heads import PoseOutput
from relocalize.regression.image_input import ImageInput
from relocalize.regression.model import PoseRegressor
from relocalize.regression.settings import AugmentSettings


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step is made from.

    Attributes:
        rows: [B] train frames that it shows.
        inputs: images [B, h, w, 3] uint8, or feature maps [B, C, H, W] float32 by stage.
        world_from_cams: [B, 4, 4], of what the inputs show.
        depths: [B, 2, cells] of what the head's cells see, as `cell_depths`; None where the head
            has no cells.
    """

    rows: Rows
    inputs: NDArray[np.uint8] | Mapping[str, Tensor]
    world_from_cams: FloatArray
    depths: FloatArray | None = None

    def outputs(self, model: PoseRegressor, device: Device) -> PoseOutput:
        """What the model says, in the device's format."""
        if isinstance(self.inputs, np.ndarray):
            pixels = torch.from_numpy(self.inputs).to(device.torch_device, non_blocking=True)
            images = device.images(model.normalise(pixels))
            with device.mixed():
                output: PoseOutput = model(images)
            return output
        maps = {
            name: values.to(device.torch_device, non_blocking=True)
            for name, values in self.inputs.items()
        }
        with device.mixed():
            return model.from_features(maps)


class Supply(Protocol):
    """A source of batches; the same rows of the same epoch are the same batch."""

    def batch(self, rows: Rows, epoch: int) -> Batch:
        """These train frames, varied for this epoch."""
        ...


class ImageSupply:
    """Train frames varied anew in every epoch, several at a time."""

    def __init__(
        self,
        frames: TrainingFrames,
        images: ImageInput,
        settings: AugmentSettings,
        *,
        seed: int,
        workers: int,
        cells: tuple[int, int] | None = None,
    ) -> None:
        self._frames, self._images, self._cells = frames, images, cells
        self._settings, self._seed = settings, seed
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="augment")

    def batch(self, rows: Rows, epoch: int) -> Batch:
        """These train frames, varied for this epoch."""

        def varied(row: int) -> tuple[NDArray[np.uint8], FloatArray]:
            return self._images.varied(
                self._frames, row, self._settings, seed=self._seed, epoch=epoch
            )

        copies = list(self._pool.map(varied, [int(row) for row in rows]))
        poses = np.stack([pose for _, pose in copies])
        depths = None
        if self._cells is not None:
            pairs = zip(rows, poses, strict=True)
            depths = np.stack([_depths(self._frames, int(r), p, self._cells) for r, p in pairs])
        return Batch(rows, np.stack([image for image, _ in copies]), poses, depths)

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class FeatureSupply:
    """Kept features of frames and their copies: each epoch one of a frame's, all equally often."""

    def __init__(
        self,
        cache: FeatureCache,
        frames: TrainingFrames,
        *,
        seed: int,
        cells: tuple[int, int] | None = None,
    ) -> None:
        self._cache, self._frames, self._seed, self._cells = cache, frames, seed, cells
        self._depths: dict[tuple[int, int], FloatArray] = {}

    def batch(self, rows: Rows, epoch: int) -> Batch:
        """One copy of each of these train frames."""
        frames, copies = self._cache.world_from_cams.shape[:2]
        round_, turn = divmod(epoch - 1, copies)
        order = np.tile(np.arange(copies), (frames, 1))
        np.random.default_rng((self._seed, round_)).permuted(order, axis=1, out=order)
        chosen = order[rows, turn]
        poses = self._cache.world_from_cams[rows, chosen]
        return Batch(rows, self._cache.batch(rows, chosen), poses, self._depths_of(rows, chosen))

    def _depths_of(self, rows: Rows, copies: Rows) -> FloatArray | None:
        """Of the cells, found when they are first asked for."""
        if self._cells is None:
            return None
        found = []
        for key in zip(rows.tolist(), copies.tolist(), strict=True):
            if key not in self._depths:
                pose = self._cache.world_from_cams[key]
                self._depths[key] = _depths(self._frames, key[0], pose, self._cells)
            found.append(self._depths[key])
        return np.stack(found)


def _depths(
    frames: TrainingFrames, row: int, world_from_cam: FloatArray, cells: tuple[int, int]
) -> FloatArray:
    found = cell_depths(frames.target, frames.points(row), world_from_cam, cells)
    return found.astype(np.float32)


class Ahead:
    """Makes the next batch while the network is at work on this one."""

    def __init__(self, supply: Supply) -> None:
        self._supply = supply
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[tuple[int, int], Future[Batch]] | None = None

    def take(
        self, index: tuple[int, int], rows: Rows, following: tuple[tuple[int, int], Rows] | None
    ) -> Batch:
        """Batch ``index`` (epoch, number) of these rows; ``following`` is begun."""
        if self._next is not None and self._next[0] == index:
            batch = self._next[1].result()
        else:
            batch = self._supply.batch(rows, index[0])
        self._next = None
        if following is not None:
            (epoch, number), its_rows = following
            future = self._pool.submit(self._supply.batch, its_rows, epoch)
            self._next = ((epoch, number), future)
        return batch

    def close(self) -> None:
        """End its thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def ahead(supply: Supply) -> Iterator[Ahead]:
    """`Ahead` of a supply; its threads end with the context."""
    running = Ahead(supply)
    try:
        yield running
    finally:
        running.close()
        if isinstance(supply, ImageSupply):
            supply.close()
