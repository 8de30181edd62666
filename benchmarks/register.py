"""Photos of an unknown second camera into a map that does not move: accuracy, camera, CPU.

Run with the folder of the kitchen walk (images/, poses_sfm.txt, splits/, second_camera/):

    python benchmarks/register.py DATA/redkitchen [--place FOLDER]

The map is triangulated from the ``blocks`` train frames with their known poses. Each of the 30
photos was made from one test frame by turning the camera about its centre, so its centre is that
frame's; which frame is not told, so it is held against the nearest one. The other rows are the
obvious alternative on the same 2D-3D matches: pycolmap's absolute pose of each photo by itself,
with its focal length estimated.
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
import pycolmap
import tyro

from kitchen import kitchen_place
from relocalize import progress
from relocalize.absolute_pose import Matches, PoseSolver
from relocalize.features.database import open_database
from relocalize.geometry import Rigid3, rotation_error_deg
from relocalize.mapping import model_of_images
from relocalize.mapping.register_photos import RegisterPhotosSettings, register_photos

_SPLIT = "blocks"
_CAPTURE = "second_camera"
_TRUE_FOCAL = 720.0


@dataclass(frozen=True)
class Arguments:
    """Measure registration of the second camera's photos."""

    data: tyro.conf.Positional[Path]
    """Folder with images/, poses_sfm.txt, splits/ and second_camera/."""
    place: Path | None = None
    """Where the Place is made; a temporary folder by default."""


@dataclass(frozen=True)
class Found:
    """A photo's pose and the focal length that came with it."""

    world_from_cam: Rigid3
    focal_px: float


def main(arguments: Arguments) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        place = kitchen_place(arguments.place or Path(temporary) / "place", arguments.data)
        frames = [
            image.world_from_cam
            for name, image in place.map.images.items()
            if name in set(place.split(_SPLIT).test)
        ]
        report = register_photos(
            place,
            [arguments.data / "second_camera" / "images"],
            RegisterPhotosSettings(_CAPTURE),
        )
        names = [photo.image for photo in report.photos]
        posed = place.map.images
        ours = {
            name: Found(posed[name].world_from_cam, posed[name].camera.focal_px)
            for name in names
            if name in posed
        }
        for camera in report.cameras:
            print(
                f"camera: {camera.model} {np.round(camera.params, 4).tolist()}, focal length "
                f"{camera.focal_px:.2f} +- {camera.focal_sigma_px or 0:.2f} px, "
                f"principal point +- {camera.principal_point_sigma_px or 0:.2f} px"
            )
        for stage, seconds in report.cpu_s.items():
            print(f"    {stage:28} {seconds:8.2f} CPU s, {seconds / len(names):.3f} a photo")
        print(
            f"{'':55}{'posed':>6}{'median':>9}{'max':>9}{'<= 2 cm':>9}{'max':>8}"
            f"{'focal off':>11}{'worst':>8}{'CPU ms':>8}"
        )
        # What the map itself needs, once, is needed by the alternative just as well.
        seconds = sum(report.cpu_s.values()) - report.cpu_s["learning the map"]
        first = row("relocalize register", names, ours, frames, seconds)
        with open_database(place) as database:
            train = model_of_images(place, place.split(_SPLIT).train)
            solver = PoseSolver.learn(train, database)
            capture = place.capture(_CAPTURE)
            started = time.process_time()
            matches = {
                image.name: solver.match(database.features(image.name), capture.camera_of(image))
                for image in capture.images
            }
            shared = report.cpu_s["features"] + time.process_time() - started
        for what, with_radial in (("focal length", False), ("focal length, radial term", True)):
            started = time.process_time()
            alone = {
                name: found
                for name in names
                if (found := by_itself(matches[name], solver, with_radial=with_radial))
            }
            seconds = shared + time.process_time() - started
            other = row(f"pycolmap, each alone: pose, {what}", names, alone, frames, seconds)
            print(f"    median error {other / first:.1f} times that of relocalize register")


def by_itself(matches: Matches, solver: PoseSolver, *, with_radial: bool) -> Found | None:
    """COLMAP's absolute pose with the focal length, of one photo."""
    estimation = pycolmap.AbsolutePoseEstimationOptions()
    estimation.estimate_focal_length = True
    refinement = pycolmap.AbsolutePoseRefinementOptions()
    refinement.refine_focal_length = True
    refinement.refine_extra_params = with_radial
    camera = matches.camera.to_colmap()
    found = pycolmap.estimate_and_refine_absolute_pose(
        matches.keypoints[matches.feature_rows],
        solver.scene.positions[matches.point_rows],
        camera,
        estimation,
        refinement,
    )
    if found is None:
        return None
    pose = found["cam_from_world"]
    cam_from_world = Rigid3(pose.rotation.matrix(), pose.translation)
    return Found(cam_from_world.inverse(), float(camera.focal_length))


def row(
    what: str,
    names: Sequence[str],
    found: dict[str, Found],
    frames: Sequence[Rigid3],
    cpu_s: float,
) -> float:
    """Print a row of the table; the median distance in cm, failures infinite."""
    centres = np.stack([frame.translation for frame in frames])
    distances, angles, focals = [], [], []
    for name in names:
        if name not in found:
            distances.append(np.inf)
            continue
        pose = found[name].world_from_cam
        off = np.linalg.norm(centres - pose.translation, axis=1)
        distances.append(100 * float(off.min()))
        angles.append(rotation_error_deg(pose, frames[int(off.argmin())]))
        focals.append(100 * abs(found[name].focal_px / _TRUE_FOCAL - 1))
    print(
        f"{what:55}{len(found):>3}/{len(names)}{np.median(distances):>6.2f} cm"
        f"{max(distances):>6.2f} cm{100 * float(np.mean(np.array(distances) <= 2)):>7.0f} %"
        f"{max(angles):>6.2f} °{np.median(focals):>9.2f} %{max(focals):>6.2f} %"
        f"{1e3 * cpu_s / len(names):>8.0f}"
    )
    return float(np.median(distances))


if __name__ == "__main__":
    with progress.shown():
        main(tyro.cli(Arguments))
