"""Frozen settings as JSON and back, and with single fields replaced by their dotted name.

Knows any frozen dataclass whose fields are numbers, strings, booleans, choices (`Literal`), tuples
of these, other such dataclasses, or None.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from relocalize.errors import LocalizerError

Settings = TypeVar("Settings")
_NONE = "none"  # what is written for no value where a file has no null: TOML


def settings_to_json(settings: object) -> str:
    """``settings`` (a dataclass) as an indented JSON object."""
    return json.dumps(asdict(cast(Any, settings)), indent=2, allow_nan=False)


def settings_from_json(kind: type[Settings], text: str) -> Settings:
    """The settings that `settings_to_json` wrote; fields that are left out have their default.

    Raises:
        LocalizerError: no JSON object, an unknown field, or a value that the field cannot have.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # of digits, too
        raise LocalizerError(f"the settings are no JSON: {str(error)[:100]}") from error
    return cast(Settings, _built(kind, values, ""))


def with_fields(settings: Settings, values: Mapping[str, object]) -> Settings:
    """``settings`` with fields replaced, named with dots: ``{"optimizer.batch_size": 128}``.

    Where a field may be None, and is no string, ``"none"`` is None too.

    Raises:
        LocalizerError: there is no such field, or it cannot have the value.
    """
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *outer, last = name.split(".")
        branch = tree
        for part in outer:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise LocalizerError(f"setting {name[:80]!r}: {part} is given as a whole too")
        branch[last] = _Leaf(value)
    return cast(Settings, _replaced(settings, tree, ""))


@dataclass(frozen=True)
class _Leaf:
    """A value that a field is given, unlike the fields of a nested one."""

    value: object


def _replaced(settings: Any, tree: Mapping[str, Any], where: str) -> object:
    """All fields of one value at once: some are only right together."""
    hints = get_type_hints(type(settings))
    new: dict[str, object] = {}
    for part, change in tree.items():
        name = where + part
        if part not in hints:
            raise LocalizerError(_no_field(name, hints))
        if isinstance(change, _Leaf):
            new[part] = _value(hints[part], change.value, name)
        elif is_dataclass(inner := getattr(settings, part)):
            new[part] = _replaced(inner, change, f"{name}.")
        else:
            raise LocalizerError(f"setting {name[:80]!r}: {part} has no fields of its own")
    return replace(settings, **new)


def _built(kind: type[Any], values: object, where: str) -> object:
    if not isinstance(values, dict):
        raise LocalizerError(f"settings {where or 'file'}: {_shown(values)}; want an object")
    hints = get_type_hints(kind)
    for name in values:
        if name not in hints:
            raise LocalizerError(_no_field(f"{where}{name}", hints))
    return kind(
        **{name: _value(hints[name], value, where + name) for name, value in values.items()}
    )


def _value(hint: Any, value: object, name: str) -> object:
    options = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
    if type(None) in options and (value is None or (value == _NONE and str not in options)):
        return None
    (hint,) = (option for option in options if option is not type(None))
    if is_dataclass(hint):
        return value if type(value) is hint else _built(cast(Any, hint), value, f"{name}.")
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise LocalizerError(
            f"setting {name} is {_shown(value)}; want {' | '.join(map(str, get_args(hint)))}"
        )
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        kinds = get_args(hint)
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            kinds = (kinds[0],) * len(value)
        if len(kinds) == len(value):
            return tuple(_value(k, v, name) for k, v in zip(kinds, value, strict=True))
    if hint is float and type(value) in {int, float} and abs(cast(float, value)) < math.inf:
        with suppress(OverflowError):  # an integer of hundreds of digits
            return float(cast(float, value))
    if hint in {int, str, bool} and type(value) is hint:
        return value
    wanted = getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
    raise LocalizerError(f"setting {name} is {_shown(value)}; want {wanted}")


def _no_field(name: str, hints: Mapping[str, object]) -> str:
    return f"no setting {name[:80]!r}; there are {', '.join(hints)}"


def _shown(value: object) -> str:
    return repr(value)[:80]


def field_names(kind: type[Any], prefix: str = "") -> tuple[str, ...]:
    """Every field's dotted name, those of nested settings included, in order."""
    hints = get_type_hints(kind)
    names: list[str] = []
    for field in fields(kind):
        hint = hints[field.name]
        if is_dataclass(hint):
            names.extend(field_names(cast(Any, hint), f"{prefix}{field.name}."))
        else:
            names.append(prefix + field.name)
    return tuple(names)
