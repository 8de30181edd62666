"""The code of the README, the docs and the examples runs as it stands, on the small corridor.

It runs from the wheel, installed outside of the checkout. The corridor's walk stands in for the
reader's video, and a Place that was made of it for what the reader has by then. Every line runs but
those in `NOT_RUN`, each with its reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLLOWED = ("docs/get_started.md", "docs/guides/poses.md")  # in this order, in one folder
NOT_RUN = {
    "make demo": "it makes a virtual environment and takes minutes; test_build has its job",
    "make install": "likewise",
    "relocalize-synthesize": "the corridor is rendered once for all tests, by the same function",
}
# Training by default settings takes minutes; test_build trains within a build.
SHORTER = {
    '("walk.mp4", "kitchen")': '("walk.mp4", "kitchen", train=False)',
    "build corridor/walk.mp4 hall": "build corridor/walk.mp4 hall --no-train",
}
FINDS_A_FAULT = "relocalize check other_tool.txt"  # on purpose, which is exit code 2
# In this order, after the notebook, in one folder; the last one adds splits.
EXAMPLES = (
    "localize_photos", "wrong_convention", "unknown_camera", "two_frames", "score_estimates",
    "leaky_split",
)  # fmt: skip
RUN_EXAMPLES = """
import json, runpy, sys
notebook, *examples = sys.argv[1:]
names, shown = {}, []
for cell in json.load(open(notebook))["cells"]:
    if cell["cell_type"] == "code":
        *lines, last = "".join(cell["source"]).rstrip().splitlines()
        if last[0] == " ":
            exec("\\n".join([*lines, last]), names)
        else:
            exec("\\n".join(lines), names)
            value = eval(last, names)
            rich = getattr(value, "_repr_mimebundle_", None)
            shown.append(rich([], [])["text/html"] if rich else value._repr_html_())
assert len(shown) == 3 and all("<svg" in text for text in shown[:2]) and "structure" in shown[2]
for example in examples:
    runpy.run_path(example, run_name="__main__")
"""


def blocks(page: str, language: str) -> list[str]:
    """Blocks of a page that are meant to be typed as they are: PLACE stands for the reader's."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [block for block in found if "PLACE" not in block]


def as_run(block: str) -> str:
    lines = [line for line in block.splitlines() if not line.startswith(tuple(NOT_RUN))]
    code = "\n".join(lines)
    for shown, shorter in SHORTER.items():
        code = code.replace(shown, shorter)
    return code


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder in which the wheel is installed that the sdist makes."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    shutil.copytree(
        ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)

    def run(where: Path, *command: str) -> None:
        subprocess.run([sys.executable, *command], cwd=where, check=True, capture_output=True)

    build = "from setuptools import build_meta; build_meta.build_{}('{}')"
    run(source, "-c", build.format("sdist", folder))
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    run(folder / sdist.name.removesuffix(".tar.gz"), "-c", build.format("wheel", folder))
    (wheel,) = folder.glob("*.whl")
    target = folder / "installed"
    run(folder, "-m", "pip", "install", "--no-deps", "--no-index", f"--target={target}", str(wheel))
    return target


@pytest.fixture(scope="module")
def shell(installed, tmp_path_factory):
    """Run code as the reader's shell would, where `relocalize` is the installed package."""
    commands = tmp_path_factory.mktemp("bin")
    (commands / "relocalize").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m relocalize "$@"\n')
    (commands / "relocalize").chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(installed)}

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
def followed(shell, corridor, corridor_place, tmp_path_factory) -> Path:
    """A folder in which the lines of `FOLLOWED` ran, one block after the other."""
    folder = tmp_path_factory.mktemp("followed")
    shutil.copytree(corridor.folder, folder / "corridor")
    shutil.copytree(corridor_place.root, folder / "hall")
    for page in FOLLOWED:
        for block in blocks(page, "bash"):
            if "jq" not in block or shutil.which("jq"):  # a program of its own, which few have
                run_shell(shell, folder, block)
    return folder


def test_lines_that_are_not_run_are_there():
    shown = [
        line
        for page in ("README.md", *FOLLOWED)
        for block in blocks(page, "bash")
        for line in block.splitlines()
    ]
    for start in NOT_RUN:
        assert any(line.startswith(start) for line in shown), start


@pytest.mark.slow
def test_the_lines_make_what_they_say(followed):
    for made in (
        "hall/captures/walk.png", "hall/map/points3D.bin", "posed/images/visitor", "posed.html",
        "splat/transforms.json", "hall/reports/blocks/index.html", "posenet/mean.npy",
    ):  # fmt: skip
        assert (followed / made).exists(), made


@pytest.mark.slow
def test_the_python_of_get_started_runs(shell, followed):
    code = "\n".join(blocks("docs/get_started.md", "python"))
    said = run_python(shell, followed, code + "\nprint(relocalize.__file__)")
    assert "points," in said
    assert "not localized" not in said
    assert "PoseEstimate(position" in said
    assert str(ROOT) not in said


@pytest.mark.slow
def test_the_notebook_and_the_examples_run(shell, corridor, corridor_place, tmp_path):
    # The map is that of `build`, so it is not made again.
    shutil.copytree(corridor.folder, tmp_path / "corridor")
    shutil.copytree(corridor_place.root, tmp_path / "hall")
    examples = ROOT / "examples"
    notebook = examples / "get_started.ipynb"
    assert not any(cell.get("outputs") for cell in json.loads(notebook.read_text())["cells"])
    paths = [examples / f"{name}.py" for name in EXAMPLES]
    assert all(len(path.read_text().splitlines()) <= 30 for path in paths)
    said = shell(tmp_path, sys.executable, "-c", RUN_EXAMPLES, str(notebook), *map(str, paths))
    assert "the images prove xyzw,cam_from_world,RDF,translation" in said
    assert said.count(" map points") == 5
    assert "42 of 42 agree" in said
    flattered = dict(re.findall(r"(\S+): the nearest.*?retrieval: (\S+) cm", said, re.DOTALL))
    assert float(flattered["random"]) < 0.6 * float(flattered["blocks-of-4"])
    for made in ("photos.svg", "aligned.svg", "second_camera.svg"):
        assert "<svg" in (tmp_path / made).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_readmes_python_runs(shell, corridor, built_corridor, tmp_path):
    shutil.copy2(corridor.folder / "walk.mp4", tmp_path)
    shutil.copytree(built_corridor.place.root, tmp_path / "kitchen")
    for number in (1, 2):
        photo = corridor.folder / "visitor" / f"photo-{number:03}.jpg"
        shutil.copy2(photo, tmp_path / f"photo{number}.jpg")
    for block in blocks("README.md", "python"):
        said = run_python(shell, tmp_path, as_run(block))
        assert said.count("localized None Rigid3") == 2
