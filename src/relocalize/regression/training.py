"""Training a pose regressor on a Place's train images, from images to calibrated uncertainty."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from relocalize import progress
from relocalize.errors import LocalizerError
from relocalize.geometry.transforms import FloatArray
from relocalize.parallel import worker_count
from relocalize.place import Place, Split
from relocalize.regression.answers import Network
from relocalize.regression.data import TrainingData
from relocalize.regression.data_sources import DataSource, FeatureSource, ImageSource
from relocalize.regression.depths import cell_rays, median_depth
from relocalize.regression.device import Device, choose_device, kept_memory
from relocalize.regression.distributed import Workers
from relocalize.regression.feature_cache import FeatureCache
from relocalize.regression.half_precision import round_to_half, round_trained
from relocalize.regression.heads import CoordinateHead
from relocalize.regression.inference import TorchNetwork
from relocalize.regression.loop import RunLength, RunPlan, RunResult, run
from relocalize.regression.model import PoseRegressor, make_regressor
from relocalize.regression.novelty import KnownViews
from relocalize.regression.onnx_export import compiled
from relocalize.regression.onnx_network import OnnxNetwork
from relocalize.regression.settings import TrainSettings
from relocalize.regression.task import PoseTask
from relocalize.regression.uncertainty import Source
from relocalize.regression.validation import Validated, validated
from relocalize.regression.weights import WeightsReport, load_weights

_PROBES = 16  # train images whose answers half precision must not change
# Of the minutes, for features of copies: a copy that no epoch comes to is of no use.
_CACHING_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained regressor and how it came about."""

    data: TrainingData  # what it was trained on
    model: PoseRegressor  # in evaluation mode, on the processor, in float32
    views: KnownViews  # the train images, validation images included, as it saw them
    validated: Validated  # what the validation images say of it
    run: RunResult  # the chosen epoch, and the time that training took
    weights: WeightsReport  # where the backbone's first weights came from
    preparation_seconds: float  # before the first step of the last run: images, features, weights
    device: Device  # that it was trained on
    network: Network  # what answers: run by onnxruntime, or by torch where that cannot
    compiled: bytes | None  # the network for onnxruntime


# What image retrieval among the images that are trained on answers to the validation images: as
# for `validated`.
Retrieval = Callable[[TrainingData], Mapping[Source, FloatArray]]


