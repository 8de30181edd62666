"""One wall: its painted face, what is let into it and what hangs on it.

Wall coordinates: ``u`` metres to the right as seen from the room, ``z`` metres above the floor,
``out`` metres from the wall's face into the room.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from relocalize.geometry.transforms import FloatArray
from relocalize_synthetic import prints, textures
from relocalize_synthetic.scene import Layer, Surface, Texture, rectangle
from relocalize_synthetic.textures import Field, Random

_UP = np.array([0.0, 0.0, 1.0])
_TILE = 1.2  # metres; each tile of a wall chooses its own texture level
_DADO = 1.15  # metres; height of the darker lower paint
_SKIRTING = 0.09
_CASING = 0.09  # width of a door's casing
DOOR_WIDTH, DOOR_HEIGHT = 0.9, 2.06

Box = tuple[float, float, float, float]


class Wall:
    """Collects a wall's parts; `surfaces` makes the face once everything is on it.

    Args:
        start: (x, y) of its left end as seen from the room.
        heading: unit vector (x, y) to the right as seen from the room.
        length: metres.
        height: metres.
        face: [H, W, 3] its material, over the whole wall.
        cell_of: the cell of a world point [3].
    """

    def __init__(
        self,
        start: ArrayLike,
        heading: ArrayLike,
        length: float,
        height: float,
        face: Field,
        cell_of: Callable[[FloatArray], int],
    ) -> None:
        self.start = np.append(np.asarray(start, float), 0.0)
        self.right = np.append(np.asarray(heading, float), 0.0)
        self.inward = np.cross(self.right, _UP)
        self.length, self.height, self.face = length, height, face
        self.cell_of = cell_of
        self.landmarks: dict[str, FloatArray] = {}
        self._texels = face.shape[1] / length
        self.print_texel = 0.42 / self._texels  # paper shows more detail than paint
        self._openings: list[Box] = []
        self._bodies: list[Surface] = []

    def point(self, u: float, z: float, out: float = 0.0) -> FloatArray:
        """World point [3] of wall coordinates."""
        return np.asarray(self.start + u * self.right + z * _UP + out * self.inward)

    def texel_box(self, box: Box) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) texels of (u0, z0, u1, z1) metres."""
        u0, z0, u1, z1 = box
        rows = self.face.shape[0] / self.height
        return (
            round(u0 * self._texels),
            round((self.height - z1) * rows),
            round(u1 * self._texels),
            round((self.height - z0) * rows),
        )

    def shadow(self, box: Box, reach: float) -> None:
        """Paint the soft shadow of a body at (u0, z0, u1, z1)."""
        textures.soft_shadow(self.face, self.texel_box(box), reach * self._texels)

    def sheet(self, texture: Texture, box: Box, *, out: float = 0.004) -> None:
        """Something flat at (u0, z0, u1, z1)."""
        self.shadow(box, max(out, 0.008))
        self._add(texture, box, out, None)

    def body(
        self, front: Texture, sides: Texture, box: Box, depth: float, *, out: float = 0
    ) -> None:
        """A block at (u0, z0, u1, z1), ``depth`` thick, ``out`` from the wall."""
        u0, z0, u1, z1 = box
        near = out + depth
        self.shadow(box, min(0.10, 0.03 + depth / 3))
        group = self.point((u0 + u1) / 2, (z0 + z1) / 2, out + depth / 2)
        across, down, outward = (u1 - u0) * self.right, (z0 - z1) * _UP, depth * self.inward
        self._add(front, box, near, group)
        for origin, right, below in (
            (self.point(u0, z1, out), outward, down),
            (self.point(u1, z1, near), -outward, down),
            (self.point(u0, z1, out), across, outward),
            (self.point(u0, z0, near), across, -outward),
        ):
            self._bodies.append(
                rectangle(sides, origin, right, below, cell=self.cell_of(group), group=group)
            )

    def recess(self, back: Texture, sides: Texture, sill: Texture, box: Box, depth: float) -> None:
        """An opening at (u0, z0, u1, z1) with ``back`` at its end."""
        u0, z0, u1, z1 = box
        self._openings.append(box)
        group = self.point((u0 + u1) / 2, (z0 + z1) / 2, -depth / 2)
        across, down, outward = (u1 - u0) * self.right, (z0 - z1) * _UP, depth * self.inward
        for texture, origin, right, below in (
            (back, self.point(u0, z1, -depth), across, down),
            (sides, self.point(u0, z1), -outward, down),
            (sides, self.point(u1, z1, -depth), outward, down),
            (sides, self.point(u0, z1), across, -outward),
            (sill, self.point(u0, z0, -depth), across, outward),
        ):
            cell = self.cell_of(group + (depth / 2 + 0.01) * self.inward)
            self._bodies.append(
                rectangle(texture, origin, right, below, cell=cell, layer=Layer.RECESS, group=group)
            )

    def casing(self, box: Box, width: float, colour: ArrayLike) -> None:
        """Paint a moulding of ``width`` around an opening (not below it)."""
        u0, z0, u1, z1 = box
        below = z0 - width if z0 > 0 else z0
        self.shadow((u0 - width, below, u1 + width, z1 + width), 0.02)
        left, top, right, bottom = self.texel_box((u0 - width, below, u1 + width, z1 + width))
        window = self.face[top:bottom, left:right]
        grain = textures.noise(
            np.random.default_rng(len(self._bodies)), window.shape[0], window.shape[1], 2, 24
        )
        window[:] = np.asarray(colour, np.float32) * (1 + 0.03 * grain[..., None])
        window[:2] *= 1.12
        window[:, :2] *= 1.08
        window[:, -2:] *= 0.7
        inner = max(1, round(0.25 * width * self._texels))
        window[inner : inner + 2, inner:-inner] *= 0.8
        window[inner:, inner : inner + 2] *= 0.8
        window[inner:, -inner - 2 : -inner] *= 0.8

    def surfaces(self) -> list[Surface]:
        """Everything; the face is cut into tiles around the openings."""
        texture = Texture(textures.finished(self.face))
        cuts = {0.0, self.length, *(u for box in self._openings for u in (box[0], box[2]))}
        # A tile must not straddle two cells.
        fine = np.arange(0.0, self.length, 0.05) + 0.025
        cells = [self.cell_of(self.point(u, 1.0, 0.01)) for u in fine]
        cuts |= {
            float(round(fine[i] - 0.025, 6))
            for i in range(1, len(fine))
            if cells[i] != cells[i - 1]
        }
        edges = sorted(cuts)
        tiles = []
        for low, high in pairwise(edges):
            parts = max(1, round((high - low) / _TILE))
            for k in range(parts):
                u0, u1 = (low + (high - low) * (k + j) / parts for j in (0, 1))
                tiles += [self._tile(texture, (u0, z0, u1, z1)) for z0, z1 in self._spans(u0, u1)]
        return tiles + self._bodies

    def _spans(self, u0: float, u1: float) -> list[tuple[float, float]]:
        """The heights between u0 and u1 that no opening takes."""
        middle, spans, floor = (u0 + u1) / 2, [], 0.0
        for box in sorted((b for b in self._openings if b[0] < middle < b[2]), key=lambda b: b[1]):
            if box[1] > floor:
                spans.append((floor, box[1]))
            floor = box[3]
        return [*spans, (floor, self.height)]

    def _tile(self, texture: Texture, box: Box) -> Surface:
        u0, z0, u1, z1 = box
        rows = texture.height / self.height
        part = (
            u0 * self._texels,
            (self.height - z1) * rows,
            u1 * self._texels,
            (self.height - z0) * rows,
        )
        middle = self.point((u0 + u1) / 2, (z0 + z1) / 2)
        return rectangle(
            texture,
            self.point(0, self.height),
            self.length * self.right,
            -self.height * _UP,
            cell=self.cell_of(middle + 0.01 * self.inward),
            layer=Layer.SHELL,
            group=middle,
            part=part,
        )

    def _add(self, texture: Texture, box: Box, out: float, group: FloatArray | None) -> None:
        u0, z0, u1, z1 = box
        middle = self.point((u0 + u1) / 2, (z0 + z1) / 2, out)
        self._bodies.append(
            rectangle(
                texture,
                self.point(u0, z1, out),
                (u1 - u0) * self.right,
                (z0 - z1) * _UP,
                cell=self.cell_of(middle),
                group=middle if group is None else group,
            )
        )


