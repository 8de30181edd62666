"""What a frozen backbone makes of every train frame and of its augmented copies, on disk.

The backbone runs once per image; training a head on what is kept costs little more than reading
it. The copies are drawn once, so the number of them takes the place of epochs of new ones.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relocalize import progress
from relocalize.errors import LocalizerError
from relocalize.geometry.transforms import FloatArray
from relocalize.parallel import map_in_order
from relocalize.place import atomic
from relocalize.regression.answers import SHOWN
from relocalize.regression.augmentation import copy_rng, draw_view
from relocalize.regression.backbones import Backbone
from relocalize.regression.data import TrainingData
from relocalize.regression.device import Device
from relocalize.regression.disk_rows import DiskRows, RowLayout
from relocalize.regression.folding import folded
from relocalize.regression.frames import cache_folder
from relocalize.regression.heads import resized
from relocalize.regression.heads.shown import shown
from relocalize.regression.onnx_export import OnnxBackbone
from relocalize.regression.principal_channels import ChannelReduction, ChannelStatistics
from relocalize.regression.time_blocks import Rows

_VERSION = 6  # of how features are made; others are made again
_PRINCIPAL = "principal.pt"
_KEPT = 3  # caches that lie side by side; each may take a gigabyte
# Cells of these many frames give the leading directions of 1280 channels to a few percent.
_PRINCIPAL_FRAMES = 256
_BATCH = 32  # images; more gain nothing on a processor
_HALF_LIMIT = 65504.0  # float16's largest number


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """Feature maps of N frames and C copies of each; copy 0 is the frame itself."""

    # by stage [N * (C + 1), c, h, w] float16, read-only memory maps; row ``copy * N + frame``; and
    # `SHOWN`
    maps: dict[str, NDArray[np.float16]]
    world_from_cams: FloatArray  # [N, C + 1, 4, 4], of the copies that are there
    # by stage how channels were reduced; empty where all are kept
    principal: dict[str, ChannelReduction]
    key: str  # of everything that the maps depend on

    @classmethod
    def prepare(
        cls,
        data: TrainingData,
        backbone: Backbone,
        stages: Sequence[str],
        device: Device,
        *,
        workers: int = 1,
        seconds: float | None = None,
    ) -> FeatureCache:
        """The features of all frames, computed unless they were before.

        The settings of the training say how many copies are kept, how they differ, how many
        principal channels of each stage (learnt from the images to train on, as they are), and
        the grid that maps are averaged to where the head has one.

        Args:
            data: the images.
            backbone: with its weights, frozen, on the device.
            stages: of the backbone, shallow to deep.
            device: that the backbone runs on.
            workers: threads that each make and look at a batch.
            seconds: that this may take: the copies that are there by then are enough, and one is.

        Raises:
            LocalizerError: no such stage, a backbone that is not frozen, or a full disk.
            PlaceError: another process writes to the Place.
        """
        if not backbone.frozen:
            raise LocalizerError(
                f"the features of {backbone.name} change as it is trained; freeze it to keep them"
            )
        key = _fingerprint(data, backbone, stages, device)
        extractor = _Extractor(data, folded(backbone), tuple(stages), device, workers)
        count = len(data.frames) * (data.copies + 1)
        folder = cache_folder(data.place) / f"features-{key}"
        layouts = extractor.layouts()
        rows = DiskRows(folder, count, layouts, kept=_KEPT)
        principal = _known_principal(rows, extractor)
        least = len(data.frames) * min(2, data.copies + 1)
        enough = least if seconds == 0 else count
        if principal is None or rows.finished < enough:
            until = None if seconds is None else time.perf_counter() + seconds
            # Batches side by side need no threads of their own.
            with data.place.lock(), replace(device, threads=1).running():
                principal = _fill(rows, extractor, least, until)
        copies = rows.finished // len(data.frames)
        maps = {name: rows.array(name)[: copies * len(data.frames)] for name in layouts}
        return cls(maps, _poses(data, copies), principal, key)

    @property
    def copies(self) -> int:
        """Copies of each frame, the frame itself counted: C + 1."""
        return int(self.world_from_cams.shape[1])

    def batch(self, frames: Rows, copies: Rows) -> dict[str, Tensor]:
        """Maps [B, c, h, w] float32 by stage of copies [B] of frames [B]."""
        rows = copies * len(self.world_from_cams) + frames
        return {
            stage: torch.from_numpy(np.asarray(maps[rows])).float()
            for stage, maps in self.maps.items()
        }


@dataclass(frozen=True, eq=False)
class _Extractor:
    """Images of frames and copies, and what the backbone makes of them."""

    data: TrainingData
    backbone: Backbone
    stages: tuple[str, ...]
    device: Device
    workers: int

    def image(self, frame: int, copy: int) -> NDArray[np.uint8]:
        """[h, w, 3] of a copy of a frame."""
        data, settings = self.data, self.data.settings
        if copy == 0:
            pixels: NDArray[np.uint8] = data.images.of_frames(data.frames, np.array([frame]))[0]
            return pixels
        return data.images.varied(
            data.frames, frame, settings.augment, seed=settings.seed, epoch=copy
        )[0]

    def maps(self, pixels: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Raw feature maps [B, C, H, W] float32 of images [B, h, w, 3], and `SHOWN`."""
        mean, std = (
            torch.tensor(values)[:, None, None]
            for values in (self.backbone.mean, self.backbone.std)
        )
        images = (torch.from_numpy(pixels).movedim(-1, 1).float() / 255 - mean) / std
        seen = shown(images, mean, std, self.data.settings.head.kept_grid)
        if self._compiled is not None:
            return self._compiled(images.contiguous()) | {SHOWN: seen}
        with torch.inference_mode(), self.device.mixed():
            maps = self.backbone(self.device.images(images), stages=self.stages)
        return {stage: maps[stage].float() for stage in self.stages} | {SHOWN: seen}

    @cached_property
    def _compiled(self) -> OnnxBackbone | None:
        """What takes the backbone's place on a processor; None where torch runs it."""
        if self.device.torch_device.type != "cpu":
            return None
        try:
            return OnnxBackbone(
                self.backbone, self.stages, torch.zeros(1, 3, *self.data.images.shape)
            )
        except LocalizerError as error:
            progress.say(f"torch will make the features, and slower: {error}")
            return None

    def batches(
        self, keys: Sequence[tuple[int, int]]
    ) -> Generator[tuple[list[tuple[int, int]], dict[str, Tensor]]]:
        """Raw maps of (frame, copy) pairs, batch by batch; batches are made side by side."""
        parts = [list(keys[at : at + _BATCH]) for at in range(0, len(keys), _BATCH)]

        def made(part: list[tuple[int, int]]) -> dict[str, Tensor]:
            return self.maps(np.stack([self.image(frame, copy) for frame, copy in part]))

        yield from zip(parts, map_in_order(made, parts, workers=self.workers), strict=True)

    def channels(self, stage: str) -> int:
        """How many are kept of a stage."""
        all_of_them = self.backbone.stages[stage].channels
        return min(all_of_them, self.data.settings.backbone.channels or all_of_them)

    def layouts(self) -> dict[str, RowLayout]:
        """Of a row of each stage, by trying one image."""
        with self.device.running():
            maps = self.maps(self.image(0, 0)[None])
        grid = self.data.settings.head.kept_grid
        return {
            name: RowLayout(
                (1 if name == SHOWN else self.channels(name), *(grid or found.shape[2:])), "float16"
            )
            for name, found in maps.items()
        }

    def kept(
        self, maps: Mapping[str, Tensor], principal: Mapping[str, ChannelReduction]
    ) -> dict[str, NDArray[np.float16]]:
        """What is written of raw maps."""
        rows = {}
        grid = self.data.settings.head.kept_grid
        for stage, found in maps.items():
            cells = (found if grid is None else resized(found, grid)).cpu()
            reduced = principal[stage](cells) if stage in principal else cells
            rows[stage] = reduced.clamp(-_HALF_LIMIT, _HALF_LIMIT).half().numpy()
        return rows

    def learn_principal(self) -> dict[str, ChannelReduction]:
        """Principal channels of train frames as they are, evenly over them."""
        rows = self.data.train
        count = min(len(rows), _PRINCIPAL_FRAMES)
        chosen = rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]
        statistics = {
            stage: ChannelStatistics(self.backbone.stages[stage].channels) for stage in self.stages
        }
        with progress.bar("principal channels", count, "images") as bar:
            for part, maps in self.batches([(int(row), 0) for row in chosen]):
                for stage in self.stages:
                    statistics[stage].add(maps[stage])
                bar.advance(len(part))
        return {stage: one.principal(self.channels(stage)) for stage, one in statistics.items()}


