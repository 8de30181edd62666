"""Right poses refused and wrong poses answered, on places that are unlike each other.

    python benchmarks/refusals.py DATA [--work FOLDER] [--rows kitchen corridor ...]

DATA holds redkitchen/, fox/, lund_door/ and cases/ (docs/contributing/index.md); the corridor is
rendered into the work folder. Every place is a map of its train images by known poses. Asked are

- its test images as they are, and with a blob of a photo of another place pasted over a share of
  them (something in the way, as rich in features as the place itself);
- test images with their place taken out of the map: whatever is answered is wrong or, where
  enough of it is still seen from elsewhere, right;
- images of the other places.

A pose is right within 5% of the median distance to the map's points and 5 degrees. "refused" counts
poses that only what stands around the matches speaks against; "no pose" are all other refusals.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from kitchen import kitchen_place
from relocalize import fitted, progress
from relocalize.formats import read_registration
from relocalize.geometry import Camera, Rigid3
from relocalize.localization.query import Query
from relocalize.localization.structure import StructureLocalizer
from relocalize.mapping import MapSettings, map_place
from relocalize.place import Place
from relocalize.place.image_file import open_image, rgb
from relocalize.verbs.import_poses import import_poses
from relocalize_synthetic import CorridorSettings, write_corridor
from verdicts import Verdict, verdict

_EVERY = 4  # of unordered photos: one is for testing
_CORRIDOR_STEP = 5  # frames of the rendered walk: a photo every 17 cm
_BLOBS = (0.15, 0.30, 0.45)
_MOST_PHOTOS = 50  # of a split
_VERDICTS = get_args(Verdict)

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


def _office_by_xfeat(root: Path, data: Path) -> Place:
    place = _office(root, data)
    map_place(place, MapSettings(features="xfeat"))
    return place


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


def _blob(pixels: Pixels, other: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """A photo with an ellipse of another one over a share of it."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width]
    centre, turn = rng.uniform(0.2, 0.8, 2) * (width, height), rng.uniform(0, np.pi)
    aspect = np.exp(rng.uniform(-0.5, 0.5))
    u = (x - centre[0]) * np.cos(turn) + (y - centre[1]) * np.sin(turn)
    v = (y - centre[1]) * np.cos(turn) - (x - centre[0]) * np.sin(turn)
    distance = np.hypot(aspect * u, v / aspect)
    covered: Pixels = pixels.copy()
    inside = distance <= np.quantile(distance, share)
    covered[inside] = np.asarray(cv2.resize(other, (width, height)), np.uint8)[inside]
    return covered


def _without_place(localizer: StructureLocalizer, photo: Photo) -> StructureLocalizer | None:
    """The localizer of a map without the points that the photo shows and views that lost most."""
    scene = localizer.solver.scene
    assert photo.truth is not None and photo.camera is not None
    rest = scene.without(scene.shown_in(photo.camera, photo.truth.shifted(-scene.origin)))
    if rest is None:
        return None
    return StructureLocalizer(replace(localizer.solver, scene=rest), localizer.unit)


@dataclass
class Row:
    """Counts of one line of the table."""

    place: str
    what: str
    counts: Counter[Verdict] = field(default_factory=Counter)
    cpu_s: float = 0.0

    def ask(self, localizer: StructureLocalizer, photo: Photo) -> None:
        """Localize a photo and count what comes of it."""
        started = time.process_time()
        query = Query.of(photo.pixels, photo.camera)
        self.counts[verdict(localizer, query, photo.truth)] += 1
        self.cpu_s += time.process_time() - started


def _tests_of(place: Place) -> list[Photo]:
    posed = {image.name: image for image in place.posed_images()}
    test = place.split(place.split_names[0]).test
    names = test[:: -(-len(test) // _MOST_PHOTOS)]
    return [
        Photo(name, place.read_image(name), posed[name].camera, posed[name].world_from_cam)
        for name in names
    ]


def _visitors(rendered: Path) -> list[Photo]:
    truth = read_registration(rendered / "visitor_poses.txt")
    camera = CorridorSettings().visitor.camera
    photos = []
    for name in sorted(truth.poses):
        pixels = rgb(open_image(rendered / "visitor" / name))
        photos.append(Photo(name, pixels, camera, truth.world_from_cam(name)))
    return photos


def _loose(folder: Path) -> list[Photo]:
    """Photos of which nothing is known."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".png"})
    return [
        Photo(path.name, rgb(open_image(path)), None, None)
        for path in files[:: -(-len(files) // 10)]
    ]


def _rows(name: str, place: Place, photos: list[Photo], others: list[Photo]) -> Iterator[Row]:
    """The table's lines of one place."""
    localizer = fitted(place, "structure", place.split(place.split_names[0]))
    assert isinstance(localizer, StructureLocalizer)
    plain = Row(name, "as they are")
    for photo in photos:
        plain.ask(localizer, photo)
    yield plain
    rng = np.random.default_rng(0)
    for share in _BLOBS:
        row = Row(name, f"{share:.0%} covered by another")
        for index, photo in enumerate(photos):
            other = others[index % len(others)]
            pixels = _blob(photo.pixels, other.pixels, share, rng)
            row.ask(localizer, replace(photo, pixels=pixels))
        yield row
    row = Row(name, "their place not in the map")
    for photo in photos:
        reduced = _without_place(localizer, photo)
        if reduced is not None:
            row.ask(reduced, photo)
    yield row
    row = Row(name, "other places")
    for photo in others:
        row.ask(localizer, photo)
    yield row


def main(arguments: Arguments) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        data = arguments.data
        maps = data / "cases" / "maps"
        photos_of = {
            "kitchen": data / "redkitchen" / "second_camera" / "images",
            "fox": data / "fox" / "images",
            "lund_door": data / "lund_door" / "images",
            "office": maps / "office_blocks" / "images",
            "tourist": maps / "tourist_photos",
            "can": maps / "can_folded" / "images",
        }
        makers: dict[str, Callable[[Path], Place]] = {
            "office": lambda root: _office(root, data),
            "office by XFeat": lambda root: _office_by_xfeat(root, data),
            "corridor": lambda root: _corridor(root, 0),
            "other corridor": lambda root: _corridor(root, 1),
            "fox": lambda root: _of_photos(root, data / "fox/transforms.json", photos_of["fox"]),
            "lund_door": lambda root: _of_photos(
                root, data / "lund_door" / "colmap_text", photos_of["lund_door"]
            ),
            "kitchen": lambda root: kitchen_place(root, data / "redkitchen", "blocks"),
            "later": lambda root: kitchen_place(root, data / "redkitchen", "later"),
        }
        head = "".join(f"{one:>15}" for one in _VERDICTS)
        print(f"{'':44}{'photos':>7}{head}{'CPU s':>8}")
        for name in arguments.rows or makers:
            place = makers[name](work / name)
            photos = _tests_of(place)
            if "corridor" in name:
                photos += _visitors(work / f"{name}-rendered")
            here = {"later": "kitchen", "office by XFeat": "office"}.get(name, name)
            others = [
                photo
                for elsewhere, folder in photos_of.items()
                if elsewhere != here
                for photo in _loose(folder)
            ]
            for row in _rows(name, place, photos, others):
                numbers = "".join(f"{row.counts[one]:15}" for one in _VERDICTS)
                print(
                    f"{row.place:16}{row.what:28}{row.counts.total():7}{numbers}{row.cpu_s:8.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    with progress.shown():
        main(tyro.cli(Arguments))
