"""A long walk in stretches: reconstructed side by side, then joined by the images that they share.

Incremental mapping adjusts all it has again and again, so that its cost grows faster than the
walk. A stretch costs the same wherever it lies, and each core works on one of its own.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pycolmap

from relocalize import progress
from relocalize.errors import GeometryError
from relocalize.geometry import Rigid3, Similarity3, align_camera_poses
from relocalize.mapping.pruning import prune_points
from relocalize.mapping.reconstruction import (
    Attempt,
    Task,
    judge,
    map_incrementally,
    read_models,
    save_models,
)
from relocalize.parallel import one_native_thread, worker_count
from relocalize.place.bundle_adjustment import refine_map
from relocalize.place.model import add_image

_LENGTH = 100  # images of a stretch, about
_SHARED = 20  # images of two that follow each other; neighbours in time are at most 10 apart
_ROUNDS = 2  # of adjustment once joined: the second without what the first showed to be wrong
_LEAST_COMMON = 5  # images that two models are joined by
_LEAST_AGREEING = 0.6  # share of these whose poses agree on one similarity


def stretches(names: Sequence[str]) -> list[list[str]]:
    """Overlapping runs of ``names``, equally long."""
    count = max(1, round((len(names) - _SHARED) / (_LENGTH - _SHARED)))
    starts = np.linspace(0, max(0, len(names) - _SHARED), count + 1).astype(int)
    return [list(names[a : b + _SHARED]) for a, b in pairwise(starts)]


def map_in_stretches(task: Task, what: str) -> Attempt:
    """Incremental mapping of each stretch; those that follow each other are made one model.

    Finished stretches are kept in ``task.work`` until all are.
    """
    folder = task.work / what.replace(" ", "-")
    runs = stretches(task.names)
    stop = pycolmap.CancellationToken()
    with progress.bar(what, sum(map(len, runs))) as bar, one_native_thread():

        def mapped(item: tuple[int, list[str]]) -> list[pycolmap.Reconstruction]:
            number, names = item
            finished = folder / f"{number:04}"
            if finished.is_dir():
                bar.advance(len(names))
                return read_models(finished)
            aside = folder / f"{number:04}-under-way"
            part = replace(task, names=names, work=aside)
            attempt = map_incrementally(part, what, bar=bar, in_time=True, stop=stop)
            if stop.is_cancelled:
                return []  # half a stretch is none
            save_models(attempt.models, finished)
            # As after a kill, for the same map to the bit.
            return read_models(finished)

        with ThreadPoolExecutor(worker_count()) as pool:
            try:
                found = [one for models in pool.map(mapped, enumerate(runs)) for one in models]
            except BaseException:
                stop.cancel()  # else Ctrl-C waits for stretches that are under way
                raise
    rated = []
    models = found if len(runs) == 1 else joined(found)
    rounds = 1 if len(runs) == 1 else _ROUNDS
    with progress.bar("adjusting the walk", rounds * len(models), "rounds") as bar:
        for model in models:
            for number in range(rounds):
                if number:
                    prune_points(model)
                # Robustly, since pairs are going to be judged by it.
                refine_map(model)
                bar.advance()
            rated.append((judge(model, task.names, task.ordered), model))
    rated.sort(key=lambda row: row[0].score, reverse=True)
    shutil.rmtree(folder, ignore_errors=True)
    return Attempt([model for _, model in rated], rated[0][0]) if rated else Attempt.nothing(task)


def joined(models: Sequence[pycolmap.Reconstruction]) -> list[pycolmap.Reconstruction]:
    """Models in the order of the walk as few."""
    wholes: list[list[pycolmap.Reconstruction]] = []
    for model in models:
        for parts in reversed(wholes):
            whole_from_model = _similarity(parts[0], model)
            if whole_from_model is not None:
                model.transform(whole_from_model.to_colmap())
                _add(parts[0], model)
                parts.append(model)
                break
        else:
            wholes.append([pycolmap.Reconstruction(model), model])
    for whole, *parts in wholes:
        for camera_id, camera in whole.cameras.items():
            lenses = [
                one.cameras[camera_id].params for one in parts if one.exists_camera(camera_id)
            ]
            camera.params = np.median(lenses, axis=0)
        whole.update_point_3d_errors()
    return [parts[0] for parts in wholes]


def _similarity(
    whole: pycolmap.Reconstruction, model: pycolmap.Reconstruction
) -> Similarity3 | None:
    """whole_from_model by the images of both; None where these are few or disagree."""
    common = sorted(set(whole.reg_image_ids()) & set(model.reg_image_ids()))
    if len(common) < _LEAST_COMMON:
        return None
    from_model, from_whole = (
        [Rigid3.from_colmap(one.images[i].cam_from_world()).inverse() for i in common]
        for one in (model, whole)
    )
    try:
        alignment = align_camera_poses(from_model, from_whole)
    except GeometryError:
        return None
    agree = alignment.inliers.mean() >= _LEAST_AGREEING
    return alignment.b_from_a if agree else None


def _add(whole: pycolmap.Reconstruction, model: pycolmap.Reconstruction) -> None:
    """All of a model that is in the whole's frame; a point that both have becomes one."""
    for image_id in model.reg_image_ids():
        if whole.exists_image(image_id):
            continue
        image = model.images[image_id]
        if not whole.exists_camera(image.camera_id):
            whole.add_camera_with_trivial_rig(model.cameras[image.camera_id])
        pixels = np.array([p.xy for p in image.points2D]).reshape(-1, 2)
        pose = image.cam_from_world()
        add_image(whole, image.name, image_id, image.camera_id, pose, pixels)
    known = {
        image_id: {
            row: int(p.point3D_id)
            for row, p in enumerate(whole.images[image_id].points2D)
            if p.has_point3D()
        }
        for image_id in model.reg_image_ids()
    }
    for point_id in sorted(model.points3D):
        point = model.points3D[point_id]
        elements = [(int(e.image_id), int(e.point2D_idx)) for e in point.track.elements]
        same = Counter(known[i][row] for i, row in elements if row in known[i])
        free = [(i, row) for i, row in elements if row not in known[i]]
        if same:
            one = max(same, key=lambda number: (same[number], -number))
            for i, row in free:
                whole.add_observation(one, pycolmap.TrackElement(i, row))
        elif len(free) >= 2:
            track = pycolmap.Track()
            for i, row in free:
                track.add_element(i, row)
            one = whole.add_point3D(point.xyz, track, point.color)
        for i, row in free:
            known[i][row] = one
