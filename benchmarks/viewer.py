"""The viewer with 1000 cameras and 500,000 points: building, bytes to the browser, frame times.

    python benchmarks/viewer.py [--cameras 1000] [--points 500000]

A headless Chromium draws with SwiftShader, that is on the processor: the slowest machine that
anybody has. A hand drags the scene around all the while, since viser draws an idle scene once a
second, and frames are those in which WebGL was asked to draw. Beside it the obvious alternative:
the same points, and for every camera a frustum of viser's own with its image in it. Needs a
browser and Linux, for processor times are read from /proc.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: CPU times below are of one thread

import contextlib
import io
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
import viser
from numpy.typing import NDArray
from playwright.sync_api import Page, sync_playwright
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from relocalize.geometry import Rigid3
from relocalize.plotting.walks import COLORS, Walk
from relocalize.viewer.content import Content
from relocalize.viewer.scene import Scene
from relocalize.viewer.shapes import Ground

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_WAIT_S, _QUIET_S = 300.0, 5.0
_SIZE = (1280, 800)  # of the window
_MIDDLE = (480, 400)  # of the scene beside the panel: where it is taken hold of
# Frames and seconds: the first ones compile shaders, for seconds, and tell us how fast it is.
_WARM_UP, _MEASURED_S = 15, 10.0
# Notes the time of every frame in which something was drawn, from before the page's own scripts.
_NOTE_FRAMES = """
(() => {
    window.drawnAt = [];
    let draws = 0;
    const get = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function(kind, ...others) {
        const gl = get.call(this, kind, ...others);
        if (gl && kind.startsWith("webgl") && !gl.counted) {
            gl.counted = true;
            for (const name of ["drawArrays", "drawElements", "drawArraysInstanced",
                                "drawElementsInstanced"]) {
                const draw = gl[name];
                gl[name] = function(...given) { draws++; return draw.apply(this, given); };
            }
        }
        return gl;
    };
    function note(now) {
        if (draws) window.drawnAt.push(now);
        draws = 0;
        requestAnimationFrame(note);
    }
    requestAnimationFrame(note);
})()
"""


@dataclass(frozen=True)
class Arguments:
    """Measure the viewer."""

    cameras: int = 1000
    """How many cameras."""
    points: int = 500_000
    """How many points."""
    no_browser: bool = False
    """Measure building and bytes alone, which need no idle processor."""
    screenshots: Path | None = None
    """Folder for an image of each."""


@dataclass(frozen=True)
class Measured:
    """What one way costs.

    Attributes:
        build_s: CPU seconds until the server has it all.
        sent_mb: megabytes sent to a browser that connects.
        cpu_ms: CPU milliseconds of the browser for one frame; NaN without one.
        frame_ms: median and 95th percentile of the time from one frame to the next, at least 17,
            and more where others use the processor.
    """

    build_s: float
    sent_mb: float
    cpu_ms: float
    frame_ms: tuple[float, float]


def main(arguments: Arguments) -> None:
    content = room(arguments.cameras, arguments.points)
    ours = measured(lambda server: draw_ours(server, content), "ours", arguments)
    show("relocalize view", ours)
    theirs = measured(lambda server: draw_frusta(server, content), "alternative", arguments)
    show("a frustum with its image for each camera", theirs)
    print(
        f"ratio: {theirs.build_s / ours.build_s:.1f} to build, {theirs.sent_mb / ours.sent_mb:.1f} "
        f"in bytes, {theirs.cpu_ms / ours.cpu_ms:.1f} in CPU time a frame, "
        f"{theirs.frame_ms[0] / ours.frame_ms[0]:.1f} in the median time from frame to frame"
    )


def room(cameras: int, points: int) -> Content:
    """A walk around a table in a room, and points on walls, floor and table."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 4 * np.pi, cameras)
    poses = []
    for k, angle in enumerate(angles):
        radius = 1.5 + 0.8 * np.sin(0.37 * angle)
        centre = np.array([radius * np.cos(angle), radius * np.sin(angle), 1.4 + 0.2 * np.sin(k)])
        ahead = np.array([np.cos(2.3 * angle), np.sin(2.3 * angle), -0.2])
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, [0, 0, 1])
        right /= np.linalg.norm(right)
        poses.append(Rigid3(np.stack([right, np.cross(ahead, right), ahead], axis=1), centre))
    walk = Walk(
        name="walk",
        color=COLORS[0],
        names=tuple(f"walk/{k:06d}.jpg" for k in range(cameras)),
        world_from_cam=tuple(poses),
        aspect=np.tile([0.61, 0.457], (cameras, 1)),
        in_order=True,
    )
    positions = rng.uniform([-4, -4, 0], [4, 4, 2.6], (points, 3))
    side = rng.integers(0, 3, points)
    axis_rows = np.arange(points)
    low, high = np.array([-4.0, -4.0, 0.0]), np.array([4.0, 4.0, 2.6])
    positions[axis_rows, side] = np.where(rng.random(points) < 0.5, low[side], high[side])
    colors = (60 + 30 * (positions - low)).clip(0, 255).astype(np.uint8)
    return Content(
        name="benchmark",
        unit="metre",
        origin=np.zeros(3),
        walks=(walk,),
        points=positions.astype(np.float32),
        colors=colors,
        all_points=points,
        axes=np.eye(3),
        up_is_known=True,
        ground=Ground.under(walk.centres, positions, np.eye(3)),
        middle=np.array([0.0, 0.0, 1.4]),
        reach=4.0,
    )


