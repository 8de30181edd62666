"""Which listed image name means which image, where the two are not spelled alike."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import PurePosixPath
from urllib.parse import unquote

import numpy as np

# The TUM RGB-D benchmark's own tool (associate.py, --max_difference) pairs times this far apart.
LONGEST_GAP_S = 0.02
_PAIRS_TRIED = 64  # poses on either side of an image's time: 20 ms of a 3 kHz tracker
# Endings that name a kind of file; anything else after a dot belongs to the name.
_IMAGE_ENDINGS = (
    r"jpe?g|png|tiff?|webp|bmp|heic|heif|avif|gif|jp2|exr|ppm|pgm|"
    r"dng|cr2|cr3|nef|arw|raf|orf|rw2|pef|srw|xmp"
)
_ENDING = re.compile(rf"(?:\.color)?(?:\.(?:{_IMAGE_ENDINGS}))?$", re.IGNORECASE)


@dataclass(frozen=True)
class NameMatch:
    """The outcome of `match_names`."""

    present_of: dict[str, str]  # the image's name by the listed name, in the listed order
    # by listed name that could mean several images, or shares one with another: a line with the
    # candidates
    ambiguous: dict[str, str]
    absent: tuple[str, ...]  # listed names that no image resembles
    # the reason by image that resembles no listed name, where there is more to say
    why: dict[str, str] = field(default_factory=dict)


def match_names(
    listed: Iterable[str], present: Iterable[str], *, below: str | PurePosixPath = ""
) -> NameMatch:
    """Match listed names to present ones: exactly, else by less and less of the path.

    In turn: the whole path; the tail of the path, the longest first, down to the file name; the
    same once more regardless of case and with a URL's ``%20`` as a blank; and without known
    endings, so that ``walk.0001`` and ``WALK.0001.JPG`` are ``walk.0001.jpg``, and
    ``frame-000000.color.png`` is ``frame-000000.jpg``. Letters are compared as Unicode's NFC. A
    tail counts only where it is one name's on both sides. Names of the folder that the present
    images are ``below`` count as the front of their paths.
    """
    listed, present = list(dict.fromkeys(listed)), list(dict.fromkeys(present))
    found = _whole_paths(listed, present)
    unclear: dict[str, str] = {}
    contested: set[str] = set()
    front = _parts(str(below)) if str(below) else ()
    for of_parts in (tuple, _folded, _without_ending):
        taken = {*found.values(), *contested}
        by_name: dict[str, tuple[dict[str, Parts], dict[str, Parts]]] = {}
        for name in (one for one in listed if one not in found and one not in unclear):
            parts = of_parts(_parts(name))
            by_name.setdefault(parts[-1], ({}, {}))[0][name] = parts
        for name in (one for one in present if one not in taken):
            parts = of_parts((*front, *_parts(name)))
            by_name.setdefault(parts[-1], ({}, {}))[1][name] = parts
        for wanted, there in by_name.values():
            _match_tails(wanted, there, found, unclear, contested)
    return NameMatch(
        {name: found[name] for name in listed if name in found},
        {name: unclear[name] for name in listed if name in unclear},
        tuple(name for name in listed if name not in found and name not in unclear),
    )


def _whole_paths(listed: Sequence[str], present: Sequence[str]) -> dict[str, str]:
    there = set(present)
    found = {name: name for name in listed if name in there}  # to the letter, before any other
    by_path: dict[Parts, list[str]] = {}
    for name in there.difference(found):
        by_path.setdefault(_parts(name), []).append(name)
    for name in listed:
        candidates = by_path.get(_parts(name), [])
        if name not in found and len(candidates) == 1:
            found[name] = candidates[0]
            candidates.clear()
    return found


Parts = tuple[str, ...]


def _match_tails(
    wanted: dict[str, Parts],
    there: dict[str, Parts],
    found: dict[str, str],
    unclear: dict[str, str],
    contested: set[str],
) -> None:
    """Pair listed names and images of one file name by how much of their paths agrees."""
    common = {
        (name, image): _common_tail(parts, theirs)
        for name, parts in wanted.items()
        for image, theirs in there.items()
    }
    for length in sorted(set(common.values()), reverse=True):
        pairs = [pair for pair, agreed in common.items() if agreed == length]
        images_of: dict[str, list[str]] = {}
        names_of: dict[str, list[str]] = {}
        for name, image in pairs:
            if name in wanted and image in there:
                images_of.setdefault(name, []).append(image)
                names_of.setdefault(image, []).append(name)
        for name, images in images_of.items():
            rivals = names_of[images[0]]
            if len(images) > 1:
                unclear[name] = f"{name!r} could be {_or(images)}"
                contested |= set(images)
            elif len(rivals) > 1:
                unclear[name] = f"{_or(rivals, 'and')} could both be {images[0]!r}"
                contested.add(images[0])
            else:
                found[name] = images[0]
        for name in images_of:
            del wanted[name]
        for image in names_of:
            del there[image]


def _or(names: Sequence[str], word: str = "or") -> str:
    more = f" (and {len(names) - 2} more)" if len(names) > 2 else ""
    return f"{names[0]!r} {word} {names[1]!r}{more}"


def _common_tail(first: Parts, second: Parts) -> int:
    pairs = zip(reversed(first), reversed(second), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _parts(name: str) -> Parts:
    """The folders and the file name of a path, composed as Unicode's NFC."""
    path = unicodedata.normalize("NFC", name.replace("\\", "/"))
    return tuple(part for part in path.split("/") if part not in {"", "."}) or (name,)


