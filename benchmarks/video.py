"""Poses of a video: raw and smoothed errors against a truth, how honest their uncertainty is, cost.

Run with the folder of the kitchen walk (images/, poses_sfm.txt, splits/, walkthrough.mp4):

    python benchmarks/video.py DATA/redkitchen [--place FOLDER] [--localizers structure retrieval]

The clip is the last 200 frames of the walk as its video has them (more compressed than its images),
the test part of the split `later`: the map is made from the 800 frames before, and no frame of the
clip is in it. The clip's camera is not given but calibrated from the clip itself. The rows "with
wrong frames" have every tenth estimate replaced by one that is metres off and as sure of itself.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: CPU times below are of one thread

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from kitchen import kitchen_place
from relocalize import progress
from relocalize.capture.video import open_video
from relocalize.geometry import Rigid3, position_error, rotation_error_deg
from relocalize.geometry.transforms import FloatArray
from relocalize.localization.trajectory import smooth
from relocalize.localization.video import ClipSettings, LocalizedClip, localize_clip
from relocalize.localization.video.overlay import write_video

_SPLIT = "later"
_WRONG_EVERY = 10
_CHI2_3 = (2.366, 7.815)  # of chi-square with 3 degrees of freedom: median, 95% quantile


@dataclass(frozen=True)
class Arguments:
    """Measure the trajectory of a video."""

    data: tyro.conf.Positional[Path]
    """Folder with images/, poses_sfm.txt, splits/ and walkthrough.mp4."""
    place: Path | None = None
    """Where the Place is made, or is already; a temporary folder by default."""
    localizers: tuple[str, ...] = ("structure", "retrieval")
    """Which localizers."""
    out: Path | None = None
    """Where the clip and what comes of it are kept; a temporary folder by default."""


def main(arguments: Arguments) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.place or Path(temporary) / "place"
        out = arguments.out or Path(temporary) / "out"
        place = kitchen_place(root, arguments.data, _SPLIT)
        test = place.split(_SPLIT).test
        truth = [place.map.images[name].world_from_cam for name in test]
        clip = cut(arguments.data / "walkthrough.mp4", frame_numbers(test), out / "clip.mp4")
        for localizer in arguments.localizers:
            started = time.process_time()
            found = localize_clip(
                place, clip, out / localizer, ClipSettings(localizer, overlay=False)
            )
            spent = 1e3 * (time.process_time() - started) / len(found.poses)
            print(f"\n{localizer}: {len(found.poses)} frames, {spent:.0f} CPU ms a frame")
            if found.camera is not None:
                numbers = " ".join(f"{value:.4g}" for value in found.camera.params)
                print(f"    camera of the clip: {found.camera.model} {numbers}")
            show(found, truth)
            with_wrong_frames(found, truth)
        started = time.process_time()
        localize_clip(place, clip, out / arguments.localizers[0], ClipSettings())
        print(f"\noverlay: {1e3 * (time.process_time() - started) / len(truth):.0f} CPU ms a frame")


def frame_numbers(names: Sequence[str]) -> list[int]:
    return [int(Path(name).stem.split("-")[-1]) for name in names]


def cut(video: Path, numbers: Sequence[int], path: Path) -> Path:
    """The frames ``numbers`` of a video, which follow each other, as a video."""
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"cutting-{path.name}")
    with open_video(video) as opened:
        wanted = set(numbers)
        images = (
            (image.bgr(), (number - min(wanted)) * opened.frame_s)
            for number, image in enumerate(opened.images())
            if number in wanted
        )
        write_video(aside, 1 / opened.frame_s, images)
    return aside.rename(path)


def show(found: LocalizedClip, truth: Sequence[Rigid3]) -> None:
    """Raw and smoothed errors of the same frames, and those of the frames that have no own word."""
    counts = ", ".join(f"{count} {status}" for status, count in found.counts.items())
    print(f"    {counts}; {found.jitter or 0:.2f} of the stated variances is jitter")
    own = [pose.status == "localized" for pose in found.poses]
    raw = [pose.frame.estimate.world_from_cam for pose in found.poses]
    smoothed = [pose.world_from_cam for pose in found.poses]
    stated = [pose.frame.estimate.covariance for pose in found.poses]
    line("raw, all estimates", raw, truth, stated, [pose is not None for pose in raw])
    line("raw, localized", raw, truth, stated, own)
    covariances = [pose.covariance for pose in found.poses]
    line("smoothed, localized", smoothed, truth, covariances, own)
    others = [pose is not None and not one for pose, one in zip(smoothed, own, strict=True)]
    if any(others):
        line("raw, the others", raw, truth, stated, others)
        line("smoothed, the others", smoothed, truth, covariances, others)


def with_wrong_frames(found: LocalizedClip, truth: Sequence[Rigid3]) -> None:
    """The same with every tenth estimate metres off."""
    rng = np.random.default_rng(0)
    estimates = [pose.frame.estimate.world_from_cam for pose in found.poses]
    covariances = [pose.frame.estimate.covariance for pose in found.poses]
    shared = [pose.frame.estimate.shared_covariance for pose in found.poses]
    wrong = [k for k in range(5, len(truth), _WRONG_EVERY) if estimates[k] is not None]
    for k in wrong:
        turn = Rotation.from_rotvec(rng.normal(0, 1, 3)).as_matrix()
        estimates[k] = Rigid3(turn @ truth[k].rotation, truth[k].translation + rng.normal(0, 2, 3))
    started = time.process_time()
    times = [pose.frame.time_s for pose in found.poses]
    smoothed = smooth(times, estimates, covariances, shared)
    spent = time.process_time() - started
    rejected = [k for k, pose in enumerate(smoothed.poses) if pose.status == "rejected"]
    print(
        f"    with {len(wrong)} wrong frames: {len(set(rejected) & set(wrong))} of them rejected, "
        f"{len(set(rejected) - set(wrong))} others; smoothing took {spent:.1f} CPU s"
    )
    every = [pose.world_from_cam for pose in smoothed.poses]
    own = [pose.covariance for pose in smoothed.poses]
    line("smoothed, every frame", every, truth, own, [True] * len(truth))
    line("smoothed, wrong frames", every, truth, own, [k in wrong for k in range(len(truth))])


def line(
    what: str,
    found: Sequence[Rigid3 | None],
    truth: Sequence[Rigid3],
    covariances: Sequence[FloatArray | None],
    chosen: Sequence[bool],
) -> None:
    position, rotation, squares = [], [], []
    for pose, true, covariance, wanted in zip(found, truth, covariances, chosen, strict=True):
        if not wanted or pose is None:
            continue
        position.append(100 * position_error(pose, true))
        rotation.append(rotation_error_deg(pose, true))
        if covariance is not None:
            off = pose.translation - true.translation
            squares.append(float(off @ np.linalg.solve(covariance[:3, :3], off)))
    cm, chi2 = np.array(position), np.array(squares)
    if not len(chi2):
        return
    print(
        f"    {what:24} n {len(cm):3}  {spread(cm)} cm   {spread(np.array(rotation))} deg   "
        f"chi^2 {np.median(chi2):.2f} (exact {_CHI2_3[0]:.2f}), "
        f"{100 * float((chi2 < _CHI2_3[1]).mean()):.0f}% in the 95% ellipsoid"
    )


def spread(values: NDArray[np.float64]) -> str:
    """Median, 95th percentile and worst."""
    return f"{np.median(values):6.3f} {np.percentile(values, 95):6.3f} {values.max():7.3f}"


if __name__ == "__main__":
    with progress.shown():
        main(tyro.cli(Arguments))
