"""How fast `relocalize frames` is, and how much memory it needs as the video gets longer.

    python benchmarks/frames.py [VIDEO]

Without VIDEO, a hand-held walk past a textured wall is rendered: 1280x720, 30 frames a second,
20 seconds. Compared with the obvious way: OpenCV decodes every frame to colours, the Laplacian
at full size ranks them, the sharpest of every three is written. Each row is a process of its
own; "x real time" is the video's length over wall seconds, "on 2 free cores" over half of the
processor seconds, which does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

RATE = 30
WIDTH, HEIGHT = 1280, 720


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("video", nargs="?", type=Path, help="default: a rendered walk")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the rendered walk")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(_measured(arguments.way, arguments.video)))
        return
    with tempfile.TemporaryDirectory() as folder:
        once = arguments.video or render_walk(Path(folder) / "walk.mp4", arguments.seconds)
        four = repeat(once, Path(folder) / "walk4.mkv", times=4)
        _print_table(once, four)


def _print_table(once: Path, four: Path) -> None:
    with av.open(str(once)) as container:
        stream = container.streams.video[0]
        size = f"{stream.width}x{stream.height} at {float(stream.average_rate or 0):.0f}/s"
    print(f"{once.name}, {size}")
    print(
        f"{'':34}{'video s':>8}{'kept':>6}{'wall s':>8}{'CPU s':>8}"
        f"{'x real time':>13}{'on 2 free cores':>17}{'peak MB':>9}"
    )
    for label, way, video in (
        ("relocalize frames", "relocalize", once),
        ("relocalize frames, 4 x as long", "relocalize", four),
        ("OpenCV, every frame in full", "opencv", once),
    ):
        command = [sys.executable, __file__, str(video), "--way", way]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{label:34}{row['seconds']:8.1f}{row['kept']:6d}{row['wall_s']:8.1f}"
            f"{row['cpu_s']:8.1f}{row['seconds'] / row['wall_s']:13.1f}"
            f"{2 * row['seconds'] / row['cpu_s']:17.1f}{row['peak_mb']:9.0f}"
        )


def _measured(way: str, video: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        kept, seconds = WAYS[way](video, Path(folder))
        return {
            "kept": kept,
            "seconds": seconds,
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "peak_mb": _peak_mb(),
        }


def _peak_mb() -> float:
    """Most memory that this process had; getrusage would count that of its parent, too."""
    status = Path("/proc/self/status")
    if status.exists():
        row = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(row.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _by_relocalize(video: Path, folder: Path) -> tuple[int, float]:
    from relocalize.capture.frames import capture_frames  # noqa: PLC0415  # this row's memory only

    capture = capture_frames(video, folder / "place")
    return len(capture.images), float(capture.settings["seconds"])


def _by_opencv(video: Path, folder: Path) -> tuple[int, float]:
    reader = cv2.VideoCapture(str(video))
    rate = reader.get(cv2.CAP_PROP_FPS)
    number, kept = 0, 0
    best, best_sharpness = None, -1.0
    while True:
        there, frame = reader.read()
        if not there:
            break
        sharpness = cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.CV_64F).var()
        if sharpness > best_sharpness:
            best, best_sharpness = frame, sharpness
        number += 1
        if number % 3 == 0 and best is not None:
            path = str(folder / f"{number:06d}.jpg")
            cv2.imwrite(path, best, [cv2.IMWRITE_JPEG_QUALITY, 95])
            kept += 1
            best, best_sharpness = None, -1.0
    return kept, number / rate


WAYS = {"relocalize": _by_relocalize, "opencv": _by_opencv}


def render_walk(path: Path, seconds: float) -> Path:
    """A hand-held walk: forward, swaying, with a turn every few seconds and sensor noise."""
    random = np.random.default_rng(0)
    coarse = random.uniform(0, 255, (90, 160, 3)).astype(np.float32)
    wall = cv2.resize(coarse, (8192, 4608), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    wall = wall.astype(np.uint8)
    for _ in range(6000):
        x, y = random.integers(0, (8100, 4500))
        w, h = random.integers(10, 160, 2)
        color = tuple(int(value) for value in random.integers(0, 255, 3))
        cv2.rectangle(wall, (x, y), (x + w, y + h), color, -1)
    noise = random.normal(0, 4, (16, HEIGHT, WIDTH, 3)).astype(np.int8)
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "crf": "20"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(round(seconds * RATE)):
            t = index / RATE
            scale = 1.6 + 0.5 * np.sin(0.5 * t)
            x = 3400 + 2200 * np.sin(0.35 * t) + 12 * np.sin(11 * t)
            y = 1900 + 700 * np.sin(0.23 * t) + 20 * np.sin(9 * t)
            shift = np.array([[scale, 0, x], [0, scale, y]])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            image = cv2.warpAffine(wall, shift, (WIDTH, HEIGHT), flags=flags)
            image = cv2.add(image, noise[index % len(noise)], dtype=cv2.CV_8U)
            pixels = np.asarray(image, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def repeat(video: Path, path: Path, times: int) -> Path:
    """The same video several times after itself, not encoded again."""
    with av.open(str(path), "w") as target:
        stream = None
        for turn in range(times):
            with av.open(str(video)) as source:
                one = source.streams.video[0]
                stream = stream or target.add_stream_from_template(one)
                length = Fraction(source.duration or 0, av.time_base) + Fraction(1, RATE)
                for packet in source.demux(one):
                    if packet.dts is None or packet.pts is None or packet.time_base is None:
                        continue
                    offset = round(turn * length / packet.time_base)
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    packet.stream = stream
                    target.mux(packet)
    return path


if __name__ == "__main__":
    main()
