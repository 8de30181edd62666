"""What a long walk costs to map, how that grows with it, and how far the map is off.

    python benchmarks/long_walk.py [--frames 150 300 600 1200] [--walk FOLDER] [--work FOLDER]

Growth is measured on simulated walks through corridors with turns: features are drawn and not
rendered (`relocalize_synthetic.simulated`), so that 5000 frames take a minute to make. With --walk,
`walk.mp4` and `walk_poses.txt` of FOLDER are mapped too; where it does not exist, a corridor of
150 m and 100 m is rendered there (7.6 minutes of video, 4 GB, half an hour), walked there and back.
COLMAP's own sequential pipeline then maps the first frames of it. Errors are of centres after one
similarity. Every row is a process of its own; CPU seconds hold on a shared machine.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
import tyro

import relocalize
from relocalize import Place, Rigid3, progress
from relocalize.geometry import align_camera_poses
from relocalize_synthetic import CorridorSettings, WalkSettings, write_corridor
from relocalize_synthetic.simulated import SimulatedWalk, simulate_walk

_STEP = 0.45  # metres between simulated frames
_ARMS = (30.0, 20.0)  # metres of simulated corridors, by turns


@dataclass(frozen=True)
class Arguments:
    """Map long walks."""

    frames: tuple[int, ...] = (150, 300, 600, 1200)
    """Lengths of the simulated walks."""
    walk: Path | None = None
    """Folder of a rendered walk, made if it is not there."""
    count: int = 1200
    """Frames that are taken of it."""
    colmap: int = 150
    """Frames of it that COLMAP's own pipeline maps; 0 for none."""
    work: Path | None = None
    """Where the Places are made; a new temporary folder by default."""
    row: str = ""
    """Make this row alone: `simulated 150`, `rendered`, or `colmap`."""


def main(arguments: Arguments) -> None:
    """Print a line for each walk, and how cost grows."""
    work = arguments.work or Path(tempfile.mkdtemp(prefix="relocalize-benchmark-"))
    if arguments.row:
        print(json.dumps(_row(arguments, work)))
        return
    print(f"{'':16}{'images':>8}{'posed':>7}{'wall s':>8}{'CPU s':>8}{'peak MB':>9}  off")
    rows = [_measured(arguments, work, f"simulated {frames}") for frames in arguments.frames]
    if len(rows) > 1:
        images = np.log([row["images"] for row in rows])
        for what in ("cpu_s", "peak_mb"):
            slope = np.polyfit(images, np.log([row[what] for row in rows]), 1)[0]
            print(f"{what} grows with the {slope:.2f}th power of the images")
    if arguments.walk is not None:
        ours = _measured(arguments, work, "rendered")
        if arguments.colmap:
            theirs = _measured(arguments, work, "colmap")
            ratio = theirs["cpu_s"] / theirs["images"] / (ours["cpu_s"] / ours["images"])
            print(f"COLMAP's own pipeline takes {ratio:.1f} times as much for an image")


def _measured(arguments: Arguments, work: Path, row: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--work", str(work), "--row", row]
    command += ["--count", str(arguments.count), "--colmap", str(arguments.colmap)]
    command += ["--walk", str(arguments.walk)] if arguments.walk else []
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(said.splitlines()[-1])
    off = ", ".join(f"{found[key]:.3f}" for key in ("median", "most", "largest"))
    print(
        f"{row:16}{found['images']:8}{found['posed']:7}{found['wall_s']:8.0f}{found['cpu_s']:8.0f}"
        f"{found['peak_mb']:9.0f}  {off} m (median, 90%, largest) {found['said']}",
        flush=True,
    )
    return dict(found)


def _row(arguments: Arguments, work: Path) -> dict[str, object]:
    """A walk made, mapped and held against the truth."""
    what, _, frames = arguments.row.partition(" ")
    with progress.shown():
        if what == "simulated":
            place, truth = simulate_walk(work / f"simulated-{frames}", _simulated(int(frames)))
        else:
            assert arguments.walk is not None
            place, truth = _rendered(arguments.walk, work / "rendered", arguments.count)
        wall, cpu = time.perf_counter(), time.process_time()
        if what == "colmap":
            names = place.capture("walk").image_names[: arguments.colmap]
            poses, said = _colmap(place, names, work), ""
            images = len(names)
        else:
            report = relocalize.map(place, features="sift")
            images, said = report.images, str(report.drift or "")
            poses = {name: image.world_from_cam for name, image in place.map.images.items()}
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    errors = align_camera_poses(
        list(poses.values()), [truth[name] for name in poses]
    ).position_residuals
    return {
        "images": images,
        "posed": len(poses),
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "median": float(np.median(errors)),
        "most": float(np.quantile(errors, 0.9)),
        "largest": float(errors.max()),
        "said": said,
    }


def _simulated(frames: int) -> SimulatedWalk:
    """A walk of about so many frames."""
    corners = [(0.0, 0.0)]
    # In turns frames are closer to each other.
    while len(corners) < 2 or _frames(len(corners) - 1) < frames:
        x, y = corners[-1]
        corners.append((x + _ARMS[0], y) if len(corners) % 2 else (x, y + _ARMS[1]))
    return SimulatedWalk(tuple(corners), step=_STEP)


def _frames(corridors: int) -> float:
    return corridors * (sum(_ARMS) / 2 + 7) / _STEP


def _rendered(source: Path, root: Path, count: int) -> tuple[Place, dict[str, Rigid3]]:
    if not (source / "walk_poses.txt").is_file():
        walk = WalkSettings(fps=15, return_m=240, speed=1.1)
        write_corridor(
            source,
            settings=CorridorSettings(seed=5, first_arm=150, second_arm=100, walk=walk),
        )
    relocalize.frames(source / "walk.mp4", root, count=count)
    place = Place.open(root)
    poses = {}
    for line in (source / "walk_poses.txt").read_text().splitlines():
        name, *numbers = line.split()
        values = [float(number) for number in numbers[:7]]
        poses[name] = Rigid3.from_quat_wxyz(values[:4], values[4:]).inverse()
    images = place.capture("walk").images
    return place, {image.name: poses[f"frame-{image.frame_index:06d}.jpg"] for image in images}


def _colmap(place: Place, names: list[str], work: Path) -> dict[str, Rigid3]:
    """COLMAP's own extractor, sequential matcher and mapper, as they come."""
    folder = Path(tempfile.mkdtemp(dir=work))
    database = str(folder / "database.db")
    extraction, matching = pycolmap.FeatureExtractionOptions(), pycolmap.FeatureMatchingOptions()
    extraction.use_gpu = matching.use_gpu = False
    pycolmap.extract_features(
        database,
        str(place.images_dir),
        image_names=names,
        camera_mode=pycolmap.CameraMode.SINGLE,
        extraction_options=extraction,
    )
    pycolmap.match_sequential(database, matching_options=matching)
    (folder / "models").mkdir()
    found = pycolmap.incremental_mapping(database, str(place.images_dir), str(folder / "models"))
    best = max(found.values(), key=lambda model: model.num_reg_images())
    posed = (image for image in best.images.values() if image.has_pose)
    return {i.name: Rigid3.from_colmap(i.cam_from_world()).inverse() for i in posed}


if __name__ == "__main__":
    main(tyro.cli(Arguments))
