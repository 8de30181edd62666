"""The report: one page that needs nothing else, and says what the results say."""

import html
import json
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from relocalize.cli.main import main
from relocalize.errors import RelocalizeError
from relocalize.evaluation.report import (
    Results,
    facts,
    latex_table,
    markdown_table,
    write_report,
)
from relocalize.evaluation.report.paper_figures import write_figures
from relocalize.evaluation.report.tables import accuracy_table
from relocalize.evaluation.report.thumbnails import thumbnails
from relocalize.evaluation.table import degrees, length, percent
from relocalize.place import MapModel, Place, Points
from relocalize.place.model import NO_POINT
from reported_place import COUNT, REASON, Never, evaluated_place, results_of, write_results


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """An evaluated Place; tests that change it copy it."""
    return evaluated_place(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture(scope="module")
def page(evaluated):
    return write_report(evaluated).read_text()


@pytest.fixture
def copied(evaluated, tmp_path):
    shutil.copytree(evaluated.root, tmp_path / "copy")
    return Place.open(tmp_path / "copy")


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", *map(str, arguments)])
    assert ended.value.code == 0


def data_of(page: str, name: str) -> dict:
    return json.loads(
        re.search(rf'<script id="{name}" type="application/json">(.*?)</script>', page).group(1)
    )


def rows_of_table(page: str) -> dict[str, list[str]]:
    """The accuracy table's numbers by localizer, without intervals."""
    table = re.search(r'<table id="accuracy">.*?</table>', page, re.DOTALL).group(0)
    rows = re.findall(r'<th scope="row"><svg.*?</svg>(.*?)</th>(.*?)</tr>', table, re.DOTALL)
    return {html.unescape(name): re.findall(r"<span>(.*?)</span>", cells) for name, cells in rows}


# -- the page ---------------------------------------------------------------------------------


def test_the_page_stands_alone_and_is_small(evaluated):
    path = write_report(evaluated)
    page = path.read_text()
    assert path == evaluated.report_dir("odd") / "index.html"
    assert path.stat().st_size < 6e6
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # plotly names its makers
    assert not re.search(r"""(src|href)=["'](?!data:)""", own)
    assert "url(" not in own
    assert "@import" not in own
    assert "default-src 'none'" in own
    assert "prefers-color-scheme" in own


def test_the_table_has_the_numbers_of_evaluate_json(copied, capsys):
    run(copied.root)
    results = results_of(copied)
    rows = rows_of_table(Path(capsys.readouterr().out.strip()).read_text())
    assert list(rows) == list(results["localizers"]) == ["constant", "retrieval", "structure"]
    for name, cells in rows.items():
        row = results["localizers"][name]
        assert cells == [
            str(row["failed"]),
            length(row["median_position"], metric=True),
            degrees(row["median_rotation_deg"]),
            *(percent(share) for share in row["recall"].values()),
            *(f"{row[key]:.0f}" for key in ("ms_median", "ms_p95", "cpu_ms_median")),
        ]
    assert rows["structure"][:3] == ["3", "3.00", "2.00"]


def test_the_page_says_what_was_measured_and_how(evaluated, page):
    results = results_of(evaluated)
    assert re.search(r"<b>3\.00 <small>cm</small></b><span>median position error", page)
    assert "<b>3 <small>of 10</small></b><span>not localized" in page
    for said in (results["truth"], results["truth_exactness"], results["made"]["finished"]):
        assert said in html.unescape(page)
    assert re.search(r"<dt>settings\.seed</dt><dd>7</dd>", page)  # of a localizer's settings
    assert re.search(r"<dt>settings\.nest\.a</dt><dd>\[1, 2\]</dd>", page)
    assert f"numpy {np.__version__}" in page
    assert "training of structure 7" in page
    assert "structure 4 epochs of 8 images in 1.5 minutes on cpu" in page


def test_what_structure_reaches_is_said_first_beside_another_localizer(evaluated):
    raw = results_of(evaluated)
    raw["localizers"]["regressor"] = raw["localizers"]["structure"] | {"median_position": 0.5}
    said = facts.summary(Results(evaluated.root / "results.json", raw))
    assert "localized by regressor to within 50.0 cm" in said
    assert "Matching with the map’s points (structure) reaches 3.00 cm." in said
    assert "Matching" not in facts.summary(Results.read(evaluated))
    assert "best of" not in said
    raw["localizers"]["worse"] = raw["localizers"]["structure"] | {"median_position": 9.0}
    several = facts.summary(Results(evaluated.root / "results.json", raw))
    assert ", the best of 2 on these photos, to within" in several


def test_names_and_reasons_cannot_inject_html(page):
    assert REASON not in re.sub(r"<script .*?</script>", "", page)
    assert html.escape(REASON) in page
    assert "<h1>a &amp; b</h1>" in page


def test_the_map_shows_every_estimate_where_it_is(page):
    figure = data_of(page, "figures")["map"]
    traces = {(trace["name"], trace.get("meta")): trace for trace in figure["data"]}
    assert len(traces["test views", None]["x"]) == 10
    assert len(traces["train views", None]["x"]) == 10
    assert len(traces["failed", "structure"]["x"]) == 3
    drawn = traces["arrows", "structure"]
    arrows = np.array(
        [(x, y) for x, y in zip(drawn["x"], drawn["y"], strict=True) if x is not None]
    ).reshape(-1, 2, 2)
    assert len(arrows) == 7  # those that did not fail
    lengths = np.linalg.norm(arrows[:, 1] - arrows[:, 0], axis=1)
    np.testing.assert_allclose(lengths, 0.03, atol=2e-4)


def test_the_photos_rings_are_where_true_points_are_and_dots_where_estimates_put_them(page):
    svgs = re.findall(r'<svg viewBox="0 0 520 390" role="img".*?</svg>', page, flags=re.DOTALL)
    assert len(svgs) == 6
    lines = [
        [float(v) for v in found]
        for svg in svgs
        for found in re.findall(r'd="M(\S+) (\S+)L(\S+) (\S+)"', svg)
    ]
    assert lines
    # 520 px wide thumbnails of 64 px photos: 3 cm and 2 degrees at 2 m are about
    # (0.03 / 2 + tan 2 deg) * 60 px * 8.1 = 24 px to the left, a little more at the borders.
    shift = np.array(lines)[:, 0] - np.array(lines)[:, 2]
    assert 20 < np.median(np.abs(shift)) < 30


def test_error_curves_end_at_the_share_that_did_not_fail(page):
    curve = data_of(page, "figures")["positions"]["data"][-1]
    assert curve["y"][-1] == pytest.approx(70)
    assert min(curve["x"]) == pytest.approx(3)
    assert curve["y"][0] == 0


def test_errors_are_shown_against_the_distance_to_the_nearest_train_view(page):
    figure = data_of(page, "figures")["near-positions"]
    dots, crosses, medians = (t for t in figure["data"] if t.get("meta") == "structure")
    for trace in dots, crosses:
        np.testing.assert_allclose(trace["x"], 100 * np.hypot(0.1, 0.01), rtol=1e-3)
    assert (dots["marker"]["symbol"], crosses["marker"]["symbol"]) == ("circle", "x")
    assert len(crosses["y"]) == 3
    assert sorted(dots["customdata"] + crosses["customdata"]) == list(range(COUNT // 2))
    np.testing.assert_allclose(dots["y"], 3.0, rtol=1e-3)
    assert min(crosses["y"]) > 3.1
    assert medians["y"] == pytest.approx([3.0])


def test_coverage_is_that_of_the_errors_in_their_sigmas(evaluated, page):
    # 3 cm where each axis has a sigma of 2 cm is 1.5 sigma, within which lie 48% of all.
    for row in results_of(evaluated)["per_image"]:
        found = row["localizers"]["structure"]
        if found["status"] == "localized":
            assert found["position_error_sigmas"] == pytest.approx(1.5)
            assert found["rotation_error_sigmas"] == pytest.approx(1.0)
    curve = data_of(page, "figures")["sure-positions"]["data"][-1]
    by_expected = dict(zip(curve["x"], curve["y"], strict=True))
    assert (by_expected[40], by_expected[50]) == (0, 100)
    assert "Expected 95.5 %, observed: constant 100 % of positions and 100 % of rotations" in page


def test_learning_curves_are_those_of_the_training(page):
    figures = data_of(page, "figures")
    curve, kept = figures["learning-validation_position"]["data"]
    assert curve["x"] == [1, 3, 4]  # one of the second epoch is not there
    assert curve["y"] == pytest.approx([10, 3.333, 2.5])
    assert kept["x"] == [3]
    assert figures["learning-train_loss"]["data"][0]["y"] == pytest.approx([0.5, 0, -0.1667, -0.25])


def test_colours_of_a_localizer_are_the_same_in_every_figure(page):
    figures = data_of(page, "figures")
    colors = {
        trace["line"]["color"]
        for figure in figures.values()
        for trace in figure["data"]
        if trace.get("meta") == "structure" and "line" in trace and "color" in trace["line"]
    }
    assert len(colors) == 1
    assert data_of(page, "images")["localizers"][-1] == {"name": "structure", "color": colors.pop()}


def test_eighteen_localizers_are_drawn_apart_and_baselines_alike_on_every_page():
    names = ["constant", "retrieval", "structure", *(f"posenet-seed{i}" for i in range(15))]

    def lines_of(names):
        rows = {name: {"median_position": float(i)} for i, name in enumerate(names)}
        return Results(Path("results.json"), {"localizers": rows}).lines

    lines = lines_of(names)
    assert list(lines) == names and len(set(lines.values())) == len(names)
    alone = lines_of(["structure", "posenet-seed0"])
    assert {name: lines[name] for name in alone} == alone


def test_of_many_localizers_the_best_is_the_lead_and_the_best_five_are_shown_at_first():
    medians = {"constant": 1.0, "retrieval": 0.3, "structure": 0.01}
    medians |= {f"tried-{i}": None if i == 0 else 0.1 * (8 - i) for i in range(8)}
    rows = {name: {"median_position": median} for name, median in medians.items()}
    results = Results(Path("results.json"), {"localizers": rows})
    assert results.lead == "tried-7"
    best = [f"tried-{i}" for i in range(3, 8)]
    assert results.foremost == ["constant", "retrieval", "structure", *best]
    assert len({results.lines[name].color for name in results.foremost}) == 8
    assert list(results.lines) == results.names


def test_another_split_stands_beside_this_one(copied):
    results = results_of(copied)
    other = {name: dict(row) for name, row in results["localizers"].items()}
    other["structure"] |= {"median_position": 0.0123}
    results["beside"] = {
        "split": "random",
        "rule": "random",
        "nearest_train_view": {"median_distance": 0.005, "median_angle_deg": 0.4},
        "localizers": {"structure": other["structure"]},
    }
    write_results(copied, results)
    page = write_report(copied).read_text()
    beside = page[page.index("<h3>For comparison: split random</h3>") :]
    beside = beside[: beside.index("</table>")]
    assert "0.50 cm and 0.40° away" in beside
    row = re.search(r'<th scope="row">structure</th>(.*?)</tr>', beside).group(1)
    assert re.findall(r"<span>(.*?)</span>", row)[::3] == ["3.00", "1.23"]


# -- for papers -------------------------------------------------------------------------------


def test_tables_for_papers_have_the_same_numbers(evaluated):
    results = Results.read(evaluated)
    table = accuracy_table(results)
    markdown, latex = markdown_table(results), latex_table(results)
    for name, cells in table.rows:
        row = next(line for line in markdown.splitlines() if line.startswith(f"| {name} "))
        written = [cell.split(" (")[0].rstrip("†") for cell in row.strip("| ").split(" | ")[1:]]
        assert written == [cell.text for cell in cells]
        row = next(line for line in latex.splitlines() if line.strip().startswith(f"{name} &"))
        written = [cell.strip(" \\") for cell in row.split(" & ")[1:]]
        assert written == [cell.text.replace("–", "--") for cell in cells]
    assert latex.count("{") == latex.count("}")
    assert r"\%" in latex
    assert not re.search(r"(?<!\\)[%_#]", latex)


def test_the_command_prints_the_page_or_a_table(copied, capsys):
    run(copied.root, "--markdown")
    assert capsys.readouterr().out.startswith("| localizer |")
    run(copied.root, "--latex")
    assert capsys.readouterr().out.startswith(r"\begin{table*}")
    with pytest.raises(SystemExit) as ended:
        main(["report", str(copied.root), "--latex", "--markdown"])
    assert ended.value.code == 1
    assert "give one of them" in capsys.readouterr().err


def test_figures_for_papers_are_png_and_svg_with_their_text(copied, tmp_path, capsys):
    folder = tmp_path / "figures"
    run(copied.root, "--figures", folder)
    names = {"from_above", "errors", "leakage", "calibration", "learning"}
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("png", "svg")
    }
    for name in names:
        with Image.open(folder / f"{name}.png") as image:
            assert image.size[0] > 1000
    texts = (folder / "errors.svg").read_text()
    assert "position error, cm" in texts
    assert "rotation error, °" in texts
    assert all(f">{name}<" in texts for name in ("constant", "retrieval", "structure"))


def test_of_many_localizers_papers_show_the_foremost_with_their_names_in_the_figure(
    copied, tmp_path
):
    names = [f"a-regressor-with-a-long-name-{i}" for i in range(12)]
    write_results(copied, with_copies(results_of(copied), "structure", names))
    results = Results.read(copied)
    assert len(results.foremost) == 8
    write_figures(copied, results, tmp_path)
    root = ElementTree.parse(tmp_path / "errors.svg").getroot()
    width = float(root.attrib["viewBox"].split()[2])
    named = {}
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        name = "".join(text.itertext())
        if name in results.names:
            x = float(text.attrib["x"])
            size = float(re.search(r"font-size: ([\d.]+)px", text.attrib["style"]).group(1))
            named[name] = (x, x + 0.65 * size * len(name))
    assert list(named) == results.foremost
    assert all(low >= 0 and high <= width for low, high in named.values())


def test_open_shows_the_page(copied, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("webbrowser.open", lambda address: shown.append(address) or True)
    run(copied.root, "--open")
    assert shown == [(copied.report_dir("odd") / "index.html").resolve().as_uri()]


# -- degenerate -------------------------------------------------------------------------------


def test_a_place_without_an_evaluation_says_what_to_do(evaluated, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["report", str(Place.create(tmp_path / "empty").root)])
    assert ended.value.code == 1
    assert "relocalize evaluate" in capsys.readouterr().err
    with pytest.raises(RelocalizeError, match="odd"):
        write_report(evaluated, "even")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: {"split": "odd", "unit": "metre"}, "schema None"),
        (lambda r: r | {"localizers": {}}, "no localizer"),
        (lambda r: r | {"per_image": []}, "no image"),
        (lambda r: r | {"extent": float("nan")}, "not finite"),
        (lambda r: {k: v for k, v in r.items() if k != "up"}, "'up' is missing"),
        (lambda r: r | {"per_image": [1, 2]}, "damaged"),
        (lambda r: r | {"paired": 3}, "damaged"),
        (lambda r: r | {"calibration": {"structure": {"expected": "x"}}}, "damaged"),
        (lambda r: r | {"localizers": r["localizers"] | {"other": {}}}, "is missing"),
        (lambda r: r | {"per_image": [r["per_image"][0] | {"position": [1]}]}, "damaged"),
    ],
)
def test_damaged_results_are_one_line(copied, change, said):
    write_results(copied, change(results_of(copied)))
    with pytest.raises(RelocalizeError, match=said) as raised:
        write_report(copied)
    assert "relocalize evaluate" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_results_that_are_no_json_are_one_line(copied):
    (copied.report_dir("odd") / "results.json").write_text("{")
    with pytest.raises(RelocalizeError, match="damaged"):
        write_report(copied)


