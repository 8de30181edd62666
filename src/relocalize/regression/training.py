"""Training a pose regressor on a Place's train images, from images to calibrated uncertainty."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from relocalize import progress
from relocalize.errors import LocalizerError
from relocalize.geometry.transforms import FloatArray
from relocalize.parallel import worker_count
from relocalize.place import Place, Split
from relocalize.regression.batches import Rows
from relocalize.regression.data_sources import FeatureSupply, ImageSupply, Supply, ahead
from relocalize.regression.depths import cell_rays, median_depth
from relocalize.regression.device import Device, choose_device
from relocalize.regression.distributed import Workers
from relocalize.regression.feature_cache import FeatureCache, FeatureSettings
from relocalize.regression.frames import TrainingFrames
from relocalize.regression.half_precision import halve, halve_trained
from relocalize.regression.heads import CoordinateHead
from relocalize.regression.image_input import ImageInput
from relocalize.regression.inference import Answers, answers_from, answers_to
from relocalize.regression.loop import RunResult, run
from relocalize.regression.losses import make_loss
from relocalize.regression.memory import kept_memory
from relocalize.regression.model import ChannelReduction, PoseRegressor, make_regressor
from relocalize.regression.novelty import Float32Array, KnownViews, described
from relocalize.regression.schedule import RunLength
from relocalize.regression.settings import TrainSettings
from relocalize.regression.task import PoseTask, Yardstick
from relocalize.regression.validation import Validated, validated
from relocalize.regression.weights import WeightsReport, load_weights

_DESCRIBED_AT_ONCE = 64  # images
_PROBES = 16  # train images whose answers half precision must not change
# Settings that a killed run may be gone on with other values of.
_NOT_OF_THE_RESULT = ("checkpoint_minutes", "threads", "minutes")


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained regressor and how it came about.

    Attributes:
        model: in evaluation mode, on the processor, in float32.
        images: how photos become its input.
        views: what it was trained on, as it saw it.
        validated: what the validation images say of it.
        run: the chosen epoch with its validation numbers, and the time that training took.
        weights: where the backbone's first weights came from.
        train: number of train frames that were trained on.
        validation: number of train frames that chose the epoch.
        preparation_seconds: before the first step of the last run: images, features, weights.
        device: what it was trained on, for people.
    """

    model: PoseRegressor
    images: ImageInput
    views: KnownViews
    validated: Validated
    run: RunResult
    weights: WeightsReport
    train: int
    validation: int
    preparation_seconds: float
    device: str


