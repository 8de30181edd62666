"""What validation images say of a trained regressor: its errors, and what its sigmas are worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray, mean_rotation
from relocalize.regression.agreement import Agreement, answer_to_photo
from relocalize.regression.answers import Answers, Network
from relocalize.regression.data import TrainingData
from relocalize.regression.depths import cell_rays
from relocalize.regression.loop import Judgement
from relocalize.regression.novelty import KnownViews
from relocalize.regression.uncertainty import (
    RETRIEVED,
    Blend,
    Calibration,
    Source,
    pose_distances,
    signs_of,
)
from relocalize.regression.wrong_lens import RATIOS, WrongLens

# Validation images that are shown upside down and varied, and how many varied copies in all.
_MOST, _FEWEST_COPIES = 100, 50
_THROUGH_LENSES = 30  # validation images at most, each by nine focal lengths
# Another answer is taken in place of image retrieval, and a blend in place of the best of the rest,
# where its errors are so much smaller: a few blocks of validation images tell no better. On an
# office of 90 images, a rendered corridor and redkitchen from its video, what had 0.71 to 0.9 of
# retrieval's errors on them had 0.56 to 1.23 on test images, and what had less 0.13 to 0.53.
_BETTER = 0.7
_SAME = 1e-3  # of a constant answer's error: smaller ones are alike
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
        errors = self.errors(world_from_cams)
        position, rotation = np.median(errors, axis=0)
        score = float(np.median(self.relative(errors)))
        return Judgement(float(position), float(np.degrees(rotation)), score)

    def errors(self, world_from_cams: FloatArray) -> FloatArray:
        """[V, 2] of answers to the validation images: positions, and rotations in radians."""
        return pose_distances(world_from_cams, self.world_from_cams)

    def relative(self, errors: FloatArray) -> FloatArray:
        """[N] the mean of both errors [N, 2], each as a share of the constant answer's."""
        shares: FloatArray = (errors / (self.position, self.rotation)).mean(axis=1)
        return shares


@dataclass(frozen=True, eq=False)
class Validated:
    """What validation images say."""

    calibration: Calibration  # of the uncertainty
    sources: dict[Source, Judgement]  # how each that there is does


def validated(
    data: TrainingData,
    network: Network,
    views: KnownViews,
    retrieved: Mapping[Source, FloatArray],
) -> Validated:
    """Show the validation images as photos would be, as they are, varied, and upside down.

    Args:
        data: with the validation images.
        network: trained.
        views: what the train images look like to it.
        retrieved: [V, 4, 4] what image retrieval among the train images answers to the validation
            images, by `RETRIEVED`; empty where there is none.
    """
    settings, images, frames = data.settings, data.images, data.frames

    turns, rays = images.turns, cell_rays(images.target, settings.head.grid)
    of_images = [network(images.of_frame(frames, int(row))) for row in data.validation]
    cells = [one.cells for one in of_images if one.cells is not None]
    agreement = Agreement.learn(cells, rays, data.validation_poses) if cells else None

    def joined(found: Iterable[Answers], turns: FloatArray | None) -> Answers:
        return Answers.joined(answer_to_photo(one, turns, agreement, rays) for one in found)

    def answers(shown: Iterable[NDArray[np.uint8]], turns: FloatArray | None) -> Answers:
        return joined(map(network, shown), turns)

    upright = joined(of_images, turns)
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
    varied = answers(copies, turns)
    upside_down = (
        np.ascontiguousarray(images.of_frame(frames, row)[:, ::-1, ::-1]) for row in some
    )
    about = None if turns is None else _HALF_TURN @ turns @ _HALF_TURN
    turned = answers(upside_down, about)
    of_upright, of_varied, of_turned = (signs_of(one, views) for one in (upright, varied, turned))
    true = np.stack(poses)
    nearest = views.compare(varied.descriptions, varied.shown).nearest
    errors: dict[Source, FloatArray] = {
        "pose": pose_distances(varied.world_from_cams, true),
        "view": pose_distances(nearest, true),
    }
    blend = Blend.learn(of_varied, errors["pose"], errors["view"])
    errors["blend"] = pose_distances(blend(varied.world_from_cams, nearest, of_varied), true)
    errors |= dict.fromkeys(RETRIEVED, errors["pose"])
    baseline = ConstantBaseline.of(data)
    of_view = views.compare(upright.descriptions, upright.shown).nearest
    found: dict[Source, FloatArray] = {
        "pose": upright.world_from_cams,
        "view": of_view,
        "blend": blend(upright.world_from_cams, of_view, of_upright),
        **retrieved,
    }
    wanted = settings.answer
    chosen: tuple[Source, Source] = (
        better_answers({name: baseline.errors(poses) for name, poses in found.items()}, baseline)
        if wanted == "validation"
        else (wanted, wanted)
    )
    of_chosen = [errors[source][:, part] for part, source in enumerate(chosen)]
    calibration = Calibration.learn(
        of_upright,
        of_varied,
        np.stack(of_chosen, axis=1),
        of_turned,
        answers=chosen,
        blend=blend if "blend" in chosen else None,
        wrong_lens=_through_lenses(data, network, some),
        agreement=agreement,
    )
    return Validated(calibration, {name: baseline.judge(poses) for name, poses in found.items()})


def _through_lenses(data: TrainingData, network: Network, rows: Sequence[int]) -> WrongLens | None:
    """Validation images as photos whose focal length is taken for another; None without depths."""
    frames, found = data.frames, list[FloatArray]()
    for row in rows[:: -(-len(rows) // _THROUGH_LENSES)]:
        pixels, camera = frames.source(row), frames.cameras[row]
        width, height = camera.width, camera.height
        taken_for = [
            Camera.from_focal(width, height, camera.focal_px * ratio, model="SIMPLE_PINHOLE")
            for ratio in np.exp(RATIOS)
        ]
        shown = [data.images.of_photo(pixels, one, crops=1) for one in taken_for]
        depth_off = network(np.concatenate(shown)).depth_off
        if depth_off is None:
            return None
        found.append(depth_off)
    return WrongLens.learn(np.stack(found))


def better_answers(
    errors: Mapping[Source, FloatArray], baseline: ConstantBaseline
) -> tuple[Source, Source]:
    """What to answer with, for positions and for rotations, by errors of the same images.

    Image retrieval where nothing else is clearly better: of the errors' geometric means, which
    count by how many times each is larger than another of the same image. A blend likewise has to
    be clearly better than the best of the others. Without retrieval, the most similar view stands
    for it.

    Args:
        errors: [N, 2] of positions and of rotations in radians, by answer.
        baseline: that says which errors are next to none.
    """
    least = _SAME * np.array([baseline.position, baseline.rotation])
    mean = {name: np.log(np.maximum(one, least)).mean(axis=0) for name, one in errors.items()}
    usual: Source = "retrieval" if "retrieval" in errors else "view"

    def of(part: int) -> Source:
        single = min((name for name in mean if name != "blend"), key=lambda name: mean[name][part])
        best: Source = single
        if "blend" in mean and mean["blend"][part] < mean[single][part] + np.log(_BETTER):
            best = "blend"
        return best if mean[best][part] <= mean[usual][part] + np.log(_BETTER) else usual

    return of(0), of(1)
