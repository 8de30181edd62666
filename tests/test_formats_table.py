"""docs/reference/formats.md says of every format what the code does."""

import re
import sys
from pathlib import Path

import pytest

from relocalize.formats.registry import FORMATS
from relocalize.geometry import Convention

PAGE = (Path(__file__).resolve().parents[1] / "docs/reference/formats.md").read_text(
    encoding="utf-8"
)
ROWS = {
    key: cells
    for line in PAGE.splitlines()
    if line.startswith("| `") and line.count("|") == 8
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    for key in re.findall(r"`([^`]+)`", cells[0])
    if not key.startswith("-")
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_table_states_the_convention_and_what_can_be_written(name):
    assert name in ROWS, f"the page has no row for {name}"
    _, direction, convention, intrinsics, _, unit, source = ROWS[name]
    stated = sys.modules[FORMATS[name].read.__module__].CONVENTION
    assert isinstance(stated, Convention)
    assert f"`{stated.name}`" in convention
    assert intrinsics
    assert unit
    assert source
    assert (direction == "read, write") == (FORMATS[name].write is not None)


def test_the_table_has_no_other_formats():
    assert set(ROWS) == set(FORMATS)
