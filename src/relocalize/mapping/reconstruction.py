"""From verified matches to models, each judged by what can be seen without knowing the truth.

Incremental mapping often makes a wild little model first, so no model is taken because it came
first.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pycolmap

from relocalize import progress
from relocalize.features.database import copy_database

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
        alarms: what is suspicious about it, for people.
    """

    registered: int
    images: int
    reprojection_error: float
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
        matches: a COLMAP database with verified matches.
        names: images to map, in time order if ``ordered``.
        images_dir: folder that the names are below.
        work: folder for models under way; an interrupted attempt goes on from there.
        ordered: whether neighbours in ``names`` are neighbours in time.
        seed: of everything random.
    """

    matches: Path
    names: Sequence[str]
    images_dir: Path
    work: Path
    ordered: bool
    seed: int


@dataclass(frozen=True, eq=False)
class Attempt:
    """Models of the same images that one run made.

    Attributes:
        models: best first; none when nothing came together.
        judgement: of the best.
    """

    models: list[pycolmap.Reconstruction]
    judgement: Judgement

    @property
    def fragments(self) -> list[pycolmap.Reconstruction]:
        """The models beside the best that hold images which it lacks."""
        inside = {i.name for i in self.models[0].images.values() if i.has_pose}
        return [
            model
            for model in self.models[1:]
            if any(i.has_pose and i.name not in inside for i in model.images.values())
        ]


def _judged(models: Iterable[pycolmap.Reconstruction], task: Task, what: str) -> Attempt:
    rated = [(judge(model, task.names, task.ordered), model) for model in models]
    rated.sort(key=lambda row: row[0].score, reverse=True)
    nothing = Judgement(0, len(task.names), float("inf"), ("nothing came together",))
    judgement = rated[0][0] if rated else nothing
    if not judgement.good:
        reasons = "; ".join(judgement.alarms) or "too few"
        progress.say(
            f"{what}: {judgement.registered} of {len(task.names)} images in the best of "
            f"{len(rated)} models ({reasons})"
        )
    return Attempt([model for _, model in rated], judgement)


def map_incrementally(
    task: Task, what: str, begin_with: pycolmap.Reconstruction | None = None
) -> Attempt:
    """Incremental structure from motion.

    Args:
        task: what is to be reconstructed.
        what: names this run for people, and its folder in ``task.work``.
        begin_with: a model to add to, instead of beginning anew.
    """
    options = pycolmap.IncrementalPipelineOptions()
    # One thread, so that the same images give the same map; two save a tenth of the time.
    options.num_threads = 1
    options.random_seed = options.mapper.random_seed = task.seed
    options.triangulation.random_seed = task.seed
    options.extract_colors = False
    options.image_names = list(task.names)
    options.min_model_size = 3
    work = task.work / what.replace(" ", "-")
    snapshots = work / "snapshots"
    snapshots.mkdir(parents=True, exist_ok=True)
    options.snapshot_path = str(snapshots)
    options.snapshot_frames_freq = _SNAPSHOT_EVERY
    begin = _begin_folder(begin_with, work, snapshots)
    models = work / "models"
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir()
    with progress.bar(what, len(task.names)) as bar:
        result = pycolmap.incremental_mapping(
            str(task.matches),
            str(task.images_dir),
            str(models),
            options,
            input_path=str(begin) if begin else "",
            next_image_callback=bar.advance,
        )
    shutil.rmtree(work, ignore_errors=True)
    return _judged(result.values(), task, what)


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


def map_globally(task: Task) -> Attempt:
    """Global structure from motion: rotation averaging, then global positioning.

    It seldom falls into fragments, and is 2 to 3 times less exact than incremental mapping.
    """
    work = task.work / "global"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    # Global mapping wants relative poses, so the matches are verified once more as calibrated, in
    # a copy: the cache keeps its uncalibrated ones.
    copy = work / "database.db"
    copy_database(task.matches, copy)
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
        return _judged([], task, "global mapping")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _judged(result.values(), task, "global mapping")
