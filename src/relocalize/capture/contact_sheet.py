"""The contact sheet: what a capture kept, at a glance."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from relocalize.capture.photos import MAX_PIXELS
from relocalize.capture.selection import Curve
from relocalize.geometry.transforms import FloatArray

_WIDTH = 1640
_MARGIN = 20
_GAP = 8
_CAPTION = 18
_MOST_THUMBNAILS = 72
_STRIP = 130  # height of the motion strip
_PAPER, _INK, _FAINT = (255, 255, 255), (30, 34, 40), (120, 126, 134)
_REST, _MOTION, _KEPT = (232, 234, 238), (58, 110, 165), (214, 92, 32)


@dataclass(frozen=True)
class Thumbnail:
    """An image on the sheet and the words under it."""

    path: Path
    caption: str


@dataclass(frozen=True, eq=False)
class MotionStrip:
    """The motion of a video over time, with the kept frames marked.

    Attributes:
        curve: of the whole video.
        kept: indices of the kept frames.
        rests: [N] whether the camera rests.
    """

    curve: Curve
    kept: Sequence[int]
    rests: np.ndarray[tuple[int], np.dtype[np.bool_]]


def contact_sheet(
    title: str, thumbnails: Sequence[Thumbnail], strip: MotionStrip | None = None
) -> bytes:
    """A PNG with the title, at most 72 evenly chosen thumbnails, and the motion strip."""
    shown = [thumbnails[i] for i in _evenly(len(thumbnails), _MOST_THUMBNAILS)]
    if len(shown) < len(thumbnails):
        title += f"  ({len(shown)} of them shown)"
    images = [_open_small(item.path) for item in shown]
    inner = _WIDTH - 2 * _MARGIN
    tallest = max((image.height / image.width for image in images), default=0.75)
    columns = 8 if tallest <= 1.0 else 12
    cell = (inner + _GAP) // columns - _GAP
    cell_height = round(cell * min(tallest, 2.0))
    rows = -(-len(shown) // columns)
    strip_height = _STRIP + 2 * _MARGIN if strip else 0
    top = 64 + strip_height
    height = top + rows * (cell_height + _CAPTION + _GAP) + _MARGIN
    sheet = Image.new("RGB", (_WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 20), title, fill=_INK, font=ImageFont.load_default(22))
    if strip:
        _draw_strip(draw, strip, (_MARGIN, 64, _WIDTH - _MARGIN, 64 + _STRIP))
    small = ImageFont.load_default(13)
    for number, (item, image) in enumerate(zip(shown, images, strict=True)):
        x = _MARGIN + number % columns * (cell + _GAP)
        y = top + number // columns * (cell_height + _CAPTION + _GAP)
        image.thumbnail((cell, cell_height), Image.Resampling.LANCZOS)
        left = x + (cell - image.width) // 2
        sheet.paste(image, (left, y + cell_height - image.height))
        caption = _fitting(draw, item.caption, small, cell)
        draw.text((x + cell / 2, y + cell_height + 2), caption, _FAINT, font=small, anchor="ma")
    data = io.BytesIO()
    sheet.save(data, format="PNG", compress_level=2)
    return data.getvalue()


def _evenly(count: int, most: int) -> list[int]:
    if count <= most:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, most).round()]


def _open_small(path: Path) -> Image.Image:
    with Image.open(path) as image:
        if image.width * image.height > MAX_PIXELS:
            return Image.new("RGB", (4, 3), _REST)
        # JPEGs are decoded at an eighth to a half of their size, which is all a thumbnail needs.
        image.draft("RGB", (400, 400))
        small: Image.Image = image.convert("RGB")
    small.thumbnail((400, 400), Image.Resampling.BILINEAR)
    return small


def _fitting(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width: int,
) -> str:
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"


def _draw_strip(
    draw: ImageDraw.ImageDraw, strip: MotionStrip, box: tuple[int, int, int, int]
) -> None:
    """Speed of image motion as a curve, rests shaded, a tick under it per kept frame."""
    left, top, right, bottom = box
    font = ImageFont.load_default(13)
    length = max(float(strip.curve.times[-1]), 1e-6)
    columns = right - left
    column = np.minimum((strip.curve.times / length * columns).astype(int), columns - 1)
    speed = _speed_per_column(strip.curve, columns)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], strip.rests, [False]])))
    for first, after in edges.reshape(-1, 2):
        span = (left + int(column[first]), top, left + int(column[after - 1]), bottom - 24)
        draw.rectangle(span, fill=_REST)
    most = max(float(speed.max()), 1e-6)
    base = bottom - 24
    points = [(left + x, base - (base - top - 18) * float(v) / most) for x, v in enumerate(speed)]
    draw.line(points, fill=_MOTION, width=2)
    draw.line((left, base, right, base), fill=_FAINT)
    for index in strip.kept:
        x = left + int(column[index])
        draw.line((x, base + 3, x, base + 14), fill=_KEPT)
    draw.text(
        (left, top - 4),
        f"image motion, at most {100 * most:.0f}% of the image per second; "
        "grey: the camera rests; ticks: kept frames",
        _FAINT,
        font=font,
    )
    step = _round_step(length / 10)
    for second in np.arange(0.0, length, step):
        x = left + round(float(second) / length * columns)
        draw.line((x, base, x, base + 4), fill=_FAINT)
        anchor = "la" if second == 0.0 else "ma"
        draw.text((x, bottom - 6), _clock(float(second)), _FAINT, font=font, anchor=anchor)


def _speed_per_column(curve: Curve, columns: int) -> FloatArray:
    reach = 0.25  # seconds; smooths over some 15 frames
    times = np.linspace(0.0, max(float(curve.times[-1]), 1e-6), columns)
    after = np.interp(times + reach, curve.times, curve.motion)
    before = np.interp(times - reach, curve.times, curve.motion)
    return np.asarray((after - before) / (2 * reach), dtype=np.float64)


def _round_step(step: float) -> float:
    for nice in (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0):
        if step <= nice:
            return nice
    return 1800.0


def _clock(second: float) -> str:
    minutes, rest = divmod(round(second), 60)
    return f"{minutes}:{rest:02d}"
