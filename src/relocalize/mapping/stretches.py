"""A long walk in stretches: reconstructed side by side, then joined by the images that they share.

Incremental mapping adjusts all it has again and again, so that its cost grows faster than the
walk. A stretch costs the same wherever it lies, and each core works on one of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pycolmap

from relocalize import progress
from relocalize.mapping.merging import add_images, add_points, agreed_similarity, depth_of, poses_of
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

_LENGTH = 100  # images of a stretch, about
_SHARED = 20  # images of two that follow each other; neighbours in time are at most 10 apart
_ROUNDS = 2  # of adjustment once joined: the second without what the first showed to be wrong


def stretches(names: Sequence[str]) -> list[list[str]]:
    """Overlapping runs of ``names``, equally long."""
    count = max(1, round((len(names) - _SHARED) / (_LENGTH - _SHARED)))
    starts = np.linspace(0, max(0, len(names) - _SHARED), count + 1).astype(int)
    return [list(names[a : b + _SHARED]) for a, b in pairwise(starts)]


def map_in_stretches(task: Task, what: str) -> Attempt:
    """Incremental mapping of each stretch; those that follow each other are made one model.

    Finished stretches are kept in ``task.work``, for a run after a kill.
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
    return Attempt([model for _, model in rated], rated[0][0]) if rated else Attempt.nothing(task)


def joined(models: Sequence[pycolmap.Reconstruction]) -> list[pycolmap.Reconstruction]:
    """Models in the order of the walk as few."""
    wholes: list[list[pycolmap.Reconstruction]] = []
    for model in models:
        for parts in reversed(wholes):
            common = sorted(set(parts[0].reg_image_ids()) & set(model.reg_image_ids()))
            agreed = agreed_similarity(
                poses_of(model, common), poses_of(parts[0], common), depth_of(parts[0], common)
            )
            if agreed is not None:
                model.transform(agreed[0].to_colmap())
                images, cameras = (
                    {i: i for i in ids} for ids in (model.reg_image_ids(), model.cameras)
                )
                add_images(parts[0], model, images, cameras)
                add_points(parts[0], model, images)
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
