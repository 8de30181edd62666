"""Places that hold the same give the same figures: at 5e6 m, and of photos of any orientation.

One room, imported three times: as it is (``home``), and twice in UTM coordinates, from photos that
were held all eight ways. There the poses are of what people see (``upright``), or of the pixels as
they lie in the files (``stored``).
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from localization_place import SPLIT, render
from localization_place import TEST_POSES as TEST
from localization_place import TRAIN_POSES as TRAIN
from relocalize.evaluation import evaluate
from relocalize.formats.images import STORED, UPRIGHT
from relocalize.geometry import Camera, Rigid3, position_error, rotation_error_deg
from relocalize.geometry.transforms import local_origin
from relocalize.localization import fitted
from relocalize.localization.trajectory import OnlineSmoother, smooth
from relocalize.mapping import map_place
from relocalize.mapping.gps import east_north_up, fix_at
from relocalize.place import Frame, Place
from relocalize.place.captures import Fix
from relocalize.place.folder import METRE
from relocalize.place.image_file import orientation_of, upright, upright_pixels
from relocalize.plotting import plot_place
from relocalize.verbs.check import check
from relocalize.verbs.export import export
from relocalize.verbs.import_poses import import_poses
from relocalize.verbs.register import register
from relocalize.verbs.report import report
from served_place import jpeg, needs_serve, served
from viewed_place import needs_viser

pytestmark = pytest.mark.slow
CAMERA = Camera("SIMPLE_PINHOLE", 320, 240, (270.0, 160.0, 120.0))
UTM = np.array([458123.25, 5734211.75, 98.5])
LOCALIZERS = ("constant", "retrieval", "structure")
VARIANTS = ("upright", "stored")
# In an order of time, by which localizers hold images out.
TRAIN_POSES = {f"{row:02d}.png": pose for row, pose in enumerate(TRAIN.values())}
TEST_POSES = {f"{row:02d}.png": pose for row, pose in enumerate(TEST.values(), len(TRAIN))}
POSES = {**TRAIN_POSES, **TEST_POSES}
ORIENTATIONS = {name: row % 8 + 1 for row, name in enumerate(POSES)}
PHOTO = next(iter(TEST_POSES))
# What a camera stores that was held so, from what people see.
UNDO = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


def tagged(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return tags


def turned(pixels: np.ndarray, orientation: int) -> Image.Image:
    """As a viewer that knows EXIF shows pixels with this tag."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=tagged(orientation))
    return upright(Image.open(file))


