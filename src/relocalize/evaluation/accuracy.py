"""One localizer over one set of images: every number with how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relocalize.evaluation.axes import ErrorAxes, Up
from relocalize.evaluation.confidence import Resamples
from relocalize.evaluation.metrics import (
    AREAS_CM_DEG,
    THRESHOLDS,
    PoseErrors,
    RecallCurve,
    Scores,
    area_shares,
)
from relocalize.geometry import Rigid3
from relocalize.plain import to_strict_json


@dataclass(frozen=True, eq=False)
class Accuracy:
    """What a table, a report and a paper say of one localizer.

    Attributes:
        scores: of all images, failures as infinite errors.
        answered: of the images with an estimate alone; None where there is none.
        curve: of recall; None where the truth is not in metres.
        axes: the errors taken apart.
        intervals: 95% of each number, as result files name them; an interval is None where there
            are too few images.
    """

    scores: Scores
    answered: Scores | None
    curve: RecallCurve | None
    axes: ErrorAxes
    intervals: dict[str, Any]

    @classmethod
    def of(
        cls,
        errors: PoseErrors,
        true: Sequence[Rigid3],
        *,
        metric: bool,
        up: Up,
        resamples: Resamples,
    ) -> Accuracy:
        """Of the errors of N >= 1 images.

        Args:
            errors: [N].
            true: [N] the poses ``world_from_cam`` that they are measured from.
            metric: whether positions are in metres.
            up: which way is up in the truth's world.
            resamples: of these images.
        """
        scores = Scores.of(errors, metric=metric)
        if scores is None:
            raise ValueError("no images to sum up")
        return cls(
            scores=scores,
            answered=Scores.of(errors.of_images(~errors.failed), metric=metric),
            curve=RecallCurve.of(errors) if metric else None,
            axes=ErrorAxes.of(errors, true, up.direction),
            intervals=_intervals(errors, resamples, metric=metric),
        )

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values: an infinite or meaningless number is None."""
        row: dict[str, Any] = to_strict_json(
            {
                **vars(self.scores),
                "answered": self.answered,
                "intervals": self.intervals,
                "recall_curve": self.curve,
                "axes": self.axes.medians(),
            }
        )
        if row["answered"] is not None:
            del row["answered"]["failed"]
        return row


def _intervals(errors: PoseErrors, resamples: Resamples, *, metric: bool) -> dict[str, Any]:
    medians = {"median_position": errors.position, "median_rotation_deg": errors.rotation_deg}
    means = {"mean_position": errors.position, "mean_rotation_deg": errors.rotation_deg}
    right = {one.key: errors.within(one).astype(float) for one in THRESHOLDS if metric}
    areas = {name: area_shares(errors, name) for name in AREAS_CM_DEG if metric}

    def of_means(values: dict[str, Any]) -> dict[str, Any]:
        return {name: resamples.interval(resamples.means(one)) for name, one in values.items()}

    return {
        **{name: resamples.interval(resamples.medians(one)) for name, one in medians.items()},
        **of_means(means),
        "recall": of_means(right),
        "area": of_means(areas),
    }
