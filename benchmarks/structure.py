"""The structure localizer on real frames with known truth: accuracy, CPU per stage, size on disk.

Run with the folder of the kitchen walk (images/, poses_sfm.txt, splits/):

    python benchmarks/structure.py DATA/redkitchen [--place FOLDER] [--split blocks]

The map is triangulated from the split's train frames with their known poses; the test frames are
localized with the known camera, and once more as photos of an unknown one. The last rows are the
obvious alternative: COLMAP's default SIFT and its own pose estimation, on the same map.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: CPU times below are of one thread

import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from hloc_style import ColmapSift, colmap_pose
from kitchen import kitchen_place
from relocalize import progress
from relocalize.features.extraction import extract_features
from relocalize.geometry import Camera, position_error, rotation_error_deg
from relocalize.localization import PoseEstimate, fitted
from relocalize.localization.query import Query
from relocalize.localization.structure import StructureLocalizer
from relocalize.place import Place

_ALTERNATIVE_EVERY = 5  # COLMAP's default SIFT takes long; every fifth test frame says enough


@dataclass(frozen=True)
class Arguments:
    """Measure the structure localizer."""

    data: tyro.conf.Positional[Path]
    """Folder with images/, poses_sfm.txt and splits/."""
    place: Path | None = None
    """Where the Place is made, or is already; a temporary folder by default."""
    split: str = "blocks"
    """Prefix of the lists in splits/."""


class CpuClock:
    """CPU milliseconds by stage."""

    def __init__(self) -> None:
        self.total: dict[str, float] = defaultdict(float)
        self.count: dict[str, int] = defaultdict(int)

    @contextmanager
    def stage(self, name: str) -> Any:
        """Count the block's CPU time for a stage."""
        started = time.process_time()
        yield
        self.total[name] += 1e3 * (time.process_time() - started)
        self.count[name] += 1

    def mean(self, name: str) -> float:
        """Milliseconds a call."""
        return self.total[name] / max(1, self.count[name])


def main(arguments: Arguments) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.place or Path(temporary) / "place"
        place = kitchen_place(root, arguments.data, arguments.split)
        split = place.split(arguments.split)
        started = time.process_time()
        localizer = fitted(place, "structure", split)
        assert isinstance(localizer, StructureLocalizer)
        print(f"fit: {time.process_time() - started:.1f} CPU s")
        folder = place.localizer_dir(f"structure.{split.name}")
        size = sum(file.stat().st_size for file in folder.iterdir())
        scene = localizer.solver.scene
        print(
            f"on disk: {size / 1e6:.2f} MB for {len(scene.positions)} points, "
            f"{len(scene.centres)} views"
        )
        truth = {image.name: image for image in place.posed_images() if image.name in split.test}

        clock = CpuClock()
        estimates = {
            name: localize_in_stages(localizer, place, name, truth[name].camera, clock)
            for name in progress.track(split.test, "known camera")
        }
        stages = ("features", "retrieval", "matching", "pose")
        show("known camera", estimates, truth, sum(clock.mean(stage) for stage in stages))
        for stage in stages:
            print(f"    {stage:10} {clock.mean(stage):7.1f} CPU ms")
        show_calibration(estimates, truth)

        started = time.process_time()
        images = map(place.read_image, progress.track(split.test, "unknown camera"))
        together = dict(zip(split.test, localizer.localize_many(images), strict=True))
        per_photo = 1e3 * (time.process_time() - started) / len(together)
        show("unknown camera, shared by all", together, truth, per_photo)
        cameras = {found.camera for found in together.values() if found.camera is not None}
        print("    ", *(f"{camera.model} {camera.params}" for camera in list(cameras)[:1]))
        some = split.test[::_ALTERNATIVE_EVERY]
        started = time.process_time()
        alone = {name: localizer.localize(place.read_image(name)) for name in some}
        per_photo = 1e3 * (time.process_time() - started) / len(some)
        show("unknown camera, each alone", alone, truth, per_photo)

        clock = CpuClock()
        theirs = alternative(localizer, place, some, truth, clock)
        total = clock.mean("features") + clock.mean("matching") + clock.mean("pose")
        show("COLMAP SIFT from octave -1, pycolmap PnP", theirs, truth, total)
        for stage in ("features", "matching", "pose"):
            print(f"    {stage:10} {clock.mean(stage):7.1f} CPU ms")


