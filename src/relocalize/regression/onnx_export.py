"""A trained regressor as an ONNX file that onnxruntime has been seen to agree with.

For other programs (`export_onnx` of a `WorldPose`), and as the network that a stored localizer
answers with (`compiled`), whose weights are those of the safetensors file beside it
(`sharing_weights`).
"""

from __future__ import annotations

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.onnx import TrainingMode

from relocalize.errors import LocalizerError
from relocalize.place import atomic
from relocalize.regression.answers import SHOWN
from relocalize.regression.backbones import Backbone
from relocalize.regression.inference import described, world_cells
from relocalize.regression.model import PoseRegressor
from relocalize.regression.onnx_network import (
    CELLS,
    DESCRIPTIONS,
    PIXELS,
    POSE,
    VARIANCE,
    OnnxNetwork,
)

# The first with GroupNorm's and LayerNorm's own operators, and what every runtime since
# onnxruntime 1.12 (2022) reads.
OPSET = 17
# Largest difference between torch and onnxruntime, relative to the output's largest value where
# that is above 1: float32 sums in another order.
AGREEMENT = 1e-4
# What makes other weights of those that there are.
_CHANGE_WEIGHTS = ["ConvBNFusion", "ConvMulFusion", "ConvAddFusion", "MatMulAddFusion"]
_IN_REACH = 10.0  # spreads of the train positions from their mean: no answer is farther
_OF_SIGMA = 0.05  # that torch and onnxruntime may differ by in a position
INPUT = "images"
OUTPUTS = ("position", "rotation", "log_variance")


@dataclass(frozen=True)
class OnnxReport:
    """What was written."""

    file: Path  # the ONNX file
    megabytes: float  # its size
    inputs: dict[str, tuple[int, ...]]  # shapes by name
    outputs: dict[str, tuple[int, ...]]  # shapes by name
    difference: float  # the largest between torch and onnxruntime, as `AGREEMENT` measures it


