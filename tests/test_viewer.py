"""The viewer: what is drawn where, what a browser shows, what strangers cannot do to it."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from headless_browser import browser_page, seen
from numbers_place import make_numbers_place, poses_of_a_walk, similarity
from relocalize import Place, Rigid3
from relocalize.cli.main import main
from relocalize.errors import CaptureError, ViewerError
from relocalize.localizers import PoseEstimate
from relocalize.localizers.store import fingerprints
from relocalize.place import Frame, Split
from relocalize.place.atomic import write_json
from relocalize.place.folder import METRE
from relocalize.viewer.content import content_of
from relocalize.viewer.ellipsoid import Ellipsoid
from relocalize.viewer.frusta import frustum_lines, frustum_under, spaced
from relocalize.viewer.ground import ground_under, nice_length
from relocalize.viewer.photo_localizer import photo_localizer
from relocalize.viewer.placed_photo import MAX_BYTES, PhotoPlacer, harmless_name
from relocalize.viewer.stored_errors import stored_errors

METRIC = Frame("z", "stated", METRE, "measured")
_WAIT = 60.0  # seconds for a browser on a busy machine


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Two captures of 12 in a room, z up, with a picture of one colour for each image."""
    place = make_numbers_place(
        tmp_path / "room", poses_of_a_walk(24), frame=METRIC, captures=("walk", "visitor")
    )
    for name in place.map.images:
        path = place.images_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((48, 64, 3), (10 * int(path.stem), 20, 200), np.uint8))
    return place


def until(done, what: str) -> None:
    """Wait for something that a browser does."""
    end = time.monotonic() + _WAIT
    while not done():
        assert time.monotonic() < end, f"after {_WAIT:.0f} s still not: {what}"
        time.sleep(0.05)


# -- numbers ----------------------------------------------------------------------------------


def test_frusta_have_their_apex_in_the_camera_and_their_corners_where_it_looks() -> None:
    poses = poses_of_a_walk(5)
    half = np.array([[0.6, 0.4]] * 5)
    lines = frustum_lines(poses, half, 0.5).reshape(5, 8, 2, 3)
    for pose, edges in zip(poses, lines, strict=True):
        assert np.allclose(edges[:4, 0], pose.translation, atol=1e-6)
        in_cam = pose.inverse() @ edges[:4, 1].astype(float)
        assert np.allclose(np.abs(in_cam), [0.3, 0.2, 0.5], atol=1e-6)
        assert np.allclose(sorted(edges[4:, 0].tolist()), sorted(edges[:4, 1].tolist()))


def test_a_click_on_a_frustum_means_it_and_one_beside_all_means_none() -> None:
    poses, depth, eye = poses_of_a_walk(24), 0.2, np.array([0.0, 0.0, 6.0])
    for row in (0, 7, 23):
        target = poses[row] @ np.array([0.0, 0.0, 0.6 * depth])
        hit = frustum_under(eye, 3 * (target - eye), poses, depth)
        assert hit is not None and hit[0] == row and hit[1] < 1e-6
        assert frustum_under(eye, eye - target, poses, depth) is None  # behind the eye
    assert frustum_under(eye, np.array([0.0, 0.0, -1.0]), poses, depth) is None


def test_of_a_dense_video_only_frusta_apart_are_drawn() -> None:
    still = [Rigid3(np.eye(3), np.array([1e-4 * i, 0.0, 0.0])) for i in range(500)]
    assert len(spaced(still, 0.2)) == 1
    assert len(spaced(poses_of_a_walk(24), 0.05)) == 24


