"""All settings of mapping."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from relocalize.features.extraction import Kind
from relocalize.features.matching import MatchSettings
from relocalize.features.pairs import PairSettings
from relocalize.mapping.keyframes import KeyframeSettings
from relocalize.mapping.registering import RegisterSettings
from relocalize.mapping.scale import MeasuredLength

__all__ = [
    "FeatureChoice",
    "KeyframeSettings",
    "MapSettings",
    "MatchSettings",
    "PairSettings",
    "RegisterSettings",
]


FeatureChoice: TypeAlias = Kind | Literal["auto"]


@dataclass(frozen=True)
class MapSettings:
    """How a Place is mapped.

    Attributes:
        features: the kind of local features; "auto" begins with SIFT, or with what the map was
            made with, and tries the next kind where the map does not hang together.
        keyframes: which frames of a video carry the reconstruction.
        pairs: which images are matched.
        matching: how.
        registering: when a further image counts as registered.
        lengths: measured lengths that make the map metric.
        reference: a registration of some of the same images (a pose list or COLMAP model) whose
            frame and unit the map takes on.
        split: with imported poses, the split whose train images make the points; None takes the
            only one there is, or all images when there is none.
        seed: of everything random.
    """

    features: FeatureChoice = "auto"
    keyframes: KeyframeSettings = KeyframeSettings()
    pairs: PairSettings = PairSettings()
    matching: MatchSettings = MatchSettings()
    registering: RegisterSettings = RegisterSettings()
    lengths: tuple[MeasuredLength, ...] = ()
    reference: Path | None = None
    split: str | None = None
    seed: int = 0
