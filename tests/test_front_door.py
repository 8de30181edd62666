"""`import relocalize`: every verb as a function, from a walk's video to a photo's pose."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import relocalize
from relocalize.cli.main import main

pytestmark = pytest.mark.slow
VERBS = (
    "open", "build", "frames", "import_poses", "map", "merge", "register", "split", "train",
    "localize", "localize_video", "evaluate", "report", "check", "align", "score", "export",
)  # fmt: skip
HEAVY = {
    "av", "cv2", "matplotlib", "msgspec", "numpy", "plotly", "poselib", "pycolmap", "rich",
    "scipy", "torch", "tyro",
}  # fmt: skip
QUICK = {
    "copies": 0, "validation_share": 0.2, "device": "cpu", "input.width": 128, "input.height": 96,
    "backbone.stages": ("group5",), "backbone.channels": 16, "optimizer.epochs": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def walked(corridor_place, tmp_path_factory) -> relocalize.Place:
    """A Place of this file's own: the walk, mapped, with a split."""
    root = tmp_path_factory.mktemp("front") / "hall"
    shutil.copytree(corridor_place.root, root)
    place = relocalize.open(root)
    relocalize.split(place, "blocks")
    return place


@pytest.fixture(scope="module")
def trained(walked) -> relocalize.Place:
    relocalize.train(walked, name="quick", **QUICK)
    return walked


@pytest.fixture(scope="module")
def evaluated(trained, corridor):
    return relocalize.evaluate(trained, truth=corridor.folder / "walk_poses.txt")


@pytest.fixture
def copy(walked, tmp_path) -> relocalize.Place:
    """For a test that changes it."""
    shutil.copytree(walked.root, tmp_path / "hall")
    return relocalize.open(tmp_path / "hall")


def photos(corridor) -> list[Path]:
    return sorted((corridor.folder / "visitor").glob("*.jpg"))


