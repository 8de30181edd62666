"""Which listed image name means which image, where the two are not spelled alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

# The TUM RGB-D benchmark's own tool (associate.py, --max_difference) pairs times this far apart.
LONGEST_GAP_S = 0.02
_PAIRS_TRIED = 64  # poses on either side of an image's time: 20 ms of a 3 kHz tracker


@dataclass(frozen=True)
class NameMatch:
    """The outcome of `match_names`.

    Attributes:
        present_of: the image's name by the listed name, in the listed order.
        ambiguous: listed names that could mean several images, or share one with another.
        absent: listed names that no image resembles.
        why: the reason by image that resembles no listed name, where there is more to say.
    """

    present_of: dict[str, str]
    ambiguous: tuple[str, ...]
    absent: tuple[str, ...]
    why: dict[str, str] = field(default_factory=dict)


def match_names(listed: Iterable[str], present: Iterable[str]) -> NameMatch:
    """Match listed names to present ones: exactly, else by less and less of the name.

    In turn: the whole path, the file name, the folder and stem, the stem. A stem ends at the
    first dot and its case does not count: ``frame-000000.color.png`` is ``frame-000000.jpg``.
    A shortened name counts only where it is unique on both sides.
    """
    listed, present = list(dict.fromkeys(listed)), list(dict.fromkeys(present))
    found: dict[str, str] = {}
    unclear: set[str] = set()
    taken: set[str] = set()
    for key_of in _KEYS:
        listed_count = Counter(key_of(name) for name in listed)
        by_key: dict[str, list[str]] = {}
        for name in present:
            by_key.setdefault(key_of(name), []).append(name)
        for name in listed:
            key = key_of(name)
            candidates = by_key.get(key, [])
            if name in found or not candidates:
                continue
            if len(candidates) > 1 or listed_count[key] > 1:
                unclear.add(name)
            elif candidates[0] not in taken:
                found[name] = candidates[0]
                taken.add(candidates[0])
    return NameMatch(
        {name: found[name] for name in listed if name in found},
        tuple(name for name in listed if name in unclear and name not in found),
        tuple(name for name in listed if name not in found and name not in unclear),
    )


def _path(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _file_name(name: str) -> str:
    return PurePosixPath(_path(name)).name


def _stem(name: str) -> str:
    file_name = _file_name(name)
    return (file_name.split(".", 1)[0] or file_name).casefold()


def _folder_and_stem(name: str) -> str:
    return f"{PurePosixPath(_path(name)).parent.name.casefold()}/{_stem(name)}"


_KEYS: tuple[Callable[[str], str], ...] = (_path, _file_name, _folder_and_stem, _stem)


def match_times(times: Mapping[str, float], present: Iterable[str]) -> NameMatch:
    """Match poses that have a time and no image name to images whose name is their time.

    First an image whose name without its ending is the pose's timestamp to the letter, then the
    pose nearest in time within `LONGEST_GAP_S`; no pose is used twice.

    Args:
        times: seconds by the pose's name, which is its timestamp.
        present: the images' names.
    """
    present = list(dict.fromkeys(present))
    named: dict[str, list[str]] = {}
    for name in present:
        named.setdefault(PurePosixPath(name).stem, []).append(name)
    found = {pose: named[pose][0] for pose in times if len(named.get(pose, ())) == 1}
    taken = set(found.values())
    seconds = {
        name: at
        for stem, names in named.items()
        for name in names
        if name not in taken and len(names) == 1 and (at := seconds_of(stem)) is not None
    }
    left = {pose: at for pose, at in times.items() if pose not in found}
    pose_of, gap_of = nearest_in_time(left, seconds)
    found |= {pose: name for name, pose in pose_of.items()}
    why = {}
    for name in present:
        stem = PurePosixPath(name).stem
        if len(named[stem]) > 1:
            why[name] = f"{len(named[stem])} images are named {stem}"
        elif name in gap_of and name not in pose_of:
            why[name] = f"no free pose within {LONGEST_GAP_S} s; nearest {gap_of[name]:.3g} s away"
        elif name not in taken and name not in seconds:
            why[name] = "the name is no time in seconds (1305031102.1753) or nanoseconds"
    return NameMatch(
        {pose: found[pose] for pose in times if pose in found},
        tuple(pose for pose in times if len(named.get(pose, ())) > 1),
        tuple(pose for pose in times if pose not in found and len(named.get(pose, ())) < 2),
        why,
    )


def nearest_in_time(
    times: Mapping[str, float], wanted: Mapping[str, float]
) -> tuple[dict[str, str], dict[str, float]]:
    """The pose of each image: the pairs nearest in time first, each pose and image once.

    Args:
        times: seconds by pose.
        wanted: seconds by image.

    Returns:
        The pose by image, where one is free within `LONGEST_GAP_S`, in the images' order; and
        the gap in seconds to the nearest pose, of every image.
    """
    if not times or not wanted:
        return {}, dict.fromkeys(wanted, float("inf"))
    poses = sorted(times, key=times.__getitem__)
    at = np.array([times[pose] for pose in poses])
    pairs: list[tuple[float, int, str]] = []
    gap_of: dict[str, float] = {}
    for image, seconds in wanted.items():
        middle = int(np.searchsorted(at, seconds))
        rows = range(max(0, middle - _PAIRS_TRIED), min(len(at), middle + _PAIRS_TRIED))
        gaps = np.abs(at[rows.start : rows.stop] - seconds)
        gap_of[image] = float(gaps.min())
        pairs += [
            (float(gap), row, image)
            for gap, row in zip(gaps, rows, strict=True)
            if gap <= LONGEST_GAP_S
        ]
    found: dict[str, str] = {}
    used: set[int] = set()
    for _, row, image in sorted(pairs):
        if image not in found and row not in used:
            found[image] = poses[row]
            used.add(row)
    return {image: found[image] for image in wanted if image in found}, gap_of


def seconds_of(timestamp: str) -> float | None:
    """Seconds of a timestamp: seconds with a fraction or since 1970, or nanoseconds as in EuRoC.

    None is said of other text, and of short whole numbers, which count frames and not seconds.
    """
    if re.fullmatch(r"\d{1,12}\.\d{1,12}", timestamp):
        return float(timestamp)
    if re.fullmatch(r"\d{16,20}", timestamp):
        return int(timestamp) * 1e-9
    return float(timestamp) if re.fullmatch(r"\d{10}", timestamp) else None


def match_numbers(listed: Iterable[str], present: Iterable[str]) -> NameMatch:
    """Match listed names that are numbers to the number that an image's name ends in.

    For files that have rows and no image names: row 12 is ``000012`` and ``frame-000012.jpg``.
    """
    listed, present = list(dict.fromkeys(listed)), list(dict.fromkeys(present))
    numbered: dict[int, list[str]] = {}
    for name in present:
        digits = re.search(r"\d{1,18}$", _stem(name))
        if digits:
            numbered.setdefault(int(digits.group()), []).append(name)
    candidates = {name: numbered.get(int(name), []) for name in listed}
    return NameMatch(
        {name: found[0] for name, found in candidates.items() if len(found) == 1},
        tuple(name for name, found in candidates.items() if len(found) > 1),
        tuple(name for name, found in candidates.items() if not found),
    )
