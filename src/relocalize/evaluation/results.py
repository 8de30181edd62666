"""What an evaluation found: for every test image and every localizer, and summed up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from relocalize.evaluation.answers import Answer
from relocalize.evaluation.calibration import SigmaError, coverage
from relocalize.evaluation.leakage import NearestViews
from relocalize.evaluation.metrics import PoseError, Summary, finite
from relocalize.evaluation.truth import Truth
from relocalize.geometry import Rigid3


@dataclass(frozen=True, eq=False)
class Outcome:
    """One localizer on one test image.

    Attributes:
        answer: what it said, in the Place's frame.
        world_from_cam: the same pose in the truth's frame, or None for a failure.
        error: against the truth, in the truth's unit.
        in_sigmas: the same in units of what the localizer stated of it, or None where it stated
            nothing.
    """

    answer: Answer
    world_from_cam: Rigid3 | None
    error: PoseError
    in_sigmas: SigmaError | None

    @classmethod
    def of(cls, answer: Answer, image: str, truth: Truth) -> Outcome:
        """Measure an answer about an image against the truth."""
        pose = answer.world_from_cam
        moved = None if pose is None else truth.truth_from_place.move_camera(pose)
        true = truth.world_from_cam[image]
        in_sigmas = None
        if pose is not None and answer.covariance is not None:
            in_place = truth.truth_from_place.inverse().move_camera(true)
            in_sigmas = SigmaError.of(pose, answer.covariance, in_place)
        return cls(answer, moved, PoseError.of(moved, true), in_sigmas)

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values, in the truth's frame; the errors of a failure are None."""
        pose, sigmas = self.world_from_cam, self.in_sigmas
        answer = asdict(self.answer)
        del answer["covariance"]  # what it is good for is in the sigmas below
        return {
            **answer,
            "position": None if pose is None else pose.translation.tolist(),
            "quat_wxyz": None if pose is None else pose.quat_wxyz.tolist(),
            "position_error": finite(self.error.position),
            "rotation_error_deg": finite(self.error.rotation_deg),
            "position_error_sigmas": None if sigmas is None else finite(sigmas.position),
            "rotation_error_sigmas": None if sigmas is None else finite(sigmas.rotation),
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Localizers compared on the test images of one split.

    Attributes:
        split: its name.
        rule: how the split came about.
        train: how many train images it has.
        truth: what the estimates were measured against.
        images: the test images, in the split's order.
        not_scored: test images without a true pose.
        nearest: the nearest train view of each test image.
        extent: diagonal of the box around the train cameras, in the truth's unit.
        outcomes: by localizer, one per test image.
        fit_seconds: wall time of fitting or loading each localizer.
    """

    split: str
    rule: str
    train: int
    truth: Truth
    images: tuple[str, ...]
    not_scored: tuple[str, ...]
    nearest: NearestViews
    extent: float
    outcomes: dict[str, tuple[Outcome, ...]]
    fit_seconds: dict[str, float]

    @property
    def summaries(self) -> dict[str, Summary]:
        """The table's row of each localizer."""
        return {
            name: Summary.of(
                [outcome.error for outcome in outcomes],
                metric=self.truth.is_metric,
                milliseconds=[outcome.answer.milliseconds for outcome in outcomes],
                cpu_milliseconds=[outcome.answer.cpu_milliseconds for outcome in outcomes],
            )
            for name, outcomes in self.outcomes.items()
        }

    def to_json(self) -> dict[str, Any]:
        """The table as strict JSON values; an infinite or meaningless number is None."""
        return {
            "split": self.split,
            "truth": self.truth.source,
            "aligned": self.truth.alignment_json(),
            "localizers": {name: row.to_json() for name, row in self.summaries.items()},
            "unit": self.truth.unit,
            "truth_exactness": self.truth.exactness,
            "images": {
                "train": self.train,
                "test": len(self.images),
                "not_scored": len(self.not_scored),
            },
            "nearest_train_view": {
                "median_distance": float(np.median(self.nearest.distance)),
                "median_angle_deg": float(np.median(self.nearest.angle_deg)),
            },
            "extent": self.extent,
            "rule": self.rule,
            "calibration": self.calibration,
        }

    @property
    def calibration(self) -> dict[str, dict[str, Any] | None]:
        """Expected against observed coverage of the stated uncertainties, by localizer."""
        return {
            name: coverage([one.in_sigmas for one in outcomes if one.in_sigmas is not None])
            for name, outcomes in self.outcomes.items()
        }

    def images_to_json(self) -> list[dict[str, Any]]:
        """Every test image with its true pose and what each localizer made of it."""
        rows = []
        for index, name in enumerate(self.images):
            true = self.truth.world_from_cam[name]
            rows.append(
                {
                    "image": name,
                    "position": true.translation.tolist(),
                    "quat_wxyz": true.quat_wxyz.tolist(),
                    "nearest_train_distance": float(self.nearest.distance[index]),
                    "nearest_train_angle_deg": float(self.nearest.angle_deg[index]),
                    "localizers": {
                        localizer: outcomes[index].to_json()
                        for localizer, outcomes in self.outcomes.items()
                    },
                }
            )
        return rows
