"""Photos to a capture: all that can be read, upright, grouped by camera."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from relocalize import progress
from relocalize.capture.contact_sheet import contact_sheet
from relocalize.capture.photos import jpeg, read_photo
from relocalize.capture.workspace import Workspace, source_id
from relocalize.errors import CaptureError
from relocalize.geometry import Camera
from relocalize.parallel import map_in_order
from relocalize.place import Capture, CapturedImage, DroppedFrame, atomic
from relocalize.place.captures import Fix
from relocalize.place.row_log import RowLog


def shown(sources: Sequence[Path]) -> str:
    """What a capture's record says it was made from."""
    return sources[0].name if len(sources) == 1 else f"{len(sources)} files"


@dataclass(frozen=True)
class PhotoRow:
    """What became of one photo; a line of the log that a resumed run reads."""

    source: str
    name: str
    reason: str | None = None
    camera: Camera | None = None
    device: tuple[str | None, ...] = ()
    gps: Fix | None = None


def capture_photos(paths: list[Path], workspace: Workspace, source: str, *, least: int) -> Capture:
    """Make a capture of photos; its record says that they come from ``source``.

    Raises:
        CaptureError: fewer than ``least`` photos can be read.
    """
    name, names = workspace.name, file_names(paths)
    folder = workspace.images
    log = RowLog(workspace.folder / "photos.jsonl", "\n".join(map(str, paths)), PhotoRow)
    written = len(log)
    done = {
        path: row
        for path, row in zip(paths, log.rows, strict=False)
        if row.reason is None and (folder / row.name).is_file()
    }
    same_as = _copies(paths)

    def take(item: tuple[Path, str]) -> PhotoRow:
        path, file_name = item
        if path in same_as:
            return PhotoRow(path.name, file_name, reason=f"the same image as {same_as[path]}")
        return done.get(path) or take_photo(path, file_name, folder)

    rows: list[PhotoRow] = []
    with log:
        taken = map_in_order(take, zip(paths, names, strict=True))
        for row in progress.track(taken, "photos", total=len(paths)):
            rows.append(row)
            if len(rows) > written:
                log.append(row)
    kept = sorted((row for row in rows if row.reason is None), key=lambda row: row.name)
    dropped = [DroppedFrame(row.source, row.reason) for row in rows if row.reason is not None]
    if len(kept) < least:
        workspace.abandon()
        raise CaptureError(_too_few(source, len(kept), dropped))
    for left_out in dropped:
        progress.say(f"left out: {left_out.reason}")
    keys = list(dict.fromkeys((row.camera, row.device) for row in kept))
    images = tuple(
        CapturedImage(
            f"{name}/{row.name}", camera=keys.index((row.camera, row.device)), gps=row.gps
        )
        for row in kept
    )
    capture = Capture(
        name=name,
        kind="photos",
        source=source,
        cameras=tuple(camera for camera, _ in keys if camera is not None),
        images=images,
        dropped=tuple(dropped),
        settings=workspace.job,
    )
    title = f"{name}: {len(images)} of {len(paths)} photos of {source}"
    thumbnails = [(folder / row.name, row.name) for row in kept]
    workspace.publish(capture, contact_sheet(title, thumbnails))
    return capture


def _too_few(source: str, kept: int, dropped: list[DroppedFrame]) -> str:
    if kept == 0:
        more = f" (and {len(dropped) - 1} more)" if len(dropped) > 1 else ""
        return f"none of the photos of {source} can be read: {dropped[0].reason}{more}"
    unread = f", and {len(dropped)} left out ({dropped[0].reason})" if dropped else ""
    return (
        f"{source} has one photo{unread}; a Place starts with a video or with at least 2 photos "
        "taken from different positions"
    )


def take_photo(path: Path, file_name: str, folder: Path) -> PhotoRow:
    """Read one photo and write it, upright, into ``folder``."""
    try:
        photo = read_photo(path)
        if photo.plain_as is not None:
            data = path.read_bytes()
            if path.suffix.lower().replace("jpeg", "jpg") != photo.plain_as:
                file_name = str(Path(file_name).with_suffix(photo.plain_as))
        else:
            file_name = str(Path(file_name).with_suffix(".jpg"))
            data = jpeg(cv2.cvtColor(photo.pixels, cv2.COLOR_RGB2BGR))
    except CaptureError as error:
        return PhotoRow(path.name, file_name, reason=str(error))
    atomic.write_bytes(folder / file_name, data)
    height, width = photo.pixels.shape[:2]
    camera = photo.camera or Camera.from_focal(width, height)
    device = (photo.exif.make, photo.exif.model, photo.exif.lens)
    return PhotoRow(path.name, file_name, camera=camera, device=device, gps=photo.exif.gps)


def file_names(paths: Sequence[Path], taken: Iterable[str] = ()) -> list[str]:
    """Each photo's own name, made unique and without blanks, at which text formats end names."""
    names: list[str] = []
    used = {Path(name).stem.lower() for name in taken}
    for path in paths:
        stem, suffix = "_".join(path.stem.split()), path.suffix
        # Compared without the suffix, since what is not JPEG or PNG becomes .jpg.
        unique, number = stem, 2
        while unique.lower() in used:
            unique, number = f"{stem}-{number}", number + 1
        used.add(unique.lower())
        names.append(unique + suffix)
    return names


def _copies(paths: list[Path]) -> dict[Path, str]:
    """Photos with the same content as an earlier one, and that one's name."""
    first: dict[str, Path] = {}
    copies: dict[Path, str] = {}
    for path in paths:
        content = source_id(path)
        if content in first and first[content].stat().st_size == path.stat().st_size:
            copies[path] = first[content].name
        else:
            first[content] = path
    return copies
