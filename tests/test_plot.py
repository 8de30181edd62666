"""Images of a Place: what they show, in a form that can be read back."""

import json
import re
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from headless_browser import browser_page, seen
from numbers_place import make_numbers_place, noisy, poses_of_a_walk, similarity
from relocalize import Place, Rigid3
from relocalize.cli.main import main
from relocalize.errors import PlaceError
from relocalize.geometry.from_above import view_from_above
from relocalize.mapping.aligning import align_place, read_reference
from relocalize.place import Frame, Points
from relocalize.plotting import draw_alignment, plot_place
from relocalize.plotting.floor import floor_plan
from relocalize.plotting.walks import COLORS

METRIC = Frame("z", "stated", "metre", "measured")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Two captures along an arc, in metres with z up."""
    return make_numbers_place(
        tmp_path / "room", poses_of_a_walk(40), frame=METRIC, captures=("walk", "visitor")
    )


def texts(svg: Path) -> list[str]:
    """What is written in a figure."""
    root = ElementTree.fromstring(svg.read_text())
    return [
        "".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")
    ]


def marks(svg: Path, color: str) -> np.ndarray:
    """Where dots of a colour are, in the SVG's own units, y downwards: [N, 2]."""
    found = re.findall(r'<use [^>]*x="([\d.-]+)" y="([\d.-]+)"[^>]*fill: ' + color, svg.read_text())
    return np.array(found, dtype=float).reshape(-1, 2)


