"""World coordinates of any size: a Place at UTM's 5e6 m gives the figures of one at home."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from localization_place import SPLIT, render
from localization_place import TEST_POSES as TEST
from localization_place import TRAIN_POSES as TRAIN
from relocalize.evaluation import evaluate
from relocalize.geometry import Camera, Rigid3, position_error, rotation_error_deg
from relocalize.geometry.transforms import local_origin
from relocalize.localization.trajectory import OnlineSmoother, smooth
from relocalize.mapping import map_place
from relocalize.mapping.gps import east_north_up, fix_at
from relocalize.place import Frame, Place
from relocalize.place.captures import Fix
from relocalize.place.folder import METRE
from relocalize.plotting import PlotSettings, plot_place
from relocalize.verbs.export import export
from relocalize.verbs.import_poses import import_poses
from relocalize.verbs.report import report
from served_place import jpeg, needs_serve, served
from viewed_place import needs_viser

CAMERA = Camera.from_focal(240, 180, 200.0, model="SIMPLE_PINHOLE")
UTM = np.array([458123.25, 5734211.75, 98.5])
LOCALIZERS = ("constant", "retrieval", "structure")
# In an order of time, by which localizers hold images out.
TRAIN_POSES = {f"{row:02d}.png": pose for row, pose in enumerate(TRAIN.values())}
TEST_POSES = {f"{row:02d}.png": pose for row, pose in enumerate(TEST.values(), len(TRAIN))}
PHOTO = next(iter(TEST_POSES))


def pose_list(path: Path, poses: dict[str, Rigid3]) -> Path:
    lines = []
    for name, pose in poses.items():
        back = pose.inverse()
        numbers = [*back.quat_wxyz, *back.translation, CAMERA.focal_px]
        lines.append(" ".join([name, *(repr(float(number)) for number in numbers)]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> tuple[Place, Place]:
    """A room at home, and the same far away: imported, mapped, evaluated."""
    folder = tmp_path_factory.mktemp("far")
    (folder / "photos").mkdir()
    poses = {**TRAIN_POSES, **TEST_POSES}
    for name, pose in poses.items():
        cv2.imwrite(str(folder / "photos" / name), render(pose, CAMERA)[:, :, ::-1])
    for side, names in (("train", TRAIN_POSES), ("test", TEST_POSES)):
        (folder / f"{side}.txt").write_text("\n".join(names))
    made = []
    for name, shift in (("near", np.zeros(3)), ("far", UTM)):
        shifted = {image: pose.shifted(shift) for image, pose in poses.items()}
        file = pose_list(folder / f"{name}.txt", shifted)
        import_poses(
            file,
            folder / name,
            folder / "photos",
            convention="stated",
            train=folder / "train.txt",
            test=folder / "test.txt",
            split=SPLIT,
        )
        place = Place.open(folder / name)
        map_place(place)
        frame = Frame("z", "stated", METRE, "measured")
        place.record_poses(poses_from=str(place.poses_from), frame=frame)
        evaluate(place, localizers=LOCALIZERS)
        made.append(place)
    return made[0], made[1]


def figures_of(page: Path) -> dict:
    text = page.read_text()
    found = re.search(r'<script id="figures" type="application/json">(.*?)</script>', text)
    assert found is not None
    figures: dict = json.loads(found.group(1))
    return figures


def drawn(trace: dict, axes: str) -> np.ndarray:
    """[N, 2 or 3] positions of a trace, NaN in gaps."""
    return np.array([trace[axis] for axis in axes], dtype=float).T


def test_an_evaluation_has_the_same_figures(places):
    near, far = (json.loads((p.report_dir(SPLIT) / "results.json").read_text()) for p in places)
    for one, other in zip(near["per_image"], far["per_image"], strict=True):
        np.testing.assert_allclose(
            np.subtract(other["position"], one["position"]), UTM, atol=1e-8, rtol=0
        )
        for name in LOCALIZERS:
            here, there = one["localizers"][name], other["localizers"][name]
            assert here["status"] == there["status"] == "localized"
            off = np.subtract(there["position"], here["position"]) - UTM
            # Its search is by chance: it ends at the same pose to a part of its sigma.
            assert np.abs(off).max() < (1e-3 if name == "structure" else 1e-8)
            assert there["position_error"] == pytest.approx(here["position_error"], abs=1e-3)
            assert there["position_sigma"] == pytest.approx(here["position_sigma"], rel=0.1)
            assert there["rotation_sigma_deg"] == pytest.approx(here["rotation_sigma_deg"], rel=0.1)


def test_a_report_has_the_same_figures(places):
    near, far = (figures_of(report(place).page) for place in places)
    for one, other in zip(near["map"]["data"], far["map"]["data"], strict=True):
        here, there = drawn(one, "xy"), drawn(other, "xy")
        # As long arrows as at home, to what a page rounds to and the search's chance.
        off = np.diff(there, axis=0) - np.diff(here, axis=0)
        assert not len(off) or np.nanmax(np.abs(off), initial=0) < 2e-3
    for name in ("positions", "rotations"):
        for one, other in zip(near[name]["data"], far[name]["data"], strict=True):
            np.testing.assert_allclose(other["x"], one["x"], rtol=0.02, atol=0.1)  # cm, degrees


def test_a_plot_is_drawn_in_numbers_that_a_browser_holds(places, tmp_path):
    for place in places:
        plot_place(place, tmp_path / "plot.html", PlotSettings(points=True))
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
        assert titles == (far if place is places[1] else ["x (m)", "y (m)", "z (m)"])


@needs_viser
def test_a_viewer_draws_in_numbers_that_a_browser_holds(places):
    from relocalize.viewer.content import content_of
    from relocalize.viewer.stored_errors import stored_errors

    near, far = (content_of(place) for place in places)
    np.testing.assert_allclose(far.points + far.origin, near.points + UTM, atol=2e-3)
    for one, other in zip(near.walks, far.walks, strict=True):
        np.testing.assert_allclose(other.centres + far.origin, one.centres + UTM, atol=1e-6)
    assert np.abs(far.points).max() < 2000
    assert far.reach == pytest.approx(near.reach, abs=1e-3)
    assert far.ground.cell == near.ground.cell
    for one, other in zip(*(stored_errors(place)[0] for place in places), strict=True):
        assert other.median == pytest.approx(one.median, abs=1e-3)


def test_an_export_comes_back_where_it_was(places, tmp_path):
    _, far = places
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

    photo = jpeg(render(TEST_POSES[PHOTO], CAMERA))
    settings = ServeSettings((f"structure.{SPLIT}",), workers=1)
    with (
        served([place.root for place in places], settings) as running,
        Client(running.url) as client,
    ):
        camera = {"focal_px": CAMERA.focal_px}
        near, far = (client.localize(name, photo, camera=camera) for name in ("near", "far"))
    off = np.subtract(far["position"], near["position"]) - UTM
    assert np.abs(off).max() < 1e-3
    here, there = (np.array(one["covariance"]) for one in (near, far))
    sigmas = np.sqrt(np.diag(here))
    assert np.abs((there - here) / np.outer(sigmas, sigmas)).max() < 0.1
    np.testing.assert_allclose(
        np.array(far["world_from_cam"])[:3, 3], far["position"], atol=1e-9, rtol=0
    )


def test_trajectories_are_smoothed_alike(places):
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


def test_a_training_sees_the_same(places, tmp_path):
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
    answers = []
    for place in places:
        made = RegressorLocalizer.fit(place, place.split(SPLIT), settings=settings)
        folder = tmp_path / place.name
        folder.mkdir()
        made.save(folder)
        found = [
            localizer.localize(place.read_image(f"imported/{PHOTO}"), CAMERA)
            for localizer in (made, RegressorLocalizer.load(folder))
        ]
        assert {one.status for one in found} == {"localized"}
        assert position_error(found[0].world_from_cam, found[1].world_from_cam) < 1e-3
        answers.append(found[1])
    near, far = answers
    assert position_error(far.world_from_cam, near.world_from_cam.shifted(UTM)) < 0.01
    assert rotation_error_deg(far.world_from_cam, near.world_from_cam) < 0.5
    np.testing.assert_allclose(far.covariance, near.covariance, rtol=0.05, atol=1e-6)
