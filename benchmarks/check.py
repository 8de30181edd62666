"""What the check finds: wrong conventions and wrong poses, put there on purpose.

    python benchmarks/check.py DATA [--sets redkitchen fox] [--seed 0]

DATA holds `redkitchen/` and `fox/` (see docs/contributing/index.md). Three tables:

- conventions: the true poses of a set are written as numbers in one convention and claimed to be
  in another. Right is an answer that gives the true poses up to a similarity.
- wrong poses: 5% of the poses are replaced by gross errors of one kind; how many of them are
  flagged, and how many of the good ones. Beside it the obvious alternative on the same poses:
  density clustering of the camera centres (DBSCAN, 3 neighbours within 3 median steps), which is
  what people do by hand.
- intrinsics: right poses with wrong intrinsics, on several parts of a set. Right is a check that is
  not consistent, names the fault, names no other, and gives the true convention.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal, cast

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from relocalize import progress
from relocalize.checking.check import quick_report
from relocalize.checking.claims import Claims
from relocalize.checking.conventions import judge_conventions
from relocalize.checking.measuring import View, measure_pairs, read_views
from relocalize.checking.outliers import pose_tests
from relocalize.checking.report import INTRINSICS
from relocalize.checking.sampling import Sample, check_pairs, sample_pairs
from relocalize.formats import read_registration
from relocalize.formats.images import find_images
from relocalize.formats.lenses import brown_camera
from relocalize.geometry import Camera, Convention, Rigid3, align_camera_poses
from relocalize.geometry.conventions import axes_matrix, column_matrix
from relocalize.geometry.transforms import FloatArray

SETS = {"redkitchen": "poses_sfm.txt", "fox": "transforms.json"}
BAD_SHARE = 0.05
PART = 60  # images of a part of a set that wrong intrinsics are tried on


@dataclass(frozen=True)
class Settings:
    """Measure the check."""

    data: tyro.conf.Positional[Path]
    """Folder with the sets."""
    sets: tuple[str, ...] = tuple(SETS)
    """Which of them."""
    tables: tuple[Literal["conventions", "poses", "intrinsics"], ...] = (
        "conventions",
        "poses",
        "intrinsics",
    )
    """Which of the tables."""
    parts: int = 4
    """Stretches of a walk that wrong intrinsics are tried on; 50 photos are one."""
    seed: int = 0
    """Of the wrong poses."""


def main(settings: Settings) -> None:
    """Print the tables."""
    console = Console(width=130)
    for name in settings.sets:
        registration = read_registration(settings.data / name / SETS[name])
        claims = Claims.of_files(
            registration, find_images(registration, settings.data / name / "images")
        )
        if "conventions" in settings.tables:
            console.print(conventions_table(name, claims))
        if "poses" in settings.tables:
            console.print(wrong_poses_table(name, claims, settings.seed))
        if "intrinsics" in settings.tables:
            console.print(intrinsics_table(name, claims, settings.parts))


# -- conventions -----------------------------------------------------------------------------


def conventions_table(name: str, claims: Claims) -> Table:
    """Each case is a true convention and a claimed one."""
    start = time.perf_counter()
    sample = sample_pairs(claims)
    sampled, measured = sample.claims, sample.measured
    shared = time.perf_counter() - start
    poses = sampled.poses(sampled.stated.convention)
    right, margins, seconds, wrong, undecided = 0, [], [], [], 0
    cases = list(wrong_claims())
    for true, claimed in progress.track(cases, f"{name}: conventions"):
        rotations, positions = written(true, poses)
        begin = time.perf_counter()
        verdict = judge_conventions(claimed, rotations, positions, measured)
        seconds.append(shared + time.perf_counter() - begin)
        assert verdict is not None
        answer = verdict.best.convention
        if verdict.best.explains and same_poses(answer.world_from_cam(rotations, positions), poses):
            right += 1
            margins.append(verdict.margin)
            undecided += not verdict.decided
        else:
            wrong.append(f"{true.name} claimed {claimed.name}: {answer.name}")
    table = Table("set", "wrong conventions", "named right", "undecided", "least margin", "slowest")
    table.add_row(
        name,
        str(len(cases)),
        str(right),
        str(undecided),
        f"{min(margins):.1f}",
        f"{max(seconds):.0f} s",
    )
    for line in wrong:
        table.add_row("", line)
    return table


def wrong_claims() -> Iterator[tuple[Convention, Convention]]:
    """True and claimed conventions, of quaternions, matrices and angles."""
    claimed = Convention("wxyz", "cam_from_world", "RDF", "translation")
    for rotation, direction, axes, position in product(
        ("wxyz", "xyzw"),
        ("cam_from_world", "world_from_cam"),
        ("RDF", "RUB", "FLU", "RUF"),
        ("translation", "centre"),
    ):
        true = Convention(rotation, direction, axes, position)
        if true != claimed:
            yield true, claimed
    claimed = Convention("matrix", "world_from_cam", "RUB", "centre")
    for direction, axes, position in product(
        ("world_from_cam", "cam_from_world"),
        ("RUB", "RDF", "FLU", "FRD", "LUF"),
        ("centre", "translation"),
    ):
        true = Convention("matrix", direction, axes, position)
        if true != claimed:
            yield true, claimed
    for columns in ("xzy", "yxz", "x-zy", "-xyz", "zxy", "xy-z"):
        yield replace(claimed, columns=columns), claimed
    claimed = Convention("euler:z0y1x2:deg", "world_from_cam", "RDF", "centre")
    products = (
        *("x0y1z2", "x0z1y2", "y0x1z2", "y0z1x2", "z0x1y2", "z0x1z2", "x0y1x2", "y0x1y2"),
        *("z2y1x0", "x2y1z0", "y2x1z0", "-z0y1x2", "z0-y1x2", "z0y1-x2", "-z0-y1-x2"),
    )
    for factors, unit in product(products, ("deg", "rad")):
        yield replace(claimed, rotation=f"euler:{factors}:{unit}"), claimed
    yield replace(claimed, rotation="euler:z0y1x2:rad"), claimed
    for direction, axes in product(("world_from_cam", "cam_from_world"), ("RUB", "FLU")):
        yield replace(claimed, direction=direction, camera_axes=axes), claimed


def written(convention: Convention, poses: Sequence[Rigid3]) -> tuple[FloatArray, FloatArray]:
    """Numbers of a file in a convention: rotations [N, ...] and positions [N, 3]."""
    axes, columns = axes_matrix(convention.camera_axes), column_matrix(convention.columns)
    world = np.diag([1.0, 1.0, np.linalg.det(axes)])
    rotations = np.array([world @ pose.rotation @ axes.T for pose in poses])
    positions = np.array([world @ pose.translation for pose in poses])
    if convention.position == "translation":
        positions = -np.einsum("nji,nj->ni", rotations, positions)
    if convention.direction == "cam_from_world":
        rotations = np.swapaxes(rotations, 1, 2)
    return _numbers(convention.rotation, rotations), positions @ columns


def _numbers(kind: str, rotations: FloatArray) -> FloatArray:
    if kind == "matrix":
        return rotations
    turns = Rotation.from_matrix(rotations)
    if kind in {"wxyz", "xyzw"}:
        return np.asarray(turns.as_quat(scalar_first=kind == "wxyz"))
    _, factors, unit = kind.split(":")
    signs, axes, columns = [], "", []
    sign = 1
    for letter in factors:
        if letter == "-":
            sign = -1
        elif letter in "xyz":
            axes += letter.upper()
            signs.append(sign)
            sign = 1
        else:
            columns.append(int(letter))
    angles = np.asarray(turns.as_euler(cast("Any", axes), degrees=unit == "deg")) * signs
    result = np.empty_like(angles)
    result[:, columns] = angles
    return result


def same_poses(answer: Sequence[Rigid3], truth: Sequence[Rigid3]) -> bool:
    """Whether poses agree up to a similarity, to a thousandth of the place and 0.1 degrees."""
    alignment = align_camera_poses(answer, truth)
    centres = np.array([pose.translation for pose in truth])
    extent = float(np.linalg.norm(centres - centres.mean(axis=0), axis=1).max())
    off = float(np.max(alignment.position_residuals)) / extent
    return off < 1e-3 and float(np.max(alignment.rotation_residuals_deg)) < 0.1


# -- wrong poses -----------------------------------------------------------------------------


def wrong_poses_table(name: str, claims: Claims, seed: int) -> Table:
    """A row for each kind of gross error."""
    start = time.process_time()
    views = read_views(claims)
    measured = measure_pairs(views, check_pairs(views, claims.runs))
    cost = time.process_time() - start
    poses = claims.poses(claims.stated.convention)
    table = Table(
        f"{name}: {BAD_SHARE:.0%} wrong",
        "flagged",
        "of the good",
        "CPU s",
        "DBSCAN: flagged",
        "of the good",
        "ratio flagged",
    )
    rng = np.random.default_rng(seed)
    flagged = {outlier.row for outlier in pose_tests(poses, measured).outliers}
    table.add_row("none", "", f"{len(flagged) / len(poses):.1%}", f"{cost:.0f}", "",
                  f"{len(clustered_away(poses)) / len(poses):.1%}", "")  # fmt: skip
    for kind, spoil in ERRORS.items():
        bad = set(rng.choice(len(poses), max(1, round(BAD_SHARE * len(poses))), replace=False))
        spoilt = [spoil(poses, row, rng) if row in bad else pose for row, pose in enumerate(poses)]
        start = time.process_time()
        flagged = {outlier.row for outlier in pose_tests(spoilt, measured).outliers}
        seconds = cost + time.process_time() - start
        other = clustered_away(spoilt)
        good = len(poses) - len(bad)
        share, other_share = len(flagged & bad) / len(bad), len(other & bad) / len(bad)
        table.add_row(
            kind,
            f"{share:.0%}",
            f"{len(flagged - bad) / good:.1%}",
            f"{seconds:.0f}",
            f"{other_share:.0%}",
            f"{len(other - bad) / good:.1%}",
            f"{share / other_share:.1f}" if other_share else "inf",
        )
    return table


def clustered_away(poses: Sequence[Rigid3]) -> set[int]:
    """Rows that DBSCAN calls noise."""
    centres = np.array([pose.translation for pose in poses])
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    tree = cKDTree(centres)
    near = tree.query_ball_point(centres, 3 * float(np.median(steps)))
    core = np.array([len(rows) > 3 for rows in near])
    return {row for row, rows in enumerate(near) if not core[row] and not core[rows].any()}


Spoil = Callable[[Sequence[Rigid3], int, np.random.Generator], Rigid3]


def _another(poses: Sequence[Rigid3], row: int, rng: np.random.Generator) -> Rigid3:
    count = len(poses)
    return poses[(row + int(rng.integers(count // 10, count - count // 10))) % count]


def _turned(least_deg: float, most_deg: float) -> Spoil:
    def spoil(poses: Sequence[Rigid3], row: int, rng: np.random.Generator) -> Rigid3:
        axis = rng.normal(size=3)
        angle = np.radians(rng.uniform(least_deg, most_deg))
        turn = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
        return Rigid3(poses[row].rotation @ turn, poses[row].translation)

    return spoil


def _moved(share: float, *, forward: bool = False) -> Spoil:
    def spoil(poses: Sequence[Rigid3], row: int, rng: np.random.Generator) -> Rigid3:
        centres = np.array([pose.translation for pose in poses])
        extent = float(np.linalg.norm(centres - centres.mean(axis=0), axis=1).max())
        way = poses[row].rotation[:, 2] if forward else rng.normal(size=3)
        way = way / np.linalg.norm(way) * share * extent
        return Rigid3(poses[row].rotation, poses[row].translation + way)

    return spoil


def _scaled(poses: Sequence[Rigid3], row: int, rng: np.random.Generator) -> Rigid3:
    return Rigid3(poses[row].rotation, poses[row].translation * rng.uniform(1.3, 3.0))


ERRORS: dict[str, Spoil] = {
    "another frame's pose": _another,
    "turned by 20 to 180 deg": _turned(20, 180),
    "turned by 10 deg": _turned(10, 10),
    "moved by the place's size": _moved(1.0),
    "moved by a tenth of it": _moved(0.1),
    "moved forward by 0.3 of it": _moved(0.3, forward=True),
    "position scaled": _scaled,
}


# -- wrong intrinsics ------------------------------------------------------------------------


@dataclass(frozen=True)
class WrongCamera:
    """Intrinsics that do not belong to the images.

    Attributes:
        faults: what should be named.
        focal: factor on both focal lengths.
        stretch: further factor on fy.
        offset: of the principal point, as a share of the image's width.
        distortion: claimed of images that are undistorted already, added to k1.
        squeezed: whether the images are pressed from 4:3 to 16:9 (or back) beforehand, and the
            camera is claimed as it was, for the new number of pixels across.
    """

    faults: frozenset[str]
    focal: float = 1.0
    stretch: float = 1.0
    offset: float = 0.0
    distortion: float = 0.0
    squeezed: bool = False

    def of(self, camera: Camera) -> Camera:
        """The claim instead of the right camera of an image."""
        K = camera.calibration_matrix
        fx, fy = self.focal * K[0, 0], self.focal * self.stretch * K[1, 1]
        cx = K[0, 2] + self.offset * camera.width
        # Four terms of the models that these sets have: k1, k2, p1, p2.
        terms = camera.params[4:8] if camera.model == "OPENCV" else (0.0, 0.0, 0.0, 0.0)
        distortion = (terms[0] + self.distortion, *terms[1:])
        return brown_camera(camera.width, camera.height, (fx, fy, cx, K[1, 2]), distortion)


SQUEEZE = (640 / 480) / (1920 / 1080)
FOCAL, ASPECT, CENTRE, LENS = map(frozenset, (INTRINSICS[:1], INTRINSICS[1:2], INTRINSICS[2:3],
                                              INTRINSICS[3:]))  # fmt: skip
WRONG_CAMERAS: dict[str, WrongCamera] = {
    "right": WrongCamera(frozenset()),
    "focal length x 0.75": WrongCamera(FOCAL, focal=0.75),
    "focal length x 1.3": WrongCamera(FOCAL, focal=1.3),
    "focal length x 0.5": WrongCamera(FOCAL, focal=0.5),
    "squeezed from 4:3 to 16:9": WrongCamera(ASPECT, squeezed=True),
    "squeezed, and another camera's focal length": WrongCamera(
        FOCAL | ASPECT, focal=0.8, squeezed=True
    ),
    "principal point off by 10%": WrongCamera(CENTRE, offset=0.1),
    "undistorted twice": WrongCamera(LENS, distortion=-0.25),
}


def intrinsics_table(name: str, claims: Claims, count: int) -> Table:
    """A row for each kind of wrong intrinsics: of how many parts it is named."""
    table = Table(
        name, "parts", "not consistent", "fault named", "another as well", "convention", "CPU s"
    )
    parts = list(_parts(claims, count))
    rows = {kind: [0, 0, 0, 0] for kind in WRONG_CAMERAS}
    others: dict[str, set[str]] = {kind: set() for kind in WRONG_CAMERAS}
    seconds = dict.fromkeys(WRONG_CAMERAS, 0.0)
    for part in progress.track(parts, f"{name}: intrinsics"):
        views = read_views(part)
        squeezed = read_views(
            replace(part, read=_squeezing(part), camera_of=_squeezed_camera(part))
        )
        for kind, wrong in WRONG_CAMERAS.items():
            start = time.process_time()
            seen = squeezed if wrong.squeezed else views
            report = quick_report(part, _claimed(part, seen, wrong))
            seconds[kind] = max(seconds[kind], time.process_time() - start)
            named = {problem.kind for problem in report.problems} & set(INTRINSICS)
            rows[kind][0] += not report.consistent
            rows[kind][1] += named >= wrong.faults
            rows[kind][2] += bool(named - wrong.faults)
            others[kind] |= named - wrong.faults
            rows[kind][3] += report.convention == part.stated.convention.name
    for kind, counts in rows.items():
        cells = [str(count) for count in counts]
        cells[2] = ", ".join([cells[2], *sorted(others[kind])])
        table.add_row(kind, str(len(parts)), *cells, f"{seconds[kind]:.0f}")
    return table


def _parts(claims: Claims, parts: int) -> Iterator[Claims]:
    """Stretches of a walk, thinned to `PART` images; all of a set that has too few for them."""
    count = len(claims.names)
    ends = np.linspace(0, count, parts + 1 if count >= parts * PART else 2).round().astype(int)
    for first, end in pairwise(ends.tolist()):
        rows = np.linspace(first, end - 1, min(PART, end - first)).round().astype(int)
        yield claims.only(rows.tolist())


def _claimed(claims: Claims, views: Sequence[View], wrong: WrongCamera) -> Sample:
    seen = [replace(view, camera=wrong.of(view.camera)) for view in views]
    # As far as `relocalize check --quick` looks: near and far neighbours.
    pairs = [(i, i + step) for step in (1, 2, 3, 5, 8) for i in range(len(seen) - step)]
    return Sample.of(claims, seen, pairs)


def _squeezing(claims: Claims) -> Callable[[str], NDArray[np.uint8]]:
    def read(name: str) -> NDArray[np.uint8]:
        pixels = claims.read(name)
        size = (pixels.shape[1], round(pixels.shape[0] * SQUEEZE))
        return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    return read


def _squeezed_camera(claims: Claims) -> Callable[[str, int, int], Camera]:
    """The camera as it was, with its principal point moved along; its pixels are square no more."""

    def camera_of(name: str, width: int, height: int) -> Camera:
        camera = claims.camera_of(name, width, round(height / SQUEEZE))
        K = camera.calibration_matrix
        terms = camera.params[4:8] if camera.model == "OPENCV" else ()
        pinhole = (K[0, 0], K[1, 1], K[0, 2], K[1, 2] * SQUEEZE)
        return brown_camera(width, height, pinhole, tuple(terms))

    return camera_of


if __name__ == "__main__":
    with progress.shown():
        main(tyro.cli(Settings, description=__doc__))
