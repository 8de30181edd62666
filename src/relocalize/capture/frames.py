"""The room's main verb: a video or photos become a capture of a Place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from relocalize import progress
from relocalize.capture.photo_set import capture_photos, shown
from relocalize.capture.photos import PHOTO_SUFFIXES, photos_in
from relocalize.capture.selection import DEFAULT_SELECTION, SelectionSettings
from relocalize.capture.video_frames import capture_video, check_video
from relocalize.capture.workspace import Workspace, check_name, remove_remains, source_id
from relocalize.errors import CaptureError
from relocalize.place import Capture, Place
from relocalize.place.folder import checked_name


def capture_frames(
    source: str | Path | Sequence[str | Path],
    place: str | Path | Place,
    *,
    name: str | None = None,
    count: int | None = None,
    every_s: float | None = None,
    settings: SelectionSettings = DEFAULT_SELECTION,
) -> Capture:
    """Add a capture to a Place, which is made if there is none; goes on after a kill.

    What is asked for is what `relocalize.frames` takes. A capture that an earlier run made with
    the same source and settings is that one.

    Raises:
        CaptureError: the source cannot be used, or the name belongs to another capture.
        PlaceError: the folder holds something else, or another process writes it.
    """
    if count is not None and every_s is not None:
        raise CaptureError("count and every-seconds exclude each other; give one of them")
    if count is not None and count < 1:
        raise CaptureError(f"count is {count}; want at least 1")
    if every_s is not None and not 0.0 < every_s < float("inf"):
        raise CaptureError(f"every is {every_s} seconds; want more than 0")
    paths = _given(source)
    photos = _photos(paths)
    for path in [*paths, *(photos or [])]:
        check_name(path)
    if photos is None:
        check_video(paths[0])
        job: dict[str, Any] = {
            "source": source_id(paths[0]),
            "count": count,
            "every_s": every_s,
            "selection": asdict(settings),
        }
    else:
        if count is not None or every_s is not None:
            raise CaptureError("count and every-seconds are for videos; photos are all taken")
        job = {"source": [source_id(path) for path in photos]}
    name = checked_name(name or _name_after(paths), "capture")
    place = Place.of(place, create=True)
    with place.lock():
        captures = place.captures
        if name in captures:
            same = _same(captures[name], job, place, paths)
            remove_remains(place, name)
            return same
        workspace = Workspace(place, name, job)
        # One image can join a Place but not found one.
        least = 1 if captures else 2
        if photos is None:
            return capture_video(paths[0], workspace, settings, least=least)
        return capture_photos(photos, workspace, shown(paths), least=least)


def _given(source: str | Path | Sequence[str | Path]) -> list[Path]:
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(item) for item in source]
    if not paths:
        raise CaptureError("no source given; give a video, a folder of photos, or photos")
    for path in paths:
        if not path.exists():
            raise CaptureError(f"{path} does not exist; give a video, a folder of photos or photos")
    return paths


def _photos(paths: list[Path]) -> list[Path] | None:
    """All photos that the paths mean, or None where they mean one video."""
    if len(paths) == 1 and paths[0].is_file() and not _is_photo(paths[0]):
        return None
    photos: list[Path] = []
    for path in paths:
        if path.is_dir():
            photos += photos_in(path)
        elif _is_photo(path):
            photos.append(path)
        else:
            raise CaptureError(
                f"{path} is given beside other sources but is no photo; give each video alone"
            )
    return photos


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES


def _name_after(paths: list[Path]) -> str:
    first = paths[0].resolve()
    # Several photos are named after the folder that they lie in.
    text = first.parent.name if len(paths) > 1 else first.stem if first.is_file() else first.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:60] or "capture"


def _same(former: Capture, job: dict[str, Any], place: Place, paths: list[Path]) -> Capture:
    """The capture that is already there, if it is what was asked for."""
    changed = sorted(key for key in job if former.settings.get(key) != job[key])
    if not changed:
        progress.say(f"{former.name} is already there: {len(former.images)} images")
        return former
    if "source" in changed:
        what = f"made from another source ({former.source}), not from {paths[0].name}"
    else:
        what = "made from the same source with " + ", ".join(
            _asked(key, former.settings.get(key)) for key in changed
        )
    raise CaptureError(
        f"{place.root} already has a capture {former.name!r}, {what}; "
        "ask for the same again, or name a new one: relocalize frames --capture NAME"
    )


def _asked(setting: str, value: Any) -> str:
    option = {"count": "--count", "every_s": "--every"}.get(setting, setting)
    return f"no {option}" if value is None else f"{option} {value}"