def pose_list(path: Path, poses: dict[str, Rigid3]) -> Path:
    lines = []
    for name, pose in poses.items():
        back = pose.inverse()
        numbers = [*back.quat_wxyz, *back.translation, CAMERA.focal_px]
        lines.append(" ".join([name, *(repr(float(number)) for number in numbers)]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Place]:
    """The three Places: imported, mapped, evaluated. The images say what the poses are of."""
    folder = tmp_path_factory.mktemp("same")
    for kind in ("home", "upright", "stored"):
        (folder / "photos" / kind).mkdir(parents=True)
    for name, pose in POSES.items():
        pixels, orientation = render(pose, CAMERA), ORIENTATIONS[name]
        as_held = turned(pixels, UNDO[orientation])
        Image.fromarray(pixels).save(folder / "photos" / "home" / name)
        as_held.save(folder / "photos" / "upright" / name, exif=tagged(orientation))
        Image.fromarray(pixels).save(folder / "photos" / "stored" / name, exif=tagged(orientation))
    for side, names in (("train", TRAIN_POSES), ("test", TEST_POSES)):
        (folder / f"{side}.txt").write_text("\n".join(names))
    made = {}
    for kind in ("home", *VARIANTS):
        shift = UTM if kind in VARIANTS else np.zeros(3)
        shifted = {name: pose.shifted(shift) for name, pose in POSES.items()}
        import_poses(
            pose_list(folder / f"{kind}.txt", shifted),
            folder / kind,
            folder / "photos" / kind,
            convention="auto" if kind in VARIANTS else "stated",
            train=folder / "train.txt",
            test=folder / "test.txt",
            split=SPLIT,
        )
        place = Place.open(folder / kind)
        map_place(place)
        frame = Frame("z", "stated", METRE, "measured")
        place.record_poses(poses_from=str(place.poses_from), frame=frame)
        evaluate(place, localizers=LOCALIZERS)
        made[kind] = place
    return made


@pytest.mark.parametrize("kind", [UPRIGHT, STORED])
def test_an_import_takes_the_pixels_that_the_poses_are_of(places, kind):
    place = places["upright" if kind == UPRIGHT else "stored"]
    assert place.capture("imported").settings["pixels"] == kind
    for name, pose in POSES.items():
        image = place.map.images[f"imported/{name}"]
        assert position_error(image.world_from_cam, pose.shifted(UTM)) < 1e-8
        assert rotation_error_deg(image.world_from_cam, pose) < 1e-6
        assert np.array_equal(place.read_image(image.name), render(pose, CAMERA))
        tag = orientation_of(place.open_image(image.name))
        assert tag == (1 if kind == UPRIGHT else ORIENTATIONS[name])
    assert check(place, quick=True).consistent


def figures_of(page: Path) -> dict:
    text = page.read_text()
    found = re.search(r'<script id="figures" type="application/json">(.*?)</script>', text)
    assert found is not None
    figures: dict = json.loads(found.group(1))
    return figures


def drawn(trace: dict, axes: str) -> np.ndarray:
    """[N, 2 or 3] positions of a trace, NaN in gaps."""
    return np.array([trace[axis] for axis in axes], dtype=float).T


def test_pixels_go_where_the_image_is_turned():
    for orientation in range(1, 9):
        pixels = np.zeros((5, 7, 3), np.uint8)
        pixels[1, 4] = 255
        y, x = np.argwhere(np.asarray(turned(pixels, orientation))[:, :, 0])[0]
        found = upright_pixels(np.array([[4.5, 1.5]]), orientation, 7, 5)
        assert found[0].tolist() == [x + 0.5, y + 0.5]


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_evaluation_has_the_same_figures(places, variant):
    near, other_place = places["home"], places[variant]
    here, there = (
        json.loads((place.report_dir(SPLIT) / "results.json").read_text())
        for place in (near, other_place)
    )
    assert len(other_place.points) == pytest.approx(len(near.points), rel=0.01)
    for one, other in zip(here["per_image"], there["per_image"], strict=True):
        off = np.subtract(other["position"], one["position"]) - UTM
        assert np.abs(off).max() < 1e-8
        for name in LOCALIZERS:
            found, same = one["localizers"][name], other["localizers"][name]
            assert found["status"] == same["status"] == "localized"
            off = np.subtract(same["position"], found["position"]) - UTM
            # A search goes on from numbers that differ in the last digit, and ends beside.
            assert np.abs(off).max() < (1e-3 if name == "structure" else 1e-8)
            assert same["position_error"] == pytest.approx(found["position_error"], abs=1e-3)
            for key in ("position_sigma", "rotation_sigma_deg"):
                assert same[key] == pytest.approx(found[key], rel=0.1)


def thumbnails(page: Path) -> list[np.ndarray]:
    text = page.read_text()
    found = re.search(r'<script id="images" type="application/json">(.*?)</script>', text)
    assert found is not None
    sources = json.loads(found.group(1))["thumbs"]
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(one.split(",")[1]))).convert("RGB"))
        for one in sources
    ]


def points_in_photos(page: Path) -> dict[str, np.ndarray]:
    """Pixels of the image [N, 2] where a page puts map points into a photo, by its name."""
    found = {}
    for width, height, name, drawn_in in re.findall(
        r'<svg viewBox="0 0 (\d+) (\d+)" role="img" aria-label="imported/(.*?)">(.*?)</svg>',
        page.read_text(),
        re.DOTALL,
    ):
        longer = CAMERA.width / max(int(width), int(height))
        rings = re.findall(r'<circle cx="(.*?)" cy="(.*?)" r="5"/>', drawn_in)
        found[name] = longer * np.unique(np.array(rings, dtype=float), axis=0)
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_report_has_the_same_figures_and_upright_pictures(places, variant):
    pages = [report(places[name]).page for name in ("home", variant)]
    here, there = (figures_of(page) for page in pages)
    for one, other in zip(here["map"]["data"], there["map"]["data"], strict=True):
        # As long arrows as at home, to what a page rounds to and where a search ends.
        off = np.diff(drawn(other, "xy"), axis=0) - np.diff(drawn(one, "xy"), axis=0)
        assert not len(off) or np.nanmax(np.abs(off), initial=0) < 2e-3
    for name in ("positions", "rotations"):
        for one, other in zip(here[name]["data"], there[name]["data"], strict=True):
            np.testing.assert_allclose(other["x"], one["x"], rtol=0.02, atol=0.1)  # cm, degrees
    for name, small in zip(TEST_POSES, thumbnails(pages[1]), strict=True):
        seen = render(POSES[name], CAMERA)
        shown = turned(seen, ORIENTATIONS[name]) if variant == "stored" else Image.fromarray(seen)
        assert (shown.width > shown.height) == (small.shape[1] > small.shape[0])
        coarse = [
            np.asarray(one.resize((40, 40), Image.Resampling.BOX), dtype=float)
            for one in (shown, Image.fromarray(small))
        ]
        assert np.abs(coarse[0] - coarse[1]).mean() < 5
    home, same = (points_in_photos(page) for page in pages)
    assert home.keys() == same.keys()
    for name, points in same.items():
        orientation = ORIENTATIONS[name] if variant == "stored" else 1
        want = upright_pixels(home[name], orientation, CAMERA.width, CAMERA.height)
        apart = np.linalg.norm(points[:, None] - want[None], axis=2).min(axis=1)
        assert len(points) > 10
        assert np.median(apart) < 0.5


