"""A small Place to look at in the viewer, and what its tests share."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from numbers_place import make_numbers_place, poses_of_a_walk
from relocalize import Place
from relocalize.localization import PoseEstimate
from relocalize.place import Frame
from relocalize.place.folder import METRE

METRIC = Frame("z", "stated", METRE, "measured")
WAIT = 60.0  # seconds for a browser on a busy machine

needs_viser = pytest.mark.skipif(
    importlib.util.find_spec("viser") is None, reason="viser is not installed"
)


def make_viewed_place(root: Path) -> Place:
    """Two captures of 12 in a room, z up, with an image of one colour for each image."""
    place = make_numbers_place(
        root, poses_of_a_walk(24), frame=METRIC, captures=("walk", "visitor")
    )
    for name in place.map.images:
        path = place.images_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((48, 64, 3), (10 * int(path.stem), 20, 200), np.uint8))
    return place


def until(done, what: str) -> None:
    """Wait for something that a browser does."""
    end = time.monotonic() + WAIT
    while not done():
        assert time.monotonic() < end, f"after {WAIT:.0f} s still not: {what}"
        time.sleep(0.05)


class Nowhere:
    """A localizer that knows no place."""

    def localize(self, image, camera=None) -> PoseEstimate:
        return PoseEstimate("failed", METRE, 1.0, reason=f"{image.camera.width} pixels of nothing")


def jpeg(width: int = 64, height: int = 48) -> bytes:
    done, data = cv2.imencode(".jpg", np.full((height, width, 3), 120, np.uint8))
    assert done
    return data.tobytes()
