"""`relocalize split`: each rule on a Place, and one line where it makes no sense."""

import json

import pytest

from numbers_place import make_numbers_place, poses_of_a_walk
from relocalize.cli.main import main
from relocalize.place import Frame, Place


@pytest.fixture
def place(tmp_path):
    """Two captures of 40 images each."""
    return make_numbers_place(
        tmp_path / "place",
        poses_of_a_walk(80),
        frame=Frame(up="z", unit="metre"),
        captures=("walk", "again"),
    )


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["split", *map(str, arguments)])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


@pytest.mark.parametrize("rule", ["blocks", "later", "area", "random"])
def test_each_rule_makes_a_split_with_both_sides(place, capsys, rule):
    code, out, _ = run(capsys, place.root, "--rule", rule, "--json")
    facts = json.loads(out)
    split = place.split(rule)
    assert code == 0
    assert (facts["train"], facts["test"]) == (len(split.train), len(split.test))
    assert facts["train"] + facts["test"] + facts["neither"] == 80
    assert split.rule == rule
    assert facts["nearest_train_view"]["median_distance"] > 0
    assert facts["nearest_train_view"]["median_seconds"] > 0.05
    if rule == "later":
        assert {name.split("/")[0] for name in split.test} == {"walk", "again"}


def test_captures_are_tested_whole(place, capsys):
    code, out, _ = run(capsys, place.root, "--rule", "captures", "--test", "again")
    assert code == 0
    assert "split captures (rule captures): 40 train, 40 test, 0 on neither side" in out
    assert all(name.startswith("again/") for name in place.split("captures").test)


def test_a_random_split_says_why_its_numbers_are_too_good(place, capsys):
    code, _, err = run(capsys, place.root, "--rule", "random")
    assert code == 0
    assert "too good" in err
    assert "near-copies" in err
    _, _, err = run(capsys, place.root, "--rule", "blocks")
    assert "too good" not in err


def test_a_rectangle_of_floor_is_held_out(place, capsys):
    code, _, _ = run(capsys, place.root, "--rule", "area", "--area", -3, 1, 3, 3, "--name", "north")
    posed = place.map.images
    split = place.split("north")
    assert code == 0
    north = {name for name, i in posed.items() if i.world_from_cam.translation[1] >= 1}
    assert set(split.test) == north
    assert all(posed[name].world_from_cam.translation[1] < 1 for name in split.train)


def test_without_up_a_region_is_found_and_a_rectangle_refused(tmp_path, capsys):
    place = make_numbers_place(tmp_path / "place", poses_of_a_walk(60))
    assert run(capsys, place.root, "--rule", "area")[0] == 0
    code, _, err = run(capsys, place.root, "--rule", "area", "--area", 0, 0, 1, 1, "--name", "b")
    assert code == 1
    assert "which way is up" in err


def test_a_split_is_replaced_only_where_asked(place, capsys):
    assert run(capsys, place.root, "--rule", "blocks")[0] == 0
    assert run(capsys, place.root, "--rule", "blocks")[0] == 0  # the same again
    code, _, err = run(capsys, place.root, "--rule", "blocks", "--every", 3)
    assert code == 1
    assert "--replace" in err
    assert run(capsys, place.root, "--rule", "blocks", "--every", 3, "--replace")[0] == 0
    assert place.split("blocks").settings["walks"][0]["every"] == 3


def test_a_capture_that_is_too_short_is_on_neither_side(tmp_path, capsys):
    place = make_numbers_place(tmp_path / "place", poses_of_a_walk(60), captures=("a",))
    both = make_numbers_place(tmp_path / "b", poses_of_a_walk(26), captures=("a", "b"))
    assert run(capsys, place.root, "--rule", "blocks", "--capture", "a")[0] == 0
    code, _, err = run(capsys, both.root, "--rule", "blocks")
    assert code == 1
    assert "at least 16 posed images" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rule", "captures"], "none given"),
        (["--rule", "captures", "--test", "nowhere"], "nowhere"),
        (["--rule", "blocks", "--capture", "nowhere"], "no capture 'nowhere'"),
        (["--rule", "later", "--share", "1.5"], "share of 1.5"),
        (["--rule", "blocks", "--test", "walk"], "for rule captures"),
        (["--rule", "later", "--area", "0", "0", "1", "1"], "for rule area"),
        (["--rule", "blocks", "--every", "1"], "no test set"),
        (["--rule", "blocks", "--blocks", "1"], "1 blocks, of which one of 4 tests; want 4"),
        (["--rule", "blocks", "--share", "0.5"], "--share is for rule later, area, random;"),
        (["--rule", "later", "--blocks", "8"], "--blocks is for rule blocks"),
        (["--rule", "random", "--gap", "5"], "--gap is for rule"),
        (["--rule", "later", "--seed", "1"], "--seed is for rule random"),
        (["--rule", "later", "--gap", "-2"], "a gap of -2 images"),
        (["--rule", "later", "--share", "0.999"], "0 train images of"),
        (["--rule", "later", "--share", "1e-6"], "0 test and"),
        (["--rule", "captures", "--test", "walk", "again"], "0 train images of"),
        (["--rule", "area", "--area", "90", "90", "91", "91"], "x 90 to 91, y 90 to 91; they were"),
        (["--rule", "area", "--area", "0", "0", "1", "1", "--share", "0.2"], "exclude each other"),
        (["--rule", "blocks", "--name", "../x"], "cannot name a split"),
    ],
)
def test_what_makes_no_sense_is_one_line(place, capsys, arguments, said):
    code, out, err = run(capsys, place.root, *arguments)
    assert (code, out) == (1, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert place.split_names == []


def test_a_place_without_a_map_says_what_to_do(tmp_path, capsys):
    Place.create(tmp_path / "empty")
    code, _, err = run(capsys, tmp_path / "empty", "--rule", "blocks")
    assert code == 1
    assert "relocalize map" in err