class PhotoNetwork(nn.Module):
    """A regressor from bytes of images to all that `answers.Answers` are made of.

    Its outputs are those that `onnx_network` names, in that order.
    """

    def __init__(self, model: PoseRegressor) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Of images [B, h, w, 3] of uint8."""
        return tuple(self.said(pixels).values())

    def said(self, pixels: Tensor) -> dict[str, Tensor]:
        """The outputs by name."""
        model = self.model
        features = model.features(model.normalise(pixels))
        output = model.from_features(features)
        positions, rotations = model.poses(output)
        top = torch.cat((rotations, positions[..., None]), -1)
        bottom = torch.cat((torch.zeros_like(top[:, :1, :3]), torch.ones_like(top[:, :1, 3:])), -1)
        descriptions, share = described(features)
        said = {POSE: torch.cat((top, bottom), 1), DESCRIPTIONS: descriptions, SHOWN: share}
        if output.log_variance is not None:
            variance = output.log_variance.exp()
            scale = model.position_scale.square()
            said[VARIANCE] = torch.cat((variance[:, :3] * scale, variance[:, 3:]), 1)
        if output.cells is not None:
            said |= zip(CELLS, world_cells(model, output.cells), strict=True)
        return said


def compiled(model: PoseRegressor, pixels: NDArray[np.uint8], folder: Path) -> bytes:
    """The model as `OnnxNetwork` reads it, weights within.

    It takes one image at a time: five at once take as long, and 60 MB more of memory. Of any
    number of them its graph would be three times as large, and loading it takes longer than an
    answer.

    Args:
        model: in evaluation mode, on the processor.
        pixels: [N, h, w, 3] such as it will see, on which torch and onnxruntime are compared.
        folder: for a file that a kill leaves there, not where nobody clears up.

    Raises:
        LocalizerError: as of `export_onnx`.
    """
    _, onnxruntime = _packages()
    network = PhotoNetwork(model).eval()
    whole = torch.from_numpy(np.ascontiguousarray(pixels))
    rows = [slice(row, row + 1) for row in range(len(whole))]
    trials = [whole[row] for row in rows]
    with torch.no_grad():
        said = network.said(whole)
    names = tuple(said)
    # With batch norms left alone weights go by the names, and are the numbers, that they have.
    traced = _traced(network, trials[0], names, name=PIXELS, mode=TrainingMode.PRESERVE)
    data = _simplified(onnxruntime, traced, folder)
    # Rounding moves a pose that is not sure, that of a network that has learnt little by metres:
    # what it follows from is compared, and the pose against its own sigma.
    compared = {name: value for name, value in said.items() if name not in {POSE, VARIANCE}}
    if VARIANCE not in said:
        compared = said
    _difference(
        onnxruntime,
        data,
        trials,
        [[value[row] for value in compared.values()] for row in rows],
        tuple(compared),
        name=PIXELS,
    )
    if VARIANCE in said:
        found = OnnxNetwork(data, threads=1)(whole.numpy()).world_from_cams
        off = np.abs(found - said[POSE].numpy())[:, :3, 3].max(axis=1)
        sigma = np.sqrt(said[VARIANCE][:, :3].max(dim=1).values.numpy())
        least = AGREEMENT * max(1.0, float(np.abs(found[:, :3, 3]).max()))
        # A network that has learnt nothing answers with poses far outside, as it happens.
        away = (said[POSE][:, :3, 3] - model.position_mean).norm(dim=1) / model.position_scale
        off = off[(away < _IN_REACH).numpy()]
        sigma = sigma[(away < _IN_REACH).numpy()]
        if not (off <= np.maximum(least, _OF_SIGMA * sigma)).all():
            raise LocalizerError(f"onnxruntime and torch differ by {off.max():.2g} in positions")
    return data


class OnnxBackbone:
    """A frozen backbone as onnxruntime runs it: on a processor, in under half of torch's time."""

    def __init__(self, backbone: Backbone, stages: Sequence[str], example: Tensor) -> None:
        """Compile it.

        Args:
            backbone: on the processor, in float32.
            stages: whose maps it gives.
            example: [1, 3, H, W] normalised, such as it will see.

        Raises:
            LocalizerError: as of `export_onnx`.
        """
        _, onnxruntime = _packages()
        self._stages = tuple(stages)

        class Maps(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.backbone = backbone

            def forward(self, images: Tensor) -> tuple[Tensor, ...]:
                maps = self.backbone(images, stages=stages)
                return tuple(maps[stage] for stage in stages)

        module = Maps().eval()
        data = _traced(module, example, self._stages)
        with torch.inference_mode():
            expected = [list(module(example))]
        _difference(onnxruntime, data, [example], expected, self._stages)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # images are side by side
        self._session = onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps [B, C, H, W] by stage of normalised images [B, 3, H, W]."""
        # One by one: larger batches leave the processor's cache.
        found = [self._session.run(None, {INPUT: image[None].numpy()}) for image in images]
        maps = (np.concatenate(each) for each in zip(*found, strict=True))
        return dict(zip(self._stages, map(torch.from_numpy, maps), strict=True))


def _simplified(onnxruntime: Any, data: bytes, folder: Path) -> bytes:
    """Without what is known before there is an image: a third of the time to load it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        options.optimized_model_filepath = str(Path(aside) / "simple.onnx")
        onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"], disabled_optimizers=_CHANGE_WEIGHTS
        )
        return Path(options.optimized_model_filepath).read_bytes()


def sharing_weights(data: bytes, weights: Path) -> bytes:
    """The model of `compiled`, its weights read from the safetensors file beside which it will lie.

    Args:
        data: of `compiled`.
        weights: the file; a tensor is called ``model.`` and its name in the network.
    """
    onnx, _ = _packages()
    model = onnx.load_from_string(data)
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        stored = json.loads(file.read(length))
    kinds = {"F16": onnx.TensorProto.FLOAT16, "F32": onnx.TensorProto.FLOAT}
    casts = []
    for tensor in model.graph.initializer:
        facts = stored.get(tensor.name)
        if facts is None or facts["shape"] != list(tensor.dims) or facts["dtype"] not in kinds:
            continue
        begin, end = facts["data_offsets"]
        for field in ("raw_data", "float_data"):
            tensor.ClearField(field)
        if facts["dtype"] == "F16":
            exact, tensor.name = tensor.name, f"{tensor.name}.half"
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [exact], to=kinds["F32"]))
        tensor.data_type = kinds[facts["dtype"]]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        where = {"location": weights.name, "offset": 8 + length + begin, "length": end - begin}
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    shared: bytes = model.SerializeToString()
    return shared


