"""The task of a pose regressor's training: its batches, its loss, and how epochs are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from relocalize.geometry.transforms import FloatArray, mean_rotation
from relocalize.regression.batches import Rows, epoch_batches, epoch_tuples
from relocalize.regression.data_sources import Ahead, Batch
from relocalize.regression.device import Device
from relocalize.regression.distributed import Workers
from relocalize.regression.frames import ObservedPoints, TrainingFrames
from relocalize.regression.inference import Answers, as_float
from relocalize.regression.loop import Judgement
from relocalize.regression.losses import PoseLoss, PoseTarget
from relocalize.regression.model import PoseRegressor
from relocalize.regression.settings import TrainSettings
from relocalize.regression.uncertainty import pose_distances


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What errors on validation images are measured by: those of a constant answer.

    Attributes:
        world_from_cams: [V, 4, 4] of the validation images.
        position: median distance of the train images' mean pose from them.
        rotation: likewise, in radians.
    """

    world_from_cams: FloatArray
    position: float
    rotation: float

    @classmethod
    def of(cls, train: FloatArray, validation: FloatArray) -> Yardstick:
        """From poses [N, 4, 4]."""
        mean = np.eye(4)
        mean[:3, :3] = mean_rotation(list(train[:, :3, :3]))
        mean[:3, 3] = np.median(train[:, :3, 3], axis=0)
        errors = pose_distances(np.tile(mean, (len(validation), 1, 1)), validation)
        position, rotation = np.maximum(np.median(errors, axis=0), 1e-9)
        return cls(validation, float(position), float(rotation))

    def judge(self, world_from_cams: FloatArray) -> Judgement:
        """Of answers to the validation images.

        The score is the median over images of half the position error and half the rotation
        error, each as a share of the constant answer's median.
        """
        errors = pose_distances(world_from_cams, self.world_from_cams)
        relative = errors / (self.position, self.rotation)
        position, rotation = np.median(errors, axis=0)
        return Judgement(
            float(position), float(np.degrees(rotation)), float(np.median(relative.mean(axis=1)))
        )


class PoseTask:
    """See `loop.Task`."""

    def __init__(
        self,
        model: PoseRegressor,
        loss: PoseLoss,
        settings: TrainSettings,
        device: Device,
        *,
        frames: TrainingFrames,
        rows: Rows,
        batches: Ahead,
        points: ObservedPoints | None,
        validate: Callable[[], Answers],
        yardstick: Yardstick,
        unit: str,
        workers: Workers,
    ) -> None:
        """Make the task.

        Args:
            model: on the device.
            loss: likewise.
            settings: of the training.
            device: that it runs on.
            frames: all train frames.
            rows: those that are trained on.
            batches: makes batches.
            points: map points that the frames see, where the loss needs them.
            validate: answers to the validation images.
            yardstick: that judges them.
            unit: of positions.
            workers: the processes that train.
        """
        self.module: nn.Module = nn.ModuleDict({"model": model, "loss": loss})
        self.unit = unit
        self._model, self._loss, self._settings, self._device = model, loss, settings, device
        self._frames, self._rows, self._batches = frames, rows, batches
        self._points, self._workers = points, workers
        self._validate, self._yardstick = validate, yardstick
        self._orders: dict[int, list[Rows]] = {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The head, the backbone at its share of the rate, and the loss's own weights."""
        backbone = [p for p in self._model.backbone.parameters() if p.requires_grad]
        known = {id(parameter) for parameter in backbone}
        head = [p for p in self._model.parameters() if p.requires_grad and id(p) not in known]
        groups: list[dict[str, Any]] = [{"params": head}]
        if backbone:
            share = self._settings.backbone.learning_rate_share
            groups.append({"params": backbone, "lr": share})
        if weights := list(self._loss.parameters()):
            # Decay would pull learned weights to 0, which is a scale like any other.
            groups.append({"params": weights, "weight_decay": 0.0})
        return groups

    def batches(self, epoch: int) -> list[Rows]:
        """The frames of each batch."""
        if epoch not in self._orders:
            # Every step asks for this epoch's, and its last one for the next epoch's.
            self._orders = {
                known: order for known, order in self._orders.items() if known == epoch - 1
            }
            self._orders[epoch] = self._order(epoch)
        return self._orders[epoch]

    def _order(self, epoch: int) -> list[Rows]:
        settings = self._settings
        size, seed = settings.optimizer.batch_size, settings.seed
        if settings.loss.tuple_size == 1:
            return epoch_batches(self._rows, size, seed=seed, epoch=epoch)
        return epoch_tuples(
            self._rows,
            size,
            size=settings.loss.tuple_size,
            spacing=settings.loss.tuple_spacing,
            captures=self._frames.captures,
            seed=seed,
            epoch=epoch,
        )

    def loss(self, epoch: int, number: int, share: float) -> Tensor:
        """The loss of a batch of an epoch."""
        batches = [self._part(rows) for rows in self.batches(epoch)]
        following = (
            ((epoch, number + 1), batches[number + 1])
            if number + 1 < len(batches)
            else ((epoch + 1, 0), self._part(self.batches(epoch + 1)[0]))
        )
        batch = self._batches.take((epoch, number), batches[number], following)
        self._loss.run_share = share
        output = as_float(batch.outputs(self._model, self._device))
        value: Tensor = self._loss(output, self._target(batch))
        return value

    def _part(self, rows: Rows) -> Rows:
        return self._workers.share_of(rows, whole=self._settings.loss.tuple_size)

    def _target(self, batch: Batch) -> PoseTarget:
        device = self._device.torch_device
        poses = torch.from_numpy(batch.world_from_cams)
        mean, scale = self._model.position_mean.cpu(), self._model.position_scale.cpu()
        position = ((poses[:, :3, 3] - mean) / scale).float()
        points = visible = group = None
        if self._points is not None:
            positions = torch.from_numpy(self._points.positions[batch.rows])
            points = ((positions - mean) / scale).float().to(device)
            visible = torch.from_numpy(self._points.seen[batch.rows]).to(device)
        if self._settings.loss.tuple_size > 1:
            group = torch.arange(len(batch.rows), device=device) // self._settings.loss.tuple_size
        depths = None
        if batch.depths is not None:
            scaled = torch.from_numpy(batch.depths)
            scaled[:, 0] /= scale.float()
            depths = scaled.to(device)
        rotation = poses[:, :3, :3].float().to(device)
        return PoseTarget(position.to(device), rotation, points, visible, group, depths)

    def judge(self) -> Judgement:
        """How the network does on the validation images."""
        return self._yardstick.judge(self._validate().world_from_cams)
