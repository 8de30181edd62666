"""`relocalize split PLACE --rule RULE`: which images train and which test."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from relocalize import progress
from relocalize.errors import PlaceError
from relocalize.evaluation.axes import Up
from relocalize.evaluation.leakage import Nearness
from relocalize.place import Place, Split
from relocalize.place.folder import METRE
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


@dataclass(frozen=True)
class SplitImages:
    """Divide a Place's posed images into train and test, by a rule that keeps them apart."""

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    rule: Literal["blocks", "later", "captures", "area", "random"]
    """blocks: every fourth block of time tests. later: the end of each walk. captures: whole
    captures (--test). area: what was taken on a region of floor. random: shuffled images, which
    shows how much a leaky split flatters, and nothing else."""
    name: str | None = None
    """Of the split; without it the rule's."""
    capture: tuple[str, ...] = ()
    """Split these captures alone; without it all that the map is made of. The images of others
    are on neither side."""
    test: tuple[str, ...] = ()
    """Rule captures: those that test."""
    share: float | None = None
    """Rules later, area, random: share of the images that test (0.2, 0.2, 0.25)."""
    blocks: int = BLOCKS
    """Rule blocks: how many blocks each walk is cut into."""
    every: int = 4
    """Rule blocks: one block of this many tests."""
    area: tuple[float, float, float, float] | None = None
    """Rule area: the rectangle X0 Y0 X1 Y1 in the map's x and y, which needs z up. Without it, the
    round region farthest from where the first walk began."""
    gap: int | None = None
    """Rules blocks, later, area: images dropped on either side of a test image in time; without it
    1/200 of the walk."""
    seed: int = 0
    """Rule random: of the shuffling."""
    replace: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace a split of that name; what was fitted on it is fitted again when it is used."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of text."""

    def run(self) -> int:
        """Make the split, and print how near its test images are to its train images."""
        place = Place.open(self.place)
        split = self._split(place)
        known = split.name in place.split_names
        if known and place.split(split.name) != split and not self.replace:
            raise PlaceError(
                f"{self.place} has another split {split.name!r}; give this one a --name, or "
                "--replace that one"
            )
        place.write_split(split)
        facts = _facts(place, split)
        print(json.dumps(facts, indent=2) if self.json else _as_text(facts))
        if self.rule == "random":
            progress.say(_why_too_good(facts))
        return 0

    def _refuse_what_has_no_use(self) -> None:
        """An option that its rule does not read would be taken for one that it followed."""
        for one in fields(self):
            rules = _RULES_OF.get(one.name, (self.rule,))
            if getattr(self, one.name) != one.default and self.rule not in rules:
                raise PlaceError(
                    f"--{one.name} is for rule {', '.join(rules)}; rule {self.rule} has no use "
                    "for it"
                )
        if self.area is not None and self.share is not None:
            raise PlaceError("--area and --share exclude each other; give one of them")

    def _split(self, place: Place) -> Split:
        self._refuse_what_has_no_use()
        walks = self._walks(place)
        name = self.name or self.rule
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
            raise PlaceError(f"{self.place} has no capture {missing[0]!r}; it has {list(captures)}")
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
            raise PlaceError(f"{self.place} has no posed images in captures {list(walks)}")
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
    east = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    east /= np.linalg.norm(east)
    axes = np.stack([east, np.cross(up, east)])
    return {name: (axes @ pose.translation).tolist() for name, pose in poses.items()}


def _facts(place: Place, split: Split) -> dict[str, Any]:
    posed = place.map.images
    test = {name: posed[name].world_from_cam for name in split.test}
    return {
        "name": split.name,
        "rule": split.rule,
        "settings": split.settings,
        "train": len(split.train),
        "test": len(split.test),
        "neither": len(posed) - len(split.train) - len(split.test),
        "unit": place.unit,
        "nearest_train_view": Nearness.of(place, split.train, test).medians(),
    }


def _as_text(facts: dict[str, Any]) -> str:
    near = facts["nearest_train_view"]
    metric = facts["unit"] == METRE
    size = 100 * near["median_distance"] if metric else near["median_distance"]
    time = ""
    if near["median_seconds"] is not None:
        time = f"; nearest in time: {near['median_seconds']:.3g} s"
    elif near["median_frames"] is not None:
        time = f"; nearest in time: {_frames(near['median_frames'])}"
    return (
        f"split {facts['name']} (rule {facts['rule']}): {facts['train']} train, {facts['test']} "
        f"test, {facts['neither']} on neither side\n"
        f"  nearest train view of a test image: {size:.3g} {'cm' if metric else 'map units'} and "
        f"{near['median_angle_deg']:.2g} deg away (median){time}"
    )


def _frames(count: float) -> str:
    return "1 frame" if count == 1 else f"{count:.0f} frames"


def _why_too_good(facts: dict[str, Any]) -> str:
    frames = facts["nearest_train_view"]["median_frames"]
    beside = f", half of them within {_frames(frames)}," if frames is not None else ""
    return (
        "numbers on a random split are too good: its test images are near-copies of train images "
        f"of the same walk{beside} so a localizer that only remembers them does as well as one "
        "that has learnt the place. Claim nothing from it; use blocks, later, captures or area"
    )