def draw_ours(server: viser.ViserServer, content: Content) -> None:
    Scene(server, content).build(lambda client, walk, row: None)


def draw_frusta(server: viser.ViserServer, content: Content) -> None:
    """What viser's examples do, with the same points and the same first view."""
    scene = Scene(server, content)
    scene.build(lambda client, walk, row: None)
    for handle in scene.layers.pop("cameras: walk"):
        handle.remove()
    walk = content.walks[0]
    for k, pose in enumerate(walk.world_from_cam):
        frustum = server.scene.add_camera_frustum(
            f"/cameras/{k}",
            fov=2 * float(np.arctan(walk.aspect[k][1])),
            aspect=float(walk.aspect[k][0] / walk.aspect[k][1]),
            scale=0.06,
            image=IMAGES[k % len(IMAGES)],
            wxyz=pose.quat_wxyz,
            position=pose.translation,
        )
        frustum.on_click(lambda event: None)


def image(seed: int) -> NDArray[np.uint8]:
    """640 x 480 pixels with about as much in them as a photo has."""
    rng = np.random.default_rng(seed)
    image = np.zeros((480, 640, 3), np.float32)
    for cell in (4, 16, 64):
        small = rng.standard_normal((480 // cell + 1, 640 // cell + 1, 3)).astype(np.float32)
        image += cell**0.5 * cv2.resize(small, (640, 480))
    return np.asarray((128 + 12 * image).clip(0, 255), dtype=np.uint8)


# Made beforehand, since reading photos is no part of what is compared; each is encoded anew.
IMAGES = tuple(image(seed) for seed in range(10))


def measured(
    draw: Callable[[viser.ViserServer], None], name: str, arguments: Arguments
) -> Measured:
    """Build, connect a browser, and watch it draw."""
    with contextlib.redirect_stdout(io.StringIO()):
        server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    started = time.process_time()
    draw(server)
    build_s = time.process_time() - started
    sent_mb = bytes_sent(server.get_port()) / 1e6
    cpu_ms, frame_ms = float("nan"), (float("nan"), float("nan"))
    if not arguments.no_browser:
        cpu_ms, frame_ms = drawing(server.get_port(), name, arguments.screenshots)
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()
    return Measured(build_s, sent_mb, cpu_ms, frame_ms)


def bytes_sent(port: int) -> int:
    """What a browser that connects is sent until nothing more comes."""
    protocol = Subprotocol(f"viser-v{viser.__version__}")
    total = 0
    with (
        connect(
            f"ws://127.0.0.1:{port}", subprotocols=[protocol], max_size=None, compression=None
        ) as socket,
        contextlib.suppress(TimeoutError),
    ):
        while True:
            total += len(socket.recv(timeout=_QUIET_S))
    return total


def drawing(port: int, name: str, screenshots: Path | None) -> tuple[float, tuple[float, float]]:
    """CPU milliseconds of a frame in a browser, and time from frame to frame: median, 95%."""
    executable = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if executable is None:
        sys.exit(f"no browser is installed (looked for {', '.join(_BROWSERS)}); try --no-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        page = browser.new_page(viewport={"width": _SIZE[0], "height": _SIZE[1]})
        page.set_default_timeout(1e3 * _WAIT_S)
        page.add_init_script(_NOTE_FRAMES)
        received: list[float] = []
        page.on(
            "websocket",
            lambda socket: socket.on("framereceived", lambda _: received.append(time.monotonic())),
        )
        page.goto(f"http://127.0.0.1:{port}")
        wait_until_quiet(page, received)
        page.mouse.move(*_MIDDLE)
        page.mouse.down()
        drag(page, lambda frames, seconds: frames < _WARM_UP)
        spent = browser_cpu_s()
        times = drag(page, lambda frames, seconds: seconds < _MEASURED_S or frames < _WARM_UP)
        spent = browser_cpu_s() - spent
        page.mouse.up()
        if screenshots is not None:
            screenshots.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=screenshots / f"viewer_{name}.png")
        browser.close()
    between = np.diff(times)
    return 1e3 * spent / len(times), (
        float(np.median(between)),
        float(np.percentile(between, 95)),
    )


def wait_until_quiet(page: Page, received: list[float]) -> None:
    """Wait until the server has sent all: the last message was long ago."""
    end = time.monotonic() + _WAIT_S
    while not received or time.monotonic() - received[-1] < _QUIET_S:
        if time.monotonic() > end:
            sys.exit(f"the browser still receives after {_WAIT_S:.0f} s")
        page.wait_for_timeout(500)


def drag(page: Page, on: Callable[[int, float], bool]) -> NDArray[np.float64]:
    """Drag the scene around in circles; the times of its frames in milliseconds.

    Args:
        page: with the mouse button down.
        on: whether to go on, by the frames so far and the seconds that it took.
    """
    page.evaluate("window.drawnAt.length = 0")
    started, turn, frames = time.monotonic(), 0, 0
    while on(frames, time.monotonic() - started):
        angle = 0.1 * turn
        page.mouse.move(_MIDDLE[0] + 150 * np.sin(angle), _MIDDLE[1] + 40 * np.sin(2 * angle))
        turn += 1
        frames = page.evaluate("window.drawnAt.length")
    return np.array(page.evaluate("window.drawnAt"))


def browser_cpu_s() -> float:
    """Processor seconds of the browser's processes so far."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1])
            ticks[int(entry.name)] = int(fields[11]) + int(fields[12])

    def is_ours(process: int) -> bool:
        while process > 1:
            process = parents.get(process, 0)
            if process == os.getpid():
                return True
        return False

    return sum(count for process, count in ticks.items() if is_ours(process)) / os.sysconf(
        "SC_CLK_TCK"
    )


def show(what: str, found: Measured) -> None:
    median, slow = found.frame_ms
    print(
        f"{what}: built in {found.build_s:.2f} CPU s, {found.sent_mb:.1f} MB sent, "
        f"{found.cpu_ms:.0f} CPU ms a frame, {median:.0f} ms from frame to frame "
        f"(95%: {slow:.0f})",
        flush=True,
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
