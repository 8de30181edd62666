"""The page for phones in a browser whose camera plays a walk with known truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from headless_browser import browser_page, seen
from localization_place import CAMERA, copy_of_room, looking_at, render
from relocalize.localization import fitted
from relocalize.place import Frame, Place
from relocalize.place.folder import METRE
from served_place import jpeg, needs_serve, served

pytestmark = [needs_serve, pytest.mark.slow]
TOKEN = "a-token-of-some-length"
WALK = [looking_at((-0.5 + 0.1 * k, 0.4 - 0.1 * k, 0.1), (4.0, 3.6, -0.2)) for k in range(10)]


@pytest.fixture(scope="module")
def place(made_once, tmp_path_factory) -> Place:
    place = copy_of_room(made_once, tmp_path_factory.mktemp("room"))
    place.record_poses(poses_from="rendered", frame=Frame("z", "stated", METRE, "measured"))
    fitted(place, "structure")
    return place


@pytest.fixture(scope="module")
def service(place):
    from relocalize.serve.settings import ServeSettings

    with served([place.root], ServeSettings(token=TOKEN)) as running:
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """What the camera plays, over and over: there and back again, raw video (YUV4MPEG2)."""
    path = tmp_path_factory.mktemp("clip") / "walk.y4m"
    size = f"W{CAMERA.width} H{CAMERA.height} F4:1 Ip A1:1 C420jpeg\n"
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 " + size.encode())
        for pose in [*WALK, *WALK[-2:0:-1]]:
            file.write(b"FRAME\n")
            file.write(cv2.cvtColor(render(pose), cv2.COLOR_RGB2YUV_I420).tobytes())
    return path


def camera_flags(clip: Path) -> list[str]:
    return [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={clip}",
    ]


def dot_of(page) -> np.ndarray | None:
    found = page.evaluate(
        "() => { const dot = document.getElementById('dot'); return dot.hasAttribute('hidden') ? "
        "null : [+dot.getAttribute('cx'), -dot.getAttribute('cy')]; }"
    )
    return None if found is None else np.array(found)


def test_the_dot_follows_the_way_that_the_camera_goes(service, clip, capsys):
    with browser_page(420, 860, camera_flags(clip)) as page:
        page.goto(f"{service.url}/#token={TOKEN}")
        page.get_by_role("button", name="Start the camera").click()
        page.get_by_text("You are here").wait_for()
        assert TOKEN not in page.url
        dots = []
        for _ in range(60):
            page.wait_for_timeout(100)
            dots.append(dot_of(page))
            if len({tuple(dot) for dot in dots}) >= 8:
                break
        path = np.array([pose.translation[:2] for pose in WALK])
        steps = np.diff(path, axis=0)
        off = []
        for dot in dots:
            share = np.clip(((dot - path[:-1]) * steps).sum(1) / (steps**2).sum(1), 0, 1)
            nearest = path[:-1] + share[:, None] * steps
            off.append(np.linalg.norm(dot - nearest, axis=1).min())
        assert np.median(off) < 0.05
        assert np.quantile(off, 0.9) < 0.1
        assert np.ptp([dot[0] for dot in dots]) > 0.2  # it moves
        overlay = page.evaluate(
            "() => { const c = document.getElementById('overlay'); const pen = c.getContext('2d'); "
            "const { data } = pen.getImageData(0, 0, c.width, c.height); "
            "return data.filter((value, i) => i % 4 == 3 && value).length }"
        )
        assert overlay > 100  # points of the map are drawn over the picture
        milliseconds = page.evaluate(
            "() => performance.getEntriesByName('relocalize-frame').map(one => one.duration)"
        )
        with capsys.disabled():
            print(f"\n  screen to screen: {np.median(milliseconds):.0f} ms (median)")
        upright = seen(page)
        page.set_viewport_size({"width": 860, "height": 420})
        page.wait_for_timeout(300)
        boxes = [page.locator(name).bounding_box() for name in ("#seen", "#where")]
        assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]  # side by side
        assert upright.shape[:2] == (860, 420)
        page.get_by_role("button", name="Stop the camera").click()
        page.get_by_role("button", name="Clear the path").click()
        assert dot_of(page) is None
        assert page.complaints == []


def test_the_routes_are_shown_without_anything_from_elsewhere(service):
    with browser_page() as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{service.url}/docs")
        page.get_by_text("POST /v1/places/{name}/localize").wait_for()
        page.get_by_text("quat_wxyz").first.wait_for()
        assert all(url.startswith(service.url) for url in asked)
        assert page.complaints == []


def test_a_photo_is_placed_by_keyboard_and_what_is_not_known_is_said(service, place, tmp_path):
    known, blank, text = (tmp_path / name for name in ("known.jpg", "blank.jpg", "text.jpg"))
    known.write_bytes(jpeg(render(WALK[3])))
    blank.write_bytes(jpeg(np.full((360, 480, 3), 90, np.uint8)))
    text.write_text("no photo")
    with browser_page(900, 600) as page:
        page.emulate_media(color_scheme="dark")
        page.goto(service.url)
        page.get_by_text("A token is required.").wait_for()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("Wrong token.").wait_for()
        page.get_by_label("Enter the access token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.get_by_text("Start the camera, or choose a photo.").first.wait_for()
        choose = page.get_by_label("Choose a photo")
        choose.set_input_files(known)
        page.get_by_text("You are here, give or take").wait_for()
        assert np.linalg.norm(dot_of(page) - WALK[3].translation[:2]) < 0.02
        dark = seen(page)
        assert np.median(dark[:40]) < 60
        choose.set_input_files(blank)
        page.get_by_text("Position unknown: hardly any features").wait_for()
        choose.set_input_files(text)
        page.get_by_text("is not an image of these kinds").wait_for()
        names = page.evaluate(
            "() => [...document.querySelectorAll('button,input,select')].filter(one => "
            "!one.labels?.length && !one.textContent.trim()).map(one => one.id)"
        )
        assert names == []  # everything that is worked has a name
        page.locator("body").click(position={"x": 5, "y": 300})
        reached = []
        for _ in range(8):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("() => document.activeElement.id"))
        assert {"camera", "file", "clear", "show-points"} <= set(reached)
        # The browser says itself that 401 and 422 were answered; nothing else is wrong.
        assert all("status of 4" in one for one in page.complaints)
