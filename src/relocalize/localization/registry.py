"""All localizers by the name that users call them, each imported when it is first asked for.

Training needs torch, which takes seconds to import and may not be installed; answering does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from relocalize.errors import LocalizerError
from relocalize.localization.localizer import Localizer

_WHERE = {
    "constant": "constant.ConstantLocalizer",
    "retrieval": "retrieval.RetrievalLocalizer",
    "structure": "structure.StructureLocalizer",
    "regressor": "regressor.RegressorLocalizer",
}
# Fitting these takes minutes, and there may be several, each under a name of its own.
_FORMER = {"posenet": "regressor"}  # names in what version 0.1 stored
TRAINED = frozenset({"regressor"})


class _Localizers(Mapping[str, type[Localizer]]):
    def __getitem__(self, name: str) -> type[Localizer]:
        module, _, kind = _WHERE[name].partition(".")
        found: type[Localizer] = getattr(import_module(f"relocalize.localization.{module}"), kind)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_WHERE)

    def __len__(self) -> int:
        return len(_WHERE)


LOCALIZERS: Mapping[str, type[Localizer]] = _Localizers()


def localizer_type(name: str) -> type[Localizer]:
    """The localizer called ``name``.

    Raises:
        LocalizerError: there is none, or what it needs is not installed.
    """
    if name not in LOCALIZERS:
        raise LocalizerError(f"there is no localizer {name!r}; there are {sorted(LOCALIZERS)}")
    return LOCALIZERS[name]


def kind_of(description: Mapping[str, Any]) -> str | None:
    """The name of the localizer that a ``localizer.json`` is of, or None where it is of none."""
    name = description.get("localizer")
    name = _FORMER.get(name, name) if isinstance(name, str) else None
    return name if name in LOCALIZERS else None
