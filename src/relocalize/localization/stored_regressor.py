"""A trained regressor in parts, and on disk: its network, what was learnt of it, its settings."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from relocalize.errors import GeometryError, LocalizerError
from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray
from relocalize.localization.registry import kind_of
from relocalize.localization.saving import DESCRIPTION, read_description
from relocalize.place import atomic
from relocalize.regression import require_torch
from relocalize.regression.answers import Network
from relocalize.regression.image_input import ImageInput
from relocalize.regression.novelty import KnownViews
from relocalize.regression.onnx_network import OnnxNetwork
from relocalize.regression.settings import TrainSettings
from relocalize.regression.training_log import EVENTS, LOG
from relocalize.regression.uncertainty import RETRIEVED, Calibration

if TYPE_CHECKING:  # torch takes seconds, and answering does without; mostly without retrieval too
    from relocalize.localization.retrieval import RetrievalLocalizer
    from relocalize.regression.inference import TorchNetwork
    from relocalize.regression.model import PoseRegressor

NAME = "regressor"
WEIGHTS = "weights.safetensors"
NETWORK = "network.onnx"  # what answers, with the weights of the file beside it
RETRIEVAL = "retrieval"  # folder of the image retrieval that answers, where it does better
_VERSION, _READ = 4, (3, 4)  # 3 is of version 0.1
_MAX_BYTES = 2 << 30  # of a file of weights; the largest network here takes 0.1 GB
_MODEL = "model."  # prefix of its tensors in the file; those of the views have names of their own


@dataclass(frozen=True)
class TrainedFacts:
    """How a regressor came about, for people and for training it again."""

    settings: TrainSettings  # of the training
    validation: dict[str, Any]  # its numbers on the validation images, which were not trained on
    training: dict[str, Any]  # what it cost, and with what


@dataclass(frozen=True, eq=False)
class Regressor:
    """All that a trained regressor answers by."""

    network: Network  # what answers: run by onnxruntime, or by torch where that cannot
    images: ImageInput  # how photos become its input
    views: KnownViews  # the train images as it saw them
    calibration: Calibration  # of its uncertainty, and what answers
    facts: TrainedFacts  # how it came about
    unit: str  # of positions
    origin: FloatArray  # [3] in the world, from which the network's positions count
    folder: Path  # of its training, or of its weights where it was read
    # among the train images; None where it is not what answers
    retrieval: RetrievalLocalizer | None = None
    trained: PoseRegressor | None = None  # the network as torch has it, where it is at hand
    compiled: bytes | None = None  # the same for onnxruntime, where it was trained just now

    @cached_property
    def model(self) -> PoseRegressor:
        """The network as torch has it, in evaluation mode; read when it is first asked for.

        Raises:
            LocalizerError: torch is not installed, or the weights do not fit the settings.
        """
        if self.trained is not None:
            return self.trained
        return _read_model(self.folder / WEIGHTS, self.facts.settings)


def write_regressor(found: Regressor, folder: Path, log_folder: Path | None) -> None:
    """Write network, weights, settings and the training's log, if any, into an empty folder."""
    import torch  # noqa: PLC0415
    from safetensors.torch import save  # noqa: PLC0415

    from relocalize.regression.half_precision import as_stored  # noqa: PLC0415

    tensors = {
        f"{_MODEL}{name}": as_stored(value.detach().cpu()).contiguous()
        for name, value in found.model.state_dict().items()
    }
    for name, array in found.views.to_arrays().items():
        tensors[name] = torch.from_numpy(np.ascontiguousarray(array))
    (folder / WEIGHTS).write_bytes(save(tensors))
    if found.compiled is not None:
        from relocalize.regression.onnx_export import sharing_weights  # noqa: PLC0415

        network = sharing_weights(found.compiled, folder / WEIGHTS)
        (folder / NETWORK).write_bytes(network)
    elif (found.folder / NETWORK).is_file():
        shutil.copy2(found.folder / NETWORK, folder / NETWORK)
    if found.retrieval is not None:
        (folder / RETRIEVAL).mkdir()
        found.retrieval.save(folder / RETRIEVAL)
    if log_folder is not None and (log_folder / LOG).is_file():
        shutil.copy2(log_folder / LOG, folder / LOG)
        if (log_folder / EVENTS).is_dir():
            shutil.copytree(log_folder / EVENTS, folder / EVENTS)
    description = {
        "localizer": NAME,
        "version": _VERSION,
        "unit": found.unit,
        "origin": found.origin.tolist(),
        "settings": json.loads(found.facts.settings.to_json()),
        "camera": asdict(found.images.target),
        "calibration": found.calibration.to_json(),
        "validation": found.facts.validation,
        "training": found.facts.training,
    }
    atomic.write_json(folder / DESCRIPTION, description)


def read_regressor(folder: Path) -> Regressor:
    """Read what `write_regressor` wrote.

    Raises:
        LocalizerError: the folder is none such, or of another version.
    """
    description = read_description(folder)
    found = (description.get("localizer"), description.get("version"))
    if kind_of(description) != NAME or found[1] not in _READ:
        raise LocalizerError(
            f"{folder} holds localizer {found[0]!r} version {found[1]!r}, want {NAME!r} "
            f"version {_VERSION}; delete the folder and it is trained again"
        )
    settings = settings_in(description)
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
        raise _damaged(folder, error) from error
    retrieves = set(RETRIEVED) & set(calibration.answers)
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
        network = by_torch(model, settings)
    return Regressor(
        network=network,
        images=ImageInput(settings.input, target),
        views=views,
        calibration=calibration,
        facts=facts,
        unit=unit,
        origin=origin,
        folder=folder,
        retrieval=retrieval_type().load(folder / RETRIEVAL) if retrieves else None,
        trained=model,
    )


def settings_in(description: dict[str, Any]) -> TrainSettings:
    """Those of a training, in a ``localizer.json``; raises `LocalizerError`."""
    return TrainSettings.from_json(json.dumps(description.get("settings")))


def by_torch(model: PoseRegressor, settings: TrainSettings) -> TorchNetwork:
    """The network run where it was trained, if that is here, else wherever it can be."""
    from relocalize.regression.device import choose_device  # noqa: PLC0415
    from relocalize.regression.inference import TorchNetwork  # noqa: PLC0415

    choose = partial(choose_device, threads=settings.threads or 1, precision=settings.precision)
    try:
        device = choose(settings.device)
    except LocalizerError:
        device = choose("auto")
    return TorchNetwork(model, device, samples=settings.samples)


def retrieval_type() -> type[RetrievalLocalizer]:
    """The localizer that retrieves, loaded when it is needed."""
    from relocalize.localization.retrieval import RetrievalLocalizer  # noqa: PLC0415

    return RetrievalLocalizer


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
        raise _damaged(path, error) from error
    return model.eval()


def _read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """Those in a file of weights that are not the network's."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise LocalizerError(f"{path} is of {path.stat().st_size} bytes; want {_MAX_BYTES}")
        with safe_open(str(path), framework="np") as file:
            names = [name for name in file.keys() if not name.startswith(_MODEL)]  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def _damaged(what: Path, error: Exception) -> LocalizerError:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return LocalizerError(f"{what} is damaged ({why}); delete the folder and it is trained again")


def counted_from(origin: FloatArray, world_from_cam: FloatArray) -> FloatArray:
    """A pose [4, 4] of the world with its position counted from ``origin``."""
    found = np.array(world_from_cam, dtype=np.float64)
    found[:3, 3] -= origin
    return found
