"""Photos that join a Place whose map is finished: a capture that may grow later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from relocalize import progress
from relocalize.capture.photo_set import PhotoRow, file_names, shown, take_photo
from relocalize.capture.photos import photo_paths
from relocalize.capture.workspace import check_name, source_id
from relocalize.errors import CaptureError
from relocalize.geometry import Camera
from relocalize.parallel import map_in_order
from relocalize.place import Capture, CapturedImage, DroppedFrame, Place
from relocalize.place.folder import checked_name

_PER_RECORD = 64  # photos; a kill loses at most the reading of so many


@dataclass(frozen=True)
class KnownCamera:
    """What a person says of the photos' camera."""

    # roughly the focal length in pixels; None where the photos' EXIF is to say it
    focal_px: float | None = None
    calibrated: Camera | None = None  # exactly the camera; None where it is to be estimated

    def __post_init__(self) -> None:
        if self.focal_px is not None and not 0 < self.focal_px < 1e6:
            raise CaptureError(f"a focal length of {self.focal_px} pixels; want more than 0")
        if self.focal_px is not None and self.calibrated is not None:
            raise CaptureError("a focal length and a whole camera are given; give one of them")


def join_photos(
    place: Place, sources: Sequence[Path], name: str, known: KnownCamera = KnownCamera()
) -> Capture:
    """Add photos to the capture ``name``, which is made if there is none; what is there stays.

    Photos that cannot be read, or that are another's copy, are left out and named. The same
    photos again change nothing, and a killed call goes on when it is made again.

    Raises:
        CaptureError: a source does not exist, no photo can be read, or the capture is a video's
            or an imported one.
        PlaceError: the Place is locked, or the name cannot be a file name.
    """
    paths = photo_paths(sources)
    checked_name(name, "capture")
    with place.lock():
        capture = place.captures.get(name) or Capture(name, "photos", shown(sources), (), ())
        if capture.kind != "photos":
            raise CaptureError(
                f"capture {name!r} of {place.root} is of kind {capture.kind!r} and takes no "
                "photos; name another with --capture"
            )
        joining = _Joining(place, capture, known)
        joining.add(paths)
        if not joining.images:
            dropped = joining.capture.dropped
            why = f": {dropped[0].reason}" if dropped else ""
            raise CaptureError(f"none of the {len(paths)} photos can be used{why}")
        joining.save()
        return joining.capture


class _Joining:
    """A capture while photos are added to it."""

    def __init__(self, place: Place, capture: Capture, known: KnownCamera) -> None:
        self.place, self.known = place, known
        settings = {**capture.settings, "registered": True}
        self.capture = replace(capture, settings=settings)
        # Content of each photo that is in, and what its file was called.
        self.sources: dict[str, str] = dict(capture.settings.get("sources") or {})
        # Of a capture that `relocalize frames` made, the contents alone are known.
        self.before = frozenset(capture.settings.get("source") or ())
        self.images = list(capture.images)

    def save(self) -> None:
        self.capture = replace(
            self.capture,
            settings={**self.capture.settings, "sources": dict(self.sources)},
            images=tuple(sorted(self.images, key=lambda image: image.name)),
        )
        if self.place.captures.get(self.capture.name) != self.capture:
            self.place.write_capture(self.capture)

    def add(self, paths: Sequence[Path]) -> None:
        fresh = self._fresh(paths)
        taken = [Path(name).name for name in self.capture.image_names]
        names = file_names([path for path, _ in fresh], taken)
        folder = self.place.images_dir / self.capture.name

        def read(item: tuple[tuple[Path, str], str]) -> tuple[str, PhotoRow]:
            (path, content), file_name = item
            return content, take_photo(path, file_name, folder)

        taking = map_in_order(read, zip(fresh, names, strict=True))
        for count, (content, row) in enumerate(
            progress.track(taking, "photos", total=len(fresh)), start=1
        ):
            self._add(content, row)
            if count % _PER_RECORD == 0:
                self.save()

    def _fresh(self, paths: Sequence[Path]) -> list[tuple[Path, str]]:
        """Photos that are not in yet, each with a name for its content."""
        fresh: dict[str, Path] = {}
        for path in paths:
            try:
                check_name(path)
                content = source_id(path)
            except CaptureError as error:
                self._leave_out(path.name.encode("utf-8", "replace").decode(), str(error))
                continue
            if content in fresh:
                self._leave_out(path.name, f"{path} is the same image as {fresh[content].name}")
            elif self.sources.get(content, path.name) != path.name:
                other = self.sources[content]
                self._leave_out(path.name, f"{path} is the same image as {other}, which is in")
            elif content not in self.sources and content not in self.before:
                fresh[content] = path
        return [(path, content) for content, path in fresh.items()]

    def _leave_out(self, source: str, reason: str) -> None:
        progress.say(f"left out: {reason}")
        row = DroppedFrame(source, reason)
        if row not in self.capture.dropped:
            self.capture = replace(self.capture, dropped=(*self.capture.dropped, row))

    def _add(self, content: str, row: PhotoRow) -> None:
        camera, given = row.camera, self.known.calibrated
        if camera is None:
            self._leave_out(row.source, row.reason or "")
            return
        if given is not None and (given.width, given.height) != (camera.width, camera.height):
            self._leave_out(
                row.source,
                f"{row.source} has {camera.width} x {camera.height} pixels, the given camera "
                f"{given.width} x {given.height}",
            )
            return
        if given is not None:
            camera = given
        elif self.known.focal_px is not None:
            camera = Camera.from_focal(camera.width, camera.height, self.known.focal_px)
        index, cameras = self._index_of(camera)
        self.capture = replace(self.capture, cameras=cameras)
        self.images.append(
            CapturedImage(f"{self.capture.name}/{row.name}", camera=index, gps=row.gps)
        )
        self.sources[content] = row.source

    def _index_of(self, camera: Camera) -> tuple[int, tuple[Camera, ...]]:
        """The camera's index in the capture; one of unknown focal length joins its size's."""
        cameras = self.capture.cameras
        for index, other in enumerate(cameras):
            same_size = (other.width, other.height) == (camera.width, camera.height)
            if same_size and (other == camera or camera.known == "unknown"):
                return index, cameras
        return len(cameras), (*cameras, camera)
