"""All localizers by the name that users call them."""

from __future__ import annotations

from relocalize.errors import LocalizerError
from relocalize.localizers.constant import ConstantLocalizer
from relocalize.localizers.localizer import Localizer
from relocalize.localizers.retrieval import RetrievalLocalizer
from relocalize.localizers.structure import StructureLocalizer

LOCALIZERS: dict[str, type[Localizer]] = {
    kind.name: kind for kind in (ConstantLocalizer, RetrievalLocalizer, StructureLocalizer)
}


def localizer_type(name: str) -> type[Localizer]:
    """The localizer called ``name``.

    Raises:
        LocalizerError: there is none.
    """
    if name not in LOCALIZERS:
        raise LocalizerError(f"there is no localizer {name!r}; there are {sorted(LOCALIZERS)}")
    return LOCALIZERS[name]
