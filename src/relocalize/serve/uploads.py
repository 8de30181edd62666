"""Bodies of requests, bounded in bytes and in time; nothing of them touches a disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from relocalize.serve.refusals import RefusedError, busy
from relocalize.serve.settings import Limits

_MOST_FIELDS = 8
# A body that is not read resets the connection, and the client may never see why: it is read and
# thrown away first, as far as that is quickly done.
_DRAINED_BYTES, _DRAINED_S = 64 << 20, 2.0


class _InMemory(MultiPartParser):
    """A photo of a stranger is not left in a temporary file by a kill."""

    spool_max_size: ClassVar[int] = 1 << 40  # type: ignore[misc]


class Uploads:
    """All bodies under way."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._under_way = 0

    async def body(self, request: Request) -> bytes:
        """The whole body.

        Raises:
            RefusedError: it is too long or comes too slowly, or too much is under way.
        """
        announced = request.headers.get("content-length")
        taken = 0
        data = bytearray()
        try:
            if announced is not None and announced.isdecimal():
                self._check(int(announced))

            async def gather() -> None:
                nonlocal taken
                async for part in request.stream():
                    self._check(len(data) + len(part))
                    taken += len(part)
                    self._under_way += len(part)
                    data.extend(part)

            await asyncio.wait_for(gather(), self._limits.upload_seconds)
        except (TimeoutError, asyncio.TimeoutError):
            raise RefusedError(
                408,
                "too_slow",
                f"the body took more than {self._limits.upload_seconds:g} s; send less",
            ) from None
        except RefusedError:
            await drain(request.receive)
            raise
        except ClientDisconnect:
            raise RefusedError(400, "gone", "the client went away") from None
        finally:
            self._under_way -= taken
        return bytes(data)

    def _check(self, size: int) -> None:
        most = self._limits.upload_bytes
        if size > most:
            raise RefusedError(
                413,
                "too_many_bytes",
                f"the body has more than {most / 1e6:.0f} MB; make the photo smaller",
            )
        if self._under_way > self._limits.all_upload_bytes:
            raise busy("too many photos are being sent")

    async def photo(self, request: Request) -> bytes:
        """The photo of a request: its body, or the file ``image`` of its form.

        Raises:
            RefusedError: as `body`; or there is no photo in it.
        """
        body = await self.body(request)
        kind = request.headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() == "multipart/form-data":
            form = await _parsed(request.headers, body)
            image: Any = form.get("image")
            if not isinstance(image, UploadFile):
                raise RefusedError(422, "no_photo", "the form has no file called image; add one")
            body = await image.read()
            await form.close()
        if not body:
            raise RefusedError(422, "no_photo", "the request has no photo; send one as its body")
        return body


async def _parsed(headers: Headers, body: bytes) -> FormData:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        return await _InMemory(
            headers, stream(), max_files=1, max_fields=_MOST_FIELDS, max_part_size=1 << 16
        ).parse()
    except (MultiPartException, HTTPException, KeyError, ValueError) as error:
        said = getattr(error, "message", "") or str(error)
        raise RefusedError(422, "no_photo", f"the form cannot be read: {said}") from None


async def drain(receive: Receive) -> None:
    """Throw a body away, before a request is refused of which not all was read."""

    async def read() -> None:
        size = 0
        while size < _DRAINED_BYTES:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                return

    with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
        await asyncio.wait_for(read(), _DRAINED_S)
