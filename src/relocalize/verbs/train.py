"""A camera pose regressor of a Place."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from relocalize import evaluation, progress
from relocalize.errors import LocalizerError
from relocalize.localization.registry import LOCALIZERS, TRAINED
from relocalize.localization.saving import read_description
from relocalize.localization.store import folder_of, is_current, store
from relocalize.place import Place, Split
from relocalize.regression import require_torch
from relocalize.regression.presets import preset as named_preset
from relocalize.regression.settings import TrainSettings, with_fields

if TYPE_CHECKING:
    from relocalize.localization.regressor import RegressorLocalizer


@dataclass(frozen=True, repr=False)
class TrainReport:
    """A trained regressor.

    Attributes:
        name: what it is called in `evaluate` and `localize`.
        split: that it was trained on, or None for all images.
        folder: where it is stored.
        validation: its numbers on validation images, which were not trained on.
        training: what it cost, and with what.
        calibration: of its uncertainty.
        settings: everything that the training depended on.
    """

    name: str
    split: str | None
    folder: Path
    validation: dict[str, Any]
    training: dict[str, Any]
    calibration: dict[str, Any]
    settings: TrainSettings

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values."""
        return {
            "name": self.name,
            "split": self.split,
            "folder": str(self.folder),
            "validation": self.validation,
            "training": self.training,
            "calibration": self.calibration,
            "settings": json.loads(self.settings.to_json()),
        }

    def __repr__(self) -> str:
        on, found = self.split or "all images", self.validation
        return (
            f"TrainReport({self.name}, preset {self.settings.preset}, on {on}: validation median "
            f"{found['position']:.3f} {found['unit']}, {found['rotation_deg']:.2f} deg)"
        )


def train(
    place: Place | str | Path,
    *,
    split: str | None = None,
    all_images: bool = False,
    name: str = "regressor",
    preset: str | TrainSettings = "default",
    **fields: object,
) -> TrainReport:
    """Train a camera pose regressor on a Place.

    The same call after an interruption resumes; one that is trained so already stays. Under
    ``torchrun`` every process calls it, and the first one writes.

    Args:
        place: the Place or its folder; it has a map.
        split: train on the train images of this split; None: the only one, or one by blocks of time
            is made.
        all_images: train on every image that has a pose, for use: nothing is left to evaluate on.
        name: what to call the trained regressor in `evaluate` and `localize`.
        preset: a preset's name, or settings of one's own.
        fields: settings that differ from the preset's, such as ``minutes=5``; those of a group by
            their dotted name: ``**{"optimizer.epochs": 20}``.

    Raises:
        LocalizerError: no such setting, too few images, weights that are not there, training that
            diverges, or torch is not installed.
        KeyboardInterrupt: after a checkpoint was written.
    """
    require_torch()
    place = Place.of(place)
    if name in set(LOCALIZERS) - TRAINED:
        raise LocalizerError(f"{name!r} is another localizer's name; give another --name")
    if all_images and split is not None:
        raise LocalizerError("--all-images and --split exclude each other; give one of them")
    settings = with_fields(named_preset(preset) if isinstance(preset, str) else preset, fields)
    from relocalize.regression.training import check_trainable  # noqa: PLC0415 - torch takes seconds

    check_trainable(settings)  # before a split is made
    chosen = None if all_images else evaluation.split_of(place, split)
    folder = folder_of(place, name, chosen)
    trained = _trained(place, folder, chosen, settings)
    return TrainReport(
        name=name,
        split=None if chosen is None else chosen.name,
        folder=folder,
        validation=trained.facts.validation,
        training=trained.facts.training,
        calibration=trained.calibration.to_json(),
        settings=trained.facts.settings,
    )


def stored_settings(folder: Path) -> TrainSettings | None:
    """What the regressor in ``folder`` was trained with, or None where there is none."""
    try:
        description = read_description(folder)
        return TrainSettings.from_json(json.dumps(description.get("settings")))
    except LocalizerError:
        return None


def _trained(
    place: Place, folder: Path, split: Split | None, settings: TrainSettings
) -> RegressorLocalizer:
    """The regressor, trained unless it is there."""
    from relocalize.localization.regressor import RegressorLocalizer  # noqa: PLC0415
    from relocalize.localization.training_regressor import training_folder  # noqa: PLC0415
    from relocalize.regression.distributed import Workers  # noqa: PLC0415 - torch takes seconds

    def fit() -> RegressorLocalizer:
        return RegressorLocalizer.fit(place, split, settings=settings)

    if not Workers.from_environment().leads:
        return fit()
    if is_current(place, folder, split):
        stored = RegressorLocalizer.load(folder)
        # How many threads it took makes no other regressor.
        if replace(stored.facts.settings, threads=settings.threads) == settings:
            # Of a run that was killed once all was saved.
            shutil.rmtree(training_folder(place, split, settings), ignore_errors=True)
            progress.say(f"{folder} is trained with these settings on what there is now")
            return stored
    return cast("RegressorLocalizer", store(place, folder, split, fit))
