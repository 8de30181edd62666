"""Training a regressor of a Place: its parts from a training, and what retrieval does beside it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from relocalize import progress
from relocalize.errors import LocalizerError, MappingError
from relocalize.geometry.transforms import FloatArray
from relocalize.localization.stored_regressor import (
    Regressor,
    TrainedFacts,
    counted_from,
    retrieval_type,
)
from relocalize.place import Place, Split
from relocalize.regression import require_torch
from relocalize.regression.settings import TrainSettings
from relocalize.regression.uncertainty import RETRIEVED, Source

if TYPE_CHECKING:  # torch takes seconds
    from relocalize.regression.data import TrainingData
    from relocalize.regression.training import TrainResult

_UNFINISHED = ".training-"  # prefix of the folders of trainings under way
_UNFINISHED_KEPT = 3
_WITH = ("relocalize", "torch", "safetensors", "numpy", "opencv-python-headless")


def train_regressor(
    place: Place, split: Split | None, settings: TrainSettings, folder: Path | None
) -> Regressor:
    """Train on a split's train images, or on every posed image; see `RegressorLocalizer.fit`."""
    require_torch()
    from relocalize.regression.training import train  # noqa: PLC0415

    folder = folder or training_folder(place, split, settings)
    result = train(place, split, settings, folder, retrieval_answers)
    calibration = result.validated.calibration
    retrieves = set(RETRIEVED) & set(calibration.answers)
    return Regressor(
        network=result.network,
        images=result.data.images,
        views=result.views,
        calibration=calibration,
        facts=_facts(result, settings, place.unit),
        unit=place.unit,
        origin=result.data.frames.origin,
        folder=folder,
        retrieval=retrieval_type().fit(place, split) if retrieves else None,
        trained=result.model,
        compiled=result.compiled,
    )


def retrieval_answers(data: TrainingData) -> dict[Source, FloatArray]:
    """What image retrieval among the images trained on answers to the validation images.

    Nothing where the answer is not chosen by them, or images have too few features.
    """
    if data.settings.answer != "validation":
        return {}
    place, names = data.place, np.array(data.frames.names)
    known = Split("trained on", "list", tuple(names[data.train].tolist()), ())
    try:
        retrieval = retrieval_type().fit(place, known, sigmas=False)
        found = [retrieval.similar(place.read_image(name)) for name in names[data.validation]]
    except (LocalizerError, MappingError) as error:
        progress.say(f"the regressor is not compared with image retrieval: {error}")
        return {}
    # One without features has nothing to see: any answer is as good.
    nothing = np.array(data.train_poses[0])
    poses = [
        (nothing, nothing)
        if isinstance(one, str)
        else tuple(counted_from(data.frames.origin, pose) for pose in (one.nearest, one.between))
        for one in found
    ]
    return dict(zip(RETRIEVED, np.array(poses).swapaxes(0, 1), strict=True))


def training_folder(place: Place, split: Split | None, settings: TrainSettings) -> Path:
    """The folder of a training under way, by what is trained on what; a few others stay."""
    values = asdict(settings) | {"minutes": None, "checkpoint_minutes": None, "threads": None}
    about = json.dumps([values, None if split is None else asdict(split)])
    key = hashlib.sha256(about.encode()).hexdigest()[:16]
    folder = place.root / "localizers" / f"{_UNFINISHED}{key}"
    others = [path for path in folder.parent.glob(f"{_UNFINISHED}*") if path != folder]
    for old in sorted(others, key=lambda path: path.stat().st_mtime)[:-_UNFINISHED_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _facts(result: TrainResult, settings: TrainSettings, unit: str) -> TrainedFacts:
    counts, run = result.model.parameter_counts(), result.run
    sources, answers = result.validated.sources, result.validated.calibration.answers
    validation = {
        "images": len(result.data.validation),
        "position": sources["pose"].position,
        "unit": unit,
        "rotation_deg": sources["pose"].rotation_deg,
        "score": sources["pose"].score,
        "epoch": run.best_epoch,
        "sources": {
            name: {"position": one.position, "rotation_deg": one.rotation_deg}
            for name, one in sources.items()
        },
        "answers_by": dict(zip(("position", "rotation"), answers, strict=True)),
    }
    training = {
        "images": len(result.data.train),
        "epochs": run.epochs,
        "seconds": round(run.seconds, 2),
        "preparation_seconds": round(result.preparation_seconds, 2),
        "stopped": run.stopped,
        "restarts": run.restarts,
        "device": result.device.name,
        "backbone_weights": Path(result.weights.source).name or "none",
        "parameters": asdict(counts),
        "with": {package: version(package) for package in _WITH},
    }
    return TrainedFacts(settings, validation, training)
