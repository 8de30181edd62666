"""What tests of several rooms share."""

import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch: workers of pytest share the cores already.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import relocalize
from relocalize.place.lock import patient_locks, write_lock
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that one process does not end long after the other."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``made_once(make)``: the folder that ``make(folder)`` fills, once for all files and workers.

    A test that changes what is in it copies it first.
    """
    ours = tmp_path_factory.getbasetemp()
    shared = ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours

    def made(make: Callable[[Path], object]) -> Path:
        kinds = ("made", "part", "lock")
        whole, part, lock = (shared / f"{kind}-{make.__name__}" for kind in kinds)
        lock.mkdir(exist_ok=True)
        with patient_locks(), write_lock(lock):
            if not whole.exists():
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                make(part)
                part.rename(whole)
        return whole

    return made


def rendered_corridor(folder: Path) -> None:
    truth = write_corridor(folder / "corridor", settings=CorridorSettings.small())
    (folder / "truth.pickle").write_bytes(pickle.dumps(truth))


@pytest.fixture(scope="session")
def corridor(made_once: Callable[..., Path]) -> CorridorTruth:
    """A small corridor with exactly known truth: a walk, a visitor's photos."""
    folder = made_once(rendered_corridor)
    truth: CorridorTruth = pickle.loads((folder / "truth.pickle").read_bytes())
    return replace(truth, folder=folder / "corridor")


@pytest.fixture(scope="session")
def built_corridor(
    corridor: CorridorTruth, made_once: Callable[..., Path]
) -> relocalize.BuildReport:
    """What `relocalize build` makes of the walk without a regressor; not to be changed."""

    def corridor_built(folder: Path) -> None:
        report = relocalize.build(
            corridor.folder / "walk.mp4",
            folder / "hall",
            train=False,
            truth=corridor.folder / "walk_poses.txt",
        )
        (folder / "report.pickle").write_bytes(pickle.dumps(report))

    folder = made_once(corridor_built)
    report: relocalize.BuildReport = pickle.loads((folder / "report.pickle").read_bytes())
    assert report.page is not None
    page = folder / report.page.relative_to(report.place.root.parent)
    return replace(report, place=relocalize.open(folder / "hall"), page=page)


@pytest.fixture(scope="session")
def corridor_place(
    built_corridor: relocalize.BuildReport, tmp_path_factory: pytest.TempPathFactory
) -> relocalize.Place:
    """A Place made from the walk by structure from motion; tests that change it copy it first."""
    root = tmp_path_factory.mktemp("place") / "corridor"
    later = shutil.ignore_patterns("splits", "localizers", "reports")
    shutil.copytree(built_corridor.place.root, root, ignore=later)
    return relocalize.open(root)
