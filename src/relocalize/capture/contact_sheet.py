"""The contact sheet: what a capture kept, at a glance."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from relocalize.capture.selection import Curve
from relocalize.place.image_file import open_image, rgb

_WIDTH, _MARGIN, _GAP, _CAPTION = 1640, 20, 8, 18
_MOST_THUMBNAILS = 72
_LONGEST_CAPTION = 28  # letters that fit under the narrower thumbnails
_STRIP = 130  # height of the motion strip
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800)  # seconds
_SMOOTHED = 0.25  # seconds on either side, over some 15 frames
_PAPER, _INK, _FAINT = (255, 255, 255), (30, 34, 40), (120, 126, 134)
_REST, _MOTION, _KEPT = (232, 234, 238), (58, 110, 165), (214, 92, 32)


@dataclass(frozen=True)
class Thumbnail:
    """An image on the sheet and the words under it."""

    path: Path
    caption: str


@dataclass(frozen=True, eq=False)
class MotionStrip:
    """The motion of a video over time, with the kept frames marked."""

    curve: Curve  # of the whole video
    kept: Sequence[int]  # indices of the kept frames
    rests: np.ndarray[tuple[int], np.dtype[np.bool_]]  # [N] whether the camera rests


def contact_sheet(
    title: str, thumbnails: Sequence[Thumbnail], strip: MotionStrip | None = None
) -> bytes:
    """A PNG with the title, at most 72 evenly chosen thumbnails, and the motion strip."""
    count = min(len(thumbnails), _MOST_THUMBNAILS)
    shown = [thumbnails[int(i)] for i in np.linspace(0, len(thumbnails) - 1, count).round()]
    if len(shown) < len(thumbnails):
        title += f"  ({len(shown)} of them shown)"
    images = [_open_small(item.path) for item in shown]
    tallest = max((image.height / image.width for image in images), default=0.75)
    columns = 8 if tallest <= 1.0 else 12
    cell = (_WIDTH - 2 * _MARGIN + _GAP) // columns - _GAP
    cell_height = round(cell * min(tallest, 2.0))
    row_height = cell_height + _CAPTION + _GAP
    top = 64 + (_STRIP + 2 * _MARGIN if strip else 0)
    height = top + -(-len(shown) // columns) * row_height + _MARGIN
    sheet = Image.new("RGB", (_WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 20), title, fill=_INK, font=ImageFont.load_default(22))
    if strip:
        _draw_strip(draw, strip, top=64)
    small = ImageFont.load_default(13)
    for number, (item, image) in enumerate(zip(shown, images, strict=True)):
        x = _MARGIN + number % columns * (cell + _GAP)
        y = top + number // columns * row_height
        image.thumbnail((cell, cell_height), Image.Resampling.LANCZOS)
        sheet.paste(image, (x + (cell - image.width) // 2, y + cell_height - image.height))
        long = len(item.caption) > _LONGEST_CAPTION
        caption = item.caption[: _LONGEST_CAPTION - 1] + "…" if long else item.caption
        draw.text((x + cell / 2, y + cell_height + 2), caption, _FAINT, font=small, anchor="ma")
    data = io.BytesIO()
    sheet.save(data, format="PNG", compress_level=2)
    return data.getvalue()


def _open_small(path: Path) -> Image.Image:
    small = Image.fromarray(rgb(open_image(path, at_least=(400, 400))))
    small.thumbnail((400, 400), Image.Resampling.BILINEAR)
    return small


def _draw_strip(draw: ImageDraw.ImageDraw, strip: MotionStrip, *, top: int) -> None:
    """Speed of image motion as a curve, rests shaded, a tick under it per kept frame."""
    curve, font = strip.curve, ImageFont.load_default(13)
    left, right, base, bottom = _MARGIN, _WIDTH - _MARGIN, top + _STRIP - 24, top + _STRIP
    length = max(float(curve.times[-1]), 1e-6)
    columns = right - left
    at = left + np.minimum((curve.times / length * columns).astype(int), columns - 1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], strip.rests, [False]])))
    for first, after in edges.reshape(-1, 2):
        draw.rectangle((int(at[first]), top, int(at[after - 1]), base), fill=_REST)
    times = np.linspace(0.0, length, columns)
    later = np.interp(times + _SMOOTHED, curve.times, curve.motion)
    speed = (later - np.interp(times - _SMOOTHED, curve.times, curve.motion)) / (2 * _SMOOTHED)
    most = max(float(speed.max()), 1e-6)
    heights = base - (base - top - 18) * speed / most
    draw.line(list(enumerate(heights.tolist(), start=left)), fill=_MOTION, width=2)
    draw.line((left, base, right, base), fill=_FAINT)
    for index in strip.kept:
        draw.line((int(at[index]), base + 3, int(at[index]), base + 14), fill=_KEPT)
    said = (
        f"image motion, at most {100 * most:.0f}% of the image per second; "
        "grey: the camera rests; ticks: kept frames"
    )
    draw.text((left, top - 4), said, _FAINT, font=font)
    step = next((tick for tick in _TICKS if length / 10 <= tick), _TICKS[-1])
    for second in range(0, int(np.ceil(length)), step):
        x = left + round(second / length * columns)
        draw.line((x, base, x, base + 4), fill=_FAINT)
        clock = f"{second // 60}:{second % 60:02d}"
        draw.text((x, bottom - 6), clock, _FAINT, font=font, anchor="ma" if second else "la")
