"""`relocalize serve PLACE...`: a service that says where photos were taken."""

from __future__ import annotations

import secrets
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize.cli.options import Flag
from relocalize.errors import ServeError
from relocalize.parallel import worker_count
from relocalize.ports import LOOPBACK, shown_host
from relocalize.serve import require_serve
from relocalize.serve.settings import Limits, ServeSettings


@dataclass(frozen=True)
class Serve:
    """Answer photos of phones, robots and headsets over HTTP; nothing on disk changes."""

    places: tyro.conf.Positional[tuple[Path, ...]]
    """Place folders, each with a map."""
    host: str | None = None
    """Address to listen on; else 127.0.0.1, this machine only.
    0.0.0.0, the whole network, needs --token-file or --public."""
    port: int = 8000
    """Port to listen on; 0 takes a free one."""
    localizer: tuple[str, ...] = ("structure",)
    """Localizers that may be asked for; the first is the default."""
    token_file: Path | None = None
    """File with a token that requests must bring."""
    https: Flag = False
    """For phones: https for the whole network, with a certificate of this run
    and a token (unless --public); prints a QR code."""
    public: Flag = False
    """Answer everybody who reaches the port."""
    workers: int | None = None
    """Processes per Place; else one per processor."""
    waiting: int = Limits.waiting
    """Requests that may wait; further ones are answered 503."""
    cors: tuple[str, ...] = ()
    """Origins of web pages that may ask, such as https://example.org."""
    keep: Path | None = None
    """Folder to keep photos and answers in; else none is kept."""

    def run(self) -> int:
        """Serve until Ctrl-C."""
        require_serve(https=self.https)
        from relocalize.serve import running  # noqa: PLC0415 - only now is it known to be there

        workers = worker_count() if self.workers is None else self.workers
        if workers < 1 or self.waiting < 0 or not self.localizer or not self.places:
            raise ServeError(
                f"{len(self.places)} places, {len(self.localizer)} localizers, {workers} workers, "
                f"{self.waiting} waiting; want at least 1, 1, 1 and 0"
            )
        host = self.host or ("0.0.0.0" if self.https else "127.0.0.1")
        token = None if self.token_file is None else running.read_token(self.token_file)
        if token is None and self.https and not self.public:
            token = secrets.token_urlsafe(16)
        running.check_access(host, token, public=self.public)
        settings = ServeSettings(
            localizers=self.localizer,
            workers=workers,
            token=token,
            loopback=host in LOOPBACK,
            cors=self.cors,
            keep=self.keep,
            limits=Limits(waiting=self.waiting),
        )
        listener = running.listening(host, self.port)
        with (
            running.logged_to_stderr(),
            tempfile.TemporaryDirectory(prefix="relocalize-") as folder,
        ):
            if self.https:
                self._serve_https(Path(folder), settings, listener, host)
            else:
                url = f"http://{shown_host(host)}:{listener.getsockname()[1]}"
                running.run(self.places, settings, listener, lambda: _say(url))
        print("the service has ended", file=sys.stderr)
        return 0

    def _serve_https(
        self, folder: Path, settings: ServeSettings, listener: socket.socket, host: str
    ) -> None:
        import segno  # noqa: PLC0415 - of the extra

        from relocalize.serve import certificate, running  # noqa: PLC0415 - of the extra

        addresses = certificate.own_addresses()
        made = certificate.self_signed(folder, addresses)
        everywhere = host in ("0.0.0.0", "::")
        shown = (addresses or ["localhost"])[0] if everywhere else host
        url = f"https://{shown}:{listener.getsockname()[1]}"
        with_token = url if settings.token is None else f"{url}/#token={settings.token}"

        def say() -> None:
            _say(with_token)
            segno.make(with_token, error="l").terminal(out=sys.stderr, compact=True, border=2)
            print(
                "scan it with a phone in the same network; its browser warns of the certificate, "
                "which nobody but this machine has signed",
                file=sys.stderr,
            )

        running.run(self.places, settings, listener, say, made)


def _say(url: str) -> None:
    print(url, flush=True)
    print("open it in a browser, or /docs below it; Ctrl-C ends it", file=sys.stderr)
