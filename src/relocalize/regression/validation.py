"""What validation images say of a trained regressor: its errors, and what its sigmas are worth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.transforms import FloatArray, mean_rotation
from relocalize.regression.answers import Answers
from relocalize.regression.data import TrainingData
from relocalize.regression.device import Device
from relocalize.regression.inference import answers_to
from relocalize.regression.loop import Judgement
from relocalize.regression.model import PoseRegressor
from relocalize.regression.novelty import KnownViews
from relocalize.regression.uncertainty import Calibration, pose_distances, signs_of

# Validation images that are shown upside down and varied, and how many varied copies in all.
_MOST, _FEWEST_COPIES = 100, 50
_HALF_TURN = np.diag([-1.0, -1.0, 1.0])  # about the viewing direction: upside down


@dataclass(frozen=True, eq=False)
class ConstantBaseline:
    """The errors of a constant answer, which others are measured by.

    On the validation images, or on the train images where those are larger: a few validation images
    may lie near the mean pose by chance.
    """

    world_from_cams: FloatArray  # [V, 4, 4] of the validation images
    position: float  # median distance of the train images' mean pose from them
    rotation: float  # likewise, in radians

    @classmethod
    def of(cls, data: TrainingData) -> ConstantBaseline:
        """From train and validation poses."""
        train, validation = data.train_poses, data.validation_poses
        mean = np.eye(4)
        mean[:3, :3] = mean_rotation(list(train[:, :3, :3]))
        mean[:3, 3] = np.median(train[:, :3, 3], axis=0)
        spreads = [
            np.median(pose_distances(np.tile(mean, (len(poses), 1, 1)), poses), axis=0)
            for poses in (train, validation)
        ]
        position, rotation = np.maximum(np.max(spreads, axis=0), 1e-9)
        return cls(validation, float(position), float(rotation))

    def judge(self, world_from_cams: FloatArray) -> Judgement:
        """Of answers to the validation images.

        The score is the median over images of half the position error and half the rotation
        error, each as a share of the constant answer's median.
        """
        errors = pose_distances(world_from_cams, self.world_from_cams)
        relative = errors / (self.position, self.rotation)
        position, rotation = np.median(errors, axis=0)
        return Judgement(
            float(position), float(np.degrees(rotation)), float(np.median(relative.mean(axis=1)))
        )


@dataclass(frozen=True, eq=False)
class Validated:
    """What validation images say."""

    calibration: Calibration  # of the uncertainty
    answered: Judgement  # how the regressor does
    nearest_view: Judgement  # how the pose of the most similar train view would


def validated(
    data: TrainingData, model: PoseRegressor, views: KnownViews, device: Device
) -> Validated:
    """Show the validation images as photos would be, as they are, varied, and upside down.

    Args:
        data: with the validation images.
        model: trained, on the device.
        views: what the train images look like to it.
        device: the model is on.
    """
    settings, images, frames = data.settings, data.images, data.frames

    def answers(shown: Iterable[NDArray[np.uint8]], turns: FloatArray | None) -> Answers:
        return Answers.joined(
            answers_to(model, one, device, samples=settings.samples).averaged(turns)
            for one in shown
        )

    turns = images.turns
    upright = answers((images.of_frame(frames, int(row)) for row in data.validation), turns)
    baseline = ConstantBaseline.of(data)
    nearest = views.compare(upright.descriptions).nearest
    by_pose, by_view = baseline.judge(upright.world_from_cams), baseline.judge(nearest)
    takes_view = settings.answer == "view" or (
        settings.answer == "validation" and by_view.score < by_pose.score
    )

    def taken(given: Answers) -> Answers:
        if not takes_view:
            return given
        return replace(given, world_from_cams=views.compare(given.descriptions).nearest)

    some = data.validation[:: -(-len(data.validation) // _MOST)].tolist()
    each = 1 if settings.augment.is_none else -(-_FEWEST_COPIES // len(some))
    copies, poses = zip(
        *(
            images.of_copy(frames, row, settings.augment, seed=settings.seed, number=number)
            for number in range(each)
            for row in some
        ),
        strict=True,
    )
    varied = taken(answers(copies, turns))
    upside_down = (
        np.ascontiguousarray(images.of_frame(frames, row)[:, ::-1, ::-1]) for row in some
    )
    about = None if turns is None else _HALF_TURN @ turns @ _HALF_TURN
    turned = taken(answers(upside_down, about))
    calibration = Calibration.learn(
        signs_of(taken(upright), views),
        signs_of(varied, views),
        pose_distances(varied.world_from_cams, np.stack(poses)),
        signs_of(turned, views),
        by_view=takes_view,
    )
    return Validated(calibration, by_pose, by_view)
