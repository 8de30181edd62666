"""What tests of several rooms share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The team's folder of real images and exports: RELOCALIZE_DATA, or shared/data beside us."""
    named = os.environ.get("RELOCALIZE_DATA")
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(named) if named else beside
    if not folder.is_dir():
        pytest.skip(f"no data folder: RELOCALIZE_DATA={named!r} and {beside.name}/ beside us")
    return folder
