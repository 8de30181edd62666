"""Where the batches of a training come from: images varied on the fly, or cached features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relocalize.geometry.transforms import FloatArray
from relocalize.parallel import worker_count
from relocalize.regression.answers import Answers, Float32Array
from relocalize.regression.data import TrainingData
from relocalize.regression.device import Device
from relocalize.regression.feature_cache import FeatureCache
from relocalize.regression.heads import PoseOutput
from relocalize.regression.inference import answers_from, answers_to, described
from relocalize.regression.model import PoseRegressor
from relocalize.regression.novelty import KnownViews
from relocalize.regression.time_blocks import Rows

_DESCRIBED_AT_ONCE = 64  # images


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step is made from."""

    rows: Rows  # [B] train frames that it shows
    # images [B, h, w, 3] uint8, or feature maps [B, C, H, W] float32 by stage
    inputs: NDArray[np.uint8] | Mapping[str, Tensor]
    world_from_cams: FloatArray  # [B, 4, 4], of what the inputs show
    # [B, 2, cells] of what the head's cells see, as `cell_depths`; None where the head has no cells
    depths: NDArray[np.float32] | None = None

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


class DataSource(ABC):
    """A source of batches, and of what is asked of a network about the same images.

    Attributes:
        data: the images.
        cells: rows and columns of the head's cells, whose depths batches have; None without.
        device: that the network is on.
    """

    def __init__(self, data: TrainingData, cells: tuple[int, int] | None, device: Device) -> None:
        self.data, self.cells, self.device = data, cells, device

    @abstractmethod
    def batch(self, rows: Rows, epoch: int) -> Batch:
        """These train frames, varied for this epoch; the same whenever it is asked."""

    @abstractmethod
    def validation_answers(self, model: PoseRegressor) -> Answers:
        """The network's answers to the validation images."""

    @abstractmethod
    def known_views(self, model: PoseRegressor, rows: Rows) -> KnownViews:
        """What these frames look like to the network."""

    def close(self) -> None:  # noqa: B027 - not every source has some
        """End its threads."""


