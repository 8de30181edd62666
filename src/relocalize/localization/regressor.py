"""Camera pose regression: one pass of a trained network gives the pose, and how sure it is.

What is trained and how is the room `learning`; here it becomes a localizer. The classic is
PoseNet (Kendall, Grimes, Cipolla, ICCV 2015).
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from typing_extensions import Self

from relocalize import progress
from relocalize.errors import GeometryError, LocalizerError, MappingError
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray, rotations_from_rotvecs
from relocalize.localization.estimate import PoseEstimate
from relocalize.localization.localizer import Localizer
from relocalize.localization.query import Query
from relocalize.localization.registry import kind_of
from relocalize.localization.saving import DESCRIPTION, read_description
from relocalize.place import Place, Split, atomic
from relocalize.regression import require_torch
from relocalize.regression.answers import Network
from relocalize.regression.image_input import ImageInput
from relocalize.regression.novelty import KnownViews
from relocalize.regression.onnx_network import OnnxNetwork
from relocalize.regression.presets import preset
from relocalize.regression.settings import TrainSettings
from relocalize.regression.training_log import EVENTS, LOG
from relocalize.regression.uncertainty import (
    RETRIEVED,
    Calibration,
    Signs,
    Source,
    pose_distances,
)

if TYPE_CHECKING:  # torch takes seconds, and answering does without; mostly without retrieval too
    from relocalize.localization.retrieval import RetrievalLocalizer, Similar
    from relocalize.regression.data import TrainingData
    from relocalize.regression.inference import TorchNetwork
    from relocalize.regression.model import PoseRegressor
    from relocalize.regression.training import TrainResult

WEIGHTS = "weights.safetensors"
NETWORK = "network.onnx"  # what answers, with the weights of the file beside it
RETRIEVAL = "retrieval"  # folder of the image retrieval that answers, where it does better
_VERSION, _READ = 4, (3, 4)  # 3 is of version 0.1
_MAX_BYTES = 2 << 30  # of a file of weights; the largest network here takes 0.1 GB
_MODEL = "model."  # prefix of its tensors in the file; those of the views have names of their own
# Focal lengths, as shares of the longer side, that a photo of an unknown camera is tried with:
# from a phone's wide lens to a short telephoto.
_FOCAL_GUESSES = (0.6, 0.675, 0.75, 0.825, 0.9, 0.975, 1.05, 1.125, 1.2, 1.35)
# What a depth that is off weighs beside a sigma, in logarithms: through a lens 10% too long things
# look 3% nearer than they are, and sigma is 15% larger (train frames of redkitchen).
_OF_DEPTH = 8.0
# How else a phone is held, and from where on a photo is turned upright: that costs as much again.
_QUARTERS = (math.pi / 2, -math.pi / 2, math.pi)
_LEAST_ROLL_DEG = 10.0
# Length of the mean of the train images' unit vectors up, from which on they were held alike; and
# of up in the image, below which a photo looks up or down.
_HELD_ALIKE, _UPRIGHT = 0.8, 0.5
_WAITING_SIDE = 768  # pixels, at most, of photos that wait for others of their camera
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


@dataclass(frozen=True, eq=False)
class _Answer:
    """To a photo that was turned by ``roll`` before the network saw it."""

    world_from_cam: FloatArray  # [4, 4] of the photo as it is
    covariance: FloatArray  # [6, 6]
    doubt: str | None  # why it is none
    sure: bool  # as `Calibration.is_sure`
    roll: float  # radians, clockwise

    @property
    def sigma(self) -> float:
        """Of the position."""
        return float(np.trace(self.covariance[:3, :3]))


class RegressorLocalizer(Localizer):
    """Regresses poses.

    Attributes:
        network: what answers: run by onnxruntime, or by torch where that cannot.
        images: how photos become its input.
        views: the train images as it saw them.
        retrieval: among the train images; None where it is not what answers.
        calibration: of its uncertainty, and what answers.
        facts: how it came about.
        unit: of positions.
        origin: [3] in the world, from which the network's positions count.
        folder: of its training, or of its weights where it was loaded.
        log_folder: where its training's log is, or None.
    """

    name: ClassVar[str] = "regressor"

    def __init__(
        self,
        network: Network,
        images: ImageInput,
        views: KnownViews,
        calibration: Calibration,
        facts: TrainedFacts,
        unit: str,
        *,
        origin: FloatArray,
        folder: Path,
        retrieval: RetrievalLocalizer | None = None,
        model: PoseRegressor | None = None,
        compiled: bytes | None = None,
    ) -> None:
        """Of its parts; ``model`` and its ``compiled`` form where it was trained just now."""
        self.network, self.images, self.views = network, images, views
        self.calibration, self.facts, self.unit = calibration, facts, unit
        self.origin, self.folder, self.retrieval = origin, folder, retrieval
        self.log_folder: Path | None = folder
        self._model, self._compiled = model, compiled
        self._said_guessing = False

    @property
    def model(self) -> PoseRegressor:
        """The network as torch has it, in evaluation mode; read when it is first asked for.

        Raises:
            LocalizerError: torch is not installed, or the weights do not fit the settings.
        """
        if self._model is None:
            self._model = _read_model(self.folder / WEIGHTS, self.facts.settings)
        return self._model

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
        require_torch()
        from relocalize.regression.training import train  # noqa: PLC0415

        settings = preset("default") if settings is None else settings
        folder = folder or _work_folder(place, split, settings)
        result = train(place, split, settings, folder, retrieval_answers)
        compiled = _compiled(result)
        retrieves = set(RETRIEVED) & set(result.validated.calibration.answers)
        localizer = cls(
            _by_torch(result.model, settings)
            if compiled is None
            else OnnxNetwork(compiled, threads=settings.threads or 1),
            result.data.images,
            result.views,
            result.validated.calibration,
            _facts(result, settings, place.unit),
            place.unit,
            origin=result.data.frames.origin,
            folder=folder,
            retrieval=_retrieval().fit(place, split) if retrieves else None,
            model=result.model,
            compiled=compiled,
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

    def _localize_many(self, queries: Iterable[Query]) -> list[PoseEstimate]:
        """Images of one size of an unknown camera share it: they choose its focal length together.

        A photo that the shared one leaves without an answer is tried by itself: it may be zoomed.
        """
        estimates: dict[int, PoseEstimate] = {}
        sharing: dict[tuple[int, int], list[_Unlikely]] = defaultdict(list)
        for index, query in enumerate(queries):
            if query.camera.known != "unknown":
                estimates[index] = self._localize(query)
                continue
            started, (height, width) = time.perf_counter(), query.pixels.shape[:2]
            pixels, unlikely = _small(query.pixels), self._unlikely(query.pixels)
            seconds = time.perf_counter() - started
            sharing[width, height].append(_Unlikely(index, pixels, unlikely, seconds))
        for (width, height), photos in sharing.items():
            # The median, so that photos of another place do not count.
            together = np.median([photo.by_focal for photo in photos], axis=0)
            shared = _guess(width, height, int(together.argmin()))
            for photo in photos:
                alone = _guess(width, height, int(photo.by_focal.argmin()))
                started = time.perf_counter() - photo.seconds
                found = self._by_guess(photo.pixels, shared, started)
                if found.status == "failed" and alone != shared:
                    found = self._by_guess(photo.pixels, alone, started)
                estimates[photo.index] = found
        return [estimates[index] for index in range(len(estimates))]

    def _by_guess(self, pixels: NDArray[np.uint8], guess: Camera, started: float) -> PoseEstimate:
        """By the camera of the photo that ``pixels`` were made smaller from."""
        found = self._by_camera(pixels, guess.resized(*pixels.shape[1::-1]), started)
        return found if found.camera is None else replace(found, camera=guess)

    def _by_camera(self, pixels: NDArray[np.uint8], camera: Camera, started: float) -> PoseEstimate:
        """Held as it is; if that is no view of the place, held the other three ways.

        Of those only a sure answer counts. One that says that the camera was rolled, by more than a
        training has seen, is given again by the photo turned upright.
        """
        similar = None if self.retrieval is None else self.retrieval.similar(pixels)
        similar = None if isinstance(similar, str) else similar
        try:
            found = self._answer(pixels, camera, 0.0, similar)
            if found.doubt is not None and self.images.turns is not None:
                held = [self._answer(pixels, camera, roll, similar) for roll in _QUARTERS]
                sure = [one for one in held if one.doubt is None and one.sure]
                found = min(sure, key=lambda one: one.sigma, default=found)
            roll = None if found.doubt is not None else self._roll_of(found.world_from_cam)
            known = math.radians(max(_LEAST_ROLL_DEG, self.facts.settings.augment.roll_deg))
            if roll is not None and abs(math.remainder(roll - found.roll, 2 * math.pi)) > known:
                upright = self._answer(pixels, camera, roll, similar)
                if upright.doubt is None and upright.sigma < found.sigma:
                    found = upright
        except GeometryError as error:
            return self._failed(started, f"the camera does not fit the photo: {error}")
        if found.doubt is not None:
            return self._failed(started, found.doubt)
        return PoseEstimate(
            "localized",
            self.unit,
            1e3 * (time.perf_counter() - started),
            world_from_cam=Rigid3.from_matrix(found.world_from_cam).shifted(self.origin),
            covariance=found.covariance,
            camera=camera,
        )

    def _failed(self, started: float, reason: str) -> PoseEstimate:
        milliseconds = 1e3 * (time.perf_counter() - started)
        return PoseEstimate("failed", self.unit, milliseconds, reason=reason)

    def _answer(
        self, pixels: NDArray[np.uint8], camera: Camera, roll: float, similar: Similar | None
    ) -> _Answer:
        """By the photo turned by ``roll`` radians, clockwise; ``similar`` to train images."""
        turn = None if roll == 0 else rotations_from_rotvecs(np.array([[0.0, 0.0, roll]]))[0]
        turns = self.images.turns
        if turn is not None and turns is not None:
            turns = turns @ turn
        answers = self.network(self.images.of_photo(pixels, camera, rolled=turn)).averaged(turns)
        if turn is not None and self.images.settings.test_crops == 1:
            poses = answers.world_from_cams.copy()
            poses[:, :3, :3] = poses[:, :3, :3] @ turn
            answers = replace(answers, world_from_cams=poses)
        compared = self.views.compare(answers.descriptions)
        nearest, retrieved = compared.nearest.copy(), None
        if similar is not None:
            of = zip(RETRIEVED, (similar.nearest, similar.between), strict=True)
            retrieved = {source: _counted_from(self.origin, pose)[None] for source, pose in of}
        if turn is not None:
            # Those are of images held upright.
            for pose in (nearest, *(retrieved or {}).values()):
                pose[:, :3, :3] = pose[:, :3, :3] @ turn
        away = pose_distances(answers.world_from_cams, nearest)
        signs = Signs(compared.novelty, away, answers.variance)
        found = self.calibration.answer(answers.world_from_cams, nearest, signs, retrieved)
        covariance = self.calibration.covariances(signs)[0]
        if similar is not None and similar.covariance is not None:
            for part, answer in enumerate(self.calibration.answers):
                if answer in RETRIEVED:
                    axes = slice(3 * part, 3 * part + 3)
                    covariance[axes, axes] = similar.covariance[axes, axes]
        doubt, sure = (
            self.calibration.doubt(signs, 0, self.unit),
            self.calibration.is_sure(signs, 0),
        )
        return _Answer(found[0], covariance, doubt, sure, roll)

    @cached_property
    def _up(self) -> FloatArray | None:
        """[3] up in the world by how the train images were held; None where that was all ways."""
        up = -self.views.world_from_cams[: self.views.count, :3, 1].mean(axis=0)
        length = float(np.linalg.norm(up))
        return up / length if length > _HELD_ALIKE else None

    def _roll_of(self, world_from_cam: FloatArray) -> float | None:
        """Radians that a photo of this pose [4, 4] is turned by, clockwise, to be upright."""
        if self._up is None or self.images.turns is None:
            return None
        x, y, _ = self._up @ world_from_cam[:3, :3]
        # Straight up or down there is no upright.
        return -math.atan2(x, -y) if math.hypot(x, y) > _UPRIGHT else None

    def _say_guessing(self) -> None:
        if not self._said_guessing:
            progress.say(
                "photos of an unknown camera: the focal length is guessed, as the one through "
                "which a photo fits the place best"
            )
        self._said_guessing = True

    def _guessed_camera(self, pixels: NDArray[np.uint8]) -> Camera:
        """A pinhole of the focal length through which the photo fits the place best."""
        height, width = pixels.shape[:2]
        return _guess(width, height, int(self._unlikely(pixels).argmin()))

    def _unlikely(self, pixels: NDArray[np.uint8]) -> FloatArray:
        """How unlikely each of the focal lengths is of a photo.

        Where cells say depths: the less, the more nearly things look as far away as they are from
        the pose that follows, and the surer the pose; else the more the photo looks like train
        images. The latter alone would rather fill the image than show it at the right size.
        """
        self._say_guessing()
        height, width = pixels.shape[:2]
        guesses = [_guess(width, height, number) for number in range(len(_FOCAL_GUESSES))]
        inputs = np.concatenate([self.images.of_photo(pixels, guess, crops=1) for guess in guesses])
        found = self.network(inputs)
        if found.depth_off is None or found.variance is None:
            return self.views.compare(found.descriptions).novelty
        log_sigma = np.log(found.variance).mean(axis=1) / 2
        unlikely: FloatArray = _OF_DEPTH * np.abs(found.depth_off) + log_sigma
        return unlikely

    # -- saving ----------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write network, weights, settings and the training's log into the empty ``folder``."""
        import torch  # noqa: PLC0415
        from safetensors.torch import save_file  # noqa: PLC0415

        from relocalize.regression.half_precision import as_stored  # noqa: PLC0415

        tensors = {
            f"{_MODEL}{name}": as_stored(value.detach().cpu()).contiguous()
            for name, value in self.model.state_dict().items()
        }
        for name, array in self.views.to_arrays().items():
            tensors[name] = torch.from_numpy(np.ascontiguousarray(array))
        save_file(tensors, str(folder / WEIGHTS))
        if self._compiled is not None:
            from relocalize.regression.onnx_export import sharing_weights  # noqa: PLC0415

            network = sharing_weights(self._compiled, folder / WEIGHTS)
            (folder / NETWORK).write_bytes(network)
        elif (self.folder / NETWORK).is_file():
            shutil.copy2(self.folder / NETWORK, folder / NETWORK)
        if self.retrieval is not None:
            (folder / RETRIEVAL).mkdir()
            self.retrieval.save(folder / RETRIEVAL)
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
        if kind_of(description) != cls.name or found[1] not in _READ:
            raise LocalizerError(
                f"{folder} holds localizer {found[0]!r} version {found[1]!r}, want {cls.name!r} "
                f"version {_VERSION}; delete the folder and it is trained again"
            )
        settings = _settings_in(description)
        arrays = _read_arrays(folder / WEIGHTS)
        try:
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
        images = ImageInput(settings.input, target)
        retrieves = set(RETRIEVED) & set(calibration.answers)
        retrieval = _retrieval().load(folder / RETRIEVAL) if retrieves else None
        model = None
        if (folder / NETWORK).is_file():
            try:
                network: Network = OnnxNetwork(folder / NETWORK, threads=settings.threads or 1)
            except LocalizerError as error:
                raise LocalizerError(
                    f"{folder}: {error}; delete the folder and it is trained again"
                ) from error
        else:
            # Dropout is drawn anew for every photo, and some networks onnxruntime cannot run.
            model = _read_model(folder / WEIGHTS, settings)
            network = _by_torch(model, settings)
        return cls(
            network,
            images,
            views,
            calibration,
            facts,
            unit,
            origin=origin,
            folder=folder,
            retrieval=retrieval,
            model=model,
        )


