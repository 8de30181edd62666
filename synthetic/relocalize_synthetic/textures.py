"""Building materials: plaster, terrazzo, acoustic tiles, wood, cork, brick; all from a seed.

Sizes are in metres; ``texel`` is the side of one texture element. Every material has detail from
decimetres to millimetres, as real ones have, because features are found at all those scales.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from relocalize_synthetic.scene import Image

Random = np.random.Generator
Field = NDArray[np.float32]


def noise(rng: Random, height: int, width: int, cell: float, cell_down: float = 0.0) -> Field:
    """Smooth noise [H, W] of about unit variance with features of ``cell`` texels."""
    down = cell_down or cell
    rows, columns = int(height / down) + 4, int(width / cell) + 4
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    size = (max(width, round(columns * cell)), max(height, round(rows * down)))
    smooth = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)[:height, :width]
    return np.asarray(smooth, np.float32)


def finished(pixels: NDArray[np.floating]) -> Image:
    """Float grey levels as uint8."""
    return np.asarray(np.clip(pixels + 0.5, 0, 255), np.uint8)


def plaster(rng: Random, height: int, width: int, texel: float, colour: ArrayLike) -> Field:
    """Rough-cast, painted: relief lit from above, stains and pinpricks; [H, W, 3]."""
    relief = noise(rng, height, width, 0.010 / texel) + 0.8 * noise(
        rng, height, width, max(1.0, 0.005 / texel)
    )
    lit = cv2.Sobel(relief, cv2.CV_32F, 0, 1, ksize=3) + 0.4 * cv2.Sobel(
        relief, cv2.CV_32F, 1, 0, ksize=3
    )
    shade = 1 + 0.019 * np.clip(lit, -5, 5)
    shade += 0.018 * noise(rng, height, width, 0.35 / texel)
    shade += 0.014 * noise(rng, height, width, 0.06 / texel)
    shade += 0.012 * noise(rng, height, width, 1.0)
    patches = noise(rng, height, width, 0.16 / texel)
    shade -= 0.035 * np.clip((patches - 1.5) * 3, 0, 1)
    field: Field = np.asarray(shade[..., None] * np.asarray(colour, np.float32), np.float32)
    _marks(rng, field, texel)
    return field


def _marks(rng: Random, field: Field, texel: float) -> None:
    """Scuffs, cracks, old screw holes and bits of tape; in place."""
    height, width = field.shape[:2]
    area = height * width * texel**2
    for _ in range(int(area * 3)):
        x, y = rng.uniform(0, width), height * (1 - rng.beta(1.2, 4))
        angle, length = rng.normal(0, 0.5), rng.uniform(0.03, 0.22) / texel
        end = (int(x + np.cos(angle) * length), int(y + np.sin(angle) * length))
        level = field[min(int(y), height - 1), int(x)] * rng.uniform(0.72, 0.92)
        cv2.line(field, (int(x), int(y)), end, [float(v) for v in level], 1, cv2.LINE_AA)
    for _ in range(int(area * 5)):
        x, y = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        radius = max(1, round(rng.uniform(0.003, 0.008) / texel))
        cv2.circle(field, (x, y), radius, [float(rng.uniform(50, 120))] * 3, -1, cv2.LINE_AA)
    for _ in range(int(area * 0.35)):
        x, y = rng.uniform(0, width), rng.uniform(0.3, 0.8) * height
        box = cv2.boxPoints(
            ((x, y), (rng.uniform(0.02, 0.05) / texel, 0.018 / texel), rng.uniform(0, 90))
        )
        tone = rng.choice([[222, 214, 170], [205, 205, 200], [178, 198, 214]])
        cv2.fillConvexPoly(field, box.astype(np.int32), [float(v) for v in tone], cv2.LINE_AA)
    for _ in range(int(area * 0.12)):
        steps = rng.normal([0, 0.012 / texel], 0.008 / texel, (40, 2)).cumsum(axis=0)
        steps += rng.uniform([0, 0], [width, 0.5 * height])
        cv2.polylines(field, [steps.astype(np.int32)], False, [150.0, 146.0, 138.0], 1, cv2.LINE_AA)


def brick(rng: Random, height: int, width: int, texel: float, colour: ArrayLike) -> Field:
    """Painted brick in running bond; [H, W, 3]."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) * np.float32(texel)
    course = np.floor(rows / 0.075)
    along = columns + 0.125 * (course % 2)
    from_joint = np.minimum(
        np.minimum(rows % 0.075, 0.075 - rows % 0.075),
        np.minimum(along % 0.25, 0.25 - along % 0.25),
    )
    table = rng.normal(1.0, 0.06, (int(height * texel / 0.075) + 2, int(width * texel / 0.25) + 3))
    tone = table[course.astype(int), np.floor(along / 0.25).astype(int)].astype(np.float32)
    joint = np.clip((0.007 - from_joint) / 0.004, 0, 1)
    relief = noise(rng, height, width, 0.008 / texel) - 4 * joint
    shade = tone * (1 + 0.02 * cv2.Sobel(relief, cv2.CV_32F, 0, 1, ksize=3)) * (1 - 0.25 * joint)
    shade += 0.03 * noise(rng, height, width, 1.5)
    return np.asarray(shade[..., None] * np.asarray(colour, np.float32), np.float32)


