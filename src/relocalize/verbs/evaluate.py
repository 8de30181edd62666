"""How well localizers do on images that they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relocalize import evaluation
from relocalize.evaluation import Evaluation
from relocalize.place import Place


def evaluate(
    place: Place | str | Path,
    *,
    split: str | None = None,
    localizers: Sequence[str] = (),
    truth: str | Path | None = None,
    beside: str | None = None,
    together: bool = False,
) -> Evaluation:
    """Localize a split's test images and compare with the truth and with the baselines.

    The result is stored as ``reports/<split>/results.json``, which `report` makes a page of.

    Args:
        place: the Place or its folder; it has a map.
        split: name of the split; None: the only one, or one by blocks of time is made.
        localizers: names of trained localizers; none: all that were trained on this split. The
            constant pose, retrieval and structure are always there.
        truth: poses of another origin, in any format that is imported, to measure against; the map
            is moved onto them by a robust Sim3 over train images only.
        beside: name of another split that was evaluated, to stand beside this one.
        together: localize all test images of a camera at once, so that they calibrate it together,
            in place of one at a time.

    Raises:
        EvaluationError: no test image has a true pose, or the truth does not fit the Place.
        RelocalizeError: the Place lacks a map, or a localizer cannot be fitted.
    """
    return evaluation.evaluate(
        Place.of(place),
        split=split,
        localizers=tuple(localizers) or None,
        truth=None if truth is None else Path(truth),
        other_split=beside,
        together=together,
    )
