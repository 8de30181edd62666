"""`relocalize localize PLACE PHOTO...` or `--video CLIP`: where photos were taken."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from relocalize.capture.photos import photo_paths
from relocalize.cli.options import Flag
from relocalize.errors import CaptureError
from relocalize.localization import PoseEstimate
from relocalize.verbs.localize import localize, localize_video

if TYPE_CHECKING:
    from relocalize.localization.video import LocalizedClip


@dataclass(frozen=True)
class Localize:
    """Localize photos or a video in a Place: poses with uncertainty, or why there is none."""

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    photos: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Photos or folders; those of one camera calibrate it together."""
    video: Path | None = None
    """Localize a video instead: smoothed poses (TUM) and an overlay."""
    every: int = 1
    """Localize one frame in this many of the video."""
    out: Path | None = None
    """Folder for a video's files; else trajectories/<name> in the Place."""
    no_overlay: Flag = False
    """Draw no overlay of the video."""
    localizer: str = "structure"
    """structure, retrieval, constant, or the name of a trained one."""
    one_by_one: Flag = False
    """Localize each photo as if it were the only one."""
    json: Flag = False
    """Print one JSON object a line per photo; one for a video."""

    def run(self) -> int:
        """Localize, and print each result; photos that fail are results too."""
        if self.video is not None:
            return self._run_video(self.video)
        if not self.photos:
            raise CaptureError("no photos given; use: relocalize localize PLACE PHOTO...")
        paths = photo_paths(self.photos)
        estimates = localize(
            self.place, paths, localizer=self.localizer, together=not self.one_by_one
        )
        results = list(zip(paths, estimates, strict=True))
        if self.json:
            for path, estimate in results:
                named = {"image": str(path), "localizer": self.localizer}
                print(json.dumps({**named, **estimate.to_json()}))
        else:
            print(as_text(results))
        return 0

    def _run_video(self, video: Path) -> int:
        if self.photos:
            raise CaptureError(f"photos and --video {video} exclude each other; give one of them")
        clip = localize_video(
            self.place,
            video,
            every=self.every,
            out=self.out,
            overlay=not self.no_overlay,
            localizer=self.localizer,
        )
        print(json.dumps(clip.to_json()) if self.json else clip_as_text(clip))
        return 0


def as_text(results: list[tuple[Path, PoseEstimate]]) -> str:
    """All results as a table for people."""
    width = max(len(path.name) for path, _ in results)
    lines = []
    for path, estimate in results:
        pose = estimate.world_from_cam
        if pose is None:
            lines.append(f"{path.name:{width}}  failed: {estimate.reason}")
            continue
        x, y, z = pose.translation
        quat = " ".join(f"{value:.4f}" for value in pose.quat_wxyz)
        sigmas = "", ""
        if estimate.covariance is not None:
            sigmas = f" ± {estimate.position_sigma:.3f}", f" ± {estimate.rotation_sigma_deg:.2f}°"
        inliers = "" if estimate.inliers is None else f", {estimate.inliers} inliers"
        inliers += _captures(estimate.captures or {})
        lines.append(
            f"{path.name:{width}}  position {x:.3f} {y:.3f} {z:.3f}{sigmas[0]} {estimate.unit}, "
            f"quat_wxyz {quat}{sigmas[1]}{inliers}, {estimate.milliseconds:.0f} ms"
        )
    done = sum(estimate.status == "localized" for _, estimate in results)
    lines.append(f"{done} of {len(results)} localized")
    return "\n".join(lines)


def _captures(shares: dict[str, float]) -> str:
    """Which captures of the map support an answer, the most first, where there are several."""
    if len(shares) < 2:
        return ""
    most = sorted(shares, key=lambda name: -shares[name])
    return f" ({', '.join(f'{name} {shares[name]:.0%}' for name in most if shares[name] > 0)})"


def clip_as_text(clip: LocalizedClip) -> str:
    """What came of a video, for people."""
    value = clip.to_json()
    counts = ", ".join(f"{count} {status}" for status, count in clip.counts.items() if count)
    lines = [f"{value['frames']} frames of {value['seconds']:.1f} s: {counts}"]
    sigma = value["median_position_sigma"]
    if sigma is not None:
        lines.append(f"median standard deviation of the position: {sigma:.4f} {clip.unit}")
    if clip.remark is not None:
        lines.append(clip.remark)
    if clip.broke is not None:
        lines.append(clip.broke)
    lines += [f"{name}: {path}" for name, path in value["files"].items()]
    return "\n".join(lines)
