"""A trained network as onnxruntime runs it: on a processor, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from relocalize.errors import LocalizerError
from relocalize.parallel import image_threads, map_in_order
from relocalize.regression.answers import SHOWN, Answers, Cells

PIXELS = "pixels"  # its input, uint8 [N, h, w, 3]
# Its outputs, in order; those of cells only where the head has such, variances where it says them.
POSE, DESCRIPTIONS, VARIANCE = "world_from_cams", "descriptions", "variance"
CELLS = ("cell_scene", "cell_depth", "cell_log_doubt")


class OnnxNetwork:
    """See `answers.Network`."""

    def __init__(self, model: Path | bytes, *, threads: int) -> None:
        """Read a model that `onnx_export` wrote, with its weights beside it or within.

        Raises:
            LocalizerError: it is damaged.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Waiting threads that spin take the processor from whatever else runs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4
        source: Any = model if isinstance(model, bytes) else str(model)
        try:
            self._session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
            self._outputs = [output.name for output in self._session.get_outputs()]
            self._at_once = int(self._session.get_inputs()[0].shape[0])
            if not {POSE, DESCRIPTIONS} <= set(self._outputs):
                raise ValueError(f"outputs {', '.join(self._outputs)[:80]}")
        except Exception as error:  # onnxruntime has an exception for every kind of damage
            line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise LocalizerError(f"the network is damaged ({line})") from None

    def __call__(self, pixels: NDArray[np.uint8]) -> Answers:
        """The answers to images [N, h, w, 3] RGB of its input size."""
        starts = range(0, len(pixels), self._at_once)
        parts = [pixels[at : at + self._at_once] for at in starts]
        threads = min(image_threads(), len(parts))
        if threads == 1:
            return Answers.joined(map(self._answers, parts))
        return Answers.joined(map_in_order(self._answers, parts, workers=threads))

    def _answers(self, pixels: NDArray[np.uint8]) -> Answers:
        count = len(pixels)
        if count < self._at_once:
            pixels = np.resize(pixels, (self._at_once, *pixels.shape[1:]))
        outputs = self._session.run(None, {PIXELS: np.ascontiguousarray(pixels)})
        said = {name: out[:count] for name, out in zip(self._outputs, outputs, strict=True)}
        poses = said[POSE].astype(np.float64)
        variance = said[VARIANCE].astype(np.float64) if VARIANCE in said else None
        cells = Cells(*(said[name] for name in CELLS)) if CELLS[0] in said else None
        depth_off = None if cells is None else cells.depth_off(poses)
        return Answers(poses, variance, said[DESCRIPTIONS], depth_off, said.get(SHOWN), cells)
