"""How a service runs, and what it lets in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """What one client, or all of them, may take."""

    upload_bytes: int = 24 << 20  # of one body. A phone's JPEG has 2 to 15 MB
    all_upload_bytes: int = 256 << 20  # of all bodies under way together
    # of one photo, counted before it is decoded. Phones take 12 to 50 megapixels
    pixels: int = 50_000_000
    seconds: float = 20.0  # for decoding and localizing one photo; then its worker is killed
    upload_seconds: float = 20.0  # for sending a request
    waiting: int = 32  # requests that wait for a worker of a Place; one more is answered 503
    connections: int = 256  # open at once


@dataclass(frozen=True)
class ServeSettings:
    """How a service runs."""

    localizers: tuple[str, ...] = ("structure",)  # the first unless a request names another
    workers: int = 1  # processes per Place that localize
    token: str | None = None  # that requests have to bring; None lets everybody in
    # whether only this machine reaches the service, so that a page of elsewhere, which a browser
    # was made to take for it, is refused
    loopback: bool = True
    cors: tuple[str, ...] = ()  # origins whose pages may ask
    keep: Path | None = None  # folder for photos and their answers; None keeps none
    limits: Limits = field(default_factory=Limits)  # what clients may take
