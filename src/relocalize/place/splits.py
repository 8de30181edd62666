"""Splits: which images train and which test, and by which rule.

Neighbouring frames of one walk are near-copies, so every honest rule leaves a gap: images so near
a test image, in time or in space, are on neither side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import PlaceError

BLOCKS = 40
GAP = 0.2  # of a block, on either side of a test image
_AREA_MARGIN = 0.2  # of the held-out region's radius


@dataclass(frozen=True)
class Split:
    """A division of a Place's posed images.

    Attributes:
        name: file name in ``splits/`` without its ending.
        rule: how it came about: ``blocks``, ``later``, ``captures``, ``area``, ``random``,
            ``list``.
        train: image names that localizers may learn from.
        test: image names that are only ever scored.
        settings: the rule's own numbers.
    """

    name: str
    rule: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "train", tuple(self.train))
        object.__setattr__(self, "test", tuple(self.test))
        both = set(self.train) & set(self.test)
        if both:
            raise PlaceError(
                f"split {self.name!r} has {len(both)} images both in train and in test, "
                f"such as {min(both)!r}"
            )
        if not self.train:
            raise PlaceError(f"split {self.name!r} has no train images")


def split_by_blocks(
    names: Sequence[str],
    *,
    name: str = "blocks",
    blocks: int = BLOCKS,
    every: int = 4,
    gap: float = GAP,
) -> Split:
    """Every ``every``-th of ``blocks`` blocks of a capture's images, in time order, is test.

    Frames within ``gap`` block lengths of a test block belong to neither side. There are fewer
    blocks where there would be under 4 images a block.

    Raises:
        PlaceError: too few images for one train and one test block, or settings that make none.
    """
    if every < 2:
        raise PlaceError(
            f"one block of {every} is no test set beside others; want one of 2 or more"
        )
    if blocks < every:
        raise PlaceError(f"{blocks} blocks, of which one of {every} tests; want {every} or more")
    _check_gap(gap, "block lengths")
    blocks = min(blocks, len(names) // 4)
    if blocks < every:
        raise PlaceError(
            f"a split by blocks needs at least {4 * every} posed images, got {len(names)}; "
            "choose another rule: relocalize split PLACE --rule later"
        )
    edges = np.linspace(0, len(names), blocks + 1)
    block = np.searchsorted(edges, np.arange(len(names)), side="right") - 1
    is_test: NDArray[np.bool_] = block % every == every - 1
    near = _near_in_time(is_test, max(1, round(gap * len(names) / blocks)))
    settings = {"blocks": blocks, "every": every, "gap": gap}
    return _split(name, "blocks", names, is_test, settings, near)


def split_later(
    names: Sequence[str], *, name: str = "later", share: float = 0.2, gap: int | None = None
) -> Split:
    """The end of a walk, whose images are given in time order, is test.

    The ``gap`` images before it are on neither side; None: as many as `split_by_blocks` drops.

    Raises:
        PlaceError: nothing is left to train or to test on.
    """
    _check_share(share)
    gap = usual_gap(len(names)) if gap is None else gap
    _check_gap(gap, "images")
    is_test = np.arange(len(names)) >= len(names) - round(share * len(names))
    settings = {"share": share, "gap": gap}
    return _split(name, "later", names, is_test, settings, _near_in_time(is_test, gap))


def split_by_captures(
    captures: Mapping[str, Sequence[str]], test: Sequence[str], *, name: str = "captures"
) -> Split:
    """Whole captures test: another day, another camera. Their posed images are given by name.

    Raises:
        PlaceError: a capture is not there, or none is left to train on.
    """
    missing = [one for one in test if one not in captures]
    if missing or not test:
        raise PlaceError(
            f"captures to test on: {missing or 'none given'}; with posed images there are "
            f"{list(captures)}"
        )
    names = [image for images in captures.values() for image in images]
    tested = {image for one in test for image in captures[one]}
    is_test = np.array([image in tested for image in names], dtype=bool)
    return _split(name, "captures", names, is_test, {"test": list(test)})


def split_by_area(
    captures: Mapping[str, Sequence[str]],
    floor: Mapping[str, Sequence[float]],
    *,
    name: str = "area",
    share: float = 0.2,
    rectangle: Sequence[float] | None = None,
    gap: int | None = None,
) -> Split:
    """A region of floor is held out: what is taken there tests, whenever it was taken.

    Cameras outside may still look into the region. Those within a margin around it, and the
    ``gap`` images next to a test image in time (None: as many as `split_by_blocks` drops), are on
    neither side. The region is a rectangle x0, y0, x1, y1 on the floor, or the circle with a share
    of the images around the place that is farthest from where the first walk began.

    Raises:
        PlaceError: nothing is left to train or to test on.
    """
    names = [image for images in captures.values() for image in images]
    at = np.array([floor[image] for image in names], dtype=np.float64).reshape(-1, 2)
    if not names:
        raise PlaceError("a split by area needs posed images, got 0")
    if gap is not None:
        _check_gap(gap, "images")
    settings: dict[str, Any]
    if rectangle is not None:
        x0, y0, x1, y1 = (float(value) for value in rectangle)
        low, high = np.array([min(x0, x1), min(y0, y1)]), np.array([max(x0, x1), max(y0, y1)])
        outside = np.linalg.norm(np.maximum(np.maximum(low - at, at - high), 0), axis=1)
        margin = _AREA_MARGIN * float((high - low).min()) / 2
        is_test = outside == 0
        if not is_test.any():
            corners = np.stack([low, high])
            raise PlaceError(
                f"no image was taken in the rectangle x {_span(corners[:, 0])}, y "
                f"{_span(corners[:, 1])}; they were taken in x {_span(at[:, 0])}, y "
                f"{_span(at[:, 1])}"
            )
        settings = {"rectangle": [x0, y0, x1, y1]}
    else:
        _check_share(share)
        middle = at[np.argmax(np.linalg.norm(at - at[0], axis=1))]
        away = np.linalg.norm(at - middle, axis=1)
        wanted = max(1, round(share * len(names)))
        radius = float(np.sort(away)[wanted - 1])
        outside = np.maximum(away - radius, 0)
        margin = _AREA_MARGIN * radius
        is_test = outside == 0
        settings = {"share": share, "middle": middle.tolist(), "radius": radius}
    near = outside <= margin
    start = 0
    for images in captures.values():
        own = slice(start, start + len(images))
        reach = usual_gap(len(images)) if gap is None else gap
        near[own] |= _near_in_time(is_test[own], reach)
        start += len(images)
    return _split(name, "area", names, is_test, {**settings, "margin": margin, "gap": gap}, near)


def split_random(
    names: Sequence[str], *, name: str = "random", share: float = 0.25, seed: int = 0
) -> Split:
    """Shuffled images test, each beside train images: numbers on it are too good.

    It is here to show by how much; nothing is to be claimed from it.

    Raises:
        PlaceError: nothing is left to train or to test on.
    """
    _check_share(share)
    is_test = np.zeros(len(names), dtype=bool)
    order = np.random.default_rng(seed).permutation(len(names))
    is_test[order[: round(share * len(names))]] = True
    return _split(name, "random", names, is_test, {"share": share, "seed": seed})


def joined(splits: Sequence[Split]) -> Split:
    """Splits of several walks, by one rule and under one name, as one."""
    first = splits[0]
    return Split(
        first.name,
        first.rule,
        train=tuple(image for split in splits for image in split.train),
        test=tuple(image for split in splits for image in split.test),
        settings=first.settings if len(splits) == 1 else {"walks": [s.settings for s in splits]},
    )


def usual_gap(images: int) -> int:
    """How many images next to a test image are dropped from a walk of so many."""
    return max(1, round(GAP * images / BLOCKS))


def _split(
    name: str,
    rule: str,
    names: Sequence[str],
    is_test: NDArray[np.bool_],
    settings: dict[str, Any],
    near: NDArray[np.bool_] | None = None,
) -> Split:
    near = np.zeros_like(is_test) if near is None else near & ~is_test
    tested, neither = int(is_test.sum()), int(near.sum())
    if not tested or tested + neither == len(names):
        raise PlaceError(
            f"split {name!r} would have {tested} test and {len(names) - tested - neither} train "
            f"images of {len(names)}, with {neither} next to test images on neither side; "
            + ("test more of them" if not tested else "test fewer of them, or leave a smaller gap")
        )
    return Split(
        name,
        rule,
        train=tuple(names[int(i)] for i in np.flatnonzero(~is_test & ~near)),
        test=tuple(names[int(i)] for i in np.flatnonzero(is_test)),
        settings=settings,
    )


def _near_in_time(is_test: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Which of consecutive images [N] are within ``reach`` of a test image."""
    tests_before = np.concatenate([[0], np.cumsum(is_test)])
    at = np.arange(len(is_test))
    first, last = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(is_test))
    result: NDArray[np.bool_] = (tests_before[first] != tests_before[last]) & ~is_test
    return result


def _span(values: NDArray[np.float64]) -> str:
    return f"{round(float(values.min()), 3):.12g} to {round(float(values.max()), 3):.12g}"


def _check_gap(gap: float, of: str) -> None:
    if not gap >= 0:
        raise PlaceError(f"a gap of {gap:g} {of} cannot be left; want 0 or more")


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise PlaceError(
            f"a share of {share:g} of the images cannot test; want more than 0, under 1"
        )
