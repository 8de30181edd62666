"""Alignment of frames: the kitchen's two truths, another tool's registration, and bad cases.

Run with the folder of the kitchen walk (images/, poses_*.txt, splits/, second_camera/):

    python benchmarks/align.py DATA/redkitchen [--place FOLDER]

1. ``poses_dslam.txt`` onto ``poses_sfm.txt``: two registrations of the same 1000 frames.
2. ``second_camera/realitycapture.csv``, another frame and scale with noise and gross mistakes,
   against the same 30 photos registered into a map from the ``blocks`` train frames.
3. Simulated cameras with known truth: a room and a straight corridor, clean and with gross errors,
   against the obvious alternatives: least squares over all centres (Umeyama, what trajectory
   evaluators do) and the same in RANSAC (pycolmap, whose bound has to be told; it is given the
   true one); and how many of the gross errors are named.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: CPU times below are of one thread

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import tyro
from scipy.spatial.transform import Rotation

from kitchen import kitchen_place
from relocalize import progress
from relocalize.formats import read_registration
from relocalize.geometry import Rigid3, Similarity3, align_camera_poses
from relocalize.geometry.alignment_doubts import why_not
from relocalize.geometry.transforms import rotation_angle_deg
from relocalize.mapping.aligning import align_place, read_reference
from relocalize.mapping.register_photos import RegisterPhotosSettings, register_photos
from relocalize.place import Place

_CAPTURE = "second_camera"
_TRIALS = 40
_POSITION_SIGMA, _ANGLE_SIGMA_DEG = 0.02, 0.5  # of simulated poses per axis, metres
_ALTERNATIVE_BOUND = 5 * _POSITION_SIGMA  # metres: what nobody knows beforehand


@dataclass(frozen=True)
class Arguments:
    """Measure alignment."""

    data: tyro.conf.Positional[Path]
    """Folder with images/, poses_sfm.txt, poses_dslam.txt, splits/ and second_camera/."""
    place: Path | None = None
    """Where the Place is made, or is already; a temporary folder by default."""


def main(arguments: Arguments) -> None:
    two_truths(arguments.data)
    with tempfile.TemporaryDirectory() as temporary:
        another_tool(arguments.data, arguments.place or Path(temporary) / "place")
    simulated()
    mistakes_named()


def two_truths(data: Path) -> None:
    slam = read_registration(data / "poses_dslam.txt")
    sfm = read_registration(data / "poses_sfm.txt")
    names = [name for name in slam.poses if name in sfm.poses]
    started = time.process_time()
    found = align_camera_poses(
        [slam.world_from_cam(name) for name in names], [sfm.world_from_cam(name) for name in names]
    )
    cpu_ms = 1e3 * (time.process_time() - started)
    transform = found.b_from_a
    print(f"poses_dslam.txt onto poses_sfm.txt: {len(names)} images, {cpu_ms:.0f} CPU ms")
    print(f"  scale {transform.scale:.6f}, quat_wxyz {transform.quat_wxyz.round(6).tolist()}, ")
    print(f"  translation {transform.translation.round(5).tolist()} m")
    median_cm = 100 * np.median(found.position_residuals)
    print(
        f"  {int(found.inliers.sum())} agree: median {median_cm:.2f} cm and "
        f"{np.median(found.rotation_residuals_deg):.2f} deg, at most "
        f"{100 * found.position_residuals.max():.2f} cm and "
        f"{found.rotation_residuals_deg.max():.2f} deg; left out one at a time "
        f"{100 * np.nanmedian(found.left_out_position):.2f} cm"
    )


def another_tool(data: Path, root: Path) -> None:
    place = prepared(root, data)
    found = align_place(place, read_reference(data / "second_camera" / "realitycapture.csv"))
    print("\nrealitycapture.csv against the photos registered into the blocks map")
    print("\n".join(f"  {line}" for line in found.to_text().splitlines()))
    metres = found.to_json()["residual_median"] / found.reference_from_place.scale
    print(f"  the others agree to {1e3 * metres:.1f} mm (median, in the map's metres)")


def prepared(root: Path, data: Path) -> Place:
    """The map of the ``blocks`` train frames with the 30 photos registered."""
    with progress.shown():
        place = kitchen_place(root, data)
        if _CAPTURE not in place.captures:
            photos = data / "second_camera" / "images"
            register_photos(place, [photos], RegisterPhotosSettings(_CAPTURE))
    return place


# -- known truth ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A simulated pair of registrations.

    Attributes:
        name: of the row.
        straight: whether all centres are on one line.
        wrong: share of the poses that are gross errors.
        far: how far these are, in metres.
    """

    name: str
    straight: bool
    wrong: float
    far: float = 3.0


