"""Losses: how wrong poses are, as one number to make small.

Symbols, of one image: x the camera centre, q the orientation in the form that the head
regresses, hats for what was predicted. ``|.|`` is the settings' norm. A quaternion and its
negative are one rotation, and so are two logarithms that differ by a full turn: the target is
always the one that is nearer to the prediction. Positions are compared in the Place's unit or in
units of their spread, as the settings say.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from relocalize.errors import LocalizerError
from relocalize.regression.heads import CellOutput, PoseOutput
from relocalize.regression.model import rotation_matrices
from relocalize.regression.pose_layer import refined_pose
from relocalize.regression.rotations import (
    columns_from_matrix,
    log_from_matrix,
    nearer,
    nearer_log,
    quaternion_from_matrix,
)
from relocalize.regression.settings import LossSettings, Orientation

# A predicted camera may have a point behind it, where projecting means nothing: depths below this
# share of the true one count as this share.
_LEAST_DEPTH_SHARE = 0.1
# Likewise of what a cell says it sees.
_LEAST_DIVISOR = 0.3
_LARGEST_MISS = 1.0  # of half a depth, or of a quarter of a radian
_LEAST_SHOWN = 0.5  # of a cell: one that is mostly beyond the image's edge owes nothing
# Through cells that determine a pose badly its gradient is as long as one likes. In a kitchen, half
# of the images' are 5 times as long as that of what cells say, and one in a hundred 15 times; in a
# corridor half were 25 times, one in a hundred 160 times as long, and cells fell apart.
_STEEPEST = 5.0
# Logarithms of variances are held between these: sigmas of 1/400 and 50 of what they are of.
_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE = -12.0, 8.0


class PoseTarget(NamedTuple):
    """The true poses of B images, and what else losses need."""

    position: Tensor  # [B, 3] camera centres, standardised as the model's
    rotation: Tensor  # [B, 3, 3] world_from_cam
    # [B, P, 3] map points that each image sees, standardised as positions are
    points: Tensor | None = None
    visible: Tensor | None = None  # [B, P] which of them are there; the rest are padding
    # [B] number of the tuple that each image is of; those of one tuple follow each other in time
    group: Tensor | None = None
    # [B, 2, cells] depth of what each cell sees, standardised as positions are, and how far it is
    # to be trusted; 0 where the map says nothing
    depths: Tensor | None = None


class PoseLoss(nn.Module):
    """What all losses share: auxiliary heads, and how orientations are compared.

    ``loss + auxiliary_weight * sum of the auxiliary heads' losses``, as PoseNet (ICCV 2015,
    section 3.1; 0.3 is GoogLeNet's).

    Attributes:
        run_share: how much of the run is over, 0 to 1; the training loop sets it.
    """

    def __init__(
        self, settings: LossSettings, orientation: Orientation, position_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.settings = settings
        self.orientation: Orientation = orientation
        self.unit = position_scale if settings.unit == "world" else 1.0
        self.run_share = 0.0

    def forward(self, output: PoseOutput, target: PoseTarget) -> Tensor:
        """The loss [] of predicted against true poses."""
        total = self.of_head(output, target)
        for auxiliary in output.auxiliary:
            total = total + self.settings.auxiliary_weight * self.of_head(auxiliary, target)
        return total

    def of_head(self, output: PoseOutput, target: PoseTarget) -> Tensor:
        """The loss [] of one head's poses."""
        raise NotImplementedError

    def differences(self, output: PoseOutput, target: PoseTarget) -> tuple[Tensor, Tensor]:
        """Predicted less true: positions [B, 3], orientations [B, k]."""
        position = (output.position - target.position) * self.unit
        predicted = output.rotation
        if self.orientation == "quaternion":
            if self.settings.normalise:
                predicted = functional.normalize(predicted, dim=-1)
            true = nearer(quaternion_from_matrix(target.rotation), predicted.detach())
        elif self.orientation == "log_quaternion":
            true = nearer_log(log_from_matrix(target.rotation), predicted.detach())
        else:
            if self.settings.normalise:
                predicted = columns_from_matrix(rotation_matrices(predicted, "6d"))
            true = columns_from_matrix(target.rotation)
        return position, predicted - true

    def size(self, difference: Tensor) -> Tensor:
        """The mean [] over images of the norm of their differences [B, k]."""
        if self.settings.norm == "l1":
            return difference.abs().mean()
        if self.settings.norm == "mse":
            return difference.square().mean()
        # The length has no gradient where the difference is 0.
        return (difference.square().sum(-1) + 1e-12).sqrt().mean()


class BetaLoss(PoseLoss):
    """``|x^ - x| + beta |q^ - q / |q||`` (PoseNet, ICCV 2015, equation 2)."""

    def of_head(self, output: PoseOutput, target: PoseTarget) -> Tensor:
        """The loss [] of one head's poses."""
        position, rotation = self.differences(output, target)
        return self.size(position) + self.settings.beta * self.size(rotation)


