"""What commands share: their options as their verbs take them, and options that several have."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

import tyro

# Of each measured length: between what and what, and metres.
Lengths = Annotated[
    tuple[tuple[str, str, float], ...],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(metavar="A B METRES"),
]


def options(command: Any, *without: str) -> dict[str, Any]:
    """The fields of a command by name, which its verb calls alike; but ``json`` and some others."""
    names = {field.name for field in fields(command)} - {"json", *without}
    return {name: getattr(command, name) for name in names}
