"""One table over places that are unlike each other: is the map right, and who is let in?

    python benchmarks/places.py DATA [--work FOLDER] [--rows fox fountain ...]

DATA holds redkitchen/, fox/, lund_door/ and cases/ (docs/contributing/index.md); two corridors are
rendered. Run it before and after anything that touches mapping or localization: a row must not get
worse unseen. A Place that the work folder has already is mapped again only if its inputs changed.

- *posed*: images with a pose; *off*: how far their centres are from the truth, after the similarity
  that most of them agree on (median, 90%, largest; percent of the truth's extent); *agrees*: with
  which share of the verified matches between its images the map does, of which `map` wants half;
- *photos*: test photos; *right* and *wrong* answers; *refused*: right poses that were taken for a
  look-alike's; *none*: without any pose. A pose is right within 5% of the median distance to the
  map's points and 5 degrees;
- *elsewhere*: answered photos of the other places, which should be none.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tyro

import relocalize
from relocalize import Camera, Place, Rigid3, Split, fitted, progress
from relocalize.errors import RelocalizeError
from relocalize.features.database import open_database
from relocalize.formats import match_names, read_registration
from relocalize.formats.registration import Registration
from relocalize.geometry import align_camera_poses, position_error
from relocalize.localization.query import Query
from relocalize.localization.structure import StructureLocalizer
from relocalize.mapping.look_alikes import agreement
from relocalize_synthetic import CorridorSettings, write_corridor
from verdicts import Verdict, verdict

_FOREIGN = 10  # photos of each other place
_SHOWN: tuple[Verdict, ...] = ("right", "wrong", "right refused")


@dataclass(frozen=True)
class Arguments:
    """Map unlike places and ask for photos in them."""

    data: tyro.conf.Positional[Path]
    """Folder with redkitchen/, fox/, lund_door/ and cases/."""
    work: Path | None = None
    """Where the Places are made, or are already; a temporary folder by default."""
    rows: tuple[str, ...] = ()
    """Places, by default all."""


@dataclass(frozen=True)
class Case:
    """A place to map.

    Attributes:
        images: a video, or a folder of photos.
        truth: poses of the images, or None.
        poses: poses to import in place of mapping by structure from motion.
        test: names of the images that are asked for, held out of the map of ``poses``.
        photos: further photos with their poses, in the frame of ``truth``.
        exposure_s: of the frames of a corridor that is rendered first; 0 where nothing is.
    """

    images: Path
    truth: Path | None = None
    poses: Path | None = None
    test: Sequence[str] = ()
    photos: Path | None = None
    exposure_s: float = 0.0


@dataclass
class Row:
    """What is printed of a place."""

    posed: str = "-"
    off: str = "-"
    agrees: str = "-"
    counts: Counter[Verdict] = field(default_factory=Counter)
    elsewhere: str = "-"
    features: str = "-"
    seconds: float = 0.0


def main(arguments: Arguments) -> None:
    """Print the table, a row as it is done."""
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        cases = _cases(arguments.data, work)
        rows = arguments.rows or tuple(cases)
        head = f"{'place':18s} {'posed':>9s} {'off: median, 90%, max (%)':>26s} {'agrees':>6s} "
        head += f"{'photos':>6s} "
        head += f"{'right':>5s} {'wrong':>5s} {'refused':>7s} {'none':>4s} {'elsewhere':>9s} "
        print(head + f"{'features':>8s} {'CPU s':>6s}", flush=True)
        for name in rows:
            row = _row(name, cases, work)
            counts = [row.counts[key] for key in _SHOWN]
            none = row.counts.total() - sum(counts)
            asked = "{:6d} {:5d} {:5d} {:7d} {:4d}".format(row.counts.total(), *counts, none)
            print(
                f"{name:18s} {row.posed:>9s} {row.off:>26s} {row.agrees:>6s} {asked} "
                f"{row.elsewhere:>9s} "
                f"{row.features:>8s} {row.seconds:6.0f}",
                flush=True,
            )


def _cases(data: Path, work: Path) -> dict[str, Case]:
    kitchen, maps = data / "redkitchen", data / "cases" / "maps"
    office = maps / "office_blocks"
    truth = kitchen / "poses_sfm.txt"
    return {
        "kitchen video": Case(kitchen / "walkthrough.mp4", truth),
        **{
            f"kitchen {name}": Case(kitchen / "images", truth, truth, tuple(test.split()))
            for name in ("blocks", "later")
            for test in [(kitchen / "splits" / f"{name}_test.txt").read_text()]
        },
        "fox": Case(data / "fox" / "images", data / "fox" / "transforms.json"),
        "lund_door": Case(data / "lund_door" / "images", data / "lund_door" / "colmap_text"),
        "office_walk": Case(maps / "office_walk.mp4", _office_truth(maps, work)),
        "office_blocks": Case(
            office / "images",
            office / "poses.csv",
            office / "poses.csv",
            tuple((office / "test.txt").read_text().split()),
        ),
        "tourist_photos": Case(maps / "tourist_photos"),
        "fountain": Case(maps / "fountain", maps / "fountain_truth.csv"),
        "can": Case(maps / "can_folded" / "images"),
        "corridor": _corridor(work / "corridor-rendered", 0.008),
        "corridor, blurred": _corridor(work / "blurred-rendered", 0.06),
    }


def _office_truth(maps: Path, work: Path) -> Path:
    """The rows of 16 numbers with the names of the video's frames."""
    path = work / "office_walk_truth.csv"
    rows = ["# convention: wxyz,world_from_cam,RDF,centre", "# unit: metre"]
    rows.append("name,qw,qx,qy,qz,tx,ty,tz")
    for index, row in enumerate(np.loadtxt(maps / "office_walk_truth.txt").reshape(-1, 4, 4)):
        pose = Rigid3.from_matrix(row)
        numbers = ",".join(repr(float(n)) for n in (*pose.quat_wxyz, *pose.translation))
        rows.append(f"frame-{index:06d}.jpg,{numbers}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def _corridor(folder: Path, exposure_s: float) -> Case:
    return Case(
        folder / "walk.mp4",
        folder / "walk_poses.txt",
        photos=folder / "visitor_poses.txt",
        exposure_s=exposure_s,
    )


def _row(name: str, cases: dict[str, Case], work: Path) -> Row:
    case, row = cases[name], Row()
    started = time.process_time()
    try:
        place = _mapped(case, work / name.replace(" ", "-").replace(",", ""))
    except RelocalizeError as error:
        progress.say(f"{name}: {error}")
        row.posed, row.seconds = "none", time.process_time() - started
        return row
    row.seconds = time.process_time() - started
    held = [n for n, image in place.map.images.items() if (image.point_rows >= 0).any()]
    images = sum(len(capture.images) for capture in place.captures.values()) - len(case.test)
    row.posed = f"{len(held)}/{images}"
    row.features = json.loads((place.map_dir / "features.json").read_text())["kind"]
    truth = read_registration(case.truth) if case.truth else None
    if truth is not None and case.poses is None:
        row.off = _off(place, truth)
    row.agrees = _agrees(place)
    localizer = fitted(place, "structure")
    assert isinstance(localizer, StructureLocalizer)
    for path, camera, true in _photos(case, place, truth):
        row.counts[verdict(localizer, Query.of(path, camera), true)] += 1
    others = [path for other in cases if other != name for path in _some(name, cases[other])]
    answered = sum(localizer.localize(path).status == "localized" for path in others)
    row.elsewhere = f"{answered}/{len(others)}"
    return row


def _agrees(place: Place) -> str:
    """With which share of the verified matches between its images a map does."""
    model = place.map
    with open_database(place) as database:
        matches = database.verified_matches()
    inside = {p: rows for p, rows in matches.items() if all(name in model.images for name in p)}
    return f"{agreement(model, inside):.0%}"


def _mapped(case: Case, root: Path) -> Place:
    folder = case.images.parent
    if case.exposure_s and not (folder / "truth.json").is_file():
        settings = CorridorSettings()
        walk = replace(settings.walk, exposure_s=case.exposure_s)
        write_corridor(folder, settings=replace(settings, walk=walk))
    place = Place.open_or_create(root)
    if case.poses is None:
        if not place.captures:
            relocalize.frames(case.images, place)
        relocalize.map(place)
        return place
    if not place.captures:
        relocalize.import_poses(case.poses, place, case.images)
        test = set(match_names(case.test, place.map.images).present_of.values())
        train = tuple(name for name in place.map.images if name not in test)
        place.write_split(Split("given", "list", train, tuple(sorted(test))))
    relocalize.map(place, split="given")
    return place


def _off(place: Place, truth: Registration) -> str:
    """How far the map's images are from the truth, after the similarity most agree on."""
    true_of, pose_of = _by_frame(place, truth), place.map.images
    names = [name for name in pose_of if name in true_of]
    true = [true_of[name] for name in names]
    estimated = [pose_of[name].world_from_cam for name in names]
    moved = align_camera_poses(estimated, true).b_from_a
    errors = [position_error(moved.move_camera(a), b) for a, b in zip(estimated, true, strict=True)]
    extent = float(np.linalg.norm(np.ptp([pose.translation for pose in true], axis=0)))
    values = 100 * np.quantile(errors, (0.5, 0.9, 1.0)) / extent
    return " ".join(f"{value:8.2f}" for value in values)


def _by_frame(place: Place, truth: Registration) -> dict[str, Rigid3]:
    """The true ``world_from_cam`` of the Place's images: by the video's frame, or by name."""
    frames = {
        f"frame-{image.frame_index:06d}": image.name
        for _, image in place.images()
        if image.frame_index is not None
    }
    listed = {Path(name).stem: name for name in truth.poses}
    if len(set(frames) & set(listed)) > 2:
        return {frames[s]: truth.world_from_cam(listed[s]) for s in frames if s in listed}
    present_of = match_names(truth.poses, place.map.images).present_of
    return {name: truth.world_from_cam(listed) for listed, name in present_of.items()}


def _photos(
    case: Case, place: Place, truth: Registration | None
) -> Iterator[tuple[Path, Camera | None, Rigid3]]:
    """Photos with their camera and true pose in the Place's frame."""
    if case.test:
        for name in place.split("given").test:
            image = place.map.images[name]
            yield place.image_path(name), image.camera, image.world_from_cam
    elif case.photos is not None and truth is not None:
        true_of = _by_frame(place, truth)
        names = [name for name in place.map.images if name in true_of]
        to_place = align_camera_poses(
            [true_of[name] for name in names],
            [place.map.images[name].world_from_cam for name in names],
        ).b_from_a
        asked = read_registration(case.photos)
        for name in asked.poses:
            path = case.photos.parent / "visitor" / name
            yield path, None, to_place.move_camera(asked.world_from_cam(name))


def _some(asking: str, case: Case) -> list[Path]:
    """A few photos of another place; none of one that is the same place."""
    same = {"kitchen", "office", "corridor"}
    if not case.images.is_dir() or any(s in asking and s in str(case.images) for s in same):
        return []
    paths = sorted(p for p in case.images.iterdir() if p.suffix.lower() in {".jpg", ".png"})
    return paths[:: -(-len(paths) // _FOREIGN)]


if __name__ == "__main__":
    with progress.shown():
        main(tyro.cli(Arguments))
