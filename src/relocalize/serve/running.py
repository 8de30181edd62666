"""The service as a program: a port, a server, an end by Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from relocalize import ports
from relocalize.errors import ServeError
from relocalize.ports import LOOPBACK
from relocalize.serve.app import started
from relocalize.serve.settings import ServeSettings

if TYPE_CHECKING:
    from relocalize.serve.certificate import Certificate

_SHORTEST_TOKEN = 16


def read_token(path: Path) -> str:
    """The token in a file.

    Raises:
        ServeError: it cannot be read, or is short enough to be guessed.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"token file {path} cannot be read: {error}") from error
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ServeError(
            f"the token in {path} has {len(token)} characters; want {_SHORTEST_TOKEN} or more of "
            f"ASCII: openssl rand -hex 16 > {path}"
        )
    return token


def check_access(host: str, token: str | None, *, public: bool) -> None:
    """Raise `ServeError` where everybody would get in without anybody having said so."""
    if host not in LOOPBACK and token is None and not public:
        raise ServeError(
            f"everybody who reaches {host} could ask; give --token-file FILE (openssl rand -hex 16 "
            "> FILE), or --public to let them"
        )


def listening(host: str, port: int) -> socket.socket:
    """A socket for `serving`.

    Raises:
        ServeError: the port is taken, or the address is not of this machine.
    """
    listener = ports.listening(host, port, ServeError)
    # Connections inherit it; asyncio sets it only on sockets whose protocol is named. Without it an
    # answer's body waits 40 ms for the client to acknowledge its headers (Nagle's algorithm).
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _impatient(seconds: float) -> type[H11Protocol]:
    """Uvicorn's HTTP protocol, which waits so long for a request's line and headers.

    uvicorn itself limits only the pause between two requests, so that who sends nothing could use
    up all connections.
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


class _Server(uvicorn.Server):
    """One that leaves signals to the program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(
    places: Sequence[Path],
    settings: ServeSettings,
    listener: socket.socket,
    certificate: Certificate | None = None,
) -> AsyncIterator[None]:
    """The service of Places, within whose context it answers, by https where it has a certificate.

    Raises:
        ServeError: a Place cannot be served.
    """
    async with started(places, settings) as app:
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                http=_impatient(settings.limits.upload_seconds),
                ws="websockets-sansio",
                ws_max_size=settings.limits.upload_bytes,
                limit_concurrency=settings.limits.connections,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=1,
                ssl_certfile=None if certificate is None else certificate.certificate,
                ssl_keyfile=None if certificate is None else certificate.key,
            )
        )
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started and not task.done():
                await asyncio.sleep(0.01)
            yield
        finally:
            server.should_exit = True
            await task


def run(
    places: Sequence[Path],
    settings: ServeSettings,
    listener: socket.socket,
    when_ready: Callable[[], None],
    certificate: Certificate | None = None,
) -> None:
    """Serve Places until Ctrl-C or SIGTERM.

    Raises:
        ServeError: a Place cannot be served.
    """

    async def until_cancelled() -> None:
        this = asyncio.current_task()
        assert this is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            # Also while it loads; once more while it ends, and nothing is waited for.
            asyncio.get_running_loop().add_signal_handler(number, this.cancel)
        async with serving(places, settings, listener, certificate):
            when_ready()
            await asyncio.Event().wait()

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(until_cancelled())


@contextlib.contextmanager
def logged_to_stderr() -> Iterator[None]:
    """Within this context, one line of JSON for each request, as it is done."""
    logger = logging.getLogger("relocalize.serve")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter('{"time": "%(asctime)s", %(fields)s', "%Y-%m-%dT%H:%M:%S")
    )
    handler.addFilter(_fields)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _fields(record: logging.LogRecord) -> bool:
    record.fields = record.getMessage().removeprefix("{")
    return True
