"""GeoPoseProtocol, OGC GeoPose and Immersal's shape, from outside."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from dataclasses import replace

import numpy as np
import pytest

from localization_place import CAMERA, TEST_POSES, make_place, render
from relocalize.geometry import Rigid3, position_error, rotation_error_deg
from relocalize.localization import fitted
from relocalize.mapping.gps import east_north_up, fix_at
from relocalize.place import Frame, Place
from relocalize.place.captures import Fix
from relocalize.place.folder import METRE
from relocalize_client import Client
from served_place import jpeg, needs_serve, served

pytestmark = needs_serve
POSE = TEST_POSES["test-00.png"]
ORIGIN = Fix(59.9, 30.2, 12.0)
TOKEN = "a-token-of-some-length"
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
def places(tmp_path_factory) -> list[Place]:
    """The same room twice: georeferenced, and not."""
    import shutil

    folder = tmp_path_factory.mktemp("room")
    plain = make_place(folder)
    plain.record_poses(poses_from="rendered", frame=Frame("z", "stated", METRE, "measured"))
    fitted(plain, "structure")
    root = folder / "other" / "place"
    shutil.copytree(plain.root, root)
    described = json.loads((root / "place.json").read_text())
    (root / "place.json").write_text(json.dumps({**described, "name": "earth"}))
    earth = Place.open(root)
    earth.record_poses(poses_from="rendered", frame=replace(plain.frame, enu_origin=ORIGIN))
    return [plain, earth]


@pytest.fixture(scope="module")
def service(places):
    from relocalize.serve.settings import ServeSettings

    settings = ServeSettings(token=TOKEN)
    with served([place.root for place in places], settings) as running:
        yield running


def post(service, path: str, value, **headers: str):
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


def test_a_georeferenced_place_answers_with_a_basic_quaternion(service):
    asked = geopose_request(jpeg(render(POSE)))
    accept = "application/vnd.oscp+json; version=2.0;"
    status, headers, answer = post(service, "/geopose?place=earth", asked, Accept=accept)
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


def test_another_place_answers_in_its_own_frame(service):
    pixels = render(POSE)
    alpha = np.full((360, 480, 1), 255, np.uint8)
    raw = np.concatenate([pixels, alpha], axis=2).tobytes()
    asked = geopose_request(raw, imageFormat="RGBA32")
    status, _, answer = post(service, "/geopose?place=place", asked)
    assert status == 200
    check_keys(answer["geopose"], ADVANCED)
    frame = answer["geopose"]["frameSpecification"]
    assert (frame["authority"], frame["id"]) == ("relocalize", "place")
    parameters = dict(pair.split("=") for pair in frame["parameters"].split("&"))
    centre = np.array([float(parameters[axis]) for axis in "xyz"])
    assert np.linalg.norm(centre - POSE.translation) < 0.02
    assert parameters["unit"] == "metre"


def test_a_photo_of_nowhere_has_no_geopose_and_a_reason(service):
    asked = geopose_request(jpeg(np.full((360, 480, 3), 90, np.uint8)))
    status, _, answer = post(service, "/geopose", asked)
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
def test_what_is_no_geopose_request_is_refused(service, path, value, accept, status, said):
    code, _, answer = post(service, path, value, Accept=accept)
    assert code == status
    assert said in answer["error"]["message"]


def test_clients_of_immersal_are_answered(service):
    fx, cx, cy = CAMERA.params
    asked = {
        "token": TOKEN,
        "b64": base64.b64encode(jpeg(render(POSE))).decode(),
        **{"fx": fx, "fy": fx, "ox": cx, "oy": cy},
        "mapIds": [{"id": 1}],
    }
    status, _, answer = post(service, "/localizeb64", asked, Authorization="")
    assert (status, answer["error"], answer["success"], answer["map"]) == (200, "none", True, 1)
    rotation = [[answer[f"r{row}{column}"] for column in range(3)] for row in range(3)]
    pose = Rigid3(np.array(rotation), np.array([answer[f"p{axis}"] for axis in "xyz"]))
    assert position_error(pose, POSE) < 0.02
    assert rotation_error_deg(pose, POSE) < 0.3
    blank = base64.b64encode(jpeg(np.full((360, 480, 3), 90, np.uint8))).decode()
    assert post(service, "/localizeb64", {**asked, "b64": blank})[2] == {
        "error": "none",
        "success": False,
    }
    for change, said in (
        ({"token": "wrong"}, "auth"),
        ({"b64": "eA=="}, "image"),
        ({"mapIds": [{"id": 9}]}, "not found"),
        ({"fx": None}, "json"),
    ):
        status, _, answer = post(service, "/localizeb64", {**asked, **change})
        assert (status, answer["error"]) == (400, said)


def test_poses_in_the_axes_of_other_programs(service):
    with Client(service.url, token=TOKEN) as client:
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