_CASES = (
    Case("room", straight=False, wrong=0.0),
    Case("room, 10% wrong", straight=False, wrong=0.1),
    Case("room, 40% wrong", straight=False, wrong=0.4),
    Case("room, 40% wrong by 30 cm", straight=False, wrong=0.4, far=0.3),
    Case("corridor", straight=True, wrong=0.0),
    Case("corridor, 10% wrong", straight=True, wrong=0.1),
    Case("corridor, 40% wrong", straight=True, wrong=0.4),
)

Poses = Sequence[Rigid3]
Estimator = Callable[[Poses, Poses, float], Similarity3 | None]


def simulated() -> None:
    estimators: dict[str, Estimator] = {
        "relocalize": lambda a, b, _: align_camera_poses(a, b).b_from_a,
        "least squares": lambda a, b, _: least_squares_of_centres(a, b),
        "RANSAC": ransac_of_centres,
    }
    print(
        f"\nsimulated: 60 cameras along 12 m, noise {100 * _POSITION_SIGMA:.0f} cm and "
        f"{_ANGLE_SIGMA_DEG} deg per axis, {_TRIALS} trials; median (worst) error of the rotation "
        "in degrees,\nand of what stands 5 m before each camera in cm; ratio to relocalize's median"
    )
    print(f"{'case':26} {'estimator':14} {'rotation':>16} {'5 m ahead':>18} {'ratio':>7}  CPU ms")
    for case in _CASES:
        first = None
        for name, estimator in estimators.items():
            turns, lengths, cpu_ms = trials(case, estimator)
            median = float(np.median(lengths))
            first = first or median
            print(
                f"{case.name:26} {name:14} {np.median(turns):7.2f} ({turns.max():6.2f}) "
                f"{100 * median:8.1f} ({100 * lengths.max():7.1f}) {median / first:7.1f} "
                f"{cpu_ms:7.1f}"
            )


def trials(case: Case, estimator: Estimator) -> tuple[np.ndarray, np.ndarray, float]:
    """Errors of the rotation in degrees and of points ahead in metres, and CPU ms each."""
    turns, lengths, cpu = [], [], 0.0
    for trial in range(_TRIALS):
        rng = np.random.default_rng(trial)
        truth, poses, others = simulation(case, rng)
        started = time.process_time()
        found = estimator(poses, others, truth.scale)
        cpu += time.process_time() - started
        if found is None:
            turns.append(180.0)
            lengths.append(np.inf)
            continue
        turns.append(rotation_angle_deg(found.rotation.T @ truth.rotation))
        ahead = np.stack([pose @ np.array([0.0, 0, 5]) for pose in poses])
        off = np.linalg.norm(found @ ahead - truth @ ahead, axis=1) / truth.scale
        lengths.append(float(np.median(off)))
    return np.array(turns), np.array(lengths), 1e3 * cpu / _TRIALS


