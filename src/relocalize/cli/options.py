"""What commands share: their options as their verbs take them, and options that several have."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import tyro

from relocalize.plain import to_strict_json

Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]  # without a --no-flag beside it
LengthUnit = Annotated[Literal["metre", "map unit"] | None, tyro.conf.arg(metavar="UNIT")]
# Of each measured length: between what and what, and metres.
Lengths = Annotated[
    tuple[tuple[str, str, float], ...],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(metavar="A B METRES"),
]


@dataclass(frozen=True, kw_only=True)
class Printed:
    """A command that prints its outcome."""

    json: Flag = False
    """Print one JSON object instead of text; infinite and undefined numbers are null."""

    def show(self, facts: Any, shown: Any) -> int:
        """Print the facts as JSON where that was asked for, else what is ``shown``."""
        if self.json:
            print(json.dumps(to_strict_json(facts), indent=2))
        else:
            draw(shown)
        return 0


def draw(shown: Any) -> None:
    """Print text, or what rich draws."""
    if isinstance(shown, str):
        print(shown)
    else:
        from rich.console import Console  # noqa: PLC0415 - a tenth of a second

        Console(highlight=False, soft_wrap=False).print(shown)


def options(command: Any, *without: str) -> dict[str, Any]:
    """The fields of a command by name, which its verb calls alike; but ``json`` and some others."""
    names = {field.name for field in fields(command)} - {"json", *without}
    return {name: getattr(command, name) for name in names}
