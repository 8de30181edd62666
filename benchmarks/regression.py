"""Camera pose regression on the kitchen walk: every preset under one budget, beside the baselines.

    python benchmarks/regression.py shared/data/redkitchen --split blocks --seeds 3 --minutes 10

Each preset is trained on the split's train images, its epoch chosen on validation images cut from
these. The test images are localized once, when everything is trained. What was trained is kept in
the Place, so that the same command goes on after an interruption and prints the table again.
`--train-only` stops before the test images. Published presets start from random weights where
their pretrained ones cannot be had (`--weights none`).

The oracle knows the true pose and answers with the nearest train view's: no image retrieval can do
better. `views` answers with the most similar train image in the features of `default`, and
`views-copies` with the most similar one of these and their varied copies. Seconds are of
preparation (images, features) and training; milliseconds are CPU time of one photo, from decoded
pixels to the pose.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kitchen import kitchen_place
from relocalize import evaluation, progress
from relocalize.evaluation.metrics import PoseErrors, Threshold
from relocalize.evaluation.results import Evaluation
from relocalize.evaluation.scoring import evaluate
from relocalize.localization.regressor import RegressorLocalizer
from relocalize.localization.store import folder_of, is_current, store
from relocalize.place import Place, Split
from relocalize.regression.presets import PRESETS
from relocalize.regression.settings import with_fields

# Image retrieval in the same features, with the train images alone and with copies of them: the
# regressor beside it is not asked, and hardly trained.
_RETRIEVAL = {"answer": "view", "optimizer.epochs": 1}
RECIPES = PRESETS | {
    "views": with_fields(PRESETS["default"], {**_RETRIEVAL, "indexed_copies": 0}),
    "views-copies": with_fields(PRESETS["default"], _RETRIEVAL),
}
OURS = ("default", "views", "views-copies")
THRESHOLDS = (Threshold(0.05, 5), Threshold(0.1, 5), Threshold(0.25, 10))


@dataclass(frozen=True)
class Row:
    """One line of the table: means over seeds, and the spread of the medians."""

    name: str
    position_cm: float
    rotation_deg: float
    spread_cm: float
    recalls: tuple[float, ...]
    failed: float
    seconds: float | None = None
    milliseconds: float | None = None
    megabytes: float | None = None

    def text(self) -> str:
        """As columns."""
        shares = "".join(f"{100 * share:>9.1f}" for share in self.recalls)
        rest = "".join(
            f"{'-' if value is None else format(value, form):>{width}}"
            for value, form, width in (
                (self.seconds, ".0f", 9),
                (self.milliseconds, ".1f", 8),
                (self.megabytes, ".1f", 7),
            )
        )
        return (
            f"{self.name:<26}{self.position_cm:>8.2f}{self.spread_cm:>7.2f}"
            f"{self.rotation_deg:>8.2f}{shares}{self.failed:>8.1f}{rest}"
        )


def trained(
    place: Place, split: Split, preset: str, seed: int, minutes: float, weights: str | None
) -> str:
    """Train a preset unless it is there; the name that it goes by."""
    name = f"{preset}-seed{seed}"
    settings = replace(RECIPES[preset], seed=seed, minutes=minutes)
    if weights is not None and preset not in OURS:
        settings = replace(settings, backbone=replace(settings.backbone, weights=weights))
    folder = folder_of(place, name, split)
    current = is_current(place, folder, split)
    if current and RegressorLocalizer.load(folder).facts.settings == settings:
        return name
    store(
        place,
        folder,
        split,
        lambda: RegressorLocalizer.fit(place, split, settings=settings),
    )
    return name


def row(place: Place, split: Split, found: Evaluation, name: str, members: list[str]) -> Row:
    """The row of the localizers that are one preset's, by seed."""
    errors = [found.comparison.errors[member] for member in members]
    medians = np.array([[np.median(e.position), np.median(e.rotation_deg)] for e in errors])
    cpu = [outcome.answer.cpu_milliseconds for m in members for outcome in found.outcomes[m]]
    seconds = megabytes = None
    folders = [folder_of(place, member, split) for member in members]
    if name in RECIPES:
        training = [RegressorLocalizer.load(folder).facts.training for folder in folders]
        seconds = float(np.mean([t["seconds"] + t["preparation_seconds"] for t in training]))
    if all(folder.is_dir() for folder in folders):
        sizes = [sum(p.stat().st_size for p in f.glob("*") if p.is_file()) for f in folders]
        megabytes = float(np.mean(sizes)) / 1e6
    return Row(
        name,
        100 * float(medians[:, 0].mean()),
        float(medians[:, 1].mean()),
        100 * float(np.ptp(medians[:, 0])) / 2 if np.isfinite(medians).all() else float("nan"),
        tuple(float(np.mean([e.within(one).mean() for e in errors])) for one in THRESHOLDS),
        float(np.mean([e.failed.sum() for e in errors])),
        seconds,
        float(np.median(cpu)),
        megabytes,
    )