def mistakes_named() -> None:
    """How many of the gross errors are named, and how many good poses are called one."""
    print(f"\ngross errors of 1.5 to 4.5 m named, same noise, {_TRIALS} trials")
    print(f"{'cameras':>8} {'wrong':>6} {'refused':>8} {'missed':>14} {'good ones named':>16}")
    for count, wrong in ((5, 0.4), (10, 0.4), (20, 0.4), (60, 0.1), (60, 0.4), (200, 0.4)):
        case = Case("", straight=False, wrong=wrong)
        refused, missed, gross, named, good = 0, 0, 0, 0, 0
        for trial in range(_TRIALS):
            rng = np.random.default_rng(trial)
            truth, poses, others = simulation(case, rng, count)
            found = align_camera_poses(poses, others)
            if why_not(found) is not None:
                refused += 1
                continue
            exact = np.stack([truth.move_camera(pose).translation for pose in poses])
            off = np.linalg.norm(centres_of(others) - exact, axis=1) / truth.scale
            is_gross = off > 10 * _POSITION_SIGMA
            missed += int((found.inliers & is_gross).sum())
            named += int((~found.inliers & ~is_gross).sum())
            gross, good = gross + int(is_gross.sum()), good + int((~is_gross).sum())
        print(
            f"{count:8} {wrong:6.0%} {refused:8} {f'{missed} of {gross}':>14} "
            f"{f'{named} of {good}':>16}"
        )


def simulation(
    case: Case, rng: np.random.Generator, count: int = 60
) -> tuple[Similarity3, Poses, list[Rigid3]]:
    """The true transform, poses in frame a, and noisy and partly wrong ones in frame b."""
    along = np.linspace(0, 12, count)
    centres = np.stack([along, 0 * along, 1.5 + 0 * along], axis=1)
    if not case.straight:
        centres += np.stack([0 * along, 2 * np.sin(along), 0.3 * np.cos(2 * along)], axis=1)
    else:
        centres += rng.normal(0, 0.01, centres.shape)  # nobody walks more straight than that
    poses = []
    for i, centre in enumerate(centres):
        heading = Rotation.from_euler("yxz", [40 * np.sin(0.3 * i), 5, 2], degrees=True)
        poses.append(Rigid3(heading.as_matrix(), centre))
    truth = Similarity3(
        float(np.exp(rng.uniform(-2, 2))),
        Rotation.random(rng=rng).as_matrix(),
        rng.uniform(-50, 50, 3),
    )
    others = []
    for pose in poses:
        exact = truth.move_camera(pose)
        turn = Rotation.from_rotvec(np.radians(rng.normal(0, _ANGLE_SIGMA_DEG, 3))).as_matrix()
        shift = truth.scale * rng.normal(0, _POSITION_SIGMA, 3)
        others.append(Rigid3(turn @ exact.rotation, exact.translation + shift))
    for i in rng.choice(count, size=round(case.wrong * count), replace=False):
        way = rng.normal(size=3)
        shift = truth.scale * case.far * rng.uniform(0.5, 1.5) * way / np.linalg.norm(way)
        turn = Rotation.from_rotvec(rng.normal(0, 0.2 * case.far, 3)).as_matrix()
        others[i] = Rigid3(turn @ others[i].rotation, others[i].translation + shift)
    return truth, poses, others


def least_squares_of_centres(a_from_cams: Poses, b_from_cams: Poses) -> Similarity3 | None:
    """Umeyama's closed form over all centres, by pycolmap."""
    return _similarity(pycolmap.estimate_sim3d(centres_of(a_from_cams), centres_of(b_from_cams)))


def ransac_of_centres(a_from_cams: Poses, b_from_cams: Poses, scale: float) -> Similarity3 | None:
    """A robust similarity of centres by pycolmap, given the bound that is right for this noise."""
    options = pycolmap.RANSACOptions(max_error=_ALTERNATIVE_BOUND * scale, random_seed=0)
    centres = centres_of(a_from_cams), centres_of(b_from_cams)
    # Its type stub says Sim3d; what comes is a dict that also has the inliers.
    result: Any = pycolmap.estimate_sim3d_robust(*centres, options)
    return None if result is None else _similarity(result["tgt_from_src"])


def _similarity(found: pycolmap.Sim3d | None) -> Similarity3 | None:
    if found is None:
        return None
    return Similarity3(float(found.scale), found.rotation.matrix(), found.translation)


def centres_of(poses: Poses) -> np.ndarray:
    """[N, 3]."""
    return np.stack([pose.translation for pose in poses])


if __name__ == "__main__":
    main(tyro.cli(Arguments))
