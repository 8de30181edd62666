"""From verified matches to models, each judged by what can be seen without knowing the truth.

Incremental mapping often makes a wild little model first, so no model is taken because it came
first.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import poselib
import pycolmap

from relocalize import progress
from relocalize.checking.soundness import judge_soundness
from relocalize.errors import MappingError
from relocalize.features.database import PAGES_OF_PAIR, check_room, copy_database
from relocalize.geometry.transforms import skew
from relocalize.mapping.outcome import ENOUGH
from relocalize.mapping.points import triangulate
from relocalize.mapping.pruning import held_cameras, prune_points, unpose_without_lens
from relocalize.parallel import map_in_order
from relocalize.place import MapModel, atomic
from relocalize.place.bundle_adjustment import refine_map
from relocalize.place.model import is_whole, write_model

# Focal lengths of real cameras over the longer image side: 10 mm to 150 mm in 35 mm terms; of
# single photos, which people take with zoom lenses and crop, to 300 mm.
_PLAUSIBLE_FOCAL, _LONGEST_OF_ONE_PHOTO = (0.28, 4.2), 8.4
_MAX_REPROJECTION_ERROR = 2.0  # pixels, mean; sound maps of sharp images have 0.4 to 1.0
_FOLD_FACTOR = 30.0  # a step between neighbouring frames so many medians long is a jump
_SNAPSHOT_EVERY = 100  # images
_MAX_EPIPOLAR_ERROR = 2.0  # pixels, of a relative pose
_LEAST_INLIERS = 15
_BUSY = "No registered database factory succeeded"  # COLMAP's word for it
_WAITS_S = tuple(0.01 * 2**i for i in range(10))  # 10 s in all
_ROUNDS = 2  # of matches taken in and adjustment: the second takes in what the first bent


Models = dict[int, pycolmap.Reconstruction]


@dataclass(frozen=True)
class Judgement:
    """What can be said of a model without knowing the truth."""

    registered: int  # images in its largest part that hangs together
    images: int  # images that were to be in it
    reprojection_error: float  # mean, pixels
    alarms: tuple[str, ...]  # what is suspicious about it, for people

    @property
    def score(self) -> tuple[bool, float, float]:
        """Larger is better: without alarms, then images registered, then precision.

        Counts within 2% of each other are a tie: a few more images never outweigh precision.
        """
        share = self.registered / max(1, self.images)
        return (not self.alarms, round(share * 50), -self.reprojection_error)

    @property
    def good(self) -> bool:
        """Whether no other attempt is needed."""
        return not self.alarms and self.registered >= ENOUGH * self.images


def alarms_of(
    model: pycolmap.Reconstruction, names: Sequence[str], ordered: bool
) -> tuple[str, ...]:
    """What is suspicious of a model of ``names``, which are in time order if ``ordered``."""
    alarms = []
    images = Counter(image.camera_id for image in model.images.values() if image.has_pose)
    for number, camera in held_cameras(model).items():
        low, high = _PLAUSIBLE_FOCAL
        if images[number] == 1:
            high = _LONGEST_OF_ONE_PHOTO
        factor = camera.mean_focal_length() / max(camera.width, camera.height)
        if not low <= factor <= high:
            alarms.append(f"focal length {factor:.2f} x image size is implausible")
    error = _error(model)
    if error > _MAX_REPROJECTION_ERROR:
        alarms.append(f"mean reprojection error of {error:.2f} px")
    if ordered:
        jumps = _jumps(model, names)
        if jumps:
            alarms.append(f"the trajectory jumps at {', '.join(jumps[:3])}")
    return tuple(alarms)


def judge(model: pycolmap.Reconstruction, names: Sequence[str], ordered: bool) -> Judgement:
    """Judge a model of the images ``names``, which are in time order if ``ordered``."""
    parts = judge_soundness(MapModel.from_colmap(model)).parts
    return Judgement(
        registered=max(map(len, parts), default=0),
        images=len(names),
        reprojection_error=_error(model),
        alarms=alarms_of(model, names, ordered),
    )


def _error(model: pycolmap.Reconstruction) -> float:
    return float(model.compute_mean_reprojection_error()) if model.num_points3D() else np.inf


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
    """What is to be reconstructed."""

    matches: Path  # a COLMAP database with verified matches
    names: Sequence[str]  # images to map, in time order if ``ordered``
    images_dir: Path  # folder that the names are below
    work: Path  # folder for models under way; an interrupted attempt goes on from there
    ordered: bool  # whether neighbours in ``names`` are neighbours in time
    seed: int  # of everything random


@dataclass(frozen=True, eq=False)
class Attempt:
    """Models of the same images that one run made."""

    models: list[pycolmap.Reconstruction]  # best first; none when nothing came together
    judgement: Judgement  # of the best

    @classmethod
    def nothing(cls, task: Task) -> Attempt:
        """Of which nothing came."""
        alarms = ("nothing came together",)
        return cls([], Judgement(0, len(task.names), float("inf"), alarms))

    @property
    def fragments(self) -> list[pycolmap.Reconstruction]:
        """The models beside the best that hold images which it lacks."""
        inside = {i.name for i in self.models[0].images.values() if i.has_pose}
        return [
            model
            for model in self.models[1:]
            if any(i.has_pose and i.name not in inside for i in model.images.values())
        ]


def save_models(models: Iterable[pycolmap.Reconstruction], folder: Path) -> None:
    """Each in a folder of its own below ``folder``, which appears when all are there."""
    aside = folder.with_name(folder.name + "-new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for number, model in enumerate(models):
        one = aside / f"{number:03}"
        one.mkdir()
        write_model(model, one)
    aside.rename(folder)


def read_models(folder: Path) -> list[pycolmap.Reconstruction]:
    """What `save_models` wrote."""
    return [pycolmap.Reconstruction(str(one)) for one in sorted(folder.iterdir())]


def _judged(models: Iterable[pycolmap.Reconstruction], task: Task, what: str) -> Attempt:
    rated = []
    for model in models:
        unpose_without_lens(model)
        # One point behind a camera makes any mean of errors meaningless.
        prune_points(model)
        if model.num_points3D():
            rated.append((judge(model, task.names, task.ordered), model))
    rated.sort(key=lambda row: row[0].score, reverse=True)
    judgement = rated[0][0] if rated else Attempt.nothing(task).judgement
    if not judgement.good:
        reasons = "; ".join(judgement.alarms) or "too few"
        progress.say(
            f"{what}: {judgement.registered} of {len(task.names)} images in the best of "
            f"{len(rated)} models ({reasons})"
        )
    return Attempt([model for _, model in rated], judgement)


def map_incrementally(
    task: Task,
    what: str,
    begin_with: pycolmap.Reconstruction | None = None,
    *,
    bar: progress.Bar | None = None,
    in_time: bool = False,
    stop: pycolmap.CancellationToken | None = None,
) -> Attempt:
    """Incremental structure from motion.

    Args:
        task: what is to be reconstructed.
        what: names this run for people, and its folder in ``task.work``.
        begin_with: a model to add to, instead of beginning anew.
        bar: of the caller, which this is a part of.
        in_time: whether all matches are of neighbours in time, so that adjusting now and then is
            enough.
        stop: ends it early, from another thread.
    """
    options = pycolmap.IncrementalPipelineOptions()
    # One thread, so that the same images give the same map; two save a tenth of the time.
    options.num_threads = 1
    options.random_seed = options.mapper.random_seed = task.seed
    options.triangulation.random_seed = task.seed
    options.extract_colors = False
    options.image_names = list(task.names)
    options.min_model_size = 3
    if in_time:
        # Of 100 images of a corridor: 13 instead of 28 CPU s, and 0.44 instead of 0.51 cm.
        options.ba_global_frames_ratio = options.ba_global_points_ratio = 1.5
        options.ba_global_max_refinements, options.ba_global_max_num_iterations = 2, 20
        options.ba_local_max_refinements, options.ba_local_max_num_iterations = 1, 10
        # A stretch may be nothing but a straight way ahead, which shows little parallax, and where
        # an image is off along it by little in pixels; and where a walk turns back, few points
        # hold one.
        options.mapper.abs_pose_max_error, options.mapper.abs_pose_min_num_inliers = 6.0, 15
        options.mapper.init_max_forward_motion = 1.0
        options.mapper.init_min_tri_angle, options.mapper.init_min_num_inliers = 8.0, 60
    work = task.work / what.replace(" ", "-")
    snapshots = work / "snapshots"
    snapshots.mkdir(parents=True, exist_ok=True)
    options.snapshot_path = str(snapshots)
    options.snapshot_frames_freq = _SNAPSHOT_EVERY
    begin = _begin_folder(begin_with, work, snapshots)
    models = work / "models"
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir()
    try:
        shown = nullcontext(bar) if bar else progress.bar(what, len(task.names))
        with shown as running:
            result = _when_free(
                task.matches,
                lambda: pycolmap.incremental_mapping(
                    str(task.matches),
                    str(task.images_dir),
                    str(models),
                    options,
                    input_path=str(begin) if begin else "",
                    next_image_callback=running.advance,
                    cancellation_token=stop or pycolmap.CancellationToken(),
                ),
            )
    except ValueError as error:
        # COLMAP stumbles over cameras of images without a single match.
        progress.say(f"{what} failed: {_first_words(error)}")
        result = {}
    atomic.remove_folder(work)
    return _judged(result.values(), task, what)


def _when_free(database: Path, mapped: Callable[[], Models]) -> Models:
    """What begins by opening a database, which stretches side by side share.

    A database is busy for the moment in which another thread opens or closes it, and COLMAP does
    not wait.
    """
    for wait in _WAITS_S:
        try:
            return mapped()
        except RuntimeError as error:
            if _BUSY not in str(error):
                raise
        time.sleep(wait * (0.5 + random.random()))
    raise MappingError(
        f"{database} cannot be opened: another program has it open, or it is damaged; run the same "
        "command again"
    )


def _first_words(error: Exception) -> str:
    return str(error).partition(". ")[0]


def _begin_folder(
    begin_with: pycolmap.Reconstruction | None, work: Path, snapshots: Path
) -> Path | None:
    """The model to go on from: the last snapshot of a killed run, or ``begin_with``, or none."""
    whole = [folder for folder in snapshots.iterdir() if is_whole(folder)]
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
    write_model(begin_with, begin)
    return begin


def complete(task: Task, model: pycolmap.Reconstruction, what: str) -> Attempt:
    """A copy of a model with every verified match of its images, adjusted; no image joins it.

    Args:
        task: with the matches.
        model: posed images with the database's ids.
        what: names this run for people.
    """
    options = pycolmap.DatabaseCacheOptions()
    options.image_names = set(task.names)
    options.min_num_matches = _LEAST_INLIERS
    database = pycolmap.Database.open(str(task.matches))
    try:
        cache = pycolmap.DatabaseCache.create(database, options)
    finally:
        database.close()
    model = pycolmap.Reconstruction(model)
    mapper = pycolmap.IncrementalMapper(cache)
    mapper.begin_reconstruction(model)
    triangulation = pycolmap.IncrementalTriangulatorOptions()
    triangulation.random_seed = task.seed
    with progress.bar(what, 2 * _ROUNDS, "steps") as bar:
        for _ in range(_ROUNDS):
            mapper.complete_and_merge_tracks(triangulation)
            mapper.retriangulate(triangulation)
            bar.advance()
            refine_map(model)
            prune_points(model, mapper.observation_manager)
            bar.advance()
    mapper.end_reconstruction(False)
    return _judged([model], task, what)


def map_globally(task: Task) -> Attempt:
    """Global structure from motion: rotation averaging, then global positioning.

    All verified pairs have their say at once, so that no wrong turn early on decides the rest.
    Its tracks are cut short for speed; all matches are triangulated anew from its poses.
    """
    work = task.work / "global"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    copy = work / "database.db"
    copy_database(task.matches, copy)
    options = pycolmap.GlobalPipelineOptions()
    options.num_threads = 1
    options.random_seed = task.seed
    options.image_names = list(task.names)
    models = work / "models"
    models.mkdir()
    _set_relative_poses(copy)
    try:
        # How many parts the images fall into, each with steps of its own, shows on the way only.
        with progress.bar("global mapping", unit="steps") as bar:
            whole = []
            for model in _globally(copy, options, bar):
                whole.append(triangulate(model, copy, task.images_dir, models, seed=task.seed))
                bar.advance()
                refine_map(whole[-1])
                bar.advance()
    except (RuntimeError, ValueError) as error:
        progress.say(f"global mapping failed: {_first_words(error)}")
        return _judged([], task, "global mapping")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _judged(whole, task, "global mapping")


def _globally(
    path: Path, options: pycolmap.GlobalPipelineOptions, bar: progress.Bar
) -> list[pycolmap.Reconstruction]:
    """Global mapping of a database; positioning and each adjustment is a step of the bar."""
    models = pycolmap.ReconstructionManager()
    database = pycolmap.Database.open(str(path))
    try:
        pipeline = pycolmap.GlobalPipeline(options, database, models)
        step = int(pycolmap.GlobalPipelineCallback.MODEL_UPDATE_CALLBACK)
        pipeline.add_callback(step, bar.advance)
        pipeline.run()
    finally:
        database.close()
    return [pycolmap.Reconstruction(models.get(number)) for number in range(models.size())]


def _set_relative_poses(database: Path) -> None:
    """Give every verified pair of a database its relative pose, by the focal lengths there are."""
    db = pycolmap.Database.open(str(database))
    try:
        cameras = {int(c.camera_id): c for c in db.read_all_cameras()}
        lens = {int(i.image_id): _for_poselib(cameras[i.camera_id]) for i in db.read_all_images()}
        pixels = {image: db.read_keypoints(image)[:, :2].astype(np.float64) for image in lens}
        pairs, geometries = db.read_two_view_geometries()

        def posed(item: tuple[int, pycolmap.TwoViewGeometry]) -> pycolmap.TwoViewGeometry:
            first, second = pycolmap.pair_id_to_image_pair(item[0])
            matches = np.asarray(item[1].inlier_matches)
            pose, info = poselib.estimate_relative_pose(
                pixels[first][matches[:, 0]],
                pixels[second][matches[:, 1]],
                lens[first],
                lens[second],
                {"max_epipolar_error": _MAX_EPIPOLAR_ERROR},
                {},
            )
            result = pycolmap.TwoViewGeometry()
            result.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
            result.E = skew(pose.t) @ pose.R
            rotation = pycolmap.Rotation3d(np.asarray(pose.R))
            result.cam2_from_cam1 = pycolmap.Rigid3d(rotation, np.asarray(pose.t))
            result.inlier_matches = matches[np.asarray(info["inliers"], dtype=bool)]
            return result

        matched = [
            (pair, geometry)
            for pair, geometry in zip(pairs, geometries, strict=True)
            if len(geometry.inlier_matches)
        ]
        shown = progress.track(
            map_in_order(posed, matched), "relative poses", total=len(matched), unit="pairs"
        )
        found = list(shown)
        check_room(database, sum(one.inlier_matches.nbytes + PAGES_OF_PAIR for one in found))
        db.clear_two_view_geometries()
        for camera in cameras.values():
            camera.has_prior_focal_length = True
            db.update_camera(camera)
        with pycolmap.DatabaseTransaction(db):
            for (pair, _), geometry in zip(matched, found, strict=True):
                if len(geometry.inlier_matches) >= _LEAST_INLIERS:
                    db.write_two_view_geometry(*pycolmap.pair_id_to_image_pair(pair), geometry)
    finally:
        db.close()


def _for_poselib(camera: pycolmap.Camera) -> dict[str, object]:
    return {
        "model": camera.model_name,
        "width": camera.width,
        "height": camera.height,
        "params": list(camera.params),
    }