def test_a_place_whose_every_photo_fails_still_has_a_report(tmp_path):
    place = evaluated_place(tmp_path, Never)
    page = write_report(place).read_text()
    assert "<b>10 <small>of 10</small></b>" in page
    assert "structure failed on 10 of 10 photos" in page
    assert "None of the localizers gave an uncertainty" in page
    assert "<b>∞ <small></small></b><span>median position error, structure</span>" in page
    assert "half failed, so that the median is infinite" in page
    assert "Typical photos" not in page
    assert markdown_table(Results.read(place)).count("–") > 3
    assert data_of(page, "figures")["positions"]["data"][-1]["x"] == []


def test_one_test_image_is_enough(tmp_path):
    place = evaluated_place(tmp_path, test=slice(1, 2))
    page = write_report(place).read_text()
    assert rows_of_table(page)["structure"][:2] == ["0", "3.00"]
    assert len(data_of(page, "images")["names"]) == 1


def test_without_metres_there_are_units_and_no_recall(tmp_path):
    place = evaluated_place(tmp_path, unit=None)
    page = write_report(place).read_text()
    assert rows_of_table(page)["structure"][:3] == ["3", "0.03", "2.00"]
    assert "No recall: the unit is not known in metres." in page
    assert data_of(page, "figures")["positions"]["layout"]["xaxis"]["title"]["text"] == (
        "position error, map units"
    )
    assert " cm" not in markdown_table(Results.read(place))