class ImageSource(DataSource):
    """Train frames varied anew in every epoch, several at a time."""

    def __init__(self, data: TrainingData, cells: tuple[int, int] | None, device: Device) -> None:
        super().__init__(data, cells, device)
        self._pool = ThreadPoolExecutor(worker_count(), thread_name_prefix="augment")
        self._validation = data.images.of_frames(data.frames, data.validation)

    def batch(self, rows: Rows, epoch: int) -> Batch:
        """These train frames, varied for this epoch."""
        data, settings = self.data, self.data.settings

        def varied(row: int) -> tuple[NDArray[np.uint8], FloatArray]:
            return data.images.varied(
                data.frames, row, settings.augment, seed=settings.seed, epoch=epoch
            )

        images, poses = zip(*self._pool.map(varied, rows.tolist()), strict=True)
        depths = None
        if self.cells is not None:
            pairs = zip(rows.tolist(), poses, strict=True)
            depths = np.stack([data.depths(row, pose, self.cells) for row, pose in pairs])
        return Batch(rows, np.stack(images), np.stack(poses), depths)

    def validation_answers(self, model: PoseRegressor) -> Answers:
        """The network's answers to the validation images."""
        return answers_to(model, self._validation, self.device, samples=self.data.settings.samples)

    def known_views(self, model: PoseRegressor, rows: Rows) -> KnownViews:
        """What these frames look like to the network."""
        frames = self.data.frames
        seen = answers_to(model, self.data.images.of_frames(frames, rows), self.device)
        return KnownViews.learn(seen.descriptions, frames.world_from_cams[rows])

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class FeatureSource(DataSource):
    """Cached features of frames and their copies: each epoch one of a frame's, equally often."""

    def __init__(
        self, data: TrainingData, cells: tuple[int, int] | None, device: Device, cache: FeatureCache
    ) -> None:
        super().__init__(data, cells, device)
        self._cache = cache
        self._depths: dict[tuple[int, int], NDArray[np.float32]] = {}
        found = cache.batch(data.validation, np.zeros_like(data.validation))
        self._validation = {stage: maps.to(device.torch_device) for stage, maps in found.items()}

    def batch(self, rows: Rows, epoch: int) -> Batch:
        """One copy of each of these train frames."""
        frames, copies = self._cache.world_from_cams.shape[:2]
        round_, turn = divmod(epoch - 1, copies)
        order = np.tile(np.arange(copies), (frames, 1))
        rng = np.random.default_rng((self.data.settings.seed, round_))
        rng.permuted(order, axis=1, out=order)
        chosen = order[rows, turn]
        poses = self._cache.world_from_cams[rows, chosen]
        return Batch(rows, self._cache.batch(rows, chosen), poses, self._depths_of(rows, chosen))

    def _depths_of(self, rows: Rows, copies: Rows) -> NDArray[np.float32] | None:
        """Of the cells, found when they are first asked for."""
        if self.cells is None:
            return None
        keys = list(zip(rows.tolist(), copies.tolist(), strict=True))
        for key in keys:
            if key not in self._depths:
                pose = self._cache.world_from_cams[key]
                self._depths[key] = self.data.depths(key[0], pose, self.cells)
        return np.stack([self._depths[key] for key in keys])

    def validation_answers(self, model: PoseRegressor) -> Answers:
        """The network's answers to the validation images."""
        return answers_from(model, self._validation, samples=self.data.settings.samples)

    def known_views(self, model: PoseRegressor, rows: Rows) -> KnownViews:
        """What these frames and copies of them look like to the frozen backbone."""
        copies = min(self.data.settings.indexed_copies, self._cache.copies - 1)
        if copies == 0:
            return KnownViews.learn(*self._described(rows, 0))
        found = (self._described(rows, number) for number in range(1, copies + 1))
        descriptions, poses = zip(*found, strict=True)
        return KnownViews.learn(
            *self._described(rows, 0), copies=(np.concatenate(descriptions), np.concatenate(poses))
        )

    def _described(self, rows: Rows, copy: int) -> tuple[Float32Array, FloatArray]:
        """Descriptions [N, D] of a copy of each of these frames, and their poses [N, 4, 4]."""
        parts = np.array_split(rows, -(-len(rows) // _DESCRIBED_AT_ONCE))
        seen = [described(self._cache.batch(part, np.full_like(part, copy)))[0] for part in parts]
        return torch.cat(seen).numpy(), self._cache.world_from_cams[rows, copy]


class Prefetcher:
    """Makes the next batch of a source while the network is at work on this one."""

    def __init__(self, source: DataSource, batches: Callable[[int], Sequence[Rows]]) -> None:
        """Of a source; ``batches`` gives the rows of each batch of an epoch."""
        self._source, self._batches = source, batches
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._begun: dict[tuple[int, int], Future[Batch]] = {}

    def take(self, epoch: int, number: int) -> Batch:
        """Batch ``number`` of an epoch; the one after it is begun."""
        batches = self._batches(epoch)
        future = self._begun.get((epoch, number))
        batch = self._source.batch(batches[number], epoch) if future is None else future.result()
        following = (epoch, number + 1) if number + 1 < len(batches) else (epoch + 1, 0)
        rows = self._batches(following[0])[following[1]]
        self._begun = {following: self._pool.submit(self._source.batch, rows, following[0])}
        return batch

    def close(self) -> None:
        """End its thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def epoch_batches(rows: Rows, batch_size: int, *, seed: int, epoch: int) -> list[Rows]:
    """The frames ``rows`` in random order, in batches of nearly equal size.

    A last batch of a few frames would be a step of their noise, and batch normalisation cannot
    do with one. The same for the same seed and epoch.
    """
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    return np.array_split(order, max(1, -(-len(order) // batch_size)))


def epoch_tuples(data: TrainingData, epoch: int) -> list[Rows]:
    """Batches of tuples of frames in time order, as many that each frame comes about once.

    Tuples do not span captures, nor what was cut out for validation (they may bridge it, as
    spacing does). A walk that is too short for the spacing has closer tuples.
    """
    rows, captures, loss = data.train, data.frames.captures, data.settings.loss
    size, spacing = loss.tuple_size, loss.tuple_spacing
    tuples = []
    for capture in dict.fromkeys(captures[row] for row in rows):
        walk = np.array([row for row in rows if captures[row] == capture])
        step = max(1, min(spacing, (len(walk) - 1) // max(1, size - 1)))
        last = len(walk) - step * (size - 1)
        tuples += [walk[start : start + step * (size - 1) + 1 : step] for start in range(last)]
    order = np.random.default_rng((data.settings.seed, epoch)).permutation(len(tuples))
    kept = [tuples[index] for index in order[: max(1, -(-len(rows) // size))]]
    count = max(1, -(-len(kept) * size // data.settings.optimizer.batch_size))
    return [
        np.concatenate([kept[index] for index in part])
        for part in np.array_split(np.arange(len(kept)), count)
        if len(part)
    ]