def test_the_ellipsoid_has_the_covariances_axes() -> None:
    turn = Rotation.from_euler("xyz", [30, -50, 80], degrees=True).as_matrix()
    sigmas = np.array([0.1, 0.02, 0.5])
    found = Ellipsoid.of(turn @ np.diag(sigmas**2) @ turn.T)
    axes = Rotation.from_quat(found.quat_wxyz, scalar_first=True).as_matrix()
    assert np.allclose(
        axes @ np.diag((found.radii / 2.7955) ** 2) @ axes.T, turn @ np.diag(sigmas**2) @ turn.T
    )
    rng = np.random.default_rng(0)
    sample = rng.multivariate_normal(np.zeros(3), turn @ np.diag(sigmas**2) @ turn.T, 20_000)
    inside = (((sample @ axes) / found.radii) ** 2).sum(axis=1) <= 1
    assert inside.mean() == pytest.approx(0.95, abs=0.01)


def test_the_floor_is_below_cameras_and_ruled_in_round_lengths() -> None:
    centres = np.array([[0.0, 0.0, 1.5], [4.0, 1.0, 1.6]])
    rng = np.random.default_rng(1)
    points = rng.uniform([-1, -2, 0], [6, 3, 2.5], (4000, 3))
    points[:20, 2] = -30  # wrong matches
    ground = ground_under(centres, points, np.eye(3))
    assert ground.centre[2] == pytest.approx(0.0, abs=0.1)
    assert ground.cell == 0.5
    width, height = ground.sides
    assert 6.0 <= width <= 8.0 and 4.0 <= height <= 6.0
    assert [nice_length(x) for x in (0.999, 1.0, 4.9, 7e-4, 63.0)] == [0.5, 1, 2, 5e-4, 50]


def test_without_gravity_up_is_where_the_pictures_are_upright(tmp_path: Path) -> None:
    turn = Rotation.from_euler("x", 70, degrees=True).as_matrix()
    moved = [Rigid3(turn @ pose.rotation, turn @ pose.translation) for pose in poses_of_a_walk(24)]
    content = content_of(make_numbers_place(tmp_path / "tilted", moved))
    assert not content.up_is_known
    assert content.axes[2] @ turn[:, 2] > np.cos(np.radians(5))
    assert np.allclose(content.axes @ content.axes.T, np.eye(3), atol=1e-9)


def test_too_many_points_are_thinned_evenly(place: Place) -> None:
    whole, thin = content_of(place), content_of(place, most_points=20)
    assert len(thin.points) == 20 and thin.all_points == len(whole.points) > 20
    known = {tuple(point) for point in whole.points.tolist()}
    assert {tuple(point) for point in thin.points.tolist()} <= known
    assert len(content_of(place, most_points=0).points) == 0
    with pytest.raises(ViewerError, match="-5 points"):
        content_of(place, most_points=-5)


def results_file(place: Place, content: object, split: str = "blocks") -> None:
    folder = place.report_dir(split)
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(content))


def test_errors_of_an_evaluation_in_another_frame_are_drawn_in_the_places(place: Place) -> None:
    truth_from_place = similarity(3)
    rows, true = [], []
    for image in place.posed_images():
        true.append(image.world_from_cam.translation)
        off = true[-1] + [0.1, 0.0, 0.0]
        row = {"image": image.name, "position": (truth_from_place @ true[-1]).tolist()}
        answer = None if len(rows) % 6 == 0 else (truth_from_place @ off).tolist()
        rows.append({**row, "localizers": {"structure": {"position": answer}}})
    aligned = {
        "scale": truth_from_place.scale,
        "quat_wxyz": truth_from_place.quat_wxyz.tolist(),
        "translation": truth_from_place.translation.tolist(),
    }
    content = {"split": "b", "aligned": aligned, "localizers": {"structure": {}}, "per_image": rows}
    results_file(place, content)
    (errors,), remarks = stored_errors(place)
    assert remarks == []
    assert len(errors.failed) == 4 and np.allclose(errors.failed, true[::6])
    assert np.allclose(errors.estimated - errors.true, [0.1, 0, 0], atol=1e-9)
    assert errors.median == pytest.approx(0.1)
    assert np.allclose(np.diff(errors.lines(10), axis=1)[:, 0], [1.0, 0, 0], atol=1e-8)