class HomoscedasticLoss(PoseLoss):
    """``Lx exp(-s_x) + s_x + Lq exp(-s_q) + s_q`` with learned s (PoseNet, CVPR 2017, equation 7).

    With `relative_weight` also of the relative poses of the frames of a tuple, as MapNet (CVPR
    2018, equations 2 and 3), where the pose of frame i relative to j is the difference of their
    positions and of the logarithms of their quaternions, with two learned weights of its own.
    """

    def __init__(
        self, settings: LossSettings, orientation: Orientation, position_scale: float = 1.0
    ) -> None:
        super().__init__(settings, orientation, position_scale)
        start = torch.tensor([settings.position_weight, settings.rotation_weight])
        self.weights = nn.Parameter(start)
        self.relative_weights = (
            nn.Parameter(start.clone()) if settings.relative_weight > 0 else None
        )

    def of_head(self, output: PoseOutput, target: PoseTarget) -> Tensor:
        """The loss [] of one head's poses."""
        position, rotation = self.differences(output, target)
        loss = self._weighted(position, rotation, self.weights)
        if self.relative_weights is None:
            return loss
        if target.group is None:
            raise LocalizerError("relative poses need tuples of frames; this batch has none")
        # True differences of consecutive frames taken off predicted ones are differences of the
        # differences: no pose needs to be composed.
        pairs = target.group[1:] == target.group[:-1]
        if not bool(pairs.any()):
            return loss
        relative = self._weighted(
            (position[1:] - position[:-1])[pairs],
            (rotation[1:] - rotation[:-1])[pairs],
            self.relative_weights,
        )
        return loss + self.settings.relative_weight * relative

    def _weighted(self, position: Tensor, rotation: Tensor, weights: Tensor) -> Tensor:
        sizes = torch.stack((self.size(position), self.size(rotation)))
        return (sizes * (-weights).exp() + weights).sum()


class ReprojectionLoss(HomoscedasticLoss):
    """How far map points move in the image (PoseNet, CVPR 2017, equations 8 and 9).

    ``1/|G| sum over the points g that the image sees of |pi(x^, q^, g) - pi(x, q, g)|`` with
    ``pi`` the projection to normalised image coordinates (the paper's K is the identity too). It
    has no minimum to find from a random start, so the first `pretrain` of the run has the learned
    weights of `HomoscedasticLoss`, as in the paper. Depths are held in front of the camera.
    """

    def of_head(self, output: PoseOutput, target: PoseTarget) -> Tensor:
        """The loss [] of one head's poses."""
        if self.run_share < self.settings.pretrain:
            return super().of_head(output, target)
        if target.points is None or target.visible is None:
            raise LocalizerError(
                "the reprojection loss needs map points that the train images see; "
                "this Place's map has none: run relocalize map, or choose another loss"
            )
        predicted = rotation_matrices(output.rotation, self.orientation)
        seen = _in_camera(target.points, output.position, predicted)
        true = _in_camera(target.points, target.position, target.rotation)
        # Padding stands where nothing is divided by a small depth.
        there = target.visible & (true[..., 2] > 0)
        true_depth = torch.where(there, true[..., 2], torch.ones_like(true[..., 2]))
        depth = torch.maximum(seen[..., 2], _LEAST_DEPTH_SHARE * true_depth)
        moved = seen[..., :2] / depth[..., None] - true[..., :2] / true_depth[..., None]
        if not bool(there.any()):
            return moved.sum() * 0
        return self.size(moved[there])


def _in_camera(points: Tensor, position: Tensor, rotation: Tensor) -> Tensor:
    """World points [B, P, 3] in camera axes [B, P, 3]; world_from_cam is (rotation, position)."""
    return (points - position[:, None]) @ rotation


class HeteroscedasticLoss(PoseLoss):
    """The negative log likelihood of the true pose under the predicted variances.

    Of each of the six numbers d of the difference (centre; rotation vector in the camera's axes)
    with predicted variance v: ``d^2 / 2v + log(v) / 2`` (Kendall and Gal, What uncertainties do we
    need, NIPS 2017, equation 8), and with the norm l1 a Laplace distribution of that variance:
    ``sqrt(2) |d| / sqrt(v) + log(v) / 2``.
    """

    def of_head(self, output: PoseOutput, target: PoseTarget) -> Tensor:
        """The loss [] of one head's poses."""
        if output.log_variance is None:
            raise LocalizerError(
                "the heteroscedastic loss needs predicted variances; set head.log_variance"
            )
        log_variance = output.log_variance.clamp(_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE)
        turn = (
            rotation_matrices(output.rotation, self.orientation).transpose(-1, -2) @ target.rotation
        )
        off = torch.cat((output.position - target.position, 2 * log_from_matrix(turn)), -1)
        if self.settings.norm == "l1":
            likelihood = 2**0.5 * off.abs() * (-log_variance / 2).exp() + log_variance / 2
        else:
            likelihood = off.square() * (-log_variance).exp() / 2 + log_variance / 2
        return likelihood.sum(-1).mean()


