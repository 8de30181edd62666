"""Camera pose regression: one pass of a trained network gives the pose, and how sure it is.

What is trained and how is the room `learning`; here it becomes a localizer. The classic is
PoseNet (Kendall, Grimes, Cipolla, ICCV 2015).
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from typing_extensions import Self

from relocalize import progress
from relocalize.errors import GeometryError, LocalizerError
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.localization.estimate import PoseEstimate
from relocalize.localization.localizer import Localizer
from relocalize.localization.query import Query
from relocalize.localization.registry import kind_of
from relocalize.localization.saving import DESCRIPTION, read_description
from relocalize.place import Place, Split, atomic
from relocalize.regression.device import Device, choose_device
from relocalize.regression.folding import folded
from relocalize.regression.half_precision import as_stored
from relocalize.regression.image_input import ImageInput
from relocalize.regression.inference import Answers, answers_to
from relocalize.regression.model import PoseRegressor, make_regressor
from relocalize.regression.novelty import KnownViews
from relocalize.regression.presets import preset
from relocalize.regression.settings import TrainSettings
from relocalize.regression.training import TrainResult, train
from relocalize.regression.training_log import EVENTS, LOG
from relocalize.regression.uncertainty import Calibration, Signs
from relocalize.regression.validation import signs_of

WEIGHTS = "weights.safetensors"
_VERSION = 3
_MAX_BYTES = 2 << 30  # of a file of weights; the largest network here takes 0.1 GB
_MODEL = "model."  # prefix of its tensors in the file; those of the views have names of their own
# Focal lengths, as shares of the longer side, that a photo of an unknown camera is tried with:
# from a phone's wide lens to a short telephoto.
_FOCAL_GUESSES = (0.6, 0.675, 0.75, 0.825, 0.9, 0.975, 1.05, 1.125, 1.2, 1.35)
# What a depth that is off weighs beside a sigma, in logarithms: through a lens 10% too long things
# look 3% nearer than they are, and sigma is 15% larger (train frames of redkitchen).
_OF_DEPTH = 8.0
_UNFINISHED = ".training-"  # prefix of the folders of trainings under way
_UNFINISHED_KEPT = 3
_WITH = ("relocalize", "torch", "safetensors", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class TrainedFacts:
    """How a regressor came about, for people and for training it again.

    Attributes:
        settings: of the training.
        validation: its numbers on the validation images, which were not trained on.
        training: what it cost, and with what.
    """

    settings: TrainSettings
    validation: dict[str, Any]
    training: dict[str, Any]


class RegressorLocalizer(Localizer):
    """Regresses poses.

    Attributes:
        model: the network, in evaluation mode.
        images: how photos become its input.
        views: the train images as it saw them.
        calibration: of its uncertainty.
        facts: how it came about.
        unit: of positions.
        origin: [3] in the world, from which the network's positions count.
        log_folder: where its training's log is, or None.
    """

    name: ClassVar[str] = "regressor"

    def __init__(
        self,
        model: PoseRegressor,
        images: ImageInput,
        views: KnownViews,
        calibration: Calibration,
        facts: TrainedFacts,
        unit: str,
        *,
        origin: FloatArray,
        log_folder: Path | None = None,
    ) -> None:
        self.model, self.images, self.views = model, images, views
        self.calibration, self.facts, self.unit = calibration, facts, unit
        self.origin, self.log_folder = origin, log_folder
        self._device = _answering_device(facts.settings)
        # Folding makes an answer a third faster, and what it makes is no longer the model's state.
        self._answering = copy.deepcopy(model)
        self._answering.backbone = folded(model.backbone)
        self._device.place(self._answering)
        self._said_guessing = False

    @classmethod
    def fit(
        cls,
        place: Place,
        split: Split | None = None,
        *,
        settings: TrainSettings | None = None,
        folder: Path | None = None,
    ) -> Self:
        """Train, by default as the preset ``default`` says; a killed training goes on.

        Args:
            place: with a map.
            split: whose train images are learnt from; None: every image that has a pose.
            settings: of the training.
            folder: for its checkpoint and log; None: one in the Place, by settings and images.

        Raises:
            LocalizerError: too few images, weights that are not there, or training that diverges.
            KeyboardInterrupt: after a checkpoint was written.
        """
        settings = preset("default") if settings is None else settings
        folder = folder or _work_folder(place, split, settings)
        result = train(place, split, settings, folder)
        localizer = cls(
            result.model,
            result.data.images,
            result.views,
            result.validated.calibration,
            _facts(result, settings, place.unit),
            place.unit,
            origin=result.data.frames.origin,
            log_folder=folder,
        )
        localizer.work_folder = folder
        return localizer

    @classmethod
    def fit_again(cls, place: Place, split: Split | None, folder: Path) -> Self:
        """Train with the settings of the one that is in ``folder``, if there is one."""
        if not (folder / DESCRIPTION).is_file():
            return cls.fit(place, split)
        return cls.fit(place, split, settings=_settings_in(read_description(folder)))

    # -- localizing ------------------------------------------------------------------------

    def _localize(self, query: Query) -> PoseEstimate:
        """By the camera as far as it is known; an unknown one is tried with several focal lengths.

        So is an approximate one by which the photo is refused: a zoomed or cropped image keeps its
        EXIF.
        """
        started = time.perf_counter()
        known = query.camera.known
        camera = query.camera if known != "unknown" else self._guessed_camera(query.pixels)
        estimate = self._by_camera(query.pixels, camera, started)
        if estimate.status == "failed" and known == "approximate":
            again = self._by_camera(query.pixels, self._guessed_camera(query.pixels), started)
            estimate = again if again.status == "localized" else estimate
        return estimate

    def _by_camera(self, pixels: NDArray[np.uint8], camera: Camera, started: float) -> PoseEstimate:
        try:
            answers, signs = self._answer(pixels, camera)
        except GeometryError as error:
            return self._failed(started, f"the camera does not fit the photo: {error}")
        doubt = self.calibration.doubt(signs, 0, self.unit)
        if doubt is not None:
            return self._failed(started, doubt)
        return PoseEstimate(
            "localized",
            self.unit,
            1e3 * (time.perf_counter() - started),
            world_from_cam=Rigid3.from_matrix(answers.world_from_cams[0]).shifted(self.origin),
            covariance=self.calibration.covariances(signs)[0],
            camera=camera,
        )

    def _failed(self, started: float, reason: str) -> PoseEstimate:
        milliseconds = 1e3 * (time.perf_counter() - started)
        return PoseEstimate("failed", self.unit, milliseconds, reason=reason)

    def _answer(self, pixels: NDArray[np.uint8], camera: Camera) -> tuple[Answers, Signs]:
        inputs = self.images.of_photo(pixels, camera)
        with self._device.running():
            answers = answers_to(
                self._answering, inputs, self._device, samples=self.facts.settings.samples
            )
        answers = answers.averaged(self.images.turns)
        if self.calibration.by_view:
            nearest = self.views.compare(answers.descriptions).nearest
            answers = replace(answers, world_from_cams=nearest)
        return answers, signs_of(answers, self.views)

    def _say_guessing(self) -> None:
        if not self._said_guessing:
            progress.say(
                "photos of an unknown camera: the focal length is guessed, as the one through "
                "which a photo fits the place best"
            )
        self._said_guessing = True

    def _guessed_camera(self, pixels: NDArray[np.uint8]) -> Camera:
        """A pinhole of the focal length through which the photo fits the place best.

        Where cells say depths: the one through which things look as far away as they are from the
        pose that follows, and the pose is sure; else the one through which it looks most like train
        images. The latter alone would rather fill the image than show it at the right size.
        """
        self._say_guessing()
        height, width = pixels.shape[:2]
        guesses = [
            Camera.from_focal(width, height, share * max(width, height), model="SIMPLE_PINHOLE")
            for share in _FOCAL_GUESSES
        ]
        inputs = np.concatenate([self.images.of_photo(pixels, guess, crops=1) for guess in guesses])
        with self._device.running():
            found = answers_to(self._answering, inputs, self._device)
        if found.depth_off is None or found.variance is None:
            unlikely = self.views.compare(found.descriptions).novelty
        else:
            log_sigma = np.log(found.variance).mean(axis=1) / 2
            unlikely = _OF_DEPTH * np.abs(found.depth_off) + log_sigma
        best = guesses[int(unlikely.argmin())]
        return Camera(best.model, width, height, best.params, known="unknown")

    # -- saving ----------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write weights, settings and the training's log into the empty ``folder``."""
        tensors = {
            f"{_MODEL}{name}": as_stored(value.detach().cpu()).contiguous()
            for name, value in self.model.state_dict().items()
        }
        for name, array in self.views.to_arrays().items():
            tensors[name] = torch.from_numpy(np.ascontiguousarray(array))
        save_file(tensors, str(folder / WEIGHTS))
        if self.log_folder is not None and (self.log_folder / LOG).is_file():
            shutil.copy2(self.log_folder / LOG, folder / LOG)
            if (self.log_folder / EVENTS).is_dir():
                shutil.copytree(self.log_folder / EVENTS, folder / EVENTS)
        description = {
            "localizer": self.name,
            "version": _VERSION,
            "unit": self.unit,
            "origin": self.origin.tolist(),
            "settings": json.loads(self.facts.settings.to_json()),
            "camera": asdict(self.images.target),
            "calibration": self.calibration.to_json(),
            "validation": self.facts.validation,
            "training": self.facts.training,
        }
        atomic.write_json(folder / DESCRIPTION, description)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        description = read_description(folder)
        found = (description.get("localizer"), description.get("version"))
        if (kind_of(description), found[1]) != (cls.name, _VERSION):
            raise LocalizerError(
                f"{folder} holds localizer {found[0]!r} version {found[1]!r}, want {cls.name!r} "
                f"version {_VERSION}; delete the folder and it is trained again"
            )
        settings = _settings_in(description)
        tensors = _read_tensors(folder / WEIGHTS)
        try:
            model = make_regressor(settings)
            model.load_state_dict(
                {
                    name.removeprefix(_MODEL): value.float() if value.is_floating_point() else value
                    for name, value in tensors.items()
                    if name.startswith(_MODEL)
                }
            )
            arrays = {n: v.numpy() for n, v in tensors.items() if not n.startswith(_MODEL)}
            views = KnownViews.from_arrays(arrays)
            calibration = Calibration.from_json(description["calibration"])
            target = Camera.from_json(description["camera"])
            facts = TrainedFacts(
                settings, dict(description["validation"]), dict(description["training"])
            )
            unit = description["unit"]
            # What was saved before there was one counts from the world's own.
            origin = np.asarray(description.get("origin", [0.0, 0.0, 0.0]), dtype=np.float64)
            if origin.shape != (3,) or not np.isfinite(origin).all():
                raise ValueError("origin is no point")
            if not isinstance(unit, str):
                raise TypeError("unit is no string")
        except (KeyError, TypeError, ValueError, RuntimeError, GeometryError) as error:
            what = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise LocalizerError(
                f"{folder} is damaged ({what}); delete the folder and it is trained again"
            ) from error
        model.eval()
        return cls(
            model,
            ImageInput(settings.input, target),
            views,
            calibration,
            facts,
            unit,
            origin=origin,
            log_folder=folder,
        )


