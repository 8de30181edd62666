"""Localizers, or files of estimates, on the same images: every number with how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.evaluation.axes import ErrorAxes, Up
from relocalize.evaluation.confidence import LEVEL, Resamples
from relocalize.evaluation.metrics import (
    AREAS_CM_DEG,
    THRESHOLDS,
    PoseErrors,
    RecallCurve,
    Scores,
    area_shares,
)
from relocalize.evaluation.paired import Difference, differences
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place.folder import METRE
from relocalize.plain import to_strict_json


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a table, a report and a paper say of them."""

    errors: dict[str, PoseErrors]  # of N >= 1 images, by localizer or file
    true: Sequence[Rigid3]  # [N] the poses ``world_from_cam`` that these are measured from
    unit: str  # of positions: ``metre`` or ``map unit``
    up: Up  # which way is up in the truth's world
    clusters: NDArray[np.int64]  # [N] which images are resampled together

    @property
    def metric(self) -> bool:
        """Whether positions are in metres."""
        return self.unit == METRE

    @cached_property
    def resamples(self) -> Resamples:
        """The draws of images that intervals come from."""
        return Resamples.of(self.clusters)

    @cached_property
    def axes(self) -> dict[str, ErrorAxes]:
        """The errors taken apart."""
        up = self.up.direction
        return {name: ErrorAxes.of(one, self.true, up) for name, one in self.errors.items()}

    @cached_property
    def differences(self) -> list[Difference]:
        """Each two of them."""
        return differences(self.errors, self.resamples, metric=self.metric)

    def row(self, name: str) -> dict[str, Any]:
        """One of them summed up, as strict JSON values; what is infinite or means nothing is None.

        ``answered`` are the images with an estimate alone; None where there is none.
        """
        errors = self.errors[name]
        answered: dict[str, Any] | None = None
        if not errors.failed.all():
            answered = vars(Scores.of(errors.of_images(~errors.failed), metric=self.metric)).copy()
            del answered["failed"]
        row: dict[str, Any] = to_strict_json(
            {
                **vars(Scores.of(errors, metric=self.metric)),
                "answered": answered,
                "intervals": self._intervals(errors),
                "recall_curve": RecallCurve.of(errors) if self.metric else None,
                "axes": self.axes[name].medians(),
            }
        )
        return row

    def _intervals(self, errors: PoseErrors) -> dict[str, Any]:
        """95% of each number; None where there are too few images."""
        draws = self.resamples
        both = {"position": errors.position, "rotation_deg": errors.rotation_deg}
        right = {one.key: errors.within(one).astype(float) for one in THRESHOLDS if self.metric}
        areas = {name: area_shares(errors, name) for name in AREAS_CM_DEG if self.metric}

        def of_means(values: Mapping[str, FloatArray]) -> dict[str, Any]:
            return {name: draws.interval(draws.means(one)) for name, one in values.items()}

        return {
            **{f"median_{name}": draws.interval(draws.medians(one)) for name, one in both.items()},
            **{f"mean_{name}": interval for name, interval in of_means(both).items()},
            "recall": of_means(right),
            "area": of_means(areas),
        }

    def to_json(self) -> dict[str, Any]:
        """What rows rest on, and how they differ, as strict JSON values."""
        values: dict[str, Any] = to_strict_json(
            {
                "unit": self.unit,
                "paired": self.differences,
                "confidence": {
                    "level": LEVEL,
                    "pieces": self.resamples.counts.shape[1],
                    "samples": len(self.resamples.counts),
                    "seed": 0,
                },
                "up": {"direction": self.up.direction, "from": self.up.source},
            }
        )
        return values