class WorldPose(nn.Module):
    """A regressor from plain images to world poses, so that whoever runs it needs no constants.

    ``forward`` takes RGB in 0..255 as floats, ``[B, 3, H, W]``, of the camera that the regressor
    was trained for, and gives camera centres ``[B, 3]`` in the Place's unit, rotations
    world_from_cam ``[B, 3, 3]`` and, where the head predicts them, logarithms of variances
    ``[B, 6]``: of the position in the Place's unit (world axes) and of the rotation vector in
    radians (camera axes).
    """

    def __init__(self, regressor: PoseRegressor) -> None:
        super().__init__()
        self.regressor = regressor

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Poses of images."""
        regressor = self.regressor
        # One product and one difference of every pixel, of constants that the exporter folds.
        scale = 1 / (255 * regressor.input_std)
        output = regressor(images * scale - regressor.input_mean / regressor.input_std)
        positions, rotations = regressor.poses(output)
        if output.log_variance is None:
            return positions, rotations
        scale = 2 * torch.log(regressor.position_scale)
        position, rotation = output.log_variance.split(3, dim=1)
        return positions, rotations, torch.cat([position + scale, rotation], dim=1)


def export_onnx(
    module: nn.Module,
    examples: Tensor,
    path: Path,
    metadata: Mapping[str, Any] | None = None,
    *,
    outputs: Sequence[str] = OUTPUTS,
) -> OnnxReport:
    """Write ``module`` as ONNX for inputs of exactly one image of the examples' size.

    Args:
        module: takes one tensor of images and gives a tensor or a tuple of them; it is put
            into evaluation mode for the export and left as it was.
        examples: ``[N, 3, H, W]`` float, such as it will see: on them, one by one, torch and
            onnxruntime are compared.
        path: the file to write, whole or not at all.
        metadata: values that go into the file as JSON by key.
        outputs: names of the outputs, in order; further names than there are outputs go unused.

    Raises:
        LocalizerError: onnx is not installed, the network cannot be exported, or onnxruntime does
            not agree with torch to `AGREEMENT`; nothing is written then.
    """
    onnx, onnxruntime = _packages()
    trials = [example[None] for example in examples]
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            expected = [_outputs(module, trial) for trial in trials]
        names = tuple(outputs)[: len(expected[0])]
        if len(names) != len(expected[0]):
            raise LocalizerError(
                f"the network gives {len(expected[0])} outputs, and there are names for "
                f"{len(names)} ({', '.join(names)})"
            )
        model = onnx.load_from_string(_traced(module, trials[0], names))
    finally:
        for part, training in modes.items():
            part.training = training
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    data = model.SerializeToString()
    difference = _difference(onnxruntime, data, trials, expected, names)
    atomic.write_bytes(path, data)
    shapes = [tuple(value.shape) for value in expected[0]]
    return OnnxReport(
        file=path,
        megabytes=len(data) / 1e6,
        inputs={INPUT: tuple(trials[0].shape)},
        outputs=dict(zip(names, shapes, strict=True)),
        difference=difference,
    )


def _packages() -> tuple[Any, Any]:
    if find_spec("onnx") is None:
        raise LocalizerError(
            "exporting needs onnx, which is not installed; install it with: pip install "
            '"relocalize[export]"'
        )
    return import_module("onnx"), import_module("onnxruntime")


def _traced(
    module: nn.Module,
    example: Tensor,
    outputs: Sequence[str],
    *,
    name: str = INPUT,
    mode: TrainingMode = TrainingMode.EVAL,
) -> bytes:
    # The tracing exporter: its graphs hold the weights and constants alone, it needs no further
    # package, and batch norms are folded into the convolutions before them.
    buffer = io.BytesIO()
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # That it is the older exporter, and that shapes become constants, is meant.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (example,),
                cast(Any, buffer),
                dynamo=False,
                opset_version=OPSET,
                input_names=[name],
                output_names=list(outputs),
                training=mode,
            )
    except Exception as error:  # torch documents none; a network that it cannot express
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise LocalizerError(f"this network cannot be exported to ONNX: {line}") from None
    finally:
        logger.setLevel(level)
    return buffer.getvalue()


def _difference(
    onnxruntime: Any,
    data: bytes,
    trials: Sequence[Tensor],
    expected: Sequence[Sequence[Tensor]],
    outputs: Sequence[str],
    *,
    name: str = INPUT,
) -> float:
    """The largest between torch and onnxruntime, relative where outputs are above 1."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for trial, theirs in zip(trials, expected, strict=True):
        found = session.run(list(outputs), {name: trial.numpy()})
        for output, ours, value in zip(outputs, found, theirs, strict=True):
            scale = max(1.0, float(value.abs().max()))
            difference = float(np.abs(ours - value.numpy()).max()) / scale
            if not difference <= AGREEMENT:
                raise LocalizerError(
                    f"onnxruntime and torch differ by {difference:.2g} in {output}, more than "
                    f"{AGREEMENT:g}; this network is not exported"
                )
            worst = max(worst, difference)
    return worst


def _outputs(module: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    given = module(images)
    return (given,) if isinstance(given, Tensor) else tuple(given)
