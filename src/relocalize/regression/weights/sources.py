"""Where pretrained weights are published, and what is published to check them by."""

from __future__ import annotations

from dataclasses import dataclass

from relocalize.errors import LocalizerError
from relocalize.regression.backbones.googlenet import CAFFE_MEAN

_TORCHVISION = "https://download.pytorch.org/models/"
_PLACES = "http://places2.csail.mit.edu/models_places365/"  # the project's README; no https
# places365CNN_mean.binaryproto, averaged: B 104.051, G 112.514, R 116.676 in 0..255.
_PLACES_MEAN = (116.676 / 255, 112.514 / 255, 104.051 / 255)


@dataclass(frozen=True)
class WeightsSource:
    """One published file.

    Attributes:
        url: where it is.
        digest: ``sha256:`` or ``sha1:`` and as many leading hexadecimal digits as are published;
            empty where nothing is.
        mean: for Caffe's networks: R, G, B in 0..1 that was subtracted in training.
    """

    url: str
    digest: str = ""
    mean: tuple[float, float, float] = CAFFE_MEAN

    @property
    def file_name(self) -> str:
        """Its name in the cache."""
        return self.url.rpartition("/")[2]


# torchvision publishes the first eight digits of the SHA-256, in the file's name; BVLC the SHA-1,
# in models/bvlc_googlenet/readme.md; Places365 nothing.
SOURCES: dict[tuple[str, str], WeightsSource] = {
    ("imagenet", "googlenet"): WeightsSource(
        f"{_TORCHVISION}googlenet-1378be20.pth", "sha256:1378be20"
    ),
    ("imagenet", "googlenet_caffe"): WeightsSource(
        "http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel",
        "sha1:405fc5acd08a3bb12de8ee5e23a96bec22f08204",
    ),
    ("imagenet", "resnet18"): WeightsSource(
        f"{_TORCHVISION}resnet18-f37072fd.pth", "sha256:f37072fd"
    ),
    ("imagenet", "resnet34"): WeightsSource(
        f"{_TORCHVISION}resnet34-b627a593.pth", "sha256:b627a593"
    ),
    # IMAGENET1K_V1: the paper's recipe, as for the other two
    ("imagenet", "resnet50"): WeightsSource(
        f"{_TORCHVISION}resnet50-0676ba61.pth", "sha256:0676ba61"
    ),
    ("places365", "googlenet"): WeightsSource(
        f"{_PLACES}googlenet_places365.caffemodel", mean=_PLACES_MEAN
    ),
    ("places365", "googlenet_caffe"): WeightsSource(
        f"{_PLACES}googlenet_places365.caffemodel", mean=_PLACES_MEAN
    ),
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
