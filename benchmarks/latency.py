"""Milliseconds from one decoded photo to its pose: torch beside ONNX, ours beside PoseNet's.

Run with the folder of the kitchen walk (images/, poses_sfm.txt, splits/):

    python benchmarks/latency.py DATA/redkitchen [--place FOLDER] [--localizer posenet]

The regressor is the one called ``--localizer`` on the split ``blocks``; where there is none, the
default one is trained for three minutes, and how good it gets does not matter here. PoseNet is the
preset `posenet-2015`, GoogLeNet at 224, with weights that nothing trained. Rows:

- localize: `RegressorLocalizer.localize`, uncertainty and doubts included, by as many images of the
  photo as it takes; the other rows are of one;
- torch float32: the photo brought to the network's camera, then the network as it was trained;
- ONNX: the same two steps, the second by onnxruntime on what `relocalize export-model` writes.

All rows are measured in turns, photo by photo and round by round, so that what else runs on the
machine is in all of them. A round gives the median over its photos; shown are the median and the
least of the rounds. CPU time is of all threads.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy; torch and onnxruntime are told their threads

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from kitchen import kitchen_place
from relocalize import progress
from relocalize.geometry import Camera
from relocalize.localization.regressor import RegressorLocalizer
from relocalize.localization.store import folder_of, is_current, store
from relocalize.localization.stored_regressor import NETWORK
from relocalize.place import Place
from relocalize.regression.frames import input_camera
from relocalize.regression.image_input import ImageInput
from relocalize.regression.model import PoseRegressor, make_regressor
from relocalize.regression.onnx_export import INPUT, WorldPose, export_onnx
from relocalize.regression.onnx_network import OnnxNetwork
from relocalize.regression.presets import preset
from relocalize.regression.settings import with_fields

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Answer = Callable[[Pixels, Camera], list[NDArray[np.float32]]]

_SPLIT = "blocks"
onnxruntime: Any = import_module("onnxruntime")  # which has no types
_TARGET_MS = 12.0  # wanted of ONNX at the default input size, on two free cores
_WARM_UP = 3
_TRAINING_MINUTES = 3.0


@dataclass(frozen=True)
class Arguments:
    """Measure the latency of one photo."""

    data: tyro.conf.Positional[Path]
    """Folder with images/, poses_sfm.txt and splits/."""
    place: Path | None = None
    """Where the Place is made, or is already; a temporary folder by default."""
    localizer: str = "regressor"
    """Name of the trained regressor."""
    photos: int = 12
    """Test photos that are localized in each round."""
    rounds: int = 15
    """Rounds over all rows."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads, one table each; where other programs use the cores, two are slower."""


@dataclass(frozen=True)
class Row:
    """What is timed.

    Attributes:
        name: for people.
        answer: from a photo to its pose.
        input_ms: CPU milliseconds of bringing a photo to the network's camera, measured alone.
    """

    name: str
    answer: Callable[[Pixels, Camera], object]
    input_ms: float


def main(arguments: Arguments) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        place = kitchen_place(arguments.place or folder / "place", arguments.data, _SPLIT)
        photos = test_photos(place, arguments.photos)
        trained = regressor(place, arguments.localizer)
        paper = paper_network(place)
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            settings = replace(trained.facts.settings, threads=threads)
            facts = replace(trained.facts, settings=settings)
            network = OnnxNetwork(trained.parts.folder / NETWORK, threads=threads)
            parts = replace(trained.parts, network=network, facts=facts, retrieval=None)
            timed = RegressorLocalizer(parts)
            preset_name, (height, width) = settings.preset, trained.images.shape
            ours = f"{preset_name}, {settings.backbone.name} {height}x{width}"
            rows = [Row(f"{ours}: localize", timed.localize, input_cpu_ms(timed.images, photos))]
            rows += network_rows(ours, parts.model, trained.images, photos, folder, threads)
            rows += network_rows("PoseNet, GoogLeNet 224x224", *paper, photos, folder, threads)
            show(rows, photos, arguments.rounds, threads)


