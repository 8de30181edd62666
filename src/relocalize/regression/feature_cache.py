"""What a frozen backbone makes of every train frame and of its augmented copies, on disk.

The backbone runs once per image; training a head on what is kept costs little more than reading
it. The copies are drawn once, so the number of them takes the place of epochs of new ones.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relocalize import progress
from relocalize.errors import LocalizerError
from relocalize.geometry.transforms import FloatArray
from relocalize.parallel import map_in_order
from relocalize.place import Place, atomic
from relocalize.regression.augmentation import copy_rng, draw_view
from relocalize.regression.backbones import Backbone
from relocalize.regression.device import Device
from relocalize.regression.disk_rows import DiskRows, RowLayout
from relocalize.regression.folding import folded
from relocalize.regression.frames import TrainingFrames, cache_folder
from relocalize.regression.heads import resized
from relocalize.regression.image_input import ImageInput
from relocalize.regression.principal_channels import ChannelReduction, ChannelStatistics
from relocalize.regression.settings import AugmentSettings

_VERSION = 2  # of how features are made; others are made again
_PRINCIPAL = "principal.npz"
_KEPT = 3  # caches that lie side by side; each may take a gigabyte
# Cells of these many frames give the leading directions of 1280 channels to a few percent.
_PRINCIPAL_FRAMES = 256
_BATCH = 32  # images; more gain nothing on a processor
_HALF_LIMIT = 65504.0  # float16's largest number


@dataclass(frozen=True)
class FeatureSettings:
    """What is kept.

    Attributes:
        stages: of the backbone, shallow to deep.
        channels: principal channels kept of each stage; None keeps all.
        grid: rows and columns that maps are averaged to; None keeps them as they are.
        copies: augmented copies of each frame, beside the frame itself.
        augment: how copies differ.
        seed: of the copies.
    """

    stages: tuple[str, ...]
    channels: int | None = None
    grid: tuple[int, int] | None = None
    copies: int = 0
    augment: AugmentSettings = AugmentSettings()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.stages or self.copies < 0:
            raise LocalizerError(
                f"features of stages {self.stages} and {self.copies} copies; "
                "want at least one stage, and 0 or more copies"
            )


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """Feature maps of N frames and C copies of each; copy 0 is the frame itself.

    Attributes:
        maps: by stage [N * (C + 1), c, h, w] float16, read-only memory maps; row
            ``frame * (C + 1) + copy``.
        world_from_cams: [N, C + 1, 4, 4].
        principal: by stage how channels were reduced; empty where all are kept.
        key: of everything that the maps depend on.
    """

    maps: dict[str, NDArray[np.float16]]
    world_from_cams: FloatArray
    principal: dict[str, ChannelReduction]
    key: str

    @classmethod
    def prepare(
        cls,
        place: Place,
        frames: TrainingFrames,
        images: ImageInput,
        backbone: Backbone,
        settings: FeatureSettings,
        device: Device,
        *,
        principal_rows: NDArray[np.int64] | None = None,
        workers: int = 1,
    ) -> FeatureCache:
        """The features of all frames, computed unless they were before.

        Args:
            place: whose cache it is.
            frames: the train frames.
            images: how they become the network's input.
            backbone: with its weights, frozen, on the device.
            settings: what is kept.
            device: that the backbone runs on.
            principal_rows: frames that principal channels are learned from; default all. Leave
                out those that validate.
            workers: threads that make copies while the backbone runs.

        Raises:
            LocalizerError: no such stage, a backbone that is not frozen, or a full disk.
            PlaceError: another process writes to the Place.
        """
        if not backbone.frozen:
            raise LocalizerError(
                f"the features of {backbone.name} change as it is trained; freeze it to keep them"
            )
        rows_for_principal = np.arange(len(frames)) if principal_rows is None else principal_rows
        key = _fingerprint(frames, images, backbone, settings, device, rows_for_principal)
        extractor = _Extractor(frames, images, folded(backbone), settings, device, workers)
        layouts = extractor.layouts()
        count = len(frames) * (settings.copies + 1)
        rows = DiskRows(cache_folder(place) / f"features-{key}", count, layouts, kept=_KEPT)
        principal = _known_principal(rows, settings)
        if principal is None or not rows.is_complete:
            with place.lock(), device.running():
                principal = _fill(rows, extractor, rows_for_principal)
        return cls(
            maps={stage: rows.array(stage) for stage in settings.stages},
            world_from_cams=_poses(frames, settings),
            principal=principal,
            key=key,
        )

    @property
    def copies(self) -> int:
        """Copies of each frame, the frame itself counted: C + 1."""
        return int(self.world_from_cams.shape[1])

    def batch(self, frames: NDArray[np.int64], copies: NDArray[np.int64]) -> dict[str, Tensor]:
        """Maps [B, c, h, w] float32 by stage of copies [B] of frames [B]."""
        rows = frames * self.copies + copies
        return {
            stage: torch.from_numpy(np.asarray(maps[rows])).float()
            for stage, maps in self.maps.items()
        }


@dataclass(frozen=True, eq=False)
class _Extractor:
    """Images of frames and copies, and what the backbone makes of them."""

    frames: TrainingFrames
    images: ImageInput
    backbone: Backbone
    settings: FeatureSettings
    device: Device
    workers: int

    def image(self, frame: int, copy: int) -> NDArray[np.uint8]:
        """[h, w, 3] of a copy of a frame."""
        if copy == 0:
            pixels: NDArray[np.uint8] = self.images.of_frames(self.frames, np.array([frame]))[0]
            return pixels
        settings = self.settings
        pixels, _ = self.images.varied(
            self.frames, frame, settings.augment, seed=settings.seed, epoch=copy
        )
        return pixels

    def maps(self, pixels: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Raw feature maps [B, C, H, W] float32, on the device, of images [B, h, w, 3]."""
        images = self.device.images(torch.from_numpy(pixels).movedim(-1, 1).float() / 255)
        mean, std = (
            torch.tensor(values, device=images.device)[:, None, None]
            for values in (self.backbone.mean, self.backbone.std)
        )
        with torch.inference_mode(), self.device.mixed():
            maps = self.backbone((images - mean) / std, stages=self.settings.stages)
        return {stage: maps[stage].float() for stage in self.settings.stages}

    def batches(
        self, keys: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[list[tuple[int, int]], dict[str, Tensor]]]:
        """Raw maps of (frame, copy) pairs, batch by batch; images are made in threads."""
        parts = [list(keys[at : at + _BATCH]) for at in range(0, len(keys), _BATCH)]

        def pixels(part: list[tuple[int, int]]) -> NDArray[np.uint8]:
            return np.stack([self.image(frame, copy) for frame, copy in part])

        made = map_in_order(pixels, parts, workers=self.workers)
        for part, batch in zip(parts, made, strict=True):
            yield part, self.maps(batch)

    def layouts(self) -> dict[str, RowLayout]:
        """Of a row of each stage, by trying one image."""
        with self.device.running():
            maps = self.maps(self.image(0, 0)[None])
        layouts = {}
        for stage, found in maps.items():
            channels = min(found.shape[1], self.settings.channels or found.shape[1])
            size = self.settings.grid or tuple(found.shape[2:])
            layouts[stage] = RowLayout((channels, *size), "float16")
        return layouts


