"""`relocalize build` from a video to the table, nothing of it replaced, on the small corridor."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import relocalize
from relocalize import regression
from relocalize.cli.main import main
from relocalize.regression.task import PoseTask

pytestmark = pytest.mark.slow
QUICK = {
    "copies": 0, "validation_share": 0.2, "device": "cpu", "input.width": 128, "input.height": 96,
    "backbone.stages": ("group5",), "backbone.channels": 16, "optimizer.epochs": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def first(built_corridor, tmp_path_factory) -> relocalize.BuildReport:
    """A build without the regressor, which takes minutes by its defaults; of this file's own."""
    root = tmp_path_factory.mktemp("build") / "hall"
    shutil.copytree(built_corridor.place.root, root)
    page = root / built_corridor.page.relative_to(built_corridor.place.root)
    return replace(built_corridor, place=relocalize.open(root), page=page)


@pytest.fixture
def place(first, tmp_path) -> relocalize.Place:
    """The built Place, for a test that changes it."""
    shutil.copytree(first.place.root, tmp_path / "hall")
    return relocalize.open(tmp_path / "hall")


@pytest.fixture(scope="module")
def trained(first, tmp_path_factory) -> relocalize.Place:
    """The built Place with a regressor, trained for seconds by settings of its own."""
    root = tmp_path_factory.mktemp("trained") / "hall"
    shutil.copytree(first.place.root, root)
    relocalize.train(root, **QUICK)
    return relocalize.open(root)


