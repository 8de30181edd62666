"""What both ways of mapping share: their result, neighbours in time, and who stays apart."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from relocalize.mapping.report import Apart, MapReport
from relocalize.place import Frame, MapModel, Place

ENOUGH = 0.95  # share of images in a sound map with which no other attempt is made
_BLUR = 0.5  # share of the capture's median sharpness below which a frame counts as blurred


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished map, not yet on disk."""

    model: MapModel  # posed images and points
    frame: Frame | None  # of the world, or None where it is what it was
    report: MapReport  # what was done
    # models of images that nothing firm ties to the map, each in a frame of its own
    parts: tuple[MapModel, ...] = ()
    held: float = 1.0  # share of the images that are in it and well held

    @property
    def doubt(self) -> str:
        """What speaks against the map, for people; empty where nothing does."""
        if self.report.alarms:
            return self.report.alarms[0]
        if self.held < ENOUGH:
            return f"it holds {self.held:.0%} of the images"
        return ""

    @property
    def holds(self) -> bool:
        """Whether no other attempt is needed."""
        return not self.doubt


def nearest_in_order(
    names: Sequence[str], anchors: Collection[str], count: int
) -> dict[str, list[str]]:
    """For every name, the ``count`` nearest anchors of its capture by place in the order."""
    by_capture: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if name in anchors:
            by_capture.setdefault(name.partition("/")[0], []).append(row)
    result: dict[str, list[str]] = {}
    for row, name in enumerate(names):
        rows = by_capture.get(name.partition("/")[0], [])
        at = bisect_left(rows, row)
        near = sorted(rows[max(0, at - count) : at + count], key=lambda one: abs(one - row))
        result[name] = [names[one] for one in near[:count]]
    return result


def images_apart(place: Place, reason_of: Mapping[str, str]) -> tuple[Apart, ...]:
    """Images without a pose, in runs of consecutive frames with their likely cause."""
    runs: list[Apart] = []
    for capture in place.captures.values():
        sharpness = [i.sharpness for i in capture.images if i.sharpness is not None]
        limit = _BLUR * float(np.median(sharpness)) if sharpness else 0.0
        previous_failed = False
        for image in capture.images:
            failed = image.name in reason_of
            if failed:
                blurred = image.sharpness is not None and image.sharpness < limit
                cause = "blurred" if blurred else reason_of[image.name]
                if previous_failed:
                    last = runs.pop()
                    runs.append(Apart((*last.images, image.name), last.reason))
                else:
                    runs.append(Apart((image.name,), cause))
            previous_failed = failed
    return tuple(runs)
