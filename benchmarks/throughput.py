"""Training throughput of `posenet-2015-resnet18` beside a straightforward loop, and both curves.

Run with the folder of the kitchen walk (images/, poses_sfm.txt, splits/):

    python benchmarks/throughput.py DATA/redkitchen [--place FOLDER] [--threads 2] [--device cuda]

The straightforward loop is what ports of PoseNet do: a `torch.utils.data.DataLoader` whose data set
decodes, resizes and crops every image in every epoch, float32, torch's default memory layout. All
else is the preset's, without trained weights: network, loss, optimizer, schedule, and of the same
seed also the first weights, the batches and the place of each crop. So curves of one seed should
run closer together than those of two seeds. Both run with the same number of threads, one after
the other.

Seconds are those of training steps, data included, validation and the first epoch not. CPU seconds
are of all threads: on a machine that others use they say more than wall seconds.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy; torch is told its threads below

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kitchen import kitchen_place
from relocalize import progress
from relocalize.localization.training_regressor import retrieval_answers
from relocalize.place import Place, Split
from relocalize.regression.augmentation import copy_rng
from relocalize.regression.crops import random_crop
from relocalize.regression.data_sources import epoch_batches
from relocalize.regression.device import DeviceName, choose_device
from relocalize.regression.frames import TrainingFrames
from relocalize.regression.image_input import ImageInput
from relocalize.regression.losses import PoseTarget, make_loss
from relocalize.regression.model import make_regressor
from relocalize.regression.optimizer import learning_rate
from relocalize.regression.presets import preset
from relocalize.regression.settings import TrainSettings, with_fields
from relocalize.regression.task import PoseTask
from relocalize.regression.training import train
from relocalize.regression.training_log import LOG

Floats = NDArray[np.float64]

_SPLIT = "blocks"
_RESIZED = 256  # the smaller side before cropping, as in the paper
_CROP = 224
# Widths of cameras' images for the last table, each as high as 4:3 makes it.
_WIDTHS = (640, 1920, 4032)
_DECODED = 12  # images that the cost of decoding is measured on


@dataclass(frozen=True)
class Arguments:
    """Measure how fast a network is trained end to end."""

    data: tyro.conf.Positional[Path]
    """Folder with images/, poses_sfm.txt and splits/."""
    place: Path | None = None
    """Where the Place is made, or is already; a temporary folder by default."""
    frames: int = 144
    """Train frames that are used, every so many of them."""
    epochs: int = 5
    """Epochs, the first of which is not timed."""
    seeds: int = 2
    """Runs of each loop."""
    threads: int = 1
    """Threads of torch in both loops."""
    device: DeviceName = "cpu"
    """Where both run."""


@dataclass
class Meter:
    """Wall and CPU seconds of each epoch's training steps, and its mean loss."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    _since: tuple[float, float] = (0.0, 0.0)

    def begin(self) -> None:
        """An epoch begins now."""
        self._since = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """It is over."""
        self.wall.append(time.perf_counter() - self._since[0])
        self.cpu.append(time.process_time() - self._since[1])

    def each(self, images: int) -> tuple[float, float]:
        """Wall and CPU seconds per image, without the first epoch."""
        return float(np.mean(self.wall[1:])) / images, float(np.mean(self.cpu[1:])) / images


