"""What a sweep file may say, what stability is, and the table's numbers: nothing is trained."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from headless_browser import browser_page
from relocalize.cli.experiment import Experiment as ExperimentCommand
from relocalize.errors import ExperimentError
from relocalize.experiments import SHIPPED, Sweep, find_sweep, read_override
from relocalize.experiments.experiment import Experiment, RunNumbers
from relocalize.experiments.running import experiment_page
from relocalize.experiments.runs import Run
from relocalize.experiments.stability import epoch_to_epoch, seed_to_seed
from relocalize.regression.presets import preset
from relocalize.regression.settings import with_fields
from relocalize.regression.training_log import read_log


def sweep_of(folder: Path, text: str) -> Sweep:
    path = folder / "tried.toml"
    path.write_text(text)
    return find_sweep(path)


# -- the file ----------------------------------------------------------------------------------


def test_a_grid_is_every_combination_with_every_seed_in_order(tmp_path):
    sweep = sweep_of(
        tmp_path,
        """
        about = "rates"
        preset = "atloc"
        seeds = [3, 4]
        minutes = 2
        [settings]
        optimizer.clip = 1
        head = {width = 64, dropout = 0}
        [grid]
        "optimizer.learning_rate" = [1e-4, 1]
        backbone.name = ["resnet18", "resnet34"]
        """,
    )
    assert (sweep.name, sweep.about, sweep.seeds) == ("tried", "rates", (3, 4))
    found = sweep.configurations
    assert [tuple(one.values.values()) for one in found] == [
        (1e-4, "resnet18"), (1e-4, "resnet34"), (1, "resnet18"), (1, "resnet34"),
    ]  # fmt: skip
    changes = {"optimizer.clip": 1, "head.width": 64, "head.dropout": 0, "minutes": 2}
    settings = with_fields(preset("atloc"), changes)
    wanted = {"optimizer.learning_rate": 1.0, "backbone.name": "resnet34"}
    assert found[3].settings == with_fields(settings, wanted)


def test_presets_are_an_axis_and_none_is_no_value_where_a_setting_may_have_none(tmp_path):
    sweep = sweep_of(
        tmp_path,
        """
        [settings]
        backbone.weights = "none"
        [grid]
        preset = ["posenet-2017", "mapnet"]
        optimizer.clip = ["none", 5.0]
        """,
    )
    settings = [one.settings for one in sweep.configurations]
    assert [one.preset for one in settings] == ["posenet-2017"] * 2 + ["mapnet"] * 2
    assert [one.optimizer.clip for one in settings] == [None, 5.0, None, 5.0]
    assert settings[2].loss.tuple_size == 3  # the whole of the preset, not its name alone
    assert {one.backbone.weights for one in settings} == {"none"}  # of a text it is a word


@pytest.mark.parametrize(
    "text, says",
    [
        ("grid = 3", "grid is 3; want a table"),
        ("[grid]\noptimizer.batchsize = [1]", "no setting 'optimizer.batchsize' (did you mean "
         "optimizer.batch_size?)"),
        ("[settings]\nbackbone.depth.more = 1", "no setting 'backbone.depth.more'"),
        ("[grid]\noptimizer = [1]", "no setting 'optimizer'"),
        ("[grid]\noptimizer.batch_size = 64", "optimizer.batch_size in [grid] is 64; want a list"),
        ("[grid]\noptimizer.batch_size = []", "want at least one value"),
        ("[grid]\noptimizer.batch_size = [64, 'many']", "setting optimizer.batch_size is 'many'; "
         "want int"),
        ("[grid]\noptimizer.batch_size = [64, 0]", "setting optimizer.batch_size is 0; "
         "want int >= 1"),
        ("[grid]\noptimizer.learning_rate = [1, 1.0]", "same settings twice: (learning rate "
          "1) and (learning rate 1.0)"),
        ("[grid]\noptimizer.schedule = ['linear']", "is 'linear'; want constant | step | cosine"),
        ("[grid]\noptimizer.batch_size = [2024-01-01]", "setting optimizer.batch_size"),
        ("[grid]\nseed = [1, 2]", "want seeds = [0, 1] above it"),
        ("[settings]\nminutes = 3", "want minutes = 10 above it"),
        ("[settings]\npreset = 'atloc'", "want it above"),
        ("preset = ['atloc']", "preset is ['atloc']; want one of them, and several as"),
        ("preset = 'posenet-1999'", "no preset 'posenet-1999'; there are default"),
        ("[grid]\npreset = [1]", "preset is 1; want one of default"),
        ("seeds = 3", "seeds is 3; want a list"),
        ("seeds = [1, 1]", "seeds is [1, 1]; want a list of different whole numbers"),
        ("seeds = [-1]", "seeds is [-1]"),
        ("seeds = []", "seeds is []"),
        ("seeds = [true]", "seeds is [True]"),
        ("minutes = 0", "minutes is 0; want a number above 0"),
        ("minutes = nan", "minutes is nan"),
        ("minutes = 'ten'", "minutes is 'ten'"),
        ("split = 3", "split is 3; want a split's name"),
        ("name = '../up'", "cannot name a sweep"),
        (f"name = '{'a' * 41}'", "want a text of at most 40 letters"),
        ("name = 4", "name is 4"),
        ("about = 1", "about is 1; want a text"),
        ("minuets = 3", "no key 'minuets' (did you mean minutes?); there are name,"),
        ("optimizer.epochs = 3", "no key 'optimizer'"),
        ("[settings]\ncopies = 1\n[grid]\ncopies = [1]", "copies is in [settings] and in [grid]"),
        ("[settings]\ncopies = 1\ncopies = 2", "is no TOML file"),
        ("copies", "is no TOML file"),
        ("[grid]\ncopies = [" + "[" * 5000 + "]" * 5000 + "]", "is no TOML file"),
        ("[grid]\n" + "\n".join(
            f"loss.{name} = [{', '.join(map(str, range(1, 31)))}]"
            for name in ("beta", "points", "tuple_spacing")), "the grid has 27000 runs"),
    ],
)  # fmt: skip
def test_what_a_sweep_cannot_say_is_one_line_that_names_file_and_key(tmp_path, text, says):
    with pytest.raises(ExperimentError) as caught:
        sweep_of(tmp_path, text)
    message = str(caught.value)
    assert says in message
    assert "tried.toml" in message
    assert "\n" not in message
    assert len(message) < 600


def test_files_that_are_none_are_one_line(tmp_path):
    with pytest.raises(ExperimentError, match=r"no such file, and no sweep of relocalize \(found"):
        find_sweep("foundling")
    with pytest.raises(ExperimentError, match=r"gone.toml cannot be read: No such file"):
        find_sweep(tmp_path / "gone.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExperimentError, match="is no TOML file"):
        find_sweep(tmp_path / "bytes.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(ExperimentError, match="more than 1048576 bytes"):
        find_sweep(tmp_path / "large.toml")
    with pytest.raises(ExperimentError, match="cannot be read"):
        find_sweep(tmp_path)


def test_founding_is_the_two_backbones_schedules_and_batch_sizes_on_the_founding_recipe():
    assert "founding" in SHIPPED
    sweep = find_sweep("founding")
    settings = [one.settings for one in sweep.configurations]
    assert len(settings) == 8
    combinations = {
        (one.backbone.name, one.optimizer.schedule, one.optimizer.batch_size) for one in settings
    }
    assert combinations == {
        (backbone, schedule, size)
        for backbone in ("googlenet_caffe", "resnet18")
        for schedule in ("constant", "step")
        for size in (64, 128)
    }
    recipe = preset("posenet-2015-resnet18")
    for one in settings:
        assert (one.loss, one.head, one.input) == (recipe.loss, recipe.head, recipe.input)
        assert one.minutes == sweep.minutes


@pytest.mark.parametrize(
    "text, value",
    [
        ("backbone.weights=none", "none"),
        ("backbone.weights = my file.pth", "my file.pth"),
        ("optimizer.batch_size=16", 16),
        ("head.grid=[4, 4]", [4, 4]),
        ("backbone.frozen=true", True),
        ("optimizer.learning_rate=1e-3", 1e-3),
        ("backbone.weights=a=b.pth", "a=b.pth"),
        ("backbone.weights='16'", "16"),
        ("backbone.weights=1\nother = 2", "1\nother = 2"),
    ],
)
def test_an_override_is_toml_or_a_word(text, value):
    name, read = read_override(text)
    assert name == text.partition("=")[0].strip()
    assert read == value
    assert type(read) is type(value)


def test_what_is_set_on_the_command_line_stands_above_settings_and_grid():
    sweep = find_sweep("founding").with_changes(
        {"backbone.weights": "none", "optimizer.batch_size": 16, "optimizer.epochs": 2},
        minutes=0.5,
        seeds=[7, 8],
        split="blocks",
    )
    assert list(sweep.grid) == ["backbone.name", "optimizer.schedule"]
    assert (sweep.seeds, sweep.split, len(sweep.configurations)) == ((7, 8), "blocks", 4)
    for one in sweep.configurations:
        assert one.settings.optimizer.batch_size == 16
        assert one.settings.backbone.weights == "none"
        assert one.settings.minutes == 0.5
    other = find_sweep("founding").with_changes({"preset": "default"})
    assert other.configurations[0].settings.loss == preset("default").loss
    for wrong in ({"optimizer.batchsize": 1}, {"optimizer.batch_size": 1.5}, {"seed": 3}):
        with pytest.raises(ExperimentError, match=r"^sweep founding: "):
            find_sweep("founding").with_changes(wrong)


@pytest.mark.parametrize("text", ["backbone.weights", "=3", "backbone.weights=", ""])
def test_an_override_that_sets_nothing_is_refused(text):
    with pytest.raises(ExperimentError, match="want NAME=VALUE"):
        read_override(text)


# -- stability ---------------------------------------------------------------------------------


def test_a_curve_that_has_settled_is_as_steady_as_can_be_however_it_began():
    assert epoch_to_epoch([9.0, 1.0, 5.0, 0.2, 0.2, 0.2]) == pytest.approx(1.0)
    assert epoch_to_epoch([9.0, 1.0, 5.0, 0.2, 0.3, 0.3]) == pytest.approx(math.sqrt(1.5))


def test_a_curve_that_jumps_by_a_tenth_has_that_ratio_whatever_its_scale():
    for scale in (1e-3, 1.0, 1e4):
        curve = [scale * (1.1 if epoch % 2 else 1.0) for epoch in range(30)]
        assert epoch_to_epoch(curve) == pytest.approx(1.1)


def test_a_curve_that_falls_steadily_is_told_by_how_fast_it_falls():
    assert epoch_to_epoch([0.9**epoch for epoch in range(12)]) == pytest.approx(1 / 0.9)


def test_one_bad_epoch_does_not_stand_for_the_run_and_many_do():
    calm = [1.0 + 0.01 * (epoch % 2) for epoch in range(30)]
    once = [*calm[:25], 50.0, *calm[26:]]
    assert epoch_to_epoch(once) == pytest.approx(1.01)
    wild = [*calm[:20], *[1.0, 50.0] * 5]
    assert epoch_to_epoch(wild) == pytest.approx(50.0)


def test_only_the_last_third_counts():
    # Of 9 epochs 7, 8 and 9, each with the one before it: 2, 1.5 and 1.2.
    errors = [1.0, 99.0, 1.0, 99.0, 1.0, 1.0, 2.0, 3.0, 3.6]
    assert epoch_to_epoch(errors) == pytest.approx(1.5)


def test_too_short_a_run_has_no_jump_and_a_lost_one_has_no_bound():
    assert epoch_to_epoch([]) is None
    assert epoch_to_epoch([1.0]) is None
    assert epoch_to_epoch([1.0, 3.0]) == pytest.approx(3.0)
    assert epoch_to_epoch([1.0, 1.0, math.inf]) == math.inf
    assert epoch_to_epoch([0.0, 0.0, 0.0]) == 1.0


def test_seeds_are_compared_in_pairs():
    assert seed_to_seed([1.0]) is None
    assert seed_to_seed([2.0, 1.0]) == pytest.approx(2.0)
    # 1.1, 2.2 and 2: the middle one.
    assert seed_to_seed([1.0, 1.1, 2.2]) == pytest.approx(2.0)
    assert seed_to_seed([1.0, math.inf]) == math.inf


# -- the table ---------------------------------------------------------------------------------


def run_of(folder: Path, values: dict[str, object], seed: int, curve, **result) -> RunNumbers:
    """A finished run whose log has these (position, rotation) validation errors."""
    settings = with_fields(preset("default"), {"seed": seed, "optimizer.epochs": len(curve)})
    folder.mkdir(parents=True)
    rows = [
        {
            "epoch": epoch, "train_loss": 1.0, "validation_position": position,
            "validation_rotation_deg": rotation, "validation_score": 1.0,
            "learning_rate": 1e-3, "epoch_seconds": 2.0 + epoch,
        }
        for epoch, (position, rotation) in enumerate(curve, start=1)
    ]  # fmt: skip
    (folder / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    best = min(range(len(curve)), key=lambda row: curve[row][0])
    if not result:
        position, rotation = curve[best]
        result = {
            "status": "finished",
            "reason": None,
            "validation": {
                "position": position, "rotation_deg": rotation, "score": position, "epoch": best + 1
            },
            "training": {"preparation_seconds": 5.0},
        }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    run = Run(folder, "given", folder, values, settings)
    found = run.result()
    assert found is not None
    return RunNumbers.of(run, found, run.log())


@pytest.fixture
def runs(tmp_path) -> list[RunNumbers]:
    a, b = {"copies": 0}, {"copies": 5}
    return [
        run_of(tmp_path / "a0", a, 0, [(0.9, 9.0), (0.5, 5.0), (0.4, 6.0)]),
        run_of(tmp_path / "a1", a, 1, [(0.9, 9.0), (0.5, 5.0), (0.2, 2.0)]),
        run_of(tmp_path / "a2", a, 2, [(0.9, 9.0), (0.3, 3.0), (0.3, 3.0)]),
        run_of(tmp_path / "b0", b, 0, [(0.1, 1.0), (0.2, 2.0), (0.4, 1.0)]),
        run_of(tmp_path / "b1", b, 1, [(0.8, 8.0)], status="diverged", reason="it ran away"),
    ]


def experiment_of(runs: list[RunNumbers], about: str = "") -> Experiment:
    sweep = Sweep("given", about, grid={"copies": (0, 5)}, seeds=(0, 1, 2))
    logs = {run.name: () for run in runs}
    return Experiment(sweep, "place", "walk", "metre", "local", 6, tuple(runs), logs, {})


def test_the_table_has_medians_ranges_and_jumps_that_one_computes_by_hand(runs):
    experiment = experiment_of(runs)
    first, second = experiment.configurations
    assert (first.values, first.runs, first.diverged) == ({"copies": 0}, 3, 0)
    assert first.position == 0.3
    assert first.position_range == (0.2, 0.4)
    assert first.rotation_deg == 3.0
    assert first.rotation_range == (2.0, 6.0)
    assert first.position_jump == pytest.approx(1.25)  # of 1.25, 2.5 and 1
    assert first.rotation_jump == pytest.approx(1.2)  # of 1.2, 2.5 and 1
    assert first.position_seeds == pytest.approx(1.5)  # of 2, 4/3 and 1.5
    assert first.rotation_seeds == pytest.approx(2.0)  # of 3, 2 and 1.5
    assert first.epoch_seconds == 4.0
    assert first.epochs == 3
    assert first.ended == ("last epoch",)
    assert (second.runs, second.diverged) == (2, 1)
    assert second.position == math.inf
    assert second.position_range == (0.1, math.inf)
    assert second.position_jump == pytest.approx(2.0)  # one epoch alone has no jump
    assert second.position_seeds == math.inf
    assert second.ended == ("last epoch", "diverged")
    assert experiment.best is first
    assert runs[0].seconds == 3.0 + 4.0 + 5.0 + 5.0


def test_each_value_of_an_axis_is_summed_up_over_all_its_runs(runs):
    zero, five = experiment_of(runs).effects
    assert (zero.axis, zero.value, zero.runs) == ("copies", 0, 3)
    assert zero.position == 0.3
    assert (five.value, five.runs, five.position) == (5, 2, math.inf)
    assert experiment_of(runs[:3]).effects == []


def test_numbers_that_are_infinite_are_null_in_json_and_dashes_on_the_page(runs):
    experiment = experiment_of(runs, about="</script><b>")
    content = experiment.to_json()
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text)["configurations"][1]["position"] is None
    assert content["runs_planned"] == 6
    assert len(content["runs"]) == 5
    page = experiment_page(experiment, content)
    assert "&lt;/script&gt;&lt;b&gt;" in page
    assert "5 of 6 runs" in page
    assert "<span>–</span>" in page
    assert "src=" not in page.split("<body>")[1]


def test_the_pages_curves_are_switched_by_configuration(tmp_path):
    curve = [(0.9, 9.0), (0.5, 5.0), (0.4, 6.0)]
    runs = [
        run_of(tmp_path / f"{copies}{seed}", {"copies": copies}, seed, curve)
        for copies in (0, 5)
        for seed in (0, 1)
    ]
    logs = {run.name: read_log(tmp_path / run.name) for run in runs}
    sweep = Sweep("given", grid={"copies": (0, 5)}, seeds=(0, 1))
    experiment = Experiment(sweep, "place", "walk", "metre", "local", 4, tuple(runs), logs, {})
    out = tmp_path / "index.html"
    out.write_text(experiment_page(experiment, experiment.to_json()))
    drawn = "document.getElementById('validation_position').data.filter(one => one.visible)"
    with browser_page() as page:
        page.goto(out.as_uri())
        page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length === 3")
        # Of each of four runs its curve, the chosen epoch, and the learning rate.
        assert page.evaluate(f"{drawn}.length") == 12
        page.locator(".legend").get_by_text("copies 5").click()
        assert set(page.evaluate(f"{drawn}.map(one => one.name)")) == {"copies 0"}
        page.locator(".legend").get_by_text("copies 5").dblclick()
        assert set(page.evaluate(f"{drawn}.map(one => one.name)")) == {"copies 5"}
        assert page.complaints == []


def test_a_damaged_result_is_a_run_to_do_again(tmp_path):
    run = Run(tmp_path, "given", tmp_path, {}, preset("default"))
    assert not run.is_done
    for content in ("", "{", "[]", '{"status": "begun"}', '{"status": 3}'):
        (tmp_path / "result.json").write_text(content)
        assert not run.is_done


def test_reading_a_sweep_does_not_take_torch():
    code = (
        "import sys\nfrom relocalize.experiments import find_sweep\n"
        "find_sweep('founding').configurations\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_set_of_a_command_line_counts():
    given = ["place", "founding", "--set", "optimizer.epochs=3", "--set", "copies=0"]
    command = tyro.cli(ExperimentCommand, args=given)
    assert command.set == ("optimizer.epochs=3", "copies=0")
