"""What is to be compared: a grid over settings and seeds, as a TOML file says it.

The format is described in docs/guides/train.md.
"""

from __future__ import annotations

import difflib
import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from relocalize.errors import ExperimentError, LocalizerError, PlaceError
from relocalize.place.folder import checked_name
from relocalize.regression.presets import PRESETS, preset
from relocalize.regression.settings import TrainSettings, field_names, with_fields

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MAX_BYTES = 1 << 20  # of a sweep file; a large one has a few thousand
_MOST_RUNS = 10_000
_MOST_LETTERS = 40  # of a name, which begins the names of localizers
_PRESET = "preset"
_NONE = "none"  # no value, where a setting may have none
# Settings that a sweep says elsewhere, and where.
_ELSEWHERE = {"seed": "seeds = [0, 1]", "minutes": "minutes = 10"}
_SUFFIX = ".toml"

# What a field of a sweep is, and how to say it.
_WANTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (
        lambda name: isinstance(name, str) and len(name) <= _MOST_LETTERS,
        f"a text of at most {_MOST_LETTERS} letters",
    ),
    "about": (lambda about: isinstance(about, str), "a text"),
    _PRESET: (
        lambda name: isinstance(name, str),
        "one of them, and several as preset = [...] below [grid]",
    ),
    "settings": (lambda table: isinstance(table, dict), "a table"),
    "grid": (lambda table: isinstance(table, dict), "a table"),
    "seeds": (
        lambda seeds: (
            isinstance(seeds, tuple)
            and all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
            and len(seeds) == len(set(seeds)) > 0
        ),
        "a list of different whole numbers, as in seeds = [0, 1, 2]",
    ),
    "minutes": (
        lambda minutes: (
            minutes is None or (type(minutes) in {int, float} and 0 < minutes < math.inf)
        ),
        "a number above 0",
    ),
    "split": (lambda name: name is None or isinstance(name, str), "a split's name"),
}

# The sweeps that come with relocalize, by name.
SHIPPED = {path.stem: path for path in sorted(Path(__file__).parent.glob(f"*{_SUFFIX}"))}


@dataclass(frozen=True, eq=False)
class Configuration:
    """One point of the grid."""

    values: Mapping[str, object]  # of the grid's axes, by their names
    settings: TrainSettings  # of the training, whatever the seed


@dataclass(frozen=True)
class Sweep:
    """A grid of trainings; made right by `find_sweep`, and by `with_changes` from another."""

    name: str  # of the folder in ``experiments/``
    about: str = ""  # what it is for, for people
    preset: str = "default"  # what the settings begin as
    settings: Mapping[str, object] = field(default_factory=dict)  # fixed ones, by dotted name
    # values to try, by dotted name of a setting; ``preset`` may be one of them
    grid: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)  # every configuration is trained with each
    minutes: float | None = None  # that each training may take; None leaves that to preset and grid
    split: str | None = None  # whose train images are trained on; None takes the Place's only one

    def __post_init__(self) -> None:
        for name, (is_right, wanted) in _WANTED.items():
            value = getattr(self, name)
            if not is_right(value):
                raise _refused(name, list(value) if isinstance(value, tuple) else value, wanted)
        checked_name(self.name, "sweep")
        both = sorted(self.settings.keys() & self.grid.keys())
        if both:
            raise ExperimentError(f"{both[0]} is in [settings] and in [grid]; keep one of them")
        for name in (*self.settings, *self.grid):
            _check_setting(name)
        if _PRESET in self.settings:
            raise ExperimentError('preset is in [settings]; want it above, as preset = "default"')
        for name, values in self.grid.items():
            if not isinstance(values, tuple):
                wanted = "a list of values to try, or put it below [settings]"
                raise _refused(f"{name} in [grid]", values, wanted)
            if not values:
                raise _refused(f"{name} in [grid]", [], "at least one value")
        runs = math.prod(len(values) for values in self.grid.values()) * len(self.seeds)
        if runs > _MOST_RUNS:
            raise ExperimentError(f"the grid has {runs} runs; want at most {_MOST_RUNS}")
        labels: dict[TrainSettings, str] = {}
        for point in self.configurations:
            label = self.label(point.values)
            if point.settings in labels:
                raise ExperimentError(
                    f"the grid has the same settings twice: ({labels[point.settings]}) and "
                    f"({label}); leave one of the values out"
                )
            labels[point.settings] = label

    @property
    def configurations(self) -> list[Configuration]:
        """All points of the grid, the last axis changing fastest.

        Raises:
            LocalizerError: a setting cannot have a value.
        """
        found = []
        for values in itertools.product(*self.grid.values()):
            point = dict(zip(self.grid, values, strict=True))
            changes = {**self.settings, **point}
            begun_as = changes.pop(_PRESET, self.preset)
            if not isinstance(begun_as, str):
                raise _refused(_PRESET, begun_as, f"one of {', '.join(PRESETS)}")
            begun = preset(begun_as)
            if self.minutes is not None:
                begun = replace(begun, minutes=float(self.minutes))
            found.append(Configuration(point, with_fields(begun, changes)))
        return found

    @property
    def heads(self) -> list[str]:
        """A short name of each axis: the last part of its name, where that says which it is."""
        parts = [axis.rpartition(".") for axis in self.grid]
        # What backbone.name and head.kind are is said by what stands before.
        short = [before if last in {"name", "kind"} else last for before, _, last in parts]
        return [
            (one if one and short.count(one) == 1 else axis).replace("_", " ")
            for axis, one in zip(self.grid, short, strict=True)
        ]

    def label(self, values: Mapping[str, object]) -> str:
        """A configuration's values for people; a word says what it is, a number does not."""
        words = [
            value if isinstance(value, str) and value != _NONE else f"{head} {shown(value)}"
            for head, value in zip(self.heads, values.values(), strict=True)
        ]
        return ", ".join(words) or self.preset

    def with_changes(
        self,
        overrides: Mapping[str, object] | None = None,
        *,
        minutes: float | None = None,
        seeds: Sequence[int] = (),
        split: str | None = None,
    ) -> Sweep:
        """The same with other values; ``overrides`` fix settings, whatever sweep and grid say.

        Raises:
            ExperimentError: there is no such setting, or it cannot have the value.
        """
        changes = dict(overrides or {})
        fixed = {**self.settings, **changes}
        fixed.pop(_PRESET, None)
        return _built(
            f"sweep {self.name}",
            name=self.name,
            about=self.about,
            preset=changes.get(_PRESET, self.preset),
            settings=fixed,
            grid={name: values for name, values in self.grid.items() if name not in changes},
            seeds=tuple(seeds) or self.seeds,
            minutes=self.minutes if minutes is None else minutes,
            split=split or self.split,
        )


