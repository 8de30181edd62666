"""Reading XML files of strangers: bounded, without entities, with errors of one line.

Python's parser expands entities (a few hundred bytes can become gigabytes, "billion laughs") and
nests without a limit; so a document type, the only place where entities can be declared, is
refused, and so is what nests or counts beyond anything a registration needs.
"""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

from relocalize.errors import FormatError
from relocalize.formats.text import MAX_BYTES, check_file, one_line, shortened

# Metashape writes about 2 kB and 20 elements per camera; this is room for 100,000 cameras.
_MAX_ELEMENTS = 2_000_000
_MAX_DEPTH = 64  # registrations nest less than ten deep
_CHUNK = 1 << 16


def read_xml(path: Path, *, max_bytes: int = MAX_BYTES) -> ElementTree.Element:
    """The root element of an XML file; names of other namespaces are ``{uri}name``.

    Raises:
        FormatError: it is missing, a folder, too large, no XML, declares a document type, or
            nests deeper than 64 elements.
    """
    parser = ElementTree.XMLParser(target=_Bounded(path))
    try:
        check_file(path, "an XML file", max_bytes)
        with path.open("rb") as file:
            for chunk in iter(lambda: file.read(_CHUNK), b""):
                parser.feed(chunk)
        root: ElementTree.Element = parser.close()
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from error
    except ElementTree.ParseError as error:
        raise FormatError(f"{path}, line {error.position[0]}: no XML: {error}") from None
    except (ValueError, LookupError) as error:  # an encoding that Python does not know
        raise FormatError(f"{path} is no XML: {one_line(str(error))}") from None
    return root


def root_name(path: Path, *, first_bytes: int = 4096) -> str | None:
    """The name of the root element, from the file's first bytes; None where there is none.

    Never raises, and reads no more than ``first_bytes``: it is for telling formats apart.
    """
    target = _Bounded(path)
    refusals = (OSError, FormatError, ElementTree.ParseError, ValueError, LookupError)
    with suppress(*refusals), path.open("rb") as file:
        ElementTree.XMLParser(target=target).feed(file.read(first_bytes))
    return target.root


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
    shown = shortened(" ".join(words))
    if len(words) != count:
        raise FormatError(f"{what} is {shown!r}; want {count} number{'s' if count > 1 else ''}")
    try:
        values = tuple(map(float, words))
    except ValueError:
        raise FormatError(f"{what} is {shown!r}, which is no number") from None
    if not all(map(math.isfinite, values)):
        raise FormatError(f"{what} is {shown!r}, which is not finite")
    return values


class _Bounded(ElementTree.TreeBuilder):
    """Builds elements as far as the limits allow."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.root: str | None = None
        self._path = path
        self._depth = self._elements = 0

    def start(self, tag: str, attrs: dict[str, str]) -> ElementTree.Element:
        self.root = self.root or tag
        self._depth += 1
        self._elements += 1
        if self._depth > _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise FormatError(
                f"{self._path}: more than {_MAX_DEPTH} elements deep or {_MAX_ELEMENTS} in all; "
                "this is no registration"
            )
        return super().start(tag, attrs)

    def end(self, tag: str) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)

    def doctype(self, *_: object) -> None:
        raise FormatError(
            f"{self._path}: declares a document type, which can hide entities; remove the DOCTYPE"
        )
