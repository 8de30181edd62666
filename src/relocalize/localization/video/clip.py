"""A clip from its file to a trajectory: localized, smoothed, written."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from relocalize import progress
from relocalize.capture.video import open_video
from relocalize.capture.workspace import source_id
from relocalize.errors import CaptureError, GeometryError
from relocalize.formats.tum import tum_trajectory
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.localization import Localizer, PoseEstimate, fitted
from relocalize.localization.structure import StructureLocalizer
from relocalize.localization.trajectory import smooth
from relocalize.localization.video.camera import ClipCamera, camera_of_clip
from relocalize.localization.video.frame_log import FrameLog, LoggedFrame
from relocalize.localization.video.frames import frames_of
from relocalize.localization.video.overlay import Overlay, Shown, VideoWriter
from relocalize.place import Place, atomic
from relocalize.place.folder import METRE

FRAMES, POSES = "frames.jsonl", "poses.jsonl"
TRAJECTORY, BRIDGED = "trajectory.txt", "trajectory_bridged.txt"
OVERLAY = "overlay.mp4"

# A bridged pose that is less sure than this says nothing any more: its standard deviation as a
# share of all the way that the camera was seen to go, and in degrees.
_LOST_SHARE, _LOST_DEG = 0.25, 20.0

Status = Literal["localized", "rejected", "bridged", "lost"]


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
class ClipPose:
    """One frame of a localized clip.

    Attributes:
        frame: its own estimate.
        status: ``localized``; ``rejected`` where the motion contradicts that estimate, or
            ``bridged`` where it failed: both have the pose that the frames around them say;
            ``lost`` where these say nothing.
        world_from_cam: smoothed, or None where it is lost.
        covariance: [6, 6] as in `PoseEstimate`, or None.
    """

    frame: LoggedFrame
    status: Status
    world_from_cam: Rigid3 | None
    covariance: FloatArray | None

    @property
    def position_sigma(self) -> float | None:
        """Standard deviation of the centre along its worst axis."""
        return None if self.covariance is None else _worst_sigma(self.covariance[:3, :3])

    @property
    def rotation_sigma_deg(self) -> float | None:
        """Standard deviation of the rotation about its worst axis, in degrees."""
        if self.covariance is None:
            return None
        return float(np.degrees(_worst_sigma(self.covariance[3:, 3:])))

    def to_json(self) -> dict[str, Any]:
        """As plain values, keys in reading order."""
        pose, frame = self.world_from_cam, self.frame
        return {
            "frame": frame.number,
            "time_s": frame.time_s,
            "status": self.status,
            "reason": frame.reason,
            "position": None if pose is None else pose.translation.tolist(),
            "quat_wxyz": None if pose is None else pose.quat_wxyz.tolist(),
            "position_sigma": self.position_sigma,
            "rotation_sigma_deg": self.rotation_sigma_deg,
            "raw_position": None if frame.position is None else list(frame.position),
            "raw_quat_wxyz": None if frame.quat_wxyz is None else list(frame.quat_wxyz),
            "inliers": frame.inliers,
            "milliseconds": frame.milliseconds,
        }


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
    log = FrameLog(folder / FRAMES, _inputs(place, source, settings))
    broke = _localize_frames(localizer, path, log, settings.every)
    if not log.frames:
        raise CaptureError(f"no frame of {path} can be decoded; play it, and export it again")
    poses, jitter, remark = _smoothed(log.frames)
    clip = LocalizedClip(
        clip=path.name,
        localizer=settings.localizer,
        unit=localizer.unit,
        camera=None if log.camera is None else log.camera.camera,
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
    digest = hashlib.sha256(f"{source} {settings.localizer} {settings.every} ".encode())
    files = [place.map_dir / name for name in ("images.bin", "points3D.bin", "cameras.bin")]
    files += sorted(place.root.glob(f"localizers/{settings.localizer}*/localizer.json"))
    for file in files:
        digest.update(file.name.encode())
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()


def _localize_frames(localizer: Localizer, path: Path, log: FrameLog, every: int) -> str | None:
    """Localize what the log lacks; returns what is missing of the video, or None."""
    if not log.has_begun:
        log.begin(camera_of_clip(path, localizer))
    done = log.frames[-1].number if log.frames else -1
    with log, open_video(path) as video:
        length = video.announced_frames
        total = None if length is None else -(-length // every)
        with progress.bar("localizing", total, "frames") as bar:
            bar.advance(len(log.frames))
            end_s = 0.0
            for frame in frames_of(video, every):
                end_s = frame.time_s
                if frame.number <= done:
                    continue
                pixels = frame.rgb()
                height, width = pixels.shape[:2]
                known = log.camera
                if known is not None and (known.camera.width, known.camera.height) != (
                    width,
                    height,
                ):
                    known = None  # the clip changes its size: nothing is known of this camera
                estimate = localizer.localize(pixels, None if known is None else known.camera)
                estimate, shared = _with_shared_errors(estimate, localizer, known)
                log.add(LoggedFrame.of(frame.number, frame.time_s, estimate, shared))
                bar.advance()
        # The frames after the last of every so many were read too.
        return video.where_it_broke(end_s + (every - 1) * video.frame_s)


def _with_shared_errors(
    estimate: PoseEstimate, localizer: Localizer, camera: ClipCamera | None
) -> tuple[PoseEstimate, FloatArray | None]:
    """An estimate that knows of its camera's uncertainty, and what frames share of its covariance.

    The map's errors, and those of a camera that was calibrated from the clip, are the same from
    frame to frame, or nearly: no smoothing takes them away.
    """
    pose, points = estimate.world_from_cam, estimate.inlier_points
    if not isinstance(localizer, StructureLocalizer) or pose is None or points is None:
        return estimate, None
    of_camera = np.zeros((6, 6)) if camera is None else camera.pose_covariance(pose, points)
    own = estimate.covariance
    whole = None if own is None else own + of_camera
    return replace(estimate, covariance=whole), localizer.solver.noise.covariance + of_camera


def _smoothed(
    frames: Sequence[LoggedFrame],
) -> tuple[tuple[ClipPose, ...], float | None, str | None]:
    """Poses, how much of their stated variances is jitter, and why they are not smoothed, if so."""
    estimates = [frame.world_from_cam for frame in frames]
    covariances = [frame.covariance_matrix for frame in frames]
    try:
        shared = [frame.shared_matrix for frame in frames]
        smoothed = smooth([frame.time_s for frame in frames], estimates, covariances, shared)
    except GeometryError as error:
        rows = zip(frames, estimates, covariances, strict=True)
        raw = tuple(
            ClipPose(frame, "lost" if pose is None else "localized", pose, covariance)
            for frame, pose, covariance in rows
        )
        return raw, None, f"not smoothed: {error}"
    seen = [one.world_from_cam.translation for one in smoothed.poses if one.status == "localized"]
    extent = float(np.linalg.norm(np.ptp(np.reshape(seen, (-1, 3)), axis=0))) if seen else 0.0
    poses = tuple(
        _unless_lost(ClipPose(frame, one.status, one.world_from_cam, one.covariance), extent)
        for frame, one in zip(frames, smoothed.poses, strict=True)
    )
    return poses, smoothed.jitter, None


def _unless_lost(pose: ClipPose, extent: float) -> ClipPose:
    position, rotation = pose.position_sigma or 0.0, pose.rotation_sigma_deg or 0.0
    if pose.status == "localized" or (position <= _LOST_SHARE * extent and rotation <= _LOST_DEG):
        return pose
    return replace(pose, status="lost", world_from_cam=None, covariance=None)


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
    shown = [
        Shown(pose.status, pose.world_from_cam, pose.position_sigma, _line(pose, clip.unit))
        for pose in clip.poses
    ]
    overlay = Overlay(place, clip.camera, shown)
    aside = clip.folder / f".writing-{OVERLAY}"
    with open_video(path) as video:
        writer = VideoWriter(aside, 1 / (video.frame_s * every))
        try:
            frames = zip(frames_of(video, every), clip.poses, strict=False)
            with progress.bar("drawing", len(clip.poses), "frames") as bar:
                for row, (frame, _) in enumerate(frames):
                    writer.write(overlay.draw(frame.image.bgr(), row), frame.time_s)
                    bar.advance()
        finally:
            writer.close()
    aside.replace(clip.folder / OVERLAY)


def _line(pose: ClipPose, unit: str) -> str:
    words = [f"{pose.frame.time_s:6.2f} s", pose.status]
    if pose.position_sigma is not None:
        size = (
            f"{100 * pose.position_sigma:.1f} cm"
            if unit == METRE
            else f"{pose.position_sigma:.2g} units"
        )
        words.append(f"+-{size}, {pose.rotation_sigma_deg:.2f} deg")
    if pose.frame.inliers is not None:
        words.append(f"{pose.frame.inliers} inliers")
    return "   ".join(words)


def _name_of(path: Path) -> str:
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in path.stem)
    return name.strip("-._")[:60] or "clip"


def _worst_sigma(covariance: FloatArray) -> float:
    return float(np.sqrt(max(0.0, float(np.linalg.eigvalsh(covariance)[-1]))))
