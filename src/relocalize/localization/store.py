"""Fitted localizers in a Place: loaded when current, fitted again when what they saw changed."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relocalize import progress
from relocalize.errors import LocalizerError
from relocalize.features.database import DATABASE
from relocalize.localization.localizer import Localizer
from relocalize.localization.registry import LOCALIZERS, TRAINED, kind_of, localizer_type
from relocalize.localization.saving import DESCRIPTION, read_description
from relocalize.place import Place, Split, atomic

_FITTED_ON = "fitted_on"  # key of localizer.json


def fitted(place: Place, name: str, split: Split | None = None) -> Localizer:
    """The localizer ``name`` of a Place, fitted now unless the stored one is current.

    Args:
        place: with a map.
        name: ``constant``, ``retrieval``, ``structure``, ``regressor``, or the name under which
            one was trained.
        split: fit on its train images alone; None uses every posed image, except that one which
            was trained on a split alone is taken as it is.

    Raises:
        LocalizerError: there is no such localizer, or the Place has too little to fit it.
        PlaceError: the Place has no map, or another process writes to it.
    """
    stored = _find(place, name, split)
    kind = localizer_type(stored.kind)
    current = _load_if_current(kind, stored.folder, fingerprints(place, stored.split))
    if current is not None:
        return current

    def fit() -> Localizer:
        return kind.fit_again(place, stored.split, stored.folder)

    return store(place, stored.folder, stored.split, fit)


def in_memory(place: Place, name: str) -> Localizer:
    """The localizer ``name`` of a Place, of which nothing on disk changes.

    The stored one where it is current; else it is fitted for this process alone. One that is
    trained is never trained on the way.

    Raises:
        LocalizerError: there is no such localizer, it is not trained on the map as it is, or the
            Place has too little to fit it.
        PlaceError: the Place has no map.
    """
    stored = _find(place, name, None, recover=False)
    kind = localizer_type(stored.kind)
    current = _load_if_current(kind, stored.folder, fingerprints(place, stored.split))
    if current is not None:
        return current
    if stored.kind in TRAINED:
        raise LocalizerError(
            f"{name} is not trained on the map and the images as they are; train it first: "
            f"relocalize train {place.root}{_again(stored)}; or take --localizer structure"
        )
    with _untouched(place) as copy:
        return kind.fit_again(copy, stored.split, stored.folder)


def folder_and_kind(place: Place, name: str, split: Split | None = None) -> tuple[Path, str]:
    """Where the localizer ``name`` of a Place is or will be, and of which kind it is.

    Raises:
        LocalizerError: there is no such localizer.
    """
    stored = _find(place, name, split, recover=False)
    return stored.folder, stored.kind


def _again(stored: _Stored) -> str:
    """What ``relocalize train`` needs to train it again."""
    name = stored.folder.name
    if stored.split is None:
        return f" --all-images --name {name}" if stored.folder.is_dir() else ""
    return f" --split {stored.split.name} --name {name.removesuffix(f'.{stored.split.name}')}"


@contextmanager
def _untouched(place: Place) -> Iterator[Place]:
    """The Place with its files, of which the database is a copy: COLMAP writes when it reads."""
    with tempfile.TemporaryDirectory(prefix="relocalize-") as folder:
        root = Path(folder)
        for path in place.root.iterdir():
            if path != place.map_dir:
                (root / path.name).symlink_to(path.resolve())
        (root / place.map_dir.name).mkdir()
        for path in place.map_dir.iterdir():
            linked = root / place.map_dir.name / path.name
            if path.name == DATABASE:
                shutil.copyfile(path, linked)
            else:
                linked.symlink_to(path.resolve())
        yield Place.open(root, recover=False)


def store(
    place: Place, folder: Path, split: Split | None, fit: Callable[[], Localizer]
) -> Localizer:
    """Fit a localizer and keep it in ``folder``, in place of what is there.

    Raises:
        LocalizerError: the Place has too little to fit it.
        PlaceError: the Place has no map, or another process writes to it.
    """
    origin = fingerprints(place, split)
    with place.lock():
        localizer = fit()
        with atomic.new_folder(folder) as aside:
            localizer.save(aside)
            description = read_description(aside)
            atomic.write_json(aside / DESCRIPTION, {**description, _FITTED_ON: origin})
        if localizer.work_folder is not None:
            shutil.rmtree(localizer.work_folder, ignore_errors=True)
    progress.say(f"fitted {folder.name} in {folder}")
    return localizer


def folder_of(place: Place, name: str, split: Split | None) -> Path:
    """Where the localizer ``name``, fitted on a split or on all images, is or will be."""
    return place.localizer_dir(name if split is None else f"{name}.{split.name}")


def is_current(place: Place, folder: Path, split: Split | None) -> bool:
    """Whether ``folder`` has a localizer that was fitted on what there is now."""
    try:
        return read_description(folder).get(_FITTED_ON) == fingerprints(place, split)
    except LocalizerError:
        return False


def trained_on(place: Place, split: Split) -> tuple[str, ...]:
    """Names of the trained localizers of a split that are ready to answer.

    One that was trained before the map or the split changed takes minutes to train again: it is
    left out, in one line.
    """
    ready = []
    for folder in map(place.localizer_dir, place.localizer_names):
        name, _, of = folder.name.rpartition(".")
        kind = _kind_in(folder)
        if of != split.name or kind is None or kind not in TRAINED:
            continue
        if not is_current(place, folder, split):
            progress.say(
                f"{name} is left out: it was trained on another map, or on other images; train it "
                f"again with: relocalize train {place.root} --split {split.name} --name {name}"
            )
            continue
        ready.append(name)
    return tuple(sorted(ready, key=lambda name: (name not in LOCALIZERS, name)))


@dataclass(frozen=True)
class _Stored:
    """Where a localizer is or will be, of which kind, and what it is fitted on."""

    folder: Path
    kind: str
    split: Split | None


def _find(place: Place, name: str, split: Split | None, *, recover: bool = True) -> _Stored:
    folder = folder_of(place, name, split)
    if recover:
        atomic.recover_folder(folder)
    kind = _kind_in(folder) or (name if name in LOCALIZERS else None)
    if kind is not None and (split is not None or name not in TRAINED or _kind_in(folder)):
        # A folder called by its whole name, such as "mine.blocks", says which split it is of.
        return _Stored(folder, kind, split or _split_of(place, folder))
    of_splits = [other for other in place.localizer_names if other.rpartition(".")[0] == name]
    if split is None and len(of_splits) == 1:
        return _find(place, of_splits[0], None, recover=recover)
    if split is None and of_splits:
        raise LocalizerError(
            f"{name!r} was trained on several splits; take one of {', '.join(of_splits)}"
        )
    if kind is not None:
        return _Stored(folder, kind, split)
    known = sorted({*LOCALIZERS, *place.localizer_names})
    on = f" --split {split.name}" if split is not None else ""
    raise LocalizerError(
        f"there is no localizer {name!r}; there are {known}; "
        f"train one with: relocalize train {place.root}{on} --name {name}"
    )


def _kind_in(folder: Path) -> str | None:
    if not (folder / DESCRIPTION).is_file():
        return None
    try:
        return kind_of(read_description(folder))
    except LocalizerError:
        return None


def _split_of(place: Place, folder: Path) -> Split | None:
    if not (folder / DESCRIPTION).is_file():
        return None
    try:
        fitted_on = read_description(folder).get(_FITTED_ON)
    except LocalizerError:
        return None
    name = fitted_on.get("split") if isinstance(fitted_on, dict) else None
    return place.split(name) if isinstance(name, str) else None


def _load_if_current(
    kind: type[Localizer], folder: Path, origin: dict[str, Any]
) -> Localizer | None:
    if not (folder / DESCRIPTION).is_file():
        return None
    try:
        if read_description(folder).get(_FITTED_ON) != origin:
            return None
        return kind.load(folder)
    except LocalizerError as error:
        # Damaged or of an older version: what it was made from is still there.
        progress.say(f"fitting again: {error}")
        return None


def fingerprints(place: Place, split: Split | None) -> dict[str, Any]:
    """What a localizer depends on: the map's files, the unit, the train images' names.

    Raises:
        PlaceError: the Place has no map.
    """
    names = "\n".join(sorted(split.train)) if split is not None else ""
    return {
        "map": place.map_digest(),
        "unit": place.unit,
        "split": None if split is None else split.name,
        "train": hashlib.sha256(names.encode()).hexdigest(),
    }
