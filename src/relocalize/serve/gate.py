"""What every request passes: who may ask, headers that keep browsers safe, metrics, one log line.

Plain ASGI around the application, so that it sees what was really sent, of WebSockets too.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relocalize.ports import LOOPBACK
from relocalize.serve.metrics import Metrics
from relocalize.serve.refusals import RefusedError
from relocalize.serve.settings import ServeSettings
from relocalize.serve.uploads import drain

_log = logging.getLogger("relocalize.serve")
# Without data of a Place: the page, which asks for the token, and what a load balancer asks.
_OPEN = ("/", "/health", "/docs", "/openapi.json")
_OPEN_BELOW = "/page/"
_SAFE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; media-src 'self' blob:; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=()",
    "cache-control": "no-store",
}


class Gate:
    """Around the application."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or one WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        note: dict[str, Any] = {}
        scope.setdefault("state", {})["note"] = note

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            elif message["type"] == "websocket.accept":
                status = 101
            elif message["type"] == "websocket.close" and not status:
                status = 403
            await send(message)

        try:
            self._check(scope)
        except RefusedError as error:
            note["reason"] = error.reason
            if scope["type"] == "websocket":
                await sent({"type": "websocket.close", "code": 1008, "reason": error.message})
            else:
                answer = JSONResponse(error.to_json(), error.status)
                if error.status == 401:
                    answer.headers["www-authenticate"] = "Bearer"
                await drain(receive)
                await answer(scope, receive, sent)
        else:
            try:
                await self._app(scope, receive, sent)
            except asyncio.CancelledError:  # the service ends, and uvicorn would print a traceback
                note["reason"] = "ending"
                if scope["type"] == "http" and not status:
                    ending = RefusedError(503, "ending", "the service is ending")
                    await JSONResponse(ending.to_json(), ending.status)(scope, receive, sent)
            except BaseException:
                status = status or 500
                raise
        finally:
            self._note(scope, status, time.perf_counter() - started, note)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        settings = self._settings
        host = _name_of(headers.get("host", ""))
        # A page of elsewhere may have its name point to this machine (DNS rebinding).
        if settings.loopback and settings.token is None and host not in LOOPBACK:
            raise RefusedError(
                421, "wrong_host", f"this service answers to localhost alone, not to {host[:60]!r}"
            )
        if scope["type"] == "websocket":
            origin = headers.get("origin")
            # Browsers let every page open a WebSocket to everywhere, and say which page it is.
            own = {f"{scheme}://{headers.get('host', '')}" for scheme in ("http", "https")}
            if origin is not None and origin not in {*own, *settings.cors}:
                raise RefusedError(403, "wrong_origin", "pages of another origin may not ask")
            return  # the token comes in the first message
        path = scope["path"]
        if settings.token is None or path in _OPEN or path.startswith(_OPEN_BELOW):
            return
        if scope["method"] == "OPTIONS":
            return  # a browser asks whether it may; it cannot bring the token yet
        kind, _, given = headers.get("authorization", "").partition(" ")
        if path == "/localizeb64":
            return  # which brings the token in its body
        if kind.lower() != "bearer" or not is_token(given, settings.token):
            raise RefusedError(
                401, "no_token", "a token is needed: send the header Authorization: Bearer TOKEN"
            )

    def _note(self, scope: Scope, status: int, seconds: float, note: dict[str, Any]) -> None:
        route = scope.get("route")
        path = getattr(route, "path", None) or "other"
        self._metrics.count(path, status, seconds, note.get("reason"))
        client = scope.get("client")
        line = {
            "event": "request",
            "client": client[0] if client else None,
            "method": scope.get("method", "WS"),
            "path": scope["path"][:200],
            "status": status,
            "ms": round(1e3 * seconds, 1),
            **note,
        }
        _log.info(json.dumps(line))


def is_token(given: str, token: str) -> bool:
    """Whether that is the token, in a time that does not say how much of it is right."""
    return hmac.compare_digest(given.strip().encode(), token.encode())


def _name_of(host: str) -> str:
    """Without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
