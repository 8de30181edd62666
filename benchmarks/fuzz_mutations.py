"""Making valid files invalid: bytes, lines, numbers and structure, at random and repeatably."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

Mutation = Callable[[random.Random, bytes], bytes]

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_TOKEN = re.compile(rb"[-+.\w]+")
_DEEP = 20_000
# What a number or word of a file may turn into.
_TOKENS = (
    *("nan", "inf", "-inf", "1e308", "-1e308", "1e-320", "-1", "0", "1", "", "-", ".", "1e", "+"),
    *("99999999999999999999", "4294967296", "2147483648", "-9223372036854775809", "9" * 5000),
    *(
        "0x10",
        "1_000",
        "1,5",
        "1e5",
        "true",
        "null",
        "None",
        "[]",
        "{}",
        "%s",
        "..",
        "../../x",
        "/",
    ),
    *("C:\\a\\b", "é", "٣", "𝟛", "a b", "\u2028", "\x85", "\x1c", "\x0c", "\0", "\ufeff", "'", '"'),
    *("#", "a" * 5000, "<a>", "&amp;", "&x;", "a\nb", "a\r\nb", "\t", ";", ",,,,"),
)
_ENCODED = tuple(token.encode() for token in _TOKENS)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, 1e308, float("nan"), float("inf"), 10**400, 2**63, 2**31),
    *("", "nan", "a", "a\nb", "a\u2028b", "\0", "../../x", [], [[]], {}, {"": None}, [0] * 50),
)
_WORDS = (b"\xff" * 4, b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\xff" * 7 + b"\x7f")


def mutated(rng: random.Random, data: bytes, name: str) -> bytes:
    """``data`` with one to six things wrong, of the kinds that its file name suggests."""
    if data.startswith(_UTF_16) and rng.random() < 0.7:  # else its bytes are broken
        text = data.decode("utf-16", errors="replace").encode()
        return mutated(rng, text, name).decode(errors="replace").encode("utf-16")
    kinds = [*_BYTES]
    if not name.endswith((".bin", ".png", ".jpg")):
        kinds += _TEXT * 2
    if name.endswith(".json"):
        kinds += [_json] * 20
    if name.endswith((".xml", ".xmp")):
        kinds += [_xml] * 20
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        data = rng.choice(kinds)(rng, data)
    return data


# -- bytes -----------------------------------------------------------------------------------


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 2, 4, 8, 30, 200)))


def _flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _cut(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 2, 100)) + data[end:]


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 4, 16))) + data[at:]


def _overwrite(rng: random.Random, data: bytes) -> bytes:
    at, word = rng.randrange(len(data) + 1), rng.choice(_WORDS)
    return data[:at] + word + data[at + len(word) :]


def _empty(rng: random.Random, data: bytes) -> bytes:
    return rng.choice((b"", b"\n", b"\0", b" " * 100, b"\xef\xbb\xbf", b"\xff\xfe", data + data))


_BYTES: list[Mutation] = [_flip, _truncate, _cut, _repeat, _insert, _overwrite, _empty]


# -- lines and numbers -----------------------------------------------------------------------


def _lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    row, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    what = rng.randrange(6)
    if what == 0:
        del lines[row]
    elif what == 1:
        lines.insert(other, lines[row])
    elif what == 2:
        lines[row], lines[other] = lines[other], lines[row]
    elif what == 3:
        lines[row] = b" ".join([lines[row], lines[other]])
    elif what == 4:
        lines = [lines[row]] * 50
    else:
        lines.insert(row, b"")
    return b"\n".join(lines)


def _token(rng: random.Random, data: bytes) -> bytes:
    if len(data) > _DEEP:  # nested or repeated before: it has tens of thousands of tokens
        return _flip(rng, data)
    found = list(_TOKEN.finditer(data))
    for match in sorted(
        rng.sample(found, min(len(found), rng.choice((1, 1, 1, 2, 5)))),
        key=re.Match.start,
        reverse=True,
    ):
        new = rng.choice(found).group() if rng.random() < 0.05 else rng.choice(_ENCODED)
        data = data[: match.start()] + new + data[match.end() :]
    return data


def _spelling(rng: random.Random, data: bytes) -> bytes:
    text = data.decode("utf-8", errors="replace")
    what = rng.randrange(6)
    if what == 0:
        return text.encode("utf-16")
    if what == 1:
        return b"\xef\xbb\xbf" + data
    if what == 2:
        return data.replace(b"\n", b"\r\n")
    if what == 3:
        return data.replace(b",", b" ") if b"," in data else data.replace(b" ", b",")
    if what == 4:
        return data.replace(b".", b",")
    return text.swapcase().encode()


_TEXT: list[Mutation] = [_lines, _token, _token, _token, _spelling]


# -- structure -------------------------------------------------------------------------------


def _json(rng: random.Random, data: bytes) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _token(rng, data)
    places: list[tuple[Any, Any]] = []
    pending = [value] if isinstance(value, dict | list) else []
    while pending and len(places) < 2000:
        node = pending.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], dict | list):
                pending.append(node[key])
    if not places:
        return json.dumps(rng.choice(_VALUES[:-3])).encode()
    _alter(rng, places)
    text = json.dumps(value)
    if rng.random() < 0.02:
        hole = rng.choice(('"x"', "0", "null"))
        opened, closed = rng.choice((("[", "]"), ('{"a":', "}")))
        text = text.replace(hole, opened * _DEEP + "1" + closed * _DEEP, 1)
    if rng.random() < 0.05:
        text = text.replace("{", '{"a": 1, "a": 2,', 1)
    return text.encode("utf-8", errors="replace")


def _alter(rng: random.Random, places: list[tuple[Any, Any]]) -> None:
    """Change one value of some (container, key)."""
    node, key = rng.choice(places)
    what = rng.randrange(8)
    if what == 0:
        del node[key]
    elif what == 1:
        node[key] = [node[key]]
    elif what == 2:
        other, its_key = rng.choice(places)
        if its_key in other if isinstance(other, dict) else its_key < len(other):
            node[key] = json.loads(json.dumps(other[its_key]))
    elif what == 3 and isinstance(node, list):
        node.insert(key, node[key])
    elif what == 4 and isinstance(node, dict):
        node[rng.choice(("", "x", f"{key}2", "a\nb"))] = node.pop(key)
    else:
        node[key] = rng.choice(_VALUES)


def _xml(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.03:
        return _hostile_xml(rng, data)
    if b"<!DOCTYPE" in data or len(data) > _DEEP:  # what `_hostile_xml` made
        return _token(rng, data)
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        return _token(rng, data)
    _alter_element(rng, root)
    return ElementTree.tostring(root)


def _alter_element(rng: random.Random, root: ElementTree.Element) -> None:
    """Change one element somewhere."""
    elements = list(root.iter())
    node, other = rng.choice(elements), rng.choice(elements)
    word = rng.choice(_TOKENS)
    what = rng.randrange(9)
    if what == 0 and len(node):
        node.remove(rng.choice(list(node)))
    elif what == 1 and node is not root:
        other.append(copy.deepcopy(node))
    elif what == 2:
        node.tag, other.tag = other.tag, node.tag
    elif what == 3:
        node.clear()
    elif what == 4 and node.attrib:
        node.attrib[rng.choice(list(node.attrib))] = word
    elif what == 5 and node.attrib:
        del node.attrib[rng.choice(list(node.attrib))]
    elif what == 6:
        node.text = other.text
    elif what == 7 and node.text:
        words = node.text.split()
        if words:
            words[rng.randrange(len(words))] = word
        node.text = " ".join(words)
    else:
        node.text = word


def _hostile_xml(rng: random.Random, data: bytes) -> bytes:
    body = re.sub(rb"^\s*<\?xml.*?\?>", b"", data)
    laughs = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    what = rng.randrange(4)
    if what == 0:
        return f'<!DOCTYPE x [<!ENTITY a0 "ha">{laughs}]>'.encode() + body.replace(b">1", b">&a9;1")
    if what == 1:
        return b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + body
    if what == 2:
        return b"<a>" * _DEEP + body + b"</a>" * _DEEP
    return rng.choice((b'<?xml version="1.0" encoding="nonsense"?>', b"<!-- " * 9)) + body
