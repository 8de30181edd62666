"""Filling a backbone with trained weights, and saying tensor by tensor what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from relocalize.errors import FormatError, LocalizerError
from relocalize.progress import say
from relocalize.regression.backbones.backbone import Backbone
from relocalize.regression.backbones.efficientnet_lite import EfficientNetLite, packaged_weights
from relocalize.regression.backbones.googlenet import GoogLeNet
from relocalize.regression.backbones.timm_model import TimmModel, create_timm_model
from relocalize.regression.weights.caffe_layers import (
    USUAL_MEAN,
    CaffeLayer,
    caffe_layers,
    googlenet_tensors,
)
from relocalize.regression.weights.caffemodel import read_caffemodel
from relocalize.regression.weights.download import MOST_BYTES, fetch_weights
from relocalize.regression.weights.plain_pickle import load_plain
from relocalize.regression.weights.sources import published_weights
from relocalize.regression.weights.torch_file import OLD_TORCH, ZIP, read_safetensors, read_torch

DATA_SETS = ("imagenet", "places365")
_NUMPY_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000  # numpy's own bound
# Counts of training steps, which evaluation does not use; files from before torch 0.4 lack them.
_COUNTERS = "num_batches_tracked"


@dataclass(frozen=True)
class WeightsReport:
    """What loading did, by names of tensors.

    Attributes:
        source: the file or package that they came from; empty for the rule ``none``.
        loaded: the backbone's tensors that now hold the source's values.
        reshaped: those among them that were changed to fit, and how.
        skipped: the source's tensors that were left out, and why.
        kept: the backbone's tensors that keep their initial values.
    """

    source: str
    loaded: tuple[str, ...] = ()
    reshaped: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()

    def summary(self) -> str:
        """One line for people."""
        if not self.source:
            return f"no trained weights: {len(self.kept)} tensors start at random"
        return (
            f"{len(self.loaded)} tensors from {self.source} ({len(self.reshaped)} reshaped); "
            f"{len(self.skipped)} of the file not used, {len(self.kept)} start at random"
        )


def load_weights(backbone: Backbone, rule: str) -> WeightsReport:
    """Fill ``backbone`` in place.

    Args:
        backbone: as `make_backbone` gives it.
        rule: ``none``; ``imagenet`` or ``places365``, the published weights of this network;
            ``imagenet:NETWORK`` or ``places365:NETWORK``, those of another, of which what fits by
            name and shape is taken; or a file: `.pth`, `.pth.tar`, `.safetensors`, `.caffemodel`,
            or the `.npy` or pickle of a PoseNet port.

    Returns:
        What was loaded, changed, skipped and kept.

    Raises:
        LocalizerError: an unknown rule, weights that cannot be fetched, or none that fit.
        FormatError: a file that is damaged, hostile or of no known kind.
    """
    if rule == "none":
        return WeightsReport(source="", kept=_names(backbone))
    data_set, _, network = rule.partition(":")
    if data_set in DATA_SETS:
        report = _load_published(backbone, data_set, network or backbone.name)
    else:
        path = Path(rule).expanduser()
        if not path.is_file():
            raise LocalizerError(
                f"weights {rule!r} are neither {', '.join(DATA_SETS)} or none, nor a file"
            )
        report = _load_file(backbone, path, USUAL_MEAN)
    say(f"{backbone.name}: {report.summary()}")
    return report


def _load_published(backbone: Backbone, data_set: str, network: str) -> WeightsReport:
    if network == backbone.name and data_set == "imagenet":
        if isinstance(backbone, EfficientNetLite):
            return _load_file(backbone, packaged_weights(backbone.size), USUAL_MEAN)
        if isinstance(backbone, TimmModel):
            trained = create_timm_model(backbone.model_name, pretrained=True)
            tensors = {f"body.{name}": value for name, value in trained.state_dict().items()}
            return _fill(backbone, tensors, f"timm's {backbone.model_name}", {}, {})
    source = published_weights(data_set, network)
    return _load_file(backbone, fetch_weights(source), source.mean)


def _load_file(backbone: Backbone, path: Path, mean: tuple[float, float, float]) -> WeightsReport:
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise FormatError(f"{path} has {size >> 20} MB; no network here needs {MOST_BYTES >> 20}")
    with path.open("rb") as file:
        start = file.read(len(OLD_TORCH))
    if start.startswith(ZIP) or start == OLD_TORCH:
        return _fill(backbone, read_torch(path), str(path), {}, {})
    if path.suffix == ".safetensors":
        return _fill(backbone, read_safetensors(path), str(path), {}, {})
    layers = _read_caffe_layers(path, start)
    if not isinstance(backbone, GoogLeNet):
        raise LocalizerError(
            f"{path} has the layers of a Caffe network, which only the googlenet backbones can "
            f"take, not {backbone.name}"
        )
    tensors, changed, left_out = googlenet_tensors(layers, backbone, mean)
    return _fill(backbone, tensors, str(path), changed, left_out)


def _read_caffe_layers(path: Path, start: bytes) -> dict[str, CaffeLayer]:
    data = path.read_bytes()
    if path.suffix == ".caffemodel":
        return {
            name: CaffeLayer(*blobs)
            for name, blobs in read_caffemodel(data, str(path)).items()
            if len(blobs) == 2
        }
    if start.startswith(_NUMPY_MAGIC):
        data = _numpy_objects(data, path)
    elif not start.startswith((b"\x80", b"(d", b"}")):
        raise FormatError(
            f"{path} is no weights file of a known kind: .pth, .pth.tar, .safetensors, "
            ".caffemodel, or the .npy or pickle of a PoseNet port"
        )
    return caffe_layers(load_plain(data, str(path)), str(path))


def _numpy_objects(data: bytes, path: Path) -> bytes:
    # numpy/lib/format.py: magic, version, the header's length and the header, which is a Python
    # literal; then, for objects, a pickle. The header is searched, not evaluated.
    length_bytes = 2 if data[6:7] == b"\x01" else 4
    start = 8 + length_bytes
    end = start + int.from_bytes(data[8:start], "little")
    if not re.search(rb"'descr': ?'\|?O'", data[start : min(end, start + _LONGEST_HEADER)]):
        raise FormatError(
            f"{path} is a .npy file of numbers, or a damaged one, and no table of layers by name"
        )
    return data[end:]


def _fill(
    backbone: Backbone,
    tensors: Mapping[str, Tensor],
    source: str,
    changed: Mapping[str, str],
    left_out: Mapping[str, str],
) -> WeightsReport:
    targets = backbone.state_dict()
    loaded: list[str] = []
    skipped = dict(left_out)
    for name, value in tensors.items():
        target = targets.get(name)
        if target is None:
            skipped[name] = "the backbone has no such tensor"
        elif target.shape != value.shape:
            skipped[name] = f"{list(value.shape)}, the backbone's is {list(target.shape)}"
        elif not bool(torch.isfinite(value).all()):
            raise FormatError(f"{source}: {name} has values that are no numbers")
        else:
            loaded.append(name)
    if not any(targets[name].is_floating_point() for name in loaded):
        theirs = ", ".join(list(tensors)[:3]) or "none that is known"
        raise LocalizerError(
            f"nothing in {source} fits {backbone.name} by name and shape (its tensors: {theirs}; "
            f"the backbone's: {', '.join(list(targets)[:3])}); "
            "choose the backbone that they were trained with"
        )
    with torch.no_grad():
        for name in loaded:
            targets[name].copy_(tensors[name])
    return WeightsReport(
        source=source,
        loaded=tuple(loaded),
        reshaped={name: how for name, how in changed.items() if name in loaded},
        skipped=skipped,
        kept=tuple(name for name in _names(backbone) if name not in loaded),
    )


def _names(backbone: Backbone) -> tuple[str, ...]:
    return tuple(name for name in backbone.state_dict() if not name.endswith(_COUNTERS))
