"""Trainings of the default regressor on unlike Places, several seeds each: is any run lost?

    python benchmarks/stability.py shared/data --seeds 10 --out stability

A row per Place: how many trainings ended in no regressor, the median errors over seeds (mean, and
the range), the baselines' (image retrieval; the most similar view or copy in the regressor's own
features), and how sure it is that each seed's answers differ from theirs (the paired test of
`relocalize evaluate`). What is trained and evaluated stays in `--out`, so that the same command
goes on after an interruption. `--places` and `--seeds` choose fewer, `--minutes` bounds each
training, `--setting` replaces one of the preset's (`--setting optimizer.steps=500`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from relocalize import progress
from relocalize.capture.frames import capture_frames
from relocalize.errors import LocalizerError
from relocalize.evaluation.results import Evaluation
from relocalize.evaluation.scoring import evaluate
from relocalize.localization.regressor import RegressorLocalizer
from relocalize.localization.store import folder_of, is_current, store
from relocalize.mapping import map_place
from relocalize.place import Place
from relocalize.regression.presets import preset
from relocalize.regression.settings import TrainSettings, with_fields
from relocalize.verbs.import_poses import import_poses
from relocalize.verbs.split import split as make_split
from relocalize_synthetic import CorridorSettings, write_corridor

_VIEWS = "views"  # answers with the most similar view or copy
_SIXTY = 60


def _known(place: Place, poses: Path, images: Path, train: Path | None, test: Path | None) -> None:
    if not place.has_map:
        import_poses(poses, place, images, convention="stated", train=train, test=test)
    map_place(place)
    if not place.split_names:
        make_split(place, "blocks")


def _kitchen(place: Place, data: Path, split: str) -> None:
    walk = data / "redkitchen"
    lists = (walk / "splits" / f"{split}_{side}.txt" for side in ("train", "test"))
    _known(place, walk / "poses_sfm.txt", walk / "images", *lists)


def _sixty(place: Place, data: Path) -> None:
    """So few photos of the kitchen as people take who take photos."""
    walk = data / "redkitchen"
    names = (walk / "splits" / "blocks_train.txt").read_text(encoding="utf-8").split()
    chosen = np.rint(np.linspace(0, len(names) - 1, _SIXTY)).astype(int)
    few = place.root.parent / "sixty_train.txt"
    few.write_text("\n".join(names[row] for row in chosen) + "\n", encoding="utf-8")
    test = walk / "splits" / "blocks_test.txt"
    _known(place, walk / "poses_sfm.txt", walk / "images", few, test)


def _video(place: Place, video: Path) -> None:
    capture_frames(video, place.root)
    map_place(place)
    if not place.split_names:
        make_split(place, "blocks")


def _corridor(place: Place, data: Path) -> None:
    rendered = place.root.parent / "corridor_rendered"
    if not (rendered / "truth.json").is_file():
        write_corridor(rendered, settings=CorridorSettings())
    _video(place, rendered / "walk.mp4")


def _case(name: str, *lists: str) -> Callable[[Place, Path], None]:
    def make(place: Place, data: Path) -> None:
        case = data / "cases" / "maps" / name
        train, test = (case / one for one in lists) if lists else (None, None)
        _known(place, case / "poses.csv", case / "images", train, test)

    return make


def _fox(place: Place, data: Path) -> None:
    folder = data / "fox"
    if not place.has_map:
        import_poses(folder / "transforms.json", place, folder / "images")
    map_place(place)
    if not place.split_names:
        make_split(place, "blocks")


PLACES: dict[str, Callable[[Place, Path], None]] = {
    "sixty": _sixty,
    "office": _case("office_blocks", "train.txt", "test.txt"),
    "can": _case("can_folded"),
    "fox": _fox,
    "kitchen": lambda place, data: _video(place, data / "redkitchen" / "walkthrough.mp4"),
    "corridor": _corridor,
    "blocks": lambda place, data: _kitchen(place, data, "blocks"),
    "later": lambda place, data: _kitchen(place, data, "later"),
}


def trained(place: Place, name: str, settings: TrainSettings) -> str | None:
    """Train unless it is done; why nothing came of it, or None."""
    split = place.split(place.split_names[0])
    folder = folder_of(place, name, split)
    current = is_current(place, folder, split)
    if current and RegressorLocalizer.load(folder).facts.settings == settings:
        return None
    try:
        store(place, folder, split, lambda: RegressorLocalizer.fit(place, split, settings=settings))
    except LocalizerError as error:
        return str(error)
    return None


def shown(name: str, found: Evaluation, seeds: list[str], lost: dict[str, str]) -> list[str]:
    """The lines of a Place."""
    errors = found.comparison.errors
    medians = {
        row: (float(np.median(one.position)), float(np.median(one.rotation_deg)))
        for row, one in errors.items()
    }
    lines = [f"{name}: {found.train} train, {len(found.images)} test images, {len(lost)} runs lost"]
    if seeds:
        of_seeds = np.array([medians[seed] for seed in seeds])
        low, high = of_seeds.min(axis=0), of_seeds.max(axis=0)
        mean = of_seeds.mean(axis=0)
        failed = np.mean([errors[seed].failed.sum() for seed in seeds])
        lines.append(
            f"  regressor {mean[0]:.4f} ({low[0]:.4f} to {high[0]:.4f}) {found.truth.unit}, "
            f"{mean[1]:.2f} ({low[1]:.2f} to {high[1]:.2f}) deg, {failed:.1f} refused"
        )
    lines += [
        f"  {row} {medians[row][0]:.4f} {found.truth.unit}, {medians[row][1]:.2f} deg"
        for row in ("constant", "retrieval", _VIEWS)
    ]
    for one in found.comparison.differences:
        pair = {one.a, one.b}
        if one.metric == "median_position" and pair & set(seeds) and pair & {"retrieval", _VIEWS}:
            lines.append(f"  {one.a} - {one.b}: {one.difference:+.4f}, p {one.p:.4f}")
    return lines + [f"  lost: {seed}: {why}" for seed, why in lost.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("stability"))
    parser.add_argument("--places", nargs="+", choices=list(PLACES), default=list(PLACES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--minutes", type=float, help="of each training")
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--train-only", action="store_true", help="leave the test images alone")
    parsed = parser.parse_args()
    parsed.out.mkdir(parents=True, exist_ok=True)
    fields = dict(one.split("=", 1) for one in parsed.setting)
    values = {name: float(value) if value[0].isdigit() else value for name, value in fields.items()}
    values = {
        n: int(v) if isinstance(v, float) and v.is_integer() else v for n, v in values.items()
    }
    settings = replace(with_fields(preset("default"), values), minutes=parsed.minutes)
    for name in parsed.places:
        place = Place.open_or_create(parsed.out / name)
        PLACES[name](place, parsed.data)
        seeds, lost = [], {}
        for seed in range(parsed.seeds):
            why = trained(place, f"seed{seed}", replace(settings, seed=seed))
            if why is None:
                seeds.append(f"seed{seed}")
            else:
                lost[f"seed{seed}"] = why
            progress.say(f"{name}, seed {seed}: {why or 'trained'}")
        if parsed.train_only:
            continue
        views = with_fields(settings, {"answer": "view", "optimizer.epochs": 1})
        trained(place, _VIEWS, views)
        split = place.split_names[0]
        found = evaluate(place, split=split, localizers=(*seeds, _VIEWS))
        print("\n".join(shown(name, found, seeds, lost)), flush=True)


if __name__ == "__main__":
    with progress.shown():
        main()