def test_a_figure_has_the_cameras_where_they_are(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "plot.svg"
    assert plot_place(place, out) == []
    drawn = np.concatenate([marks(out, color.lower())[:20] for color in COLORS[:2]])
    centres = np.stack([image.world_from_cam.translation for image in place.posed_images()])
    by_capture = [place.capture(name).image_names for name in ("walk", "visitor")]
    order = [sorted(place.map.images).index(name) for names in by_capture for name in names]
    true = centres[order][:, :2] * [1, -1]  # an SVG's y points down
    assert drawn.shape == true.shape
    # One scale and one shift for both axes: they are equal, and nothing is mirrored.
    scale = np.ptp(drawn[:, 0]) / np.ptp(true[:, 0])
    shifts = drawn - scale * true
    assert np.ptp(shifts, axis=0).max() <= 0.01 * np.ptp(drawn[:, 0])


def test_a_figure_says_unit_view_and_captures(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "plot.svg"
    plot_place(place, out)
    said = texts(out)
    for words in ("x (m)", "y (m)", "room", "seen from above", "walk (20)", "visitor (20)", "1 m"):
        assert words in said
    assert not any(name.endswith(".jpg") for name in said)


def test_without_gravity_and_scale_that_is_said(tmp_path: Path) -> None:
    poses = [similarity(1).move_camera(pose) for pose in poses_of_a_walk()]
    out = tmp_path / "plot.svg"
    plot_place(make_numbers_place(tmp_path / "p", poses), out)
    said = " ".join(texts(out))
    assert "up direction unknown" in said
    assert "along the longest extent (map units)" in said


def test_names_are_written_where_there_is_room(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "plot.svg"
    remarks = plot_place(place, out, captures=("visitor",), names=True)
    written = [name for name in texts(out) if name.endswith(".jpg")]
    assert 5 <= len(written) <= 20
    assert len(written) == len(set(written))
    assert set(written) <= {f"{i:04d}.jpg" for i in range(20, 40)}
    if len(written) < 20:
        assert f"names of {len(written)} of 20" in remarks[0]


def test_points_are_drawn_when_asked_for(place: Place, tmp_path: Path) -> None:
    bare, full = tmp_path / "a.png", tmp_path / "b.png"
    plot_place(place, bare)
    plot_place(place, full, points=True)
    assert bare.read_bytes() != full.read_bytes()


def test_a_png_is_light_and_large_enough_for_a_paper(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "plot.png"
    plot_place(place, out)
    with Image.open(out) as image:
        assert image.width >= 1400
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels[0, 0] == 255).all()
    assert 0.002 <= (pixels < 200).any(axis=2).mean() <= 0.2


def test_the_same_place_is_the_same_file(place: Place, tmp_path: Path) -> None:
    for ending in ("svg", "html", "pdf"):
        one, other = tmp_path / f"one.{ending}", tmp_path / f"other.{ending}"
        plot_place(place, one)
        plot_place(place, other)
        assert one.read_bytes() == other.read_bytes()


def test_a_thousand_cameras_stay_readable(tmp_path: Path) -> None:
    place = make_numbers_place(tmp_path / "p", poses_of_a_walk(1000), frame=METRIC, points=3)
    out = tmp_path / "plot.png"
    plot_place(place, out)
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels < 200).any(axis=2).mean() <= 0.04


def page_data(page: Path) -> tuple[list[dict], dict]:
    """The traces and the layout of a page."""
    found = re.search(
        r'<script id="figures" type="application/json">(.*?)</script>', page.read_text()
    )
    scene = json.loads(found.group(1))["scene"]
    return scene["data"], scene["layout"]


def test_the_page_is_self_contained_and_has_every_frustum(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "plot.html"
    plot_place(place, out, points=True)
    text = out.read_text()
    assert "<script src" not in text and "<link" not in text
    assert "default-src 'none'" in text and "prefers-color-scheme" in text
    traces, layout = page_data(out)
    assert layout["scene"]["aspectmode"] == "data"
    assert layout["scene"]["xaxis"]["title"]["text"] == "x (m)"
    frusta = {trace["name"]: trace for trace in traces if trace["mode"] == "lines"}
    assert set(frusta) == {"walk (20)", "visitor (20)"}
    x, y, z = (frusta["walk (20)"][axis] for axis in "xyz")
    strokes = np.array(
        [row for row in zip(x, y, z, strict=True) if row[0] is not None], dtype=float
    ).reshape(20, -1, 3)
    for name, stroke in zip(place.capture("walk").image_names, strokes, strict=True):
        image = place.map.images[name]
        in_cam = image.cam_from_world @ stroke
        centre = np.linalg.norm(in_cam, axis=1) < 1e-4
        assert centre.any() and (in_cam[~centre, 2] > 0).all()
        # The corners of the frustum are the corners of the image.
        corners = np.unique(image.camera.img_from_cam(in_cam[~centre]).round(-1), axis=0)
        np.testing.assert_allclose(corners, [[0, 0], [0, 480], [640, 0], [640, 480]], atol=10)


def test_the_scene_is_drawn_in_a_browser_in_the_dark(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "plot.html"
    plot_place(place, out, points=True)
    with browser_page() as page:
        page.emulate_media(color_scheme="dark")
        page.goto(out.as_uri())
        page.wait_for_function("document.querySelector('#scene .gl-container canvas')")
        blue = np.array([0, 114, 178])  # of the first capture
        deadline = time.monotonic() + 60
        while not (np.abs(seen(page).astype(int) - blue) < 30).all(axis=2).sum() > 50:
            assert time.monotonic() < deadline
        assert seen(page)[-1, -1].max() < 60
        assert page.complaints == []


def test_a_name_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    root = tmp_path / "<img onerror=1>"
    place = make_numbers_place(root, poses_of_a_walk(5), captures=("a",))
    out = tmp_path / "plot.html"
    plot_place(place, out, names=True)
    assert "<img onerror" not in out.read_text()


def test_places_of_few_poses_are_drawn(tmp_path: Path) -> None:
    still = [Rigid3(pose.rotation, np.ones(3)) for pose in poses_of_a_walk(4)]
    cases = ((poses_of_a_walk(1), Frame()), (poses_of_a_walk(2), METRIC), (still, Frame()))
    for number, (poses, frame) in enumerate(cases):
        place = make_numbers_place(tmp_path / f"{number}", poses, frame=frame, points=2)
        for ending in ("svg", "html"):
            plot_place(place, tmp_path / f"p.{ending}", names=True, points=number > 0)


def test_what_cannot_be_drawn_is_one_line(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PlaceError, match=r"\.png, \.svg, \.pdf, \.html"):
        plot_place(place, tmp_path / "plot.gif")
    with pytest.raises(PlaceError, match="no capture 'nobody'"):
        plot_place(place, tmp_path / "plot.png", captures=("nobody",))
    with pytest.raises(SystemExit) as stopped:
        main(["plot", str(Place.create(tmp_path / "empty").root)])
    assert stopped.value.code == 1
    assert "no map" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.gif"))


def test_the_command_prints_where_the_figure_is(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["plot", str(place.root)])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.strip() == str(place.root / "plot.png")
    assert (place.root / "plot.png").is_file()


def test_a_walk_is_not_seen_from_below() -> None:
    # Turned upside down, the view follows the cameras' own up.
    for seed in range(5):
        moved = [similarity(seed).move_camera(pose) for pose in poses_of_a_walk()]
        view = view_from_above(
            np.stack([pose.translation for pose in moved]),
            np.stack([pose.rotation for pose in moved]),
            up_is_z=False,
        )
        up = similarity(seed).rotation @ np.array([0.0, 0, 1])
        assert view.axes[2] @ up >= 0.99
        np.testing.assert_allclose(np.linalg.det(view.axes), 1)


def test_a_straight_walk_is_seen_from_above() -> None:
    moved = [similarity(3).move_camera(pose) for pose in poses_of_a_walk(straight=True)]
    view = view_from_above(
        np.stack([pose.translation for pose in moved]),
        np.stack([pose.rotation for pose in moved]),
        up_is_z=False,
    )
    assert view.axes[2] @ (similarity(3).rotation @ np.array([0.0, 0, 1])) >= 0.98


def test_an_alignment_is_drawn_before_and_after(tmp_path: Path) -> None:
    truth = poses_of_a_walk()
    place = make_numbers_place(tmp_path / "p", [similarity(1).move_camera(pose) for pose in truth])
    others = noisy(truth, 0.01, 0.3)
    others[7] = Rigid3(others[7].rotation, others[7].translation + np.array([0, 1.0, 0]))
    other = make_numbers_place(tmp_path / "reference", others, frame=METRIC)
    found = align_place(place, read_reference(other.root))
    out = tmp_path / "both.svg"
    draw_alignment(found, "p", out)
    said = texts(out)
    for words in ("before", "after", "outliers (1)", "0007.jpg", "x (m)"):
        assert words in said
    with pytest.raises(PlaceError, match=r"\.png, \.svg, \.pdf, not"):
        draw_alignment(found, "p", tmp_path / "both.html")


def test_the_floor_plan_has_the_walls_where_they_are(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two walls of points about the cameras, and a floor and a ceiling that are none.
    rng = np.random.default_rng(0)
    walls = np.concatenate(
        [
            np.stack([np.full(4000, 5.0), rng.uniform(-3, 3, 4000), rng.uniform(0, 3, 4000)], 1),
            np.stack([rng.uniform(-3, 5, 4000), np.full(4000, 3.0), rng.uniform(0, 3, 4000)], 1),
            np.stack([rng.uniform(-3, 5, 9000), rng.uniform(-3, 3, 9000), np.zeros(9000)], 1),
            np.stack([rng.uniform(-3, 5, 9000), rng.uniform(-3, 3, 9000), np.full(9000, 3.0)], 1),
        ]
    )
    count = len(walls)
    points = Points(
        ids=np.arange(1, count + 1),
        positions=walls,
        colors=np.full((count, 3), 120, np.uint8),
        reprojection_errors=np.zeros(count),
        track_lengths=np.full(count, 2),
    )
    monkeypatch.setattr(Place, "points", points)
    plan = floor_plan(place)
    rows, columns = np.nonzero(plan.density > 0.3)
    size = np.array(plan.density.T.shape)
    at = plan.low + np.stack([columns, size[1] - rows], 1) / size * (plan.high - plan.low)
    on_a_wall = (np.abs(at[:, 0] - 5) < 0.1) | (np.abs(at[:, 1] - 3) < 0.1)
    assert len(at) > 300
    assert on_a_wall.mean() > 0.95
    with pytest.raises(SystemExit, match="0"):
        main(["plot", str(place.root), "--floor", "--out", str(tmp_path / "floor.svg")])
    assert "seen from above" in texts(tmp_path / "floor.svg")