class CoordinateLoss(PoseLoss):
    """What cells say of the place, and the pose that follows from it.

    With Y the point that a cell says it sees, in the true camera's axes, r the cell's ray of depth
    1 and b the cell's doubt, the negative log likelihood of a Laplace distribution of
    ``l = |Y_xy - r Y_z| / Y_z``, which is ``l / b + log b``; ``depth_weight`` times the relative
    error of Y's depth and, a third as much, of the depth that the cell says, where the map's points
    tell it. After ``pretrain`` of the run also ``pose_weight`` times the error of the pose: a step
    of Gauss-Newton from the true one, so that what the cells' errors make together is seen, and
    the doubts learn which cells to follow. Its shift counts as a share of the depth, and in no
    image does it pull at the cells more than `_STEEPEST` times as hard as the rest does.
    """

    def of_head(self, output: PoseOutput, target: PoseTarget) -> Tensor:
        """The loss [] of one head's cells."""
        cells, depths = output.cells, target.depths
        if cells is None or depths is None:
            raise LocalizerError("the coordinates loss needs the coordinates head")
        true_depth, trust = depths[:, :, cells.chosen].unbind(1)
        known = true_depth > 0
        if cells.shown is not None:
            known = known & (cells.shown > _LEAST_SHOWN)
        if not bool(known.any()):
            return cells.scene.sum() * 0
        seen = _in_camera(cells.scene, target.position, target.rotation)
        true_depth = torch.where(known, true_depth, torch.ones_like(true_depth))
        off = (seen[..., :2] - cells.rays * seen[..., 2:]).square().sum(-1)
        nearest = torch.maximum(seen[..., 2], _LEAST_DIVISOR * true_depth)
        # The length has no gradient where the difference is 0.
        miss = (off + 1e-12).sqrt() / nearest
        likelihood = miss * (-cells.log_doubt).exp() + cells.log_doubt
        depth = (seen[..., 2] - true_depth).abs() + (cells.depth - true_depth).abs() / 3
        loss = likelihood + self.settings.depth_weight * trust * depth / true_depth
        total = loss[known].mean()
        if self.run_share < self.settings.pretrain:
            return total
        typical = (true_depth * known).sum(1) / known.sum(1).clamp(min=1)
        pose = self._of_pose(cells, target, total, typical)
        # Where cells make no pose yet, its gradient leads nowhere, and would drown all others.
        near = known.any(1) & (pose.detach() < _LARGEST_MISS)
        if not bool(near.any()):
            return total
        joined: Tensor = total + self.settings.pose_weight * (pose[near] / (1 + pose[near])).mean()
        return joined

    def _of_pose(
        self, cells: CellOutput, target: PoseTarget, others: Tensor, typical: Tensor
    ) -> Tensor:
        """The error [B] of the pose that cells make, beside ``others``; ``typical`` depths [B]."""
        scene, log_doubt = said = cells.scene, cells.log_doubt
        if others.requires_grad:
            slopes = torch.autograd.grad(others, said, retain_graph=True)
            scene, log_doubt = map(_no_steeper, said, slopes)
        rotation, centre, _ = refined_pose(
            target.rotation,
            target.position,
            scene,
            cells.rays,
            log_doubt.exp(),
            typical[:, None],
            steps=1,
        )
        shift = (centre - target.position).norm(dim=1) / typical.clamp(min=1e-6)
        turn = (rotation - target.rotation).flatten(1).norm(dim=1)
        error: Tensor = 2 * shift + 3 * turn
        return error


def _no_steeper(said: Tensor, than: Tensor) -> Tensor:
    """The same numbers [B, ...], whose gradient is shortened to that of other terms, by image.

    Args:
        said: what cells say.
        than: [B, ...] the other terms' gradient by it.
    """
    longest = _STEEPEST * than.flatten(1).norm(dim=1)
    passed = said.clone()

    def shortened(gradient: Tensor) -> Tensor:
        length = gradient.flatten(1).norm(dim=1)
        share = longest / torch.maximum(length, longest).clamp(min=1e-12)
        short: Tensor = gradient * share.reshape(-1, *[1] * (gradient.dim() - 1))
        return short

    passed.register_hook(shortened)  # type: ignore[no-untyped-call]
    return passed


LOSSES: dict[str, type[PoseLoss]] = {
    "beta": BetaLoss,
    "homoscedastic": HomoscedasticLoss,
    "reprojection": ReprojectionLoss,
    "heteroscedastic": HeteroscedasticLoss,
    "coordinates": CoordinateLoss,
}


def make_loss(
    settings: LossSettings, orientation: Orientation, position_scale: float = 1.0
) -> PoseLoss:
    """The loss of ``settings``.

    Args:
        settings: which loss.
        orientation: the form that the head regresses.
        position_scale: the model's; what a standardised unit is in the Place's unit.
    """
    return LOSSES[settings.kind](settings, orientation, position_scale)
