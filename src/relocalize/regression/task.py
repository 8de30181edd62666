"""The task of a pose regressor's training: its batches, its loss, and how epochs are judged."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from relocalize.errors import LocalizerError
from relocalize.regression.data import TrainingData
from relocalize.regression.data_sources import (
    Batch,
    DataSource,
    Prefetcher,
    epoch_batches,
    epoch_tuples,
)
from relocalize.regression.distributed import Workers
from relocalize.regression.frames import ObservedPoints
from relocalize.regression.loop import Judgement
from relocalize.regression.losses import PoseTarget, make_loss
from relocalize.regression.model import PoseRegressor
from relocalize.regression.time_blocks import Rows
from relocalize.regression.validation import ConstantBaseline


class PoseTask:
    """See `loop.Task`."""

    def __init__(
        self, data: TrainingData, model: PoseRegressor, source: DataSource, workers: Workers
    ) -> None:
        """Make the task of a model on the source's device; `close` it when the training is over.

        Raises:
            LocalizerError: the loss needs map points, and the train images see none.
        """
        settings = data.settings
        loss = make_loss(settings.loss, settings.head.orientation, float(model.position_scale))
        self._loss = loss.to(source.device.torch_device)
        self.module: nn.Module = nn.ModuleDict({"model": model, "loss": self._loss})
        self.unit = data.place.unit
        self._data, self._model, self._source = data, model, source
        self._workers = workers
        self._points = _observed_points(data) if settings.loss.kind == "reprojection" else None
        self._baseline = ConstantBaseline.of(data)
        # Every step asks for this epoch's, and its last one for the next epoch's.
        self.batches = lru_cache(maxsize=2)(self._order)
        self._prefetcher = Prefetcher(source, self._share_of_batches)

    def close(self) -> None:
        """End its threads."""
        self._prefetcher.close()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The head, the backbone at its share of the rate, and the loss's own weights."""
        backbone = [p for p in self._model.backbone.parameters() if p.requires_grad]
        known = {id(parameter) for parameter in backbone}
        head = [p for p in self._model.parameters() if p.requires_grad and id(p) not in known]
        groups: list[dict[str, Any]] = [{"params": head}]
        if backbone:
            share = self._data.settings.backbone.learning_rate_share
            groups.append({"params": backbone, "lr": share})
        if weights := list(self._loss.parameters()):
            # Decay would pull learned weights to 0, which is a scale like any other.
            groups.append({"params": weights, "weight_decay": 0.0})
        return groups

    def _order(self, epoch: int) -> list[Rows]:
        """The frames of each batch."""
        settings = self._data.settings
        if settings.loss.tuple_size > 1:
            return epoch_tuples(self._data, epoch)
        size = settings.optimizer.batch_size
        return epoch_batches(self._data.train, size, seed=settings.seed, epoch=epoch)

    def _share_of_batches(self, epoch: int) -> list[Rows]:
        """This process's part of each batch."""
        whole = self._data.settings.loss.tuple_size
        return [self._workers.share_of(rows, whole=whole) for rows in self.batches(epoch)]

    def loss(self, epoch: int, number: int, share: float) -> Tensor:
        """The loss of a batch of an epoch."""
        batch = self._prefetcher.take(epoch, number)
        self._loss.run_share = share
        output = batch.outputs(self._model, self._source.device)
        value: Tensor = self._loss(output, self._target(batch))
        return value

    def _target(self, batch: Batch) -> PoseTarget:
        device, size = self._source.device.torch_device, self._data.settings.loss.tuple_size
        poses = torch.from_numpy(batch.world_from_cams)
        mean, scale = self._model.position_mean.cpu(), self._model.position_scale.cpu()
        position = ((poses[:, :3, 3] - mean) / scale).float()
        points = visible = group = depths = None
        if self._points is not None:
            positions = torch.from_numpy(self._points.positions[batch.rows])
            points = ((positions - mean) / scale).float().to(device)
            visible = torch.from_numpy(self._points.seen[batch.rows]).to(device)
        if size > 1:
            group = torch.arange(len(batch.rows), device=device) // size
        if batch.depths is not None:
            scaled = torch.from_numpy(batch.depths)
            scaled[:, 0] /= scale.float()
            depths = scaled.to(device)
        rotation = poses[:, :3, :3].float().to(device)
        return PoseTarget(position.to(device), rotation, points, visible, group, depths)

    def judge(self) -> Judgement:
        """How the network does on the validation images."""
        answers = self._source.validation_answers(self._model)
        return self._baseline.judge(answers.world_from_cams)


def _observed_points(data: TrainingData) -> ObservedPoints:
    points = data.frames.observed_points(data.settings.loss.points, seed=data.settings.seed)
    if not points.seen.any():
        root = data.place.root
        raise LocalizerError(
            "the reprojection loss needs map points that the train images see, and the map of "
            f"{root} has none; run: relocalize map {root}, or choose another loss"
        )
    return points