@pytest.mark.parametrize(
    "content",
    [[], {}, {"split": "b", "localizers": ["x"], "per_image": [{"position": [0, 0, "nan"]}]}, 7],
)
def test_damaged_results_are_one_line_and_no_end(place: Place, content: object) -> None:
    results_file(place, content)
    errors, remarks = stored_errors(place)
    assert errors == [] and len(remarks) == 1 and "damaged" in remarks[0] and "\n" not in remarks[0]


# -- photos of strangers ----------------------------------------------------------------------


class _Nowhere:
    """A localizer that knows no place."""

    def localize(self, image, camera=None) -> PoseEstimate:
        return PoseEstimate("failed", METRE, 1.0, reason=f"{image.shape[1]} pixels of nothing")


def jpeg(width: int = 64, height: int = 48) -> bytes:
    done, data = cv2.imencode(".jpg", np.full((height, width, 3), 120, np.uint8))
    assert done
    return data.tobytes()


def test_a_photo_that_is_none_is_one_line_without_our_paths() -> None:
    placer = PhotoPlacer(_Nowhere, "nowhere")
    bomb = io.BytesIO()
    # A PNG header that declares 100,000 x 100,000 pixels.
    bomb.write(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (100_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    )
    for content in (
        b"",
        b"GIF89a",
        b"\0" * 500,
        jpeg()[:300],
        bomb.getvalue(),
        b"\0" * (MAX_BYTES + 1),
    ):
        with pytest.raises(CaptureError) as caught:
            placer.place_upload("../../etc/pass\nwd<script>.jpg", content)
        said = str(caught.value)
        assert (
            "\n" not in said
            and "/tmp" not in said
            and "<" not in said
            and "pass_wd_script_" in said
        )
    placed = placer.place_upload("ok.jpg", jpeg())
    assert placed.estimate.reason == "64 pixels of nothing"


def test_names_of_strangers_are_made_harmless() -> None:
    assert harmless_name("C:\\dir\\a b.jpg") == "a b.jpg"
    assert harmless_name("{alert(1)}<b>\x00") == "_alert_1___b__"
    assert harmless_name("") == "photo"
    assert len(harmless_name("x" * 9999)) <= 60


# -- the server -------------------------------------------------------------------------------

needs_viser = pytest.mark.skipif(
    importlib.util.find_spec("viser") is None, reason="viser is not installed"
)


def test_without_viser_one_line_names_the_extra(place: Place, monkeypatch, capsys) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "relocalize.viewer.find_spec", lambda name: None if name == "viser" else real(name)
    )
    with pytest.raises(SystemExit) as ended:
        main(["view", str(place.root)])
    said = capsys.readouterr()
    assert ended.value.code == 1 and said.out == ""
    assert said.err.count("\n") == 1 and 'pip install "relocalize[view]"' in said.err


@needs_viser
def test_a_port_that_is_taken_is_one_line_with_the_next_step(place: Place, capsys) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as ended:
            main(["view", str(place.root), "--port", str(port)])
    said = capsys.readouterr()
    assert ended.value.code == 1 and said.out == ""
    assert f"port {port}" in said.err and f"--port {port + 1}" in said.err


@needs_viser
@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_that_cannot_be_is_refused(place: Place, port: int) -> None:
    from relocalize.viewer.serving import ViewSettings, serve

    with pytest.raises(ViewerError, match=str(port)), serve(place, ViewSettings(port=port)):
        pass


@needs_viser
def test_a_localizer_that_is_none_is_refused_before_a_photo_comes(place: Place) -> None:
    from relocalize.viewer.serving import ViewSettings, serve

    with (
        pytest.raises(ViewerError, match="no localizer 'nonsense'; there are constant"),
        serve(place, ViewSettings(port=0, localizer="nonsense")),
    ):
        pass


