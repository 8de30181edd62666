"""Printed and painted things on walls: posters, papers, signs, plates, views from windows."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from relocalize_synthetic.scene import Image
from relocalize_synthetic.textures import Random, cork, finished, noise, soft_shadow, wood

_WORD_LIST = (
    "seminar room lecture spring autumn open day garden library exam schedule robotics vision "
    "geometry workshop please return keys bicycle choir rehearsal Tuesday Friday lost found "
    "reward cat guitar lessons flat share quiet students week deadline poster session coffee "
    "committee election safety first aid course thesis defence welcome campus market second hand "
    "books physics chemistry map camera concert orchestra theatre summer school language café"
)
_WORDS = _WORD_LIST.split()
_INKS = ((178, 40, 44), (28, 82, 150), (34, 112, 74), (214, 128, 22), (92, 52, 128), (20, 108, 124))


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(round(size))


def _ink(colour: ArrayLike) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in np.asarray(colour))
    return red, green, blue


def text(
    image: Image, where: tuple[float, float], words: str, size: float, colour: ArrayLike
) -> Image:
    """``image`` with a line of text whose top-left corner is at ``where``."""
    canvas = PillowImage.fromarray(image)
    ink = _ink(colour)
    ImageDraw.Draw(canvas).text(where, words, fill=ink, font=_font(size))
    return np.array(canvas)


def _phrase(rng: Random, count: int) -> str:
    return " ".join(rng.choice(_WORDS, count))


def _paragraph(
    rng: Random, image: Image, box: tuple[int, int, int, int], size: float, colour: ArrayLike
) -> Image:
    left, top, right, bottom = box
    canvas = PillowImage.fromarray(image)
    draw, font = ImageDraw.Draw(canvas), _font(size)
    ink = _ink(colour)
    y = float(top)
    while y + size < bottom:
        # Letters of this font are about half as wide as high.
        letters = (right - left) * rng.uniform(0.7, 0.95) / (0.52 * size)
        line = _phrase(rng, 14)[: int(letters)].rpartition(" ")[0]
        draw.text((left, y), line, fill=ink, font=font)
        y += 1.35 * size
    return np.array(canvas)


def art(rng: Random, height: int, width: int) -> Image:
    """A landscape: sky, sun and ridges, each farther one paler."""
    top, low = rng.uniform(90, 250, 3), rng.uniform(120, 255, 3)
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    field = np.tile(top * (1 - ramp) + low * ramp, (1, width, 1)).astype(np.float32)
    sun = (int(rng.uniform(0.2, 0.8) * width), int(rng.uniform(0.15, 0.4) * height))
    cv2.circle(field, sun, max(2, int(0.1 * min(width, height))), (255, 244, 206), -1, cv2.LINE_AA)
    tone, columns = rng.uniform(20, 110, 3), np.arange(width)
    for depth in np.linspace(1, 0, 5):
        ridge = height * (0.82 - 0.38 * depth) + height * 0.07 * (
            noise(rng, 1, width, width / 4)[0] + 0.35 * noise(rng, 1, width, width / 22)[0]
        )
        points = np.stack([columns, ridge], axis=1)
        outline = np.concatenate([points, [[width, height], [0, height]]]).astype(np.int32)
        colour = (1 - 0.75 * depth) * tone + 0.75 * depth * (top + low) / 2
        cv2.fillPoly(field, [outline], [float(value) for value in colour], cv2.LINE_AA)
    field *= (1 + 0.05 * noise(rng, height, width, 3))[..., None]
    return finished(field)


def _chart(rng: Random, height: int, width: int) -> Image:
    image = np.full((height, width, 3), 250, np.uint8)
    if rng.random() < 0.5:
        bars = rng.uniform(0.15, 0.95, rng.integers(5, 10))
        step = width / len(bars)
        for index, bar in enumerate(bars):
            colour = _INKS[rng.integers(len(_INKS))]
            corner = (int(index * step + step * 0.15), int(height * (1 - bar)))
            cv2.rectangle(image, corner, (int((index + 0.85) * step), height), colour, -1)
    else:
        for colour in _INKS[: rng.integers(2, 5)]:
            curve = height * (0.5 - 0.2 * noise(rng, 1, width, width / 6)[0])
            points = np.stack([np.arange(width), curve], axis=1).astype(np.int32)
            cv2.polylines(image, [points], False, colour, 2, cv2.LINE_AA)
    cv2.rectangle(image, (0, 0), (width - 1, height - 1), (60, 60, 60), 2)
    return image


def _science_poster(rng: Random, height: int, width: int) -> Image:
    image = np.full((height, width, 3), 246, np.uint8)
    ink = _INKS[rng.integers(len(_INKS))]
    image[: height // 7] = ink
    image = text(
        image,
        (width * 0.05, height * 0.02),
        _phrase(rng, 4).title(),
        height * 0.04,
        (255, 255, 255),
    )
    image = text(
        image, (width * 0.05, height * 0.085), _phrase(rng, 5), height * 0.022, (225, 225, 225)
    )
    half, margin, y = width // 2, width // 20, height // 6
    for column in range(2):
        left, right = margin // 2 + column * half, half - margin // 2 + column * half
        y = height // 6
        while y < height * 0.9:
            size = int(rng.uniform(0.1, 0.19) * height)
            if y + size > height * 0.97:
                break
            kind = rng.random()
            if kind < 0.4:
                image = text(image, (left, y), _phrase(rng, 2).title(), height * 0.022, ink)
                box = (left, y + int(height * 0.032), right, y + size)
                image = _paragraph(rng, image, box, height * 0.0135, (50, 50, 50))
            else:
                draw = _chart if kind < 0.75 else art
                image[y : y + size, left:right] = draw(rng, size, right - left)
            y += size + height // 50
    return image


def _event_poster(rng: Random, height: int, width: int) -> Image:
    ground, first, second = (np.array(_INKS[i], float) for i in rng.permutation(len(_INKS))[:3])
    field = np.empty((height, width, 3), np.float32)
    field[:] = ground if rng.random() < 0.5 else 240 - 0.15 * ground
    for index in range(rng.integers(9, 18)):
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, 0.75 * height)))
        radius = int(rng.uniform(0.04, 0.28) * width)
        colour = [float(v) for v in (first if index % 2 else second) * rng.uniform(0.6, 1.3)]
        kind = rng.integers(3)
        if kind == 0:
            cv2.circle(field, centre, radius, colour, -1, cv2.LINE_AA)
        elif kind == 1:
            cv2.circle(field, centre, radius, colour, max(2, radius // 6), cv2.LINE_AA)
        else:
            corners = cv2.boxPoints((centre, (2.0 * radius, 0.35 * radius), rng.uniform(0, 180)))
            cv2.fillConvexPoly(field, corners.astype(np.int32), colour, cv2.LINE_AA)
    field[int(0.76 * height) :] = (250, 247, 238)
    image = text(
        finished(field),
        (width * 0.06, height * 0.775),
        _phrase(rng, 2).upper(),
        height * 0.055,
        ground,
    )
    where = f"{rng.integers(1, 29)}.{rng.integers(1, 13)}. {rng.integers(14, 21)}:30"
    image = text(image, (width * 0.06, height * 0.845), where, height * 0.04, (30, 30, 30))
    box = (int(width * 0.06), int(height * 0.905), int(width * 0.94), int(height * 0.985))
    return _paragraph(rng, image, box, height * 0.02, (70, 70, 70))


def _travel_poster(rng: Random, height: int, width: int) -> Image:
    image = np.full((height, width, 3), 248, np.uint8)
    edge = width // 16
    window = image[edge : int(0.82 * height), edge : width - edge]
    window[:] = art(rng, window.shape[0], window.shape[1])
    title = _phrase(rng, 1).upper()
    return text(image, (edge, 0.85 * height), title, height * 0.09, _INKS[rng.integers(6)])


def poster(rng: Random, height: int, width: int) -> Image:
    """A poster of one of three kinds."""
    kind = (_science_poster, _science_poster, _event_poster, _travel_poster)[rng.integers(4)]
    return kind(rng, height, width)


def paper(rng: Random, height: int, width: int) -> Image:
    """A pinned sheet: heading, text, perhaps an image, on white or coloured paper."""
    tints = (
        (252, 252, 248),
        (252, 252, 248),
        (250, 240, 150),
        (182, 222, 238),
        (246, 196, 190),
        (196, 232, 190),
    )
    image = np.full((height, width, 3), tints[rng.integers(len(tints))], np.uint8)
    ink = _INKS[rng.integers(len(_INKS))]
    size, margin = max(8.0, height * 0.07), max(2, width // 14)
    image = text(image, (margin, height * 0.04), _phrase(rng, 2).title(), size, ink)
    top = int(height * 0.04 + 1.5 * size)
    if rng.random() < 0.45:
        tall = int(height * rng.uniform(0.25, 0.45))
        image[top : top + tall, margin : width - margin] = art(rng, tall, width - 2 * margin)
        top += tall + 4
    box = (margin, top, width - margin, int(height * 0.96))
    return _paragraph(rng, image, box, max(6.0, height * rng.uniform(0.028, 0.05)), (50, 50, 55))


def notice_board(rng: Random, height: int, width: int, texel: float, papers: int) -> Image:
    """Cork in a wooden frame, covered with pinned papers."""
    field = cork(rng, height, width, texel)
    for _ in range(papers):
        tall = int(rng.uniform(0.15, 0.3) / texel)
        wide = int(tall * rng.choice([0.7, 0.7, 1.4, 1.0]))
        x = int(rng.uniform(0.04, 0.96) * max(1, width - wide))
        y = int(rng.uniform(0.04, 0.96) * max(1, height - tall))
        sheet = paper(rng, tall, wide).astype(np.float32)
        soft_shadow(field, (x, y, x + wide, y + tall), 0.006 / texel)
        rim = 24  # texels that a turned sheet needs around it
        left, upper = max(0, x - rim), max(0, y - rim)
        ground = field[upper : y + tall + rim, left : x + wide + rim]
        turn = cv2.getRotationMatrix2D((wide / 2, tall / 2), rng.normal(0, 3), 1.0)
        turn[:, 2] += (x - left, y - upper)
        size = (ground.shape[1], ground.shape[0])
        cover = cv2.warpAffine(np.ones((tall, wide), np.float32), turn, size)[..., None]
        ground += cover * (cv2.warpAffine(sheet, turn, size) - ground)
        pin = (x + wide // 2, y + max(3, int(0.012 / texel)))
        radius = max(2, round(0.006 / texel))
        colour = [float(value) for value in _INKS[rng.integers(len(_INKS))]]
        cv2.circle(field, (pin[0] + 1, pin[1] + 2), radius, (70.0, 60.0, 50.0), -1, cv2.LINE_AA)
        cv2.circle(field, pin, radius, colour, -1, cv2.LINE_AA)
    edge = round(0.03 / texel)
    frame = wood(rng, height, width, texel, (122, 84, 52))
    for window in (np.s_[:edge], np.s_[-edge:], np.s_[:, :edge], np.s_[:, -edge:]):
        field[window] = frame[window]
    return finished(field)


def framed(image: Image, edge: int, colour: ArrayLike) -> Image:
    """``image`` with a border of ``edge`` texels painted over its rim."""
    image = image.copy()
    for window in (np.s_[:edge], np.s_[-edge:], np.s_[:, :edge], np.s_[:, -edge:]):
        image[window] = colour
    return image


def room_plate(rng: Random, number: str) -> Image:
    """The plate beside a door: room number and names."""
    image = np.full((150, 210, 3), (236, 238, 240), np.uint8)
    image[:52] = (30, 62, 98)
    image = text(image, (12, 4), number, 42, (255, 255, 255))
    image = _paragraph(rng, image, (12, 64, 198, 140), 19, (40, 40, 40))
    return framed(image, 4, (120, 126, 132))


def exit_sign() -> Image:
    """White running figure and arrow on green."""
    image = np.full((150, 320, 3), (0, 132, 74), np.uint8)
    white = (250, 255, 250)
    cv2.rectangle(image, (205, 20), (280, 130), white, 8)
    cv2.circle(image, (128, 36), 13, white, -1, cv2.LINE_AA)
    for line in (
        [(122, 52), (104, 88), (70, 96)],
        [(104, 88), (122, 108), (112, 136)],
        [(122, 58), (148, 74), (168, 62)],
        [(118, 58), (90, 56), (76, 74)],
    ):
        cv2.polylines(image, [np.array(line, np.int32)], False, white, 11, cv2.LINE_AA)
    cv2.arrowedLine(image, (250, 75), (302, 75), white, 9, cv2.LINE_AA, tipLength=0.4)
    return framed(image, 5, (235, 240, 235))


def extinguisher_sign() -> Image:
    """White extinguisher and flame on red."""
    image = np.full((160, 160, 3), (196, 24, 30), np.uint8)
    white = (255, 250, 250)
    cv2.rectangle(image, (46, 62), (82, 138), white, -1)
    cv2.ellipse(image, (64, 62), (18, 14), 0, 180, 360, white, -1, cv2.LINE_AA)
    cv2.polylines(
        image,
        [np.array([(64, 46), (64, 34), (96, 42), (100, 76)], np.int32)],
        False,
        white,
        7,
        cv2.LINE_AA,
    )
    flame = [(124, 138), (104, 112), (116, 92), (112, 72), (134, 94), (142, 116)]
    cv2.fillPoly(image, [np.array(flame, np.int32)], white, cv2.LINE_AA)
    return framed(image, 5, (245, 240, 240))


def survey_target(number: int) -> Image:
    """Black and white quadrants, as surveyors glue to walls; its centre is a sharp corner."""
    side = 240
    image = np.full((side, side, 3), 248, np.uint8)
    rows, columns = np.mgrid[0:side, 0:side] - (side - 1) / 2
    disc = np.hypot(rows, columns) < 0.4 * side
    image[disc & (rows * columns > 0)] = 12
    return text(image, (8, 4), f"{number:02d}", 30, (20, 20, 20))


def door(rng: Random) -> Image:
    """A veneered door leaf with a glazed slit, a handle and a kick plate; 0.9 m x 2.06 m."""
    texel = 0.002
    height, width = round(2.06 / texel), round(0.9 / texel)
    field = wood(rng, height, width, texel, (168, 118, 72))
    kick = np.s_[-round(0.2 / texel) : -6, 8:-8]
    field[kick] = (166, 168, 170) + 5 * noise(
        rng, field[kick].shape[0], field[kick].shape[1], 90, 1
    )[..., None]
    slit = (round(0.66 / texel), round(0.35 / texel), round(0.8 / texel), round(1.35 / texel))
    cv2.rectangle(field, slit[:2], slit[2:], (70.0, 62.0, 54.0), -1)
    glass = field[slit[1] + 8 : slit[3] - 8, slit[0] + 8 : slit[2] - 8]
    ramp = np.linspace(120, 62, glass.shape[0], dtype=np.float32)[:, None]
    glass[:] = (ramp + 10 * noise(rng, glass.shape[0], glass.shape[1], 30))[..., None] * (
        0.9,
        1.0,
        1.02,
    )
    y, x = round(1.03 / texel), round(0.07 / texel)
    plate = (x - 13, y - 40, x + 13, y + 70)
    soft_shadow(field, plate, 5)
    cv2.rectangle(field, plate[:2], plate[2:], (188.0, 190.0, 192.0), -1)
    cv2.rectangle(field, plate[:2], plate[2:], (92.0, 94.0, 96.0), 1)
    cv2.circle(field, (x, y + 44), 6, (40.0, 40.0, 42.0), -1, cv2.LINE_AA)
    soft_shadow(field, (x - 6, y - 7, x + 62, y + 7), 7)
    cv2.line(field, (x, y), (x + 58, y), (214.0, 216.0, 218.0), 12, cv2.LINE_AA)
    cv2.line(field, (x, y + 5), (x + 58, y + 5), (120.0, 122.0, 124.0), 3, cv2.LINE_AA)
    field[:3] *= 0.5
    field[:, :3] *= 0.5
    field[:, -3:] *= 0.5
    return finished(field)


def radiator(rng: Random) -> Image:
    """Front of a panel radiator with fins, dents and a valve; 1.2 m x 0.6 m."""
    height, width = 300, 600
    columns = np.arange(width, dtype=np.float32)
    profile = 1 + 0.13 * np.sin(2 * np.pi * columns / 20)
    field = np.empty((height, width, 3), np.float32)
    field[:] = (profile * 206)[None, :, None]
    field *= (1 + 0.03 * noise(rng, height, width, 30) + 0.015 * noise(rng, height, width, 1))[
        ..., None
    ]
    field[:16] = 224
    field[-16:] = 196
    for _ in range(25):
        spot = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        cv2.circle(field, spot, int(rng.integers(1, 4)), (126.0, 104.0, 84.0), -1, cv2.LINE_AA)
    return finished(field)


def window(rng: Random) -> Image:
    """Two casements with a view of trees and a house across the yard; 1.4 m x 1.3 m."""
    height, width = 520, 560
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    field = np.tile((206, 226, 246) + ramp * (36, 22, 4), (1, width, 1)).astype(np.float32)
    field = field + 9 * noise(rng, height, width, 90)[..., None]
    left = int(rng.uniform(-0.3, 0.6) * width)
    house = np.s_[int(0.3 * height) : int(0.8 * height), max(0, left) : left + width // 2]
    field[house] = np.array([206, 186, 164]) + 6 * noise(rng, height, width, 2)[house][..., None]
    for row in range(3):
        for column in range(5):
            corner = (left + 18 + column * 54, int((0.35 + 0.15 * row) * height))
            cv2.rectangle(field, corner, (corner[0] + 26, corner[1] + 44), (92.0, 104.0, 118.0), -1)
    leaves = noise(rng, height, width, 60) + 0.6 * noise(rng, height, width, 14)
    leaves += np.linspace(-3.2, 2.6, height, dtype=np.float32)[:, None]
    green = (
        np.array([92, 128, 66], np.float32)
        * (1 + 0.3 * noise(rng, height, width, 5) + 0.15 * noise(rng, height, width, 2))[..., None]
    )
    field = np.where((leaves > 0.4)[..., None], green, field)
    field = cv2.GaussianBlur(np.asarray(field, np.float32), (0, 0), 1.2) * 1.06
    frame, edge = (232.0, 232.0, 228.0), 26
    for x in (0, width // 2 - edge // 2, width - edge):
        cv2.rectangle(field, (x, 0), (x + edge, height), frame, -1)
        cv2.line(field, (x + edge, 0), (x + edge, height), (140.0, 140.0, 138.0), 2)
        cv2.line(field, (x, 0), (x, height), (160.0, 160.0, 158.0), 2)
    for y in (0, int(0.28 * height), height - edge):
        cv2.rectangle(field, (0, y), (width, y + edge), frame, -1)
        cv2.line(field, (0, y + edge), (width, y + edge), (140.0, 140.0, 138.0), 2)
    cv2.rectangle(field, (width // 2 - 5, 300), (width // 2 + 5, 352), (90.0, 90.0, 92.0), -1)
    return finished(field)


def plain(rng: Random, colour: ArrayLike, *, side: int = 64) -> Image:
    """Nearly one colour: sides of thin things."""
    grain = noise(rng, side, side, 1.0) + noise(rng, side, side, 6.0)
    return finished(np.asarray(colour, np.float32) * (1 + 0.025 * grain[..., None]))


def lockers(rng: Random, doors: int) -> Image:
    """Front of a row of steel lockers, numbered from a random start; 0.3 m x 1.8 m each."""
    texel = 0.0025
    height, width = round(1.8 / texel), round(0.3 / texel)
    first, tone = int(rng.integers(100, 800)), np.array([96.0, 122.0, 140.0])
    fronts = []
    for index in range(doors):
        field = np.empty((height, width, 3), np.float32)
        field[:] = tone * rng.normal(1, 0.03)
        field *= (1 + 0.02 * noise(rng, height, width, 40) + 0.01 * noise(rng, height, width, 1))[
            ..., None
        ]
        for slot in range(5):
            y = 60 + 16 * slot
            cv2.line(field, (30, y), (width - 30, y), (38.0, 46.0, 52.0), 4)
            cv2.line(field, (30, y + 4), (width - 30, y + 4), (150.0, 170.0, 184.0), 1)
        cv2.rectangle(field, (width - 30, 340), (width - 16, 400), (52.0, 56.0, 60.0), -1)
        cv2.rectangle(field, (0, 0), (width - 1, height - 1), (44.0, 54.0, 62.0), 3)
        front = text(finished(field), (38, 170), f"{first + index}", 30, (238, 238, 232))
        if rng.random() < 0.5:
            sticker = paper(rng, 56, 56)
            y, x = int(rng.uniform(220, 560)), int(rng.uniform(10, width - 70))
            front[y : y + 56, x : x + 56] = sticker
        fronts.append(front)
    return np.concatenate(fronts, axis=1)


def vending_machine(rng: Random) -> Image:
    """Front of a snack machine, 0.8 m x 1.8 m: shelves of packs behind glass, price tags, keys."""
    height, width = 900, 400
    image = np.full((height, width, 3), (44, 52, 66), np.uint8)
    cv2.rectangle(image, (16, 90), (296, 700), (232, 234, 226), -1)
    for top in range(100, 690, 100):
        for left in range(22, 290, 46):
            tall, colour = int(rng.integers(48, 74)), _INKS[rng.integers(len(_INKS))]
            pack = image[top + 76 - tall : top + 76, left : left + 38]
            pack[:] = np.clip(np.array(colour) * rng.uniform(0.7, 1.5), 0, 255)
            cv2.circle(pack, (19, tall // 2), int(rng.integers(7, 15)), (246, 240, 220), -1)
            cv2.rectangle(pack, (4, 4), (33, int(rng.integers(9, 15))), (250, 250, 250), -1)
        cv2.rectangle(image, (16, top + 76), (296, top + 88), (120, 124, 128), -1)
        for left in range(22, 290, 46):
            price = f"{rng.integers(1, 4)}.{rng.integers(0, 10)}0"
            image = text(image, (left + 6, top + 76), price, 11, (255, 255, 240))
    image = text(image, (24, 22), _phrase(rng, 1).upper(), 48, (250, 220, 90))
    for row in range(4):
        for column in range(3):
            corner = (316 + 24 * column, 300 + 26 * row)
            cv2.rectangle(image, corner, (corner[0] + 18, corner[1] + 20), (196, 200, 206), -1)
    cv2.rectangle(image, (316, 200), (384, 270), (20, 90, 66), -1)
    cv2.rectangle(image, (40, 750), (280, 840), (14, 16, 20), -1)
    return framed(image, 8, (26, 32, 42))