def _poses(data: TrainingData, copies: int) -> FloatArray:
    """[N, copies, 4, 4], the frames themselves first."""
    settings, frames = data.settings, data.frames
    poses = np.repeat(frames.world_from_cams[:, None], copies, axis=1)
    for frame in range(len(frames)):
        points = frames.points(frame) if settings.augment.shift else None
        for copy in range(1, copies):
            view = draw_view(copy_rng(settings.seed, copy, frame), settings.augment)
            poses[frame, copy] = view.world_from_cam(frames.world_from_cams[frame], points)
    return poses


def _fingerprint(
    data: TrainingData, backbone: Backbone, stages: Sequence[str], device: Device
) -> str:
    settings, frames = data.settings, data.frames
    digest = hashlib.sha256()
    about: list[Any] = [
        _VERSION,
        frames.key,
        list(stages),
        settings.head.kept_grid,
        data.copies,
        [asdict(settings.augment), settings.seed] if data.copies else None,
        asdict(data.images),
        backbone.name,
        None if device.torch_device.type == "cpu" else str(device.autocast),
        [settings.backbone.channels, data.train.tolist()] if settings.backbone.channels else None,
    ]
    digest.update(json.dumps(about).encode())
    if data.copies and settings.augment.shift:
        # Only then do images depend on poses and points.
        digest.update(frames.world_from_cams.tobytes())
        for row in range(len(frames)):
            digest.update(frames.points(row).tobytes())
    for name, tensor in backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _fill(
    rows: DiskRows, extractor: _Extractor, least: int, until: float | None
) -> dict[str, ChannelReduction]:
    """Make the rows that are missing, copy by copy; from ``least`` on while there is time."""
    data = extractor.data
    principal = _known_principal(rows, extractor)
    if principal is None:
        # Rows that were made with principal channels which are lost mean nothing.
        rows.forget()
    rows.make({"frames": len(data.frames), "settings": asdict(data.settings)})
    if principal is None:
        principal = extractor.learn_principal()
        buffer = io.BytesIO()
        torch.save({stage: dict(one.state_dict()) for stage, one in principal.items()}, buffer)
        atomic.write_bytes(rows.folder / _PRINCIPAL, buffer.getvalue())
    # Whole batches, so that a run that was killed ends with the same numbers as one that was not.
    keys = [divmod(row, len(data.frames))[::-1] for row in range(rows.rows)]
    missing = np.unique(rows.missing // _BATCH)
    todo = [key for at in missing for key in keys[at * _BATCH : (at + 1) * _BATCH]]
    made = extractor.batches(todo)
    with closing(made), progress.bar(f"features by {extractor.backbone.name}", len(todo)) as bar:
        for part, maps in made:
            first = part[0][1] * len(data.frames) + part[0][0]
            rows.write(first, extractor.kept(maps, principal))
            rows.commit()
            bar.advance(len(part))
            if until is not None and time.perf_counter() >= until and rows.finished >= least:
                break
    return principal


def _known_principal(rows: DiskRows, extractor: _Extractor) -> dict[str, ChannelReduction] | None:
    """Those that are on disk; None where they are not whole."""
    if extractor.data.settings.backbone.channels is None:
        return {}
    try:
        stored = torch.load(rows.folder / _PRINCIPAL, weights_only=True)
        return {stage: ChannelReduction.of(**stored[stage]) for stage in extractor.stages}
    except Exception:  # whatever is wrong with it, it can be made again
        return None
