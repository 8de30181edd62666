"""What a stored evaluation depends on, so that it is made again only when that has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from relocalize.errors import PlaceError
from relocalize.evaluation.names import RESULTS, RESULTS_SCHEMA, rows_of
from relocalize.place import Place, Split
from relocalize.place.folder import read_json

_MAP_FILES = ("cameras.bin", "images.bin", "points3D.bin")


def fingerprint(place: Place, split: Split, localizers: Sequence[str], truth: Path | None) -> str:
    """Changes when the map, the split, a localizer fitted on it, the truth or the version does."""
    digest = hashlib.sha256()
    facts: list[Any] = [version("relocalize"), RESULTS_SCHEMA, asdict(split), place.unit]
    facts += rows_of(localizers)
    digest.update(json.dumps(facts).encode())
    files = [place.map_dir / name for name in _MAP_FILES]
    for name in rows_of(localizers):
        files += sorted(place.localizer_dir(f"{name}.{split.name}").glob("*"))
    if truth is not None:
        files += sorted(truth.iterdir()) if truth.is_dir() else [truth]
    for path in files:
        digest.update(path.name.encode())
        if path.is_file():
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def current_results(
    place: Place, split: Split, localizers: Sequence[str], truth: Path | None
) -> dict[str, Any] | None:
    """The stored results file when it is of just these inputs, else None."""
    try:
        results = read_json(place.report_dir(split.name) / RESULTS)
    except PlaceError:
        return None
    same = results.get("inputs") == fingerprint(place, split, localizers, truth)
    return results if same else None