class DecodedEachTime(torch.utils.data.Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Images as ports of PoseNet read them, cropped as the seed and the epoch say."""

    def __init__(
        self, place: Place, frames: TrainingFrames, mean: Tensor, std: Tensor, seed: int
    ) -> None:
        self._place, self._frames, self._mean, self._std = place, frames, mean, std
        self._seed, self.epoch = seed, 1

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        whole = resized_image(self._place.image_path(self._frames.names[row]))
        crop = random_crop(self._frames.target, copy_rng(self._seed, self.epoch, row), _CROP)
        pixels = torch.from_numpy(np.ascontiguousarray(crop.of(whole), np.uint8))
        pose = torch.from_numpy(self._frames.world_from_cams[row])
        image = pixels.permute(2, 0, 1).float() / 255
        return (image - self._mean) / self._std, pose[:3, 3], pose[:3, :3].float()


def resized_image(path: Path) -> NDArray[np.uint8]:
    """[H, W, 3] of an image file whose smaller side becomes 256."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    scale = _RESIZED / min(image.size)
    size = round(image.width * scale), round(image.height * scale)
    return np.array(image.resize(size, Image.Resampling.BILINEAR))


def straightforward(
    place: Place, frames: TrainingFrames, rows: NDArray[np.int64], settings: TrainSettings
) -> Meter:
    """The loop that one writes first."""
    device = torch.device(settings.device)
    torch.set_num_threads(settings.threads or 1)
    torch.manual_seed(settings.seed)
    model = make_regressor(settings)
    poses = frames.world_from_cams[rows]
    model.set_statistics(torch.from_numpy(poses[:, :3, 3]), torch.from_numpy(poses[:, :3, :3]))
    inputs = ImageInput(settings.input, frames.target)
    model.set_input_mean(torch.from_numpy(inputs.mean_image(frames, rows)))
    model.to(device)
    scale = float(model.position_scale)
    loss_of = make_loss(settings.loss, settings.head.orientation, scale).to(device)
    chosen = settings.optimizer
    optimizer = torch.optim.Adam(
        model.parameters(),
        lr=chosen.learning_rate,
        betas=(chosen.momentum, 0.999),
        eps=chosen.eps,
        weight_decay=chosen.weight_decay,
    )
    data = DecodedEachTime(
        place, frames, model.input_mean.cpu(), model.input_std.cpu(), settings.seed
    )
    model.train()
    meter = Meter()
    epochs = chosen.epochs_of(len(rows), -(-len(rows) // chosen.batch_size))
    for epoch in range(1, epochs + 1):
        meter.begin()
        data.epoch = epoch
        batches = epoch_batches(rows, chosen.batch_size, seed=settings.seed, epoch=epoch)
        # A generator of its own, or it would draw from the one that dropout draws from.
        loader = torch.utils.data.DataLoader(
            data, batch_sampler=[rows.tolist() for rows in batches], generator=torch.Generator()
        )
        total = 0.0
        for images, positions, rotations in loader:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(chosen, (epoch - 1) / epochs)
            output = model(images.to(device))
            target = PoseTarget(
                model.standardised(positions.to(device).float()), rotations.to(device)
            )
            loss = loss_of(output, target)
            optimizer.zero_grad()
            torch.autograd.backward([loss])
            optimizer.step()
            total += float(loss.detach()) * len(images)
        meter.end()
        meter.losses.append(total / len(rows))
    return meter


def ours(place: Place, split: Split, settings: TrainSettings, folder: Path) -> Meter:
    """`relocalize train`, timed from the end of one epoch's validation to the next one's start."""
    meter = Meter()
    judge = PoseTask.judge

    def timed(task: PoseTask) -> object:
        meter.end()
        judgement = judge(task)
        meter.begin()
        return judgement

    meter.begin()
    with patch.object(PoseTask, "judge", timed):
        train(place, split, settings, folder, retrieval_answers)
    rows = (json.loads(line) for line in (folder / LOG).read_text().splitlines())
    meter.losses = [row["train_loss"] for row in rows]
    return meter


def main(arguments: Arguments) -> None:
    with place_of(arguments) as place:
        whole = place.split(_SPLIT)
        step = max(1, len(whole.train) // arguments.frames)
        split = Split(whole.name, whole.rule, whole.train[::step], whole.test)
        settings = with_fields(
            preset("posenet-2015-resnet18"),
            {
                "backbone.weights": "none",
                "optimizer.epochs": arguments.epochs,
                "threads": arguments.threads,
                "device": arguments.device,
                "checkpoint_minutes": 1e3,
            },
        )
        frames = TrainingFrames.prepare(place, split, settings.input)
        rows, _ = frames.validation(settings.validation_share)
        name = choose_device(settings.device, threads=settings.threads).name
        print(
            f"{len(rows)} frames, batches of {settings.optimizer.batch_size}, "
            f"{settings.optimizer.epochs} epochs, {arguments.seeds} seeds, "
            f"load average {os.getloadavg()[0]:.1f}"
        )
        plain: list[Meter] = []
        fast: list[Meter] = []
        for seed in range(arguments.seeds):
            seeded = replace(settings, seed=seed)
            plain.append(straightforward(place, frames, rows, seeded))
            with tempfile.TemporaryDirectory() as folder:
                fast.append(ours(place, split, seeded, Path(folder)))
        show_speed(name, arguments.threads, plain, fast, len(rows))
        show_curves(plain, fast)
        show_larger(place, frames, rows, plain, fast)


@contextmanager
def place_of(arguments: Arguments) -> Iterator[Place]:
    """The kitchen, prepared or as it is; what trainings prepare in a folder goes with it."""
    with tempfile.TemporaryDirectory() as temporary:
        yield kitchen_place(arguments.place or Path(temporary) / "place", arguments.data, _SPLIT)


def fastest(meters: list[Meter], images: int) -> tuple[float, float]:
    """Wall and CPU seconds per image of the run that was disturbed least."""
    each = [meter.each(images) for meter in meters]
    return min(wall for wall, _ in each), min(cpu for _, cpu in each)


def show_speed(name: str, threads: int, plain: list[Meter], fast: list[Meter], images: int) -> None:
    slow, quick = fastest(plain, images), fastest(fast, images)
    print(f"\n{'loop':<52}{'images/s':>10}{'CPU ms an image':>17}")
    for what, (wall, cpu) in (
        (f"straightforward: float32, default layout, {threads} thr.", slow),
        (f"relocalize: {name}", quick),
    ):
        print(f"{what:<52}{1 / wall:>10.2f}{1e3 * cpu:>17.1f}")
    print(
        f"{'ratio (want 4)':<52}{slow[0] / quick[0]:>10.2f}{slow[1] / quick[1]:>17.2f}"
        f"   load average {os.getloadavg()[0]:.1f}"
    )


def show_curves(plain: list[Meter], fast: list[Meter]) -> None:
    """Train losses by epoch; how far the loops are apart, beside how far seeds are."""
    ours_, theirs = (np.array([meter.losses for meter in runs]) for runs in (fast, plain))
    print(f"\n{'train loss of epoch':<24}" + "".join(f"{e + 1:>9}" for e in range(ours_.shape[1])))
    for what, runs in (("straightforward", theirs), ("relocalize", ours_)):
        for seed, row in enumerate(runs):
            print(f"{f'{what}, seed {seed}':<24}" + "".join(f"{value:>9.3f}" for value in row))
    apart = np.abs(ours_ - theirs).mean(axis=0)
    rows_ = [("loops apart, same seed", apart)]
    if len(ours_) > 1:
        seeds = np.mean([np.ptp(ours_, axis=0), np.ptp(theirs, axis=0)], axis=0)
        rows_.append(("seeds apart", seeds))
    for what, values in rows_:
        print(f"{what:<24}" + "".join(f"{value:>9.3f}" for value in values))


def show_larger(
    place: Place,
    frames: TrainingFrames,
    rows: NDArray[np.int64],
    plain: list[Meter],
    fast: list[Meter],
) -> None:
    """What the straightforward loop pays where the camera's images are larger.

    Only its decoding and resizing changes, which is measured on enlarged frames (JPEG, quality
    95) and put in place of the kitchen's own.
    """
    slow, quick = fastest(plain, len(rows))[1], fastest(fast, len(rows))[1]
    some = [place.image_path(frames.names[row]) for row in rows[:: max(1, len(rows) // _DECODED)]]
    print(f"\n{'images':<24}{'decode, resize, CPU ms':>24}{'ratio of CPU seconds':>22}")
    folder = Path(tempfile.mkdtemp())
    try:
        here = decoding_seconds(some)
        print(f"{'as they are':<24}{1e3 * here:>24.1f}{slow / quick:>22.2f}")
        for width in _WIDTHS[1:]:
            size = width, width * 3 // 4
            paths = []
            for index, path in enumerate(some):
                with Image.open(path) as file:
                    larger = file.convert("RGB").resize(size, Image.Resampling.BICUBIC)
                paths.append(folder / f"{width}-{index}.jpg")
                larger.save(paths[-1], quality=95)
            seconds = decoding_seconds(paths)
            ratio = (slow - here + seconds) / quick
            print(f"{f'{size[0]}x{size[1]}, computed':<24}{1e3 * seconds:>24.1f}{ratio:>22.2f}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def decoding_seconds(paths: list[Path]) -> float:
    """CPU seconds to read one image."""
    started = time.process_time()
    for path in paths:
        resized_image(path)
    return (time.process_time() - started) / len(paths)


if __name__ == "__main__":
    with progress.shown():
        main(tyro.cli(Arguments))
