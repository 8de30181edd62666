"""What validation images say of a trained regressor: what to answer with, and what doubts mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.transforms import FloatArray
from relocalize.regression.batches import Rows
from relocalize.regression.device import Device
from relocalize.regression.frames import TrainingFrames
from relocalize.regression.image_input import ImageInput
from relocalize.regression.inference import Answers, answers_to
from relocalize.regression.loop import Judgement
from relocalize.regression.model import PoseRegressor
from relocalize.regression.novelty import KnownViews
from relocalize.regression.settings import TrainSettings
from relocalize.regression.task import Yardstick
from relocalize.regression.uncertainty import Calibration, Signs, pose_distances

# Validation images that are shown upside down and varied, and how many varied copies in all.
_MOST, _FEWEST_COPIES = 100, 50
_HALF_TURN = np.diag([-1.0, -1.0, 1.0])  # about the viewing direction: upside down


@dataclass(frozen=True, eq=False)
class Validated:
    """What validation images say.

    Attributes:
        calibration: of the uncertainty.
        answered: how the regressor does.
        nearest_view: how the pose of the most similar train view would.
    """

    calibration: Calibration
    answered: Judgement
    nearest_view: Judgement


def validated(
    model: PoseRegressor,
    settings: TrainSettings,
    device: Device,
    *,
    views: KnownViews,
    yardstick: Yardstick,
    images: ImageInput,
    frames: TrainingFrames,
    rows: Rows,
) -> Validated:
    """Show the validation images as photos would be, as they are, varied, and upside down.

    Args:
        model: trained.
        settings: of its training, which copies of the images are varied by too.
        device: the model is on.
        views: what the train images look like to it.
        yardstick: of the validation images.
        images: how it is shown photos.
        frames: with the validation images.
        rows: which of them these are.
    """

    def answers(shown: Iterable[NDArray[np.uint8]], turns: FloatArray | None) -> Answers:
        return Answers.joined(
            answers_to(model, one, device, samples=settings.samples).averaged(turns)
            for one in shown
        )

    turns = images.turns
    upright = answers((images.of_frame(frames, int(row)) for row in rows), turns)
    nearest = views.compare(upright.descriptions).nearest
    by_pose, by_view = yardstick.judge(upright.world_from_cams), yardstick.judge(nearest)
    takes_view = settings.answer == "view" or (
        settings.answer == "validation" and by_view.score < by_pose.score
    )

    def taken(given: Answers) -> Answers:
        if not takes_view:
            return given
        return replace(given, world_from_cams=views.compare(given.descriptions).nearest)

    some = [int(row) for row in rows[:: -(-len(rows) // _MOST)]]
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


def signs_of(answers: Answers, views: KnownViews) -> Signs:
    """What tells of the errors of answers."""
    familiar = views.compare(answers.descriptions)
    away = pose_distances(answers.world_from_cams, familiar.nearest)
    return Signs(familiar.novelty, away, answers.variance)
