"""Photos in a map of 10,000 images beside the same photos in the map that it is made of.

    python benchmarks/large_map.py DATA/redkitchen [--place FOLDER] [--images 10000]

The kitchen's map lies side by side as often as it takes. In each copy the cells and directions of
the SIFT descriptors stand in an order of its own, so that a copy looks like a place, and like none
of the others. Photos are test frames with their known camera, whose place is the first copy.
Seconds are CPU time of one thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: CPU times below are of one thread

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray

from kitchen import kitchen_place
from relocalize import progress
from relocalize.absolute_pose.scene import Scene
from relocalize.features.database import StoredDescriptors, open_database
from relocalize.features.vlad import Vlad
from relocalize.geometry import position_error
from relocalize.localization import fitted
from relocalize.localization.query import Query
from relocalize.localization.structure import StructureLocalizer
from relocalize.place import Place

_CELLS, _DIRECTIONS = 16, 8  # of a SIFT descriptor
_APART = 100.0  # from one copy to the next, as a multiple of the map's extent
_PHOTOS_EVERY = 3  # test frames
_RIGHT = 0.05  # metres


@dataclass(frozen=True)
class Arguments:
    """Localize photos in a large map and in a small one."""

    data: tyro.conf.Positional[Path]
    """Folder with images/, poses_sfm.txt and splits/."""
    place: Path | None = None
    """Where the Place is made, or is already; a temporary folder by default."""
    images: int = 10_000
    """Of the large map, at least."""
    answer: Path | None = None
    """Used by the benchmark itself: the stored localizer to localize by."""


def main(arguments: Arguments) -> None:
    """Print a row for each map."""
    if arguments.answer is not None:
        assert arguments.place is not None
        _answer(Place.open(arguments.place), arguments.answer)
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.place or Path(temporary) / "place"
        place = kitchen_place(root, arguments.data, "blocks")
        split = place.split("blocks")
        small = fitted(place, "structure", split)
        assert isinstance(small, StructureLocalizer)
        copies = -(-arguments.images // len(small.solver.scene.centres))
        print(
            f"{'images':>7s} {'points':>9s} {'on disk':>9s} {'opened in':>10s} {'memory':>8s} "
            f"{'CPU ms a photo':>14s} {'right':>7s} {'wrong':>5s} {'failed':>6s} {'median':>8s}"
        )
        for count in (1, copies):
            folder = Path(temporary) / f"copies-{count}"
            folder.mkdir()
            tiled(small, place, count).save(folder)
            command = [sys.executable, __file__, str(arguments.data), "--place", str(root)]
            # A process of its own: what it has in memory is the localizer's.
            subprocess.run([*command, "--answer", str(folder)], check=True)


def tiled(small: StructureLocalizer, place: Place, copies: int) -> StructureLocalizer:
    """The localizer of a map that is ``copies`` of a small one's, which share one vocabulary."""
    scene, order = small.solver.scene, _orders(copies)
    step = _APART * float(np.ptp(scene.positions, axis=0).max())
    along = np.arange(copies)[:, None, None] * np.array([step, 0.0, 0.0])
    names = [name for name in place.map.images if name in set(place.split("blocks").train)]
    assert len(names) == len(scene.centres)
    with open_database(place) as database:
        features = StoredDescriptors(database, names)
        every = [features[i][:, row] for row in order for i in range(len(names))]
        vlad = Vlad.fit(every)
        vectors = np.stack([vlad.describe(one) for one in every])
    seen = len(scene.seen_rows)
    starts = [scene.view_starts[:-1] + copy * seen for copy in range(copies)]
    rows = [scene.seen_rows + copy * len(scene.positions) for copy in range(copies)]
    large = Scene(
        positions=(scene.positions + along).reshape(-1, 3),
        descriptors=np.concatenate([scene.descriptors[:, row] for row in order]),
        centres=(scene.centres + along).reshape(-1, 3),
        view_starts=np.concatenate([*starts, [copies * seen]]).astype(np.int64),
        seen_rows=np.concatenate(rows),
        vlad=vlad,
        vectors=vectors,
        origin=scene.origin,
    )
    return StructureLocalizer(replace(small.solver, scene=large), small.unit)


def _orders(copies: int) -> list[NDArray[np.int64]]:
    """Of the numbers of a descriptor, for each copy; the first copy's is as it is."""
    rng = np.random.default_rng(0)
    numbers = np.arange(_CELLS * _DIRECTIONS).reshape(_CELLS, _DIRECTIONS)
    orders = [numbers.ravel()]
    for _ in range(copies - 1):
        turned = np.roll(numbers, rng.integers(_DIRECTIONS), axis=1)
        orders.append(turned[rng.permutation(_CELLS)].ravel())
    return orders


def _answer(place: Place, folder: Path) -> None:
    before, started = _memory(), time.process_time()
    localizer = StructureLocalizer.load(folder)
    opened, memory = time.process_time() - started, _memory() - before
    posed = {image.name: image for image in place.posed_images()}
    errors, spent = [], 0.0
    for name in place.split("blocks").test[::_PHOTOS_EVERY]:
        query, true = Query.of(place.read_image(name), posed[name].camera), posed[name]
        started = time.process_time()
        found = localizer.localize(query)
        spent += time.process_time() - started
        pose = found.world_from_cam
        errors.append(np.inf if pose is None else position_error(pose, true.world_from_cam))
    off, scene = np.array(errors), localizer.solver.scene
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(
        f"{len(scene.centres):7d} {len(scene.positions):9d} {size:6.1f} MB {opened:8.2f} s "
        f"{memory:5.0f} MB {1e3 * spent / len(off):14.1f} {int((off < _RIGHT).sum()):7d} "
        f"{int(((off >= _RIGHT) & np.isfinite(off)).sum()):5d} {int(np.isinf(off).sum()):6d} "
        f"{100 * float(np.median(off)):5.2f} cm",
        flush=True,
    )


def _memory() -> float:
    """Resident now, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    with progress.shown():
        main(tyro.cli(Arguments))
