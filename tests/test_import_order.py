"""pycolmap and Pillow share a process without harm, or it is refused; each in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

WRITE_PNGS = """
import io
import numpy as np
from PIL import Image
noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8)
for _ in range(5):
    data = io.BytesIO()
    Image.fromarray(noise).save(data, format="PNG")
    assert (np.asarray(Image.open(data)) == noise).all()
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("imports", ["relocalize", "relocalize, pycolmap", "zlib, pycolmap"])
def test_images_are_written_unharmed(imports):
    result = run(f"import {imports}\nimport relocalize, pycolmap\n{WRITE_PNGS}")
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds symbols so")
def test_the_order_that_corrupts_memory_is_refused():
    result = run("import pycolmap, sys\nassert 'zlib' not in sys.modules\nimport relocalize")
    assert "ImportError: pycolmap was imported before relocalize" in result.stderr
