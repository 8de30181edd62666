"""Reading text files of strangers: bounded, and refused where they are not text."""

from __future__ import annotations

from pathlib import Path

from relocalize.errors import FormatError

# A row of a pose list has about 100 bytes, so this is room for two million images.
MAX_BYTES = 200_000_000
LONGEST_NAME = 4096  # characters, as of a path
_LONGEST_LINE = 300  # characters of a message
_HEAD_BYTES = 16_384  # enough for the comments that formats begin with, and a row


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; refuses what `read_text` refuses."""
    return read_text(path).splitlines()


def read_text(path: Path) -> str:
    """A text file, UTF-8 with or without a byte order mark.

    Raises:
        FormatError: it is missing, a folder, larger than `MAX_BYTES`, or no text.
    """
    try:
        if path.is_dir():
            raise FormatError(f"{path} is a folder; want a text file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise FormatError(f"{path} has {size / 1e6:.0f} MB; the limit is {MAX_BYTES / 1e6:.0f}")
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is no text file: {error.reason} at byte {error.start}") from None
    if "\0" in text:
        raise FormatError(f"{path} is no text file: byte {text.index(chr(0))} is zero")
    return text


def first_lines(path: Path) -> list[str]:
    """The whole lines in the first bytes of a text file, for telling formats apart.

    Never raises: what cannot be read, or is no text, has none.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES + 1)
        if len(head) > _HEAD_BYTES:
            head = head[: head.rindex(b"\n")]
        text = head.decode("utf-8-sig")
    except (OSError, ValueError):
        return []
    return [] if "\0" in text else text.splitlines()


def one_line(text: str) -> str:
    """``text`` as one line of a length that people read, with nothing that steers a terminal."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 3] + "..."


def is_name(text: str) -> bool:
    """Whether a string can be printed and stored: no control characters, no lone surrogates."""
    return len(text) <= LONGEST_NAME and (text.isprintable() or not _has_control(text))


def _has_control(text: str) -> bool:
    return any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in text)
