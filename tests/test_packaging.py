"""What is said about the project agrees with the project."""

import ast
import re
import shlex
from importlib import import_module
from importlib.metadata import requires
from pathlib import Path

import pytest
import tyro

from relocalize.cli.main import COMMANDS, command_class

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_page_lists_the_commands_there_are_in_the_order_of_help() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `relocalize (\S+?)[ `]", page, re.MULTILINE) == list(COMMANDS)


@each_page
def test_pages_name_no_command_that_is_not_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```[a-z]+\n.*?```|`[^`\n]+`", text, re.DOTALL))
    named = set(re.findall(r"(?:^|`|\$ |bin/)relocalize ([a-z]+)\b", code, re.MULTILINE))
    assert named <= set(COMMANDS)


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in path:
            ours = re.fullmatch(r"https://github.com/relocalize/relocalize/blob/main/(.*)", path)
            assert ours is None or (ROOT / ours[1]).exists(), target
            continue
        found = page.parent / path if path else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", one).strip().lower() for one in headings}
            assert anchor in {re.sub(r"[-\s]+", "-", slug) for slug in slugs}, target


@each_page
def test_lines_that_are_to_be_typed_can_be(page: Path) -> None:
    for block in blocks(page, "bash"):
        joined = re.sub(r"\\\n", " ", block)
        for line in re.findall(r"^relocalize (.*?)(?: [|&]|$)", joined, re.MULTILINE):
            name, *given = shlex.split(line.replace("...", ""), comments=True)
            kind = command_class(name)
            if hasattr(kind, "with_defaults_of"):
                kind = kind.with_defaults_of(given)
            tyro.cli(kind, args=[word if word != "$B" else "B" for word in given])


@each_page
def test_python_that_is_shown_compiles_and_imports_what_is_there(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("relocalize"):
                module = import_module(node.module)
                assert all(hasattr(module, one.name) for one in node.names), ast.unparse(node)


def test_every_requirement_has_an_exact_version() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)==[0-9]", pins, re.MULTILINE))
    names = [re.match(r"[A-Za-z0-9._-]+", line) for line in requires("relocalize") or []]
    required = {name.group().lower().replace("_", "-") for name in names if name}
    assert {"numpy", "pycolmap", "pytest", "mkdocs-material"} <= required
    assert required <= pinned
