"""Reading text files of strangers: bounded, and refused where they are not text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from relocalize.errors import FormatError

# A row of a pose list has about 100 bytes, so this is room for two million images.
MAX_BYTES = 200_000_000
LONGEST_NAME = 4096  # characters, as of a path
_LONGEST_LINE = 300  # characters of a message
_HEAD_BYTES = 16_384  # enough for the comments that formats begin with, and a row


def read_text(path: Path) -> str:
    """A text file, UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        FormatError: it is missing, a folder, larger than `MAX_BYTES`, or no text.
    """
    try:
        check_file(path, "a text file")
        text = _decoded(path.read_bytes())
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        if _is_ansi(path.read_bytes()[:_HEAD_BYTES]):
            raise FormatError(
                f"{path} is not in UTF-8 (byte {error.start}), but in an older code page that it "
                "does not name (ANSI); save it as UTF-8"
            ) from None
        raise FormatError(f"{path} is no text file: {error.reason} at byte {error.start}") from None
    if "\0" in text:
        raise FormatError(f"{path} is no text file: byte {text.index(chr(0))} is zero")
    return text


def _decoded(data: bytes) -> str:
    return data.decode(_encoding(data))


def _encoding(data: bytes) -> str:
    """UTF-16 by its mark, or by the zero byte of most letters' pairs; else UTF-8."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "utf-16"  # takes its byte order from the mark, and the mark away
    zeros = [data[parity:_HEAD_BYTES:2].count(0) for parity in (0, 1)]
    if min(zeros) or max(zeros) <= max(1, len(data[:_HEAD_BYTES]) // 4):
        return "utf-8-sig"
    return "utf-16-be" if zeros[0] else "utf-16-le"


def _is_ansi(data: bytes) -> bool:
    """Whether these are lines of text in one byte a letter, whichever letters those may be."""
    controls = sum(byte < 32 and byte not in b"\t\r\n\f" for byte in data)
    return not controls and sum(byte >= 128 for byte in data) < len(data) / 4


def check_file(path: Path, want: str, max_bytes: int = MAX_BYTES) -> None:
    """Raise `FormatError` where ``path`` is a folder or too large, OSError where it is missing."""
    if path.is_dir():
        raise FormatError(f"{path} is a folder; want {want}")
    if path.stat().st_size > max_bytes:
        raise FormatError(f"{path} has more than {max_bytes} bytes")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; refuses what `read_text` refuses."""
    return read_text(path).splitlines()


def first_lines(path: Path) -> list[str]:
    """The whole lines in the first bytes of a text file, for telling formats apart.

    Never raises: what cannot be read, or is no text, has none.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES + 1)
        if len(head) > _HEAD_BYTES:
            # A line of UTF-16 ends in two bytes.
            wide = _encoding(head).startswith("utf-16")
            head = head[: head.rindex(b"\n") // 2 * 2 if wide else head.rindex(b"\n")]
        try:
            text = _decoded(head)
        except UnicodeDecodeError:
            # In a code page that the reader refuses, and says so; the digits are the same.
            if not _is_ansi(head):
                return []
            text = head.decode("latin-1")
    except (OSError, ValueError):
        return []
    return [] if "\0" in text else text.splitlines()


COMMAS_OR_BLANKS = ", "  # a separator: commas where they part all cells of a row, else white space


def rows_in(
    lines: Iterable[str], separator: str | None = None, columns: int = 0
) -> Iterator[tuple[str, list[str]]]:
    """``line 12`` and the stripped cells of every line that is neither empty nor a ``#`` comment.

    Args:
        lines: of a file.
        separator: between cells; None is white space; or `COMMAS_OR_BLANKS`.
        columns: at most as many, the last one with the rest of the line; 0 is any number.
    """
    for number, line in enumerate(lines, start=1):
        row = line.strip()
        if row and not row.startswith("#"):
            by = _parting(row) if separator == COMMAS_OR_BLANKS else separator
            yield f"line {number}", [cell.strip() for cell in row.split(by, columns - 1)]


def _parting(row: str) -> str | None:
    """What parts the cells of a row: a comma where every one has no blank within, else blanks."""
    cells = row.split(",")
    return "," if len(cells) > 1 and all(len(cell.split()) == 1 for cell in cells) else None


def floats(cells: Iterable[str]) -> list[float]:
    """The cells as numbers; raises ValueError that names the first that is none."""
    try:
        return [float(cell) for cell in cells]
    except ValueError as error:
        named = str(error).removeprefix("could not convert string to float: ")
        raise ValueError(f"{shortened(named)} is no number") from None


def shortened(text: str, most: int = 60) -> str:
    """The beginning of a text, for messages."""
    return text if len(text) <= most else text[: most - 3] + "..."


def one_line(text: str) -> str:
    """``text`` as one line of a length that people read, with nothing that steers a terminal."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return shortened(line, _LONGEST_LINE)


def is_name(text: str) -> bool:
    """Whether a string can be printed and stored: no control characters, no lone surrogates."""
    return len(text) <= LONGEST_NAME and (text.isprintable() or not any(map(_is_control, text)))


def _is_control(letter: str) -> bool:
    code = ord(letter)
    return code < 32 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000