def train(place: Place, split: Split | None, settings: TrainSettings, folder: Path) -> TrainResult:
    """Train on a split's train images (without one: on all that have a pose).

    Validation images are cut from them by blocks of time; they choose the epoch and calibrate
    the uncertainty, and are not trained on. With a frozen backbone the features of the frames and
    of ``settings.copies`` varied copies are computed once and kept in the Place; otherwise every
    epoch varies the images anew.

    A run that was killed goes on from the checkpoint in ``folder``. Under `torchrun` every process
    trains on its share of each batch and returns the same.

    Args:
        place: with a map.
        split: whose train side is learnt from.
        settings: of the training.
        folder: for the checkpoint and the log.

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
        return _train(place, split, settings, folder, device, workers)


def run_key(frames: TrainingFrames, settings: TrainSettings) -> str:
    """Changes when anything does that the result of a training depends on."""
    values = asdict(settings)
    for name in _NOT_OF_THE_RESULT:
        values.pop(name)
    # Whether there is a bound matters to a resumed run, where it lies does not.
    digest = hashlib.sha256(json.dumps([values, frames.key, frames.names]).encode())
    digest.update(frames.world_from_cams.tobytes())
    return digest.hexdigest()


def _train(
    place: Place,
    split: Split | None,
    settings: TrainSettings,
    folder: Path,
    device: Device,
    workers: Workers,
) -> TrainResult:
    started = time.perf_counter()
    frames = _frames(place, split, settings, workers)
    # A split that asks where a walk goes on is prepared for by the same question.
    where: Literal["even", "end"] = "end" if split and split.rule == "later" else "even"
    rows, validation = frames.validation(settings.validation_share, where=where)
    images = ImageInput(settings.input, frames.target)
    model = make_regressor(settings)
    weights = load_weights(model.backbone, settings.backbone.weights)
    if settings.backbone.frozen:
        halve(model.backbone)
    poses = frames.world_from_cams
    model.set_statistics(
        torch.from_numpy(poses[rows, :3, 3]), torch.from_numpy(poses[rows, :3, :3])
    )
    if isinstance(model.head, CoordinateHead):
        _look_at_scene(model, model.head, frames, rows, place)
    if settings.input.mean_image:
        model.set_input_mean(torch.from_numpy(images.mean_image(frames, rows)))
    device.place(model)
    loss = make_loss(settings.loss, settings.head.orientation, float(model.position_scale))
    loss.to(device.torch_device)
    supply: Supply
    cache: FeatureCache | None = None
    if settings.backbone.frozen and not settings.input.mean_image:
        cache = _features(place, frames, rows, images, model, settings, device, workers)
        supply = FeatureSupply(cache, frames, seed=settings.seed, cells=model.head.cells)
        kept = cache.batch(validation, np.zeros_like(validation))
        held_out = {stage: maps.to(device.torch_device) for stage, maps in kept.items()}

        def validate() -> Answers:
            return answers_from(model, held_out, samples=settings.samples)

    else:
        supply = ImageSupply(
            frames,
            images,
            settings.augment,
            seed=settings.seed,
            workers=worker_count(),
            cells=model.head.cells,
        )
        held_out_images = images.of_frames(frames, validation)

        def validate() -> Answers:
            return answers_to(model, held_out_images, device, samples=settings.samples)

    points = None
    if settings.loss.kind == "reprojection":
        points = frames.observed_points(settings.loss.points, seed=settings.seed)
        if not points.seen.any():
            raise LocalizerError(
                "the reprojection loss needs map points that the train images see, and the map of "
                f"{place.root} has none; run: relocalize map {place.root}, or choose another loss"
            )
    preparation = time.perf_counter() - started
    folder.mkdir(parents=True, exist_ok=True)
    if workers.leads:
        progress.say(
            f"training {settings.preset} on {len(rows)} images, validating on {len(validation)} "
            f"(blocks of time, not trained on), {device.name}"
        )
    yardstick = Yardstick.of(poses[rows], poses[validation])
    with ahead(supply) as batches:
        task = PoseTask(
            model,
            loss,
            settings,
            device,
            frames=frames,
            rows=rows,
            batches=batches,
            points=points,
            validate=validate,
            yardstick=yardstick,
            unit=place.unit,
            workers=workers,
        )
        result = run(
            task,
            settings.optimizer,
            RunLength(
                settings.optimizer.epochs_of(len(task.batches(1))), settings.minutes, preparation
            ),
            device,
            folder,
            key=run_key(frames, settings),
            checkpoint_minutes=settings.checkpoint_minutes,
            workers=workers,
        )
    halve_trained(model, images.of_frames(frames, rows[:: max(1, len(rows) // _PROBES)]), device)
    if cache is None:
        views = _views_of_images(model, device, images, frames, rows)
    else:
        views = _views_of_copies(cache, rows, settings.indexed_copies)
    said = validated(
        model,
        settings,
        device,
        views=views,
        yardstick=yardstick,
        images=images,
        frames=frames,
        rows=validation,
    )
    model.to("cpu")
    return TrainResult(
        model=model,
        images=images,
        views=views,
        validated=said,
        run=result,
        weights=weights,
        train=len(rows),
        validation=len(validation),
        preparation_seconds=preparation,
        device=device.name,
    )


def _frames(
    place: Place, split: Split | None, settings: TrainSettings, workers: Workers
) -> TrainingFrames:
    """The train frames; of several processes the first prepares them."""
    if not workers.leads:
        workers.wait()
    frames = TrainingFrames.prepare(place, split, settings.input)
    if workers.leads:
        workers.wait()
    return frames


def _look_at_scene(
    model: PoseRegressor, head: CoordinateHead, frames: TrainingFrames, rows: Rows, place: Place
) -> None:
    """Tell a head of coordinates through which camera it looks, and at what."""
    seen, depths = [], []
    for row in rows:
        points = frames.points(int(row))
        in_cam = (points - frames.world_from_cams[row, :3, 3]) @ frames.world_from_cams[row, :3, :3]
        depth = median_depth(in_cam)
        if depth is not None:
            seen.append(points)
            depths.append(depth)
    if not seen:
        raise LocalizerError(
            "the coordinates head learns from map points that the train images see, and the map of "
            f"{place.root} has none; run: relocalize map {place.root}, or choose a preset without"
        )
    rays = torch.from_numpy(cell_rays(frames.target, head.grid)).float()
    scene = model.standardised(torch.from_numpy(np.concatenate(seen)).float())
    head.look_at(rays, scene, float(np.median(depths)) / float(model.position_scale))


def _features(
    place: Place,
    frames: TrainingFrames,
    rows: Rows,
    images: ImageInput,
    model: PoseRegressor,
    settings: TrainSettings,
    device: Device,
    workers: Workers,
) -> FeatureCache:
    """What the frozen backbone makes of the frames and their copies; the model reduces alike."""
    wanted = FeatureSettings(
        stages=model.stages,
        channels=settings.backbone.channels,
        grid=settings.head.grid if settings.head.kind in {"grid", "coordinates"} else None,
        copies=0 if settings.augment.is_none else settings.copies,
        augment=settings.augment,
        seed=settings.seed,
    )
    if not workers.leads:
        workers.wait()
    cache = FeatureCache.prepare(
        place,
        frames,
        images,
        model.backbone,
        wanted,
        device,
        principal_rows=rows,
        workers=worker_count(),
    )
    if workers.leads:
        workers.wait()
    for stage, channels in cache.principal.items():
        reduction = model.reduction[stage]
        if isinstance(reduction, ChannelReduction):
            reduction.set(channels.mean, channels.basis)
    return cache


def _views_of_images(
    model: PoseRegressor,
    device: Device,
    images: ImageInput,
    frames: TrainingFrames,
    rows: Rows,
) -> KnownViews:
    """What the train images look like to the network."""
    seen = answers_to(model, images.of_frames(frames, rows), device)
    return KnownViews.learn(seen.descriptions, frames.world_from_cams[rows])


def _views_of_copies(cache: FeatureCache, rows: Rows, copies: int) -> KnownViews:
    """What the train images and copies of them look like to the frozen backbone."""

    def copy(number: int) -> tuple[Float32Array, FloatArray]:
        parts = np.array_split(rows, -(-len(rows) // _DESCRIBED_AT_ONCE))
        chosen = np.full_like(rows, number)
        seen = [described(cache.batch(part, np.full_like(part, number))) for part in parts]
        return np.concatenate(seen), cache.world_from_cams[rows, chosen]

    count = min(copies, cache.world_from_cams.shape[1] - 1)
    if count == 0:
        return KnownViews.learn(*copy(0))
    descriptions, poses = zip(*(copy(number) for number in range(1, count + 1)), strict=True)
    return KnownViews.learn(*copy(0), copies=(np.concatenate(descriptions), np.concatenate(poses)))
