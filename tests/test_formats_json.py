"""JSON of strangers: bounded, and every wrong value is one line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relocalize.errors import FormatError
from relocalize.formats.json_file import JsonObject, read_json, read_json_object


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1 is no JSON"),
        ("{", "is no JSON"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        ("[" * 100_000, "deep|no JSON"),
        ('{"a":' * 100_000, "deep|no JSON"),
        ("[" + "9" * 5000 + "]", "digits"),
        ("[1, 2]", "want an object"),
        ("\0", "byte 0 is zero"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=said) as caught:
        read_json_object(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(path))


def test_a_flood_of_empty_lists_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" + "[]," * 5_000_000 + "[]]")
    with pytest.raises(FormatError, match="more than 5000000 lists"):
        read_json(path)


def test_values_come_as_what_is_asked_for() -> None:
    node = JsonObject.of(
        {"f": 2, "w": 640.0, "name": "a.jpg", "flag": 1, "v": [1, 2.5], "m": [[1, 2], [3, 4]]}
    )
    assert node.number("f") == 2.0 and node.whole("w") == 640 and node.text("name") == "a.jpg"
    assert node.flag("flag") and not node.flag("missing")
    assert node.numbers("v", 2) == (1.0, 2.5)
    assert node.matrix("m", [(2, 2)]) == [(1.0, 2.0), (3.0, 4.0)]
    assert node.number("missing", 0.5) == 0.5 and node.array("missing") == []
    assert dict(node.child("missing").items()) == {}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "want a number"),
        (True, "want a number"),
        ("1.0", "want a number"),
        (float("nan"), "want a finite number"),
        (float("inf"), "want a finite number"),
        (10**400, "not so large"),
        ([[[[1]]]], "a list of 1 parts, want a number"),
        ({"a": {"b": {}}}, "an object of 1 keys, want a number"),
    ],
)
def test_what_is_no_number_is_said(value: object, said: str) -> None:
    with pytest.raises(FormatError, match=f"^here: 'x' is .*{said}"):
        JsonObject.of({"x": value}, "here").number("x")


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "\ud800", "x" * 5000, 5, None, ["a"]])
def test_what_is_no_name_is_said_in_printable_text(name: object) -> None:
    with pytest.raises(FormatError) as caught:
        JsonObject.of({"x": name}).text("x")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    )
)
def test_any_value_is_taken_or_refused_in_one_line(value: object) -> None:
    node = JsonObject.of({"x": value})
    takes = (
        lambda: node.number("x"),
        lambda: node.whole("x"),
        lambda: node.flag("x"),
        lambda: node.text("x"),
        lambda: node.array("x"),
        lambda: list(node.child("x").items()),
        lambda: node.numbers("x", 2),
        lambda: node.matrix("x", [(1, 1), (2, 2)]),
    )
    for take in takes:
        said = _refusal(take)
        assert "\n" not in said and said.encode() is not None


def _refusal(take: Callable[[], object]) -> str:
    try:
        take()
    except FormatError as error:
        return str(error)
    return ""
