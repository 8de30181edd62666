"""Published estimates of 7-Scenes under both ground truths, and the evaluator against others' code.

Run with a folder of the layout of github.com/tsattler/visloc_pseudo_gt_limitations, the data of
Brachmann et al., "On the Limits of Pseudo Ground Truth in Visual Camera Re-Localisation", ICCV
2021 (estimates/<truth>/7scenes/<scene>_<method>.txt, pgt/<truth>/7scenes/<scene>_test.txt):

    python benchmarks/published_estimates.py DATA/published_estimates [--evo]

The estimates in ``estimates/<truth>`` were made with train poses of that truth. Each number is
computed a second time from the files' own columns by code that shares nothing with the library,
and with --evo a third time by evo (pip install evo; GPLv3, so no dependency of ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from relocalize.evaluation import PoseErrors, Scores
from relocalize.evaluation.metrics import LEAD_THRESHOLD
from relocalize.formats import Registration, match_names, read_registration

SCENES = ("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs")
METHODS = {
    "as": "Active Search",
    "hloc": "hLoc",
    "r2d2_rgb": "DVLAD+R2D2",
    "r2d2_rgbd": "DVLAD+R2D2 (+D)",
    "dsac_rgb": "DSAC*",
    "dsac_rgbd": "DSAC* (+D)",
}
TRUTHS = {"sfm": "SfM", "dslam": "D-SLAM"}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Arguments:
    """Score the published estimates."""

    data: tyro.conf.Positional[Path]
    """Folder with estimates/ and pgt/."""
    evo: bool = False
    """Compare with evo as well."""


@dataclass(frozen=True)
class Row:
    """One method on one scene.

    Attributes:
        scores: what the library says.
        apart: largest difference of an image's error, metres or degrees, from the other code's.
    """

    scores: Scores
    apart: float


def main(arguments: Arguments) -> None:
    runs = [name for name in TRUTHS if (arguments.data / "estimates" / name).is_dir()]
    largest = 0.0
    for run in runs:
        rows: dict[str, dict[str, list[Row]]] = {truth: {} for truth in TRUTHS}
        for method in METHODS:
            for scene in SCENES:
                for truth, row in scored(arguments, run, scene, method).items():
                    rows[truth].setdefault(method, []).append(row)
                    largest = max(largest, row.apart)
        for truth, title in TRUTHS.items():
            print(f"\n### Estimates from {TRUTHS[run]} train poses, {title} ground truth\n")
            print_table(rows[truth])
    others = "the files' own columns" + (" and by evo" if arguments.evo else "")
    print(f"\nlargest difference of an error computed from {others}: {largest:.1e} m or degrees")


def print_table(rows: dict[str, list[Row]]) -> None:
    """Percent within 5 cm and 5 degrees, and medians, as Markdown."""
    print(f"| % within 5 cm, 5° | {' | '.join(SCENES)} | mean |")
    print(f"|---|{'---:|' * (len(SCENES) + 1)}")
    for method, of_scenes in rows.items():
        shares = [100 * row.scores.recall[LEAD_THRESHOLD.key] for row in of_scenes]
        print(
            f"| {METHODS[method]} | {' | '.join(f'{share:.1f}' for share in shares)} "
            f"| {np.mean(shares):.1f} |"
        )
    print(f"\n| median cm / ° | {' | '.join(SCENES)} | mean |")
    print(f"|---|{'---:|' * (len(SCENES) + 1)}")
    for method, of_scenes in rows.items():
        medians = [
            (100 * row.scores.median_position, row.scores.median_rotation_deg) for row in of_scenes
        ]
        cells = [f"{cm:.2f} / {deg:.2f}" for cm, deg in [*medians, np.mean(medians, axis=0)]]
        print(f"| {METHODS[method]} | {' | '.join(cells)} |")


def scored(arguments: Arguments, run: str, scene: str, method: str) -> dict[str, Row]:
    """Score one file against each truth, and compute its errors by other means."""
    estimates = arguments.data / "estimates" / run / "7scenes" / f"{scene}_{method}.txt"
    estimated = read_registration(estimates)
    return {
        truth: against(
            arguments,
            estimates,
            estimated,
            arguments.data / f"pgt/{truth}/7scenes/{scene}_test.txt",
        )
        for truth in TRUTHS
    }


@cache  # 14 files of up to 5000 poses, each for every method
def read_truth(path: Path) -> Registration:
    return read_registration(path)


def against(arguments: Arguments, estimates: Path, estimated: Registration, true: Path) -> Row:
    """Score one file against one truth."""
    reference = read_truth(true)
    match = match_names(estimated.poses, reference.poses)
    listed_of = {name: listed for listed, name in match.present_of.items()}
    names = list(reference.poses)
    errors = PoseErrors.of(
        [
            estimated.world_from_cam(listed_of[name]) if name in listed_of else None
            for name in names
        ],
        [reference.world_from_cam(name) for name in names],
    )
    scores = Scores.of(errors, metric=True)
    if scores is None:
        raise ValueError(f"{true} holds no images")
    here, there = columns(estimates), columns(true)
    answered = [name for name in names if name in here]
    if answered != [name for name, failed in zip(names, errors.failed, strict=True) if not failed]:
        raise ValueError(f"{estimates}: the two disagree on which images have an estimate")
    sides = np.array([here[name] for name in answered]), np.array([there[n] for n in answered])
    ours = np.stack([errors.position, errors.rotation_deg], axis=1)[~errors.failed]
    apart = float(np.abs(ours - errors_of_columns(*sides)).max())
    if arguments.evo:
        apart = max(apart, float(np.abs(ours - errors_by_evo(*sides)).max()))
    return Row(scores, apart)


def columns(path: Path) -> dict[str, list[float]]:
    """The first seven numbers behind each name: qw qx qy qz tx ty tz of ``cam_from_world``."""
    rows = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {name: [float(number) for number in numbers[:7]] for name, *numbers in rows}


def errors_of_columns(estimated: Floats, true: Floats) -> Floats:
    """[N, 2] metres and degrees from columns [N, 7], by the formulas of unit quaternions."""
    centres, turns = [], []
    for side in (estimated, true):
        quat = side[:, :4] / np.linalg.norm(side[:, :4], axis=1, keepdims=True)
        w, axis = quat[:, :1], quat[:, 1:]
        # The centre is -R(q)^-1 t, and v turned by (w, -axis) is
        # v - 2 w (axis x v) + 2 axis x (axis x v).
        moved = -side[:, 4:]
        once = np.cross(axis, moved)
        centres.append(moved - 2 * w * once + 2 * np.cross(axis, once))
        turns.append(quat)
    (w, x), (v, y) = ((quat[:, 0], quat[:, 1:]) for quat in turns)
    # Of the quaternion between: the angle is twice that between its vector and its scalar part.
    vector = w[:, None] * y - v[:, None] * x - np.cross(x, y)
    scalar = np.abs(w * v + (x * y).sum(axis=1))
    angle = 2 * np.arctan2(np.linalg.norm(vector, axis=1), scalar)
    distance = np.sqrt(((centres[0] - centres[1]) ** 2).sum(axis=1))
    return np.stack([distance, np.degrees(angle)], axis=1)


def errors_by_evo(estimated: Floats, true: Floats) -> Floats:
    """[N, 2] metres and degrees, by evo's absolute pose error without alignment."""
    trajectory: Any = import_module("evo.core.trajectory")
    metrics: Any = import_module("evo.core.metrics")
    algebra: Any = import_module("evo.core.lie_algebra")
    evo_transform: Any = import_module("evo.core.transformations")

    def path(side: Floats) -> Any:
        poses = []
        for row in side:
            cam_from_world = np.eye(4)
            quat = row[:4] / np.linalg.norm(row[:4])
            cam_from_world[:3, :3] = evo_transform.quaternion_matrix(quat)[:3, :3]
            cam_from_world[:3, 3] = row[4:]
            poses.append(algebra.se3_inverse(cam_from_world))
        return trajectory.PosePath3D(poses_se3=poses)

    pair = path(true), path(estimated)
    found: list[Sequence[float]] = []
    for relation in ("point_distance", "rotation_angle_deg"):
        error = metrics.APE(getattr(metrics.PoseRelation, relation))
        error.process_data(pair)
        found.append(error.error)
    return np.stack([np.asarray(one, dtype=np.float64) for one in found], axis=1)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