@dataclass(frozen=True, eq=False)
class _Unlikely:
    """A photo that waits for others of its camera."""

    index: int  # of the photo
    pixels: NDArray[np.uint8]  # no larger than a network needs
    by_focal: FloatArray  # [F] how unlikely each focal length is
    seconds: float  # that this took


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    factor = max(width, height) / _WAITING_SIDE
    if factor <= 1:
        return pixels
    size = (round(width / factor), round(height / factor))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _guess(width: int, height: int, number: int) -> Camera:
    focal = _FOCAL_GUESSES[number] * max(width, height)
    best = Camera.from_focal(width, height, focal, model="SIMPLE_PINHOLE")
    return Camera(best.model, width, height, best.params, known="unknown")


def _retrieval() -> type[RetrievalLocalizer]:
    from relocalize.localization.retrieval import RetrievalLocalizer  # noqa: PLC0415

    return RetrievalLocalizer


def _counted_from(origin: FloatArray, world_from_cam: FloatArray) -> FloatArray:
    """A pose [4, 4] of the world with its position counted from ``origin``."""
    found = np.array(world_from_cam, dtype=np.float64)
    found[:3, 3] -= origin
    return found


def retrieval_answers(data: TrainingData) -> dict[Source, FloatArray]:
    """What image retrieval among the images trained on answers to the validation images.

    Nothing where the answer is not chosen by them, or images have too few features.
    """
    if data.settings.answer != "validation":
        return {}
    place, names = data.place, np.array(data.frames.names)
    known = Split("trained on", "list", tuple(names[data.train].tolist()), ())
    try:
        retrieval = _retrieval().fit(place, known)
        found = [retrieval.similar(place.read_image(name)) for name in names[data.validation]]
    except (LocalizerError, MappingError) as error:
        progress.say(f"the regressor is not compared with image retrieval: {error}")
        return {}
    # One without features has nothing to see: any answer is as good.
    nothing = np.array(data.train_poses[0])
    poses = [
        (nothing, nothing)
        if isinstance(one, str)
        else tuple(_counted_from(data.frames.origin, pose) for pose in (one.nearest, one.between))
        for one in found
    ]
    return dict(zip(RETRIEVED, np.array(poses).swapaxes(0, 1), strict=True))