@needs_viser
def test_a_regressor_that_is_not_trained_is_no_surprise_of_minutes(place: Place) -> None:
    from relocalize.viewer.serving import ViewSettings, serve

    with (
        pytest.raises(ViewerError, match=r"posenet was not trained.* relocalize train .*structure"),
        serve(place, ViewSettings(port=0, localizer="posenet")),
    ):
        pass
    assert place.localizer_names == []


def _as_trained(place: Place, name: str, split: Split | None, *, images: Split | None) -> None:
    """As a regressor in the folder ``name`` is stored, trained on these images."""
    folder = place.localizer_dir(name)
    folder.mkdir(parents=True)
    fitted_on = {**fingerprints(place, images), "split": None if split is None else split.name}
    write_json(folder / "localizer.json", {"localizer": "posenet", "fitted_on": fitted_on})


def test_a_regressor_is_loaded_where_it_is_current_and_never_trained_again(
    place: Place, monkeypatch
) -> None:
    names = tuple(place.map.images)
    odd, other = (
        Split("odd", "list", names[::2], names[1::2]),
        Split("other", "list", names[1::2], names[::2]),
    )
    place.write_split(odd)
    place.write_split(other)
    loaded = []

    class Kind:
        @staticmethod
        def load(folder: Path) -> str:
            loaded.append(folder.name)
            return folder.name

    monkeypatch.setattr("relocalize.viewer.photo_localizer.localizer_type", lambda name: Kind)
    _as_trained(place, "mine.odd", odd, images=odd)
    assert photo_localizer(place, "mine")() == "mine.odd" == photo_localizer(place, "mine.odd")()
    _as_trained(place, "all", None, images=None)
    assert photo_localizer(place, "all")() == "all"
    _as_trained(place, "old.odd", odd, images=other)
    with pytest.raises(ViewerError, match=r"other images; .* --split odd --name old;"):
        photo_localizer(place, "old")
    _as_trained(place, "mine.other", other, images=other)
    with pytest.raises(ViewerError, match=r"several splits; take one of mine\.odd, mine\.other"):
        photo_localizer(place, "mine")
    assert loaded == ["mine.odd", "mine.odd", "all"]


@needs_viser
@pytest.mark.slow
def test_ctrl_c_ends_it_cleanly(place: Place) -> None:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from relocalize.cli.main import main\n"
        f"main(['view', {str(place.root)!r}, '--port', '0'])"
    )
    viewer = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert viewer.stdout is not None and viewer.stderr is not None
    assert re.fullmatch(r"open http://localhost:\d+\n", viewer.stdout.readline())
    assert "ssh -N -L" in viewer.stderr.readline()
    assert viewer.stderr.readline() == "Ctrl-C ends it\n"
    viewer.send_signal(signal.SIGINT)
    out, err = viewer.communicate(timeout=_WAIT)
    assert (viewer.returncode, out, err) == (0, "", "the viewer has ended\n")


# -- the browser ------------------------------------------------------------------------------