def test_photos_that_are_gone_leave_the_rest_of_the_page(copied):
    for index in range(COUNT):
        copied.image_path(f"walk/frame-{index:06d}.jpg").unlink()
    page = write_report(copied).read_text()
    assert "10 of 10 photos have no image here" in page
    assert data_of(page, "images")["thumbs"] == [None] * 10


def test_a_map_without_points_is_drawn_without(copied):
    model = copied.map
    blind = {
        name: replace(image, point_rows=np.full_like(image.point_rows, NO_POINT))
        for name, image in model.images.items()
    }
    none = Points(*(getattr(model.points, field.name)[:0] for field in fields(Points)))
    MapModel(blind, none).write(copied.map_dir)
    assert data_of(write_report(copied).read_text(), "figures")["map"]["layout"]["images"] == []


# -- a thousand images ------------------------------------------------------------------------


def test_thumbnails_stay_within_their_budget(copied):
    rng = np.random.default_rng(0)
    names = [f"walk/frame-{index:06d}.jpg" for index in range(COUNT)]
    for name in names:  # noise is what compresses worst
        Image.fromarray(rng.integers(0, 255, (240, 320, 3), np.uint8)).save(
            copied.image_path(name), quality=95
        )
    large = thumbnails(copied, names, budget=3_000_000)
    small = thumbnails(copied, names, budget=60_000)
    assert all(one.startswith("data:image/webp;base64,") for one in [*large, *small])
    assert sum(map(len, large)) > 5 * sum(map(len, small))
    assert sum(map(len, small)) < 70_000
    few = thumbnails(copied, names, budget=5_000)
    assert 0 < sum(one is not None for one in few) < COUNT