def _poses(frames: TrainingFrames, settings: FeatureSettings) -> FloatArray:
    """[N, C + 1, 4, 4]."""
    poses = np.repeat(frames.world_from_cams[:, None], settings.copies + 1, axis=1)
    for frame in range(len(frames)):
        points = frames.points(frame) if settings.augment.shift else None
        for copy in range(1, settings.copies + 1):
            view = draw_view(copy_rng(settings.seed, copy, frame), settings.augment)
            poses[frame, copy] = view.world_from_cam(frames.world_from_cams[frame], points)
    return poses


def _fingerprint(
    frames: TrainingFrames,
    images: ImageInput,
    backbone: Backbone,
    settings: FeatureSettings,
    device: Device,
    principal_rows: NDArray[np.int64],
) -> str:
    digest = hashlib.sha256()
    kept = asdict(settings)
    if not settings.copies:
        kept["augment"] = kept["seed"] = None
    about: list[Any] = [
        _VERSION,
        frames.key,
        kept,
        asdict(images),
        backbone.name,
        str(device.autocast),
        principal_rows.tolist() if settings.channels else None,
    ]
    digest.update(json.dumps(about).encode())
    if settings.copies and settings.augment.shift:
        # Only then do images depend on poses and points.
        digest.update(frames.world_from_cams.tobytes())
        for row in range(len(frames)):
            digest.update(frames.points(row).tobytes())
    for name, tensor in backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _known_principal(
    rows: DiskRows, settings: FeatureSettings
) -> dict[str, ChannelReduction] | None:
    """Those that are on disk; None where they are not whole."""
    if settings.channels is None:
        return {}
    found = {}
    try:
        with np.load(rows.folder / _PRINCIPAL, allow_pickle=False) as arrays:
            for stage in settings.stages:
                mean, basis = (torch.from_numpy(arrays[f"{stage}.{n}"]) for n in ("mean", "basis"))
                found[stage] = ChannelReduction(len(mean), len(basis))
                found[stage].load_state_dict({"mean": mean, "basis": basis})
    except Exception:  # whatever is wrong with it, it can be made again
        return None
    return found


