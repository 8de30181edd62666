"""Which images train and which test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from relocalize import progress
from relocalize.errors import PlaceError
from relocalize.evaluation.axes import Up
from relocalize.evaluation.leakage import Nearness
from relocalize.geometry.from_above import axes_across
from relocalize.place import Place, Split
from relocalize.place.splits import (
    BLOCKS,
    GAP,
    joined,
    split_by_area,
    split_by_blocks,
    split_by_captures,
    split_later,
    split_random,
)

Rule = Literal["blocks", "later", "captures", "area", "random"]

# The rules that read an option; those that are not here are read whatever the rule.
_RULES_OF = {
    "test": ("captures",),
    "share": ("later", "area", "random"),
    "blocks": ("blocks",),
    "every": ("blocks",),
    "area": ("area",),
    "gap": ("blocks", "later", "area"),
    "seed": ("random",),
}


@dataclass(frozen=True, repr=False)
class SplitReport:
    """A split that was made, and how near its test images are to its train images.

    Attributes:
        split: as it is stored.
        neither: posed images that are on neither side.
        unit: of lengths.
        nearest_train_view: medians over the test images of the distance to the nearest train view
            (``median_distance``, ``median_angle_deg``) and of the time to the nearest train image
            (``median_seconds``, ``median_frames``; None where it is not known).
    """

    split: Split
    neither: int
    unit: str
    nearest_train_view: dict[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """As plain values, without the images' names."""
        return {
            "name": self.split.name,
            "rule": self.split.rule,
            "settings": self.split.settings,
            "train": len(self.split.train),
            "test": len(self.split.test),
            "neither": self.neither,
            "unit": self.unit,
            "nearest_train_view": self.nearest_train_view,
        }

    def __repr__(self) -> str:
        train, test = len(self.split.train), len(self.split.test)
        return (
            f"SplitReport({self.split.name}, rule {self.split.rule}: {train} train, {test} test, "
            f"{self.neither} on neither side)"
        )


def split(
    place: Place | str | Path,
    rule: Rule,
    *,
    name: str | None = None,
    capture: Sequence[str] = (),
    test: Sequence[str] = (),
    share: float | None = None,
    blocks: int = BLOCKS,
    every: int = 4,
    area: tuple[float, float, float, float] | None = None,
    gap: int | None = None,
    seed: int = 0,
    replace: bool = False,
) -> SplitReport:
    """Divide a Place's posed images into train and test, by a rule that keeps them apart.

    Args:
        place: the Place or its folder; it has a map.
        rule: ``blocks``: every fourth block of time tests. ``later``: the end of each walk.
            ``captures``: whole captures (``test``). ``area``: what was taken on a region of floor.
            ``random``: shuffled images, which shows how much a leaky split flatters, and nothing
            else.
        name: of the split; None: the rule's.
        capture: split these captures alone; none: all that the map is made of. The images of
            others are on neither side.
        test: rule captures: those that test.
        share: rules later, area, random: share of the images that test (0.2, 0.2, 0.25).
        blocks: rule blocks: how many blocks each walk is cut into.
        every: rule blocks: one block of this many tests.
        area: rule area: the rectangle x0, y0, x1, y1 in the map's x and y, which needs z up; None:
            the round region farthest from where the first walk began.
        gap: rules blocks, later, area: images dropped on either side of a test image in time;
            None: 1/200 of the walk.
        seed: rule random: of the shuffling.
        replace: replace a split of that name; what was fitted on it is fitted again when used.

    Raises:
        PlaceError: an option that the rule does not read, too few images, or another split of that
            name is there.
    """
    place = Place.of(place)
    asked = _Asked(rule, tuple(capture), tuple(test), share, blocks, every, area, gap, seed)
    made = asked.split(place, name or rule)
    if made.name in place.split_names and place.split(made.name) != made and not replace:
        raise PlaceError(
            f"{place.root} has another split {made.name!r}; give this one a --name, or "
            "--replace that one"
        )
    place.write_split(made)
    return _report(place, made)