@needs_viser
@pytest.mark.slow
def test_a_browser_shows_the_place_and_a_click_on_a_camera_shows_its_photo(
    place: Place, tmp_path: Path
) -> None:
    from relocalize.viewer.serving import ViewSettings, serve

    shutil.rmtree(place.images_dir / "visitor")  # those photos are gone
    with serve(place, ViewSettings(port=0)) as viewer, browser_page() as page:
        content = viewer.scene.content
        page.goto(viewer.url)
        until(viewer.server.get_clients, "connected")
        page.get_by_text("Click a camera to see its photo.").wait_for()
        (client,) = viewer.server.get_clients().values()
        until(lambda: drawn_share(seen(page)) > 0.01, "something is drawn")

        def click_on(walk: int, row: int) -> None:
            target = content.walks[walk].world_from_cam[row] @ np.array(
                [0.0, 0.0, 0.6 * viewer.scene.depth]
            )
            page.mouse.click(*pixel_of(client, target))

        # Of a video's cameras those are drawn that are apart, and these can be clicked on.
        first, second = (
            int(spaced(walk.world_from_cam, viewer.scene.depth)[2]) for walk in content.walks
        )
        click_on(0, first)
        page.get_by_text(f"walk/{first:04d}.jpg").wait_for()
        photo = page.locator("img").last
        photo.wait_for()
        assert photo.evaluate("image => image.naturalWidth") == 64
        color = (200, 20, 10 * first)  # that the photo was painted in
        until(lambda: share_of(seen(page), color) > 0.003, "the photo is on the screen")

        click_on(1, second)
        page.get_by_text(f"visitor/{12 + second:04d}.jpg").first.wait_for()
        page.get_by_text("is missing").wait_for()
        assert not photo.is_visible()

        page.get_by_role("button", name="Fly to this camera").click()
        pose = content.walks[1].world_from_cam[second]
        until(
            lambda: np.allclose(client.camera.position, pose.translation, atol=1e-3), "flown there"
        )
        page.get_by_role("button", name="See it all").click()
        overview = viewer.server.initial_camera.position
        until(lambda: np.allclose(client.camera.position, overview, atol=1e-3), "flown back")
        assert page.complaints == []


@needs_viser
@pytest.mark.slow
def test_who_looks_through_a_camera_sees_its_photo_behind_the_points_until_the_eye_moves(
    place: Place,
) -> None:
    from relocalize.viewer.serving import ViewSettings, serve

    with serve(place, ViewSettings(port=0)) as viewer, browser_page() as page:
        page.goto(viewer.url)
        until(viewer.server.get_clients, "connected")
        page.get_by_text("Click a camera to see its photo.").wait_for()
        (client,) = viewer.server.get_clients().values()
        viewer.panel.choose(0, 5, client)
        cameras = viewer.scene.layers["cameras: walk"]
        # The colour that the photo was painted in, B 50 G 20 R 200.
        share = lambda: share_of(seen(page)[:, :600], (200, 20, 50))  # noqa: E731
        page.get_by_role("button", name="Fly to this camera").click()
        until(lambda: share() > 0.6, "the photo fills the window")
        assert not any(node.visible for node in cameras)
        picture = seen(page)[:, :600]
        points = np.abs(picture.astype(int) - 120).max(axis=2) < 10  # the map's points are grey
        assert points.any()

        page.mouse.move(300, 350)
        page.mouse.down()
        page.mouse.move(380, 380, steps=5)
        page.mouse.up()
        until(lambda: share() < 0.3, "the photo is away")
        until(lambda: all(node.visible for node in cameras), "the cameras are back")
        assert page.complaints == []


