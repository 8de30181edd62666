"""How much a leaky split flatters: the kitchen walk split by blocks of time and at random.

Run with the folder of the kitchen walk (images/, poses_sfm.txt, splits/):

    python benchmarks/leakage.py DATA/redkitchen [--places FOLDER] [--epochs 60 | --minutes 4]

Both splits train on equally many frames and test on equally many of the same walk; each has its
own map, made from its train frames alone, and its own localizers. Nothing but the split differs.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: two threads on shared cores are slower

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from kitchen import kitchen_place
from relocalize import progress
from relocalize.evaluation import BASELINES, evaluate
from relocalize.evaluation.table import degrees, length, percent
from relocalize.localization import LOCALIZERS
from relocalize.localization.regressor import RegressorLocalizer
from relocalize.localization.store import folder_of, is_current, store
from relocalize.mapping import map_place
from relocalize.place import Place, Split
from relocalize.place.splits import split_random
from relocalize.regression.presets import preset
from relocalize.verbs.import_poses import import_poses

_BLOCKS = "blocks"
_RANDOM = "random"
_REGRESSOR = "regressor"


@dataclass(frozen=True)
class Arguments:
    """Measure what a random split adds."""

    data: tyro.conf.Positional[Path]
    """Folder with images/, poses_sfm.txt and splits/."""
    places: Path | None = None
    """Where the two Places are made, or are; a temporary folder by default."""
    epochs: int | None = None
    """Of each training of the regressor; without it the default preset's."""
    minutes: float | None = None
    """That each training may take, its preparation included, whatever epochs that makes."""


def main(arguments: Arguments) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.places or Path(temporary)
        blocks = kitchen_place(root / _BLOCKS, arguments.data)
        leaky = _random_place(root / _RANDOM, arguments.data, blocks.split(_BLOCKS))
        results = {}
        for name, place in ((_BLOCKS, blocks), (_RANDOM, leaky)):
            _train(place, name, arguments)
            results[name] = evaluate(place, split=name, localizers=_rows()).to_json()
        _print_beside(results)
        _print_bins(results[_BLOCKS])


def _rows() -> list[str]:
    return [*BASELINES, *(name for name in LOCALIZERS if name not in BASELINES)]


def _random_place(root: Path, data: Path, like: Split) -> Place:
    """A Place with a random split of the sizes of another, and the map of its train frames."""
    place = Place.open_or_create(root)
    if not place.has_map:
        import_poses(data / "poses_sfm.txt", place, data / "images", convention="stated")
        names = sorted(place.map.images)
        shuffled = split_random(names, name=_RANDOM, share=len(like.test) / len(names))
        rows = np.random.default_rng(0).permutation(len(shuffled.train))[: len(like.train)]
        train = tuple(shuffled.train[int(row)] for row in np.sort(rows))
        place.write_split(replace(shuffled, train=train))
    map_place(place)
    return place


def _train(place: Place, split_name: str, arguments: Arguments) -> None:
    split = place.split(split_name)
    folder = folder_of(place, _REGRESSOR, split)
    if is_current(place, folder, split):
        return
    default = preset("default")
    optimizer = default.optimizer
    if arguments.epochs is not None:
        optimizer = replace(optimizer, epochs=arguments.epochs)
    settings = replace(default, optimizer=optimizer, minutes=arguments.minutes)
    store(place, folder, split, lambda: RegressorLocalizer.fit(place, split, settings=settings))


def _print_beside(results: dict[str, dict[str, Any]]) -> None:
    """The table of both splits, as Markdown."""
    print("| | blocks: median, 5 cm 5° | random: median, 5 cm 5° | blocks / random |")
    print("|---|---:|---:|---:|")
    for row in _rows():
        cells, medians = [], []
        for name in (_BLOCKS, _RANDOM):
            one = results[name]["localizers"][row]
            medians.append(one["median_position"])
            cells.append(
                f"{length(one['median_position'], metric=True)} cm, "
                f"{degrees(one['median_rotation_deg'])}°; {percent(one['recall']['0.05m_5deg'])} %"
            )
        print(f"| {row} | {' | '.join(cells)} | {medians[0] / medians[1]:.2f} |")
    near = [results[name]["nearest_train_view"] for name in (_BLOCKS, _RANDOM)]
    cells = [
        f"{100 * one['median_distance']:.1f} cm, {one['median_angle_deg']:.1f}°; "
        f"{one['median_frames']:.0f} frames"
        for one in near
    ]
    print(f"| nearest train view of a test image | {' | '.join(cells)} | |")


def _print_bins(results: dict[str, Any]) -> None:
    """Errors against how far the nearest train view is, of the honest split, as Markdown."""
    leakage = results["leakage"]["view_change_deg"]
    heads = [f"{one['from']:.1f} to {one['to']:.1f}°" for one in leakage["bins"]]
    print(f"\n| median error, cm | {' | '.join(heads)} | rank correlation |")
    print(f"|---|{'---:|' * (len(heads) + 1)}")
    for row in _rows():
        cells = [
            length(one["localizers"][row]["median_position"], metric=True)
            for one in leakage["bins"]
        ]
        correlation = leakage["rank_correlation"][row]
        said = "" if correlation is None else f"{correlation:.2f}"
        print(f"| {row} | {' | '.join(cells)} | {said} |")


if __name__ == "__main__":
    with progress.shown():
        main(tyro.cli(Arguments))
