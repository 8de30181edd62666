"""`relocalize frames SOURCE PLACE`: a video or photos to sharp, well-spaced frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from relocalize.cli.options import Printed, options
from relocalize.verbs.frames import frames


@dataclass(frozen=True)
class Frames(Printed):
    """Add a capture to a Place: sharp, well-spaced frames of a video, or photos.

    Keeps the sharpest frame of each step of image motion: none where the camera rests, more
    where it turns.
    """

    source: tyro.conf.Positional[Path]
    """A video file, a folder of photos, or one photo."""
    place: tyro.conf.Positional[Path]
    """The Place folder; made if there is none."""
    capture: str | None = None
    """Name of the capture; else after the source."""
    count: int | None = None
    """Keep about this many frames of the video; else as many as its motion asks for."""
    every: float | None = None
    """Keep one frame every so many seconds instead."""

    def run(self) -> int:
        """Make the capture and say what it holds."""
        facts = frames(**options(self)).to_json()
        return self.show(facts, _as_text(facts))


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