def _write_principal(path: Path, principal: Mapping[str, ChannelReduction]) -> None:
    arrays = {
        f"{stage}.{name}": value.numpy()
        for stage, reduction in principal.items()
        for name, value in reduction.state_dict().items()
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    atomic.write_bytes(path, buffer.getvalue())


def _fill(
    rows: DiskRows, extractor: _Extractor, principal_rows: NDArray[np.int64]
) -> dict[str, ChannelReduction]:
    settings = extractor.settings
    principal = _known_principal(rows, settings)
    if principal is None:
        # Rows that were made with principal channels which are lost mean nothing.
        rows.forget()
    rows.make({"frames": len(extractor.frames), "settings": asdict(settings)})
    if principal is None:
        principal = _learned_principal(extractor, principal_rows)
        _write_principal(rows.folder / _PRINCIPAL, principal)
    # Whole batches, so that a run that was killed ends with the same numbers as one that was not.
    keys = [divmod(row, settings.copies + 1) for row in range(rows.rows)]
    missing = np.unique(rows.missing // _BATCH)
    todo = [key for at in missing for key in keys[at * _BATCH : (at + 1) * _BATCH]]
    with progress.bar(f"features by {extractor.backbone.name}", len(todo), "images") as bar:
        for part, maps in extractor.batches(todo):
            first = part[0][0] * (settings.copies + 1) + part[0][1]
            kept = {stage: _kept(maps[stage], principal.get(stage), settings) for stage in maps}
            rows.write(first, kept)
            rows.commit()
            bar.advance(len(part))
    return principal


def _kept(
    maps: Tensor, principal: ChannelReduction | None, settings: FeatureSettings
) -> NDArray[np.float16]:
    if settings.grid is not None:
        maps = resized(maps, settings.grid)
    maps = maps.cpu()
    if principal is not None:
        maps = principal(maps)
    return maps.clamp(-_HALF_LIMIT, _HALF_LIMIT).half().numpy()


def _learned_principal(
    extractor: _Extractor, rows: NDArray[np.int64]
) -> dict[str, ChannelReduction]:
    """Principal channels of train frames as they are, evenly over ``rows``."""
    count = min(len(rows), _PRINCIPAL_FRAMES)
    if not count:
        raise LocalizerError("no train frames to learn principal channels from")
    chosen = rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]
    statistics = {
        stage: ChannelStatistics(extractor.backbone.stages[stage].channels)
        for stage in extractor.settings.stages
    }
    with progress.bar("principal channels", count, "images") as bar:
        for part, maps in extractor.batches([(int(row), 0) for row in chosen]):
            for stage, found in maps.items():
                statistics[stage].add(found)
            bar.advance(len(part))
    channels = extractor.settings.channels
    return {
        stage: found.principal(min(channels or 0, extractor.backbone.stages[stage].channels))
        for stage, found in statistics.items()
    }
