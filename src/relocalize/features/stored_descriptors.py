"""Descriptors of a map's images, read when asked for: a long walk's do not fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from relocalize.features.database import FeatureDatabase


class StoredDescriptors(Sequence[NDArray[np.uint8]]):
    """The descriptors [K, 128] of each of the images ``names``, from an open database."""

    def __init__(self, database: FeatureDatabase, names: Sequence[str]) -> None:
        self._database = database
        self._names = tuple(names)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> StoredDescriptors: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | StoredDescriptors:
        if isinstance(index, slice):
            return StoredDescriptors(self._database, self._names[index])
        return self._database.features(self._names[index]).descriptors