class _NoWaiting(asyncio.SelectorEventLoop):
    """An event loop whose time is what was waited for, so that a busy machine changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        select = self._selector.select

        def jump(timeout: float | None) -> list:
            self._now += timeout or 0.0
            return select(0)

        self._selector.select = jump

    def time(self) -> float:
        return self._now


def without_waiting(work):
    """What a coroutine gives."""
    loop = _NoWaiting()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


class _Browser:
    """As viser shows one to us, moved by hand."""

    client_id = 7

    def __init__(self) -> None:
        self.camera = self
        self.connected = self.moved = None

    def on_client_connect(self, callback) -> None:
        self.connected = callback

    def on_client_disconnect(self, callback) -> None:
        self.left = callback

    def on_update(self, callback) -> None:
        self.moved = callback

    async def move(self, frames: int, seconds: float) -> None:
        """So many frames, at each of which it says twice that the eye has moved."""
        for _ in range(frames):
            await self.moved(self.camera)
            await asyncio.sleep(0.02)
            await self.moved(self.camera)
            await asyncio.sleep(seconds - 0.02)


class _Little:
    """What is drawn in place of all, for a while."""

    def __init__(self, drawn: list) -> None:
        self.drawn = drawn
        drawn.append(self)

    def remove(self) -> None:
        self.drawn.remove(self)


@needs_viser
def test_a_slow_browser_draws_little_while_its_eye_moves_and_a_fast_one_all() -> None:
    from relocalize.viewer.detail import Detail

    async def hands(slow: bool) -> list[int]:
        browser, drawn = _Browser(), []
        Detail(browser, lambda client: [_Little(drawn)])
        await browser.connected(browser)
        counts = []
        await browser.move(7, 0.15 if slow else 0.03)
        counts.append(len(drawn))  # while it moves
        await browser.move(4, 0.06)
        counts.append(len(drawn))
        await asyncio.sleep(1.2)
        counts.append(len(drawn))  # at rest
        await browser.move(1, 0.15 if slow else 0.03)
        counts.append(len(drawn))  # it is known by now
        await browser.left(browser)
        return counts

    assert without_waiting(hands(slow=True)) == [1, 1, 0, 1]
    assert without_waiting(hands(slow=False)) == [0, 0, 0, 0]


@needs_viser
def test_a_browser_that_was_busy_for_a_moment_draws_all_again() -> None:
    from relocalize.viewer.detail import Detail

    async def hand() -> list[int]:
        browser, drawn = _Browser(), []
        Detail(browser, lambda client: [_Little(drawn)])
        await browser.connected(browser)
        await browser.move(7, 0.15)
        counts = [len(drawn)]
        await browser.move(12, 0.03)
        await asyncio.sleep(1.0)
        await browser.move(6, 0.03)
        return [*counts, len(drawn)]

    assert without_waiting(hand()) == [1, 0]


@needs_viser
@pytest.mark.slow
def test_less_is_drawn_for_the_browser_that_moves_and_all_when_it_rests(
    place: Place, monkeypatch
) -> None:
    from relocalize.viewer import detail, scene
    from relocalize.viewer.serving import ViewSettings, serve

    monkeypatch.setattr(detail, "_SLOW_S", 0.0)
    monkeypatch.setattr(detail, "_FAST_S", 0.0)
    monkeypatch.setattr(scene, "_FEW_CAMERAS", 2)
    with serve(place, ViewSettings(port=0)) as viewer, browser_page() as page:
        page.goto(viewer.url)
        until(viewer.server.get_clients, "connected")

        def blue() -> float:  # as the walk is, however blurred: a busy browser draws coarsely
            picture = seen(page)[:, :600].astype(int)
            return float((picture[..., 2] - picture[..., 0] - 20).clip(0).mean())

        until(lambda: blue() > 0.1, "the walk is drawn")
        all_of_it = blue()
        page.mouse.move(300, 350)
        page.mouse.down()
        turn = iter(range(10_000))

        def little_is_drawn() -> bool:
            for _ in range(10):
                page.mouse.move(300 + next(turn) % 2, 350)
            return blue() < 0.8 * all_of_it

        until(little_is_drawn, "fewer cameras while it moves")
        viewer.scene.show("cameras: walk", False)

        def none_is_drawn() -> bool:
            little_is_drawn()
            return blue() < 0.1 * all_of_it

        until(none_is_drawn, "what was hidden meanwhile")
        viewer.scene.show("cameras: walk", True)
        page.mouse.up()
        until(lambda: blue() > 0.9 * all_of_it, "all of them at rest")
        assert page.complaints == []


@needs_viser
@pytest.mark.slow
def test_a_photo_dropped_in_lands_and_a_hostile_one_is_one_line(
    place: Place, tmp_path: Path
) -> None:
    from relocalize.viewer.serving import ViewSettings, serve

    pose = Rigid3(np.eye(3), np.array([0.5, 0.25, 1.0]))
    covariance = np.diag([0.04, 0.01, 0.09, 1e-4, 1e-4, 1e-4])

    class Knowing(_Nowhere):
        def localize(self, image, camera=None) -> PoseEstimate:
            points = np.array([[1.0, 1, 4], [0, 0, 3]])
            return PoseEstimate(
                "localized", METRE, 2.0, None, pose, covariance, 2, camera, inlier_points=points
            )

    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(jpeg())
    bad.write_bytes(b"no photo")
    with serve(place, ViewSettings(port=0)) as viewer, browser_page() as page:
        viewer.panel._placer = PhotoPlacer(Knowing, "knowing")
        page.goto(viewer.url)
        until(viewer.server.get_clients, "connected")
        choose = page.locator("input[type=file]")
        choose.set_input_files(bad)
        page.get_by_text("photo bad.jpg is not a JPEG").wait_for()
        choose.set_input_files(good)
        page.get_by_text("at 0.500 0.250 1.000 m").wait_for()
        page.get_by_text("2 inliers").wait_for()
        nodes = viewer.scene.layers["localized photos"]
        ellipsoid = next(node for node in nodes if "uncertainty" in node.name)
        assert np.allclose(ellipsoid.position, pose.translation)
        assert np.allclose(sorted(ellipsoid.scale), 2.7955 * np.array([0.1, 0.2, 0.3]), rtol=1e-4)
        rays = next(node for node in nodes if "rays" in node.name)
        assert np.allclose(rays.points[:, 1], [[1.0, 1, 4], [0, 0, 3]])

        again = tmp_path / "again.jpg"
        again.write_bytes(jpeg())
        choose.set_input_files(again)
        page.get_by_text("again.jpg by knowing").wait_for()
        frusta = [node.name for node in viewer.scene.layers["localized photos"]]
        assert {"/photos/0", "/photos/1"} <= set(frusta)  # the first one stays

        page.evaluate(_DROP, [list(jpeg()), ["dropped.jpg", "as well.jpg"]])
        page.get_by_text("as well.jpg by knowing").wait_for()
        names = [photo.name for photo in viewer.panel._photos]
        assert names == ["good.jpg", "again.jpg", "dropped.jpg", "as well.jpg"]
        page.get_by_role("combobox", name="photo").click()
        page.get_by_role("option", name="1: good.jpg").click()
        page.get_by_text("good.jpg by knowing").wait_for()
        page.get_by_role("button", name="Forget the photos").click()
        until(lambda: not viewer.scene.layers["localized photos"], "forgotten")
        page.get_by_text("good.jpg by knowing").wait_for(state="hidden")
        assert page.complaints == []


# Files of the same bytes are dragged over the page and dropped on the scene.
_DROP = """([bytes, names]) => {
    const carried = new DataTransfer();
    for (const name of names) carried.items.add(new File([new Uint8Array(bytes)], name));
    for (const what of ["dragover", "drop"])
        document.querySelector("canvas").dispatchEvent(
            new DragEvent(what, {dataTransfer: carried, bubbles: true, cancelable: true}));
}"""


def pixel_of(client, point: np.ndarray) -> tuple[float, float]:
    """Where a point of the world is in a client's window."""
    camera = client.camera
    rotation = Rotation.from_quat(camera.wxyz, scalar_first=True).as_matrix()
    x, y, z = rotation.T @ (point - camera.position)
    focal = camera.image_height / 2 / np.tan(camera.fov / 2)
    return camera.image_width / 2 + focal * x / z, camera.image_height / 2 + focal * y / z


def drawn_share(picture: np.ndarray) -> float:
    """The share of the scene's pixels, left of the panel, that are not background."""
    scene = picture[:, 50:600].reshape(-1, 3).astype(int)
    background = np.median(scene, axis=0)
    return float((np.abs(scene - background).max(axis=1) > 25).mean())


def share_of(picture: np.ndarray, color: tuple[int, int, int]) -> float:
    return float((np.abs(picture.astype(int) - color).max(axis=2) < 20).mean())