def imported_by(*arguments: str | Path) -> set[str]:
    """Top-level packages that a fresh process imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


# -- what the package offers ---------------------------------------------------------------


def test_every_verb_is_a_function_with_types_and_words_in_any_order_of_imports():
    for _, name, _ in pkgutil.walk_packages(relocalize.__path__, "relocalize."):
        assert name.rpartition(".")[0] != "relocalize" or name.split(".")[1] not in VERBS
    for verb in VERBS:
        found = getattr(relocalize, verb)
        assert inspect.isfunction(found), verb
        assert found.__doc__, verb
        hints = inspect.get_annotations(found)
        assert set(hints) == {*inspect.signature(found).parameters, "return"}, verb
    after = "import inspect, relocalize\nassert all(map(inspect.isfunction, ["
    after += ", ".join(f"relocalize.{verb}" for verb in VERBS) + "]))"
    modules = sorted({getattr(relocalize, verb).__module__ for verb in VERBS})
    subprocess.run([sys.executable, "-c", f"import {', '.join(modules)}\n{after}"], check=True)


def test_type_checkers_see_the_names_that_are_loaded():
    tree = ast.parse(Path(relocalize.__file__).read_text(encoding="utf-8"))
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == relocalize._MODULES
    assert {*seen, "__version__"} == set(relocalize.__all__) == set(dir(relocalize))
    assert {*VERBS} < {*seen}
    with pytest.raises(AttributeError, match="'relocalize' has no attribute 'relocalise'"):
        relocalize.relocalise  # noqa: B018


def test_the_import_loads_nothing_before_it_is_used():
    assert not imported_by("-c", "import relocalize") & HEAVY


def test_localizing_a_photo_loads_what_it_needs_alone(walked, corridor):
    relocalize.localize(walked, photos(corridor)[0])  # fitted now
    loaded = imported_by("-m", "relocalize", "localize", walked.root, photos(corridor)[0])
    assert loaded & HEAVY <= {"cv2", "msgspec", "numpy", "poselib", "pycolmap", "tyro"}


# -- the main job --------------------------------------------------------------------------


def test_frames_are_sharp_spaced_and_taken_once(copy, corridor):
    again = relocalize.frames(corridor.folder / "walk.mp4", copy)
    facts = again.to_json()
    assert facts["frames_in_source"] == len(corridor.walk_poses)
    assert 20 <= facts["images"] == len(again.capture.images) < len(corridor.walk_poses) / 2
    assert facts["images"] + sum(facts["left_out"].values()) == facts["frames_in_source"]
    assert Path(facts["contact_sheet"]).is_file()
    every = relocalize.frames(corridor.folder / "walk.mp4", copy, capture="again", every=1.0)
    assert len(every.capture.images) == pytest.approx(facts["seconds"], abs=1)
    with pytest.raises(relocalize.RelocalizeError, match="exclude each other"):
        relocalize.frames(corridor.folder / "walk.mp4", copy, capture="x", every=1.0, count=9)


def test_the_map_has_every_image_and_is_not_made_twice(walked):
    report = relocalize.map(walked)
    assert report.unchanged
    assert report.registered == report.images == len(walked.map.images)
    assert report.points == len(walked.points) > 500
    assert walked.frame.up == "z"


def test_a_measured_length_makes_the_map_metric(copy, corridor):
    first, last = sorted(copy.map.images)[:: len(copy.map.images) - 1]
    centres = [
        corridor.walk_poses[name.partition("/")[2]].inverse().translation for name in (first, last)
    ]
    metres = float(np.linalg.norm(centres[0] - centres[1]))
    relocalize.map(copy, scale=[(first, last, metres)])
    assert copy.unit == "metre"
    away = [copy.map.images[name].world_from_cam.translation for name in (first, last)]
    assert np.linalg.norm(away[0] - away[1]) == pytest.approx(metres, rel=1e-6)


def test_a_split_leaves_a_gap_and_a_rule_reads_its_options_alone(copy):
    made = relocalize.split(copy, "later", share=0.25, gap=2)
    assert relocalize.open(copy.root).split("later") == made.split
    assert made.neither == len(copy.map.images) - len(made.split.train) - len(made.split.test) >= 2
    assert max(made.split.train) < min(made.split.test)
    assert made.nearest_train_view["median_distance"] > 0
    with pytest.raises(relocalize.RelocalizeError, match="has no use for it"):
        relocalize.split(copy, "later", blocks=8)


def test_training_stores_what_it_says_and_is_done_the_second_time(trained):
    report = relocalize.train(trained, name="quick", **QUICK)
    stored = json.loads((report.folder / "localizer.json").read_text(encoding="utf-8"))
    assert (report.name, report.split) == ("quick", "blocks")
    assert report.to_json()["settings"] == stored["settings"]
    assert report.settings.optimizer.epochs == 3
    assert report.validation == stored["validation"]
    stamp = (report.folder / "localizer.json").stat().st_mtime_ns
    relocalize.train(trained, name="quick", preset=report.settings)
    assert (report.folder / "localizer.json").stat().st_mtime_ns == stamp
    with pytest.raises(relocalize.RelocalizeError, match=r"no setting 'optimizer\.epoch'"):
        relocalize.train(trained, name="quick", **{"optimizer.epoch": 3})


def test_an_evaluation_has_its_baselines_and_measures_against_the_truth(evaluated, trained):
    found = evaluated.to_json()
    rows = found["localizers"]
    assert list(rows) == ["constant", "retrieval", "structure", "quick"]
    assert rows["structure"]["failed"] == 0
    assert rows["structure"]["median_position"] < 0.02  # metres
    assert rows["structure"]["median_rotation_deg"] < 0.3
    assert rows["constant"]["median_position"] > 0.5
    assert found["unit"] == "metre"
    images = json.loads((trained.report_dir("blocks") / "results.json").read_text())["per_image"]
    assert len(images) == found["images"]["test"] > 0


def test_a_report_is_one_page_with_tables_and_figures_for_papers(evaluated, trained, tmp_path):
    written = relocalize.report(trained, figures=tmp_path / "figures")
    page = written.page.read_text(encoding="utf-8")
    assert 'src="http' not in page
    assert "quick" in page
    assert {path.suffix for path in written.figures} == {".png", ".svg"}
    assert all(path.is_file() for path in written.figures)
    assert r"\toprule" in written.latex
    assert "| structure" in written.markdown
    with pytest.raises(relocalize.RelocalizeError, match="make one with: relocalize evaluate"):
        relocalize.report(trained, split="later")


# -- localizing ----------------------------------------------------------------------------


def same(a: relocalize.PoseEstimate, b: relocalize.PoseEstimate) -> bool:
    if a.world_from_cam is None or b.world_from_cam is None:
        return a.reason == b.reason
    return bool(np.abs(a.world_from_cam.matrix - b.world_from_cam.matrix).max() < 1e-9)


def test_a_path_pixels_and_a_query_are_the_same_photo(walked, corridor):
    path = photos(corridor)[1]
    pixels = np.asarray(Image.open(path).convert("RGB"))
    by_path = relocalize.localize(walked, path)
    assert by_path.status == "localized"
    assert same(by_path, relocalize.localize(walked.root, str(path)))
    assert same(by_path, relocalize.localize(walked, pixels))
    assert same(by_path, relocalize.localize(walked, relocalize.Query.of(path)))
    assert same(by_path, relocalize.fitted(walked, "structure").localize(path))


@pytest.mark.parametrize("together", [True, False])
def test_python_and_the_command_line_give_the_same_poses(walked, corridor, capsys, together):
    found = relocalize.localize(walked, photos(corridor), together=together)
    folder = str(corridor.folder / "visitor")
    flags = [] if together else ["--one-by-one"]
    with pytest.raises(SystemExit):
        main(["localize", str(walked.root), folder, "--json", *flags])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == [str(path) for path in photos(corridor)]
    for line, estimate in zip(lines, found, strict=True):
        said = estimate.to_json()
        assert line["status"] == said["status"]
        if said["position"] is not None:
            assert np.allclose(line["world_from_cam"], said["world_from_cam"], rtol=0, atol=1e-9)
    alone = [relocalize.localize(walked, path) for path in photos(corridor)]
    assert all(map(same, found, alone)) == (not together)


def test_what_cannot_be_localized_has_a_reason(walked, corridor, tmp_path):
    black = np.zeros((360, 480, 3), np.uint8)
    estimate = relocalize.localize(walked, black)
    assert estimate.status == "failed"
    assert "black" in (estimate.reason or "")
    assert repr(estimate).startswith("PoseEstimate(failed: hardly any features")
    nowhere = tmp_path / "nowhere.jpg"
    one, gone = relocalize.localize(walked, [photos(corridor)[0], nowhere])
    assert one.status == "localized"
    assert "does not exist" in (gone.reason or "")
    with pytest.raises(relocalize.RelocalizeError, match="does not exist"):
        relocalize.localize(walked, nowhere)


@pytest.mark.parametrize("localizer", ["constant", "retrieval", "quick"])
def test_any_localizer_is_asked_in_the_same_way(trained, corridor, localizer):
    found = relocalize.localize(trained, photos(corridor), localizer=localizer)
    assert len(found) == len(photos(corridor))
    assert all(one.status == "localized" or one.reason for one in found)
    on_split = relocalize.localize(
        trained, photos(corridor)[0], localizer=localizer, split="blocks"
    )
    assert on_split.unit == trained.unit


def test_a_video_becomes_a_trajectory(walked, corridor, tmp_path):
    video = corridor.folder / "walk.mp4"
    clip = relocalize.localize_video(walked, video, every=12, out=tmp_path / "out", overlay=False)
    assert len(clip.poses) == -(-len(corridor.walk_poses) // 12)
    assert clip.counts["localized"] > 0.8 * len(clip.poses)
    assert {Path(path).suffix for path in clip.to_json()["files"].values()} == {".txt", ".jsonl"}


# -- more images, other tools --------------------------------------------------------------


def test_photos_are_registered_and_the_map_does_not_move(copy, corridor):
    before = copy.map.images
    report = relocalize.register(copy, corridor.folder / "visitor", capture="visitor")
    assert sum(photo.registered for photo in report.photos) >= 4
    for name, image in before.items():
        assert np.array_equal(
            image.world_from_cam.matrix, copy.map.images[name].world_from_cam.matrix
        )
    assert relocalize.register(copy, capture="visitor").posed == report.posed


def test_poses_of_another_tool_are_checked_and_imported_as_they_were_meant(
    walked, corridor, tmp_path
):
    images = walked.images_dir / "walk"
    rows = [line.split() for line in (corridor.folder / "walk_poses.txt").read_text().splitlines()]
    other = tmp_path / "other_tool.txt"  # w at the end of the quaternion
    other.write_text(
        "".join(" ".join([n, x, y, z, w, *rest]) + "\n" for n, w, x, y, z, *rest in rows)
    )
    found = relocalize.check(other, images=images)
    assert not found.consistent
    assert relocalize.check(corridor.folder / "walk_poses.txt", images=images).consistent
    report = relocalize.import_poses(other, tmp_path / "posed", images=images)
    place = relocalize.open(tmp_path / "posed")
    assert report.posed == len(place.map.images) == len(walked.map.images)
    for name, image in place.map.images.items():
        true = corridor.walk_poses[name.partition("/")[2]].inverse()
        assert np.abs(image.world_from_cam.translation - true.translation).max() < 1e-5


def test_a_place_is_moved_onto_the_truth_and_scored_against_it(copy, corridor, tmp_path):
    rows = (corridor.folder / "walk_poses.txt").read_text().splitlines(keepends=True)
    posed = {name.partition("/")[2] for name in copy.map.images}
    truth = tmp_path / "truth.txt"
    truth.write_text("".join(row for row in rows if row.split()[0] in posed))
    laid_over = relocalize.score(copy.root, truth, align=True).to_json()
    assert laid_over["median_position"] < 0.02  # metres
    found = relocalize.align(copy, truth, apply=True)
    assert found.to_json()["residual_median"] < 0.02
    assert copy.unit == "metre"
    moved = relocalize.score(copy.root, truth).to_json()
    assert moved["failed"] == laid_over["failed"] == 0
    assert moved["median_position"] < 0.02
    exported = relocalize.export(copy, tmp_path / "splat", format="nerfstudio", split="none")
    assert exported.images == len(copy.map.images)
    again = relocalize.score(tmp_path / "splat", truth).to_json()
    assert again["median_position"] == pytest.approx(moved["median_position"], abs=1e-4)


# -- results -------------------------------------------------------------------------------


def test_results_are_frozen_and_print_as_json_and_in_a_line(evaluated, trained, corridor, tmp_path):
    results = [
        relocalize.frames(corridor.folder / "walk.mp4", trained),
        relocalize.map(trained),
        relocalize.split(trained, "blocks"),
        relocalize.train(trained, name="quick", **QUICK),
        evaluated,
        relocalize.report(trained),
        relocalize.localize(trained, photos(corridor)[0]),
        relocalize.score(trained.root, corridor.folder / "walk_poses.txt", align=True),
        relocalize.check(trained, quick=True),
        relocalize.align(trained, corridor.folder / "walk_poses.txt"),
        relocalize.export(trained, tmp_path / "out.txt", format="tum"),
    ]
    for result in results:
        assert dataclasses.is_dataclass(result)
        assert json.loads(json.dumps(result.to_json(), allow_nan=False))
        assert "\n" not in repr(result)
        assert len(repr(result)) < 300, repr(result)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(result, dataclasses.fields(result)[0].name, None)


def test_notebooks_show_the_map_from_above(walked, corridor, tmp_path):
    place_shown = walked._repr_html_()
    assert f"{len(walked.map.images)} posed images" in place_shown
    assert len(place_shown) < 60_000
    estimate = relocalize.localize(walked, photos(corridor)[0])
    shown = estimate._repr_html_()
    assert len(shown) > len(place_shown)  # the same, and the camera in it
    assert repr(estimate) in shown
    assert relocalize.localize(walked, np.zeros((90, 90, 3), np.uint8))._repr_html_() is None
    assert relocalize.Place.create(tmp_path / "empty")._repr_html_() is None
    assert repr(walked) == f"Place({str(walked.root)!r})"


def test_a_folder_that_is_no_place_says_what_to_do(tmp_path):
    with pytest.raises(relocalize.RelocalizeError, match="relocalize frames VIDEO PLACE"):
        relocalize.open(tmp_path)
    for verb in (relocalize.map, relocalize.evaluate, relocalize.report, relocalize.train):
        with pytest.raises(relocalize.RelocalizeError, match="is no Place"):
            verb(tmp_path)
