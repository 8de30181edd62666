"""Filling a backbone with trained weights, and saying tensor by tensor what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from relocalize.errors import FormatError, LocalizerError
from relocalize.progress import say
from relocalize.regression.backbones.backbone import Backbone
from relocalize.regression.backbones.efficientnet_lite import EfficientNetLite, packaged_weights
from relocalize.regression.backbones.googlenet import CAFFE_MEAN, GoogLeNet
from relocalize.regression.backbones.timm_model import TimmModel, create_timm_model
from relocalize.regression.weights.caffe import Converted, googlenet_tensors
from relocalize.regression.weights.caffe_files import read_layers
from relocalize.regression.weights.published import fetch_weights, published_weights
from relocalize.regression.weights.tensor_files import OLD_TORCH, ZIP, read_safetensors, read_torch

_DATA_SETS = ("imagenet", "places365")
_MOST_BYTES = 1 << 30  # of a file: ten times the largest of them
# Counts of training steps, which evaluation does not use; files from before torch 0.4 lack them.
_COUNTERS = "num_batches_tracked"


@dataclass(frozen=True)
class WeightsReport:
    """What loading did, by names of tensors."""

    source: str  # the file or package that they came from; empty for the rule ``none``
    loaded: tuple[str, ...] = ()  # the backbone's tensors that now hold the source's values
    # those among them that were changed to fit, and how
    reshaped: Mapping[str, str] = field(default_factory=dict)
    # the source's tensors that were left out, and why
    skipped: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()  # the backbone's tensors that keep their initial values

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
    if data_set in _DATA_SETS:
        report = _load_published(backbone, data_set, network or backbone.name)
    elif (path := Path(rule).expanduser()).is_file():
        report = _load_file(backbone, path)
    else:
        raise LocalizerError(
            f"weights {rule!r} are neither {', '.join(_DATA_SETS)} or none, nor a file"
        )
    say(f"{backbone.name}: {report.summary()}")
    return report


def _load_published(backbone: Backbone, data_set: str, network: str) -> WeightsReport:
    if network == backbone.name and data_set == "imagenet":
        if isinstance(backbone, EfficientNetLite):
            return _load_file(backbone, packaged_weights(backbone.size))
        if isinstance(backbone, TimmModel):
            trained = create_timm_model(backbone.model_name, pretrained=True)
            tensors = {f"body.{name}": value for name, value in trained.state_dict().items()}
            return _fill(backbone, Converted(tensors), f"timm's {backbone.model_name}")
    source = published_weights(data_set, network)
    return _load_file(backbone, fetch_weights(source), source.mean)


def _load_file(
    backbone: Backbone, path: Path, mean: tuple[float, float, float] = CAFFE_MEAN
) -> WeightsReport:
    """Fill it from a file; ``mean`` is what a Caffe network was trained with subtracted."""
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise FormatError(f"{path} has {size >> 20} MB; no network here needs {_MOST_BYTES >> 20}")
    with path.open("rb") as file:
        start = file.read(len(OLD_TORCH))
    if start.startswith(ZIP) or start == OLD_TORCH:
        found = Converted(read_torch(path))
    elif path.suffix == ".safetensors":
        found = Converted(read_safetensors(path))
    else:
        layers = read_layers(path)
        if not isinstance(backbone, GoogLeNet):
            raise LocalizerError(
                f"{path} has the layers of a Caffe network, which only the googlenet backbones "
                f"can take, not {backbone.name}"
            )
        found = googlenet_tensors(layers, backbone, mean)
    return _fill(backbone, found, str(path))


def _fill(backbone: Backbone, found: Converted, source: str) -> WeightsReport:
    targets = backbone.state_dict()
    loaded: dict[str, Tensor] = {}
    skipped = dict(found.left_out)
    for name, value in found.tensors.items():
        target = targets.get(name)
        if target is None:
            skipped[name] = "the backbone has no such tensor"
        elif target.shape != value.shape:
            skipped[name] = f"{list(value.shape)}, the backbone's is {list(target.shape)}"
        elif not bool(torch.isfinite(value).all()):
            raise FormatError(f"{source}: {name} has values that are no numbers")
        else:
            loaded[name] = value
    if not any(targets[name].is_floating_point() for name in loaded):
        theirs = ", ".join(list(found.tensors)[:3]) or "none that is known"
        raise LocalizerError(
            f"nothing in {source} fits {backbone.name} by name and shape (its tensors: {theirs}; "
            f"the backbone's: {', '.join(list(targets)[:3])}); "
            "choose the backbone that they were trained with"
        )
    backbone.load_state_dict(loaded, strict=False)
    return WeightsReport(
        source=source,
        loaded=tuple(loaded),
        reshaped={name: how for name, how in found.changed.items() if name in loaded},
        skipped=skipped,
        kept=tuple(name for name in _names(backbone) if name not in loaded),
    )


def _names(backbone: Backbone) -> tuple[str, ...]:
    return tuple(name for name in backbone.state_dict() if not name.endswith(_COUNTERS))
