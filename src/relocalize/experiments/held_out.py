"""How the regressors of a sweep do on test images: looked at once, and nothing chosen by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from relocalize import evaluation, progress
from relocalize.experiments.runs import REGRESSOR, Run
from relocalize.localization.localizer import Localizer
from relocalize.localization.store import folder_of, is_current, store
from relocalize.place import Place, Split


@dataclass(frozen=True)
class HeldOutErrors:
    """One localizer on the test images."""

    position: float | None  # median error in the truth's unit, None where half failed
    rotation_deg: float | None  # likewise, degrees
    images: int  # that were scored
    failed: int  # of them, without an answer


def score_test_images(
    place: Place, split: Split, sweep: str, runs: Sequence[Run]
) -> dict[str, HeldOutErrors]:
    """The errors of every run's regressor, and of the baselines, by the name of run or baseline.

    Each regressor becomes a localizer of the Place, ``<sweep>.<run>``, and they are evaluated
    together as `relocalize evaluate` does it, so that the report can show them.
    """
    progress.say(
        f"now the {len(split.test)} test images of split {split.name} are looked at: choose "
        "nothing by what they say, or they test nothing any more"
    )
    trained = [run for run in runs if (run.folder / REGRESSOR).is_dir()]
    if len(trained) < len(runs):
        progress.say(f"{len(runs) - len(trained)} runs diverged or left no regressor: not scored")
    names = {f"{sweep}.{run.folder.name}": run for run in trained}
    for name, run in names.items():
        folder = folder_of(place, name, split)
        if not is_current(place, folder, split):
            store(place, folder, split, partial(_regressor, run))
    scored = evaluation.evaluate(place, split=split.name, localizers=list(names)).to_json()
    return {
        names[name].folder.name if name in names else name: HeldOutErrors(
            row["median_position"], row["median_rotation_deg"], row["n"], row["failed"]
        )
        for name, row in scored["localizers"].items()
    }


def _regressor(run: Run) -> Localizer:
    from relocalize.localization.regressor import RegressorLocalizer  # noqa: PLC0415 - loads torch

    trained = RegressorLocalizer.load(run.folder / REGRESSOR)
    trained.log_folder = run.folder
    return trained
