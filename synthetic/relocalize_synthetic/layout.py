"""The L-shaped corridor: where its walls are and what is on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from relocalize.geometry.transforms import FloatArray
from relocalize_synthetic import textures, walls
from relocalize_synthetic.scene import Cell, Layer, Scene, Surface, Texture, rectangle
from relocalize_synthetic.settings import CorridorSettings
from relocalize_synthetic.textures import Field
from relocalize_synthetic.walls import Fittings, Wall

_SLOT = 1.6  # metres of wall per door, window, board, ...
_LAMP_EVERY = 2.4  # metres
# What stands along the inner and the outer side of an arm; both arms repeat the same rhythm, so
# that a look alone does not say in which of them one is.
_INNER = "DBDPDLDP"
_OUTER = "WPWBWSDE"


def corridor(settings: CorridorSettings) -> Scene:
    """Build the scene. Frame: metres, z up, the first arm along +x, the second along +y."""
    return _Builder(settings).scene()


def cells_of(settings: CorridorSettings) -> list[Cell]:
    """The convex rooms: the first arm with the corner, then the second arm if there is one."""
    first, width, height = settings.first_arm, settings.width, settings.height
    cells = [Cell(np.zeros(3), np.array([first, width, height]))]
    if settings.second_arm:
        far = np.array([first, width + settings.second_arm, height])
        cells.append(Cell(np.array([first - width, width, 0.0]), far))
    return cells


class _Builder:
    def __init__(self, settings: CorridorSettings) -> None:
        self.settings = settings
        self.rng = np.random.default_rng([settings.seed, 1])
        self.fittings = Fittings(self.rng)
        self.cells = cells_of(settings)
        self.lamps = np.array(list(self._lamps()))
        self.rooms = 0
        self.targets = 0

    def scene(self) -> Scene:
        surfaces: list[Surface] = []
        landmarks: dict[str, FloatArray] = {}
        for wall in self._walls():
            surfaces += wall.surfaces()
            landmarks |= wall.landmarks
        for index in range(len(self.cells)):
            surfaces += self._floor_and_ceiling(index)
        surfaces += self._exit_signs()
        return Scene(surfaces, self.cells, landmarks)

    def _cell_of(self, point: FloatArray) -> int:
        return int(np.argmin([cell.distance(point) for cell in self.cells]))

    def _lamps(self) -> Iterator[tuple[float, float, float]]:
        """World points of the ceiling lamps."""
        s = self.settings
        middle = s.width / 2
        for x in np.arange(1.2, s.first_arm - 0.6, _LAMP_EVERY):
            yield (float(x), middle, s.height)
        for y in np.arange(1.2, s.second_arm - 0.6, _LAMP_EVERY):
            yield (s.first_arm - middle, s.width + float(y), s.height)

    def _walls(self) -> Iterator[Wall]:
        s = self.settings
        first, second, width = s.first_arm, s.second_arm, s.width
        inner_end = first - width if second else first
        # Outer side of the first arm (seen looking towards -y), then its near end.
        outer = self._wall((first, 0), (-1, 0), first)
        self._furnish(outer, _OUTER, first - np.arange(1.2, first - 0.8, _SLOT))
        yield outer
        yield self._end_wall((0, 0), (0, 1))
        inner = self._wall((0, width), (1, 0), inner_end)
        self._furnish(inner, _INNER, np.arange(1.0, inner_end - 0.75, _SLOT))
        yield inner
        if not second:
            yield self._end_wall((first, width), (0, -1))
            return
        # The outer side of the second arm begins at the corner that ends the first one.
        far = width + second
        outer = self._wall((first, far), (0, -1), far)
        self._furnish(outer, _OUTER, second - np.arange(1.2, second - 0.8, _SLOT))
        middle = second + width / 2
        walls.add_board(outer, self.fittings, self.rng, middle - 0.35, 1.4)
        walls.add_vending_machine(outer, self.fittings, self.rng, middle + 0.75)
        self._target(outer, middle - 0.35, 2.25)
        yield outer
        inner = self._wall((first - width, width), (0, 1), second)
        self._furnish(inner, _INNER, np.arange(1.0, second - 0.75, _SLOT))
        yield inner
        yield self._end_wall((first - width, far), (1, 0))

    def _wall(
        self,
        start: tuple[float, float],
        heading: tuple[int, int],
        length: float,
        *,
        bricks: bool = False,
    ) -> Wall:
        s = self.settings
        face = walls.painted(self.rng, length, s.height, s.texel, bricks=bricks)
        wall = Wall(start, heading, length, s.height, face, self._cell_of)
        self._light(
            face, wall.point(0, s.height), length * wall.right, [0, 0, -s.height], wall.inward
        )
        return wall

    def _end_wall(self, start: tuple[float, float], heading: tuple[int, int]) -> Wall:
        """Bricks, a board and a survey target."""
        wall = self._wall(start, heading, self.settings.width, bricks=True)
        middle = self.settings.width / 2
        walls.add_board(wall, self.fittings, self.rng, middle - 0.25, 1.5)
        walls.add_extinguisher(wall, self.fittings, middle + 0.8)
        self._target(wall, middle - 0.25, 2.2)
        return wall

    def _target(self, wall: Wall, u: float, z: float) -> None:
        self.targets += 1
        walls.add_target(wall, u, z, self.targets)

    def _furnish(self, wall: Wall, pattern: str, places: Iterable[float]) -> None:
        fittings, rng = self.fittings, self.rng
        for index, place in enumerate(places):
            u, kind = float(place), pattern[index % len(pattern)]
            if kind == "D":
                self.rooms += 1
                walls.add_door(wall, fittings, rng, u, f"1.{self.rooms:02d}")
            elif kind == "W":
                walls.add_window(wall, fittings, u)
            elif kind == "B":
                walls.add_board(wall, fittings, rng, u)
            elif kind == "L":
                walls.add_lockers(wall, fittings, rng, u)
            elif kind == "S":
                walls.add_bench(wall, fittings, rng, u)
            else:
                walls.add_posters(wall, fittings, rng, u)
                if kind == "E":
                    walls.add_extinguisher(wall, fittings, u + 0.75)
            if index % 2:
                self._target(wall, u + 0.1 * (index % 3), 2.32)

    def _floor_and_ceiling(self, index: int) -> Iterator[Surface]:
        s, cell = self.settings, self.cells[index]
        size = cell.high - cell.low
        along = int(size[1] > size[0])  # the axis that the arm runs along
        length, width = float(size[along]), float(size[1 - along])
        rows, columns = round(width / s.texel), round(length / s.texel)
        floor = textures.terrazzo(self.rng, rows, columns, s.texel)
        ceiling = textures.acoustic_tiles(self.rng, rows, columns, s.texel)
        # Images of the floor seen from above and of the ceiling seen from below, columns
        # along the arm: (origin, right, down) of each.
        x0, y0, _ = cell.low
        x1, y1, top = cell.high
        if along == 0:
            floor_frame = ([x0, y1, 0], [length, 0, 0], [0, -width, 0])
            ceiling_frame = ([x0, y0, top], [length, 0, 0], [0, width, 0])
        else:
            floor_frame = ([x0, y0, 0], [0, length, 0], [width, 0, 0])
            ceiling_frame = ([x1, y0, top], [0, length, 0], [-width, 0, 0])
        self._light(floor, *floor_frame, [0, 0, 1])
        self._light(ceiling, *ceiling_frame, [0, 0, -1])
        for lamp in self.lamps[[self._cell_of(lamp) == index for lamp in self.lamps]]:
            _paint_lamp(ceiling, (lamp[along] - cell.low[along]) / s.texel, rows / 2, s.texel)
        for field, (origin, right, down) in ((floor, floor_frame), (ceiling, ceiling_frame)):
            texture = Texture(textures.finished(field))
            parts = max(1, round(length / 1.2))
            for k in range(parts):
                ends = [columns * (k + j) / parts for j in (0, 1)]
                yield rectangle(
                    texture,
                    origin,
                    right,
                    down,
                    cell=index,
                    layer=Layer.SHELL,
                    part=(ends[0], 0.0, ends[1], float(rows)),
                )

    def _exit_signs(self) -> Iterator[Surface]:
        """Hanging signs across the corridor, readable from both sides."""
        s = self.settings
        places = [(x, 0) for x in np.arange(4.0, s.first_arm - 2, 7.0)]
        places += [(y, 1) for y in np.arange(4.0, s.second_arm, 7.0)]
        top, half, drop = s.height - 0.22, 0.2, 0.19
        for place, arm in places:
            if arm == 0:
                centre, aside = np.array([place, s.width / 2, top]), np.array([0.0, half, 0.0])
            else:
                centre = np.array([s.first_arm - s.width / 2, s.width + place, top])
                aside = np.array([half, 0.0, 0.0])
            for side in (-1, 1):
                yield rectangle(
                    self.fittings.exit,
                    centre - side * aside,
                    2 * side * aside,
                    [0, 0, -drop],
                    cell=self._cell_of(centre),
                    group=centre,
                )

    def _light(
        self, field: Field, origin: object, right: object, down: object, normal: object
    ) -> None:
        """Lambert's law for the lamps, plus ambient light that the edges get less of; in place."""
        corner, across, along, facing = (
            np.asarray(vector, dtype=np.float64) for vector in (origin, right, down, normal)
        )
        height, width = field.shape[:2]
        coarse = (max(8, height // 24), max(8, width // 24))
        v, u = np.meshgrid(*((np.arange(n) + 0.5) / n for n in coarse), indexing="ij")
        points = corner + u[..., None] * across + v[..., None] * along
        light = np.zeros(coarse)
        for lamp in self.lamps:
            ray = lamp - [0, 0, 0.12] - points
            square = (ray**2).sum(axis=-1)
            cosines = np.clip(ray @ facing, 0, None) * np.abs(ray[..., 2])
            light += cosines / square**2
        share = 0.74 + 0.3 * np.clip(light / 0.35, 0, 1.2)
        size = (width, height)
        field *= cv2.resize(share.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)[
            ..., None
        ]
        metre_u, metre_v = np.linalg.norm(across) / width, np.linalg.norm(along) / height
        for axis, metre in ((1, metre_u), (0, metre_v)):
            count = field.shape[axis]
            at = np.arange(count) + 0.5
            edge = np.minimum(at, count - at) * metre
            dim = (1 - 0.22 * np.exp(-edge / 0.12)).astype(np.float32)
            field *= dim[None, :, None] if axis == 1 else dim[:, None, None]


def _paint_lamp(ceiling: Field, column: float, row: float, texel: float) -> None:
    """A recessed louvre lamp of 1.2 m x 0.3 m."""
    half = (0.6 / texel, 0.15 / texel)
    low = (int(column - half[0]), int(row - half[1]))
    high = (int(column + half[0]), int(row + half[1]))
    cv2.rectangle(ceiling, low, high, (252.0, 252.0, 246.0), -1)
    for x in np.arange(low[0], high[0], 0.075 / texel):
        cv2.line(ceiling, (int(x), low[1]), (int(x), high[1]), (206.0, 206.0, 204.0), 2)
    for y in (low[1] + (high[1] - low[1]) // 3, low[1] + 2 * (high[1] - low[1]) // 3):
        cv2.line(ceiling, (low[0], y), (high[0], y), (216.0, 216.0, 214.0), 2)
    cv2.rectangle(ceiling, low, high, (150.0, 150.0, 148.0), max(1, round(0.008 / texel)))
