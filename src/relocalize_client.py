"""Asks a `relocalize serve` where photos were taken. One file, Python's standard library alone.

client = Client("http://localhost:8000")
answer = client.localize("kitchen", "photo.jpg")
print(answer["position"] if answer["status"] == "localized" else answer["reason"])
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit


class RefusedError(Exception):
    """A request that was not answered.

    Attributes:
        status: of HTTP.
        reason: one word: ``busy``, ``no_place``, ``not_a_photo``, ``wrong_camera``, ...
        retry_after: seconds after which it may be tried again, or None.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.status, self.reason, self.retry_after = status, reason, retry_after


class Client:
    """One connection to a service, which is kept open; not for several threads at once."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 60.0,
        certificate: str | Path | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: of the service: ``http://localhost:8000``.
            token: that the service wants.
            timeout: seconds to wait for an answer.
            certificate: file with the certificate to trust, of a service with ``--https``.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ValueError(f"{url!r} is no address of a service; want http://HOST:PORT")
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            trusted = ssl.create_default_context(cafile=certificate and str(certificate))
            self._connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout, context=trusted
            )
        else:
            self._connection = http.client.HTTPConnection(
                parts.hostname, parts.port, timeout=timeout
            )
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def places(self) -> list[dict[str, Any]]:
        """All Places: ``name``, ``unit``, ``localizers``."""
        found: list[dict[str, Any]] = self._json("GET", "/v1/places")["places"]
        return found

    def place(self, name: str) -> dict[str, Any]:
        """Frame, unit, extent and floor plan of a Place."""
        return self._json("GET", f"/v1/places/{quote(name, safe='')}")

    def localize(
        self,
        place: str,
        photo: str | Path | bytes,
        *,
        camera: dict[str, Any] | None = None,
        prior: dict[str, Any] | None = None,
        localizer: str | None = None,
        points: bool = False,
        axes: str | None = None,
    ) -> dict[str, Any]:
        """Where a photo was taken.

        Args:
            place: name of the Place.
            photo: a file, or its bytes: JPEG, PNG, WebP, HEIC, TIFF, BMP.
            camera: what is known of it: ``{"model": "PINHOLE", "params": [fx, fy, cx, cy]}``,
                ``{"focal_px": 500, "known": "approximate"}`` or ``{"known": "unknown"}``; None
                takes what the photo's EXIF says.
            prior: where the camera is thought to be, so that no pose is answered that contradicts
                it: ``{"world_from_cam": [4x4], "covariance": [6x6]}`` as in an answer, or
                ``{"position": [x, y, z], "covariance": [3x3]}``.
            localizer: one of those that the Place is served with; None takes the first.
            points: also points of the map that are seen in the photo.
            axes: also the pose in the axes of ``arkit``, ``webxr``, ``unity``, ``ros`` or
                ``ros_optical``, under ``in_axes``.

        Returns:
            ``status`` is ``localized`` or ``failed``, then with a ``reason``.

        Raises:
            RefusedError: it is no photo, the service is busy, or does not know the Place.
            OSError: the service cannot be reached.
        """
        given = {
            "camera": None if camera is None else json.dumps(camera),
            "prior": None if prior is None else json.dumps(prior),
            "localizer": localizer,
            "points": "true" if points else None,
            "axes": axes,
        }
        query = urlencode({key: value for key, value in given.items() if value is not None})
        path = f"/v1/places/{quote(place, safe='')}/localize"
        body = photo if isinstance(photo, bytes) else Path(photo).read_bytes()
        return self._json("POST", f"{path}?{query}" if query else path, body)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _json(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        answer, data = self._asked(method, path, body)
        try:
            value = json.loads(data)
        except ValueError:
            value = None
        if answer.status == http.HTTPStatus.OK and isinstance(value, dict):
            return value
        error = value.get("error", {}) if isinstance(value, dict) else {}
        retry_after = answer.getheader("Retry-After")
        raise RefusedError(
            answer.status,
            error.get("reason", "unknown"),
            error.get("message", f"the service answered {answer.status} {answer.reason}"),
            None if retry_after is None else float(retry_after),
        )

    def _asked(
        self, method: str, path: str, body: bytes | None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/octet-stream"
        for last in (False, True):
            kept_open = self._connection.sock is not None
            try:
                # A service that refuses a photo may do so before it has read all of it.
                with contextlib.suppress(BrokenPipeError):
                    self._connection.request(method, path, body, headers)
                answer = self._connection.getresponse()
                return answer, answer.read()
            except (http.client.HTTPException, ConnectionError):
                self._connection.close()
                if last or not kept_open:  # a connection that was kept open may have been closed
                    raise
        raise AssertionError("not reached")
