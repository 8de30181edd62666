"""Reading XML files of strangers: bounded, without entities, with errors of one line.

Python's parser expands entities (a few hundred bytes can become gigabytes, "billion laughs") and
nests without a limit; so a document type, the only place where entities can be declared, is
refused, and so is what nests or counts beyond anything a registration needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from relocalize.errors import FormatError
from relocalize.formats.text import one_line

# Metashape writes about 2 kB and 20 elements per camera; this is room for 100,000 cameras.
MAX_BYTES = 200_000_000
_MAX_ELEMENTS = 2_000_000
_MAX_DEPTH = 64  # registrations nest less than ten deep
_CHUNK = 1 << 16


def read_xml(path: Path, *, max_bytes: int = MAX_BYTES) -> ElementTree.Element:
    """The root element of an XML file; names of other namespaces are ``{uri}name``.

    Raises:
        FormatError: it is missing, a folder, too large, no XML, declares a document type, or
            nests deeper than 64 elements.
    """
    try:
        if path.is_dir():
            raise FormatError(f"{path} is a folder; want an XML file")
        size = path.stat().st_size
        if size > max_bytes:
            raise FormatError(f"{path} has {size / 1e6:.0f} MB; the limit is {max_bytes / 1e6:.0f}")
        with path.open("rb") as file:
            return _Parsing(path).root(iter(lambda: file.read(_CHUNK), b""))
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from error


def root_name(path: Path, *, first_bytes: int = 4096) -> str | None:
    """The name of the root element, from the file's first bytes; None where there is none.

    Never raises, and reads no more than ``first_bytes``: it is for telling formats apart.
    """
    parsing = _Parsing(path)
    with suppress(OSError, FormatError), path.open("rb") as file:
        parsing.feed(file.read(first_bytes))
    return parsing.first_name


def number_in(text: str | None, what: str) -> float:
    """The finite number in an element's text or an attribute.

    Raises:
        FormatError: it is absent, no number, or not finite; names ``what``.
    """
    return numbers_in(text, 1, what)[0]


def numbers_in(text: str | None, count: int, what: str) -> tuple[float, ...]:
    """The ``count`` finite numbers, separated by blanks, in an element's text or an attribute.

    Raises:
        FormatError: there are not as many, or not all are finite; names ``what``.
    """
    words = (text or "").split()
    shown = " ".join(words)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    if len(words) != count:
        raise FormatError(f"{what} is {shown!r}; want {count} number{'s' if count > 1 else ''}")
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        raise FormatError(f"{what} is {shown!r}, which is no number") from None
    if not all(math.isfinite(value) for value in values):
        raise FormatError(f"{what} is {shown!r}, which is not finite")
    return values


class _Parsing:
    """One pass of expat over a file, building elements as far as the limits allow."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._depth = 0
        self._elements = 0
        self.first_name: str | None = None
        self._builder = ElementTree.TreeBuilder()
        self._expat = expat.ParserCreate(namespace_separator="}")
        self._expat.buffer_text = True
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._builder.data
        self._expat.StartDoctypeDeclHandler = self._refuse_doctype

    def root(self, chunks: Iterable[bytes]) -> ElementTree.Element:
        for chunk in chunks:
            self.feed(chunk)
        self.feed(b"", last=True)
        return self._builder.close()

    def feed(self, data: bytes, *, last: bool = False) -> None:
        try:
            self._expat.Parse(data, last)
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code)
            raise FormatError(f"{self._path}, line {error.lineno}: no XML: {what}") from None
        except (ValueError, LookupError) as error:  # an encoding that Python does not know
            raise FormatError(f"{self._path} is no XML: {one_line(str(error))}") from None

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise FormatError(
                f"{self._path}, line {self._expat.CurrentLineNumber}: more than {_MAX_DEPTH} "
                f"elements deep or {_MAX_ELEMENTS} in all; this is no registration"
            )
        if self.first_name is None:
            self.first_name = _universal(name)
        self._builder.start(
            _universal(name), {_universal(key): value for key, value in attributes.items()}
        )

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._builder.end(_universal(name))

    def _refuse_doctype(self, *_: object) -> None:
        raise FormatError(
            f"{self._path}, line {self._expat.CurrentLineNumber}: declares a document type, which "
            "can hide entities; remove the DOCTYPE"
        )


def _universal(name: str) -> str:
    """ElementTree's spelling ``{uri}name`` of expat's ``uri}name``."""
    return "{" + name if "}" in name else name
