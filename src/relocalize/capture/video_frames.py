"""A video to frames: measure all, choose, decode again and write only the chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from relocalize import progress
from relocalize.capture.contact_sheet import contact_sheet
from relocalize.capture.measure import Measured, measure
from relocalize.capture.photos import jpeg
from relocalize.capture.selection import Selection, SelectionSettings, select
from relocalize.capture.video import open_video
from relocalize.capture.workspace import Workspace
from relocalize.errors import CaptureError
from relocalize.geometry import Camera
from relocalize.parallel import map_in_order
from relocalize.place import Capture, CapturedImage, DroppedFrame, atomic


def check_video(path: Path) -> None:
    """Raises CaptureError unless at least one frame of the video can be decoded."""
    with open_video(path) as video:
        if next(video.images(), None) is None:
            why = f" ({video.broke})" if video.broke else ""
            raise CaptureError(
                f"no frame of {path} can be decoded{why}; play it to see whether it is whole, "
                "and copy or export it again"
            )


def frame_name(number: int) -> str:
    """File name of a video's frame."""
    return f"frame-{number:06d}.jpg"


def capture_video(
    path: Path, workspace: Workspace, settings: SelectionSettings, *, least: int
) -> Capture:
    """Make a capture of a video; the workspace's job says how many frames, or at which rate.

    Raises:
        CaptureError: the video gives fewer frames than ``least``.
    """
    name, count = workspace.name, workspace.job["count"]
    measured = measure(path, workspace.folder / "curve.npz")
    curve = measured.curve
    selection = select(curve, settings, count=count, every_s=workspace.job["every_s"])
    if len(selection.kept) < least:
        workspace.abandon()
        raise CaptureError(
            f"{path} gives {len(selection.kept)} usable frame(s) of {len(curve)} "
            f"({_commonest(selection)}); a map needs a camera that moves through the place"
        )
    if measured.broke:
        progress.say(f"{measured.broke}; the frames before are used")
    if count is not None and len(selection.kept) < 0.9 * count:
        progress.say(f"only {len(selection.kept)} frames differ enough to keep, not {count}")
    camera = _write_frames(path, measured, selection.kept, workspace.images)
    images = tuple(
        CapturedImage(
            name=f"{name}/{frame_name(number)}",
            time_s=round(float(curve.times[number]), 6),
            frame_index=number,
            sharpness=round(float(selection.relative_sharpness[number]), 4),
        )
        for number in selection.kept
    )
    capture = Capture(
        name=name,
        kind="video",
        source=path.name,
        cameras=(camera,),
        images=images,
        dropped=tuple(_dropped(measured, selection)),
        settings={
            **workspace.job,
            "frames_in_source": len(curve),
            "seconds": round(float(curve.times[-1]), 3),
            "broke": measured.broke,
            "left_out": dict(Counter(reason for reason in selection.reasons if reason)),
        },
    )
    thumbnails = [
        (workspace.images / frame_name(i), f"{i}   {curve.times[i]:.1f} s") for i in selection.kept
    ]
    title = f"{name}: {len(images)} of {len(curve)} frames of {path.name}, {curve.times[-1]:.0f} s"
    workspace.publish(capture, contact_sheet(title, thumbnails))
    return capture


def _write_frames(path: Path, measured: Measured, kept: list[int], folder: Path) -> Camera:
    """Write what is missing of the kept frames; returns the camera of the upright frames."""
    missing = [number for number in kept if not (folder / frame_name(number)).exists()]
    with open_video(path) as video:
        if missing:
            wanted = set(missing)

            def chosen() -> Iterator[tuple[Path, NDArray[np.uint8]]]:
                stamp = measured.stamp_of(missing[0])
                for number, image in video.images_from(missing[0], stamp):
                    if number in wanted:
                        yield folder / frame_name(number), image.bgr()
                    if number >= missing[-1]:
                        return

            with progress.bar("writing frames", len(kept), "frames") as bar:
                bar.advance(len(kept) - len(missing))
                for _ in map_in_order(_write_jpeg, chosen()):
                    bar.advance()
        first = cv2.imread(str(folder / frame_name(kept[0])))
        if first is None or any(not (folder / frame_name(n)).exists() for n in missing):
            raise CaptureError(f"{path} changed while it was read; run the same command again")
        height, width = first.shape[:2]
        return video.camera(width, height)


def _write_jpeg(item: tuple[Path, NDArray[np.uint8]]) -> None:
    path, pixels = item
    atomic.write_bytes(path, jpeg(pixels))


def _dropped(measured: Measured, selection: Selection) -> Iterator[DroppedFrame]:
    """One row per run of frames that were left out for one reason."""
    for reason, run in groupby(enumerate(selection.reasons), key=lambda pair: pair[1]):
        numbers = [number for number, _ in run]
        if not reason:
            continue
        first, last = numbers[0], numbers[-1]
        source = f"frame {first}" if first == last else f"frames {first}-{last}"
        yield DroppedFrame(source, reason, round(float(measured.curve.times[first]), 6))
    if measured.broke:
        end = round(float(measured.curve.times[-1]), 6)
        yield DroppedFrame(f"everything after frame {len(measured.curve) - 1}", measured.broke, end)


def _commonest(selection: Selection) -> str:
    reasons = Counter(reason for reason in selection.reasons if reason)
    return reasons.most_common(1)[0][0] if reasons else "there are no others"
