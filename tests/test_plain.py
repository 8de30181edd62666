"""Dataclasses go to plain JSON values and come back the same, or a fault is named by its path."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from relocalize.errors import GeometryError
from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray
from relocalize.plain import from_plain, to_plain, to_strict_json


@dataclass(frozen=True)
class Part:
    length: float
    kind: Literal["a", "b"]
    path: Path
    numbers: tuple[float, ...]
    camera: Camera | None = None
    named: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Whole:
    part: Part
    matrix: FloatArray


PART = Part(1.5, "a", Path("x/y"), (1.0, 2.0), Camera.from_focal(10, 20), {"q": 2.0})


def test_a_value_comes_back_through_json() -> None:
    plain = json.loads(json.dumps(to_plain(Whole(PART, np.eye(2)))))
    back = from_plain(Whole, plain)
    assert back.part == PART
    np.testing.assert_array_equal(back.matrix, np.eye(2))


def test_numpys_numbers_are_plain_numbers() -> None:
    plain = to_plain({"a": np.float32(2), "b": np.int64(3), "c": np.bool_(True)})
    assert json.dumps(plain) == '{"a": 2.0, "b": 3, "c": true}'


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "z"}, r"\'z\' - at `\$\.kind`"),
        ({"length": "long"}, r"Expected `float`, got `str` - at `\$\.length`"),
        ({"camera": {"model": "PINHOLE"}}, r"missing required field `width` - at `\$\.camera`"),
    ],
)
def test_a_fault_is_named_by_its_path(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_plain(Part, {**to_plain(PART), **changes})


def test_what_a_dataclass_refuses_is_its_own_error() -> None:
    plain = to_plain(PART)
    with pytest.raises(GeometryError, match="unknown camera model"):
        from_plain(Part, {**plain, "camera": {**plain["camera"], "model": "PINHOLES"}})


def test_strict_json_has_none_for_what_is_not_finite() -> None:
    value = {"a": np.array([1.0, np.inf]), "b": (np.float64("nan"), 2), "c": [-np.inf, "inf"]}
    assert to_strict_json(value) == {"a": [1.0, None], "b": [None, 2], "c": [None, "inf"]}
