"""`relocalize experiment` from outside: it trains, is stopped and goes on, compares, scores."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest

from relocalize.cli.main import main
from relocalize.errors import DivergenceError
from relocalize.experiments import engines, find_sweep
from relocalize.experiments.runs import Run, runs_of
from relocalize.mapping import map_place
from relocalize.place import Place
from rendered_walk import SPLIT, copy_of_walk

pytest.importorskip("torch")

# Three epochs of 55 images of 64 x 64; every run of it takes well under a second.
SWEEP = """
about = "Two rates on a small walk."
[settings]
input = {width = 64, height = 64, test_crops = 1}
copies = 0
backbone.stages = ["group5"]
backbone.channels = 8
head = {kind = "grid", width = 32, grid = [4, 4]}
loss.kind = "homoscedastic"
validation_share = 0.2
device = "cpu"
precision = "float32"
optimizer.epochs = 3
[grid]
optimizer.learning_rate = [1e-3, 5e-3]
"""


@pytest.fixture(scope="module")
def walk(made_once, tmp_path_factory) -> Place:
    return copy_of_walk(made_once, tmp_path_factory.mktemp("walk"))


@pytest.fixture
def sweep(tmp_path) -> Path:
    path = tmp_path / "rates.toml"
    path.write_text(SWEEP)
    return path


@pytest.fixture(scope="module")
def done(walk, tmp_path_factory) -> Place:
    """The walk with the sweep done on it, undisturbed."""
    path = tmp_path_factory.mktemp("sweep") / "rates.toml"
    path.write_text(SWEEP)
    assert run(walk, path) == 0
    return walk


@pytest.fixture
def copy(done, tmp_path) -> Place:
    """The same Place with its prepared images and features, and no experiments."""
    root = tmp_path / "copy"
    shutil.copytree(done.root, root, ignore=shutil.ignore_patterns("experiments"))
    return Place.open(root)


def run(place: Place, *arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["experiment", str(place.root), *map(str, arguments)])
    return ended.value.code


def results(place: Place, name: str = "rates") -> dict:
    return json.loads((place.root / "experiments" / name / "results.json").read_text())


def numbers(place: Place) -> list[tuple]:
    """What of the runs does not depend on the clock."""
    kept = ("values", "seed", "position", "rotation_deg", "score", "best_epoch", "position_jump")
    return [tuple(run[key] for key in kept) for run in results(place)["runs"]]


def work_of(place: Place, sweep: Path) -> list[Run]:
    return runs_of(find_sweep(sweep), place, place.split(SPLIT))


def error_of(shown) -> str:
    (line,) = [line for line in shown.err.splitlines() if line.startswith("error:")]
    assert "Traceback" not in shown.err
    return line


def test_a_sweep_is_a_folder_per_run_a_table_an_image_and_a_page(done, sweep, capsys):
    folder = done.root / "experiments" / "rates"
    content = results(done)
    assert content["sweep"]["grid"] == {"optimizer.learning_rate": [1e-3, 5e-3]}
    assert content["runs_planned"] == len(content["runs"]) == len(content["configurations"]) == 2
    assert set(content["made"]["with"]) >= {"relocalize", "torch", "numpy"}
    for entry, rate in zip(content["runs"], (1e-3, 5e-3), strict=True):
        one = folder / entry["name"]
        settings = json.loads((one / "settings.json").read_text())
        assert settings["optimizer"]["learning_rate"] == rate
        assert settings["seed"] == entry["seed"] == 0
        rows = [json.loads(line) for line in (one / "training.jsonl").read_text().splitlines()]
        assert [row["epoch"] for row in rows] == [1, 2, 3]
        best = rows[entry["best_epoch"] - 1]
        assert best["validation_score"] == min(row["validation_score"] for row in rows)
        # What is kept of the best epoch is rounded to half precision.
        assert entry["position"] == pytest.approx(best["validation_position"], rel=0.01)
        assert entry["rotation_deg"] == pytest.approx(best["validation_rotation_deg"], rel=0.01)
        assert entry["ended"] == "last epoch"
        last, before = rows[2]["validation_position"], rows[1]["validation_position"]
        assert entry["position_jump"] == pytest.approx(max(last / before, before / last))
        assert not (one / "checkpoint.pt").exists()
        assert (one / "localizer" / "weights.safetensors").is_file()
    image = cv2.imread(str(folder / "curves.png"))
    assert image.shape[0] > 300
    assert image.std() > 5
    page = (folder / "index.html").read_text()
    assert "Two rates on a small walk." in page
    assert "http://" not in page.split("</script></head>")[1]
    assert run(done, sweep) == 0  # nothing to do: the table again
    shown = capsys.readouterr()
    assert "2 of them done before" in shown.err
    assert "training default on" not in shown.err
    assert max(map(len, shown.out.splitlines())) <= 80 or str(folder) in shown.out
    assert "0.005" in shown.out
    assert str(folder / "index.html") in shown.out


def test_in_bfloat16_the_kept_epoch_answers_as_the_log_says_within_two_roundings(copy, sweep):
    split = copy.split(SPLIT)
    copy.write_split(replace(split, train=split.train[::3]))  # few processors are made for it
    one = ["--set", "optimizer.learning_rate=1e-3"]
    assert run(copy, sweep, *one, "--set", "precision=bfloat16") == 0
    rounding = 2**-8  # of 8 significant bits: once the kept features, once those of one image
    for entry in results(copy)["runs"]:
        log = copy.root / "experiments" / "rates" / entry["name"] / "training.jsonl"
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        best = rows[entry["best_epoch"] - 1]
        off = entry["rotation_deg"] - best["validation_rotation_deg"]
        assert entry["position"] == pytest.approx(best["validation_position"], rel=2 * rounding)
        assert abs(off) <= math.degrees(2 * rounding)


def test_json_is_one_object_of_the_stored_results(done, sweep, capsys):
    assert run(done, sweep, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    stored = results(done)
    printed["made"].pop("finished")
    stored["made"].pop("finished")
    assert printed == stored


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
def test_killed_in_the_second_run_the_same_command_goes_on_and_ends_alike(
    done, copy, sweep, capfd, monkeypatch
):
    from relocalize.regression.training_log import TrainingLog

    rest = [sweep, "--set", "checkpoint_minutes=1e-6"]
    child = os.fork()
    if child == 0:
        try:
            add, seen = TrainingLog.add, []

            def killing(self, row):
                add(self, row)
                seen.append(row["epoch"])
                if seen == [1, 2, 3, 1, 2]:
                    os.kill(os.getpid(), signal.SIGKILL)

            TrainingLog.add = killing
            run(copy, *rest)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    first, second = work_of(copy, sweep)
    assert first.is_done
    assert not second.is_done
    assert len(results(copy)["runs"]) == 1  # what there is can be looked at
    stamp = (first.folder / "result.json").stat().st_mtime_ns
    capfd.readouterr()
    assert run(copy, *rest) == 0
    assert "resuming at epoch" in capfd.readouterr().err
    assert (first.folder / "result.json").stat().st_mtime_ns == stamp
    assert numbers(copy) == numbers(done)


def test_ctrl_c_says_that_the_same_command_goes_on(copy, sweep, capsys, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "work", interrupted)
    assert run(copy, sweep) == 130
    assert "stopped; run the same command again to resume" in capsys.readouterr().err


def test_other_settings_are_other_runs_and_nothing_is_overwritten(copy, sweep, capsys):
    assert run(copy, sweep, "--set", "optimizer.learning_rate=1e-3") == 0
    (only,) = results(copy)["runs"]
    assert run(copy, sweep, "--set", "optimizer.learning_rate=1e-3", "--seeds", "4") == 0
    (other,) = results(copy)["runs"]
    assert (only["seed"], other["seed"]) == (0, 4)
    assert only["position"] != other["position"]
    assert only["name"] != other["name"]
    folder = copy.root / "experiments" / "rates"
    assert all((folder / name / "result.json").is_file() for name in (only["name"], other["name"]))


def test_a_run_that_diverges_is_a_row_and_not_the_end(copy, sweep, capsys, monkeypatch):
    from relocalize.localization.regressor import RegressorLocalizer

    fit = RegressorLocalizer.fit

    def diverging(place, split, *, settings, folder):
        if settings.optimizer.learning_rate == 1e-3:
            raise DivergenceError("training stopped: the loss is not finite in epoch 1")
        return fit(place, split, settings=settings, folder=folder)

    monkeypatch.setattr(RegressorLocalizer, "fit", diverging)
    assert run(copy, sweep) == 0
    shown = capsys.readouterr().out
    assert "diverged" in shown
    bad, good = results(copy)["configurations"]
    assert (bad["diverged"], bad["position"], bad["ended"]) == (1, None, ["diverged"])
    assert good["position"] is not None
    monkeypatch.setattr(Run, "work", lambda self: pytest.fail("it would diverge again"))
    assert run(copy, sweep) == 0


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--set", "backbone.weights=none-such.pth"], "none-such.pth"),
        (["--set", "backbone.name=alexnet"], "alexnet"),
        (["--set", "optimizer.batch=3"], "no setting 'optimizer.batch'"),
        (["--split", "none-such"], "no split 'none-such'"),
        (["--minutes", "-1"], "minutes is -1.0; want a number above 0"),
        (["--set", "nothing"], "want NAME=VALUE"),
    ],
)
def test_what_cannot_be_done_is_one_line(copy, sweep, capsys, arguments, says):
    assert run(copy, sweep, *arguments) == 1
    assert says in error_of(capsys.readouterr())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
def test_a_second_process_on_the_same_sweep_is_refused(copy, sweep, capsys):
    folder = copy.root / "experiments" / "rates"
    folder.mkdir(parents=True)
    held, go = os.pipe()
    child = os.fork()
    if child == 0:
        from relocalize.place.lock import write_lock

        try:
            with write_lock(folder):
                os.write(go, b"x")
                signal.pause()
        finally:
            os._exit(0)
    try:
        os.read(held, 1)
        assert run(copy, sweep) == 1
        assert f"process {child}" in error_of(capsys.readouterr())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.slow
def test_test_images_are_scored_beside_the_baselines_when_asked_and_aloud(copy, sweep, capsys):
    map_place(copy)
    one = ["--set", "optimizer.learning_rate=1e-3"]
    assert run(copy, sweep, *one, "--evaluate") == 0
    shown = capsys.readouterr()
    assert "10 test images of split walk are looked at" in shown.err
    assert "choose nothing by" in " ".join(shown.out.split())
    content = results(copy)
    (trained,) = content["runs"]
    assert list(content["test"]) == ["constant", "retrieval", "structure", trained["name"]]
    assert content["test"][trained["name"]]["images"] == 10
    stored = json.loads((copy.report_dir(SPLIT) / "results.json").read_text())
    assert stored["localizers"][f"rates.{trained['name']}"]["n"] == 10
    assert run(copy, sweep, *one) == 0
    assert results(copy)["test"] is None
    assert "test images" not in capsys.readouterr().err


def test_without_ray_there_is_one_line_that_names_the_extra(copy, sweep, capsys, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert run(copy, sweep, "--engine", "ray") == 1
    assert 'pip install "relocalize[cluster]"' in error_of(capsys.readouterr())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray (the extra cluster)")
def test_ray_does_the_same_runs_to_the_same_numbers(done, copy, sweep, capsys):
    assert run(copy, sweep, "--engine", "ray") == 0
    assert results(copy)["made"]["engine"] == "ray"
    assert "ray" in results(copy)["made"]["with"]
    assert numbers(copy) == numbers(done)
    # An error in a worker is the same one line.
    assert run(copy, sweep, "--engine", "ray", "--set", "backbone.weights=none-such.pth") == 1
    assert "none-such.pth" in error_of(capsys.readouterr())


def test_where_settings_do_not_matter_to_the_result_the_run_is_the_same(walk, sweep):
    first, second = work_of(walk, sweep)
    assert first.folder != second.folder
    changed = find_sweep(sweep).with_changes({"threads": 3, "checkpoint_minutes": 9})
    same = runs_of(changed, walk, walk.split(SPLIT))
    assert [one.folder for one in same] == [first.folder, second.folder]
    split = walk.split(SPLIT)
    other = runs_of(find_sweep(sweep), walk, replace(split, train=split.train[1:]))
    assert {one.folder for one in other}.isdisjoint({first.folder, second.folder})
