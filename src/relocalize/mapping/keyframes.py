"""Keyframes: the few frames of a walk that carry the reconstruction.

Reconstruction costs grow with images while accuracy comes from parallax, so a map is made from
frames that differ and the rest are registered afterwards. A frame becomes a keyframe when its
features have moved by a set share of the image since the last one, or when too few are seen still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relocalize import progress
from relocalize.features.database import FeatureDatabase
from relocalize.features.extraction import KINDS, unit_descriptors
from relocalize.features.matching import mutual_matches


@dataclass(frozen=True)
class KeyframeSettings:
    """When a frame becomes a keyframe.

    Attributes:
        motion: median displacement of matched features since the last keyframe, as a share of
            the image's diagonal.
        min_shared: share of the last keyframe's features that must still be matched.
        min_matches: fewer matches than this say nothing about motion; the frame is taken.
        least: a walk of up to so many frames is all keyframes; reconstruction can afford it, and
            a short walk has no accuracy to give away.
    """

    motion: float = 0.03
    min_shared: float = 0.2
    min_matches: int = 30
    least: int = 60


def choose_keyframes(
    database: FeatureDatabase,
    names: Sequence[str],
    size: tuple[int, int],
    settings: KeyframeSettings,
) -> list[str]:
    """Keyframes among the frames of one walk.

    Args:
        database: holds the features of all ``names``.
        names: frames in time order.
        size: width and height of the frames in pixels.
        settings: when a frame becomes a keyframe.
    """
    if len(names) <= settings.least:
        return list(names)
    kind = KINDS[database.settings.kind]
    reach = settings.motion * float(np.hypot(*size))
    chosen = [names[0]]
    last = previous = database.features(names[0])
    last_unit = unit_descriptors(last.descriptors)
    before = names[0]
    for name in progress.track(names[1:], "choosing keyframes", unit="frames"):
        current = database.features(name)
        unit = unit_descriptors(current.descriptors)
        matches = mutual_matches(last_unit, unit, kind.max_ratio, max_angle=kind.max_angle)
        moved = current.keypoints[matches[:, 1]] - last.keypoints[matches[:, 0]]
        far = len(moved) > 0 and float(np.median(np.linalg.norm(moved, axis=1))) > reach
        few = len(matches) < max(settings.min_matches, settings.min_shared * len(last))
        if far or few:
            # When sight of the last keyframe is lost, the frame before still had it: it joins
            # the two, so it is taken as well.
            if few and before != chosen[-1] and len(previous) >= settings.min_matches:
                chosen.append(before)
            chosen.append(name)
            last, last_unit = current, unit
        previous, before = current, name
    return chosen
