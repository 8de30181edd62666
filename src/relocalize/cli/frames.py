"""`relocalize frames SOURCE PLACE`: a video or photos to sharp, well-spaced frames."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from relocalize.capture.frames import capture_frames
from relocalize.place import Capture, Place


@dataclass(frozen=True)
class Frames:
    """Add a capture to a Place: sharp, well-spaced frames of a video, or photos.

    Frames are kept at even steps of image motion: none where the camera rests, more where it
    turns, and of each step the sharpest.
    """

    source: tyro.conf.Positional[Path]
    """A video file, a folder of photos, or one photo."""
    place: tyro.conf.Positional[Path]
    """The Place folder; made if there is none."""
    capture: str | None = None
    """Name of the capture. Default: after the source."""
    count: int | None = None
    """Keep about this many frames of the video."""
    every: float | None = None
    """Keep one frame of the video each so many seconds."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of text."""

    def run(self) -> int:
        """Make the capture and say what it holds."""
        capture = capture_frames(
            self.source, self.place, name=self.capture, count=self.count, every_s=self.every
        )
        facts = capture_facts(capture, Place.open(self.place))
        print(json.dumps(facts, indent=2) if self.json else _as_text(facts))
        return 0


def capture_facts(capture: Capture, place: Place) -> dict[str, Any]:
    """What `relocalize frames` says, as plain values."""
    return {
        "capture": capture.name,
        "kind": capture.kind,
        "source": capture.source,
        "images": len(capture.images),
        "frames_in_source": capture.settings.get("frames_in_source"),
        "seconds": capture.settings.get("seconds"),
        "broke": capture.settings.get("broke"),
        "left_out": capture.settings.get("left_out")
        or dict(Counter(row.reason for row in capture.dropped)),
        "cameras": [
            {
                "size": [camera.width, camera.height],
                "focal_px": round(camera.focal_px, 2) if camera.known != "unknown" else None,
            }
            for camera in capture.cameras
        ],
        "folder": str(place.images_dir / capture.name),
        "contact_sheet": str(place.root / "captures" / f"{capture.name}.png"),
    }


def _as_text(facts: dict[str, Any]) -> str:
    total = facts["frames_in_source"]
    of = f" of {total} frames ({facts['seconds']} s)" if total else " photos"
    lines = [f"capture {facts['capture']}: kept {facts['images']}{of} of {facts['source']}"]
    if facts["broke"]:
        lines.append(f"  {facts['broke']}")
    for camera in facts["cameras"]:
        width, height = camera["size"]
        focal = f"focal length {camera['focal_px']} px" if camera["focal_px"] else "focal unknown"
        lines.append(f"  camera: {width}x{height}, {focal}")
    for reason, number in facts["left_out"].items():
        lines.append(f"  left out, {number} x: {reason}")
    lines.append(f"  contact sheet: {facts['contact_sheet']}")
    return "\n".join(lines)