@pytest.mark.slow
def with_copies(value, name, copies):
    """JSON values in which everything that localizer ``name`` has, its copies have too."""
    if isinstance(value, list):
        return [with_copies(one, name, copies) for one in value]
    if not isinstance(value, dict):
        return value
    more = {copy: value[name] for copy in copies if name in value}
    return {key: with_copies(one, name, copies) for key, one in (value | more).items()}


@pytest.mark.parametrize("copies", [0, 12])
def test_a_page_of_a_thousand_images_is_below_ten_megabytes(copied, copies):
    rng = np.random.default_rng(0)
    results = results_of(copied)
    results = with_copies(results, "structure", [f"regressor-{i}" for i in range(copies)])
    for row in results["per_image"]:
        noise = rng.integers(0, 255, (96, 128, 3), np.uint8)
        Image.fromarray(noise).save(copied.image_path(row["image"]), quality=95)
    results["per_image"] = [
        row | {"position": (np.array(row["position"]) + rng.normal(0, 0.1, 3)).tolist()}
        for row in 100 * results["per_image"]
    ]
    for one in results["leakage"].values():
        if one:
            one["bins"][0]["n"] = 1000
    write_results(copied, results)
    path = write_report(copied)
    assert path.stat().st_size < 10e6
    images = data_of(path.read_text(), "images")
    assert len(images["thumbs"]) == len(images["said"]) == 1000
    # Noise is as large as images get: beside the photos of six, some have room.
    assert sum(map(bool, images["thumbs"])) >= (200 if copies else 1000)
