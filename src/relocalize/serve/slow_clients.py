"""Connections that do not say what they want are closed, so that they cannot use up all."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def impatient(seconds: float) -> type[H11Protocol]:
    """Uvicorn's HTTP protocol, which waits so long for a request's line and headers.

    uvicorn itself limits only the pause between two requests.
    """

    class Impatient(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._begin_waiting()

        def data_received(self, data: bytes) -> None:
            if self.cycle is not None and self.cycle.response_complete:
                self._begin_waiting()
            super().data_received(data)

        def _begin_waiting(self) -> None:
            asyncio.get_running_loop().call_later(seconds, self._close_if_still, self.cycle)

        def _close_if_still(self, last: object) -> None:
            # A WebSocket has taken the transport over.
            if self.cycle is last and self.transport.get_protocol() is self:
                self.transport.close()

    return Impatient
