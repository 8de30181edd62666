"""What an evaluation found: for every test image and every localizer, and summed up.

The keys of ``results.json`` (`Evaluation.to_json`, `Evaluation.images_to_json`) are on the page
docs/scoring.md, "What results.json holds".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.evaluation.accuracy import Accuracy
from relocalize.evaluation.answers import Answer
from relocalize.evaluation.axes import ErrorAxes
from relocalize.evaluation.calibration import SigmaError, coverage
from relocalize.evaluation.confidence import LEVEL, Resamples
from relocalize.evaluation.leakage import NearestViews, TimeGaps, leakage_to_json
from relocalize.evaluation.metrics import PoseErrors, Times, finite
from relocalize.evaluation.paired import Difference, differences
from relocalize.evaluation.truth import Truth
from relocalize.evaluation.truth_sigma import TruthSigma
from relocalize.evaluation.up import Up
from relocalize.geometry import Rigid3


@dataclass(frozen=True, eq=False)
class Outcome:
    """One localizer on one test image.

    Attributes:
        answer: what it said, in the Place's frame.
        world_from_cam: the same pose in the truth's frame, or None for a failure.
        in_sigmas: its error in units of what the localizer stated of it and of what the truth
            itself may be off, or None where nothing was stated.
    """

    answer: Answer
    world_from_cam: Rigid3 | None
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
            stated = np.reshape(answer.covariance, (6, 6)) + truth.noise_in_place
            in_sigmas = SigmaError.of(pose, stated, in_place)
        return cls(answer, moved, in_sigmas)

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values, in the truth's frame; without the errors."""
        pose, sigmas = self.world_from_cam, self.in_sigmas
        answer = asdict(self.answer)
        del answer["covariance"]  # what it is good for is in the sigmas below
        return {
            **answer,
            "position": None if pose is None else pose.translation.tolist(),
            "quat_wxyz": None if pose is None else pose.quat_wxyz.tolist(),
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
        gaps: the train image nearest in time of each test image.
        pieces: [N] which test images are resampled together.
        up: which way is up in the truth's frame.
        truth_sigma: how exact the true pose of each test image is, as far as that is known.
        beside: what another split's evaluation found, as `beside.beside` has it, or None.
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
    gaps: TimeGaps
    pieces: NDArray[np.int64]
    up: Up
    truth_sigma: TruthSigma | None
    beside: dict[str, Any] | None
    extent: float
    outcomes: dict[str, tuple[Outcome, ...]]
    fit_seconds: dict[str, float]

    @property
    def true_poses(self) -> list[Rigid3]:
        """``world_from_cam`` of each test image, in the truth's frame."""
        return [self.truth.world_from_cam[name] for name in self.images]

    @cached_property
    def errors(self) -> dict[str, PoseErrors]:
        """How far each localizer is from the truth, in the truth's unit."""
        return {
            name: PoseErrors.of([one.world_from_cam for one in outcomes], self.true_poses)
            for name, outcomes in self.outcomes.items()
        }

    @cached_property
    def resamples(self) -> Resamples:
        """The draws of test images that intervals come from."""
        return Resamples.of(self.pieces)

    @cached_property
    def accuracies(self) -> dict[str, Accuracy]:
        """The errors of each localizer summed up."""
        return {
            name: Accuracy.of(
                errors,
                self.true_poses,
                metric=self.truth.is_metric,
                up=self.up.direction,
                resamples=self.resamples,
            )
            for name, errors in self.errors.items()
        }

    @cached_property
    def differences(self) -> list[Difference]:
        """Each two localizers compared on the same images."""
        return differences(self.errors, self.resamples, metric=self.truth.is_metric)

    def _row(self, name: str) -> dict[str, Any]:
        """What the table, and more, says of one localizer."""
        answers = [one.answer for one in self.outcomes[name]]
        times = Times.of(
            [answer.milliseconds for answer in answers],
            [answer.cpu_milliseconds for answer in answers],
        )
        below = None if self.truth_sigma is None else self.truth_sigma.shares_of(self.errors[name])
        return {
            **self.accuracies[name].to_json(),
            **times.to_json(),
            "below_truth_sigma": below,
        }

    def to_json(self) -> dict[str, Any]:
        """The table as strict JSON values; an infinite or meaningless number is None."""
        return {
            "split": self.split,
            "truth": self.truth.source,
            "aligned": self.truth.alignment_json(),
            "localizers": {name: self._row(name) for name in self.outcomes},
            "unit": self.truth.unit,
            "truth_exactness": self.truth.exactness,
            "truth_sigma": None if self.truth_sigma is None else self.truth_sigma.to_json(),
            "images": {
                "train": self.train,
                "test": len(self.images),
                "not_scored": len(self.not_scored),
            },
            "nearest_train_view": {
                "median_distance": float(np.median(self.nearest.distance)),
                "median_angle_deg": float(np.median(self.nearest.angle_deg)),
                "median_view_change_deg": float(np.median(self.nearest.change_deg)),
                "median_seconds": _median_known(self.gaps.seconds),
                "median_frames": _median_known(self.gaps.frames),
            },
            "paired": [one.to_json() for one in self.differences],
            "confidence": {
                "level": LEVEL,
                "pieces": int(self.pieces.max()) + 1,
                "samples": len(self.resamples.counts),
                "seed": 0,
            },
            "beside": self.beside,
            "leakage": leakage_to_json(self.nearest, self.gaps, self.errors),
            "up": {"direction": self.up.direction.tolist(), "from": self.up.source},
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
        axes = {
            name: ErrorAxes.of(errors, self.true_poses, self.up.direction)
            for name, errors in self.errors.items()
        }
        rows = []
        for index, (name, true) in enumerate(zip(self.images, self.true_poses, strict=True)):
            rows.append(
                {
                    "image": name,
                    "position": true.translation.tolist(),
                    "quat_wxyz": true.quat_wxyz.tolist(),
                    "nearest_train_distance": float(self.nearest.distance[index]),
                    "nearest_train_angle_deg": float(self.nearest.angle_deg[index]),
                    "nearest_train_view_change_deg": float(self.nearest.change_deg[index]),
                    "nearest_train_seconds": finite(self.gaps.seconds[index]),
                    "nearest_train_frames": finite(self.gaps.frames[index]),
                    "truth_sigma": self.truth_sigma and self.truth_sigma.of_image(index),
                    "piece": int(self.pieces[index]),
                    "localizers": {
                        localizer: {
                            **outcomes[index].to_json(),
                            "position_error": finite(self.errors[localizer].position[index]),
                            "rotation_error_deg": finite(
                                self.errors[localizer].rotation_deg[index]
                            ),
                            **axes[localizer].to_json(index),
                        }
                        for localizer, outcomes in self.outcomes.items()
                    },
                }
            )
        return rows


def _median_known(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None
