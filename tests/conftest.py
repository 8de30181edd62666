"""What tests of several rooms share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch: workers of pytest share the cores already.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import relocalize
from relocalize_synthetic import CorridorSettings, CorridorTruth, write_corridor

# No deadlines: how busy the machine is says nothing about what is tested.
settings.register_profile("relocalize", max_examples=50, deadline=None)
settings.load_profile("relocalize")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Both kinds of processors, whichever this one is of."""
    parser.addoption(
        "--processor",
        choices=("float32", "bfloat16"),
        help="test as on a processor that multiplies bfloat16, or does not; by default this one",
    )


@pytest.fixture(scope="session", autouse=True)
def _processor(request: pytest.FixtureRequest) -> None:
    wanted = request.config.getoption("--processor")
    if wanted is not None:
        from relocalize.regression import device

        device._processor_multiplies_bfloat16 = lambda: wanted == "bfloat16"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The team's folder of real images and exports: RELOCALIZE_DATA, or shared/data beside us."""
    named = os.environ.get("RELOCALIZE_DATA")
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(named) if named else beside
    if not folder.is_dir():
        pytest.skip(f"no data folder: RELOCALIZE_DATA={named!r} and {beside.name}/ beside us")
    return folder


@pytest.fixture(scope="session")
def corridor(tmp_path_factory: pytest.TempPathFactory) -> CorridorTruth:
    """A small corridor with exactly known truth: a walk, a visitor's photos."""
    folder = tmp_path_factory.mktemp("synthetic") / "corridor"
    return write_corridor(folder, settings=CorridorSettings.small())


@pytest.fixture(scope="session")
def corridor_place(
    corridor: CorridorTruth, tmp_path_factory: pytest.TempPathFactory
) -> relocalize.Place:
    """A Place made from the walk by structure from motion; tests that change it copy it first."""
    root = tmp_path_factory.mktemp("place") / "corridor"
    place = relocalize.frames(corridor.folder / "walk.mp4", root).place
    relocalize.map(place)
    return place
