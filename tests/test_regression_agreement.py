"""One pose from all cells of a photo's images, where some see what hides the place."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from relocalize.geometry import Camera, Rigid3, position_error, rotation_error_deg
from relocalize.regression.agreement import Agreement, answer_to_photo
from relocalize.regression.answers import Answers, Cells
from relocalize.regression.depths import cell_rays
from relocalize.regression.image_input import ImageInput
from relocalize.regression.settings import InputSettings

GRID = (12, 16)
IMAGES = ImageInput(InputSettings(test_crops=5), Camera("PINHOLE", 256, 192, (200, 200, 128, 96)))
RAYS = cell_rays(IMAGES.target, GRID)
POSE = Rigid3(Rotation.from_rotvec([0.3, -0.8, 0.2]).as_matrix(), np.array([10.0, 2.0, -3.0]))
ERROR, LOG_DEPTH = 0.02, 0.05


def seen(turns, *, error=0.0, hidden=0.0, pose=POSE, seed=0, unit=1.0):
    """What networks answer that see a place exactly, but for noise and what hides part of it.

    Hidden cells are sure of points of a place that another pose sees, half of them of the same.
    """
    rng = np.random.default_rng(seed)
    scenes, depths = [], []
    doubt = np.full((len(turns), len(RAYS)), max(error, 0.005))
    for turn in turns:
        depth = rng.uniform(1, 4, len(RAYS)) * unit
        rays = RAYS + error * rng.normal(size=RAYS.shape)
        points = np.column_stack([rays, np.ones(len(RAYS))]) * depth[:, None]
        scenes.append((pose.rotation @ turn.T @ points.T).T + unit * pose.translation)
        depths.append(depth * np.exp(error * rng.normal(size=len(RAYS))))
    covered = RAYS[:, 0] < np.quantile(RAYS[:, 0], hidden) if hidden else np.zeros(len(RAYS), bool)
    for number, scene in enumerate(scenes):
        scene[covered] += unit * np.array([1.0, 0.5, -0.7])
        scene[covered & (rng.random(len(RAYS)) < 0.5)] += rng.normal(size=3) * unit
        doubt[number, covered] = 0.005
    # What averages to nowhere near.
    poses = np.tile(np.eye(4), (len(turns), 1, 1))
    cells = Cells(np.stack(scenes), np.stack(depths), np.log(doubt))
    return Answers(poses, None, np.zeros((len(turns), 3), np.float32), cells=cells)


def off(answer, unit=1.0):
    pose = Rigid3.from_matrix(answer.world_from_cams[0])
    true = Rigid3(POSE.rotation, unit * POSE.translation)
    return position_error(pose, true) / unit, rotation_error_deg(pose, true)


@pytest.mark.parametrize("roll", [0.0, 2.0])
@pytest.mark.parametrize("crops", [1, 5])
def test_exact_cells_give_the_exact_pose(roll, crops):
    turns = IMAGES.turns[:crops] @ Rotation.from_rotvec([0, 0, roll]).as_matrix()
    answer = answer_to_photo(seen(turns), turns, Agreement(ERROR, LOG_DEPTH), RAYS)
    position, rotation = off(answer)
    assert position < 1e-6
    assert rotation < 1e-4
    assert answer.support[0] == 1
    assert answer.cells is None


@pytest.mark.parametrize("unit", [1.0, 100.0])
def test_what_hides_half_of_the_place_does_not_move_the_pose(unit):
    agreement, turns = Agreement(ERROR, LOG_DEPTH), IMAGES.turns
    answer = answer_to_photo(seen(turns, error=0.01, hidden=0.5, unit=unit), turns, agreement, RAYS)
    clear = answer_to_photo(seen(turns, error=0.01, unit=unit), turns, agreement, RAYS)
    assert off(answer, unit)[0] < 0.02
    assert off(answer, unit)[1] < 0.3
    assert 0.3 < answer.support[0] < 0.5 < clear.support[0]
    assert (answer.variance > clear.variance).all()


def test_variances_are_what_poses_differ_by():
    agreement, turns = Agreement(ERROR, LOG_DEPTH), IMAGES.turns[:1]
    answers = [
        answer_to_photo(seen(turns, error=0.01, seed=seed), turns, agreement, RAYS)
        for seed in range(40)
    ]
    centres = np.stack([answer.world_from_cams[0, :3, 3] for answer in answers])
    stated = np.sqrt(np.mean([answer.variance[0, :3] for answer in answers], axis=0))
    spread = np.sqrt(((centres - POSE.translation) ** 2).mean(axis=0))
    assert (np.abs(np.log(spread / stated)) < np.log(2)).all()


def test_cells_that_see_nothing_support_nothing():
    rng = np.random.default_rng(0)
    shape = (5, len(RAYS))
    cells = Cells(rng.normal(size=(*shape, 3)), rng.uniform(1, 4, shape), np.full(shape, -3.0))
    found = Answers(np.tile(np.eye(4), (5, 1, 1)), None, np.zeros((5, 3), np.float32), cells=cells)
    answer = answer_to_photo(found, IMAGES.turns, Agreement(ERROR, LOG_DEPTH), RAYS)
    assert answer.support[0] < 0.02
    same = Cells(np.zeros((*shape, 3)), np.ones(shape), np.full(shape, -3.0))
    found = Answers(found.world_from_cams, None, found.descriptions, cells=same)
    answer = answer_to_photo(found, IMAGES.turns, Agreement(ERROR, LOG_DEPTH), RAYS)
    assert np.isfinite(answer.world_from_cams).all()
    assert (answer.variance >= 0).all()
    assert answer.support[0] < 0.02


def test_half_of_the_cells_of_images_that_show_the_place_agree():
    turns = IMAGES.turns[:1]
    images = [seen(turns, error=0.01, seed=seed) for seed in range(5)]
    learnt = Agreement.learn([one.cells for one in images], RAYS, np.stack([POSE.matrix] * 5))
    # Medians of a Rayleigh and of half a normal distribution.
    assert learnt.error == pytest.approx(0.0118, rel=0.1)
    assert learnt.log_depth == pytest.approx(0.0067, rel=0.15)
