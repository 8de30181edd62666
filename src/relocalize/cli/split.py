"""`relocalize split PLACE --rule RULE`: which images train and which test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from relocalize import progress
from relocalize.cli.options import Flag, Printed, options
from relocalize.place.folder import METRE
from relocalize.place.splits import BLOCKS
from relocalize.verbs.split import Rule, split


@dataclass(frozen=True)
class Split(Printed):
    """Divide a Place's posed images into train and test, by a rule that keeps them apart."""

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    rule: Rule
    """Tests on: blocks of time; the end of each walk (later); whole captures;
    a region of floor (area); shuffled images (random), which flatters."""
    name: str | None = None
    """Name of the split; else the rule's."""
    capture: tuple[str, ...] = ()
    """Split these captures only; else all that the map is made of."""
    test: tuple[str, ...] = ()
    """captures: those that test."""
    share: float | None = None
    """later, area, random: share that tests (0.2, 0.2, 0.25)."""
    blocks: int = BLOCKS
    """blocks: how many each walk is cut into."""
    every: int = 4
    """blocks: one block in this many tests."""
    area: Annotated[
        tuple[float, float, float, float] | None, tyro.conf.arg(metavar="X0 Y0 X1 Y1")
    ] = None
    """area: a rectangle in the map; else the region farthest from the start."""
    gap: int | None = None
    """blocks, later, area: images left out beside a test image; else 1/200."""
    seed: int = 0
    """random: seed of the shuffling."""
    replace: Flag = False
    """Replace a split of that name."""

    def run(self) -> int:
        """Make the split, and print how near its test images are to its train images."""
        facts = split(**options(self)).to_json()
        self.show(facts, _as_text(facts))
        if self.rule == "random":
            progress.say(_why_too_good(facts))
        return 0


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