def train(
    place: Place,
    split: Split | None,
    settings: TrainSettings,
    folder: Path,
    retrieval: Retrieval,
) -> TrainResult:
    """Train on a split's train images (without one: on all that have a pose).

    Validation images are cut from them by blocks of time; they choose the epoch and calibrate
    the uncertainty, and are not trained on. With a frozen backbone the features of the frames and
    of ``settings.copies`` varied copies (of fewer, where ``settings.minutes`` are short) are
    computed once and kept in the Place; otherwise every epoch varies the images anew.

    A run that was killed is resumed from the checkpoint in ``folder``. Under `torchrun` every
    process trains on its share of each batch and returns the same.

    Args:
        place: with a map.
        split: whose train side is learnt from.
        settings: of the training.
        folder: for the checkpoint and the log.
        retrieval: that an answer has to be better than.

    Raises:
        LocalizerError: too few images, weights that are not there, or training that diverges.
        KeyboardInterrupt: after a checkpoint, when asked to stop.
    """
    workers = Workers.from_environment()
    device = choose_device(
        settings.device,
        threads=settings.threads,
        precision=settings.precision,
        index=workers.local_rank,
    )
    random_devices = [device.torch_device] if device.torch_device.type == "cuda" else []
    with kept_memory(), device.running(), torch.random.fork_rng(devices=random_devices):
        torch.manual_seed(settings.seed)
        started = time.perf_counter()
        data = workers.leader_first(lambda: TrainingData.prepare(place, split, settings))
        model, weights = _untrained(data)
        device.place(model)
        with closing(_data_source(data, model, device, workers, started)) as source:
            preparation = time.perf_counter() - started
            result = _run(data, model, source, workers, folder, preparation)
            probes = data.train[:: max(1, len(data.train) // _PROBES)]
            round_trained(model, data.images.of_frames(data.frames, probes), device)
            known = source.known_views(model, data.train)
            # What was kept from training is a view of the place too.
            views = source.known_views(model, np.arange(len(data.frames)))
        model.to("cpu")
        network, made = _network(model, data, device, folder)
        said = validated(data, network, known, retrieval(data))
    return TrainResult(
        data, model, views, said, result, weights, preparation, device, network, made
    )


def check_trainable(settings: TrainSettings) -> None:
    """What can be said of settings on this machine before anything is read or written.

    Raises:
        LocalizerError: no such device, network or weights.
    """
    choose_device(settings.device, precision=settings.precision)
    with torch.random.fork_rng(devices=[]), progress.shown(False):
        load_weights(make_regressor(settings).backbone, settings.backbone.weights)


def _network(
    model: PoseRegressor, data: TrainingData, device: Device, folder: Path
) -> tuple[Network, bytes | None]:
    """What answers, and its file for onnxruntime; None where torch has to run it."""
    settings = data.settings
    # As many as a photo is shown as.
    rows = np.linspace(0, len(data.train) - 1, settings.input.test_crops).astype(int)
    if not settings.samples:
        try:
            shown = data.images.of_frames(data.frames, data.train[rows])
            made = compiled(model, shown, folder)
            return OnnxNetwork(made, threads=settings.threads or 1), made
        except LocalizerError as error:
            progress.say(f"torch will answer, and slower: {error}")
    return TorchNetwork(model, device, samples=settings.samples), None


def _untrained(data: TrainingData) -> tuple[PoseRegressor, WeightsReport]:
    """The regressor with the backbone's trained weights, which knows the train images' numbers."""
    settings = data.settings
    model = make_regressor(settings)
    weights = load_weights(model.backbone, settings.backbone.weights)
    if settings.backbone.frozen:
        round_to_half(model.backbone)
    poses = torch.from_numpy(data.train_poses)
    model.set_statistics(poses[:, :3, 3], poses[:, :3, :3])
    if isinstance(model.head, CoordinateHead):
        _look_at_scene(model, model.head, data)
    if settings.input.mean_image:
        mean = data.images.mean_image(data.frames, data.train)
        model.set_input_mean(torch.from_numpy(mean))
    return model, weights


def _look_at_scene(model: PoseRegressor, head: CoordinateHead, data: TrainingData) -> None:
    """Tell a head of coordinates which camera its cells are of, and what they look at."""
    frames, seen, depths = data.frames, [], []
    for row in data.train:
        points = frames.points(int(row))
        in_cam = (points - frames.world_from_cams[row, :3, 3]) @ frames.world_from_cams[row, :3, :3]
        depth = median_depth(in_cam)
        if depth is not None:
            seen.append(points)
            depths.append(depth)
    if not seen:
        root = data.place.root
        raise LocalizerError(
            "the coordinates head learns from map points that the train images see, and the map of "
            f"{root} has none; run: relocalize map {root}, or choose a preset without"
        )
    rays = torch.from_numpy(cell_rays(frames.target, head.grid)).float()
    scene = model.standardised(torch.from_numpy(np.concatenate(seen)).float())
    head.look_at(rays, scene, float(np.median(depths)) / float(model.position_scale))


def _data_source(
    data: TrainingData, model: PoseRegressor, device: Device, workers: Workers, started: float
) -> DataSource:
    """Cached features where the backbone is frozen, else images."""
    cells = model.head.cells
    if not data.settings.backbone.frozen or data.settings.input.mean_image:
        return ImageSource(data, cells, device)

    def cached() -> FeatureCache:
        minutes, spent = data.settings.minutes, time.perf_counter() - started
        left = None if minutes is None else max(0.0, _CACHING_SHARE * 60 * minutes - spent)
        return FeatureCache.prepare(
            data,
            model.backbone,
            model.stages,
            device,
            workers=worker_count(),
            # The first process alone makes copies.
            seconds=left if workers.leads else 0.0,
        )

    cache = workers.leader_first(cached)
    for stage, channels in cache.principal.items():
        model.reduction[stage].load_state_dict(channels.state_dict())
    return FeatureSource(data, cells, device, cache)


def _run(
    data: TrainingData,
    model: PoseRegressor,
    source: DataSource,
    workers: Workers,
    folder: Path,
    preparation: float,
) -> RunResult:
    """Train ``model``, which took ``preparation`` seconds to prepare."""
    settings = data.settings
    folder.mkdir(parents=True, exist_ok=True)
    if workers.leads:
        progress.say(
            f"training {settings.preset} on {len(data.train)} images, validating on "
            f"{len(data.validation)} (blocks of time, not trained on), {source.device.name}"
        )
    with closing(PoseTask(data, model, source, workers)) as task:
        images = len(data.train)
        epochs = settings.optimizer.epochs_of(images, len(task.batches(1)))
        plan = RunPlan(
            settings.optimizer.for_images(images),
            RunLength(epochs, settings.minutes, preparation),
            source.device,
            folder,
            key=data.key,
            checkpoint_minutes=settings.checkpoint_minutes,
            workers=workers,
        )
        return run(task, plan)
