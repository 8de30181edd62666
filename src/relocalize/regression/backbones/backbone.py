"""What every backbone is: a network that names its feature maps from shallow to deep."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from typing_extensions import Self

from relocalize.errors import LocalizerError

SMALLEST_SIDE = 64  # pixels: two cells of the deepest maps, whose stride is 32


@dataclass(frozen=True)
class Stage:
    """One feature map of a backbone: its number of channels and how many pixels a cell spans."""

    channels: int
    stride: int


class Backbone(nn.Module):
    """A network that maps images to feature maps; it has no classifier.

    Attributes:
        name: the registry's name of it.
        mean: what to subtract from RGB in 0..1, as when its weights were trained.
        std: what to divide by after that.
        stages: its feature maps, from shallow to deep.
        frozen: whether `freeze` has been called.
    """

    def __init__(
        self,
        name: str,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        stages: Mapping[str, Stage],
    ) -> None:
        super().__init__()
        self.name = name
        self.mean = mean
        self.std = std
        self.stages = dict(stages)
        self.frozen = False

    @property
    def deepest(self) -> str:
        """Name of the last stage."""
        return next(reversed(self.stages))

    @property
    def channels(self) -> int:
        """Channels of the last stage: the length of a pooled feature."""
        return self.stages[self.deepest].channels

    def forward(
        self, images: Tensor, *, stages: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """Feature maps ``[B, channels, H / stride, W / stride]`` (rounded) by stage name.

        Args:
            images: ``[B, 3, H, W]``, RGB, normalised by `mean` and `std`; H, W >= 64.
            stages: those wanted (all by default); nothing deeper is computed.

        Raises:
            LocalizerError: a stage that this backbone lacks, or images that are too small.
        """
        wanted = set(self.stages if stages is None else stages)
        if unknown := sorted(wanted - self.stages.keys()):
            raise LocalizerError(
                f"{self.name} has no feature map {', '.join(unknown)}; "
                f"it has {', '.join(self.stages)}"
            )
        height, width = images.shape[-2:]
        if min(height, width) < SMALLEST_SIDE:
            raise LocalizerError(
                f"an image of {width}x{height} pixels is too small for {self.name}; "
                f"give it at least {SMALLEST_SIDE} each way"
            )
        found: dict[str, Tensor] = {}
        for name, features in self._walk(images):
            if name in wanted:
                found[name] = features
            if len(found) == len(wanted):
                break
        return found

    def freeze(self) -> Self:
        """Fix the weights, and batch norm's running statistics too, whatever `train` says."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> Self:
        """Torch's switch, except that a frozen backbone stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    @abstractmethod
    def _walk(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield each stage's name and feature map, in the order of `stages`."""
