"""`relocalize train PLACE`: train a camera pose regressor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import tyro

from relocalize import evaluation, progress
from relocalize.errors import LocalizerError
from relocalize.localization import LOCALIZERS
from relocalize.localization.registry import TRAINED
from relocalize.localization.store import folder_of, is_current, store
from relocalize.place import Place
from relocalize.regression import require_torch
from relocalize.regression.presets import preset
from relocalize.regression.settings import TrainSettings

if TYPE_CHECKING:
    from relocalize.localization.regressor import RegressorLocalizer

_DEFAULT_PRESET = "default"


@dataclass(frozen=True)
class Train:
    """Train a camera pose regressor on a Place.

    The settings are those of a preset, and any of them can be given beside it. The same command
    after an interruption resumes where it was.
    """

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    split: str | None = None
    """Train on the train images of this split; without it the only one, or one by blocks of time
    is made."""
    all_images: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Train on every image that has a pose, for use: nothing is left to evaluate on."""
    name: str = "regressor"
    """What to call the trained regressor in evaluate and localize."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of text."""
    settings: Annotated[TrainSettings, tyro.conf.arg(name="")] = field(
        default_factory=lambda: preset(_DEFAULT_PRESET)
    )
    """Everything that the training depends on."""

    def run(self) -> int:
        """Train, and print how it does on validation images."""
        require_torch()
        place = Place.open(self.place)
        if self.name in set(LOCALIZERS) - TRAINED:
            raise LocalizerError(f"{self.name!r} is another localizer's name; give another --name")
        if self.all_images and self.split is not None:
            raise LocalizerError("--all-images and --split exclude each other; give one of them")
        split = None if self.all_images else evaluation.split_of(place, self.split)
        folder = folder_of(place, self.name, split)
        trained = _trained(place, folder, self)
        if trained is None:
            return 0
        on = None if split is None else split.name
        facts = {"name": self.name, "split": on, "folder": str(folder)}
        if self.json:
            print(json.dumps({**facts, **_as_json(trained)}, indent=2, allow_nan=False))
        else:
            print(_as_text(trained, place, folder, self.name, on))
        return 0


def train_command(arguments: Sequence[str]) -> type[Train]:
    """`Train` with the defaults of the preset that the command line names.

    So that `--help` shows that preset's numbers, and what is given beside it changes these.

    Raises:
        LocalizerError: there is no such preset.
    """
    if not arguments or arguments[0] != "train":
        return Train
    named = _DEFAULT_PRESET
    for index, argument in enumerate(arguments):
        if argument == "--preset" and index + 1 < len(arguments):
            named = arguments[index + 1]
        elif argument.startswith("--preset="):
            named = argument.partition("=")[2]
    settings = preset(named)
    kind = Annotated[TrainSettings, tyro.conf.arg(name="")]
    made = make_dataclass(
        "Train",
        [("settings", kind, field(default=settings))],
        bases=(Train,),
        frozen=True,
        namespace={"__doc__": Train.__doc__},
    )
    return cast("type[Train]", made)


def _trained(place: Place, folder: Path, command: Train) -> RegressorLocalizer | None:
    """The regressor, trained unless it is there; None in all but the first of several processes."""
    from relocalize.localization.regressor import RegressorLocalizer  # noqa: PLC0415
    from relocalize.regression.distributed import Workers  # noqa: PLC0415 - torch takes seconds

    split = None if command.all_images else evaluation.split_of(place, command.split)

    def fit() -> RegressorLocalizer:
        return RegressorLocalizer.fit(place, split, settings=command.settings)

    if not Workers.from_environment().leads:
        fit()
        return None
    if is_current(place, folder, split):
        stored = RegressorLocalizer.load(folder)
        if stored.facts.settings == command.settings:
            progress.say(f"{folder} is trained with these settings on what there is now")
            return stored
    return cast("RegressorLocalizer", store(place, folder, split, fit))


def _as_json(trained: RegressorLocalizer) -> dict[str, Any]:
    return {
        "validation": trained.facts.validation,
        "training": trained.facts.training,
        "calibration": trained.calibration.to_json(),
        "settings": json.loads(trained.facts.settings.to_json()),
    }


def _as_text(
    trained: RegressorLocalizer, place: Place, folder: Path, name: str, split: str | None
) -> str:
    validation, training = trained.facts.validation, trained.facts.training
    minutes = (training["seconds"] + training["preparation_seconds"]) / 60
    size = sum(path.stat().st_size for path in folder.glob("*") if path.is_file()) / 1e6
    lines = [
        f"trained {trained.facts.settings.preset} in {folder}",
        f"  {training['images']} train images, {training['epochs']} epochs, "
        f"{minutes:.1f} minutes, {training['device']}, {size:.1f} MB",
        f"  validation ({validation['images']} images in blocks of time, not trained on): median "
        f"{validation['position']:.3f} {validation['unit']}, {validation['rotation_deg']:.2f} deg "
        f"in epoch {validation['epoch']}, which is kept",
    ]
    if validation["answers_by"] == "view":
        nearest = validation["nearest_view"]
        lines.append(
            f"  the most similar train view is nearer ({nearest['position']:.3f} "
            f"{validation['unit']}, {nearest['rotation_deg']:.2f} deg) and is what photos are "
            "answered with; a longer training may change that"
        )
    if training["stopped"]:
        lines.append(f"  stopped early: {training['stopped']}")
    if split is None:
        lines.append(f"next: relocalize localize {place.root} PHOTO.jpg --localizer {name}")
    else:
        lines.append(f"next: relocalize evaluate {place.root} --split {split} --localizer {name}")
    return "\n".join(lines)
