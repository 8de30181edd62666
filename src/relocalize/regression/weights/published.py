"""Where pretrained weights are published, and how they get into the cache folder, checked."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch.hub import download_url_to_file

from relocalize.errors import FormatError, LocalizerError
from relocalize.regression.backbones.googlenet import CAFFE_MEAN

_TORCHVISION = "https://download.pytorch.org/models/"
_PLACES = "http://places2.csail.mit.edu/models_places365/"  # the project's README; no https
# places365CNN_mean.binaryproto, averaged: B 104.051, G 112.514, R 116.676 in 0..255.
_PLACES_MEAN = (116.676 / 255, 112.514 / 255, 104.051 / 255)


@dataclass(frozen=True)
class WeightsSource:
    """One published file."""

    url: str  # where it is
    # ``sha256:`` or ``sha1:`` and as many leading hexadecimal digits as are published; empty where
    # nothing is
    digest: str = ""
    # for Caffe's networks: R, G, B in 0..1 that was subtracted in training
    mean: tuple[float, float, float] = CAFFE_MEAN

    @property
    def file_name(self) -> str:
        """Its name in the cache."""
        return self.url.rpartition("/")[2]


def _torchvision(name: str) -> WeightsSource:
    # The first eight digits of the SHA-256 are part of the name.
    return WeightsSource(f"{_TORCHVISION}{name}.pth", f"sha256:{name[-8:]}")


_PLACES_GOOGLENET = WeightsSource(f"{_PLACES}googlenet_places365.caffemodel", mean=_PLACES_MEAN)

# BVLC publishes the SHA-1, in models/bvlc_googlenet/readme.md; Places365 no digest. The ResNet50 is
# IMAGENET1K_V1: the paper's recipe, as for the other two.
SOURCES: dict[tuple[str, str], WeightsSource] = {
    ("imagenet", "googlenet"): _torchvision("googlenet-1378be20"),
    ("imagenet", "googlenet_caffe"): WeightsSource(
        "http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel",
        "sha1:405fc5acd08a3bb12de8ee5e23a96bec22f08204",
    ),
    ("imagenet", "resnet18"): _torchvision("resnet18-f37072fd"),
    ("imagenet", "resnet34"): _torchvision("resnet34-b627a593"),
    ("imagenet", "resnet50"): _torchvision("resnet50-0676ba61"),
    ("places365", "googlenet"): _PLACES_GOOGLENET,
    ("places365", "googlenet_caffe"): _PLACES_GOOGLENET,
    ("places365", "resnet18"): WeightsSource(f"{_PLACES}resnet18_places365.pth.tar"),
    ("places365", "resnet50"): WeightsSource(f"{_PLACES}resnet50_places365.pth.tar"),
}


def published_weights(data_set: str, network: str) -> WeightsSource:
    """The published weights of ``network`` trained on ``data_set``.

    Raises:
        LocalizerError: there are none.
    """
    found = SOURCES.get((data_set, network))
    if found is None:
        others = sorted(name for known, name in SOURCES if known == data_set)
        raise LocalizerError(
            f"there are no {data_set} weights of {network}; there are some of "
            f"{', '.join(others)}: name one as {data_set}:NETWORK to load what fits, "
            "or give a file"
        )
    return found


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where weights are kept: RELOCALIZE_CACHE, or relocalize/ in the XDG cache folder."""
    if named := environment.get("RELOCALIZE_CACHE"):
        return Path(named).expanduser() / "weights"
    cache = environment.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "relocalize" / "weights"


def fetch_weights(source: WeightsSource) -> Path:
    """The file of ``source`` in the cache folder, fetched if it is not there yet.

    Raises:
        LocalizerError: it cannot be fetched.
        FormatError: its digest is not the published one.
    """
    path = cache_folder() / source.file_name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            download_url_to_file(source.url, str(path), progress=sys.stderr.isatty())
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise LocalizerError(
                f"cannot fetch {source.url} ({str(reason)[:100]}); fetch it some other way and put "
                f"it at {path} (RELOCALIZE_CACHE names another folder), or choose "
                "--backbone.weights none or a file"
            ) from None
    algorithm, _, expected = source.digest.partition(":")
    found = hashlib.new(algorithm, path.read_bytes()).hexdigest() if expected else ""
    if not found.startswith(expected):
        raise FormatError(
            f"{path} is not the published file: its {algorithm} starts with "
            f"{found[: len(expected)]}, not {expected}; delete it to fetch it again"
        )
    return path
