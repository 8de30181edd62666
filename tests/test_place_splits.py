"""Splits by blocks: nothing near a test image trains, and nothing is used twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relocalize import Split
from relocalize.errors import PlaceError
from relocalize.place.splits import split_by_blocks


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
    with pytest.raises(PlaceError, match="no train images"):
        split_by_blocks(names_of(64), blocks=8, every=2, gap=5.0)


def test_an_image_on_both_sides_is_refused() -> None:
    with pytest.raises(PlaceError, match="1 images both in train and in test, such as 'b'"):
        Split("x", "list", train=("a", "b"), test=("b", "c"))
