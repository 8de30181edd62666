"""Losses are the papers' numbers, least at the truth, and their gradients lead there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip("torch")

from relocalize.errors import LocalizerError  # noqa: E402 - after the skip where there is none
from relocalize.regression.heads import PoseOutput  # noqa: E402
from relocalize.regression.losses import PoseTarget, make_loss  # noqa: E402
from relocalize.regression.model import rotation_matrices  # noqa: E402
from relocalize.regression.rotations import (  # noqa: E402
    columns_from_matrix,
    log_from_matrix,
    quaternion_from_matrix,
)
from relocalize.regression.settings import LossSettings  # noqa: E402

torch.set_num_threads(1)

RAW = {
    "quaternion": quaternion_from_matrix,
    "log_quaternion": log_from_matrix,
    "6d": columns_from_matrix,
}
KINDS = ("beta", "homoscedastic", "reprojection", "heteroscedastic")


def number(value: torch.Tensor) -> float:
    return float(value.detach())


def target_of(batch: int = 4, seed: int = 0) -> PoseTarget:
    """Cameras with 20 points each, 1 to 3 in front of them, of which the last 5 are padding."""
    rng = np.random.default_rng(seed)
    rotation = torch.from_numpy(Rotation.random(batch, random_state=rng).as_matrix())
    position = torch.from_numpy(rng.normal(size=(batch, 3)))
    in_camera = torch.from_numpy(rng.uniform((-1, -1, 1), (1, 1, 3), size=(batch, 20, 3)))
    points = in_camera @ rotation.transpose(1, 2) + position[:, None]
    visible = torch.arange(20).expand(batch, 20) < 15
    points = torch.where(visible[..., None], points, torch.zeros(()).double())
    return PoseTarget(position, rotation, points, visible, torch.arange(batch) // 2)


def output_at(target: PoseTarget, orientation: str = "quaternion") -> PoseOutput:
    raw = RAW[orientation](target.rotation)
    return PoseOutput(target.position.clone(), raw, torch.zeros(len(raw), 6).double())


def test_the_beta_loss_is_the_papers_equation():
    target = target_of(1)
    output = output_at(target)
    off = output._replace(
        position=output.position + torch.tensor([[3.0, 0.0, 4.0]]),
        rotation=output.rotation + torch.tensor([[0.0, 0.0, 0.3, 0.0]]),
    )
    published = LossSettings(kind="beta", norm="l2", unit="world", beta=500, normalise=False)
    # Positions off by 5 spreads of 2 metres, the quaternion by 0.3.
    loss = make_loss(published, "quaternion", position_scale=2.0)(off, target)
    assert number(loss) == pytest.approx(2 * 5 + 500 * 0.3, abs=1e-4)
    mean_square = make_loss(replace(published, norm="mse"), "quaternion", 2.0)(off, target)
    assert number(mean_square) == pytest.approx(4 * 25 / 3 + 500 * 0.09 / 4, abs=1e-4)
    standardised = make_loss(replace(published, unit="standardised"), "quaternion", 2.0)
    assert number(standardised(off, target)) == pytest.approx(5 + 150, abs=1e-4)


def test_auxiliary_heads_count_at_three_tenths():
    target = target_of()
    output = output_at(target)
    wrong = output._replace(position=output.position + 1)
    loss = make_loss(LossSettings(kind="beta", norm="l1", beta=1.0), "quaternion")
    alone = number(loss(wrong, target))
    both = number(loss(output._replace(auxiliary=(wrong, wrong)), target))
    assert alone == pytest.approx(1.0, abs=1e-6)
    assert both == pytest.approx(0.6, abs=1e-6)


@pytest.mark.parametrize("orientation", RAW)
@pytest.mark.parametrize("kind", KINDS)
def test_no_pose_has_less_loss_than_the_true_one(kind: str, orientation: str):
    target = target_of()
    loss = make_loss(LossSettings(kind=kind, pretrain=0.0), orientation)
    least = number(loss(output_at(target, orientation), target))
    generator = torch.manual_seed(1)
    for size in (1e-3, 0.1, 1.0):
        true = output_at(target, orientation)
        wrong = true._replace(
            position=true.position + size * torch.randn(4, 3, generator=generator),
            rotation=true.rotation + size * torch.randn(true.rotation.shape, generator=generator),
        )
        assert number(loss(wrong, target)) > least


@pytest.mark.parametrize("kind", KINDS)
def test_a_quaternion_and_its_negative_have_the_same_loss_and_gradient(kind: str):
    target = target_of()
    loss = make_loss(LossSettings(kind=kind, pretrain=0.0), "quaternion")
    values, slopes = [], []
    for sign in (1.0, -1.0):
        raw = (output_at(target).rotation + 0.1) * sign
        raw.requires_grad_()
        value = loss(output_at(target)._replace(rotation=raw), target)
        (slope,) = torch.autograd.grad(value, raw)
        values.append(number(value))
        slopes.append(slope * sign)
    assert values[0] == pytest.approx(values[1], abs=1e-12)
    assert values[0] > 0 or kind in {"homoscedastic", "heteroscedastic"}
    torch.testing.assert_close(slopes[0], slopes[1])


def test_a_logarithm_just_past_half_a_turn_is_next_to_one_just_before():
    before = Rotation.from_rotvec([0, 0, np.pi - 0.02]).as_matrix()
    target = PoseTarget(torch.zeros(1, 3), torch.from_numpy(before)[None].float())
    loss = make_loss(LossSettings(kind="beta", norm="l2", beta=1.0), "log_quaternion")
    past = torch.tensor([[0.0, 0.0, -(np.pi - 0.02) / 2]])
    assert number(loss(PoseOutput(torch.zeros(1, 3), past), target)) == pytest.approx(
        0.02, abs=1e-4
    )


def test_learned_weights_start_as_published_and_settle_where_the_equation_says():
    target = target_of()
    off = output_at(target)
    off = off._replace(position=off.position + 0.2, rotation=off.rotation * 1.0)
    off = off._replace(rotation=off.rotation + 0.05)
    loss = make_loss(LossSettings(kind="homoscedastic", normalise=False), "quaternion").double()
    s_x, s_q = (number(s) for s in loss.weights)
    assert (s_x, s_q) == (0.0, -3.0)
    assert number(loss(off, target)) == pytest.approx(
        0.2 * np.exp(-s_x) + s_x + 0.05 * np.exp(-s_q) + s_q, abs=1e-6
    )
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss(off, target).backward()
        optimizer.step()
    # The best weight is the logarithm of the error itself.
    assert [number(s) for s in loss.weights] == pytest.approx([np.log(0.2), np.log(0.05)], abs=0.02)


def test_relative_poses_ignore_what_all_frames_of_a_tuple_are_off_by():
    target = target_of()
    settings = LossSettings(kind="homoscedastic", relative_weight=1.0, tuple_size=2)
    loss = make_loss(settings, "log_quaternion")
    alone = make_loss(replace(settings, relative_weight=0.0), "log_quaternion")
    constant = -3.0  # s_x + s_q of the relative terms, where their errors are 0
    true = output_at(target, "log_quaternion")
    shifted = true._replace(position=true.position + 0.5)
    assert number(loss(shifted, target)) == pytest.approx(number(alone(shifted, target)) + constant)
    # One frame of each tuple off by 0.5: relative positions are off by as much.
    one = torch.tensor([[0.0], [0.5], [0.0], [0.5]])
    uneven = true._replace(position=true.position + one)
    assert number(loss(uneven, target)) == pytest.approx(
        number(alone(uneven, target)) + 0.5 + constant
    )
    # Frames of different tuples have no relative pose.
    other = target._replace(group=torch.arange(4))
    assert number(loss(uneven, other)) == pytest.approx(number(alone(uneven, target)))


def test_the_reprojection_loss_is_how_far_points_move_in_the_image():
    """A camera at the origin that looks along z, a point at (0.4, 0.2, 2); moved 0.1 to the right
    the point is seen 0.05 farther left, so the mean of 0.05 and 0 is 0.025."""
    target = PoseTarget(
        torch.zeros(1, 3),
        torch.eye(3)[None],
        torch.tensor([[[0.4, 0.2, 2.0], [9.0, 9.0, -1.0]]]),
        torch.tensor([[True, False]]),
    )
    loss = make_loss(LossSettings(kind="reprojection", pretrain=0.5), "quaternion")
    moved = PoseOutput(torch.tensor([[0.1, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    loss.run_share = 0.4
    homoscedastic = make_loss(LossSettings(kind="homoscedastic"), "quaternion")
    assert number(loss(moved, target)) == pytest.approx(number(homoscedastic(moved, target)))
    loss.run_share = 0.5
    assert number(loss(moved, target)) == pytest.approx(0.025)


def test_points_behind_a_predicted_camera_have_finite_loss_and_gradient():
    target = target_of()
    loss = make_loss(LossSettings(kind="reprojection", pretrain=0.0), "quaternion")
    behind = target.rotation @ torch.diag(torch.tensor([1.0, -1.0, -1.0])).double()
    raw = quaternion_from_matrix(behind).requires_grad_()
    position = (target.position + 5).requires_grad_()
    value = loss(PoseOutput(position, raw), target)
    value.backward()
    assert 0 < number(value) < 1e3
    assert torch.isfinite(raw.grad).all()
    assert torch.isfinite(position.grad).all()
    assert position.grad.abs().max() > 0


def test_frames_without_points_neither_help_nor_harm():
    target = target_of()
    visible = target.visible.clone()
    visible[1:] = False
    loss = make_loss(LossSettings(kind="reprojection", pretrain=0.0), "quaternion")
    off = output_at(target)._replace(position=target.position + 0.1)
    one = PoseTarget(*(part if part is None else part[:1] for part in target))
    some = number(loss(off, target._replace(visible=visible)))
    assert some == pytest.approx(
        number(loss(PoseOutput(off.position[:1], off.rotation[:1]), one)), abs=1e-12
    )
    position = off.position.clone().requires_grad_()
    none = loss(off._replace(position=position), target._replace(visible=torch.zeros_like(visible)))
    none.backward()
    assert number(none) == 0
    assert torch.isfinite(position.grad).all()


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_predicted_variances_settle_at_those_of_the_errors(norm: str):
    generator = torch.manual_seed(0)
    count = 2000
    sigma = torch.tensor([0.5, 0.1, 0.02, 0.3, 0.05, 0.01])
    if norm == "l2":
        errors = torch.randn(count, 6, generator=generator) * sigma
    else:  # of a Laplace distribution with this variance
        share = torch.rand(count, 6, generator=generator) - 0.5
        errors = -share.sign() * (1 - 2 * share.abs()).log() * sigma / 2**0.5
    rotation = torch.from_numpy(Rotation.from_rotvec(errors[:, 3:].double()).as_matrix()).float()
    target = PoseTarget(errors[:, :3], rotation)
    at_zero = PoseOutput(torch.zeros(count, 3), torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4))
    loss = make_loss(LossSettings(kind="heteroscedastic", norm=norm), "quaternion")
    log_variance = torch.zeros(6, requires_grad=True)
    optimizer = torch.optim.Adam([log_variance], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss(at_zero._replace(log_variance=log_variance.expand(count, 6)), target).backward()
        optimizer.step()
    found = (log_variance.detach() / 2).exp()
    np.testing.assert_allclose(found.numpy(), sigma.numpy(), rtol=0.1)


@pytest.mark.parametrize("orientation", RAW)
@pytest.mark.parametrize("kind", KINDS)
def test_following_the_gradient_leads_to_the_true_pose(kind: str, orientation: str):
    target = PoseTarget(
        *(
            part.float() if part is not None and part.is_floating_point() else part
            for part in target_of(8)
        )
    )
    generator = torch.manual_seed(2)
    start = output_at(target, orientation)
    position = (target.position + 0.2 * torch.randn(8, 3, generator=generator)).requires_grad_()
    noise = 0.1 * torch.randn(start.rotation.shape, generator=generator)
    rotation = (start.rotation + noise).float().requires_grad_()
    log_variance = torch.zeros(8, 6, requires_grad=True)
    loss = make_loss(LossSettings(kind=kind, pretrain=0.0, beta=1.0), orientation)
    learned = [position, rotation, log_variance, *loss.parameters()]
    optimizer = torch.optim.Adam(learned, lr=0.02)
    steps = 150
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.04 * (1 - step / steps)
        optimizer.zero_grad()
        value = loss(PoseOutput(position, rotation, log_variance), target)
        value.backward()
        for moved in (position, rotation):
            assert torch.isfinite(moved.grad).all()
        optimizer.step()
    turn = target.rotation.transpose(-1, -2) @ rotation_matrices(rotation, orientation)
    angles = 2 * log_from_matrix(turn).norm(dim=-1)
    assert number((position - target.position).norm(dim=1).max()) < 0.01
    assert number(angles.max()) < 0.01


def test_what_a_loss_lacks_is_one_line():
    target = target_of()
    output = output_at(target)
    relative = LossSettings(kind="homoscedastic", relative_weight=1.0, tuple_size=3)
    for settings, off, without in (
        (relative, output, target._replace(group=None)),
        (LossSettings(kind="reprojection", pretrain=0.0), output, target._replace(points=None)),
        (LossSettings(kind="heteroscedastic"), output._replace(log_variance=None), target),
        (LossSettings(kind="coordinates"), output, target),
    ):
        with pytest.raises(LocalizerError) as caught:
            make_loss(settings, "quaternion")(off, without)
        assert "\n" not in str(caught.value)


def test_learned_weights_are_parameters_and_of_the_other_losses_there_are_none():
    counts = {
        kind: sum(p.numel() for p in make_loss(LossSettings(kind=kind), "6d").parameters())
        for kind in KINDS
    }
    assert counts == {"beta": 0, "homoscedastic": 2, "reprojection": 2, "heteroscedastic": 0}
