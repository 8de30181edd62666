"""A port of this machine to listen on, for the service and the viewer."""

from __future__ import annotations

import socket

from relocalize.errors import RelocalizeError

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # what only this machine reaches


def listening(host: str, port: int, error: type[RelocalizeError]) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        error: the port is taken, or the address is not of this machine.
    """
    another = f"give another: --port {port + 1 if 0 < port < 65535 else 8080}"
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=512)
    except OverflowError as cause:
        raise error(f"port {port} does not exist; {another}") from cause
    except OSError as cause:
        raise error(
            f"cannot listen on {host!r}, port {port} ({cause.strerror}); {another}, or an address "
            "of this machine: --host 127.0.0.1"
        ) from cause


def shown_host(host: str) -> str:
    """How a browser on this machine calls what listens on ``host``."""
    return "localhost" if host in ("0.0.0.0", "::", *LOOPBACK) else host
