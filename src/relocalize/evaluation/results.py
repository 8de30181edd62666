"""What an evaluation found: for every test image and every localizer, and summed up.

The keys of ``results.json`` (`Evaluation.to_json`, `Evaluation.images_to_json`) are on the page
docs/reference/files.md, "An evaluation".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.jupyter import JupyterMixin

from relocalize.evaluation.answers import Answer
from relocalize.evaluation.axes import Up
from relocalize.evaluation.calibration import SigmaError, coverage
from relocalize.evaluation.comparison import Comparison
from relocalize.evaluation.leakage import Nearness, errors_by_nearness
from relocalize.evaluation.metrics import PoseErrors, Times
from relocalize.evaluation.table import Summary, results_table, short_scores
from relocalize.evaluation.truth import Truth, alignment_to_json
from relocalize.evaluation.truth_sigma import TruthSigma
from relocalize.geometry import Rigid3
from relocalize.plain import to_strict_json


@dataclass(frozen=True, eq=False)
class Outcome:
    """One localizer on one test image."""

    answer: Answer  # what it said, in the Place's frame
    world_from_cam: Rigid3 | None  # the same pose in the truth's frame, or None for a failure
    # its error in units of what the localizer stated of it and of what the truth itself may be off,
    # or None where nothing was stated
    in_sigmas: SigmaError | None

    @classmethod
    def of(cls, answer: Answer, image: str, truth: Truth) -> Outcome:
        """Measure an answer about an image against the truth."""
        pose, covariance = answer.estimate.world_from_cam, answer.estimate.covariance
        if pose is None:
            return cls(answer, None, None)
        in_sigmas = None
        if covariance is not None:
            in_place = truth.truth_from_place.inverse().move_camera(truth.world_from_cam[image])
            in_sigmas = SigmaError.of(pose, covariance + truth.noise_in_place, in_place)
        return cls(answer, truth.truth_from_place.move_camera(pose), in_sigmas)

    def to_json(self) -> dict[str, Any]:
        """As result files have it, in the truth's frame; without the errors."""
        pose, sigmas = self.world_from_cam, self.in_sigmas
        estimate = self.answer.estimate
        return {
            "status": estimate.status,
            "reason": estimate.reason,
            "position": pose and pose.translation,
            "quat_wxyz": pose and pose.quat_wxyz,
            "position_sigma": estimate.position_sigma,
            "rotation_sigma_deg": estimate.rotation_sigma_deg,
            "inliers": estimate.inliers,
            "milliseconds": self.answer.milliseconds,
            "cpu_milliseconds": self.answer.cpu_milliseconds,
            "position_error_sigmas": sigmas and sigmas.position,
            "rotation_error_sigmas": sigmas and sigmas.rotation,
        }


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(JupyterMixin):
    """Localizers compared on the test images of one split.

    Attributes:
        split: its name.
        rule: how the split came about.
        train: how many train images it has.
        truth: what the estimates were measured against.
        images: the test images, in the split's order.
        not_scored: test images without a true pose.
        nearness: the nearest train image of each test image.
        clusters: [N] which test images are resampled together.
        up: which way is up in the truth's frame.
        truth_sigma: how exact the true pose of each test image is, as far as that is known.
        other_split: what another split's evaluation found, as `summary_of_split` has it, or None.
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
    nearness: Nearness
    clusters: NDArray[np.int64]
    up: Up
    truth_sigma: TruthSigma | None
    other_split: dict[str, Any] | None
    extent: float
    outcomes: dict[str, tuple[Outcome, ...]]
    fit_seconds: dict[str, float]

    def __repr__(self) -> str:
        said = short_scores(self.comparison.errors, metric=self.truth.is_metric)
        return f"<Evaluation of split {self.split!r} on {len(self.images)} test images: {said}>"

    def __rich__(self) -> Summary:
        """The tables of `relocalize evaluate`, for terminals and notebooks."""
        return results_table(self.to_json())

    @cached_property
    def comparison(self) -> Comparison:
        """How far the localizers are from the truth, in the truth's unit."""
        true = [self.truth.world_from_cam[name] for name in self.images]
        errors = {
            name: PoseErrors.of([one.world_from_cam for one in outcomes], true)
            for name, outcomes in self.outcomes.items()
        }
        return Comparison(errors, true, self.truth.unit, self.up, self.clusters)

    @property
    def calibration(self) -> dict[str, dict[str, Any] | None]:
        """Expected against observed coverage of the stated uncertainties, by localizer."""
        return {
            name: coverage([one.in_sigmas for one in outcomes if one.in_sigmas is not None])
            for name, outcomes in self.outcomes.items()
        }

    def _row(self, name: str) -> dict[str, Any]:
        """What the table, and more, says of one localizer."""
        answers = [one.answer for one in self.outcomes[name]]
        times = Times.of(
            [answer.milliseconds for answer in answers],
            [answer.cpu_milliseconds for answer in answers],
        )
        below = self.truth_sigma and self.truth_sigma.shares_of(self.comparison.errors[name])
        return {**self.comparison.row(name), **vars(times), "below_truth_sigma": below}

    def to_json(self) -> dict[str, Any]:
        """The table as strict JSON values; an infinite or meaningless number is None."""
        alignment = self.truth.alignment
        values: dict[str, Any] = to_strict_json(
            {
                "split": self.split,
                "truth": self.truth.source,
                "aligned": alignment and alignment_to_json(alignment, "train images only"),
                "localizers": {name: self._row(name) for name in self.outcomes},
                **self.comparison.to_json(),
                "truth_exactness": self.truth.exactness,
                "truth_sigma": self.truth_sigma and self.truth_sigma.to_json(),
                "images": {
                    "train": self.train,
                    "test": len(self.images),
                    "not_scored": len(self.not_scored),
                },
                "nearest_train_view": self.nearness.medians(),
                "beside": self.other_split,
                "leakage": errors_by_nearness(self.nearness, self.comparison.errors),
                "extent": self.extent,
                "rule": self.rule,
                "calibration": self.calibration,
            }
        )
        return values

    def images_to_json(self) -> list[dict[str, Any]]:
        """Every test image with its true pose and what each localizer made of it."""
        errors, axes = self.comparison.errors, self.comparison.axes
        rows: list[dict[str, Any]] = to_strict_json(
            [
                {
                    "image": name,
                    "position": true.translation,
                    "quat_wxyz": true.quat_wxyz,
                    **{
                        f"nearest_train_{measure}": values[row]
                        for measure, values in vars(self.nearness).items()
                    },
                    "truth_sigma": self.truth_sigma and self.truth_sigma.of_image(row),
                    "piece": self.clusters[row],
                    "localizers": {
                        localizer: {
                            **outcomes[row].to_json(),
                            "position_error": errors[localizer].position[row],
                            "rotation_error_deg": errors[localizer].rotation_deg[row],
                            **axes[localizer].of_image(row),
                        }
                        for localizer, outcomes in self.outcomes.items()
                    },
                }
                for row, (name, true) in enumerate(
                    zip(self.images, self.comparison.true, strict=True)
                )
            ]
        )
        return rows