def test_a_plot_is_drawn_in_numbers_that_a_browser_holds(places, tmp_path):
    for kind in ("home", "stored"):
        place = places[kind]
        plot_place(place, tmp_path / "plot.html", points=True)
        scene = figures_of(tmp_path / "plot.html")["scene"]
        centres = np.array([i.world_from_cam.translation for i in place.posed_images()])
        origin = local_origin(centres)
        for trace in scene["data"]:
            values = drawn(trace, "xyz")
            lost = values - values.astype(np.float32)
            assert np.nanmax(np.abs(lost)) < 1e-4
            if trace.get("text"):  # the cameras; the pointer is told their place in the world
                np.testing.assert_allclose(trace["customdata"], centres, atol=1e-6, rtol=0)
                np.testing.assert_allclose(values + origin, centres, atol=1e-6, rtol=0)
        titles = [scene["layout"]["scene"][f"{axis}axis"]["title"]["text"] for axis in "xyz"]
        far = ["x - 458000 (m)", "y - 5734000 (m)", "z (m)"]
        assert titles == (far if kind == "stored" else ["x (m)", "y (m)", "z (m)"])


@needs_viser
def test_a_viewer_draws_in_numbers_that_a_browser_holds(places):
    from relocalize.viewer.content import content_of
    from relocalize.viewer.stored_errors import stored_errors

    near, far = (content_of(places[kind]) for kind in ("home", "stored"))
    np.testing.assert_allclose(far.points + far.origin, near.points + UTM, atol=2e-3)
    for one, other in zip(near.walks, far.walks, strict=True):
        np.testing.assert_allclose(other.centres + far.origin, one.centres + UTM, atol=1e-6)
    assert np.abs(far.points).max() < 2000
    assert far.reach == pytest.approx(near.reach, abs=1e-3)
    assert far.ground.cell == near.ground.cell
    errors = (stored_errors(places[kind])[0] for kind in ("home", "stored"))
    for one, other in zip(*errors, strict=True):
        assert other.median == pytest.approx(one.median, abs=1e-3)


def test_an_export_comes_back_where_it_was(places, tmp_path):
    far = places["stored"]
    export(far, tmp_path / "out", "plain-csv", split="none")
    entry = next(tmp_path.glob("out*"))
    import_poses(entry, tmp_path / "back", entry, convention="stated")
    want = sorted(tuple(i.world_from_cam.translation) for i in far.posed_images())
    back = Place.open(tmp_path / "back")
    got = sorted(tuple(i.world_from_cam.translation) for i in back.posed_images())
    np.testing.assert_allclose(got, want, atol=1e-6, rtol=0)


@needs_serve
def test_a_service_answers_with_the_same_pose_and_covariance(places):
    from relocalize.serve.settings import ServeSettings
    from relocalize_client import Client

    photo = jpeg(render(POSES[PHOTO], CAMERA))
    home = fitted(places["home"], "structure", places["home"].split(SPLIT))
    near = home.localize(photo, CAMERA)
    settings = ServeSettings((f"structure.{SPLIT}",), workers=1)
    reading = {
        "imageBytes": base64.b64encode(photo).decode(),
        "params": {"model": CAMERA.model, "modelParams": list(CAMERA.params)},
    }
    asked = json.dumps({"sensorReadings": {"cameraReadings": [reading]}}).encode()
    with served([places["stored"].root], settings) as running, Client(running.url) as client:
        far = client.localize("stored", photo, camera={"focal_px": CAMERA.focal_px})
        with urllib.request.urlopen(f"{running.url}/geopose", asked) as answer:
            geopose = json.loads(answer.read())["geopose"]
    off = np.array(far["position"]) - near.world_from_cam.translation - UTM
    assert np.abs(off).max() < 1e-3
    sigmas = np.sqrt(np.diag(near.covariance))
    difference = (np.array(far["covariance"]) - near.covariance) / np.outer(sigmas, sigmas)
    assert np.abs(difference).max() < 0.1
    pairs = geopose["frameSpecification"]["parameters"].split("&")
    parameters = dict(pair.split("=") for pair in pairs)
    centre = [float(parameters[axis]) for axis in "xyz"]
    np.testing.assert_allclose(centre, far["position"], atol=1e-6, rtol=0)


