"""The one map of the keyframes: neighbours in time first, then the loops that agree with them.

A walk is first mapped from neighbours in time, which look-alikes cannot fold. Pairs further apart
(loops) are held against that map, and those it contradicts are left out; the others close it and
join its fragments. Where this gives no sound map, further attempts are made, and the best of all
is taken by a criterion that does not need the truth.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pycolmap
from numpy.typing import NDArray

from relocalize import progress
from relocalize.errors import NotConnectedError
from relocalize.features.database import FeatureDatabase, Pair
from relocalize.features.matching import MatchSettings, match_pairs
from relocalize.features.pairs import Similarity, pairs_between
from relocalize.mapping.broken_walk import breaks
from relocalize.mapping.followed import followed
from relocalize.mapping.look_alikes import Verdict, agreement, contradictions, judge_pairs
from relocalize.mapping.loops import find_loops
from relocalize.mapping.outcome import nearest_in_order
from relocalize.mapping.pose_graph import close_loops
from relocalize.mapping.reconstruction import (
    Attempt,
    Task,
    complete,
    judge,
    map_globally,
    map_incrementally,
    read_models,
    save_models,
)
from relocalize.mapping.stretches import map_in_stretches
from relocalize.place import MapModel

Matches = Mapping[Pair, NDArray[np.uint32]]  # verified [V, 2]
_JOIN_ROUNDS = 2
_AGREE = 0.8  # share of the matches of neighbours in time that a sound map agrees with
_STILL_AGREE = 0.98  # of what it agreed with before, after loops that are true
_JOIN_SIMILAR = 20  # images of the main map that each image outside of it is matched with
_JOIN_REACH = 15  # and the registered images so near in time


@dataclass(frozen=True, eq=False)
class MainModel:
    """The map of the keyframes."""

    model: pycolmap.Reconstruction  # poses and points
    fragments: Sequence[pycolmap.Reconstruction]  # models of images that it lacks
    look_alikes: int  # pairs that were left out because the map contradicts them


def make_main_model(
    task: Task,
    database: FeatureDatabase,
    trusted: Collection[Pair],
    similarity: Similarity,
    matching: MatchSettings,
    *,
    last_resort: bool,
) -> MainModel:
    """The best map of the task's images.

    Args:
        task: its ``matches`` is the database itself; further attempts use copies in its ``work``.
        database: with verified matches.
        trusted: pairs of neighbours in time, which cannot be look-alikes; none for loose photos.
        similarity: finds images for joining fragments.
        matching: how further pairs are matched.
        last_resort: whether to go on trying where the map falls apart; not where another kind of
            features is tried next.

    Raises:
        NotConnectedError: nothing came together.
    """
    left_out: frozenset[Pair] = frozenset()

    def doubted(attempt: Attempt) -> Attempt:
        """With an alarm where it contradicts the images' matches, on the whole or at one place."""
        if not attempt.models:
            return attempt
        model, judgement = MapModel.from_colmap(attempt.models[0]), attempt.judgement
        matches = database.verified_matches()
        alarms = contradictions(model, matches, trusted)
        alarms += breaks(model, matches, trusted, task.names)
        return Attempt(attempt.models, replace(judgement, alarms=(*judgement.alarms, *alarms)))

    if database.settings.kind != "sift":
        # Dense matches on plain walls: a wrong turn early on is likely, and enough to be outvoted.
        best = doubted(_by_all_pairs(task, database, trusted))
    elif not trusted:
        best = doubted(map_incrementally(task, "reconstructing"))
    else:
        in_time = _in_time(task, database, trusted)
        best = doubted(in_time)
        if in_time.models and doubted(_largest(task, in_time)).judgement.alarms:
            # What one image after the other took for its motion, all pairs at once may outvote.
            best = _better(best, doubted(map_globally(_of_walk(task, database, trusted))))
        matches = database.verified_matches()
        loops = {pair: rows for pair, rows in matches.items() if pair not in trusted}
        verdict = judge_pairs((MapModel.from_colmap(model) for model in best.models), loops)
        left_out = verdict.contradicted
        if best.judgement.good:
            walk = {pair: matches[pair] for pair in trusted if pair in matches}
            best, left_out = _closed(task, database, best, loops, walk, verdict)
            best = doubted(best)
        if left_out:
            progress.say(f"{len(left_out)} look-alike pairs contradict the walk; left out")
        if not best.judgement.good:
            task = _without(task, database, left_out)
            best = _better(best, doubted(map_incrementally(task, "reconstructing")))
    for _ in range(_JOIN_ROUNDS):
        if best.judgement.good or not _bridged(task, database, best, similarity, matching):
            break
        task = _without(task, database, left_out)
        joined = map_incrementally(task, "joining fragments", best.models[0])
        best = _better(best, doubted(joined))
    if not best.judgement.good and last_resort:
        anew = replace(task, seed=task.seed + 1)
        best = _better(best, doubted(map_incrementally(anew, "reconstructing anew")))
        if not best.judgement.good and database.settings.kind == "sift":
            best = _better(best, doubted(map_globally(task)))
    if not best.models:
        raise NotConnectedError(
            f"no two of the {len(task.names)} images could be set in relation: they share too "
            "little, are blurred, or were taken from one spot; film while walking, with overlap"
        )
    return MainModel(best.models[0], best.fragments, len(left_out))


