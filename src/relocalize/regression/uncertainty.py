"""How far off a regressed pose may be, and when it is none at all: calibrated on validation images.

What tells of an error is its own prediction (heteroscedastic loss), the spread of samples with
dropout left on (Bayesian PoseNet, Kendall and Cipolla, ICRA 2016), and how far the answer is from
the pose of the train view that looks most like the photo. None of them is an error in metres, so
validation images, varied as train images are, say how much each counts, and then scale the sum
until as many of their errors lie within it as should.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from relocalize.geometry.transforms import (
    FloatArray,
    rotation_angles,
    rotations_from_rotvecs,
    rotvec_from_rotation,
)
from relocalize.plain import from_plain
from relocalize.regression.agreement import Agreement
from relocalize.regression.answers import Answers
from relocalize.regression.novelty import KnownViews
from relocalize.regression.wrong_lens import WrongLens

# Within 1 sigma of every axis of a Gaussian in three dimensions lies this share: the ellipsoid
# whose squared radius is the median-like 68.3% quantile of chi-squared with 3 degrees.
COVERAGE = 0.6827
_RADIUS = 1.8779  # sqrt of that quantile, 3.5267
_FEWEST = 8  # validation images, below which one number is all that they can tell
# Validation images set what is usual; sigma up to this many times their largest is an answer.
_BEYOND_USUAL = 5.0
# An answer is sure at sigmas up to so many times their largest, below all but this share of those
# of images that show nothing.
_SURE = 2.0
_NEARLY_NONE = 0.05
_LEAST_SIGMA = 1e-9

# What gives a position or a rotation: the regressed pose, that of the view that is most similar in
# the network's features, a blend of both, or what image retrieval by local features finds: the pose
# of the most similar image, or one interpolated between several.
Source = Literal["pose", "view", "blend", "retrieval", "interpolation"]
RETRIEVED: tuple[Source, Source] = ("retrieval", "interpolation")


@dataclass(frozen=True, eq=False)
class Signs:
    """What tells of the errors of N poses, before it is calibrated."""

    novelty: FloatArray  # [N] how unlike the train views each photo is
    # [N, 2] how far the regressed pose is from the most similar train view: in the Place's unit, in
    # radians
    away: FloatArray
    # [N, 6] predicted and sampled variances added, of the centre in the world and the rotation
    # vector in the camera's axes (radians); None where neither is there
    variance: FloatArray | None = None
    support: FloatArray | None = None  # [N] as `Answers.support`

    def of(self, part: int) -> FloatArray:
        """[N, K] what the sigma of positions (0) or rotations (1) is made of; the first is 1."""
        columns = [np.ones(len(self.novelty)), self.away[:, part]]
        if self.variance is not None:
            columns.append(np.sqrt(self.variance[:, 3 * part : 3 * part + 3].mean(axis=1)))
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Blend:
    """The regressed pose and that of the most similar view, each by one over its variance."""

    # weights of the columns of `Signs.of`, as in `Calibration`, for positions and rotations
    pose: tuple[tuple[float, ...], tuple[float, ...]]
    view: tuple[tuple[float, ...], tuple[float, ...]]  # likewise of 1 and the novelty

    @classmethod
    def learn(cls, signs: Signs, pose_errors: FloatArray, view_errors: FloatArray) -> Blend:
        """From N images and the errors [N, 2] of both answers to them."""
        pose = [sigma_weights(signs.of(part), pose_errors[:, part]) for part in (0, 1)]
        view = [sigma_weights(_of_view(signs), view_errors[:, part]) for part in (0, 1)]
        return cls((pose[0], pose[1]), (view[0], view[1]))

    def __call__(
        self, world_from_cams: FloatArray, nearest: FloatArray, signs: Signs
    ) -> FloatArray:
        """[N, 4, 4] between both, [N, 4, 4] each."""
        share = [
            1 / (1 + (_of_view(signs) @ self.view[part] / (signs.of(part) @ self.pose[part])) ** 2)
            for part in (0, 1)
        ]
        blended = np.array(world_from_cams, dtype=np.float64)
        off = nearest[:, :3, 3] - blended[:, :3, 3]
        blended[:, :3, 3] += share[0][:, None] * off
        turn = blended[:, :3, :3].transpose(0, 2, 1) @ nearest[:, :3, :3]
        vectors = share[1][:, None] * np.stack([rotvec_from_rotation(one) for one in turn])
        blended[:, :3, :3] = blended[:, :3, :3] @ rotations_from_rotvecs(vectors)
        return blended


def _of_view(signs: Signs) -> FloatArray:
    return np.stack([np.ones(len(signs.novelty)), signs.novelty], axis=1)


@dataclass(frozen=True)
class Calibration:
    """What signs mean, as validation images tell."""

    position: tuple[float, ...]  # weights of the columns of `Signs.of`, in the Place's unit
    rotation: tuple[float, ...]  # likewise, in radians
    largest_position: float  # sigma beyond which there is no answer
    largest_rotation: float  # likewise, in radians
    largest_novelty: float  # beyond which a photo is not of this place, unless the answer is sure
    sure_novelty: float  # beyond which it is not of this place, however sure the answer
    sure_position: float  # sigma up to which an answer is sure; 0 where sigma tells nothing
    sure_rotation: float  # likewise, in radians
    answers: tuple[Source, Source] = ("pose", "pose")  # of the position and of the rotation
    blend: Blend | None = None  # where one of them is that
    wrong_lens: WrongLens = WrongLens()  # of photos of an unknown camera
    agreement: Agreement | None = None  # of cells; None where answers to images are averaged

    @classmethod
    def learn(
        cls,
        upright: Signs,
        varied: Signs,
        errors: FloatArray,
        turned: Signs,
        *,
        answers: tuple[Source, Source] = ("pose", "pose"),
        blend: Blend | None = None,
        wrong_lens: WrongLens | None = None,
        agreement: Agreement | None = None,
    ) -> Calibration:
        """From validation images.

        What a sigma is worth is learnt on copies of them that are varied as those of the train
        images are. As they are, they chose the epoch, and are all about as near to train views as
        each other: of a photo that is farther away they tell nothing.

        Upside-down validation images have the place's colours and textures and show no view of it.
        A photo is not of this place when its novelty is beyond the middle between the most novel
        upright one and the median of theirs. The largest sigma that is an answer lies likewise
        between the largest upright one and the median of theirs, halfway in its logarithm, but is
        at least five times the upright one. An answer is sure where its sigma is below that of
        nearly all upside-down images, and at most twice the largest upright one; a sure one is
        taken up to the least novel of them. An answer is also sure, whatever its sigma, where more
        cells agree than in the middle, in logarithms, between the most of an upside-down image and
        the median of upright ones.

        Args:
            upright: of validation images as they are.
            varied: of N copies of them.
            errors: [N, 2] of the copies' positions, in the Place's unit, and rotations, in radians.
            turned: of validation images upside down.
            answers: as `Calibration.answers`, which the errors are of; the regressed pose's where
                something is retrieved.
            blend: as `Calibration.blend`.
            wrong_lens: as `Calibration.wrong_lens`; None where no cells say depths.
            agreement: as `Calibration.agreement`; how much of it is enough is learnt here.
        """
        if agreement is not None and upright.support is not None and turned.support is not None:
            usual, none = float(np.median(upright.support)), float(turned.support.max())
            agreement = replace(agreement, supported=math.sqrt(usual * none))
        weights = [sigma_weights(varied.of(part), errors[:, part]) for part in (0, 1)]
        largest, sure = [], []
        for part, weight in enumerate(weights):
            usual = float((upright.of(part) @ np.array(weight)).max())
            lost = turned.of(part) @ np.array(weight)
            typical, least = np.quantile(lost, (0.5, _NEARLY_NONE))
            largest.append(max(_BEYOND_USUAL * usual, math.sqrt(usual * float(typical))))
            sure.append(min(_SURE * usual, float(least)) if least > usual else 0.0)
        novelty = float(upright.novelty.max())
        return cls(
            position=weights[0],
            rotation=weights[1],
            largest_position=largest[0],
            largest_rotation=largest[1],
            largest_novelty=max(novelty, (novelty + float(np.median(turned.novelty))) / 2),
            sure_novelty=float(turned.novelty.min()),
            sure_position=sure[0],
            sure_rotation=sure[1],
            answers=answers,
            blend=blend,
            wrong_lens=wrong_lens or WrongLens(),
            agreement=agreement,
        )

    def answer(
        self,
        world_from_cams: FloatArray,
        nearest: FloatArray,
        signs: Signs,
        retrieved: Mapping[Source, FloatArray] | None = None,
    ) -> FloatArray:
        """[N, 4, 4] of regressed poses [N, 4, 4] and those of the most similar views.

        Args:
            world_from_cams: regressed.
            nearest: of the most similar views; also what is answered where nothing was retrieved.
            signs: of them.
            retrieved: [N, 4, 4] by each of `RETRIEVED`.
        """
        of: dict[Source, FloatArray] = {"pose": world_from_cams, "view": nearest}
        of |= dict.fromkeys(RETRIEVED, nearest) if retrieved is None else retrieved
        if self.blend is not None:
            of["blend"] = self.blend(world_from_cams, nearest, signs)
        position, rotation = self.answers
        found = np.array(of[position], dtype=np.float64)
        found[:, :3, :3] = of[rotation][:, :3, :3]
        return found

    def covariances(self, signs: Signs) -> FloatArray:
        """[N, 6, 6] of (centre in the world, rotation vector in the camera's axes)."""
        count = len(signs.novelty)
        diagonal = np.empty((count, 6))
        for part, weights in enumerate((self.position, self.rotation)):
            sigma = np.maximum(signs.of(part) @ np.array(weights), _LEAST_SIGMA)
            shape = np.ones((count, 3))
            if signs.variance is not None:
                own = np.maximum(signs.variance[:, 3 * part : 3 * part + 3], _LEAST_SIGMA**2)
                shape = own / own.mean(axis=1, keepdims=True)
            diagonal[:, 3 * part : 3 * part + 3] = sigma[:, None] ** 2 * shape
        return np.stack([np.diag(row) for row in diagonal])

    def _sigmas(self, signs: Signs, row: int) -> tuple[float, float]:
        """Of the position, in the Place's unit, and the rotation, in radians."""
        position, rotation = (
            float(signs.of(part)[row] @ np.array(weights))
            for part, weights in enumerate((self.position, self.rotation))
        )
        return position, rotation

    def is_sure(self, signs: Signs, row: int) -> bool:
        """Whether hardly any image that shows no view of the place has so good an answer."""
        position, rotation = self._sigmas(signs, row)
        small = position <= self.sure_position and rotation <= self.sure_rotation
        return small or self._is_supported(signs, row)

    def _is_supported(self, signs: Signs, row: int) -> bool:
        return (
            self.agreement is not None
            and signs.support is not None
            and bool(signs.support[row] > self.agreement.supported)
        )

    def doubt(self, signs: Signs, row: int, unit: str) -> str | None:
        """Why photo ``row`` has no answer, or None."""
        novelty = float(signs.novelty[row])
        position, rotation = self._sigmas(signs, row)
        sure = self.is_sure(signs, row)
        if novelty > self.largest_novelty and not (sure and novelty < self.sure_novelty):
            return (
                f"it looks like no train image (novelty {novelty:.2f}, at most "
                f"{self.largest_novelty:.2f} counts as this place)"
            )
        if self._is_supported(signs, row):
            return None
        # Of what is retrieved, the network's own sigma says nothing.
        ours = [answer not in RETRIEVED for answer in self.answers]
        if (ours[0] and position > self.largest_position) or (
            ours[1] and rotation > self.largest_rotation
        ):
            return (
                f"it is too unsure: ± {position:.2f} {unit}, ± {math.degrees(rotation):.1f} deg "
                f"(answers end at {self.largest_position:.2f} {unit}, "
                f"{math.degrees(self.largest_rotation):.1f} deg)"
            )
        return None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """What `to_json` gave; raises ValueError for something else."""
        if "by_view" in values:  # of version 0.1
            values = dict(values)
            former = "view" if values.pop("by_view") else "blend" if values.get("blend") else "pose"
            values["answers"] = (former, former)
        found = from_plain(cls, values)
        if not 2 <= len(found.position) == len(found.rotation) <= 3 or not all(
            np.isfinite(value).all()
            for value in (
                asdict(found) | dict.fromkeys(("answers", "blend", "wrong_lens", "agreement"), 0)
            ).values()
        ):
            raise ValueError(f"no calibration: {values}")
        return found


def signs_of(answers: Answers, views: KnownViews) -> Signs:
    """What tells of the errors of answers."""
    nearest = views.compare(answers.descriptions, answers.shown)
    away = pose_distances(answers.world_from_cams, nearest.nearest)
    return Signs(nearest.novelty, away, answers.variance, answers.support)


def pose_distances(world_from_cams: FloatArray, others: FloatArray) -> FloatArray:
    """[N, 2]: distances of centres, and angles in radians, of poses [N, 4, 4]."""
    shift = np.linalg.norm(world_from_cams[:, :3, 3] - others[:, :3, 3], axis=1)
    turn = world_from_cams[:, :3, :3].transpose(0, 2, 1) @ others[:, :3, :3]
    return np.stack([shift, rotation_angles(turn)], axis=1)


def sigma_weights(columns: FloatArray, errors: FloatArray) -> tuple[float, ...]:
    """Weights >= 0 of columns [N, K] such that ``errors`` [N] lie within the sigma they make.

    The likeliest under a Gaussian in three dimensions, then scaled to the coverage. Of a few
    errors, the first column alone counts: it is of ones.
    """
    count = columns.shape[1]
    weights = np.zeros(count)
    weights[0] = max(float(np.sqrt((errors**2).mean() / 3)), _LEAST_SIGMA)
    if len(errors) >= _FEWEST:
        from scipy.optimize import minimize  # noqa: PLC0415 - answering needs none of it

        scale = np.maximum(columns.mean(axis=0), _LEAST_SIGMA) / weights[0]

        def unlikely(logarithms: FloatArray) -> float:
            sigma = columns @ (np.exp(logarithms) / scale) + _LEAST_SIGMA
            return float((3 * np.log(sigma) + errors**2 / (2 * sigma**2)).sum())

        start = np.full(count, np.log(1.0 / count))
        # Below e^-12 of what there is on the whole, a column counts as out.
        found = minimize(unlikely, start, method="L-BFGS-B", bounds=[(-12.0, 4.0)] * count)
        weights = np.exp(found.x) / scale
    sigma = np.maximum(columns @ weights, _LEAST_SIGMA)
    reached = float(np.quantile(errors / sigma, COVERAGE, method="higher")) / _RADIUS
    return tuple(float(weight) for weight in weights * max(reached, _LEAST_SIGMA))
