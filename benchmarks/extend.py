"""What a second walk is like that joins a finished map: `relocalize map --extend`, or `merge`.

    python benchmarks/extend.py DATA [--work FOLDER] [--count N] [--merge]

The kitchen's video (`redkitchen/walkthrough.mp4`) is cut in two that share some frames. The first
makes the map, the second is added; with ``--merge``, as a Place with a map of its own. Errors are
of centres in the first's frame, which one robust similarity brings onto the truth.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import tyro

import relocalize
from relocalize import Place, Rigid3, progress
from relocalize.formats import read_registration
from relocalize.geometry import align_camera_poses, position_error

_WALKS = {"first": (0, 520), "second": (440, 1000)}  # frames of the video


@dataclass(frozen=True)
class Arguments:
    """Extend a map."""

    data: tyro.conf.Positional[Path]
    """The team's data folder."""
    work: Path | None = None
    """Where the Place is made; a new temporary folder by default."""
    count: int | None = None
    """Keep about so many frames of each walk."""
    merge: bool = False
    """Map the second walk by itself, and merge the two Places."""


def main(arguments: Arguments) -> None:
    """Print a line for each walk."""
    source = arguments.data / "redkitchen"
    work = arguments.work or Path(tempfile.mkdtemp(prefix="relocalize-benchmark-"))
    _cut(source / "walkthrough.mp4", work)
    root = work / "place"
    print(f"{'':8}{'images':>8}{'posed':>7}{'CPU s':>8}  off: median, 90%, largest (cm)")
    reports = {}
    costs = {}
    for name in _WALKS:
        alone = arguments.merge and name == "second"
        into = work / "other" if alone else root
        relocalize.frames(work / f"{name}.mp4", into, capture=name, count=arguments.count)
        started = time.process_time()
        reports[name] = relocalize.map(into, extend=name == "second" and not alone)
        if alone:
            reports[name] = relocalize.merge(root, into).map
        costs[name] = time.process_time() - started
        if name == "first":
            before = {n: image.world_from_cam for n, image in Place.open(root).map.images.items()}
    place = Place.open(root)
    truth = _truth(source, place)
    world_from_map = align_camera_poses(list(before.values()), [truth[n] for n in before]).b_from_a
    for name in _WALKS:
        names = place.capture(name).image_names
        posed = [n for n in names if n in place.map.images]
        off = [
            100
            * position_error(
                world_from_map.move_camera(place.map.images[n].world_from_cam), truth[n]
            )
            for n in posed
        ]
        quantiles = ", ".join(f"{q:.2f}" for q in np.quantile(off, [0.5, 0.9, 1.0]))
        print(f"{name:8}{len(names):8}{len(posed):7}{costs[name]:8.1f}  {quantiles}")
    moved = max(
        position_error(place.map.images[n].world_from_cam, pose) for n, pose in before.items()
    )
    print(f"the first's poses moved by {moved:g}")


def _cut(video: Path, folder: Path) -> None:
    with av.open(str(video)) as source:
        frames = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    for name, (start, end) in _WALKS.items():
        with av.open(str(folder / f"{name}.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=30, options={"crf": "16"})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            for frame in frames[start:end]:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            out.mux(stream.encode())


def _truth(source: Path, place: Place) -> dict[str, Rigid3]:
    registration = read_registration(source / "poses_sfm.txt")
    return {
        image.name: registration.world_from_cam(f"frame-{start + image.frame_index:06d}.jpg")
        for name, (start, _) in _WALKS.items()
        for image in place.capture(name).images
        if image.frame_index is not None
    }


if __name__ == "__main__":
    with progress.shown():
        main(tyro.cli(Arguments))
