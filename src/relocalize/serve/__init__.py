"""A service that says where photos were taken: HTTP, WebSocket, and a page for phones."""

from __future__ import annotations

import os
from importlib.util import find_spec

from relocalize.errors import ServeError

_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "websockets")
_PACKAGES_HTTPS = ("cryptography", "segno")


def require_serve(*, https: bool = False) -> None:
    """Raise one clear line where what the service needs is missing.

    Raises:
        ServeError: a package is not installed, or the system cannot fork processes.
    """
    for package in (*_PACKAGES, *(_PACKAGES_HTTPS if https else ())):
        if find_spec(package) is None:
            raise ServeError(
                f"the service needs {package}, which is not installed; install it with: pip "
                'install "relocalize[serve]"'
            )
    if not hasattr(os, "fork"):
        raise ServeError("the service needs processes that fork, which Windows has not; use WSL")
