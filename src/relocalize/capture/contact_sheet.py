"""The contact sheet: what a capture kept, at a glance."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from relocalize.place.image_file import open_image, rgb

_WIDTH, _MARGIN, _TOP, _GAP, _CAPTION = 1640, 20, 64, 8, 18
_MOST_THUMBNAILS = 72
_LONGEST_CAPTION = 28  # letters that fit under the narrower thumbnails
_PAPER, _INK, _FAINT = (255, 255, 255), (30, 34, 40), (120, 126, 134)


def contact_sheet(title: str, thumbnails: Sequence[tuple[Path, str]]) -> bytes:
    """A PNG with the title and at most 72 evenly chosen images, with the words under each."""
    count = min(len(thumbnails), _MOST_THUMBNAILS)
    shown = [thumbnails[int(i)] for i in np.linspace(0, len(thumbnails) - 1, count).round()]
    if len(shown) < len(thumbnails):
        title += f"  ({len(shown)} of them shown)"
    images = [_open_small(path) for path, _ in shown]
    tallest = max((image.height / image.width for image in images), default=0.75)
    columns = 8 if tallest <= 1.0 else 12
    cell = (_WIDTH - 2 * _MARGIN + _GAP) // columns - _GAP
    cell_height = round(cell * min(tallest, 2.0))
    row_height = cell_height + _CAPTION + _GAP
    height = _TOP + -(-len(shown) // columns) * row_height + _MARGIN
    sheet = Image.new("RGB", (_WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 20), title, fill=_INK, font=ImageFont.load_default(22))
    small = ImageFont.load_default(13)
    for number, ((_, caption), image) in enumerate(zip(shown, images, strict=True)):
        x = _MARGIN + number % columns * (cell + _GAP)
        y = _TOP + number // columns * row_height
        image.thumbnail((cell, cell_height), Image.Resampling.LANCZOS)
        sheet.paste(image, (x + (cell - image.width) // 2, y + cell_height - image.height))
        words = caption
        if len(caption) > _LONGEST_CAPTION:
            words = caption[: _LONGEST_CAPTION - 1] + "…"
        draw.text((x + cell / 2, y + cell_height + 2), words, _FAINT, font=small, anchor="ma")
    data = io.BytesIO()
    sheet.save(data, format="PNG", compress_level=2)
    return data.getvalue()


def _open_small(path: Path) -> Image.Image:
    small = Image.fromarray(rgb(open_image(path, at_least=(400, 400))))
    small.thumbnail((400, 400), Image.Resampling.BILINEAR)
    return small
