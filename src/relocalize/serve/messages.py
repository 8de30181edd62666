"""Messages between the service and its workers: a JSON object and bytes, nothing executable."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

_SIZES = struct.Struct(">II")  # of the JSON and of the bytes


def packed(header: dict[str, Any], body: bytes = b"") -> bytes:
    """A message as it is sent."""
    text = json.dumps(header, allow_nan=False).encode()
    return _SIZES.pack(len(text), len(body)) + text + body


async def read_message(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """The next message; raises asyncio.IncompleteReadError where the other side has gone."""
    sizes = _SIZES.unpack(await reader.readexactly(_SIZES.size))
    text, body = [await reader.readexactly(size) for size in sizes]
    return json.loads(text), body


def receive(connection: socket.socket) -> tuple[dict[str, Any], bytes] | None:
    """The next message, or None where the other side has gone."""
    sizes = _exactly(connection, _SIZES.size)
    if sizes is None:
        return None
    text, body = (_exactly(connection, size) for size in _SIZES.unpack(sizes))
    return None if text is None or body is None else (json.loads(text), body)


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            return None
        data += part
    return bytes(data)
