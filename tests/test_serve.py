"""The service from outside: what it answers, what it refuses, what it survives."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from localization_place import CAMERA, TEST_POSES, VISITOR, copy_of_room, looking_at, render
from relocalize.cli.main import main
from relocalize.geometry import Rigid3, position_error, rotation_error_deg
from relocalize.localization import fitted
from relocalize.mapping.gps import east_north_up, fix_at
from relocalize.place import Frame, Place
from relocalize.place.captures import Fix
from relocalize.place.folder import METRE
from relocalize.plain import to_plain
from relocalize_client import Client, RefusedError
from served_place import SMALL, jpeg, needs_serve, served, until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from serve import checksum, children_of, own_megabytes, resident_megabytes

pytestmark = needs_serve
TOKEN = "a-token-of-some-length"
POSE = TEST_POSES["test-00.png"]


@pytest.fixture(scope="module")
def place(made_once, tmp_path_factory) -> Place:
    place = copy_of_room(made_once, tmp_path_factory.mktemp("room"))
    place.record_poses(poses_from="rendered", frame=Frame("z", "stated", METRE, "measured"))
    fitted(place, "structure")
    fitted(place, "retrieval")
    return place


@pytest.fixture(scope="module")
def service(place, tmp_path_factory):
    from relocalize.serve.settings import ServeSettings

    keep = tmp_path_factory.mktemp("kept")
    settings = ServeSettings(("structure", "retrieval"), workers=2, keep=keep, limits=SMALL)
    with served([place.root], settings) as running:
        running.__dict__["keep"] = keep
        yield running


@pytest.fixture
def client(service):
    with Client(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def photo() -> bytes:
    return jpeg(render(POSE))


def test_a_photo_gets_the_pose_that_the_command_line_gives(client, place, photo, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(photo)
    command = [sys.executable, "-m", "relocalize", "localize", str(place.root), "photo.jpg"]
    said = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, check=True)
    expected = json.loads(said.stdout)
    before = checksum(place.root)
    answer = client.localize("place", photo)
    assert checksum(place.root) == before
    for key in expected.keys() - {"image", "milliseconds"}:
        assert answer[key] == expected[key], key
    assert answer["place"] == "place"
    assert answer["image_size"] == [480, 360]
    pose = Rigid3.from_matrix(answer["world_from_cam"])
    assert position_error(pose, POSE) < 0.02
    assert rotation_error_deg(pose, POSE) < 0.3
    assert np.linalg.eigvalsh(answer["covariance"]).min() > 0


def test_cameras_may_be_exact_approximate_or_unknown(client):
    sent = jpeg(render(POSE, VISITOR))
    exact = client.localize("place", sent, camera=to_plain(VISITOR))
    assert exact["camera"]["params"] == list(VISITOR.params)
    size = {"width": VISITOR.width, "height": VISITOR.height}
    for camera in ({"focal_px": 400, "known": "approximate", **size}, {"known": "unknown"}):
        estimated = client.localize("place", sent, camera=camera)
        assert estimated["camera"]["params"][0] == pytest.approx(VISITOR.params[0], rel=0.03)
    for wrong, said in (
        ({"model": "PINHOLE", "params": [1, 2]}, "PINHOLE takes 4"),
        ({"focal_px": 400, "width": 9, "height": 9}, "9 x 9"),
        ({"focal_px": -4}, "camera.focal_px"),
        ({"known": "perhaps"}, "camera.known"),
        ({"known": "exact"}, "focal_px"),
        ({"modell": 3}, "camera.modell"),
    ):
        with pytest.raises(RefusedError, match=said) as refused:
            client.localize("place", sent, camera=wrong)
        assert (refused.value.status, refused.value.reason) == (422, "wrong_camera")


def test_what_is_known_of_the_pose_before_is_not_contradicted(client, photo):
    last = client.localize("place", photo)
    as_answered = {key: last[key] for key in ("world_from_cam", "covariance")}
    assert client.localize("place", photo, prior=as_answered)["status"] == "localized"
    x, y, z = last["position"]
    near = {"position": [x + 0.5, y, z], "covariance": np.eye(3).tolist()}
    assert client.localize("place", photo, prior=near)["position"] == pytest.approx([x, y, z])
    elsewhere = {"position": [x + 0.5, y, z], "covariance": (1e-4 * np.eye(3)).tolist()}
    answer = client.localize("place", photo, prior=elsewhere)
    assert (answer["status"], answer["world_from_cam"]) == ("failed", None)
    assert "contradicts the prior" in answer["reason"]
    for wrong, said in (
        ({"position": [1, 2, 3]}, "prior.covariance"),
        ({"position": [1, 2], "covariance": np.eye(3).tolist()}, "translation"),
        ({"covariance": np.eye(3).tolist()}, "one of world_from_cam and position"),
        ({"position": [1, 2, 3], "covariance": np.eye(6).tolist()}, r"\[3, 3\]"),
        ({"position": [1, 2, 3], "covariance": [[1, 2], [3]]}, "prior"),
        ({"position": [1, 2, 3], "covariance": (-np.eye(3)).tolist()}, "positive definite"),
        ({"positoin": [1, 2, 3]}, "prior"),
    ):
        with pytest.raises(RefusedError, match=said) as refused:
            client.localize("place", photo, prior=wrong)
        assert (refused.value.status, refused.value.reason) == (422, "wrong_prior")


def encoded(kind: str, pixels) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind)
    return file.getvalue()


def test_kinds_of_files_and_forms(service, client):
    for kind in ("PNG", "WEBP"):
        form = (
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="../a"\r\n\r\n'
            + encoded(kind, render(POSE))
            + b"\r\n--x--\r\n"
        )
        header = {"Content-Type": "multipart/form-data; boundary=x"}
        status, answer = post(service, form, "?localizer=retrieval", **header)
        assert (status, answer["status"], answer["localizer"]) == (200, "localized", "retrieval")
    small = np.tile(np.arange(96, dtype=np.uint8)[None, :, None], (64, 1, 3))
    assert client.localize("place", encoded("HEIF", small))["image_size"] == [96, 64]


def test_a_photo_without_a_pose_is_an_answer(client):
    answer = client.localize("place", jpeg(np.full((360, 480, 3), 90, np.uint8)))
    assert (answer["status"], answer["world_from_cam"]) == ("failed", None)
    assert "features" in answer["reason"]


def test_points_of_the_map_are_where_the_photo_shows_them(client, photo):
    answer = client.localize("place", photo, points=True)
    pose = Rigid3.from_matrix(answer["world_from_cam"])
    pixels = CAMERA.img_from_cam(pose.inverse() @ np.array(answer["points"]))
    assert len(pixels) > 20
    assert ((pixels > 0) & (pixels < answer["image_size"])).all()


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 pixels in a few bytes."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(90_001 * 8))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 422, "no_photo"),
        (b"no photo", 422, "not_a_photo"),
        (bytes(2 << 20), 413, "too_many_bytes"),
        (bomb(), 413, "too_many_pixels"),
        (jpeg(np.zeros((1100, 1100, 3), np.uint8)), 413, "too_many_pixels"),
        (jpeg(render(POSE))[:9000], 422, "not_a_photo"),
        (b"\0\0\0\x18ftypheic" + bytes(range(256)) * 9, 422, "not_a_photo"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "not_a_photo"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422, "not_a_photo"),
    ],
)
def test_hostile_bodies_are_refused_in_one_line_without_paths(
    service, client, photo, body, status, reason
):
    code, answer = post(service, body)
    assert (code, answer["error"]["reason"]) == (status, reason)
    message = answer["error"]["message"]
    assert "\n" not in message
    assert "/" not in message.replace("form/", "")
    assert client.localize("place", photo)["status"] == "localized"


def test_what_is_not_there_is_named(client, photo, service):
    with pytest.raises(RefusedError, match="no place 'hall'; there are place"):
        client.localize("hall", photo)
    with pytest.raises(RefusedError, match="'regressor' is not served; structure, retrieval"):
        client.localize("place", photo, localizer="regressor")
    status, answer = post(service, b"--x", **{"Content-Type": "multipart/form-data; boundary=x"})
    assert (status, answer["error"]["reason"]) == (422, "no_photo")
    assert get(service, "/v1/nothing")[0] == 404
    assert get(service, "/v1/places/place/localize")[0] == 405


def test_places_are_described(client, place, service):
    assert client.places() == [
        {"name": "place", "unit": place.unit, "localizers": ["structure", "retrieval"]}
    ]
    facts = client.place("place")
    assert facts["map_digest"] == place.map_digest()
    assert facts["images"] == len(place.map.images)
    low, high = np.array(facts["extent"]["low"]), np.array(facts["extent"]["high"])
    assert ((low < POSE.translation) & (POSE.translation < high)).all()
    with urllib.request.urlopen(service.url + facts["floor"]["url"]) as answer:
        plan = np.asarray(Image.open(io.BytesIO(answer.read())))[:, :, 1]
    assert [plan.shape[1], plan.shape[0]] == facts["floor"]["pixels"]
    # The room's two walls, at x = 4 and y = 4, are where the plan is dark.
    low, high = np.array(facts["floor"]["low"]), np.array(facts["floor"]["high"])
    rows, columns = np.nonzero(plan > 100)
    at = low + np.stack([columns, plan.shape[0] - rows], axis=1) / plan.T.shape * (high - low)
    assert len(at) > 100
    assert (np.abs(at - 4.0).min(axis=1) < 0.2).mean() > 0.9


def test_documents_health_and_metrics(service, client, photo):
    client.localize("place", photo)
    assert post(service, b"no photo")[0] == 422
    document = json.loads(get(service, "/openapi.json")[1])
    assert "/v1/places/{name}/localize" in document["paths"]
    assert get(service, "/docs")[0] == 200
    assert json.loads(get(service, "/health")[1]) == {"status": "ok", "places": {"place": 2}}
    text = get(service, "/metrics")[1].decode()
    answered = 'relocalize_answers_total{localizer="structure",place="place",status="localized"}'
    assert answered in text
    assert 'relocalize_refusals_total{reason="not_a_photo"}' in text
    with urllib.request.urlopen(service.url + "/health") as answer:
        assert "'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers


def test_photos_are_kept_only_where_it_was_said(service, client, photo):
    client.localize("place", photo)
    kept = max(service.keep.glob("*.jpg"), key=lambda path: path.stat().st_mtime_ns)
    assert kept.read_bytes() == photo
    assert json.loads(kept.with_suffix(".json").read_text())["status"] == "localized"


def test_a_killed_worker_is_replaced_and_its_request_answered(service, photo):
    stop = threading.Event()
    answers = []

    def ask() -> None:
        with Client(service.url) as client:
            while not stop.is_set():
                answers.append(client.localize("place", photo)["status"])

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: len(answers) > 2, "answered")
    for pid in workers_of(os.getpid()):
        os.kill(pid, signal.SIGKILL)
    after = len(answers)
    until(lambda: len(answers) > after + 3, "answered after the kill")
    stop.set()
    for thread in threads:
        thread.join()
    assert set(answers) == {"localized"}
    until(lambda: len(workers_of(os.getpid())) == 2, "two workers again")


def workers_of(pid: int) -> list[int]:
    """The children of this process's children: what the templates forked."""
    return [worker for template in templates_of(pid) for worker in children_of(template)]


