"""A clip from its file to a trajectory: localized, smoothed, written."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize import progress
from relocalize.absolute_pose.shared_camera import SharedCamera
from relocalize.capture.video import open_video
from relocalize.capture.workspace import source_id
from relocalize.errors import CaptureError
from relocalize.formats.tum import tum_trajectory
from relocalize.geometry import Camera
from relocalize.localization import Localizer, PoseEstimate, fitted
from relocalize.localization.video.frames import camera_of_clip, frames_of
from relocalize.localization.video.overlay import Overlay, write_video
from relocalize.localization.video.poses import ClipPose, LoggedFrame, smoothed
from relocalize.place import Place, atomic
from relocalize.place.row_log import RowLog
from relocalize.plain import from_plain, to_plain

FRAMES, POSES = "frames.jsonl", "poses.jsonl"
TRAJECTORY, BRIDGED = "trajectory.txt", "trajectory_bridged.txt"
OVERLAY = "overlay.mp4"


@dataclass(frozen=True)
class ClipSettings:
    """How a clip is localized.

    Attributes:
        localizer: its name.
        every: localize every so many frames.
        overlay: whether a video with everything drawn over it is made.
    """

    localizer: str = "structure"
    every: int = 1
    overlay: bool = True


@dataclass(frozen=True, eq=False)
class LocalizedClip:
    """The trajectory of a clip.

    Attributes:
        clip: its file name.
        localizer: that localized it.
        unit: of positions: ``metre`` or ``map unit``.
        camera: that took it, as far as that is known.
        poses: one per frame that was localized or failed.
        jitter: share of the stated variances that changes from frame to frame (`Smoothed.jitter`).
        remark: why nothing was smoothed, or None.
        folder: where the files are.
        broke: what is missing of the clip, which could not be read to its end, or None.
    """

    clip: str
    localizer: str
    unit: str
    camera: Camera | None
    poses: tuple[ClipPose, ...]
    jitter: float | None
    remark: str | None
    folder: Path
    broke: str | None

    @property
    def counts(self) -> dict[str, int]:
        """How many frames are of each status."""
        found = Counter(pose.status for pose in self.poses)
        return {status: found[status] for status in ("localized", "rejected", "bridged", "lost")}

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items() if count)
        return f"LocalizedClip({self.clip}: {len(self.poses)} frames, {counts})"

    def to_json(self) -> dict[str, Any]:
        """The clip as strict JSON values; frames are in the files."""
        sigmas = [pose.position_sigma for pose in self.poses if pose.position_sigma is not None]
        files = {
            name: str(self.folder / name)
            for name in (TRAJECTORY, BRIDGED, POSES, OVERLAY)
            if (self.folder / name).is_file()
        }
        return {
            "clip": self.clip,
            "localizer": self.localizer,
            "unit": self.unit,
            "frames": len(self.poses),
            **self.counts,
            "seconds": self.poses[-1].frame.time_s if self.poses else 0.0,
            "median_position_sigma": float(np.median(sigmas)) if sigmas else None,
            "jitter": self.jitter,
            "remark": self.remark,
            "broke": self.broke,
            "files": files,
        }


def localize_clip(
    place: Place, path: Path, out: Path | None = None, settings: ClipSettings = ClipSettings()
) -> LocalizedClip:
    """Localize a clip's frames, smooth them, and write what came of it.

    ``frames.jsonl`` has each frame's own estimate and is what a killed run goes on from;
    ``poses.jsonl`` has the smoothed poses with status and uncertainty; ``trajectory.txt`` (TUM)
    those of localized frames, ``trajectory_bridged.txt`` of all but lost ones.

    Args:
        place: with a map.
        path: the video.
        out: folder for the files; None takes ``trajectories/<name of the clip>`` in the Place.
        settings: which localizer, how many frames.

    Raises:
        CaptureError: the video cannot be read.
        RelocalizeError: the Place has no map or no such localizer.
    """
    if settings.every < 1:
        raise CaptureError(f"every is {settings.every}; want at least 1: every frame")
    folder = out or place.root / "trajectories" / _name_of(path)
    source = source_id(path) if path.is_file() else ""
    with open_video(path):
        pass  # a file that is none is found before a localizer is fitted for minutes
    localizer = fitted(place, settings.localizer)
    log = RowLog(folder / FRAMES, _inputs(place, source, settings), LoggedFrame)
    if log.noted is None:
        log.noted = {"camera": to_plain(camera_of_clip(path, localizer))}
    stored = log.noted["camera"]
    camera = None if stored is None else from_plain(SharedCamera, stored)
    broke = _localize_frames(localizer, path, camera, log, settings.every)
    if not log.rows:
        raise CaptureError(f"no frame of {path} can be decoded; play it, and export it again")
    poses, jitter, remark = smoothed(log.rows)
    clip = LocalizedClip(
        clip=path.name,
        localizer=settings.localizer,
        unit=localizer.unit,
        camera=None if camera is None else camera.camera,
        poses=poses,
        jitter=jitter,
        remark=remark,
        folder=folder,
        broke=broke,
    )
    _write(clip)
    if settings.overlay:
        _write_overlay(place, path, clip, settings.every)
    return clip


def _inputs(place: Place, source: str, settings: ClipSettings) -> str:
    """What frames' estimates depend on: the clip, the map, the localizers."""
    facts = [version("relocalize"), source, settings.localizer, settings.every, place.map_digest()]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for file in sorted(place.root.glob(f"localizers/{settings.localizer}*/localizer.json")):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _localize_frames(
    localizer: Localizer,
    path: Path,
    camera: SharedCamera | None,
    log: RowLog[LoggedFrame],
    every: int,
) -> str | None:
    """Localize what the log lacks; returns what is missing of the video, or None."""
    done = log.rows[-1].number if log.rows else -1
    with log, open_video(path) as video:
        length = video.announced_frames
        total = None if length is None else -(-length // every)
        with progress.bar("localizing", total, "frames") as bar:
            bar.advance(len(log.rows))
            end_s = 0.0
            for frame in frames_of(video, every):
                end_s = frame.time_s
                if frame.number <= done:
                    continue
                pixels = frame.rgb()
                height, width = pixels.shape[:2]
                known = camera
                if known and (known.camera.width, known.camera.height) != (width, height):
                    known = None  # the clip changes its size: nothing is known of this camera
                estimate = localizer.localize(pixels, None if known is None else known.camera)
                estimate = _with_camera_errors(estimate, known)
                log.append(LoggedFrame.of(frame.number, frame.time_s, estimate))
                bar.advance()
        # The frames after the last of every so many were read too.
        return video.where_it_broke(end_s + (every - 1) * video.frame_s)


def _with_camera_errors(estimate: PoseEstimate, camera: SharedCamera | None) -> PoseEstimate:
    """The estimate with what is not exactly known of its camera in its covariance.

    The errors of a camera that was calibrated from the clip are the same from frame to frame, or
    nearly, as the map's are: no smoothing takes them away.
    """
    pose, points, own = estimate.world_from_cam, estimate.inlier_points, estimate.covariance
    shared = estimate.shared_covariance
    if camera is None or pose is None or points is None or own is None or shared is None:
        return estimate
    of_camera = camera.pose_covariance(pose, points)
    return replace(estimate, covariance=own + of_camera, shared_covariance=shared + of_camera)


def _write(clip: LocalizedClip) -> None:
    rows = [json.dumps(pose.to_json(), allow_nan=False) for pose in clip.poses]
    atomic.write_text(clip.folder / POSES, "\n".join(rows) + "\n")
    for name, statuses in (
        (TRAJECTORY, ("localized",)),
        (BRIDGED, ("localized", "rejected", "bridged")),
    ):
        stamped = [
            (pose.frame.time_s, pose.world_from_cam)
            for pose in clip.poses
            if pose.world_from_cam is not None and pose.status in statuses
        ]
        atomic.write_text(clip.folder / name, tum_trajectory(stamped))


def _write_overlay(place: Place, path: Path, clip: LocalizedClip, every: int) -> None:
    aside = clip.folder / f".writing-{OVERLAY}"
    with open_video(path) as video, progress.bar("drawing", len(clip.poses), "frames") as bar:

        def drawn() -> Iterator[tuple[NDArray[np.uint8], float]]:
            overlay: Overlay | None = None
            for row, frame in zip(range(len(clip.poses)), frames_of(video, every), strict=False):
                bgr = frame.image.bgr()
                if overlay is None:
                    size = (bgr.shape[1], bgr.shape[0])
                    overlay = Overlay(place, clip.camera, clip.poses, size)
                yield overlay.draw(bgr, row), frame.time_s
                bar.advance()

        write_video(aside, 1 / (video.frame_s * every), drawn())
    aside.replace(clip.folder / OVERLAY)


def _name_of(path: Path) -> str:
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in path.stem)
    return name.strip("-._")[:60] or "clip"