def painted(rng: Random, length: float, height: float, texel: float, *, bricks: bool) -> Field:
    """The face of a wall: light above, darker dado, a stripe between, a skirting board."""
    rows, columns = round(height / texel), round(length / texel)
    if bricks:
        face = textures.brick(rng, rows, columns, texel, (214, 204, 190))
    else:
        face = textures.plaster(rng, rows, columns, texel, (226, 221, 208))
    dado = rows - round(_DADO / texel)
    face[dado:] *= np.array([0.66, 0.78, 0.74], np.float32)
    stripe = max(2, round(0.025 / texel))
    face[dado - stripe : dado] *= np.array([0.34, 0.44, 0.46], np.float32)
    board = rows - round(_SKIRTING / texel)
    face[board:] = textures.wood(rng, columns, rows - board, texel, (96, 84, 74)).transpose(1, 0, 2)
    face[board : board + 2] *= 1.35
    face[board - 2 : board] *= 0.75
    return face


class Fittings:
    """The things that are the same everywhere, made once: the look-alikes of the building."""

    def __init__(self, rng: Random) -> None:
        self.door = Texture(prints.door(rng))
        self.jamb = Texture(prints.plain(rng, (176, 172, 160)))
        self.threshold = Texture(prints.plain(rng, (84, 82, 80)))
        self.window = Texture(prints.window(rng))
        self.sill = Texture(prints.plain(rng, (206, 200, 188)))
        self.radiator = Texture(prints.radiator(rng))
        self.enamel = Texture(prints.plain(rng, (188, 188, 186)))
        self.steel = Texture(prints.plain(rng, (82, 104, 118)))
        self.timber = Texture(
            textures.finished(textures.wood(rng, 160, 560, 0.0025, (150, 104, 62)))
        )
        self.dark = Texture(prints.plain(rng, (66, 58, 52)))
        self.exit = Texture(prints.exit_sign())
        self.extinguisher_sign = Texture(prints.extinguisher_sign())
        self.red = Texture(prints.plain(rng, (176, 26, 28)))
        self.noticed = Texture(prints.poster(rng, 800, 565))  # hangs in both arms


