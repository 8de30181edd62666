"""`relocalize export PLACE OUT --format NAME`: posed images for another tool."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize.cli.options import Flag, Printed, options
from relocalize.errors import FormatError
from relocalize.formats.resizing import Aspect
from relocalize.verbs.export import AUTO, ExportReport, export


@dataclass(frozen=True)
class Export(Printed):
    """Write a Place's posed images in another tool's format."""

    place: tyro.conf.Positional[Path]
    """The Place folder, which is only read."""
    out: tyro.conf.Positional[Path]
    """File or folder to make; an existing folder has to be empty."""
    format: str
    """colmap, colmap-text, nerfstudio, kapture, 7-scenes, cambridge, tum or plain-csv."""
    split: str = AUTO
    """Split to write; auto: the only one, where the format has sides; none: all images."""
    capture: str | None = None
    """Only images of this capture."""
    resize: str | None = None
    """WIDTHxHEIGHT, such as 455x256; cameras change with the images."""
    aspect: Aspect = "crop"
    """Where shapes differ: crop to the middle, pad with black, or stretch."""
    mean_image: Flag = False
    """Also write mean.npy and mean.png, of the train images only."""

    def run(self) -> int:
        """Export, and print what was written."""
        size = None if self.resize is None else _size(self.resize)
        report = export(**options(self, "resize"), resize=size)
        return self.show(report.to_json(), _as_text(report))


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if found is None:
        raise FormatError(f"--resize {text!r}; want WIDTHxHEIGHT such as 455x256")
    return int(found.group(1)), int(found.group(2))


def _as_text(report: ExportReport) -> str:
    lines = [f"{report.images} images are in {report.out} as {report.format}"]
    if report.split is not None:
        lines.append(f"  split {report.split}: {report.train} train, {report.test} test")
        if report.not_in_split:
            lines.append(f"  {report.not_in_split} posed images are in neither and left out")
    lines += [f"  images {change}" for change in report.resized]
    if report.mean_image_of is not None:
        of = "train images" if report.split is not None else "images (there is no split)"
        lines.append(f"  mean.npy and mean.png: of the {report.mean_image_of} {of}")
    lines.append(f"  unit: {report.unit}; points: {report.points}")
    lines += [f"  note: {remark}" for remark in report.remarks]
    return "\n".join(lines)