def test_photos(place: Place, count: int) -> list[tuple[Pixels, Camera]]:
    """Decoded test photos with their cameras."""
    names = place.split(_SPLIT).test
    some = names[:: max(1, len(names) // count)][:count]
    return [(place.read_image(name), place.map.images[name].camera) for name in some]


def regressor(place: Place, name: str) -> RegressorLocalizer:
    """The trained one, or one trained now for its speed."""
    split = place.split(_SPLIT)
    folder = folder_of(place, name, split)
    if not is_current(place, folder, split):
        settings = replace(preset("default"), minutes=_TRAINING_MINUTES)
        store(place, folder, split, lambda: RegressorLocalizer.fit(place, split, settings=settings))
    return RegressorLocalizer.load(folder)


def paper_network(place: Place) -> tuple[PoseRegressor, ImageInput]:
    """PoseNet as published, trained by nothing."""
    settings = with_fields(preset("posenet-2015"), {"backbone.weights": "none"})
    torch.manual_seed(0)
    images = [place.map.images[name] for name in place.split(_SPLIT).train]
    target = input_camera([image.camera for image in images], settings.input)
    model = make_regressor(settings).eval()
    poses = torch.from_numpy(np.stack([image.world_from_cam.matrix for image in images]))
    model.set_statistics(poses[:, :3, 3], poses[:, :3, :3])
    return model, ImageInput(settings.input, target)


def network_rows(
    name: str,
    model: PoseRegressor,
    images: ImageInput,
    photos: list[tuple[Pixels, Camera]],
    folder: Path,
    threads: int,
) -> list[Row]:
    """The network in torch and in onnxruntime, which have to agree on the photos."""
    inputs = np.concatenate([images.of_photo(*photo, crops=1) for photo in photos])
    file = folder / "network.onnx"
    export_onnx(WorldPose(model), torch.from_numpy(inputs[:3]).movedim(-1, 1).float(), file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    network = WorldPose(model).eval()

    def with_torch(pixels: Pixels, camera: Camera) -> list[NDArray[np.float32]]:
        image = images.of_photo(pixels, camera, crops=1)
        with torch.inference_mode():
            return [part.numpy() for part in network(torch.from_numpy(planes(image)))]

    def with_onnx(pixels: Pixels, camera: Camera) -> list[NDArray[np.float32]]:
        image = images.of_photo(pixels, camera, crops=1)
        return list(session.run(None, {INPUT: planes(image)}))

    apart = difference(with_torch, with_onnx, photos)
    size = file.stat().st_size / 1e6
    cost = input_cpu_ms(images, photos)
    return [
        Row(f"{name}: torch float32", with_torch, cost),
        Row(f"{name}: ONNX, {size:.0f} MB, apart {apart:.0e}", with_onnx, cost),
    ]


def planes(image: Pixels) -> NDArray[np.float32]:
    """[1, 3, h, w] of [1, h, w, 3]."""
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2), dtype=np.float32)


def difference(one: Answer, other: Answer, photos: list[tuple[Pixels, Camera]]) -> float:
    """The largest between two networks' answers, of positions in metres and rotation matrices."""
    return max(
        float(np.abs(a - b).max())
        for photo in photos
        for a, b in zip(one(*photo), other(*photo), strict=True)
    )


def input_cpu_ms(images: ImageInput, photos: list[tuple[Pixels, Camera]]) -> float:
    """CPU milliseconds of bringing a photo to the network's camera: the least of some rounds."""
    rounds = []
    for _ in range(10):
        started = time.process_time()
        for photo in photos:
            images.of_photo(*photo, crops=1)
        rounds.append(1e3 * (time.process_time() - started) / len(photos))
    return min(rounds)


def show(rows: list[Row], photos: list[tuple[Pixels, Camera]], rounds: int, threads: int) -> None:
    """Time all rows in turns and print them."""
    for row in rows:
        for photo in photos[:_WARM_UP]:
            row.answer(*photo)
    wall = np.zeros((rounds, len(rows), len(photos)))
    cpu = np.zeros_like(wall)
    before = os.getloadavg()[0]
    for turn in progress.track(range(rounds), f"{threads} threads", unit="rounds"):
        for number, photo in enumerate(photos):
            for which, row in enumerate(rows):
                started = time.perf_counter(), time.process_time()
                row.answer(*photo)
                wall[turn, which, number] = 1e3 * (time.perf_counter() - started[0])
                cpu[turn, which, number] = 1e3 * (time.process_time() - started[1])
    load = f"load average {before:.1f} to {os.getloadavg()[0]:.1f}"
    print(f"\n{threads} thread{'s' * (threads > 1)}, {len(photos)} photos, {load}")
    print(f"{'':66}{'wall ms':>16}{'CPU ms':>16}{'of it':>8}")
    print(f"{'':66}{'median':>8}{'least':>8}{'median':>8}{'least':>8}{'input':>8}")
    for which, row in enumerate(rows):
        numbers = [
            value
            for times in (wall, cpu)
            for value in (
                float(np.median(np.median(times[:, which], axis=1))),
                float(np.median(times[:, which], axis=1).min()),
            )
        ]
        print(f"{row.name:66}" + "".join(f"{value:>8.2f}" for value in (*numbers, row.input_ms)))
    print(f"wanted of the first ONNX row: {_TARGET_MS:g} ms on two free cores", flush=True)


if __name__ == "__main__":
    with progress.shown():
        main(tyro.cli(Arguments))