def terrazzo(rng: Random, height: int, width: int, texel: float) -> Field:
    """Cast slabs of 0.6 m with stone chips; [H, W, 3]."""
    palette = np.array(
        [[222, 214, 200], [96, 92, 90], [176, 148, 122], [150, 158, 152], [124, 84, 66]], np.float32
    )
    field = np.empty((height, width, 3), np.float32)
    field[:] = (171, 164, 154)
    for size, threshold in ((0.007, 1.15), (0.014, 1.0), (0.026, 1.25)):
        chip = noise(rng, height, width, size / texel) > threshold
        cell = max(2, round(2.6 * size / texel))
        index = rng.choice(
            5, (height // cell + 2, width // cell + 2), p=[0.4, 0.2, 0.16, 0.14, 0.1]
        )
        kinds = np.repeat(np.repeat(index, cell, axis=0), cell, axis=1)[:height, :width]
        field[chip] = palette[kinds[chip]]
    cv2.GaussianBlur(field, (0, 0), 0.6, dst=field)
    field *= (1 + 0.03 * noise(rng, height, width, 0.4 / texel))[..., None]
    field *= (1 + 0.02 * noise(rng, height, width, 1.0))[..., None]
    slab = 0.6 / texel
    rows, columns = int(height / slab) + 1, int(width / slab) + 1
    tones = rng.normal(1.0, 0.025, (rows, columns)).astype(np.float32)
    field *= cv2.resize(
        tones, (int(columns * slab), int(rows * slab)), interpolation=cv2.INTER_NEAREST
    )[:height, :width, None]
    half = max(1, round(0.002 / texel))
    for at in np.arange(0, max(height, width), slab):
        field[max(0, int(at) - half) : int(at) + half] *= 0.62
        field[:, max(0, int(at) - half) : int(at) + half] *= 0.62
    return field


def acoustic_tiles(rng: Random, height: int, width: int, texel: float) -> Field:
    """Mineral-fibre ceiling tiles of 0.6 m in white T-bars; [H, W, 3]."""
    field = np.empty((height, width, 3), np.float32)
    field[:] = (222, 221, 215)
    worms = noise(rng, height, width, 0.012 / texel, 0.006 / texel)
    field *= (1 - 0.32 * np.clip((worms - 1.1) * 3, 0, 1))[..., None]
    pits = noise(rng, height, width, max(1.0, 0.004 / texel))
    field *= (1 - 0.2 * np.clip((pits - 1.6) * 3, 0, 1))[..., None]
    field *= (1 + 0.02 * noise(rng, height, width, 0.3 / texel))[..., None]
    slab = 0.6 / texel
    rows, columns = int(height / slab) + 1, int(width / slab) + 1
    tones = rng.normal(1.0, 0.02, (rows, columns)).astype(np.float32)
    field *= cv2.resize(
        tones, (int(columns * slab), int(rows * slab)), interpolation=cv2.INTER_NEAREST
    )[:height, :width, None]
    for _ in range(int(height * width * texel**2 / 4)):  # water stains
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        stain = np.zeros((height, width), np.uint8)
        axes = (int(rng.uniform(0.04, 0.16) / texel), int(rng.uniform(0.04, 0.12) / texel))
        reach = max(axes) + 2
        left, top = max(0, centre[0] - reach), max(0, centre[1] - reach)
        window = np.s_[top : centre[1] + reach, left : centre[0] + reach]
        cv2.ellipse(stain, centre, axes, rng.uniform(0, 180), 0, 360, 1, max(1, int(0.006 / texel)))
        field[window] *= 1 - stain[window][..., None] * np.array([0.08, 0.12, 0.2], np.float32)
    bar = max(1, round(0.012 / texel))
    for at in np.arange(0, max(height, width), slab):
        low = max(0, int(at) - bar)
        field[low : int(at) + bar] = (236, 236, 233)
        field[int(at) + bar : int(at) + bar + 1] *= 0.72
        field[:, low : int(at) + bar] = (236, 236, 233)
        field[:, int(at) + bar : int(at) + bar + 1] *= 0.72
    return field


def wood(rng: Random, height: int, width: int, texel: float, colour: ArrayLike) -> Field:
    """Veneer with its grain running down; [H, W, 3]."""
    columns = np.arange(width, dtype=np.float32) * np.float32(texel)
    warp = noise(rng, height, width, 0.10 / texel, 0.9 / texel)
    rings = np.sin(2 * np.pi * (columns[None] / 0.028 + 1.4 * warp))
    shade = 1 + 0.06 * rings + 0.05 * noise(rng, height, width, 0.05 / texel, 1.5 / texel)
    shade += 0.05 * noise(rng, height, width, max(1.0, 0.003 / texel), 0.10 / texel)
    pores = noise(rng, height, width, 1.0, 0.03 / texel)
    shade -= 0.12 * np.clip((pores - 1.2) * 2, 0, 1)
    return np.asarray(shade[..., None] * np.asarray(colour, np.float32), np.float32)


def cork(rng: Random, height: int, width: int, texel: float) -> Field:
    """Pin-board cork; [H, W, 3]."""
    grains = noise(rng, height, width, 0.006 / texel) + 0.7 * noise(
        rng, height, width, 0.003 / texel
    )
    shade = 1 + 0.09 * grains + 0.03 * noise(rng, height, width, 0.1 / texel)
    return np.asarray(shade[..., None] * np.array([178, 134, 88], np.float32), np.float32)


def soft_shadow(field: Field, box: tuple[float, float, float, float], reach: float) -> None:
    """Darken around a body at (left, top, right, bottom) texels, mostly below it; in place."""
    left, top, right, bottom = box
    low = (max(0, int(left - 3 * reach)), max(0, int(top - 2 * reach)))
    window = field[low[1] : int(bottom + 4 * reach), low[0] : int(right + 3 * reach)]
    if not window.size:
        return
    shadow = np.zeros(window.shape[:2], np.float32)
    shadow[
        max(0, int(top - low[1] + reach / 2)) : max(0, int(bottom - low[1] + reach)),
        max(0, int(left - low[0])) : max(0, int(right - low[0])),
    ] = 1
    window *= 1 - 0.42 * cv2.GaussianBlur(shadow, (0, 0), max(0.8, reach / 1.6))[..., None]