def _compiled(result: TrainResult) -> bytes | None:
    """The network for onnxruntime; None where torch has to run it."""
    from relocalize.regression.onnx_export import compiled  # noqa: PLC0415

    data = result.data
    if data.settings.samples:
        return None
    # As many as a photo is shown as.
    rows = np.linspace(0, len(data.train) - 1, data.settings.input.test_crops).astype(int)
    try:
        return compiled(result.model, data.images.of_frames(data.frames, data.train[rows]))
    except LocalizerError as error:
        progress.say(f"torch will answer, and slower: {error}")
        return None


def _by_torch(model: PoseRegressor, settings: TrainSettings) -> TorchNetwork:
    """Where it was trained, if that is here, else wherever it can be."""
    from relocalize.regression.device import choose_device  # noqa: PLC0415
    from relocalize.regression.inference import TorchNetwork  # noqa: PLC0415

    choose = partial(choose_device, threads=settings.threads or 1, precision=settings.precision)
    try:
        device = choose(settings.device)
    except LocalizerError:
        device = choose("auto")
    return TorchNetwork(model, device, samples=settings.samples)


def _read_model(path: Path, settings: TrainSettings) -> PoseRegressor:
    require_torch()
    from safetensors.torch import load_file  # noqa: PLC0415

    from relocalize.regression.model import make_regressor  # noqa: PLC0415

    try:
        model = make_regressor(settings)
        model.load_state_dict(
            {
                name.removeprefix(_MODEL): value.float() if value.is_floating_point() else value
                for name, value in load_file(str(path)).items()
                if name.startswith(_MODEL)
            }
        )
    except (OSError, SafetensorError, RuntimeError) as error:
        raise LocalizerError(
            f"{path} is damaged ({str(error).splitlines()[0]}); delete the folder and it is "
            "trained again"
        ) from error
    return model.eval()


def _settings_in(description: dict[str, Any]) -> TrainSettings:
    return TrainSettings.from_json(json.dumps(description.get("settings")))


def _read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """Those in a file of weights that are not the network's."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise LocalizerError(f"{path} is of {path.stat().st_size} bytes; want {_MAX_BYTES}")
        with safe_open(str(path), framework="np") as file:
            names = [name for name in file.keys() if not name.startswith(_MODEL)]  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise LocalizerError(
            f"{path} is damaged ({error}); delete the folder and it is trained again"
        ) from error


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