def find_sweep(given: str | Path) -> Sweep:
    """The sweep of a file, or one that comes with relocalize, by its name.

    Raises:
        ExperimentError: there is none, or it is no sweep; one line that names what is wrong.
    """
    path = Path(given)
    if not path.exists() and path.suffix != _SUFFIX:
        if str(given) not in SHIPPED:
            raise ExperimentError(
                f"{given}: no such file, and no sweep of relocalize ({', '.join(SHIPPED)}); "
                "give a .toml file as docs/guides/train.md describes it"
            )
        path = SHIPPED[str(given)]
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ExperimentError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise ExperimentError(f"{path} is no sweep: it has more than {_MAX_BYTES} bytes")
    try:
        values = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        what = " ".join(str(error).split())[:120]
        raise ExperimentError(f"{path} is no TOML file: {what}") from error
    known = [one.name for one in fields(Sweep)]
    for name in values:
        if name not in known:
            raise ExperimentError(
                f"{path}: no key {name[:80]!r}{_meant(name, known)}; there are {', '.join(known)}, "
                "and a setting belongs below [settings] or [grid]"
            )
    told = {"name": path.stem, "settings": {}, "grid": {}} | values
    told |= {key: _flat(told[key]) for key in ("settings", "grid")}
    if isinstance(told["grid"], dict):
        told["grid"] = {name: _as_tuple(listed) for name, listed in told["grid"].items()}
    if "seeds" in told:
        told["seeds"] = _as_tuple(told["seeds"])
    return _built(str(path), **told)


def read_override(text: str) -> tuple[str, object]:
    """``NAME=VALUE``, where the value is TOML, or a word that needs no quotes.

    Raises:
        ExperimentError: it is no such thing.
    """
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not (name and equals and value):
        raise ExperimentError(f"{text[:80]!r} sets nothing; want NAME=VALUE")
    try:
        read = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        return name, value
    return name, read["value"] if len(read) == 1 else value


def shown(value: object) -> str:
    """A value of the grid for people."""
    if isinstance(value, list | tuple):
        return "[" + " ".join(shown(one) for one in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _built(where: str, **values: Any) -> Sweep:
    try:
        return Sweep(**values)
    except (ExperimentError, LocalizerError, PlaceError) as error:
        raise ExperimentError(f"{where}: {error}") from error


def _flat(value: Any, prefix: str = "") -> Any:
    """Tables within a table as dotted names; TOML writes ``a.b = 1`` as the one or the other."""
    if not isinstance(value, dict):
        return value if not prefix else {prefix: value}
    flat: dict[str, Any] = {}
    for name, one in value.items():
        flat |= _flat(one, f"{prefix}.{name}".lstrip("."))
    return flat


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _check_setting(name: str) -> None:
    if name in _ELSEWHERE:
        raise ExperimentError(f"{name} is no setting of a grid; want {_ELSEWHERE[name]} above it")
    names = field_names(TrainSettings)
    if name not in names:
        raise ExperimentError(
            f"no setting {name[:80]!r}{_meant(name, names)}; "
            "`relocalize train --help` lists them all"
        )


def _meant(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _refused(name: str, value: object, wanted: str) -> ExperimentError:
    return ExperimentError(f"{name} is {repr(value)[:80]}; want {wanted}")
