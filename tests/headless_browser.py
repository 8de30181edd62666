"""A browser without a window, for tests of what people see; without one they are skipped."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def browser_page(width: int = 1000, height: int = 700, flags: Sequence[str] = ()) -> Iterator:
    """A page of a fresh browser, and in ``page.complaints`` what its console says is wrong."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(_BROWSERS)})")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*_FLAGS, *flags])
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(60_000)
            page.complaints = []
            page.on("pageerror", lambda error: page.complaints.append(str(error)))
            page.on(
                "console",
                lambda said: page.complaints.append(said.text) if said.type == "error" else None,
            )
            yield page
        finally:
            browser.close()


def seen(page) -> np.ndarray:
    """What the page looks like now, RGB [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
