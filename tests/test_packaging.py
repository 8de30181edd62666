"""What is said about the project agrees with the project."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest

from relocalize.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


def test_the_readme_lists_the_commands_there_are_in_the_order_of_help() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `relocalize (\S+?)[ `]", readme, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_no_command_that_is_not_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```[a-z]+\n.*?```|`[^`\n]+`", text, re.DOTALL))
    named = set(re.findall(r"(?:^|`|\$ |bin/)relocalize ([a-z]+)\b", code, re.MULTILINE))
    assert named <= set(COMMANDS)


def test_every_requirement_has_an_exact_version() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)==[0-9]", pins, re.MULTILINE))
    names = [re.match(r"[A-Za-z0-9._-]+", line) for line in requires("relocalize") or []]
    required = {name.group().lower().replace("_", "-") for name in names if name}
    assert {"numpy", "pycolmap", "pytest", "mkdocs-material"} <= required
    assert required <= pinned