def localize_in_stages(
    localizer: StructureLocalizer, place: Place, name: str, camera: Camera, clock: CpuClock
) -> PoseEstimate:
    """What `StructureLocalizer.localize` does, timed by stage."""
    query = Query.of(place.read_image(name), camera)
    with clock.stage("features"):
        features = extract_features(query.pixels, localizer.solver.settings.features)
    with clock.stage("retrieval"):
        localizer.solver.scene.retrieve(features.descriptors, localizer.solver.settings.retrieved)
    with clock.stage("retrieval and matching"):
        matches = localizer.solver.match(features, camera)
    # `match` retrieves as well; it is not counted twice.
    with clock.stage("pose"):
        localizer.solver.solve(matches)
    count = clock.count["retrieval"]
    clock.count["matching"] = count
    clock.total["matching"] = clock.total["retrieval and matching"] - clock.total["retrieval"]
    return localizer.localize(query)


def alternative(
    localizer: StructureLocalizer,
    place: Place,
    names: tuple[str, ...],
    truth: dict[str, Any],
    clock: CpuClock,
) -> dict[str, PoseEstimate]:
    """COLMAP's default SIFT (doubled image) and its absolute pose estimation, one pass."""
    sift = ColmapSift(localizer.solver.settings.features.max_features)
    results = {}
    for name in progress.track(names, "alternative"):
        image, camera = place.read_image(name), truth[name].camera
        with clock.stage("features"):
            features = sift.features(image)
        with clock.stage("matching"):
            matches = localizer.solver.match(features, camera)
        with clock.stage("pose"):
            pose = colmap_pose(
                matches.keypoints[matches.feature_rows],
                localizer.solver.scene.positions[matches.point_rows],
                camera,
            )
        if pose is None:
            results[name] = PoseEstimate("failed", localizer.unit, 0.0, reason="no pose")
        else:
            results[name] = PoseEstimate("localized", localizer.unit, 0.0, world_from_cam=pose)
    return results


def errors(estimates: dict[str, PoseEstimate], truth: dict[str, Any]) -> np.ndarray[Any, Any]:
    """[N, 2] centimetres and degrees; failures infinite."""
    rows = []
    for name, found in estimates.items():
        pose, true = found.world_from_cam, truth[name].world_from_cam
        if pose is None:
            rows.append((np.inf, np.inf))
        else:
            rows.append((100 * position_error(pose, true), rotation_error_deg(pose, true)))
    return np.array(rows)


def show(
    what: str, estimates: dict[str, PoseEstimate], truth: dict[str, Any], cpu_ms: float
) -> None:
    found = errors(estimates, truth)

    def share(cm: float, deg: float) -> float:
        return 100 * float(((found[:, 0] <= cm) & (found[:, 1] <= deg)).mean())

    print(
        f"{what}: n {len(found)}, failed {int(np.isinf(found[:, 0]).sum())}, "
        f"median {np.median(found[:, 0]):.3f} cm {np.median(found[:, 1]):.3f} deg, "
        f"p95 {np.percentile(found[:, 0], 95):.2f} cm, max {found[:, 0].max():.2f} cm, "
        f"recall (2 cm, 2 deg) {share(2, 2):.1f}%, (5 cm, 5 deg) {share(5, 5):.1f}%, "
        f"{cpu_ms:.1f} CPU ms a photo"
    )


def show_calibration(estimates: dict[str, PoseEstimate], truth: dict[str, Any]) -> None:
    """How often the error lies within what the covariance says."""
    squares = []
    for name, found in estimates.items():
        if found.world_from_cam is None or found.covariance is None:
            continue
        error = found.world_from_cam.translation - truth[name].world_from_cam.translation
        squares.append(float(error @ np.linalg.solve(found.covariance[:3, :3], error)))
    # chi^2 with 3 degrees of freedom: median 2.37, 95% within 7.81.
    inside = 100 * float((np.array(squares) < 7.81).mean())
    print(
        f"    position covariance: median chi^2 {np.median(squares):.2f} (exact: 2.37), "
        f"{inside:.0f}% within the 95% ellipsoid"
    )


if __name__ == "__main__":
    with progress.shown():
        main(tyro.cli(Arguments))
