"""Validation cut from train: whole blocks with gaps, whatever the order of the names."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from relocalize import progress
from relocalize.errors import LocalizerError
from relocalize.regression.time_blocks import time_blocks


def names_of(count, capture="walk"):
    return [f"{capture}/frame-{i:06d}.jpg" for i in range(count)]


def runs(rows):
    return np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)


@given(count=st.integers(20, 3000), share=st.floats(0.05, 0.5), seed=st.integers(0, 99))
def test_blocks_are_whole_have_gaps_and_are_the_share(count, share, seed):
    order = np.random.default_rng(seed).permutation(count)
    names = names_of(count)
    train, validation = time_blocks([names[i] for i in order], share)
    # In time: the order of names does not matter.
    train, validation = np.sort(order[train]), np.sort(order[validation])
    assert len(validation) == pytest.approx(share * count, abs=max(4, 0.12 * share * count))
    assert len(train) + len(validation) <= count
    blocks = runs(validation)
    assert len(blocks) <= 20
    assert min(len(block) for block in blocks) >= min(5, int(share * count))
    gap = np.abs(train[:, None] - validation).min()
    assert gap > max(1, round(0.15 * len(blocks[0])))
    if len(blocks) > 1:  # even over time
        middles = [block.mean() for block in blocks]
        assert np.ptp(np.diff(middles)) <= 2


def test_each_capture_gives_its_share():
    names = names_of(200, "a") + names_of(60, "b")
    _, validation = time_blocks(names, 0.1)
    assert 18 <= (validation < 200).sum() <= 22
    assert 5 <= (validation >= 200).sum() <= 7


def test_the_end_of_a_walk_stands_for_where_it_had_not_been():
    train, validation = time_blocks(names_of(200), 0.1, where="end")
    assert np.array_equal(validation, np.arange(180, 200))
    assert np.array_equal(train, np.arange(176))


@pytest.mark.data
def test_validation_of_a_real_walk_is_about_as_hard_as_its_test(data_dir):
    """By how far the nearest train frame is; shuffled frames would have one within a centimetre."""
    kitchen = data_dir / "redkitchen"
    centres = {}
    for line in (kitchen / "poses_sfm.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, *numbers = line.split()
            quat, shift = np.array(numbers[:4], float), np.array(numbers[4:7], float)
            rotation = Rotation.from_quat(quat, scalar_first=True).as_matrix()
            centres[name] = -rotation.T @ shift

    def listed(side):
        lines = (kitchen / "splits" / f"blocks_{side}.txt").read_text().split()
        return [line.rpartition("/")[2] for line in lines]

    def apart(names, others):
        here, there = (np.array([centres[name] for name in side]) for side in (names, others))
        return np.median(np.linalg.norm(here[:, None] - there, axis=2).min(axis=1))

    train = listed("train")
    rows, held = time_blocks(train, 0.1, centres=[centres[name] for name in train])
    of_validation = apart([train[i] for i in held], [train[i] for i in rows])
    of_test = apart(listed("test"), train)
    assert 0.6 < of_validation / of_test < 1.2


def test_times_come_before_numbers_in_names():
    names = names_of(100)
    times = np.roll(np.arange(100), 50)
    _, validation = time_blocks(names, 0.06, times=times)
    assert np.ptp(times[validation]) == 5  # one block of time
    with pytest.raises(LocalizerError, match="neither times nor numbers"):
        time_blocks(names, 0.06, times=np.full(100, np.nan))


@given(seed=st.integers(0, 200), share=st.floats(0.05, 0.4))
def test_photos_without_an_order_validate_by_clusters(seed, share):
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 10, (120, 3)) * [1, 1, 0.1]
    train, validation = time_blocks(
        [f"photos/{name}.jpg" for name in rng.permutation(120)], share, centres=centres
    )
    assert len(validation) == pytest.approx(120 * share, rel=0.6, abs=2)
    assert not set(train) & set(validation)
    apart = np.linalg.norm(centres[train][:, None] - centres[validation], axis=2).min()
    every = np.linalg.norm(centres[:, None] - centres, axis=2)
    assert apart > np.median(np.where(np.eye(120, dtype=bool), np.inf, every).min(axis=1))
    # Whole clusters: validation photos are nearer to each other than photos at random are.
    held = every[np.ix_(validation, validation)]
    nearest = np.where(np.eye(len(validation), dtype=bool), np.inf, held).min(axis=1)
    if share > 0.1:
        assert np.median(nearest) < 1.5


def test_clusters_are_said(capsys):
    centres = np.random.default_rng(0).uniform(0, 10, (40, 3))
    with progress.shown():
        time_blocks([f"p/{i}.jpg" for i in range(40)], 0.2, centres=centres)
    assert "no order in time: validation is by clusters" in capsys.readouterr().err
    walk = np.arange(40)[:, None] * [0.1, 0, 0]
    with progress.shown():
        time_blocks([f"p/{i}.jpg" for i in range(40)], 0.2, centres=walk)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("share", [0.0, -0.1, 0.6, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(LocalizerError, match="validation share"):
        time_blocks(names_of(100), share)


def test_too_few_frames_are_refused():
    for count in (0, 1, 3):
        with pytest.raises(LocalizerError, match=f"{count} train frames are too few"):
            time_blocks(names_of(count), 0.1)