def build(corridor, capsys, place: relocalize.Place, *options: str) -> tuple[int, str, str]:
    """The command on a Place that was built before: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        main(["build", str(corridor.folder / "walk.mp4"), str(place.root), *options])
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def regressor(place: relocalize.Place) -> dict:
    folder = place.localizer_dir("regressor.blocks")
    return json.loads((folder / "localizer.json").read_text(encoding="utf-8"))


def change_split(place: relocalize.Place) -> None:
    """So that what was fitted on it is out of date."""
    split = place.split("blocks")
    place.write_split(replace(split, train=split.train[:-1]))


def test_a_video_becomes_a_place_a_table_and_a_page(first, corridor):
    assert list(first.stages) == ["frames", "map", "split", "fit", "evaluate", "report"]
    assert first.map.registered == first.map.images == len(first.place.map.images)
    built = first.to_json()
    rows = built["evaluation"]["localizers"]
    assert list(rows) == ["constant", "retrieval", "structure"]
    assert rows["structure"]["failed"] == 0
    assert rows["structure"]["median_position"] < 0.02  # metres, by the true poses
    page = first.page.read_text(encoding="utf-8")
    assert page.startswith("<!")
    assert "structure" in page
    photos = sorted((corridor.folder / "visitor").glob("*.jpg"))
    found = relocalize.localize(first.place, photos)
    assert sum(one.status == "localized" for one in found) >= len(photos) / 2
    assert repr(first).startswith(f"BuildReport({first.place.root}: MapReport(")


def test_the_same_again_costs_next_to_nothing(first, corridor, capsys):
    before = first.page.stat().st_mtime_ns
    truth = str(corridor.folder / "walk_poses.txt")
    options = ("--no-train", "--truth", truth, "--json")
    code, out, _ = build(corridor, capsys, first.place, *options)
    built = json.loads(out)
    assert code == 0
    assert built["map"]["unchanged"]
    assert built["evaluation"]["localizers"] == first.to_json()["evaluation"]["localizers"]
    parts = {name: cost["cpu_s"] for name, cost in built["stages"].items() if name != "report"}
    assert sum(parts.values()) < 0.1 * sum(cost.cpu_s for cost in first.stages.values())
    assert first.page.stat().st_mtime_ns > before


def test_the_regressor_is_trained_on_the_split_alone_and_stands_in_the_table(
    trained, corridor, capsys, tmp_path
):
    shutil.copytree(trained.root, tmp_path / "hall")
    place = relocalize.open(tmp_path / "hall")
    change_split(place)
    code, out, _ = build(corridor, capsys, place, "--json", "--minutes", "3")
    built = json.loads(out)
    assert code == 0
    assert list(built["stages"]) == [
        "frames", "map", "split", "fit", "train", "evaluate", "report",
    ]  # fmt: skip
    assert list(built["evaluation"]["localizers"]) == [
        "constant", "retrieval", "structure", "regressor",
    ]  # fmt: skip
    facts = regressor(place)
    # One that was trained otherwise, by `relocalize train`, is trained so again.
    assert facts["settings"]["optimizer"]["epochs"] == 3
    assert facts["settings"]["minutes"] == 3
    assert facts["fitted_on"]["split"] == "blocks"
    assert relocalize.fitted(place, "regressor").facts.training == facts["training"]

    code, out, _ = build(corridor, capsys, place)
    assert code == 0
    assert "--localizer regressor" in out
    assert regressor(place) == facts, "it is trained already"


def test_interrupted_in_training_it_goes_on(trained, corridor, capsys, tmp_path, monkeypatch):
    shutil.copytree(trained.root, tmp_path / "hall")
    place = relocalize.open(tmp_path / "hall")
    change_split(place)
    code, out, _ = build(corridor, capsys, place, "--json")
    whole = json.loads(out)["evaluation"]["localizers"]["regressor"]
    # Out of date once more, and then back to the same split: trained from the start again.
    split = place.split("blocks")
    stored = place.localizer_dir("regressor.blocks") / "localizer.json"
    facts = json.loads(stored.read_text(encoding="utf-8"))
    stored.write_text(json.dumps({**facts, "fitted_on": {}}), encoding="utf-8")
    shutil.rmtree(place.report_dir("blocks"))
    steps, loss = [], PoseTask.loss

    def interrupted(self, epoch, number, share):
        steps.append(epoch)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return loss(self, epoch, number, share)

    with monkeypatch.context() as patched:
        patched.setattr(PoseTask, "loss", interrupted)
        code, _, err = build(corridor, capsys, place)
    assert code == 130
    assert "run the same command again to resume" in err
    assert place.split("blocks") == split
    assert not (place.report_dir("blocks") / "results.json").exists()
    code, out, _ = build(corridor, capsys, place, "--json")
    assert code == 0
    again = json.loads(out)["evaluation"]["localizers"]["regressor"]
    assert np.isclose(again["median_position"], whole["median_position"], rtol=1e-9)


def test_without_torch_one_line_names_the_extra_and_the_rest_is_done(
    place, corridor, capsys, monkeypatch
):
    monkeypatch.setattr(regression, "find_spec", lambda name: None)
    code, out, err = build(corridor, capsys, place, "--json")
    built = json.loads(out)
    assert code == 0
    assert list(built["evaluation"]["localizers"]) == ["constant", "retrieval", "structure"]
    assert "train" not in built["stages"]
    said = [line for line in err.splitlines() if "regressor" in line]
    assert len(said) == 1
    assert 'pip install "relocalize[train]"' in said[0]


def test_contradictions_are_one_line_before_any_work(place, corridor, capsys):
    for options, said in (
        (("--no-train", "--localizer", "regressor"), "exclude each other"),
        (("--minutes", "0"), "minutes is 0"),
        (("--localizer", "nonsense"), "there is no localizer 'nonsense'"),
        (("--split", "nowhere"), "no split 'nowhere'"),
        (("--scale", "a", "b", "0"), "want metres > 0"),
    ):
        code, out, err = build(corridor, capsys, place, *options)
        assert (code, out) == (1, "")
        assert said in err
        assert err.count("\n") == 1


def test_a_training_that_cannot_be_done_is_said_and_no_obstacle(
    trained, corridor, capsys, tmp_path
):
    shutil.copytree(trained.root, tmp_path / "hall")
    place = relocalize.open(tmp_path / "hall")
    stored = place.localizer_dir("regressor.blocks") / "localizer.json"
    facts = regressor(place)
    facts["settings"]["backbone"]["weights"] = "no-such-weights.pth"
    stored.write_text(json.dumps({**facts, "fitted_on": {}}), encoding="utf-8")
    code, out, err = build(corridor, capsys, place, "--json")
    assert code == 0
    assert list(json.loads(out)["evaluation"]["localizers"]) == [
        "constant", "retrieval", "structure",
    ]  # fmt: skip
    assert [line for line in err.splitlines() if "the regressor is skipped" in line]
    # The table and the page have a line in place of the row.
    code, out, _ = build(corridor, capsys, place)
    assert "regressor: no row: " in out
    page = (place.report_dir("blocks") / "index.html").read_text(encoding="utf-8")
    assert page.index("regressor: no row: ") < page.index("no-such-weights.pth")
    # Asked for by its name, it is no extra.
    assert build(corridor, capsys, place, "--localizer", "regressor")[0] == 1
