"""The README's and the tutorial's shell lines and Python run as they stand, on the small corridor.

Its walk stands in for the reader's video, and a Place that was made of it for what the reader has
by then. Every line runs but those in `NOT_RUN`, each with its reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOT_RUN = {
    "make demo": "it makes a virtual environment and takes minutes; test_build has its job",
    "make test": "it is what runs this",
    "make install": "likewise",
    "pip install": "it downloads and changes the environment that the tests run in",
    "relocalize-synthesize": "the corridor is rendered once for all tests, by the same function",
}
# Training by default settings takes minutes; test_build trains within a build.
SHORTER = {
    '("walk.mp4", "kitchen")': '("walk.mp4", "kitchen", train=False)',
    "build corridor/walk.mp4 hall": "build corridor/walk.mp4 hall --no-train",
}

FINDS_A_FAULT = "relocalize check other_tool.txt"  # on purpose, which is exit code 2


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def as_run(block: str) -> str:
    lines = [line for line in block.splitlines() if not line.startswith(tuple(NOT_RUN))]
    code = "\n".join(lines)
    for shown, shorter in SHORTER.items():
        code = code.replace(shown, shorter)
    return code


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Run code as the reader's shell would, where `relocalize` is the package that is tested."""
    commands = tmp_path_factory.mktemp("bin")
    (commands / "relocalize").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m relocalize "$@"\n')
    (commands / "relocalize").chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}

    def run(folder: Path, *command: str, code: int = 0) -> str:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def run_shell(shell, folder: Path, block: str) -> str:
    code = 2 if FINDS_A_FAULT in block else 0
    return shell(folder, "bash", "-euo", "pipefail", "-c", as_run(block), code=code)


def run_python(shell, folder: Path, code: str) -> str:
    return shell(folder, sys.executable, "-c", code)


@pytest.fixture(scope="module")
def tutorial(shell, corridor, corridor_place, tmp_path_factory) -> Path:
    """A folder in which the tutorial's shell lines ran, one block after the other."""
    folder = tmp_path_factory.mktemp("tutorial")
    shutil.copytree(corridor.folder, folder / "corridor")
    shutil.copytree(corridor_place.root, folder / "hall")
    for block in blocks("docs/tutorial.md", "bash"):
        if "jq" not in block or shutil.which("jq"):  # a program of its own, which few have
            run_shell(shell, folder, block)
    return folder


def test_lines_that_are_not_run_are_there():
    shown = [
        line
        for page in ("README.md", "docs/tutorial.md")
        for block in blocks(page, "bash")
        for line in block.splitlines()
    ]
    for start in NOT_RUN:
        assert any(line.startswith(start) for line in shown), start


@pytest.mark.slow
def test_the_tutorials_lines_make_what_they_say(tutorial):
    for made in (
        "hall/captures/walk.png", "hall/map/points3D.bin", "posed/images/visitor", "posed.html",
        "splat/transforms.json", "hall/reports/blocks/index.html",
    ):  # fmt: skip
        assert (tutorial / made).exists(), made


@pytest.mark.slow
def test_the_tutorials_python_runs(shell, tutorial):
    said = run_python(shell, tutorial, "\n".join(blocks("docs/tutorial.md", "python")))
    assert "points," in said
    assert "not localized" not in said
    assert "PoseEstimate(position" in said


@pytest.mark.slow
def test_the_readmes_python_runs(shell, corridor, corridor_place, tmp_path):
    shutil.copy2(corridor.folder / "walk.mp4", tmp_path)
    shutil.copytree(corridor_place.root, tmp_path / "kitchen")
    for number in (1, 2):
        photo = corridor.folder / "visitor" / f"photo-{number:03}.jpg"
        shutil.copy2(photo, tmp_path / f"photo{number}.jpg")
    for block in blocks("README.md", "python"):
        said = run_python(shell, tmp_path, as_run(block))
        assert said.count("localized None Rigid3") == 2


@pytest.mark.slow
def test_the_readmes_lines_run(shell, corridor, corridor_place, tmp_path):
    shutil.copytree(corridor_place.images_dir / "walk", tmp_path / "photos")
    shutil.copytree(corridor.folder / "visitor", tmp_path / "visitor")
    shutil.copy2(corridor.folder / "walk_poses.txt", tmp_path / "survey.txt")
    rows = [line.split() for line in (tmp_path / "survey.txt").read_text().splitlines()]
    names = ("image", "qw", "qx", "qy", "qz", "tx", "ty", "tz", "focal")
    table = "\n".join(",".join(row) for row in (names, *rows))
    (tmp_path / "registration.csv").write_text(table + "\n")
    for block in blocks("README.md", "bash"):
        run_shell(shell, tmp_path, block)
    assert (tmp_path / "hall.html").is_file()
    assert (tmp_path / "posenet" / "mean.npy").is_file()