def templates_of(pid: int) -> list[int]:
    found = []
    for template in children_of(pid):
        command = Path(f"/proc/{template}/cmdline")
        if command.is_file() and b"relocalize.serve.template" in command.read_bytes():
            found.append(template)
    return found


def test_slow_bodies_are_cut_off(service):
    with socket.create_connection(("127.0.0.1", service.port)) as slow:
        slow.sendall(
            b"POST /v1/places/place/localize HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 1000\r\n\r\nabc"
        )
        slow.settimeout(10)
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")


def test_connections_that_say_nothing_are_closed(service, client, photo):
    for said in (b"", b"POST /v1/places/place/localize HTTP/1.1\r\nHost: loc"):
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as silent:
            silent.sendall(said)
            assert silent.recv(100) == b""
    with Client(service.url) as kept:  # one that asks, waits, and asks again is not
        assert kept.places()
        time.sleep(1.5)
        assert kept.places()


def test_requests_beyond_the_queue_are_told_to_come_again(place, photo):
    from dataclasses import replace

    from relocalize.serve.settings import ServeSettings

    settings = ServeSettings(workers=1, limits=replace(SMALL, waiting=1, pixels=10**8))
    outcomes: list[str] = []

    def ask(url: str) -> None:
        with Client(url) as client:
            try:
                outcomes.append(client.localize("place", photo)["status"])
            except RefusedError as error:
                assert error.status == 503
                assert error.retry_after == 1
                outcomes.append(error.reason)

    with served([place.root], settings) as service:
        threads = [threading.Thread(target=ask, args=(service.url,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(outcomes) == {"localized", "busy"}
    assert outcomes.count("localized") >= 2


def tracked(url: str, hello: dict, frames: list[tuple[dict, bytes]]) -> list[dict]:
    from websockets.sync.client import connect

    found = []
    with connect(url.replace("http", "ws") + "/v1/places/place/track") as socket:
        socket.send(json.dumps(hello))
        for facts, image in frames:
            socket.send(json.dumps(facts))
            socket.send(image)
            found.append(json.loads(socket.recv(timeout=60)))
    return found


def test_a_device_is_tracked(service):
    centres = [[-0.4 + 0.06 * k, 0.3 - 0.03 * k, 0.1] for k in range(14)]
    truth = [looking_at(centre, (4.0, 3.6, -0.2)) for centre in centres]
    images = [jpeg(render(pose)) for pose in truth]
    images[12] = jpeg(np.full((360, 480, 3), 90, np.uint8))  # a hand before the lens
    frames = [({"time_s": 0.2 * k}, image) for k, image in enumerate(images)]
    hello = {"camera": to_plain(CAMERA), "points": True}
    found = tracked(service.url, hello, frames)
    assert [one["status"] for one in found] == [*["localized"] * 12, "bridged", "localized"]
    assert found[12]["frame"]["status"] == "failed"
    assert found[12]["reason"]
    assert found[5]["points"]
    for pose, one in zip(truth, found, strict=True):
        error = position_error(Rigid3.from_matrix(one["world_from_cam"]), pose)
        assert error < 0.03


@pytest.mark.parametrize(
    ("hello", "frames", "said"),
    [
        ({"camera": {"known": "perhaps"}}, [], "camera.known"),
        ({"localizer": "none"}, [({"time_s": 0}, b"x")], "'none' is not served"),
        ({}, [({"time_s": 0}, b"no photo")], "not_a_photo"),
        ({}, [({"time": 0}, b"")], "time_s"),
        ({}, [({"time_s": 0, "device_from_cam": [[1]]}, b"blank")], "rigid transform"),
    ],
)
def test_what_cannot_be_tracked_ends_the_connection_with_a_reason(service, hello, frames, said):
    from websockets.exceptions import ConnectionClosed

    blank = jpeg(np.full((36, 48, 3), 90, np.uint8))
    frames = [(facts, blank if image == b"blank" else image) for facts, image in frames]
    with pytest.raises(ConnectionClosed, match=said):
        tracked(service.url, hello, [*frames, ({"time_s": 1}, blank)])


def test_a_token_is_needed_where_one_is_set(earth, photo):
    with Client(earth.url, token=TOKEN) as client:
        assert client.localize("place", photo)["status"] == "localized"
    for wrong in (None, TOKEN[:-1], TOKEN + "x", ""):
        with Client(earth.url, token=wrong) as client:
            with pytest.raises(RefusedError, match="Bearer") as refused:
                client.localize("place", photo)
            assert (refused.value.status, refused.value.reason) == (401, "no_token")
    frame = ({"time_s": 0}, photo)
    assert tracked(earth.url, {"token": TOKEN}, [frame])[0]["status"] == "localized"
    with pytest.raises(Exception, match="no_token"):
        tracked(earth.url, {"token": TOKEN[1:]}, [frame])
    assert get(earth, "/metrics")[0] == 401
    assert get(earth, "/health")[0] == 200


def test_https_with_a_certificate_of_this_machine(place, photo, tmp_path):
    import ssl

    from relocalize.serve.certificate import own_addresses, self_signed

    certificate = self_signed(tmp_path, own_addresses())
    assert certificate.key.stat().st_mode & 0o077 == 0
    with served([place.root], certificate=certificate) as service:
        with Client(service.url, certificate=certificate.certificate) as client:
            assert client.localize("place", photo)["status"] == "localized"
        with Client(service.url) as client, pytest.raises(ssl.SSLError):
            client.places()


def test_a_page_of_elsewhere_cannot_ask_a_service_of_this_machine(service):
    assert get(service, "/v1/places", Host="evil.example:8000")[0] == 421
    assert get(service, "/v1/places", Host="localhost:9")[0] == 200


def test_a_place_that_is_mapped_anew_is_picked_up_without_a_gap(place, photo, tmp_path):
    from relocalize.serve.settings import ServeSettings

    root = tmp_path / "place"
    shutil.copytree(place.root, root)
    others = set(workers_of(os.getpid()))  # of services that other tests share
    with served([root], ServeSettings(workers=1)) as service, Client(service.url) as client:
        first = client.place("place")["map_digest"]
        old = set(workers_of(os.getpid())) - others
        assert len(old) == 1
        moved = Place.open(root)
        names = sorted(moved.map.images)[:-1]
        smaller = type(moved.map)(
            {name: moved.map.images[name] for name in names}, moved.map.points
        )
        from relocalize.place import atomic

        with moved.lock(), atomic.new_folder(moved.map_dir) as folder:
            for path in (place.root / "map").iterdir():
                shutil.copy2(path, folder / path.name)
            smaller.write(folder)
        digest, before = moved.map_digest(), checksum(root)
        assert digest != first

        def picked_up() -> bool:
            assert client.localize("place", photo)["status"] == "localized"
            return client.place("place")["map_digest"] == digest

        until(picked_up, "the new map is served")
        assert checksum(root) == before  # its localizer was fitted anew, in memory
        until(lambda: not old & set(workers_of(os.getpid())), "the old worker has gone")
        assert client.localize("place", photo)["status"] == "localized"


def test_the_command_says_what_is_wrong_in_one_line(place, tmp_path, capsys):
    def said(*arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["serve", *map(str, arguments)])
        assert ended.value.code == 1
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        return message

    assert "--token-file" in said(place.root, "--host", "0.0.0.0")
    (tmp_path / "token").write_text("short")
    assert "5 characters" in said(place.root, "--token-file", tmp_path / "token")
    assert "is no Place" in said(tmp_path, "--port", 0)
    assert "0 workers" in said(place.root, "--workers", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "--port" in said(place.root, "--port", taken.getsockname()[1])


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr("relocalize.serve.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["serve", "place"])
    assert 'pip install "relocalize[serve]"' in capsys.readouterr().err


def test_the_command_serves_until_it_is_stopped(place, photo):
    command = [sys.executable, "-m", "relocalize", "serve", str(place.root), "--port", "0"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    url = running.stdout.readline().strip()
    with Client(url) as client:
        assert client.localize("place", photo)["status"] == "localized"
    workers = workers_of(running.pid)
    assert workers
    running.send_signal(signal.SIGINT)
    _, log = running.communicate(timeout=30)
    assert running.returncode == 0
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (request,) = (line for line in lines if line["event"] == "request")
    assert request["outcome"] == "localized"
    assert request["status"] == 200
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "workers have gone")


def test_workers_share_the_map_and_keep_no_photo(service, client, photo):
    template = templates_of(os.getpid())[0]
    if not Path(f"/proc/{template}/smaps_rollup").is_file():
        pytest.skip("this kernel does not say what processes share")
    assert client.localize("place", photo)["status"] == "localized"
    loaded = resident_megabytes(template)
    until(
        lambda: all(own_megabytes(pid) < 0.1 * loaded for pid in children_of(template)),
        "workers at rest have a tenth of their own of what is loaded once",
    )


def get(service, path: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(service.url + path, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def post(service, body: bytes, query: str = "", **headers: str):
    request = urllib.request.Request(
        f"{service.url}/v1/places/place/localize{query}",
        body,
        {"Content-Type": "image/jpeg", **headers},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


# -- GeoPoseProtocol, OGC GeoPose, Immersal's shape, other programs' axes ----------------------

ORIGIN = Fix(59.9, 30.2, 12.0)
# OGC 21-056r11, JSON schemas: the keys of both targets, none of which may be missing or more.
BASIC_QUATERNION = {"position": ("lat", "lon", "h"), "quaternion": ("x", "y", "z", "w")}
ADVANCED = {
    "frameSpecification": ("authority", "id", "parameters"),
    "quaternion": ("x", "y", "z", "w"),
    "validTime": (),
}


def check_keys(value: dict, target: dict) -> None:
    assert value.keys() == target.keys()
    for key, inner in target.items():
        assert isinstance(value[key], int) if not inner else value[key].keys() == set(inner)


@pytest.fixture(scope="module")
def earth(place, tmp_path_factory):
    """The same room twice: georeferenced, and not."""
    from relocalize.serve.settings import ServeSettings

    root = tmp_path_factory.mktemp("earth") / "place"
    shutil.copytree(place.root, root)
    described = json.loads((root / "place.json").read_text())
    described["name"], described["frame"]["enu_origin"] = "earth", to_plain(ORIGIN)
    (root / "place.json").write_text(json.dumps(described))
    with served([place.root, root], ServeSettings(token=TOKEN)) as running:
        yield running


def post_json(service, path: str, value, **headers: str):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = {"Authorization": f"Bearer {TOKEN}", **headers}
    request = urllib.request.Request(service.url + path, body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.loads(error.read())


def geopose_request(image: bytes, **reading) -> dict:
    return {
        "id": "a-request",
        "timestamp": 1,
        "type": "geopose",
        "sensors": [{"id": "0", "type": "camera"}],
        "sensorReadings": {
            "cameraReadings": [
                {
                    "timestamp": 1,
                    "sensorId": "0",
                    "privacy": {},
                    "sequenceNumber": 0,
                    "imageFormat": "JPG",
                    "size": [480, 360],
                    "imageBytes": base64.b64encode(image).decode(),
                    "params": {"model": CAMERA.model, "modelParams": list(CAMERA.params)},
                    **reading,
                }
            ]
        },
    }


def test_a_georeferenced_place_answers_with_a_basic_quaternion(earth):
    asked = geopose_request(jpeg(render(POSE)))
    accept = "application/vnd.oscp+json; version=2.0;"
    status, headers, answer = post_json(earth, "/geopose?place=earth", asked, Accept=accept)
    assert status == 200
    assert headers["content-type"].startswith("application/vnd.oscp+json")
    assert (answer["id"], answer["type"]) == ("a-request", "geopose")
    check_keys(answer["geopose"], BASIC_QUATERNION)
    position, quaternion = answer["geopose"]["position"], answer["geopose"]["quaternion"]
    there = Fix(position["lat"], position["lon"], position["h"])
    found = east_north_up([there], ORIGIN)[0]
    assert np.linalg.norm(found - POSE.translation) < 0.02
    # A camera with x right, y up, z back: it looks along -z.
    pose = Rigid3.from_quat_wxyz([quaternion[key] for key in "wxyz"], found)
    assert np.degrees(np.arccos(pose.rotation @ [0, 0, -1] @ POSE.rotation[:, 2])) < 0.3
    assert np.degrees(np.arccos(pose.rotation @ [0, 1, 0] @ -POSE.rotation[:, 1])) < 0.3
    assert 0 < answer["accuracy"]["position"] < 0.05
    assert 0 < answer["accuracy"]["orientation"] < 1


def test_another_place_answers_in_its_own_frame(earth):
    pixels = render(POSE)
    alpha = np.full((360, 480, 1), 255, np.uint8)
    raw = np.concatenate([pixels, alpha], axis=2).tobytes()
    asked = geopose_request(raw, imageFormat="RGBA32")
    status, _, answer = post_json(earth, "/geopose?place=place", asked)
    assert status == 200
    check_keys(answer["geopose"], ADVANCED)
    frame = answer["geopose"]["frameSpecification"]
    assert (frame["authority"], frame["id"]) == ("relocalize", "place")
    parameters = dict(pair.split("=") for pair in frame["parameters"].split("&"))
    centre = np.array([float(parameters[axis]) for axis in "xyz"])
    assert np.linalg.norm(centre - POSE.translation) < 0.02
    assert parameters["unit"] == "metre"


def test_a_photo_of_nowhere_has_no_geopose_and_a_reason(earth):
    asked = geopose_request(jpeg(np.full((360, 480, 3), 90, np.uint8)))
    status, _, answer = post_json(earth, "/geopose", asked)
    assert (status, answer["geopose"], answer["accuracy"]["position"]) == (200, None, -1)
    assert answer["reason"]


@pytest.mark.parametrize(
    ("path", "value", "accept", "status", "said"),
    [
        ("/geopose", {}, "*/*", 422, "sensorReadings"),
        ("/geopose", b"[" * 100_000, "*/*", 422, "body"),
        ("/geopose", geopose_request(b""), "*/*", 422, "empty"),
        ("/geopose", geopose_request(b"x", imageBytes="%%"), "*/*", 422, "base64"),
        ("/geopose", geopose_request(b"no photo"), "*/*", 422, "not an image"),
        ("/geopose", geopose_request(b"x", imageOrientation={"mirrored": True}), "*/*", 422, "mir"),
        ("/geopose", geopose_request(b"x"), "application/vnd.oscp+json;version=1.0", 406, "1.0"),
        ("/geopose?place=moon", geopose_request(b"x"), "*/*", 404, "'moon'"),
    ],
)
def test_what_is_no_geopose_request_is_refused(earth, path, value, accept, status, said):
    code, _, answer = post_json(earth, path, value, Accept=accept)
    assert code == status
    assert said in answer["error"]["message"]


def test_clients_of_immersal_are_answered(earth):
    fx, cx, cy = CAMERA.params
    asked = {
        "token": TOKEN,
        "b64": base64.b64encode(jpeg(render(POSE))).decode(),
        **{"fx": fx, "fy": fx, "ox": cx, "oy": cy},
        "mapIds": [{"id": 1}],
    }
    status, _, answer = post_json(earth, "/localizeb64", asked, Authorization="")
    assert (status, answer["error"], answer["success"], answer["map"]) == (200, "none", True, 1)
    rotation = [[answer[f"r{row}{column}"] for column in range(3)] for row in range(3)]
    pose = Rigid3(np.array(rotation), np.array([answer[f"p{axis}"] for axis in "xyz"]))
    assert position_error(pose, POSE) < 0.02
    assert rotation_error_deg(pose, POSE) < 0.3
    blank = base64.b64encode(jpeg(np.full((360, 480, 3), 90, np.uint8))).decode()
    assert post_json(earth, "/localizeb64", {**asked, "b64": blank})[2] == {
        "error": "none",
        "success": False,
    }
    for change, said in (
        ({"token": "wrong"}, "auth"),
        ({"b64": "eA=="}, "image"),
        ({"mapIds": [{"id": 9}]}, "not found"),
        ({"fx": None}, "json"),
    ):
        status, _, answer = post_json(earth, "/localizeb64", {**asked, **change})
        assert (status, answer["error"]) == (400, said)


def test_poses_in_the_axes_of_other_programs(earth):
    with Client(earth.url, token=TOKEN) as client:
        answer = client.localize("place", jpeg(render(POSE)), axes="unity")
    assert answer["in_axes"]["axes"] == "unity"
    x, y, z = answer["position"]
    assert answer["in_axes"]["position"] == [x, z, y]
    assert np.linalg.norm(answer["in_axes"]["quat_xyzw"]) == pytest.approx(1)


@pytest.mark.parametrize("latitude", [-89.9, -33.0, 0.0, 59.9])
def test_positions_on_the_earth_there_and_back(latitude):
    origin = Fix(latitude, 179.99, 100.0)
    for position in ([0.0, 0, 0], [2000.0, -3000, 40], [-900.0, 20, -15]):
        there, turned = fix_at(np.array(position), origin)
        assert np.allclose(east_north_up([there], origin)[0], position, atol=1e-5)
        assert np.allclose(turned @ turned.T, np.eye(3))
    up_there = fix_at(np.array([0.0, 0.0, 50.0]), origin)[0]
    assert up_there.height == pytest.approx(150)
