"""How the learning rate goes over a run, and when a run is over."""

from dataclasses import replace

import pytest

from relocalize.regression.loop import RunLength
from relocalize.regression.optimizer import learning_rate
from relocalize.regression.presets import preset
from relocalize.regression.settings import OptimizerSettings


def rates(shares, **settings):
    return [learning_rate(OptimizerSettings(learning_rate=1.0, **settings), s) for s in shares]


def test_the_founding_rule_halves_at_every_third():
    assert rates([0, 0.33, 0.34, 0.66, 0.67, 1.0], schedule="step") == [
        1, 1, 0.5, 0.5, 0.25, 0.25,
    ]  # fmt: skip
    # 200 epochs: the halvings come with the 67th and the 134th.
    by_epoch = rates([epoch / 200 for epoch in range(200)], schedule="step")
    assert [by_epoch.count(rate) for rate in (1.0, 0.5, 0.25)] == [67, 67, 66]
    assert rates([1 / 3, 2 / 3], schedule="step") == [0.5, 0.25]  # despite rounding


def test_constant_stays_and_cosine_ends_at_zero():
    assert rates([0, 0.5, 1], schedule="constant") == [1, 1, 1]
    assert rates([0, 0.5, 1], schedule="cosine") == pytest.approx([1, 0.5, 0], abs=1e-12)


def test_warming_up_rises_from_almost_nothing_to_the_schedule():
    rising = rates([0, 0.05, 0.1, 0.5], schedule="cosine", warm_up=0.1)
    assert 0 < rising[0] < 0.02
    assert rising[1] == pytest.approx(0.5, abs=0.02)
    assert rising[2:] == rates([0.1, 0.5], schedule="cosine")


def test_a_run_ends_with_its_epochs_or_its_minutes_whichever_is_first():
    assert RunLength(10).share(5, 1e9) == 0.5
    short = RunLength(10, minutes=2)
    assert short.share(5, 30) == 0.5
    assert short.share(1, 60) == 0.5
    assert short.share(1, 1000) == 1.0


def test_steps_rate_and_copies_follow_the_number_of_images():
    ours = OptimizerSettings(learning_rate=1.0, epochs=None)
    assert [ours.epochs_of(count, -(-count // 64)) for count in (30, 650, 20_000)] == [
        2000, 182, 29,
    ]  # fmt: skip
    assert replace(ours, steps=500).epochs_of(30, 1) == 500
    assert [ours.for_images(count).learning_rate for count in (16, 64, 20_000)] == [0.5, 1.0, 1.0]
    published = OptimizerSettings(learning_rate=1.0, epochs=100)
    assert (published.for_images(16).learning_rate, published.epochs_of(16, 1)) == (1.0, 100)
    default = preset("default")
    assert [default.copies_of(count) for count in (30, 650, 20_000)] == [40, 10, 2]
    assert replace(default, copies=7).copies_of(30) == 7


def test_preparation_counts_as_part_of_the_minutes_but_leaves_some_to_train():
    assert RunLength(10, minutes=2, preparation=60).training_seconds == 60
    assert RunLength(10, minutes=2, preparation=6000).training_seconds == 30
