"""One localizer over one set of images: every number with how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relocalize.evaluation.axes import ErrorAxes
from relocalize.evaluation.confidence import Interval, Resamples
from relocalize.evaluation.metrics import THRESHOLDS, PoseErrors, Scores, finite
from relocalize.evaluation.recall_curve import (
    AREAS_CM_DEG,
    RecallCurve,
    area_keys,
    larger_error,
    shares_below,
)
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray


@dataclass(frozen=True, eq=False)
class Accuracy:
    """What a table, a report and a paper say of one localizer.

    Attributes:
        scores: of all images, failures as infinite errors.
        answered: of the images with an estimate alone; None where there is none.
        curve: of recall; None where the truth is not in metres.
        axes: the errors taken apart.
        intervals: 95% of each number, by its name in result files; of a recall or an area by
            ``recall.0.05m_5deg`` and ``area.5cm_5deg``. None where there are too few images.
    """

    scores: Scores
    answered: Scores | None
    curve: RecallCurve | None
    axes: ErrorAxes
    intervals: dict[str, Interval | None]

    @classmethod
    def of(
        cls,
        errors: PoseErrors,
        true: Sequence[Rigid3],
        *,
        metric: bool,
        up: FloatArray,
        resamples: Resamples,
    ) -> Accuracy:
        """Of the errors of N >= 1 images.

        Args:
            errors: [N].
            true: [N] the poses ``world_from_cam`` that they are measured from.
            metric: whether positions are in metres.
            up: [3] against gravity, in the truth's world.
            resamples: of these images.
        """
        scores = Scores.of(errors, metric=metric)
        if scores is None:
            raise ValueError("no images to sum up")
        return cls(
            scores=scores,
            answered=Scores.of(errors.of_images(~errors.failed), metric=metric),
            curve=RecallCurve.of(errors) if metric else None,
            axes=ErrorAxes.of(errors, true, up),
            intervals=_intervals(errors, resamples, metric=metric),
        )

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values: an infinite or meaningless number is None."""
        answered = None
        if self.answered is not None:
            answered = self.answered.to_json()
            del answered["failed"]
        intervals: dict[str, Any] = {"recall": {}, "area": {}}
        for name, interval in self.intervals.items():
            ends = interval and [finite(end) for end in interval]
            group, _, key = name.partition(".")
            if key:
                intervals[group][key] = ends
            else:
                intervals[name] = ends
        return {
            **self.scores.to_json(),
            "answered": answered,
            "intervals": intervals,
            "recall_curve": None if self.curve is None else self.curve.to_json(),
            "axes": self.axes.medians(),
        }


def _intervals(
    errors: PoseErrors, resamples: Resamples, *, metric: bool
) -> dict[str, Interval | None]:
    drawn = {
        "median_position": resamples.medians(errors.position),
        "median_rotation_deg": resamples.medians(errors.rotation_deg),
        "mean_position": resamples.means(errors.position),
        "mean_rotation_deg": resamples.means(errors.rotation_deg),
    }
    if metric:
        for one in THRESHOLDS:
            drawn[f"recall.{one.key}"] = resamples.means(errors.within(one).astype(float))
        larger = larger_error(errors)
        for key, end in zip(area_keys(), AREAS_CM_DEG, strict=True):
            drawn[f"area.{key}"] = resamples.means(shares_below(larger, end))
    return {name: resamples.interval(values) for name, values in drawn.items()}
