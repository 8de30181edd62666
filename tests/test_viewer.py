"""The viewer: what is drawn where, and what strangers cannot do to it."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from numbers_place import make_numbers_place, poses_of_a_walk, similarity
from relocalize import Place, Rigid3
from relocalize.cli.main import main
from relocalize.errors import CaptureError, LocalizerError, ViewerError
from relocalize.localization.store import fingerprints
from relocalize.place import Split
from relocalize.place.atomic import write_json
from relocalize.plotting.walks import nice_length, spaced
from relocalize.viewer.content import content_of
from relocalize.viewer.placed_photo import MAX_BYTES, PhotoPlacer, harmless_name
from relocalize.viewer.shapes import (
    Ground,
    ellipsoid_95,
    frustum_lines,
    frustum_under,
    path_lines,
)
from relocalize.viewer.stored_errors import stored_errors
from viewed_place import WAIT, Nowhere, jpeg, make_viewed_place, needs_viser


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_viewed_place(tmp_path / "room")


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
    still, ahead = np.linspace([0, 0, 0], [0.05, 0, 0], 500), np.tile([0.0, 0.0, 1.0], (500, 1))
    assert len(spaced(still, ahead, step=0.24, turn=0.3)) == 1
    walk = poses_of_a_walk(24)
    centres, ahead = (np.stack([one.matrix[:3, axis] for one in walk]) for axis in (3, 2))
    assert len(spaced(centres, ahead, step=0.06, turn=0.3)) == 24


def test_the_path_goes_from_camera_to_camera_and_not_over_gaps() -> None:
    centres = np.array([[0.1 * i + (5.0 if i >= 6 else 0.0), 0.0, 0.0] for i in range(12)])
    ends = path_lines(centres)[:, :, 0]
    assert np.allclose(ends[:, 1] - ends[:, 0], 0.1, atol=1e-6) and len(ends) == 10
    coarse = path_lines(centres, every=4)[:, :, 0]
    assert np.allclose(coarse, [[0.0, 0.4], [5.8, 6.1]], atol=1e-6)  # from 4 to 8 is the gap


def test_the_ellipsoid_has_the_covariances_axes() -> None:
    turn = Rotation.from_euler("xyz", [30, -50, 80], degrees=True).as_matrix()
    sigmas = np.array([0.1, 0.02, 0.5])
    radii, quat_wxyz = ellipsoid_95(turn @ np.diag(sigmas**2) @ turn.T)
    axes = Rotation.from_quat(quat_wxyz, scalar_first=True).as_matrix()
    assert np.allclose(
        axes @ np.diag((radii / 2.7955) ** 2) @ axes.T, turn @ np.diag(sigmas**2) @ turn.T
    )
    rng = np.random.default_rng(0)
    sample = rng.multivariate_normal(np.zeros(3), turn @ np.diag(sigmas**2) @ turn.T, 20_000)
    inside = (((sample @ axes) / radii) ** 2).sum(axis=1) <= 1
    assert inside.mean() == pytest.approx(0.95, abs=0.01)


def test_the_floor_is_below_cameras_and_ruled_in_round_lengths() -> None:
    centres = np.array([[0.0, 0.0, 1.5], [4.0, 1.0, 1.6]])
    rng = np.random.default_rng(1)
    points = rng.uniform([-1, -2, 0], [6, 3, 2.5], (4000, 3))
    points[:20, 2] = -30  # wrong matches
    ground = Ground.under(centres, points, np.eye(3))
    assert ground.centre[2] == pytest.approx(0.0, abs=0.1)
    assert ground.cell == 0.5
    width, height = ground.sides
    assert 6.0 <= width <= 8.0 and 4.0 <= height <= 6.0
    assert [nice_length(x) for x in (0.999, 1.0, 4.9, 7e-4, 63.0)] == [0.5, 1, 2, 5e-4, 50]


def test_without_gravity_up_is_where_the_images_are_upright(tmp_path: Path) -> None:
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


def test_a_photo_that_is_none_is_one_line_without_our_paths() -> None:
    placer = PhotoPlacer(Nowhere, "nowhere")
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
        pytest.raises(LocalizerError, match=r"no localizer 'nonsense'; there are .*constant"),
        serve(place, ViewSettings(port=0, localizer="nonsense")),
    ):
        pass


@needs_viser
def test_a_regressor_that_is_not_trained_is_no_surprise_of_minutes(place: Place) -> None:
    from relocalize.viewer.serving import ViewSettings, serve

    with (
        pytest.raises(
            LocalizerError, match=r"regressor is not trained.* relocalize train .*struct"
        ),
        serve(place, ViewSettings(port=0, localizer="regressor")),
    ):
        pass
    assert place.localizer_names == []


def _as_trained(place: Place, name: str, split: Split | None, *, images: Split | None) -> None:
    """As a regressor in the folder ``name`` is stored, trained on these images."""
    folder = place.localizer_dir(name)
    folder.mkdir(parents=True)
    fitted_on = {**fingerprints(place, images), "split": None if split is None else split.name}
    write_json(folder / "localizer.json", {"localizer": "regressor", "fitted_on": fitted_on})


@needs_viser
def test_a_regressor_is_loaded_where_it_is_current_and_never_trained_again(
    place: Place, monkeypatch
) -> None:
    from relocalize.viewer.serving import photo_localizer

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

    monkeypatch.setattr("relocalize.localization.store.localizer_type", lambda name: Kind)
    _as_trained(place, "mine.odd", odd, images=odd)
    assert photo_localizer(place, "mine")() == "mine.odd" == photo_localizer(place, "mine.odd")()
    _as_trained(place, "all", None, images=None)
    assert photo_localizer(place, "all")() == "all"
    _as_trained(place, "old.odd", odd, images=other)
    with pytest.raises(LocalizerError, match=r"images as they are; .* --split odd --name old;"):
        photo_localizer(place, "old")
    _as_trained(place, "mine.other", other, images=other)
    with pytest.raises(LocalizerError, match=r"several splits; take one of mine\.odd, mine\.other"):
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
    out, err = viewer.communicate(timeout=WAIT)
    assert (viewer.returncode, out, err) == (0, "", "the viewer has ended\n")
