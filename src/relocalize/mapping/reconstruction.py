"""From verified matches to a map: attempts, judged, and the best of them taken.

Incremental mapping often makes a wild little model first, and identical runs differ, so no model
is taken because it came first: each is judged by what can be seen without knowing the truth.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pycolmap

from relocalize import progress
from relocalize.errors import MappingError
from relocalize.mapping.database import FeatureDatabase

# Focal lengths of real cameras over the longer image side: 10 mm to 150 mm in 35 mm terms.
_PLAUSIBLE_FOCAL = (0.28, 4.2)
_MAX_REPROJECTION_ERROR = 2.0  # pixels, mean; sound maps of sharp images have 0.4 to 1.0
_FOLD_FACTOR = 30.0  # a step between neighbouring frames so many medians long is a jump
_ENOUGH = 0.95  # share of images in one sound model with which no other attempt is made
_SNAPSHOT_EVERY = 100  # images


@dataclass(frozen=True)
class Judgement:
    """What can be said of a model without knowing the truth.

    Attributes:
        registered: images in it.
        images: images that were to be in it.
        reprojection_error: mean, pixels.
        mean_track: mean number of images that see a point.
        alarms: what is suspicious about it, for people.
    """

    registered: int
    images: int
    reprojection_error: float
    mean_track: float
    alarms: tuple[str, ...]

    @property
    def score(self) -> tuple[float, float]:
        """Larger is better: images registered, an alarm costing a third of them; then precision.

        Counts within 2% of each other are a tie: a few more images never outweigh precision.
        """
        share = self.registered / max(1, self.images) / (1 + 0.5 * len(self.alarms))
        return (round(share * 50), -self.reprojection_error)

    @property
    def good(self) -> bool:
        """Whether no other attempt is needed."""
        return not self.alarms and self.registered >= _ENOUGH * self.images


def judge(model: pycolmap.Reconstruction, names: Sequence[str], ordered: bool) -> Judgement:
    """Judge a model of the images ``names``, which are in time order if ``ordered``."""
    alarms = []
    for camera in model.cameras.values():
        low, high = _PLAUSIBLE_FOCAL
        factor = camera.mean_focal_length() / max(camera.width, camera.height)
        if not low <= factor <= high:
            alarms.append(f"focal length {factor:.2f} x image size is implausible")
    error = float(model.compute_mean_reprojection_error()) if model.num_points3D() else np.inf
    if error > _MAX_REPROJECTION_ERROR:
        alarms.append(f"mean reprojection error of {error:.2f} px")
    if ordered:
        jumps = _jumps(model, names)
        if jumps:
            alarms.append(f"the trajectory jumps at {', '.join(jumps[:3])}")
    return Judgement(
        registered=int(model.num_reg_images()),
        images=len(names),
        reprojection_error=error,
        mean_track=float(model.compute_mean_track_length()) if model.num_points3D() else 0.0,
        alarms=tuple(alarms),
    )


def _jumps(model: pycolmap.Reconstruction, names: Sequence[str]) -> list[str]:
    """Images whose next registered neighbour is implausibly far: a folded or torn trajectory."""
    posed = {i.name: i.projection_center() for i in model.images.values() if i.has_pose}
    pairs = [(a, b) for a, b in pairwise(names) if a in posed and b in posed]
    if len(pairs) < 10:
        return []
    steps = np.array([np.linalg.norm(posed[a] - posed[b]) for a, b in pairs])
    limit = _FOLD_FACTOR * float(np.median(steps))
    return [pairs[int(i)][0] for i in np.flatnonzero(steps > limit)]


@dataclass(frozen=True)
class Task:
    """What is to be reconstructed.

    Attributes:
        database: with verified matches.
        names: images to map, in time order if ``ordered``.
        images_dir: folder that the names are below.
        work: folder for models under way; an interrupted attempt goes on from there.
        ordered: whether neighbours in ``names`` are neighbours in time.
        seed: of everything random.
    """

    database: FeatureDatabase
    names: Sequence[str]
    images_dir: Path
    work: Path
    ordered: bool
    seed: int


def reconstruct(
    task: Task, begin_with: pycolmap.Reconstruction | None = None
) -> tuple[pycolmap.Reconstruction, list[pycolmap.Reconstruction], Judgement]:
    """The best map of the images, the fragments beside it, and the judgement.

    Attempts: incremental; incremental from another start; global (rotation averaging and global
    positioning, with its own relative poses). The first that is good ends it.

    Args:
        task: what is to be reconstructed.
        begin_with: a model to add to, instead of beginning anew.

    Raises:
        MappingError: nothing came together.
    """
    attempts: list[tuple[str, Callable[[], list[pycolmap.Reconstruction]]]] = [
        ("incremental", lambda: _incremental(task, "incremental", task.seed, begin_with))
    ]
    if begin_with is None:
        attempts += [
            ("incremental, anew", lambda: _incremental(task, "anew", task.seed + 1, None)),
            ("global", lambda: _global(task)),
        ]
    names, ordered = task.names, task.ordered
    best: tuple[Judgement, list[pycolmap.Reconstruction]] | None = None
    for what, attempt in attempts:
        models = attempt()
        if not models:
            continue
        models.sort(key=lambda model: judge(model, names, ordered).score, reverse=True)
        judgement = judge(models[0], names, ordered)
        if best is None or judgement.score > best[0].score:
            best = (judgement, models)
        if judgement.good:
            break
        reasons = "; ".join(judgement.alarms) or "too few"
        progress.say(
            f"{what} mapping: {judgement.registered} of {len(names)} images in its best of "
            f"{len(models)} models ({reasons})"
        )
    if best is None:
        raise MappingError(
            f"no two of the {len(names)} images could be set in relation: they share too little, "
            "are blurred, or were taken from one spot; film while walking, with overlap"
        )
    judgement, models = best
    main = models[0]
    return main, _apart_from(main, models[1:]), judgement


def _apart_from(
    main: pycolmap.Reconstruction, others: Sequence[pycolmap.Reconstruction]
) -> list[pycolmap.Reconstruction]:
    inside = {i.name for i in main.images.values() if i.has_pose}
    return [
        model
        for model in others
        if any(i.has_pose and i.name not in inside for i in model.images.values())
    ]


def _incremental(
    task: Task, attempt: str, seed: int, begin_with: pycolmap.Reconstruction | None
) -> list[pycolmap.Reconstruction]:
    options = pycolmap.IncrementalPipelineOptions()
    # One thread, so that the same pictures give the same map; two save a tenth of the time.
    options.num_threads = 1
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
    options.extract_colors = False
    options.image_names = list(task.names)
    options.min_model_size = 3
    work = task.work / attempt
    snapshots = work / "snapshots"
    snapshots.mkdir(parents=True, exist_ok=True)
    options.snapshot_path = str(snapshots)
    options.snapshot_frames_freq = _SNAPSHOT_EVERY
    begin = _begin_folder(begin_with, work, snapshots)
    models = work / "models"
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir()
    with progress.bar("reconstructing", len(task.names)) as bar:
        result = pycolmap.incremental_mapping(
            str(task.database.path),
            str(task.images_dir),
            str(models),
            options,
            input_path=str(begin) if begin else "",
            next_image_callback=bar.advance,
        )
    shutil.rmtree(work, ignore_errors=True)
    return list(result.values())


def _begin_folder(
    begin_with: pycolmap.Reconstruction | None, work: Path, snapshots: Path
) -> Path | None:
    """The model to go on from: the last snapshot of a killed run, or ``begin_with``, or none."""
    whole = [f for f in snapshots.iterdir() if (f / "points3D.bin").is_file()]
    if whole:
        latest = max(whole, key=lambda folder: folder.stat().st_mtime_ns)
        kept = work / "begin"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(latest, kept)
        progress.say("going on from the last snapshot")
        return kept
    if begin_with is None:
        return None
    begin = work / "begin"
    begin.mkdir(exist_ok=True)
    begin_with.write_binary(str(begin))
    return begin


def _global(task: Task) -> list[pycolmap.Reconstruction]:
    work = task.work / "global"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    # Global mapping wants relative poses, so the matches are verified once more as calibrated, in
    # a copy: the cache keeps its uncalibrated ones.
    copy = work / "database.db"
    shutil.copy(task.database.path, copy)
    db = pycolmap.Database.open(str(copy))
    db.clear_two_view_geometries()
    for camera in db.read_all_cameras():
        camera.has_prior_focal_length = True
        db.update_camera(camera)
    db.close()
    verification = pycolmap.TwoViewGeometryOptions()
    verification.compute_relative_pose = True
    verification.ransac.random_seed = task.seed
    options = pycolmap.GlobalPipelineOptions()
    options.num_threads = 1
    options.random_seed = task.seed
    options.image_names = list(task.names)
    models = work / "models"
    models.mkdir()
    progress.say("global mapping")
    try:
        pycolmap.geometric_verification(str(copy), two_view_geometry_options=verification)
        result = pycolmap.global_mapping(str(copy), str(task.images_dir), str(models), options)
    except RuntimeError as error:
        progress.say(f"global mapping failed: {error}")
        return []
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return list(result.values())