def add_door(wall: Wall, fittings: Fittings, rng: Random, u: float, number: str) -> None:
    """A door centred at ``u`` with its casing and number plate."""
    box = (u - DOOR_WIDTH / 2, 0.0, u + DOOR_WIDTH / 2, DOOR_HEIGHT)
    wall.casing(box, _CASING, (112, 118, 116))
    wall.recess(fittings.door, fittings.jamb, fittings.threshold, box, 0.10)
    left = box[2] + _CASING + 0.07
    wall.sheet(Texture(prints.room_plate(rng, number)), (left, 1.5, left + 0.21, 1.65), out=0.008)


def add_window(wall: Wall, fittings: Fittings, u: float) -> None:
    """A window centred at ``u`` with a radiator below."""
    box = (u - 0.62, 0.95, u + 0.62, 2.2)
    wall.casing(box, 0.05, (206, 204, 196))
    wall.recess(fittings.window, fittings.sill, fittings.sill, box, 0.16)
    wall.body(fittings.radiator, fittings.enamel, (u - 0.6, 0.16, u + 0.6, 0.76), 0.09, out=0.03)


def add_board(wall: Wall, fittings: Fittings, rng: Random, u: float, width: float = 1.3) -> None:
    """A notice board full of papers; its corners become landmarks."""
    box = (u - width / 2, 0.95, u + width / 2, 1.95)
    texel = wall.print_texel
    size = round(1.0 / texel), round(width / texel)
    image = prints.notice_board(rng, *size, texel, papers=int(17 * width))
    wall.body(Texture(image), fittings.timber, box, 0.025)


def add_posters(wall: Wall, fittings: Fittings, rng: Random, u: float) -> None:
    """Two posters side by side."""
    for side in (-1, 1):
        height = rng.uniform(0.72, 0.9)
        width, middle = height / np.sqrt(2), 1.5 + rng.uniform(-0.08, 0.08)
        left = u + side * 0.38 - width / 2
        again = rng.random() < 0.25
        image = (
            fittings.noticed
            if again
            else Texture(
                prints.poster(
                    rng, round(height / wall.print_texel), round(width / wall.print_texel)
                )
            )
        )
        wall.sheet(image, (left, middle - height / 2, left + width, middle + height / 2))


def add_lockers(wall: Wall, fittings: Fittings, rng: Random, u: float) -> None:
    """Five steel lockers."""
    front = Texture(prints.lockers(rng, 5))
    wall.body(front, fittings.steel, (u - 0.75, 0.04, u + 0.75, 1.84), 0.32)


def add_bench(wall: Wall, fittings: Fittings, rng: Random, u: float) -> None:
    """Posters with a bench below."""
    add_posters(wall, fittings, rng, u)
    wall.body(fittings.timber, fittings.timber, (u - 0.65, 0.38, u + 0.65, 0.45), 0.34)
    for side in (-1, 1):
        left = u + side * 0.5 - 0.03
        wall.body(fittings.dark, fittings.dark, (left, 0.0, left + 0.06, 0.38), 0.30)


def add_vending_machine(wall: Wall, fittings: Fittings, rng: Random, u: float) -> None:
    """A snack machine: what makes a corner unlike the others."""
    front = Texture(prints.vending_machine(rng))
    wall.body(front, fittings.steel, (u - 0.4, 0.04, u + 0.4, 1.84), 0.45)


def add_extinguisher(wall: Wall, fittings: Fittings, u: float) -> None:
    """A fire extinguisher cabinet and its sign."""
    wall.body(fittings.red, fittings.red, (u - 0.11, 0.55, u + 0.11, 1.1), 0.14)
    wall.sheet(fittings.extinguisher_sign, (u - 0.1, 1.75, u + 0.1, 1.95))


def add_target(wall: Wall, u: float, z: float, number: int) -> None:
    """A survey target whose centre is a landmark."""
    half = 0.075
    wall.sheet(Texture(prints.survey_target(number)), (u - half, z - half, u + half, z + half))
    wall.landmarks[f"target-{number:02d}"] = wall.point(u, z, 0.004)
