"""A slow browser sees less while its eye moves, and all when it rests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headless_browser import browser_page, seen
from relocalize import Place
from viewed_place import make_viewed_place, needs_viser, until

pytestmark = needs_viser


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_viewed_place(tmp_path / "room")


class _NoWaiting(asyncio.SelectorEventLoop):
    """An event loop whose time is what was waited for, so that a busy machine changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        select = self._selector.select

        def jump(timeout: float | None) -> list:
            self._now += timeout or 0.0
            return select(0)

        self._selector.select = jump

    def time(self) -> float:
        return self._now


def without_waiting(work):
    """What a coroutine gives."""
    loop = _NoWaiting()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


class _Browser:
    """As viser shows one to us, moved by hand."""

    client_id = 7

    def __init__(self) -> None:
        self.camera = self
        self.connected = self.moved = None

    def on_client_connect(self, callback) -> None:
        self.connected = callback

    def on_client_disconnect(self, callback) -> None:
        self.left = callback

    def on_update(self, callback) -> None:
        self.moved = callback

    async def move(self, frames: int, seconds: float) -> None:
        """So many frames, at each of which it says twice that the eye has moved."""
        for _ in range(frames):
            await self.moved(self.camera)
            await asyncio.sleep(0.02)
            await self.moved(self.camera)
            await asyncio.sleep(seconds - 0.02)


class _Little:
    """What is drawn in place of all, for a while."""

    def __init__(self, drawn: list) -> None:
        self.drawn = drawn
        drawn.append(self)

    def remove(self) -> None:
        self.drawn.remove(self)


def test_a_slow_browser_draws_little_while_its_eye_moves_and_a_fast_one_all() -> None:
    from relocalize.viewer.detail import Detail

    async def hands(slow: bool) -> list[int]:
        browser, drawn = _Browser(), []
        Detail(browser, lambda client: [_Little(drawn)])
        await browser.connected(browser)
        counts = []
        await browser.move(7, 0.15 if slow else 0.03)
        counts.append(len(drawn))  # while it moves
        await browser.move(4, 0.06)
        counts.append(len(drawn))
        await asyncio.sleep(1.2)
        counts.append(len(drawn))  # at rest
        await browser.move(1, 0.15 if slow else 0.03)
        counts.append(len(drawn))  # it is known by now
        await browser.left(browser)
        return counts

    assert without_waiting(hands(slow=True)) == [1, 1, 0, 1]
    assert without_waiting(hands(slow=False)) == [0, 0, 0, 0]


def test_a_browser_that_was_busy_for_a_moment_draws_all_again() -> None:
    from relocalize.viewer.detail import Detail

    async def hand() -> list[int]:
        browser, drawn = _Browser(), []
        Detail(browser, lambda client: [_Little(drawn)])
        await browser.connected(browser)
        await browser.move(7, 0.15)
        counts = [len(drawn)]
        await browser.move(12, 0.03)
        await asyncio.sleep(1.0)
        await browser.move(6, 0.03)
        return [*counts, len(drawn)]

    assert without_waiting(hand()) == [1, 0]


@pytest.mark.slow
def test_less_is_drawn_for_the_browser_that_moves_and_all_when_it_rests(
    place: Place, monkeypatch
) -> None:
    from relocalize.viewer import detail, scene
    from relocalize.viewer.serving import ViewSettings, serve

    monkeypatch.setattr(detail, "_SLOW_S", 0.0)
    monkeypatch.setattr(detail, "_FAST_S", 0.0)
    monkeypatch.setattr(scene, "_FEW_CAMERAS", 2)
    with serve(place, ViewSettings(port=0)) as viewer, browser_page() as page:
        page.goto(viewer.url)
        until(viewer.server.get_clients, "connected")

        def blue() -> float:  # as the walk is, however blurred: a busy browser draws coarsely
            image = seen(page)[:, :600].astype(int)
            return float((image[..., 2] - image[..., 0] - 20).clip(0).mean())

        until(lambda: blue() > 0.1, "the walk is drawn")
        all_of_it = blue()
        page.mouse.move(300, 350)
        page.mouse.down()
        turn = iter(range(10_000))

        def little_is_drawn() -> bool:
            for _ in range(10):
                page.mouse.move(300 + next(turn) % 2, 350)
            return blue() < 0.8 * all_of_it

        until(little_is_drawn, "fewer cameras while it moves")
        viewer.scene.show("cameras: walk", False)

        def none_is_drawn() -> bool:
            little_is_drawn()
            return blue() < 0.1 * all_of_it

        until(none_is_drawn, "what was hidden meanwhile")
        viewer.scene.show("cameras: walk", True)
        page.mouse.up()
        until(lambda: blue() > 0.9 * all_of_it, "all of them at rest")
        assert page.complaints == []