def _folded(parts: Parts) -> Parts:
    return tuple(unicodedata.normalize("NFC", unquote(part).casefold()) for part in parts)


def _without_ending(parts: Parts) -> Parts:
    return _folded((*parts[:-1], stem(parts[-1])))


def stem(name: str) -> str:
    """The file name without the endings that name a kind of image: ``walk.0001``."""
    file_name = _parts(name)[-1]
    return _ENDING.sub("", file_name, count=1) or file_name


def match_times(times: Mapping[str, float], present: Iterable[str]) -> NameMatch:
    """Match poses that have a time and no image name to images whose name is their time.

    First an image whose name without its ending is the pose's timestamp to the letter, then the
    pose nearest in time within `LONGEST_GAP_S`; no pose is used twice. ``times`` are seconds by
    the pose's name, which is its timestamp.
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
    twice = {at for at, images in Counter(seconds.values()).items() if images > 1}
    # Of two cameras, such as left and right, one would get the other's pose.
    of_two = {name for name, at in seconds.items() if at in twice}
    seconds = {name: at for name, at in seconds.items() if name not in of_two}
    left = {pose: at for pose, at in times.items() if pose not in found}
    pose_of, gap_of = nearest_in_time(left, seconds)
    found |= {pose: name for name, pose in pose_of.items()}
    why = {}
    for name in present:
        stem = PurePosixPath(name).stem
        if len(named[stem]) > 1:
            why[name] = f"{len(named[stem])} images are named {stem}"
        elif name in of_two:
            why[name] = "another image has the same time"
        elif name in gap_of and name not in pose_of:
            why[name] = f"no free pose within {LONGEST_GAP_S} s; nearest {gap_of[name]:.3g} s away"
        elif name not in taken and name not in seconds:
            why[name] = (
                "the name is no time in seconds (1305031102.1753) or nanoseconds; name images by "
                "the times of their poses"
            )
    return NameMatch(
        {pose: found[pose] for pose in times if pose in found},
        {
            pose: f"{pose!r} could be {_or(images)}"
            for pose in times
            if len(images := named.get(pose, [])) > 1
        },
        tuple(pose for pose in times if pose not in found and len(named.get(pose, ())) < 2),
        why,
    )


def nearest_in_time(
    times: Mapping[str, float], wanted: Mapping[str, float]
) -> tuple[dict[str, str], dict[str, float]]:
    """The pose of each image: the pairs nearest in time first, each pose and image once.

    Of seconds by pose, and those ``wanted`` by image: the pose by image, where one is free within
    `LONGEST_GAP_S`, in the images' order; and of every image the seconds to the nearest pose.
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
    """Seconds of a timestamp, or of an image's name without its ending that is one.

    Seconds with a fraction; whole seconds, milliseconds, microseconds and nanoseconds since 1970,
    which have 10, 13, 16 and 19 digits, or another count of nanoseconds (EuRoC); ROS's seconds and
    nanoseconds, parted by a dash or underscore. What is before one of these last is ignored:
    ``left_1305031102.1753``. None is said of other text, and of short whole numbers, which count
    frames and not seconds.
    """
    if re.fullmatch(r"\d{1,12}\.\d{1,12}", timestamp):
        return float(timestamp)
    if re.fullmatch(r"\d{10}|\d{13}|\d{16,20}", timestamp):
        return int(timestamp) * {10: 1.0, 13: 1e-3, 16: 1e-6}.get(len(timestamp), 1e-9)
    named = re.search(r"(?<!\d)(\d{10})(?:\.(\d{1,9})|[-_]?(\d{9})|[-_](\d{6}))$", timestamp)
    if named is None:
        return None
    return float(f"{named[1]}.{named[2] or named[3] or named[4]}")


def match_numbers(listed: Mapping[str, int], present: Iterable[str]) -> NameMatch:
    """Match listed names that stand for numbers to the number that an image's name ends in.

    For files that have rows and no image names: row 12 is ``000012`` and ``frame-000012.jpg``.
    """
    numbered: dict[int, list[str]] = {}
    for name in dict.fromkeys(present):
        digits = re.search(r"\d{1,18}$", stem(name))
        if digits:
            numbered.setdefault(int(digits.group()), []).append(name)
    candidates = {name: numbered.get(number, []) for name, number in listed.items()}
    return NameMatch(
        {name: found[0] for name, found in candidates.items() if len(found) == 1},
        {
            name: f"row {name} could be {_or(found)}"
            for name, found in candidates.items()
            if len(found) > 1
        },
        tuple(name for name, found in candidates.items() if not found),
    )
