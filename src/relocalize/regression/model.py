"""The pose regressor: a backbone, a head, and the statistics that its numbers are relative to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relocalize.errors import LocalizerError
from relocalize.regression.answers import SHOWN
from relocalize.regression.backbones import Backbone, Stage, make_backbone
from relocalize.regression.heads import PoseOutput, make_head
from relocalize.regression.heads.shown import shown
from relocalize.regression.principal_channels import ChannelReduction
from relocalize.regression.rotations import (
    matrix_from_6d,
    matrix_from_log,
    matrix_from_quaternion,
    nearest_rotation,
)
from relocalize.regression.settings import Orientation, TrainSettings

_LEAST_SCALE = 1e-6  # of positions, in their unit: below it all train images are in one place


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of weights: of the backbone, of the head, and of both that training changes."""

    backbone: int
    head: int
    trained: int


class PoseRegressor(nn.Module):
    """A network from images to camera poses in the world of one Place.

    Attributes:
        backbone: images to feature maps.
        reduction: feature maps to their principal channels, by stage; empty without.
        head: feature maps to a pose.
        orientation: the form in which orientations are regressed.
        position_mean: [3] mean of the train positions, in the Place's unit.
        position_scale: [] their spread: root mean square distance from the mean over sqrt(3).
        input_mean: [3, 1, 1] or [3, H, W], subtracted from RGB in 0..1.
        input_std: [3, 1, 1], divided by.
    """

    position_mean: Tensor
    position_scale: Tensor
    input_mean: Tensor
    input_std: Tensor

    def __init__(self, backbone: Backbone, settings: TrainSettings) -> None:
        super().__init__()
        self.backbone = backbone.freeze() if settings.backbone.frozen else backbone
        self.orientation: Orientation = settings.head.orientation
        self._grid = settings.head.kept_grid
        channels = settings.backbone.channels
        maps = {
            name: Stage(min(stage.channels, channels or stage.channels), stage.stride)
            for name, stage in backbone.stages.items()
        }
        self.head = make_head(settings.head, maps, settings.backbone.stages)
        self.reduction = nn.ModuleDict(
            {
                name: ChannelReduction(backbone.stages[name].channels, maps[name].channels)
                for name in (self.head.stages if channels else ())
            }
        )
        self.register_buffer("position_mean", torch.zeros(3))
        self.register_buffer("position_scale", torch.ones(()))
        mean = torch.tensor(backbone.mean)[:, None, None]
        if settings.input.mean_image:
            mean = mean.repeat(1, settings.input.height, settings.input.width)
        self.register_buffer("input_mean", mean)
        self.register_buffer("input_std", torch.tensor(backbone.std)[:, None, None])

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of the backbone that the head needs, shallow to deep."""
        return self.head.stages

    def normalise(self, pixels: Tensor) -> Tensor:
        """Images [B, 3, H, W] as the backbone wants them, of RGB bytes [B, H, W, 3]."""
        images = pixels.permute(0, 3, 1, 2).to(self.input_std.dtype) / 255
        return (images - self.input_mean) / self.input_std

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """What `from_features` wants, of normalised images [B, 3, H, W]; `SHOWN` among it."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.backbone.frozen):
            maps: dict[str, Tensor] = self.backbone(images, stages=self.stages)
            for stage, reduction in self.reduction.items():
                maps[stage] = reduction(maps[stage])
        found = {stage: maps[stage] for stage in self.stages}
        return found | {SHOWN: shown(images, self.input_mean, self.input_std, self._grid)}

    def forward(self, images: Tensor) -> PoseOutput:
        """The poses of normalised images [B, 3, H, W]."""
        return self.from_features(self.features(images))

    def from_features(self, features: Mapping[str, Tensor]) -> PoseOutput:
        """The poses of cached `features`: maps [B, C, H, W] by stage name."""
        output: PoseOutput = self.head(features)
        return output

    def sample_from_features(self, features: Mapping[str, Tensor], count: int) -> PoseOutput:
        """``count`` answers to each image with dropout left on: tensors [count, B, ...].

        Bayesian PoseNet (Kendall, Cipolla, ICRA 2016): their mean is the answer and their spread
        its uncertainty. The backbone has no dropout.
        """
        repeated = {
            name: maps.repeat(count, *(1,) * (maps.ndim - 1)) for name, maps in features.items()
        }
        dropouts = [module for module in self.head.modules() if isinstance(module, nn.Dropout)]
        for module in dropouts:
            module.train()
        output = self.from_features(repeated)
        for module in dropouts:
            module.train(self.training)
        log_variance = output.log_variance
        return PoseOutput(
            output.position.view(count, -1, 3),
            output.rotation.view(count, -1, output.rotation.shape[-1]),
            None if log_variance is None else log_variance.view(count, -1, 6),
        )

    def poses(self, output: PoseOutput) -> tuple[Tensor, Tensor]:
        """Camera centres [..., 3] in the Place's unit, rotations world_from_cam [..., 3, 3]."""
        return (
            output.position * self.position_scale + self.position_mean,
            rotation_matrices(output.rotation, self.orientation),
        )

    def standardised(self, positions: Tensor) -> Tensor:
        """World positions or points [..., 3] as the head regresses them."""
        return (positions - self.position_mean) / self.position_scale

    def set_statistics(self, positions: Tensor, rotations: Tensor) -> None:
        """Take over train statistics, and begin at the mean pose.

        Args:
            positions: [N, 3] camera centres of the train images, on the processor.
            rotations: [N, 3, 3] world_from_cam of them, likewise.
        """
        if len(positions) == 0:
            raise LocalizerError("no statistics of 0 train images; does the split have any?")
        exact = positions.double()
        mean = exact.mean(0)
        scale = (exact - mean).square().mean().sqrt()
        if not bool(torch.isfinite(scale)):
            raise LocalizerError("the train positions are not all finite numbers")
        self.position_mean.copy_(mean)
        self.position_scale.copy_(scale if scale > _LEAST_SCALE else torch.ones(()))
        # As geometry.transforms.mean_rotation.
        self.head.start_at(nearest_rotation(rotations.double().mean(0)))

    def set_input_mean(self, image: Tensor) -> None:
        """Take over the mean [3, H, W] of the train images, RGB in 0..1.

        Raises:
            LocalizerError: the settings ask for none, or it has another size.
        """
        if image.shape != self.input_mean.shape:
            raise LocalizerError(
                f"a mean image of shape {tuple(image.shape)}; "
                f"this model has {tuple(self.input_mean.shape)}"
            )
        self.input_mean.copy_(image)

    def parameter_counts(self) -> ParameterCounts:
        """How many weights there are."""
        return ParameterCounts(
            backbone=sum(weights.numel() for weights in self.backbone.parameters()),
            head=sum(weights.numel() for weights in self.head.parameters()),
            trained=sum(w.numel() for w in self.parameters() if w.requires_grad),
        )


def rotation_matrices(rotation: Tensor, orientation: Orientation) -> Tensor:
    """Rotation matrices [..., 3, 3] of what a head regressed, [..., k]."""
    forms = {
        "quaternion": matrix_from_quaternion,
        "log_quaternion": matrix_from_log,
        "6d": matrix_from_6d,
    }
    return forms[orientation](rotation)


def make_regressor(settings: TrainSettings) -> PoseRegressor:
    """The regressor of ``settings`` with weights that nothing has trained yet."""
    return PoseRegressor(make_backbone(settings.backbone.name), settings)