def test_trajectories_are_smoothed_alike():
    rng = np.random.default_rng(3)
    times = 0.1 * np.arange(14)
    poses = [
        Rigid3(np.eye(3), np.array([0.1 * row, 0.02 * row**1.5, 1.5]) + rng.normal(0, 0.02, 3))
        for row in range(len(times))
    ]
    covariances = [np.diag([0.02**2] * 3 + [0.01**2] * 3)] * len(times)
    far = [pose.shifted(UTM) for pose in poses]
    online = OnlineSmoother(), OnlineSmoother()
    both = [smooth(times, given, covariances).poses for given in (poses, far)]
    for row, (one, other) in enumerate(zip(*both, strict=True)):
        pairs = [(one, other)]
        given = zip(online, (poses[row], far[row]), strict=True)
        pairs.append(tuple(o.add(times[row], pose, covariances[row]) for o, pose in given))
        for here, there in pairs:
            assert here.world_from_cam is not None
            assert position_error(there.world_from_cam, here.world_from_cam.shifted(UTM)) < 1e-5
            np.testing.assert_allclose(there.covariance, here.covariance, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("position", [UTM, -UTM])
def test_a_position_on_the_earth_is_exact_far_from_its_origin(position):
    origin = Fix(48.1, 11.5, 500.0)
    there, _ = fix_at(position, origin)
    assert np.linalg.norm(east_north_up([there], origin)[0] - position) < 1e-6


@pytest.fixture(scope="module")
def trained(places, tmp_path_factory):
    """What a short training on each Place answers to a photo, from memory and from disk."""
    pytest.importorskip("torch")
    from relocalize.localization.regressor import RegressorLocalizer
    from relocalize.regression.presets import preset
    from relocalize.regression.settings import InputSettings, with_fields

    changes = {
        "backbone.name": "efficientnet_lite0",
        "backbone.weights": "none",
        "input": InputSettings(64, 64, geometry="posenet"),
        "augment.turn_deg": 0.0,
        "optimizer.batch_size": 12,
        "optimizer.epochs": 2,
        "precision": "float32",
        "device": "cpu",
    }
    settings = with_fields(preset("posenet-2015-resnet18"), changes)
    answers, name = {}, next(iter(TRAIN_POSES))
    for kind, place in places.items():
        made = RegressorLocalizer.fit(place, place.split(SPLIT), settings=settings)
        folder = tmp_path_factory.mktemp(kind)
        made.save(folder)
        answers[kind] = [
            localizer.localize(render(POSES[name], CAMERA), CAMERA)
            for localizer in (made, RegressorLocalizer.load(folder))
        ]
    return answers


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_sees_the_same(trained, variant):
    home = trained["home"][0]
    for found in trained[variant]:
        assert found.status == "localized"
        moved = home.world_from_cam.shifted(UTM)
        assert position_error(found.world_from_cam, moved) < 0.01
        assert rotation_error_deg(found.world_from_cam, home.world_from_cam) < 0.5
        np.testing.assert_allclose(found.covariance, home.covariance, rtol=0.05, atol=1e-6)


def test_photos_held_all_ways_have_the_pose_of_what_people_see(places, tmp_path):
    home = places["home"]
    pixels = render(POSES[PHOTO], CAMERA)
    photos = {}
    for orientation, undo in UNDO.items():
        photos[orientation] = tmp_path / "photos" / f"{orientation}.png"
        photos[orientation].parent.mkdir(exist_ok=True)
        turned(pixels, undo).save(photos[orientation], exif=tagged(orientation))
    localizer = fitted(home, "structure", home.split(SPLIT))
    first = localizer.localize(photos[1], CAMERA).world_from_cam
    assert position_error(first, POSES[PHOTO]) < 0.02
    for photo in photos.values():
        found = localizer.localize(photo, CAMERA)
        assert np.array_equal(found.world_from_cam.matrix, first.matrix)
    place = Place.open(shutil.copytree(home.root, tmp_path / "home"))
    report = register(place, tmp_path / "photos", capture="held", camera=CAMERA, split=SPLIT)
    assert [one.registered for one in report.photos] == [True] * 8
    for one in report.photos:
        pose = place.map.images[one.image].world_from_cam
        assert position_error(pose, POSES[PHOTO]) < 0.02
        assert rotation_error_deg(pose, POSES[PHOTO]) < 0.3
