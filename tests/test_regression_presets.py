"""Settings survive JSON and the command line, refuse what cannot be; presets are as published."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

from relocalize.errors import LocalizerError
from relocalize.regression.presets import PRESETS, preset
from relocalize.regression.settings import (
    BackboneSettings,
    HeadSettings,
    InputSettings,
    LossSettings,
    OptimizerSettings,
    TrainSettings,
    field_names,
    with_fields,
)

NAMES = (
    "default",
    "posenet-2015",
    "posenet-2015-resnet18",
    "bayesian-posenet",
    "posenet-2017",
    "posenet-2017-geometric",
    "poselstm",
    "mapnet",
    "atloc",
)
PAGE = Path(__file__).parents[1] / "docs/reference/presets.md"


def test_there_is_a_preset_for_every_recipe_and_it_knows_its_name():
    assert tuple(PRESETS) == NAMES
    assert all(settings.preset == name for name, settings in PRESETS.items())
    assert preset("mapnet") is PRESETS["mapnet"]
    with pytest.raises(LocalizerError, match="no preset 'posnet'; there are default, posenet-2015"):
        preset("posnet")


@pytest.mark.parametrize("name", NAMES)
def test_settings_come_back_from_json_as_they_were(name: str):
    settings = PRESETS[name]
    assert TrainSettings.from_json(settings.to_json()) == settings
    assert TrainSettings.from_json(json.dumps(json.loads(settings.to_json()))) == settings


def test_the_founding_configuration_is_the_founding_one():
    founding = PRESETS["posenet-2015-resnet18"]
    assert (founding.backbone.name, founding.head.kind) == ("resnet18", "founding")
    assert (founding.head.width, founding.head.dropout) == (512, 0.7)
    assert (founding.loss.kind, founding.loss.beta) == ("beta", 50)
    optimizer = founding.optimizer
    assert (optimizer.name, optimizer.learning_rate) == ("adam", 5e-4)
    assert (optimizer.eps, optimizer.weight_decay) == (1.0, 0.0625)
    assert (optimizer.batch_size, optimizer.epochs) == (64, 200)
    assert (optimizer.schedule, optimizer.step_factor) == ("step", 0.5)
    assert optimizer.step_share == pytest.approx(1 / 3)


def test_bayesian_posenet_is_posenet_with_dropout_left_on():
    posenet, bayesian = PRESETS["posenet-2015"], PRESETS["bayesian-posenet"]
    assert (posenet.samples, bayesian.samples) == (0, 40)
    assert bayesian.optimizer == posenet.optimizer
    assert bayesian.loss == posenet.loss


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: OptimizerSettings(learning_rate=0), "optimizer.learning_rate is 0"),
        (lambda: OptimizerSettings(learning_rate=float("nan")), "optimizer.learning_rate is nan"),
        (lambda: OptimizerSettings(batch_size=0), "optimizer.batch_size is 0"),
        (lambda: OptimizerSettings(epochs=0), "optimizer.epochs is 0"),
        (lambda: OptimizerSettings(warm_up=1.0), "optimizer.warm_up"),
        (lambda: OptimizerSettings(clip=-1), "optimizer.clip"),
        (lambda: OptimizerSettings(ema=1.0), "optimizer.ema"),
        (lambda: OptimizerSettings(step_share=0), "optimizer.step_share"),
        (lambda: HeadSettings(dropout=1), "head.dropout is 1"),
        (lambda: HeadSettings("lstm", width=100), "head.width is 100; want a multiple of 32"),
        (lambda: HeadSettings("grid", auxiliary=True), "head.auxiliary"),
        (lambda: HeadSettings(grid=(0, 8)), "head.grid"),
        (lambda: LossSettings(beta=0), "loss.beta"),
        (lambda: LossSettings(relative_weight=1), "loss.tuple_size is 1; want 2 or more"),
        (lambda: LossSettings(pretrain=1.5), "loss.pretrain"),
        (lambda: InputSettings(width=32), "input.width is 32; want int >= 64"),
        (lambda: InputSettings(test_crops=128), "input.test_crops is 128; want 1 or 5"),
        (lambda: InputSettings(mean_image=True), "input.geometry"),
        (lambda: InputSettings(256, 192, "posenet"), "input.height is 192; want the width, 256"),
        (lambda: BackboneSettings(frozen=False, channels=8), "backbone.channels"),
        (lambda: TrainSettings(minutes=0), "minutes is 0"),
        (lambda: TrainSettings(minutes=float("nan")), "minutes is nan"),
        (lambda: TrainSettings(validation_share=0), "validation_share"),
        (lambda: TrainSettings(loss=LossSettings("heteroscedastic")), "head.log_variance"),
        (lambda: TrainSettings(head=HeadSettings("posenet", auxiliary=True)), "googlenet"),
        (lambda: TrainSettings(samples=5, head=HeadSettings(dropout=0)), "samples is 5; want 0"),
    ],
)
def test_values_that_cannot_be_are_refused_in_one_line_that_names_the_field(make, says: str):
    with pytest.raises(LocalizerError) as caught:
        make()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no JSON"),
        ("[1]", "want an object"),
        ("[" * 100_000, "no JSON"),
        ('{"sead": 1}', "no setting 'sead'"),
        ('{"optimizer": {"lr": 1}}', "no setting 'optimizer.lr'; there are name, learning_rate"),
        ('{"optimizer": 3}', "settings optimizer.: 3; want an object"),
        ('{"seed": "1"}', "setting seed is '1'; want int"),
        ('{"seed": true}', "setting seed is True; want int"),
        ('{"minutes": NaN}', "setting minutes is nan; want float"),
        ('{"backbone": {"frozen": 1}}', "setting backbone.frozen is 1; want bool"),
        ('{"backbone": {"stages": "all"}}', "setting backbone.stages is 'all'"),
        ('{"backbone": {"stages": [1]}}', "setting backbone.stages is [1]; want str"),
        ('{"head": {"grid": [1, 2, 3]}}', "setting head.grid is [1, 2, 3]"),
        ('{"head": {"kind": "tail"}}', "setting head.kind is 'tail'; want posenet | founding"),
        ('{"head": {"kind": ["grid"]}}', "setting head.kind is ['grid']"),
        ('{"head": {"width": -3}}', "head.width is -3"),
        ('{"seed": ' + "9" * 5000 + "}", "no JSON"),
        ('{"seed": ' + "9" * 4000 + "}", "setting seed is 999"),
        ('{"minutes": ' + "9" * 4000 + "}", "setting minutes is 999"),
        ('{"minutes": 1e999}', "setting minutes is inf; want float"),
    ],
)
def test_json_that_is_none_of_ours_is_one_short_line(text: str, says: str):
    with pytest.raises(LocalizerError) as caught:
        TrainSettings.from_json(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_settings_that_are_left_out_of_json_have_their_default():
    assert TrainSettings.from_json('{"optimizer": {"epochs": 3}}') == TrainSettings(
        optimizer=OptimizerSettings(epochs=3)
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["head", "kind", "seed", "loss", "beta"]), inner, max_size=3
            )
        ),
    )
)
def test_any_json_is_settings_or_one_line(values: object):
    try:
        settings = TrainSettings.from_json(json.dumps(values))
    except LocalizerError as error:
        assert "\n" not in str(error)
    else:
        assert TrainSettings.from_json(settings.to_json()) == settings


def test_single_fields_are_replaced_by_their_dotted_name():
    base = PRESETS["posenet-2015"]
    changed = with_fields(
        base, {"optimizer.batch_size": 128, "optimizer.learning_rate": 1, "seed": 3}
    )
    assert changed == replace(
        base, seed=3, optimizer=replace(base.optimizer, batch_size=128, learning_rate=1.0)
    )
    assert base.optimizer.batch_size == 75
    # Right together, wrong one by one: crops are square.
    smaller = with_fields(base, {"input.width": 128, "input.height": 128})
    assert (smaller.input.width, smaller.input.height) == (128, 128)
    for name, value, says in (
        ("optimizer.batch", 1, "no setting 'optimizer.batch'"),
        ("seed.x", 1, "setting seed is .*want int"),
        ("optimizer.batch_size", 0.5, "setting optimizer.batch_size is 0.5; want int"),
        ("optimizer.batch_size", 0, "optimizer.batch_size is 0"),
    ):
        with pytest.raises(LocalizerError, match=says):
            with_fields(base, {name: value})


def test_every_field_can_be_named():
    names = field_names(TrainSettings)
    assert len(names) == len(set(names)) > 50
    assert {"preset", "backbone.name", "loss.beta", "optimizer.ema", "augment.roll_deg"} <= {*names}
    for name in names:
        value = PRESETS["mapnet"]
        for part in name.split("."):
            value = getattr(value, part)
        assert with_fields(PRESETS["mapnet"], {name: value}) == PRESETS["mapnet"]


def test_any_field_is_an_option_on_the_command_line():
    settings = tyro.cli(
        TrainSettings,
        default=PRESETS["posenet-2015-resnet18"],
        args=[
            "--optimizer.batch-size",
            "128",
            "--backbone.name",
            "googlenet",
            "--minutes",
            "2.5",
            "--head.orientation",
            "6d",
            "--backbone.stages",
            "a",
            "b",
        ],
    )
    assert settings.optimizer.batch_size == 128
    assert settings.optimizer.eps == 1.0
    assert settings.backbone.name == "googlenet"
    assert settings.backbone.stages == ("a", "b")
    assert settings.minutes == 2.5
    assert settings.head.orientation == "6d"


def test_presets_do_not_import_torch():
    code = "import sys, relocalize.regression.presets; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_what_the_preset_is(name: str):
    settings = PRESETS[name]
    (row,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{name}` |")]
    _, paper, backbone, head, loss, optimizer, differs = (
        cell.strip() for cell in row.strip("|").split(" | ")
    )
    assert paper
    assert differs
    assert f"`{settings.backbone.name}`" in backbone
    assert f"`{settings.backbone.weights}`" in backbone
    assert f"`{settings.head.kind}`" in head
    assert f"`{settings.head.orientation}`" in head
    assert f"`{settings.loss.kind}`" in loss
    if settings.loss.kind == "beta":
        assert f"{settings.loss.beta:g}" in loss
    assert f"`{settings.optimizer.name}` {settings.optimizer.learning_rate:g}" in optimizer
    assert f"batch {settings.optimizer.batch_size}" in optimizer
    run = settings.optimizer
    length = "steps by the number of frames" if run.epochs is None else f"{run.epochs} epochs"
    assert length in optimizer
    if settings.optimizer.weight_decay:
        assert f"weight decay {settings.optimizer.weight_decay:g}" in optimizer


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_makes_a_regressor_that_trains_for_a_step(name: str):
    torch = pytest.importorskip("torch")
    from relocalize.regression.losses import PoseTarget, make_loss
    from relocalize.regression.model import make_regressor

    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = PRESETS[name]
    model = make_regressor(settings)
    positions = torch.randn(3, 3) * 2
    rotations = torch.eye(3).expand(3, 3, 3)
    model.set_statistics(positions, rotations)
    model.train()
    loss = make_loss(settings.loss, settings.head.orientation, float(model.position_scale))
    group = torch.zeros(3).long()
    depths = None
    if model.head.cells is not None:
        count = model.head.cells[0] * model.head.cells[1]
        depths = torch.ones(3, 2, count)
        model.head.look_at(torch.rand(count, 2) - 0.5, torch.randn(9, 3), 1.0)
    target = PoseTarget(model.standardised(positions), rotations, group=group, depths=depths)
    pixels = torch.randint(
        0, 256, (3, settings.input.height, settings.input.width, 3), dtype=torch.uint8
    )
    value = loss(model(model.normalise(pixels)), target)
    value.backward()
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert torch.isfinite(value)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for _, p in trained)
    assert any(n.startswith("backbone.") for n, _ in trained) != settings.backbone.frozen
