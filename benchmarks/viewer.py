"""The viewer with 1000 cameras and 500,000 points: building, bytes to the browser, time a frame.

    python benchmarks/viewer.py [--cameras 1000] [--points 500000]

A headless Chromium draws with SwiftShader, that is on the processor: the slowest machine that
anybody has. Beside it the obvious alternative: the same points, and for every camera a frustum
of viser's own with its picture in it. Needs a browser and Linux, for processor
times are read from /proc.
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
from playwright.sync_api import sync_playwright
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from relocalize.geometry import Rigid3
from relocalize.plotting.walks import COLORS, Walk
from relocalize.viewer.content import Content
from relocalize.viewer.ground import ground_under
from relocalize.viewer.scene import Scene

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_WAIT_S, _QUIET_S = 300.0, 5.0
_WARM_UP, _MEASURED = 10, 20  # frames: the first ones compile shaders, for seconds
_DRAW_FRAMES = """
(count) => new Promise(done => {
    const start = performance.now();
    function next() {
        if (count-- > 0) requestAnimationFrame(next); else done((performance.now() - start) / 1000);
    }
    requestAnimationFrame(next);
})
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
    """Folder for a picture of each."""


@dataclass(frozen=True)
class Measured:
    """What one way costs.

    Attributes:
        build_s: CPU seconds until the server has it all.
        sent_mb: megabytes sent to a browser that connects.
        frame_ms: CPU milliseconds of the browser for one frame; NaN without one.
        frames: per second, which is at most 60, and less where others use the processor.
    """

    build_s: float
    sent_mb: float
    frame_ms: float
    frames: float


def main(arguments: Arguments) -> None:
    content = room(arguments.cameras, arguments.points)
    ours = measured(lambda server: draw_ours(server, content), "ours", arguments)
    show("relocalize view", ours)
    theirs = measured(lambda server: draw_frusta(server, content), "alternative", arguments)
    show("a frustum with its picture for each camera", theirs)
    print(
        f"ratio: {theirs.build_s / ours.build_s:.1f} to build, {theirs.sent_mb / ours.sent_mb:.1f} "
        f"in bytes, {theirs.frame_ms / ours.frame_ms:.1f} in time a frame"
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
        walks=(walk,),
        points=positions.astype(np.float32),
        colors=colors,
        all_points=points,
        axes=np.eye(3),
        up_is_known=True,
        ground=ground_under(walk.centres, positions, np.eye(3)),
        middle=np.array([0.0, 0.0, 1.4]),
        reach=4.0,
    )


def draw_ours(server: viser.ViserServer, content: Content) -> None:
    Scene(server, content).build(lambda client, walk, row: None)


def draw_frusta(server: viser.ViserServer, content: Content) -> None:
    """What viser's examples do, with the same points and the same first view."""
    scene = Scene(server, content)
    scene.build(lambda client, walk, row: None)
    for handle in scene.layers.pop("walk"):
        handle.remove()
    walk = content.walks[0]
    for k, pose in enumerate(walk.world_from_cam):
        frustum = server.scene.add_camera_frustum(
            f"/cameras/{k}",
            fov=2 * float(np.arctan(walk.aspect[k][1])),
            aspect=float(walk.aspect[k][0] / walk.aspect[k][1]),
            scale=0.06,
            image=PICTURES[k % len(PICTURES)],
            wxyz=pose.quat_wxyz,
            position=pose.translation,
        )
        frustum.on_click(lambda event: None)


def picture(seed: int) -> NDArray[np.uint8]:
    """640 x 480 pixels with about as much in them as a photo has."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((480, 640, 3), np.float32)
    for cell in (4, 16, 64):
        small = rng.standard_normal((480 // cell + 1, 640 // cell + 1, 3)).astype(np.float32)
        picture += cell**0.5 * cv2.resize(small, (640, 480))
    return np.asarray((128 + 12 * picture).clip(0, 255), dtype=np.uint8)


# Made beforehand, since reading photos is no part of what is compared; each is encoded anew.
PICTURES = tuple(picture(seed) for seed in range(10))


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
    frame_ms = frames = float("nan")
    if not arguments.no_browser:
        frame_ms, frames = drawing(server.get_port(), name, arguments.screenshots)
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()
    return Measured(build_s, sent_mb, frame_ms, frames)


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


def drawing(port: int, name: str, screenshots: Path | None) -> tuple[float, float]:
    """CPU milliseconds of one frame in a browser, and frames per second."""
    executable = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if executable is None:
        sys.exit(f"no browser is installed (looked for {', '.join(_BROWSERS)}); try --no-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(1e3 * _WAIT_S)
        page.goto(f"http://127.0.0.1:{port}")
        page.evaluate(_DRAW_FRAMES, _WARM_UP)
        spent = browser_cpu_s()
        seconds = page.evaluate(_DRAW_FRAMES, _MEASURED)
        spent = browser_cpu_s() - spent
        if screenshots is not None:
            page.screenshot(path=screenshots / f"viewer_{name}.png")
        browser.close()
    return 1e3 * spent / _MEASURED, _MEASURED / seconds


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
    print(
        f"{what}: built in {found.build_s:.2f} CPU s, {found.sent_mb:.1f} MB sent, "
        f"{found.frame_ms:.0f} CPU ms a frame "
        f"({found.frames:.1f} frames a second here)",
        flush=True,
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
