"""Less detail while the eye moves, for browsers that cannot draw all of it in time."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import viser

_SLOW_S = 0.08  # from one frame to the next: fewer than 12 a second are no movement
_FAST_S = 0.04  # with little drawn: so fast a browser may well draw it all
_MOVES = 10  # of the eye, one after another, until we know how fast a browser is
_REST_S = 0.5  # without a move, beyond the frames under way: the eye rests
_BREAK_S = 5.0  # without a move: what took so long was the hand and not the browser


@dataclass(eq=False)
class _Eye:
    """What is known of one browser."""

    client: viser.ClientHandle  # the browser
    # when its eye moved, seconds of the event loop's clock, the latest last
    moves: deque[float] = field(default_factory=lambda: deque(maxlen=_MOVES))
    # how long it takes to draw all, where that is longer than `_SLOW_S`
    slow_s: float | None = None
    # what is drawn for it in place of all, while it moves; None while it draws all
    little: list[viser.SceneNodeHandle] | None = None
    at_rest: asyncio.TimerHandle | None = None  # what is to happen when it moves no more

    def frame_s(self) -> float | None:
        """Seconds from frame to frame; None before that is known.

        A browser says at every frame that its eye has moved, and once or twice more within 20 ms
        each. So of the times between at least a third is long where frames are, and fewer where
        nothing but the hand pauses.
        """
        if len(self.moves) < _MOVES:
            return None
        return float(np.quantile(np.diff(self.moves), 0.75, method="lower"))

    def draw_all(self) -> None:
        """Take away what is drawn in place of all."""
        for node in self.little or []:
            node.remove()
        self.little = None


class Detail:
    """Who sees less while moving. Called from viser's event loop, and from its threads."""

    def __init__(
        self,
        server: viser.ViserServer,
        draw_little: Callable[[viser.ClientHandle], list[viser.SceneNodeHandle]],
    ) -> None:
        """``draw_little`` draws less in place of all for one browser, until it is removed."""
        self._draw_little = draw_little
        self._eyes: dict[int, _Eye] = {}
        self._lock = threading.Lock()

        @server.on_client_connect
        async def _(client: viser.ClientHandle) -> None:
            with self._lock:
                eye = self._eyes[client.client_id] = _Eye(client)

            async def moved(_: viser.CameraHandle) -> None:
                with self._lock:
                    self._moved(eye)

            client.camera.on_update(moved)

        @server.on_client_disconnect
        async def _(client: viser.ClientHandle) -> None:
            with self._lock:
                eye = self._eyes.pop(client.client_id, None)
            if eye is not None and eye.at_rest is not None:
                eye.at_rest.cancel()

    def jumps(self, client: viser.ClientHandle) -> None:
        """The eye is put elsewhere from here: how often that happens is not how fast it draws."""
        with self._lock:
            eye = self._eyes.get(client.client_id)
            if eye is not None and eye.little is None:
                eye.moves.clear()

    def redraw(self) -> None:
        """What there is to be seen has changed, and with it what little of it is drawn."""
        with self._lock:
            for eye in self._eyes.values():
                if eye.little is not None:
                    eye.draw_all()
                    eye.little = self._draw_little(eye.client)

    def _moved(self, eye: _Eye) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if eye.moves and now - eye.moves[-1] > _BREAK_S:
            eye.moves.clear()
        eye.moves.append(now)
        frame_s = eye.frame_s()
        if eye.little is None and frame_s is not None and frame_s > _SLOW_S:
            eye.slow_s = frame_s
        if eye.little is None and eye.slow_s is not None:
            eye.little = self._draw_little(eye.client)
            eye.moves.clear()  # from here on it tells how long a frame with little takes
        # The frames with all in them that are under way are no rest.
        under_way = 2 * eye.slow_s if eye.slow_s is not None and eye.frame_s() is None else 0.0
        if eye.at_rest is not None:
            eye.at_rest.cancel()
        eye.at_rest = loop.call_later(_REST_S + under_way, self._rests, eye)

    def _rests(self, eye: _Eye) -> None:
        with self._lock:
            if eye.little is None:
                return
            frame_s = eye.frame_s()
            if frame_s is not None and frame_s < _FAST_S:
                eye.slow_s = None  # it was busy with something else: see again
            eye.draw_all()
            eye.moves.clear()