def oracle(found: Evaluation) -> Row:
    """Answers with the nearest train view of the true pose."""
    known = found.nearness.distance, found.nearness.angle_deg
    unknown = np.full((len(known[0]), 3), np.nan)
    errors = PoseErrors(*known, offset=unknown, turn_deg=unknown)
    return Row(
        "oracle",
        100 * float(np.median(errors.position)),
        float(np.median(errors.rotation_deg)),
        0.0,
        tuple(float(errors.within(one).mean()) for one in THRESHOLDS),
        0.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--place", type=Path, default=None)
    parser.add_argument("--split", default="blocks")
    parser.add_argument("--presets", nargs="+", default=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=3, help="of `default`; others have one")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--weights", default=None, help="of the published presets' backbones")
    parser.add_argument("--train-only", action="store_true")
    parsed = parser.parse_args()
    root = parsed.place or Path(f"kitchen-{parsed.split}")
    place = kitchen_place(root, parsed.data, parsed.split)
    split = place.split(parsed.split)
    members: dict[str, list[str]] = {}
    for preset in parsed.presets:
        for seed in range(parsed.seeds if preset == "default" else 1):
            name = trained(place, split, preset, seed, parsed.minutes, parsed.weights)
            members.setdefault(preset, []).append(name)
    if parsed.train_only:
        return
    progress.say(f"load of the machine: {os.getloadavg()[0]:.1f}")
    every = [name for names in members.values() for name in names]
    found = evaluate(place, split=split.name, localizers=(*every, "structure"))
    print(f"{len(found.images)} test images of split {split.name}, {len(split.train)} train images")
    print(f"truth: {found.truth.source}; {parsed.minutes:g} minutes per training")
    heads = "".join(f"{f'{100 * t.position_m:g}cm{t.rotation_deg:g}d':>9}" for t in THRESHOLDS)
    print(f"{'':<26}{'cm':>8}{'+-':>7}{'deg':>8}{heads}{'failed':>8}{'s':>9}{'CPU ms':>8}{'MB':>7}")
    print(row(place, split, found, "constant", ["constant"]).text())
    print(oracle(found).text())
    print(row(place, split, found, "retrieval", ["retrieval"]).text())
    for preset, names in members.items():
        print(row(place, split, found, preset, names).text())
    print(row(place, split, found, "structure", ["structure"]).text())
    for name in evaluation.rows_of(every):
        if name in every:
            facts = RegressorLocalizer.load(folder_of(place, name, split)).facts
            on = facts.validation
            print(
                f"  {name}: validation {100 * on['position']:.2f} cm {on['rotation_deg']:.2f} deg, "
                + "".join(
                    f"{source} {100 * one['position']:.2f} cm {one['rotation_deg']:.2f} deg, "
                    for source, one in on["sources"].items()
                )
                + f"answers by {' and '.join(on['answers_by'].values())}; "
                f"{facts.training['epochs']} epochs on {facts.training['device']}"
            )


if __name__ == "__main__":
    main()
