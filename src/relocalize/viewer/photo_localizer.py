"""The localizer of chosen photos: ready in a moment, never trained on the way."""

from __future__ import annotations

from collections.abc import Callable

from relocalize.errors import ViewerError
from relocalize.localization import LOCALIZERS, Localizer, fitted, localizer_type
from relocalize.localization.registry import TRAINED
from relocalize.localization.saving import read_description
from relocalize.localization.store import is_current
from relocalize.place import Place


def photo_localizer(place: Place, name: str) -> Callable[[], Localizer]:
    """What gives the localizer ``name`` when the first photo comes.

    One that is fitted in a moment is fitted then. One that is trained is loaded now, or refused:
    nobody who chooses a photo waits for a training that he did not ask for.

    Raises:
        ViewerError: there is no such localizer, or it would have to be trained first.
        LocalizerError: the trained one is damaged, or what it needs is not installed.
    """
    if name in LOCALIZERS and name not in TRAINED:
        return lambda: fitted(place, name)
    base_of = {stored: stored.rpartition(".")[0] or stored for stored in place.localizer_names}
    if name not in {*TRAINED, *base_of, *base_of.values()}:
        known = sorted({*LOCALIZERS, *base_of, *base_of.values()})
        raise ViewerError(f"there is no localizer {name!r}; there are {', '.join(known)}")
    found = [name] if name in base_of else [one for one, base in base_of.items() if base == name]
    if not found:
        raise ViewerError(
            f"{name} was not trained in {place.root}, which takes minutes: relocalize train "
            f"{place.root}; or localize photos with --localizer structure"
        )
    if len(found) > 1:
        raise ViewerError(
            f"{name} was trained on several splits; take one of {', '.join(sorted(found))}"
        )
    return _stored(place, found[0])


def _stored(place: Place, name: str) -> Callable[[], Localizer]:
    """The localizer in the folder ``name``, which it is called after its split too."""
    folder = place.localizer_dir(name)
    kind = str(read_description(folder).get("localizer"))
    if kind not in TRAINED:
        return lambda: fitted(place, name)
    base, _, of = name.rpartition(".")
    split = of if base and of in place.split_names else None
    if not is_current(place, folder, None if split is None else place.split(split)):
        again = f"--all-images --name {name}" if split is None else f"--split {of} --name {base}"
        raise ViewerError(
            f"{name} was trained on another map, or on other images; train it again: relocalize "
            f"train {place.root} {again}; or localize photos with --localizer structure"
        )
    localizer = localizer_type(kind).load(folder)
    return lambda: localizer