def _closed(
    task: Task,
    database: FeatureDatabase,
    in_time: Attempt,
    loops: Matches,
    walk: Matches,
    verdict: Verdict,
) -> tuple[Attempt, frozenset[Pair]]:
    """A map that holds together by itself, with its loops; and those that are none.

    Only what the map confirms may move it, as it is or with its drift taken out.
    """
    model, *others = in_time.models
    whole = MapModel.from_colmap(model)
    drifted = {pair: loops[pair] for pair in verdict.contradicted}
    found = find_loops(whole, task.names, drifted, walk) if drifted else []
    attempts = [(model, verdict)]
    if found:
        count = sum(len(loop.pairs) for loop in found)
        progress.say(f"the walk drifted: {count} pairs in {len(found)} groups agree by how much")
        bent = close_loops(model, task.names, found)
        attempts.insert(0, (bent, judge_pairs([MapModel.from_colmap(bent)], loops)))
    before = agreement(whole, walk)
    for start, judged in attempts:
        unconfirmed = [pair for pair in loops if pair not in judged.confirmed]
        closing = _without(task, database, unconfirmed)
        closed = complete(closing, start, "closing loops")
        # More constraints never lower the error, so it must not decide here.
        after = agreement(MapModel.from_colmap(closed.models[0]), walk)
        if closed.judgement.good and after >= _STILL_AGREE * before:
            attempt = Attempt([closed.models[0], *others], closed.judgement)
            return attempt, judged.contradicted
    return in_time, verdict.contradicted


def _by_all_pairs(task: Task, database: FeatureDatabase, trusted: Collection[Pair]) -> Attempt:
    """Global mapping; without the loops where those bend the walk."""
    best = map_globally(task)
    matches = database.verified_matches()
    loops = [pair for pair in matches if pair not in trusted]
    if not trusted or not loops:
        return best
    walk = {pair: matches[pair] for pair in trusted if pair in matches}

    def agreeing(attempt: Attempt) -> float:
        models = attempt.models
        return agreement(MapModel.from_colmap(models[0]), walk) if models else 0.0

    if agreeing(best) >= _AGREE:
        return best
    progress.say("pairs far apart in time contradict the walk; mapping without them")
    return max(best, map_globally(_without(task, database, loops)), key=agreeing)


def _in_time(task: Task, database: FeatureDatabase, trusted: Collection[Pair]) -> Attempt:
    """The map by neighbours in time alone; a finished one is read back after a kill."""
    finished = task.work / "in-time"
    if not finished.is_dir():
        attempt = map_in_stretches(_of_walk(task, database, trusted), "reconstructing in time")
        if not attempt.models:
            return attempt
        save_models(attempt.models, finished)
    models = read_models(finished)
    return Attempt(models, judge(models[0], task.names, task.ordered))


def _largest(task: Task, attempt: Attempt) -> Attempt:
    """Its model with most images, which is not the best where something speaks against it."""
    model = max(attempt.models, key=pycolmap.Reconstruction.num_reg_images)
    return Attempt([model], judge(model, task.names, task.ordered))


def _of_walk(task: Task, database: FeatureDatabase, trusted: Collection[Pair]) -> Task:
    matches = database.verified_matches()
    in_time = {pair: rows for pair, rows in matches.items() if pair in trusted}
    copy = task.work / "matches.db"
    database.copy_of(followed(in_time, task.names), copy)
    return replace(task, matches=copy)


def _without(task: Task, database: FeatureDatabase, pairs: Iterable[Pair]) -> Task:
    copy = task.work / "matches.db"
    database.copy_without(pairs, copy)
    return replace(task, matches=copy)


def _better(first: Attempt, second: Attempt) -> Attempt:
    """The better one; the second when they are equal."""
    if not first.models:
        return second
    return second if second.judgement.score >= first.judgement.score else first


def _bridged(
    task: Task,
    database: FeatureDatabase,
    best: Attempt,
    similarity: Similarity,
    matching: MatchSettings,
) -> bool:
    """Match images outside the best model with it; whether that verified any further pair."""
    if not best.models:
        return False
    inside = {i.name for i in best.models[0].images.values() if i.has_pose}
    outside = [name for name in task.names if name not in inside]
    if not outside:
        return False
    bridges = pairs_between(similarity, outside, inside, _JOIN_SIMILAR)
    bridges |= _pairs_at_seams(task.names, inside, outside)
    before = len(database.verified_matches())
    match_pairs(database, bridges, matching, what="joining fragments")
    return len(database.verified_matches()) > before


def _pairs_at_seams(names: Sequence[str], inside: set[str], outside: Sequence[str]) -> set[Pair]:
    near = nearest_in_order(names, inside, _JOIN_REACH)
    return {(name, other) for name in outside for other in near[name]}