@dataclass(frozen=True)
class _Asked:
    """A rule with its options, as `split` has them."""

    rule: Rule
    capture: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    share: float | None = None
    blocks: int = BLOCKS
    every: int = 4
    area: tuple[float, float, float, float] | None = None
    gap: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        # An option that its rule does not read would be taken for one that it followed.
        for one in fields(self)[1:]:
            rules = _RULES_OF.get(one.name, (self.rule,))
            if getattr(self, one.name) != one.default and self.rule not in rules:
                raise PlaceError(
                    f"--{one.name} is for rule {', '.join(rules)}; rule {self.rule} has no use "
                    "for it"
                )
        if self.area is not None and self.share is not None:
            raise PlaceError("--area and --share exclude each other; give one of them")

    def split(self, place: Place, name: str) -> Split:
        """The split of a Place by this rule."""
        walks = self._walks(place)
        if self.rule == "captures":
            return split_by_captures(walks, self.test, name=name)
        if self.rule == "random":
            names = [image for images in walks.values() for image in images]
            share = 0.25 if self.share is None else self.share
            return split_random(names, name=name, share=share, seed=self.seed)
        if self.rule == "area":
            return split_by_area(
                walks,
                _floor(place, walks, rectangle=self.area is not None),
                name=name,
                share=0.2 if self.share is None else self.share,
                rectangle=self.area,
                gap=self.gap,
            )
        return _of_each_walk(walks, self._of_walk(name))

    def _of_walk(self, name: str) -> Callable[[Sequence[str]], Split]:
        def of_walk(images: Sequence[str]) -> Split:
            if self.rule == "later":
                share = 0.2 if self.share is None else self.share
                return split_later(images, name=name, share=share, gap=self.gap)
            blocks = min(self.blocks, max(1, len(images) // 4))
            gap = GAP if self.gap is None else self.gap * blocks / max(1, len(images))
            return split_by_blocks(images, name=name, blocks=self.blocks, every=self.every, gap=gap)

        return of_walk

    def _walks(self, place: Place) -> dict[str, list[str]]:
        """Posed images by capture, in time order."""
        posed = place.map.images
        captures = place.captures
        missing = [name for name in self.capture if name not in captures]
        if missing:
            raise PlaceError(f"{place.root} has no capture {missing[0]!r}; it has {list(captures)}")
        chosen = self.capture or [
            name
            for name, one in captures.items()
            if self.rule == "captures" or not one.is_registered
        ]
        walks = {
            name: [image for image in captures[name].image_names if image in posed]
            for name in chosen
        }
        found = {name: images for name, images in walks.items() if images}
        if not found:
            raise PlaceError(f"{place.root} has no posed images in captures {list(walks)}")
        return found


def _of_each_walk(walks: dict[str, list[str]], of_walk: Callable[[Sequence[str]], Split]) -> Split:
    """The rule on each walk by itself; walks that are too short are on neither side."""
    made = {name: _or_why_not(of_walk, images) for name, images in walks.items()}
    splits = [one for one in made.values() if isinstance(one, Split)]
    short = {name: one for name, one in made.items() if isinstance(one, PlaceError)}
    if not splits:
        raise next(iter(short.values()))
    for name, why in short.items():
        progress.say(f"capture {name} is on neither side: {why}")
    return joined(splits)


def _or_why_not(of_walk: Callable[[Sequence[str]], Split], images: list[str]) -> Split | PlaceError:
    try:
        return of_walk(images)
    except PlaceError as error:
        return error


def _floor(place: Place, walks: dict[str, list[str]], *, rectangle: bool) -> dict[str, list[float]]:
    """Where each image was taken, on the floor."""
    poses = {n: place.map.images[n].world_from_cam for images in walks.values() for n in images}
    if place.frame.up == "z":
        return {name: pose.translation[:2].tolist() for name, pose in poses.items()}
    if rectangle:
        raise PlaceError(
            f"{place.root} does not know which way is up, so x and y are no floor; tell it: "
            "relocalize align PLACE --up, or hold out a --share"
        )
    up = Up.of(place.frame, list(poses.values())).direction
    axes = axes_across(up, np.stack([pose.translation for pose in poses.values()]))
    return {name: (axes @ pose.translation).tolist() for name, pose in poses.items()}


def _report(place: Place, split: Split) -> SplitReport:
    posed = place.map.images
    test = {name: posed[name].world_from_cam for name in split.test}
    return SplitReport(
        split=split,
        neither=len(posed) - len(split.train) - len(split.test),
        unit=place.unit,
        nearest_train_view=Nearness.of(place, split.train, test).medians(),
    )
