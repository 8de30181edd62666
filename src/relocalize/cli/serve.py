"""`relocalize serve PLACE...`: a service that says where photos were taken."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from relocalize.errors import ServeError
from relocalize.parallel import worker_count
from relocalize.serve import require_serve
from relocalize.serve.settings import LOOPBACK, Limits, ServeSettings


@dataclass(frozen=True)
class Serve:
    """Answer photos of phones, robots and headsets over HTTP; nothing on disk changes."""

    places: tyro.conf.Positional[tuple[Path, ...]]
    """Place folders, each with a map."""
    host: str = "127.0.0.1"
    """Address to listen on. The default is reached from this machine only; 0.0.0.0 from the whole
    network, which needs --token-file or --public."""
    port: int = 8000
    """Port to listen on; 0 takes a free one."""
    localizer: tuple[str, ...] = ("structure",)
    """Localizers that may be asked for; the first is the default."""
    token_file: Path | None = None
    """File with a token that requests have to bring."""
    public: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Let everybody ask who reaches the port."""
    workers: int | None = None
    """Processes per Place; by default one per processor."""
    waiting: int = Limits.waiting
    """Requests that may wait for a worker of a Place; one more is answered 503."""
    cors: tuple[str, ...] = ()
    """Origins of web pages that may ask, such as https://example.org; by default none."""
    keep: Path | None = None
    """Folder for photos and their answers; by default none is kept."""

    def run(self) -> int:
        """Serve until Ctrl-C."""
        require_serve()
        from relocalize.serve import running  # noqa: PLC0415 - only now is it known to be there

        workers = worker_count() if self.workers is None else self.workers
        if workers < 1 or self.waiting < 0 or not self.localizer or not self.places:
            raise ServeError(
                f"{len(self.places)} places, {len(self.localizer)} localizers, {workers} workers, "
                f"{self.waiting} waiting; want at least 1, 1, 1 and 0"
            )
        token = None if self.token_file is None else running.read_token(self.token_file)
        running.check_access(self.host, token, public=self.public)
        settings = ServeSettings(
            localizers=self.localizer,
            workers=workers,
            token=token,
            loopback=self.host in LOOPBACK,
            cors=self.cors,
            keep=self.keep,
            limits=Limits(waiting=self.waiting),
        )
        listener = running.listening(self.host, self.port)
        port = listener.getsockname()[1]
        host = "localhost" if self.host in ("0.0.0.0", "::", *LOOPBACK) else self.host

        def say() -> None:
            print(f"http://{host}:{port}", flush=True)
            print("its routes are at /docs; Ctrl-C ends it", file=sys.stderr)

        running.log_to_stderr()
        running.run(self.places, settings, listener, say)
        print("the service has ended", file=sys.stderr)
        return 0
