"""A trained regressor as an ONNX file that onnxruntime has been seen to agree with."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from relocalize.errors import LocalizerError
from relocalize.place import atomic
from relocalize.regression.model import PoseRegressor

# The first with GroupNorm's and LayerNorm's own operators, and what every runtime since
# onnxruntime 1.12 (2022) reads.
OPSET = 17
# Largest difference between torch and onnxruntime, relative to the output's largest value where
# that is above 1: float32 sums in another order.
AGREEMENT = 1e-4
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


def export_regressor(
    regressor: PoseRegressor,
    pixels: Tensor,
    path: Path,
    metadata: Mapping[str, Any] | None = None,
) -> OnnxReport:
    """Write ``regressor`` for one image at a time, with the inputs and outputs of `WorldPose`.

    Args:
        regressor: what to write; left as it was.
        pixels: ``[N, H, W, 3]`` bytes of RGB such as it will see, on which torch and
            onnxruntime are compared.
        path: the file to write, whole or not at all.
        metadata: values that go into the file as JSON by key.

    Raises:
        LocalizerError: as of `export_onnx`.
    """
    images = pixels.movedim(-1, 1).float()
    return export_onnx(WorldPose(regressor), images, OUTPUTS, path, metadata)


def export_onnx(
    module: nn.Module,
    examples: Tensor,
    outputs: Sequence[str],
    path: Path,
    metadata: Mapping[str, Any] | None = None,
) -> OnnxReport:
    """Write ``module`` as ONNX for inputs of exactly one image of the examples' size.

    Args:
        module: takes one tensor of images and gives a tensor or a tuple of them; it is put
            into evaluation mode for the export and left as it was.
        examples: ``[N, 3, H, W]`` float, such as it will see: on them, one by one, torch and
            onnxruntime are compared.
        outputs: names of the outputs, in order; further names than there are outputs go unused.
        path: the file to write, whole or not at all.
        metadata: values that go into the file as JSON by key.

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
    for name in ("onnx", "onnxruntime"):
        if find_spec(name) is None:
            raise LocalizerError(
                f"exporting needs {name}, which is not installed; "
                'install it with: pip install "relocalize[export]"'
            )
    return import_module("onnx"), import_module("onnxruntime")


def _traced(module: nn.Module, example: Tensor, outputs: Sequence[str]) -> bytes:
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
                input_names=[INPUT],
                output_names=list(outputs),
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
) -> float:
    """The largest between torch and onnxruntime, relative where outputs are above 1."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for trial, theirs in zip(trials, expected, strict=True):
        found = session.run(list(outputs), {INPUT: trial.numpy()})
        for name, ours, value in zip(outputs, found, theirs, strict=True):
            scale = max(1.0, float(value.abs().max()))
            difference = float(np.abs(ours - value.numpy()).max()) / scale
            if not difference <= AGREEMENT:
                raise LocalizerError(
                    f"onnxruntime and torch differ by {difference:.2g} in {name}, more than "
                    f"{AGREEMENT:g}; this network is not exported"
                )
            worst = max(worst, difference)
    return worst


def _outputs(module: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    given = module(images)
    return (given,) if isinstance(given, Tensor) else tuple(given)
