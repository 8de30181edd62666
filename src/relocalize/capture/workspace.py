"""Where a capture grows until it is whole: a hidden folder of the Place, kept over a kill."""

from __future__ import annotations

import shutil
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from relocalize.errors import CaptureError, PlaceError
from relocalize.place import Capture, Place, atomic
from relocalize.place.folder import checked_name, read_json

_SAMPLE = 1 << 20


class Workspace:
    """The capture ``name`` of a Place, under way.

    Its images are written into `images` and moved to ``images/<name>`` all at once by
    `publish`; the capture's record follows. A job is what the images depend on (source and
    settings, plain values): the work of another job on the same name is thrown away.
    """

    def __init__(self, place: Place, name: str, job: dict[str, Any]) -> None:
        """Go on with ``job`` where a former run left it, or start it.

        Raises:
            CaptureError: images of unknown origin already lie in ``images/<name>``.
        """
        self._place, self.name, self.job = place, checked_name(name, "capture"), job
        self.folder = _folder_of(place, name)
        self.final = place.images_dir / name
        job_file = self.folder / "job.json"
        former: dict[str, Any] | None = None
        with suppress(PlaceError):
            former = read_json(job_file)
        if self.final.exists() and former != job:
            raise CaptureError(
                f"{self.final} holds images that no capture of the Place lists; "
                "move them away, or name the new capture with --capture"
            )
        if former != job:
            # What was measured on the same source still holds; images chosen otherwise do not.
            if former is None or former.get("source") != job["source"]:
                shutil.rmtree(self.folder, ignore_errors=True)
            shutil.rmtree(self.folder / "images", ignore_errors=True)
            atomic.write_json(job_file, job)

    @property
    def images(self) -> Path:
        """The folder in which the images are now."""
        if self.final.exists():
            return self.final
        aside = self.folder / "images"
        aside.mkdir(parents=True, exist_ok=True)
        return aside

    def publish(self, capture: Capture, sheet: bytes) -> None:
        """Move the images to their place, then write contact sheet and record."""
        images = self.images
        wanted = {Path(image.name).name for image in capture.images}
        for file in images.iterdir():
            if file.name not in wanted:
                file.unlink()
        if images != self.final:
            self.final.parent.mkdir(exist_ok=True)
            images.rename(self.final)
        atomic.write_bytes(self._place.root / "captures" / f"{self.name}.png", sheet)
        self._place.write_capture(capture)
        shutil.rmtree(self.folder, ignore_errors=True)

    def abandon(self) -> None:
        """Remove what was made so far."""
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_remains(place: Place, name: str) -> None:
    """Remove what a kill after the last step left of a capture that is in the Place."""
    shutil.rmtree(_folder_of(place, name), ignore_errors=True)


def _folder_of(place: Place, name: str) -> Path:
    return place.root / f".capturing-{name}"


def check_name(path: Path) -> None:
    """Raise `CaptureError` for a name of another encoding: the Place's records are UTF-8."""
    if any("\ud800" <= character <= "\udfff" for character in str(path)):
        raise CaptureError(f"the name {str(path)!r} is not UTF-8; rename it")


def source_id(path: Path) -> str:
    """A name for a file's content: its size and a hash of its head, middle and tail.

    Raises:
        CaptureError: the file cannot be read.
    """
    try:
        size = path.stat().st_size
        digest = blake2b(str(size).encode(), digest_size=16)
        with path.open("rb") as file:
            for start in (0, max(0, size // 2), max(0, size - _SAMPLE)):
                file.seek(start)
                digest.update(file.read(_SAMPLE))
    except OSError as error:
        raise CaptureError(f"{path} cannot be read ({error.strerror})") from error
    return digest.hexdigest()
