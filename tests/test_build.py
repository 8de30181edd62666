"""`relocalize build` and the regressor: trained beside the others, or skipped in one line."""

import json
import shutil
from dataclasses import replace

import pytest

from relocalize import learning, pipeline
from relocalize.cli.main import main
from relocalize.evaluation import names
from relocalize.localization import fitted
from relocalize.localization.regressor import RegressorLocalizer
from relocalize.localization.store import folder_of, store
from relocalize.mapping import MapReport
from relocalize.place import Place
from relocalize.regression.presets import preset
from relocalize.regression.settings import with_fields
from relocalize.regression.task import PoseTask
from rendered_walk import SPLIT, make_walk_place

QUICK = with_fields(
    preset("default"),
    {
        "input.width": 96,
        "input.height": 64,
        "copies": 0,
        "backbone.stages": ("group5",),
        "backbone.channels": 16,
        "head.grid": (4, 6),
        "validation_share": 0.2,
        "optimizer.epochs": 4,
        "device": "cpu",
    },
)


@pytest.fixture(scope="module")
def walk(tmp_path_factory) -> Place:
    return make_walk_place(tmp_path_factory.mktemp("walk"))


@pytest.fixture
def place(walk, tmp_path) -> Place:
    """A place of the test's own; the prepared images of tests before are taken along."""
    shutil.copytree(walk.root, tmp_path / "place")
    return Place.open(tmp_path / "place")


@pytest.fixture
def build(place, monkeypatch, capsys):
    """`relocalize build` on a Place whose frames and map are there: exit code, stdout, stderr."""
    count = len(place.map.images)
    report = MapReport(count, count, count, count, 0, 0.0, unchanged=True)
    monkeypatch.setattr(pipeline, "capture_frames", lambda *args, **options: None)
    monkeypatch.setattr(pipeline, "map_place", lambda place, settings: report)
    monkeypatch.setattr(pipeline, "preset", lambda name: QUICK if name == "default" else None)
    monkeypatch.setattr(names, "BASELINES", ("constant",))  # retrieval needs a map's features

    def run(*options, localizer="constant"):
        command = ["build", "walk.mp4", str(place.root), "--localizer", localizer, *options]
        with pytest.raises(SystemExit) as ended:
            main(command)
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return run


def stored(place):
    return json.loads(
        (folder_of(place, "regressor", place.split(SPLIT)) / "localizer.json").read_text()
    )


def test_the_regressor_is_trained_once_and_stands_in_the_table(build, place):
    code, out, _ = build("--json", "--minutes", "2")
    assert code == 0
    built = json.loads(out)
    assert list(built["stages"]) == [
        "frames", "map", "split", "fit", "train", "evaluate", "report",
    ]  # fmt: skip
    assert list(built["evaluation"]["localizers"]) == ["constant", "regressor"]
    facts = stored(place)
    assert facts["settings"]["minutes"] == 2
    # On the split's train images alone, and it is the one that a photo is localized by.
    assert facts["fitted_on"]["split"] == SPLIT
    localizer = fitted(place, "regressor")
    assert isinstance(localizer, RegressorLocalizer)
    assert localizer.facts.training == facts["training"]

    code, out, _ = build()
    assert code == 0
    assert "--localizer regressor" in out
    assert stored(place) == facts, "it is trained already"


def test_interrupted_in_training_it_goes_on(build, place, monkeypatch):
    whole = json.loads(build("--json")[1])["evaluation"]["localizers"]["regressor"]
    shutil.rmtree(folder_of(place, "regressor", place.split(SPLIT)))
    shutil.rmtree(place.report_dir(SPLIT))
    steps, loss = [], PoseTask.loss

    def interrupted(self, epoch, number, share):
        steps.append(epoch)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return loss(self, epoch, number, share)

    with monkeypatch.context() as patched:
        patched.setattr(PoseTask, "loss", interrupted)
        assert build()[0] != 0
    assert place.has_map
    assert not (place.report_dir(SPLIT) / "results.json").exists()
    code, out, _ = build("--json")
    assert code == 0
    again = json.loads(out)["evaluation"]["localizers"]["regressor"]
    assert again["median_position"] == whole["median_position"]


def test_without_torch_one_line_names_the_extra_and_the_rest_is_done(build, monkeypatch):
    monkeypatch.setattr(learning, "find_spec", lambda name: None)
    code, out, err = build("--json")
    assert code == 0
    built = json.loads(out)
    assert list(built["evaluation"]["localizers"]) == ["constant"]
    assert "train" not in built["stages"]
    said = [line for line in err.splitlines() if "regressor" in line]
    assert len(said) == 1
    assert 'pip install "relocalize[train]"' in said[0]


def test_no_train_skips_it_and_contradictions_are_one_line(build):
    built = json.loads(build("--json", "--no-train")[1])
    assert list(built["evaluation"]["localizers"]) == ["constant"]
    code, _, err = build("--no-train", localizer="regressor")
    assert code == 1
    assert "exclude each other" in err
    code, _, err = build("--minutes", "0")
    assert code == 1
    assert "minutes is 0" in err


def test_a_training_that_cannot_be_done_is_said_and_no_obstacle(build, monkeypatch):
    few = with_fields(QUICK, {"backbone.weights": "no-such-weights.pth"})
    monkeypatch.setattr(pipeline, "preset", lambda name: few)
    code, out, err = build("--json")
    assert code == 0
    assert list(json.loads(out)["evaluation"]["localizers"]) == ["constant"]
    assert [line for line in err.splitlines() if "the regressor is skipped" in line]
    # Asked for by its name, it is no extra.
    assert build(localizer="regressor")[0] == 1


def test_one_that_was_trained_otherwise_is_trained_so_again(build, place):
    split = place.split(SPLIT)
    folder = folder_of(place, "regressor", split)
    other = replace(QUICK, seed=9)
    store(place, folder, split, lambda: RegressorLocalizer.fit(place, split, settings=other))
    names = place.split(SPLIT).train
    place.write_split(replace(split, train=names[:-1]))
    assert build("--minutes", "3")[0] == 0
    assert stored(place)["settings"]["seed"] == 9
    assert stored(place)["settings"]["minutes"] == 3
