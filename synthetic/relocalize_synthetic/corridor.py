"""`write_corridor`: the walk, the visitor's photos and their truth as files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image as PillowImage

from relocalize import progress
from relocalize.errors import CaptureError
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.parallel import map_in_order
from relocalize.place import atomic
from relocalize_synthetic.layout import corridor
from relocalize_synthetic.render import Lens, Renderer
from relocalize_synthetic.scene import Image
from relocalize_synthetic.sensor import Sensor
from relocalize_synthetic.settings import CorridorSettings
from relocalize_synthetic.walk import Walk, plan_photos, plan_walk

_STILL_PX = 0.7  # image motion while the shutter is open that shows no blur
_EXPOSURES = 4  # averaged where there is blur; at a stroll they are 1 to 3 pixels apart
_35MM_WIDTH = 36.0  # millimetres of the film that EXIF's equivalent focal length refers to
_TAG_FOCAL_35MM = 0xA405
_TAG_EXIF = 0x8769


@dataclass(frozen=True, eq=False)
class CorridorTruth:
    """What is exactly known about the files that `write_corridor` made.

    Attributes:
        folder: where they are.
        settings: everything they follow from.
        walk_poses: cam_from_world of every video frame, by name (`frame-000123.jpg`).
        visitor_poses: cam_from_world of every photo, by file name.
        landmarks: world points [3] of the survey targets' centres, metres.
        rest_frames: (first, last) frame index while the walker stands still.
    """

    folder: Path
    settings: CorridorSettings
    walk_poses: dict[str, Rigid3]
    visitor_poses: dict[str, Rigid3]
    landmarks: dict[str, FloatArray]
    rest_frames: tuple[int, int]


def write_corridor(folder: Path, *, settings: CorridorSettings | None = None) -> CorridorTruth:
    """Render an L-shaped corridor: `walk.mp4`, `visitor/*.jpg` and their exact truth.

    `walk_poses.txt` and `visitor_poses.txt` have lines `name qw qx qy qz tx ty tz focal_px`
    (world-to-camera, OpenCV axes, metres, z up); `truth.json` has cameras, landmarks and all
    settings. The folder appears whole or not at all, and is the same for the same settings.

    Raises:
        CaptureError: the folder exists and is not empty, or its place cannot be written.
    """
    folder = Path(folder)
    settings = settings or CorridorSettings()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CaptureError(f"{folder} is there already and not empty; give a new folder")
    progress.say(f"building the corridor (seed {settings.seed})")
    scene = corridor(settings)
    renderer = Renderer(scene)
    walk = plan_walk(settings)
    frames = int(walk.duration * settings.walk.fps)
    times = (np.arange(frames) + 0.5) / settings.walk.fps
    # Photos are of the place: they stay where they are, whether or not the walk comes back.
    there = plan_walk(replace(settings, walk=replace(settings.walk, return_m=0.0)))
    photos = plan_photos(settings, there, list(scene.cells))
    truth = CorridorTruth(
        folder,
        settings,
        {f"frame-{i:06d}.jpg": walk.cam_from_world(float(t)) for i, t in enumerate(times)},
        {f"photo-{i:03d}.jpg": pose for i, pose in enumerate(photos)},
        scene.landmarks,
        _rest_frames(walk, times),
    )
    try:
        with atomic.new_folder(folder) as aside:
            _write_video(aside / "walk.mp4", renderer, walk, times, settings)
            _write_photos(aside / "visitor", renderer, truth.visitor_poses, settings)
            _write_truth(aside, truth)
    except OSError as error:
        raise CaptureError(f"{folder} cannot be written: {error.strerror or error}") from error
    return truth


def _rest_frames(walk: Walk, times: FloatArray) -> tuple[int, int]:
    inside = np.flatnonzero((times > walk.rest[0]) & (times < walk.rest[1]))
    return (int(inside[0]), int(inside[-1])) if len(inside) else (0, -1)


def _write_video(
    path: Path, renderer: Renderer, walk: Walk, times: FloatArray, settings: CorridorSettings
) -> None:
    camera, fps = settings.walk.camera, settings.walk.fps
    images = _frames(renderer, walk, times, settings)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = camera.width, camera.height, "yuv420p"
        # For the same file every time: the number of threads is part of what x264 writes, and its
        # macroblock tree differs from run to run (measured with PyAV 18 on x86-64).
        stream.options = {
            "crf": str(settings.walk.crf),
            "preset": "veryfast",
            "threads": "2",
            "x264-params": "mbtree=0",
        }
        stream.codec_context.time_base = Fraction(1, fps)
        for index, image in enumerate(
            progress.track(images, "rendering the walk", total=len(times), unit="frames")
        ):
            # OpenCV's conversion (BT.601, limited range, what decoders take untagged video for) is
            # the same at every run; FFmpeg's depends on how buffers happen to be aligned.
            planes = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _frames(
    renderer: Renderer, walk: Walk, times: FloatArray, settings: CorridorSettings
) -> Iterator[Image]:
    """The video's images, in order."""
    camera, options = settings.walk.camera, settings.walk
    sensor = Sensor(
        camera.width,
        camera.height,
        noise=options.noise,
        vignetting=options.vignetting,
        white_balance=(1.0, 1.0, 1.0),
        rng=np.random.default_rng([settings.seed, 4]),
    )
    phases = np.random.default_rng([settings.seed, 5]).uniform(0, 2 * np.pi, 2)

    def frame(index: int) -> Image:
        time = float(times[index])
        offsets = _exposure_offsets(walk, time, options.exposure_s, camera)
        poses = [walk.cam_from_world(time + offset) for offset in offsets]
        light = (
            renderer.render(camera, poses[0])
            if len(poses) == 1
            else renderer.render_moving(camera, poses)
        )
        drift = 0.7 * np.sin(0.53 * time + phases[0]) + 0.3 * np.sin(1.31 * time + phases[1])
        rng = np.random.default_rng([settings.seed, 6, index])
        return sensor.develop(light, 1 + options.exposure_drift * float(drift), rng)

    return map_in_order(frame, range(len(times)))


