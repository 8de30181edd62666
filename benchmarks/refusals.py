"""Right poses refused and wrong poses answered, on places that are unlike each other.

    python benchmarks/refusals.py DATA [--work FOLDER] [--rows kitchen corridor ...]

DATA holds redkitchen/, fox/, lund_door/ and cases/ (see docs/development.md); the corridor is
rendered into the work folder. Every place is a map of its train images by known poses. Asked are

- its test images as they are, and with a blob of another test image pasted over a share of them
  (something in the way, as rich in features as the place itself);
- test images with their place taken out of the map: whatever is answered is wrong or, where
  enough of it is still seen from elsewhere, right;
- images of the other places.

An answer is right within 5% of the distance to what is seen and 5 degrees: what it shows is there.
"""

from __future__ import annotations

import os

#os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from kitchen import kitchen_place
from relocalize import progress
from relocalize.absolute_pose import PoseSolver, Refused
from relocalize.absolute_pose.scene import Scene
from relocalize.absolute_pose.solve import Solved
from relocalize.features.sift import FeatureExtractor
from relocalize.geometry import Camera, Rigid3, position_error, rotation_error_deg
from relocalize.localization import fitted
from relocalize.localization.query import Query
from relocalize.localization.structure import StructureLocalizer
from relocalize.mapping import map_place
from relocalize.place import Place
from relocalize.verbs.import_poses import import_poses
from relocalize_synthetic import CorridorSettings, write_corridor

_EVERY = 4  # of unordered photos: one is for testing
_CORRIDOR_STEP = 5  # frames of the rendered walk: a photo every 17 cm
_BLOBS = (0.15, 0.30, 0.45)
_RIGHT = 0.05, 5.0  # share of the distance to what is seen, degrees

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Arguments:
    """Count wrong refusals and wrong answers."""

    data: tyro.conf.Positional[Path]
    """Folder with redkitchen/, fox/, lund_door/ and cases/."""
    work: Path | None = None
    """Where the Places are made, or are already; a temporary folder by default."""
    rows: tuple[str, ...] = ()
    """Places, by default all."""


@dataclass(frozen=True)
class Photo:
    """A photo with what is known of it; ``truth`` is None where no pose is right."""

    name: str
    pixels: Pixels
    camera: Camera | None
    truth: Rigid3 | None


def _imported(
    root: Path, poses: Path, images: Path, train: Sequence[str], test: Sequence[str]
) -> Place:
    """A Place by known poses with the split ``given``; its map is of the train images."""
    place = Place.open_or_create(root)
    if not place.has_map:
        lists = [root / "train.txt", root / "test.txt"]
        for path, names in zip(lists, (train, test), strict=True):
            path.write_text("\n".join(names) + "\n")
        import_poses(
            poses,
            place,
            images,
            convention="stated",
            train=lists[0],
            test=lists[1],
            split="given",
        )
    map_place(place)
    return place


def _of_photos(root: Path, poses: Path, images: Path) -> Place:
    """Every few photos are for testing."""
    names = sorted(path.name for path in images.iterdir() if path.suffix.lower() == ".jpg")
    test = names[_EVERY // 2 :: _EVERY]
    return _imported(root, poses, images, [name for name in names if name not in test], test)


def _office(root: Path, data: Path) -> Place:
    folder = data / "cases" / "maps" / "office_blocks"
    train, test = ((folder / f"{part}.txt").read_text().split() for part in ("train", "test"))
    return _imported(root, folder / "poses.csv", folder / "images", train, test)


def _corridor(root: Path, seed: int) -> Place:
    """Every few frames of the rendered walk, with the visitor's photos beside it."""
    rendered = root.with_name(f"{root.name}-rendered")
    if not rendered.exists():
        settings = CorridorSettings(seed=seed)
        visitor = replace(settings.visitor, count=60)
        write_corridor(rendered, settings=replace(settings, visitor=visitor))
    frames = root.with_name(f"{root.name}-frames")
    if not frames.exists():
        frames.mkdir()
        video = cv2.VideoCapture(str(rendered / "walk.mp4"))
        index = 0
        while True:
            there, image = video.read()
            if not there:
                break
            if index % _CORRIDOR_STEP == 0:
                cv2.imwrite(str(frames / f"frame-{index:06d}.jpg"), image)
            index += 1
    names = sorted(path.name for path in frames.iterdir())
    test = [name for row, name in enumerate(names) if row % 20 == 10]
    return _imported(
        root, rendered / "walk_poses.txt", frames, [n for n in names if n not in test], test
    )


if __name__ == "__main__":
    import sys
    data, work = Path(sys.argv[1]), Path(sys.argv[2])
    work.mkdir(exist_ok=True)
    def step(what, f):
        t = time.time(); p = f(); fitted(p, "structure", p.split(p.split_names[0])); print(what, time.time() - t, flush=True)
    step("office", lambda: _office(work / "office", data))
    step("corridor", lambda: _corridor(work / "corridor", 0))
    step("fox", lambda: _of_photos(work / "fox", data / "fox/transforms.json", data / "fox/images"))
    step("lund", lambda: _of_photos(work / "lund_door", data / "lund_door/colmap_text", data / "lund_door/images"))
    step("fountain", lambda: _of_photos(work / "fountain", data / "cases/maps/fountain_truth.csv", data / "cases/maps/fountain"))
    step("kitchen", lambda: kitchen_place(work / "kitchen", data / "redkitchen", "blocks"))
    step("later", lambda: kitchen_place(work / "later", data / "redkitchen", "later"))
