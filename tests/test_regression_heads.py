"""Heads have the papers' shapes, see what they should, and learn."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from relocalize.errors import LocalizerError  # noqa: E402 - after the skip where there is none
from relocalize.regression.backbones import Stage  # noqa: E402
from relocalize.regression.heads import make_head, resized  # noqa: E402
from relocalize.regression.settings import HeadSettings  # noqa: E402

torch.set_num_threads(1)

GOOGLENET = {
    "inception4a": Stage(512, 16),
    "inception4d": Stage(528, 16),
    "inception5b": Stage(1024, 32),
}
SMALL = {"shallow": Stage(8, 8), "middle": Stage(12, 16), "deep": Stage(16, 32)}
PUBLISHED = {
    "posenet": HeadSettings("posenet", 2048, 0.5, "quaternion"),
    "founding": HeadSettings("founding", 512, 0.7, "quaternion"),
    "lstm": HeadSettings("lstm", 2048, 0.5, "quaternion", hidden=256),
    "attention": HeadSettings("attention", 2048, 0.5, "log_quaternion"),
}
SMALL_HEADS = {
    **{kind: replace(head, width=128, hidden=16) for kind, head in PUBLISHED.items()},
    "grid": HeadSettings("grid", 16, 0.1, "6d", grid=(3, 4), hidden=32),
    "grid by attention": HeadSettings(
        "grid", 16, 0.1, "6d", grid=(3, 4), hidden=32, pooling="attention"
    ),
}


def maps_of(stages: dict[str, Stage], width: int, height: int, batch: int = 2, seed: int = 0):
    generator = torch.manual_seed(seed)
    return {
        name: torch.rand(
            batch, s.channels, height // s.stride, width // s.stride, generator=generator
        )
        for name, s in stages.items()
    }


def weights(module) -> int:
    return sum(p.numel() for p in module.parameters())


def linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def lstm(inputs: int, hidden: int) -> int:
    return 2 * 4 * hidden * (inputs + hidden + 2)  # two directions, four gates, two biases


def test_published_heads_have_the_papers_number_of_weights():
    pose = linear(2048, 3) + linear(2048, 4)
    feature = linear(1024, 2048)
    heads = {kind: make_head(head, GOOGLENET, ()) for kind, head in PUBLISHED.items()}
    assert weights(heads["posenet"]) == feature + pose
    assert weights(heads["founding"]) == linear(1024, 512) + linear(512, 3) + linear(512, 4)
    # 32 rows of 64, both ways in both directions, 256 states each.
    assert weights(heads["lstm"]) == (
        feature + lstm(64, 256) + lstm(32, 256) + linear(1024, 3) + linear(1024, 4)
    )
    assert weights(heads["attention"]) == (
        feature + 3 * linear(2048, 256) + linear(256, 2048) + 2 * linear(2048, 3)
    )


def test_auxiliary_heads_are_googlenets_with_a_pose_and_only_speak_in_training():
    settings = replace(PUBLISHED["posenet"], auxiliary=True)
    head = make_head(settings, GOOGLENET, ())
    assert head.stages == ("inception4a", "inception4d", "inception5b")
    side = linear(2048, 1024) + linear(1024, 3) + linear(1024, 4)
    assert weights(head) == (
        linear(1024, 2048)
        + linear(2048, 3)
        + linear(2048, 4)
        + linear(512, 128)
        + side
        + linear(528, 128)
        + side
    )
    features = maps_of(GOOGLENET, 224, 224)
    output = head.train()(features)
    assert [tuple(side.position.shape) for side in output.auxiliary] == [(2, 3), (2, 3)]
    assert head.eval()(features).auxiliary == ()


def test_auxiliary_heads_of_the_lstm_head_have_lstms_too():
    head = make_head(replace(PUBLISHED["lstm"], auxiliary=True), GOOGLENET, ())
    side = linear(2048, 1024) + lstm(32, 256) + lstm(32, 256) + linear(1024, 3) + linear(1024, 4)
    assert weights(head.auxiliary) == linear(512, 128) + side + linear(528, 128) + side
    assert len(head.train()(maps_of(GOOGLENET, 224, 224)).auxiliary) == 2


def test_dropout_of_the_map_is_before_the_average():
    head = make_head(replace(PUBLISHED["posenet"], dropout=0.0, map_dropout=0.5), GOOGLENET, ())
    features = maps_of(GOOGLENET, 224, 224)
    head.train()
    assert not torch.equal(head(features).position, head(features).position)
    # Each of 49 cells is dropped by itself, so the average hardly changes.
    seen = []
    head.feature.register_forward_hook(lambda _, __, feature: seen.append(feature.relu()))
    for _ in range(10):
        head(features)
    head.eval()(features)
    *averaged, exact = seen
    averaged = torch.stack(averaged)
    assert (averaged - exact).abs().mean() < 0.3 * averaged.mean()


def test_auxiliary_heads_pool_five_by_five_with_stride_three():
    """Cells outside of the window of a pooled cell do not reach it; those inside do."""
    head = make_head(replace(PUBLISHED["posenet"], auxiliary=True), GOOGLENET, ()).eval()
    side = head.auxiliary["inception4a"]
    features = torch.zeros(1, 512, 14, 14)
    seen = []
    side.reduce.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    for row in (0, 4, 5, 13):
        spot = features.clone()
        spot[0, 0, row, 0] = 25.0
        side(spot)
    first = [cells[0, 0, :, 0].tolist() for cells in seen]
    assert first == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("size", [(64, 64), (96, 72), (224, 224), (256, 192), (341, 256)])
@pytest.mark.parametrize("name", SMALL_HEADS)
def test_every_head_takes_every_size(name: str, size: tuple[int, int]):
    head = make_head(SMALL_HEADS[name], SMALL, tuple(SMALL)).train()
    output = head(maps_of(SMALL, *size))
    sizes = {"quaternion": 4, "log_quaternion": 3, "6d": 6}
    assert output.position.shape == (2, 3)
    assert output.rotation.shape == (2, sizes[SMALL_HEADS[name].orientation])
    assert torch.isfinite(output.rotation).all()
    assert output.log_variance is None


@pytest.mark.parametrize("size", [(64, 64), (112, 96), (320, 256)])
def test_auxiliary_heads_take_other_sizes_than_the_papers(size: tuple[int, int]):
    head = make_head(replace(PUBLISHED["posenet"], auxiliary=True, width=64), GOOGLENET, ())
    assert len(head.train()(maps_of(GOOGLENET, *size)).auxiliary) == 2


@pytest.mark.parametrize("name", SMALL_HEADS)
def test_every_head_can_learn_eight_poses_by_heart_and_every_weight_takes_part(name: str):
    torch.manual_seed(0)
    head = make_head(replace(SMALL_HEADS[name], dropout=0.0), SMALL, tuple(SMALL)).train()
    features = maps_of(SMALL, 128, 96, batch=8)
    position = torch.randn(8, 3)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for step in range(200):
        optimizer.zero_grad()
        output = head(features)
        loss = (output.position - position).square().mean() + output.rotation.square().mean()
        loss.backward()
        if step == 20:
            unused = [n for n, p in head.named_parameters() if p.grad is None or not p.grad.any()]
            assert not unused
        optimizer.step()
    assert float((output.position - position).square().mean().detach()) < 0.05


@pytest.mark.parametrize("name", SMALL_HEADS)
def test_only_the_grid_heads_see_where_a_feature_is(name: str):
    """Mirrored maps have the same averages, so heads that average cannot tell them apart."""
    torch.manual_seed(0)
    head = make_head(SMALL_HEADS[name], SMALL, tuple(SMALL)).eval()
    features = maps_of(SMALL, 128, 96)
    mirrored = {stage: maps.flip(-1) for stage, maps in features.items()}
    change = (head(features).position - head(mirrored).position).abs().max()
    if name.startswith("grid"):
        assert change > 1e-5
    else:
        assert change < 1e-6


def test_grid_heads_see_every_stage():
    torch.manual_seed(0)
    head = make_head(SMALL_HEADS["grid"], SMALL, tuple(SMALL)).eval()
    features = maps_of(SMALL, 128, 96)
    base = head(features).position
    for stage in SMALL:
        changed = head({**features, stage: features[stage] * 0}).position
        assert (changed - base).abs().max() > 1e-6, stage


def test_dropout_is_random_in_training_only():
    head = make_head(SMALL_HEADS["posenet"], SMALL, ())
    features = maps_of(SMALL, 128, 96)
    head.eval()
    assert torch.equal(head(features).position, head(features).position)
    head.train()
    assert not torch.equal(head(features).position, head(features).position)


def test_variances_are_predicted_where_asked_for():
    for name, settings in SMALL_HEADS.items():
        head = make_head(replace(settings, log_variance=True), SMALL, tuple(SMALL)).eval()
        assert head(maps_of(SMALL, 96, 96)).log_variance.shape == (2, 6), name


def test_maps_are_averaged_to_coarser_grids_and_interpolated_to_finer_ones():
    maps = torch.arange(48.0).view(1, 1, 6, 8)
    assert torch.equal(resized(maps, (6, 8)), maps)
    halves = resized(maps, (3, 4))
    assert halves[0, 0, 0, 0] == (0 + 1 + 8 + 9) / 4
    assert resized(maps, (4, 5)).mean() == pytest.approx(float(maps.mean()), abs=0.5)
    assert resized(maps, (12, 16)).shape == (1, 1, 12, 16)
    assert torch.equal(resized(torch.ones(1, 1, 2, 2), (3, 4)), torch.ones(1, 1, 3, 4))


def test_a_stage_that_is_not_there_is_one_line():
    with pytest.raises(LocalizerError, match="no feature map nose"):
        make_head(SMALL_HEADS["grid"], SMALL, ("shallow", "nose"))
    with pytest.raises(LocalizerError, match="inception4a"):
        make_head(replace(PUBLISHED["posenet"], auxiliary=True), SMALL, ())
