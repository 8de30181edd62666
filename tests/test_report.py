"""The report: one page that needs nothing else, and says what the results say."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from relocalize.cli.main import main
from relocalize.errors import RelocalizeError
from relocalize.evaluation import evaluate, scoring
from relocalize.evaluation.report import write_report
from relocalize.evaluation.report_figures import cdf_figure
from relocalize.formats import ImportSettings, import_registration
from relocalize.geometry import Camera, Rigid3
from relocalize.localizers import PoseEstimate
from relocalize.place import MapModel, Place, Points, PosedImage, Split

COUNT = 20


def posed_walk() -> MapModel:
    """Cameras in a row that look at a wall of points 2 m away."""
    camera = Camera.from_focal(64, 48, 60.0, model="SIMPLE_PINHOLE")
    wall = np.array([[x, y, 2.0] for x in np.linspace(-1, 3, 15) for y in np.linspace(-1, 1, 7)])
    images = {}
    for index in range(COUNT):
        pose = Rigid3(np.eye(3), np.array([0.1 * index, 0.01 * index, 0.0]))
        pixels = camera.img_from_cam(pose.inverse() @ wall)
        seen = np.flatnonzero((pixels >= 0).all(axis=1) & (pixels < [64, 48]).all(axis=1))
        name = f"frame-{index:06d}.jpg"
        images[name] = PosedImage(
            name, camera, 1, pose.inverse(), pixels[seen].astype(np.float32), seen
        )
    counts = np.bincount(
        np.concatenate([i.point_rows for i in images.values()]), minlength=len(wall)
    )
    points = Points(
        np.arange(1, len(wall) + 1),
        wall,
        np.full((len(wall), 3), 120, np.uint8),
        np.full(len(wall), 0.3),
        counts,
    )
    return MapModel(images, points)


class Offset:
    """Off by 3 cm and 2 degrees; every third photo fails."""

    def __init__(self, place):
        self.place = place

    def localize(self, image, camera=None):
        index = round(float(image.mean()) / 10)
        if index % 3 == 0:
            return PoseEstimate("failed", "metre", 1.0, reason="<b>4</b> matches & no more")
        true = self.place.map.images[f"walk/frame-{index:06d}.jpg"]
        turn = Rotation.from_rotvec([0, np.radians(2), 0]).as_matrix()
        pose = true.world_from_cam
        return PoseEstimate(
            "localized",
            "metre",
            1.0,
            world_from_cam=Rigid3(pose.rotation @ turn, pose.translation + np.array([0.03, 0, 0])),
            inliers=77,
        )


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """A Place with points whose 'structure' localizer is `Offset`, evaluated."""
    model, pictures = tmp_path / "model", tmp_path / "pictures"
    model.mkdir()
    pictures.mkdir()
    walk = posed_walk()
    walk.write(model)
    for index, name in enumerate(walk.images):
        Image.new("RGB", (64, 48), (10 * index,) * 3).save(pictures / name, quality=95)
    place = Place.create(tmp_path / "a & b")
    import_registration(
        model, place, images=pictures, settings=ImportSettings(capture="walk", unit="metre")
    )
    names = [f"walk/{name}" for name in walk.images]
    place.write_split(Split("odd", "list", tuple(names[::2]), tuple(names[1::2])))
    monkeypatch.setattr(scoring, "fitted", lambda place, name, split=None: Offset(place))
    evaluate(place)
    return place


def figures_of(page: str) -> dict:
    return json.loads(
        re.search(r'<script id="figures" type="application/json">(.*?)</script>', page).group(1)
    )


def test_the_page_stands_alone_and_is_small(evaluated):
    path = write_report(evaluated)
    page = path.read_text()
    assert path == evaluated.report_dir("odd") / "index.html"
    assert path.stat().st_size < 10e6
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # plotly names its makers
    assert not re.search(r"""(src|href)=["'](?!data:)""", own)
    assert "url(" not in own
    assert "@import" not in own
    assert "prefers-color-scheme" in own


def test_the_page_says_what_the_results_say(evaluated):
    page = write_report(evaluated, "odd").read_text()
    results = json.loads((evaluated.report_dir("odd") / "results.json").read_text())
    row = results["localizers"]["structure"]
    assert row["failed"] == 3
    assert re.search(r"<b>3\.00 <small>cm</small></b><span>median position error", page)
    assert "<b>3 <small>of 10</small></b><span>not localized" in page
    assert all(f"</span>{name}</td>" in page for name in ("constant", "retrieval", "structure"))
    assert results["truth_exactness"].split(";")[0] in page


def test_names_and_reasons_cannot_inject_html(evaluated):
    page = write_report(evaluated).read_text()
    assert "<b>4</b> matches" not in page
    assert "&lt;b&gt;4&lt;/b&gt; matches &amp; no more" in page
    assert "<h1>a &amp; b</h1>" in page


def test_the_map_shows_every_estimate_where_it_is(evaluated):
    figure = figures_of(write_report(evaluated).read_text())["map"]
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert len(traces["test views"]["x"]) == 10
    assert len(traces["train views"]["x"]) == 10
    arrows = np.array(
        [
            (x, y)
            for x, y in zip(traces["structure"]["x"], traces["structure"]["y"], strict=True)
            if x is not None
        ]
    ).reshape(-1, 2, 2)
    assert len(arrows) == 7  # those that did not fail
    lengths = np.linalg.norm(arrows[:, 1] - arrows[:, 0], axis=1)
    np.testing.assert_allclose(lengths, lengths[0], atol=1e-4)
    factor = lengths[0] / 0.03
    assert min(abs(factor - one) for one in (1, 10, 30, 100)) < 0.02 * factor


def test_the_photos_rings_are_where_true_points_are_and_dots_where_estimates_put_them(evaluated):
    page = write_report(evaluated).read_text()
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


def test_error_curves_end_at_the_share_that_did_not_fail(evaluated):
    results = json.loads((evaluated.report_dir("odd") / "results.json").read_text())
    curve = cdf_figure(results, "position_error", "cm", factor=100)["data"][-1]
    assert curve["y"][-1] == pytest.approx(70)
    within = max(y for x, y in zip(curve["x"], curve["y"], strict=True) if x < 2.9)
    assert within == 0


def test_a_place_without_an_evaluation_says_what_to_do(evaluated, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["report", str(Place.create(tmp_path / "empty").root)])
    assert ended.value.code == 1
    assert "relocalize evaluate" in capsys.readouterr().err
    with pytest.raises(RelocalizeError, match="odd"):
        write_report(evaluated, "even")


def test_damaged_results_are_one_line(evaluated):
    path = evaluated.report_dir("odd") / "results.json"
    path.write_text('{"split": "odd", "unit": "metre"}')
    with pytest.raises(RelocalizeError, match="make them again"):
        write_report(evaluated)
    path.write_text("{")
    with pytest.raises(RelocalizeError, match="damaged"):
        write_report(evaluated)


def test_a_place_whose_every_photo_fails_still_has_a_report(evaluated, monkeypatch):
    class Never:
        def localize(self, image, camera=None):
            return PoseEstimate("failed", "metre", 1.0, reason="black")

    monkeypatch.setattr(scoring, "fitted", lambda place, name, split=None: Never())
    evaluate(evaluated)
    page = write_report(evaluated).read_text()
    assert "<b>10 <small>of 10</small></b>" in page