def _answering_device(settings: TrainSettings) -> Device:
    """Where photos are answered: where it was trained, if that is here, else wherever it can be."""
    try:
        return choose_device(
            settings.device, threads=settings.threads, precision=settings.precision
        )
    except LocalizerError:
        return choose_device("auto", threads=settings.threads, precision=settings.precision)


def _settings_in(description: dict[str, Any]) -> TrainSettings:
    return TrainSettings.from_json(json.dumps(description.get("settings")))


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise LocalizerError(f"{path} is of {path.stat().st_size} bytes; want {_MAX_BYTES}")
        tensors: dict[str, torch.Tensor] = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise LocalizerError(
            f"{path} is damaged ({error}); delete the folder and it is trained again"
        ) from error
    return tensors


def _work_folder(place: Place, split: Split | None, settings: TrainSettings) -> Path:
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
    validation = {
        "images": len(result.data.validation),
        "position": result.validated.answered.position,
        "unit": unit,
        "rotation_deg": result.validated.answered.rotation_deg,
        "score": result.validated.answered.score,
        "epoch": run.best_epoch,
        "nearest_view": {
            "position": result.validated.nearest_view.position,
            "rotation_deg": result.validated.nearest_view.rotation_deg,
        },
        "answers_by": "view" if result.validated.calibration.by_view else "pose",
    }
    training = {
        "images": len(result.data.train),
        "epochs": run.epochs,
        "seconds": round(run.seconds, 2),
        "preparation_seconds": round(result.preparation_seconds, 2),
        "stopped": run.stopped,
        "device": result.device.name,
        "backbone_weights": Path(result.weights.source).name or "none",
        "parameters": asdict(counts),
        "with": {package: version(package) for package in _WITH},
    }
    return TrainedFacts(settings, validation, training)