def _exposure_offsets(walk: Walk, time: float, exposure_s: float, camera: Camera) -> list[float]:
    """Instants while the shutter is open, relative to its middle; one where nothing moves."""
    if exposure_s <= 0:
        return [0.0]
    start, end = (walk.cam_from_world(time + half * exposure_s) for half in (-0.5, 0.5))
    # What points at 1.5 m in the image's corners and centre move by.
    corners = np.array([[0, 0], [1, 0], [0.5, 0.5], [0, 1], [1, 1]]) * [camera.width, camera.height]
    rays = camera.cam_from_img(corners)
    points = start.inverse() @ (1.5 * np.hstack([rays, np.ones((5, 1))]))
    motion = np.linalg.norm(camera.img_from_cam(end @ points) - corners, axis=1)
    count = _EXPOSURES if np.nanmax(motion) > _STILL_PX else 1
    return [float(((k + 0.5) / count - 0.5) * exposure_s) for k in range(count)]


def _write_photos(
    folder: Path, renderer: Renderer, poses: dict[str, Rigid3], settings: CorridorSettings
) -> None:
    folder.mkdir()
    options, camera = settings.visitor, settings.visitor.camera
    lens: Lens = renderer.lens(camera)
    sensor = Sensor(
        camera.width,
        camera.height,
        noise=options.noise,
        vignetting=options.vignetting,
        white_balance=options.white_balance,
        rng=np.random.default_rng([settings.seed, 7]),
    )

    def photo(index: int) -> tuple[str, Image]:
        name, pose = list(poses.items())[index]
        rng = np.random.default_rng([settings.seed, 8, index])
        light = renderer.render_through(lens, pose)
        return name, sensor.develop(light, options.gain * rng.uniform(0.85, 1.15), rng)

    images = map_in_order(photo, range(len(poses)))
    for name, image in progress.track(
        images, "rendering the photos", total=len(poses), unit="photos"
    ):
        data = io.BytesIO()
        exif = PillowImage.Exif()
        exif[0x0110] = "relocalize synthetic visitor"  # Model
        if options.focal_in_exif:
            focal = round(camera.focal_px / camera.width * _35MM_WIDTH)
            exif.get_ifd(_TAG_EXIF)[_TAG_FOCAL_35MM] = focal
        PillowImage.fromarray(image).save(data, "JPEG", quality=options.jpeg_quality, exif=exif)
        (folder / name).write_bytes(data.getvalue())


def _write_truth(folder: Path, truth: CorridorTruth) -> None:
    settings = truth.settings
    for name, poses, camera in (
        ("walk_poses.txt", truth.walk_poses, settings.walk.camera),
        ("visitor_poses.txt", truth.visitor_poses, settings.visitor.camera),
    ):
        (folder / name).write_text(_pose_lines(poses, camera.focal_px), encoding="utf-8")
    facts: dict[str, Any] = {
        "frame": {"unit": "metre", "up": "z"},
        "seed": settings.seed,
        "cameras": {
            "walk": asdict(settings.walk.camera),
            "visitor": asdict(settings.visitor.camera),
        },
        "frames": len(truth.walk_poses),
        "rest_frames": list(truth.rest_frames),
        "landmarks": {name: [round(v, 9) for v in p] for name, p in truth.landmarks.items()},
        "settings": asdict(settings),
    }
    atomic.write_json(folder / "truth.json", facts)


def _pose_lines(poses: dict[str, Rigid3], focal_px: float) -> str:
    def numbers(values: Sequence[float] | FloatArray) -> str:
        return " ".join(f"{value:.9f}" for value in values)

    return "".join(
        f"{name} {numbers(pose.quat_wxyz)} {numbers(pose.translation)} {focal_px:.6f}\n"
        for name, pose in poses.items()
    )
