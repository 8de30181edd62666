"""Splits by blocks: nothing near a test image trains, and nothing is used twice."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relocalize import Split
from relocalize.errors import PlaceError
from relocalize.place.splits import (
    joined,
    split_by_area,
    split_by_blocks,
    split_by_captures,
    split_later,
    split_random,
)


def names_of(count: int) -> list[str]:
    return [f"walk1/frame-{i:06d}.jpg" for i in range(count)]


@given(st.integers(16, 2000), st.integers(4, 80), st.integers(3, 6), st.floats(0.0, 0.4))
def test_no_train_image_is_within_the_gap_of_a_test_image(
    count: int, blocks: int, every: int, gap: float
) -> None:
    names = names_of(count)
    try:
        split = split_by_blocks(names, blocks=blocks, every=every, gap=gap)
    except PlaceError:
        assert min(blocks, count // 4) < every
        return
    place_of = {name: i for i, name in enumerate(names)}
    test = sorted(place_of[name] for name in split.test)
    train = [place_of[name] for name in split.train]
    block_length = count / split.settings["blocks"]
    tests = set(test)
    reach = max(1, round(gap * block_length))
    assert not any(i + step in tests for i in train for step in range(-reach, reach + 1))
    assert set(split.train).isdisjoint(split.test)
    # In time order, and test is its share of the whole to within one block.
    assert train == sorted(train)
    assert list(split.test) == [names[i] for i in test]
    tested_blocks = split.settings["blocks"] // every
    assert len(test) == pytest.approx(tested_blocks * block_length, abs=tested_blocks + 1)


def test_the_default_tests_a_quarter_and_trains_on_most_of_the_rest() -> None:
    split = split_by_blocks(names_of(1000))
    assert len(split.test) == 250
    assert 600 <= len(split.train) <= 680
    assert split.rule == "blocks"
    assert split == split_by_blocks(names_of(1000))


def test_a_long_walk_needs_no_memory_to_speak_of() -> None:
    # An hour at 30 frames per second; a matrix of all distances would take 20 GB.
    split = split_by_blocks(names_of(108_000))
    assert len(split.test) == 27_000


def test_too_few_images_are_refused() -> None:
    with pytest.raises(PlaceError, match="at least 16 posed images, got 15"):
        split_by_blocks(names_of(15))
    with pytest.raises(PlaceError, match="got 0"):
        split_by_blocks([])


def test_a_gap_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(PlaceError, match="0 train"):
        split_by_blocks(names_of(64), blocks=8, every=2, gap=5.0)


def test_an_image_on_both_sides_is_refused() -> None:
    with pytest.raises(PlaceError, match="1 images both in train and in test, such as 'b'"):
        Split("x", "list", train=("a", "b"), test=("b", "c"))


# -- the other rules ------------------------------------------------------------------------


def numbers(names: Sequence[str]) -> list[int]:
    return [int(name[-10:-4]) for name in names]


def test_later_tests_the_end_and_leaves_a_gap_before_it() -> None:
    split = split_later(names_of(1000))
    assert numbers(split.test) == list(range(800, 1000))
    assert numbers(split.train) == list(range(795))
    assert split.settings == {"share": 0.2, "gap": 5}
    assert numbers(split_later(names_of(10), share=0.3, gap=0).train) == list(range(7))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(PlaceError, match="more than 0, under 1"):
        split_later(names_of(100), share=share)
    with pytest.raises(PlaceError, match="more than 0, under 1"):
        split_random(names_of(100), share=share)


def test_captures_test_whole_or_not_at_all() -> None:
    captures = {"monday": ["monday/1.jpg", "monday/2.jpg"], "visitor": ["visitor/1.jpg"]}
    split = split_by_captures(captures, ["visitor"])
    assert (split.train, split.test) == (("monday/1.jpg", "monday/2.jpg"), ("visitor/1.jpg",))
    for test in ([], ["tuesday"]):
        with pytest.raises(PlaceError, match=r"\['monday', 'visitor'\]"):
            split_by_captures(captures, test)
    with pytest.raises(PlaceError, match="0 train"):
        split_by_captures(captures, list(captures))


def floor_walk(count: int = 400) -> tuple[dict[str, list[str]], dict[str, tuple[float, float]]]:
    """A walk to and fro along 20 m, so that each place is seen twice."""
    names = names_of(count)
    return {"walk1": names}, {
        name: (20 * (1 - abs(2 * i / count - 1)), 0.1 * (i % 3)) for i, name in enumerate(names)
    }


def test_an_area_is_one_region_whenever_it_was_walked_through() -> None:
    captures, floor = floor_walk()
    split = split_by_area(captures, floor, share=0.2)
    held_out = [floor[name][0] for name in split.test]
    assert len(split.test) == pytest.approx(80, abs=4)
    assert min(held_out) > 15  # the far end, not the beginning
    margin = split.settings["margin"]
    assert margin == pytest.approx(0.2 * split.settings["radius"])
    assert max(floor[name][0] for name in split.train) < min(held_out) - margin + 0.1
    gone = set(captures["walk1"]) - set(split.train) - set(split.test)
    assert all(0.1 > floor[name][0] - min(held_out) > -margin - 0.4 for name in gone)


def test_an_area_can_be_a_rectangle_and_images_beside_it_in_time_go() -> None:
    captures, floor = floor_walk()
    split = split_by_area(captures, floor, rectangle=(12, 9, 8, -9), gap=20)
    assert {name for name in floor if 8 <= floor[name][0] <= 12} == set(split.test)
    tested = set(numbers(split.test))
    assert not any(n + step in tested for n in numbers(split.train) for step in range(-20, 21))
    with pytest.raises(
        PlaceError, match=r"x 50 to 60, y 50 to 60; they were taken in x 0 to 20, y 0 to 0\.2"
    ):
        split_by_area(captures, floor, rectangle=(50, 50, 60, 60))
    with pytest.raises(PlaceError, match="0 train"):
        split_by_area(captures, floor, rectangle=(-99, -99, 99, 99))
    with pytest.raises(PlaceError, match="got 0"):
        split_by_area({}, {})


@given(st.integers(20, 300), st.floats(0.05, 0.6), st.integers(0, 9))
def test_every_rule_uses_no_image_twice_and_keeps_the_order(
    count: int, share: float, seed: int
) -> None:
    captures, floor = floor_walk(count)
    names = captures["walk1"]
    for split in (
        split_later(names, share=share),
        split_random(names, share=share, seed=seed),
        split_by_area(captures, floor, share=share),
    ):
        for side in (split.train, split.test):
            assert numbers(side) == sorted(numbers(side))
        assert len(split.test) >= round(share * count)


def test_a_random_split_is_the_same_again_and_has_no_gap() -> None:
    split = split_random(names_of(100), seed=3)
    assert split == split_random(names_of(100), seed=3)
    assert split != split_random(names_of(100), seed=4)
    assert (len(split.test), len(split.train)) == (25, 75)


def test_walks_are_split_each_by_itself_and_joined() -> None:
    both = joined([split_by_blocks(names_of(64)), split_by_blocks([f"b/{i}" for i in range(80)])])
    assert len(both.settings["walks"]) == 2
    assert both.rule == "blocks"
    assert {name.split("/")[0] for name in both.test} == {"walk1", "b"}
