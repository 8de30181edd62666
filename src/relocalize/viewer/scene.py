"""The scene in the browser: few objects, however many cameras and points there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import viser
from numpy.typing import NDArray

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.plotting.walks import Walk
from relocalize.viewer.content import Content
from relocalize.viewer.detail import Detail
from relocalize.viewer.ellipsoid import Ellipsoid
from relocalize.viewer.frusta import frustum_lines, frustum_under, path_lines, spaced
from relocalize.viewer.placed_photo import PlacedPhoto
from relocalize.viewer.stored_errors import ErrorLines

Color = tuple[int, int, int]

_FLOOR, _GRAVITY = "floor grid", "gravity"  # layers

CHOSEN: Color = (255, 196, 0)  # the chosen camera
PHOTO: Color = (230, 30, 90)  # the photo that was localized
_GRID: Color = (175, 180, 186)
_INK: Color = (60, 66, 72)
# Of Okabe and Ito's colours for errors, apart from those of the first captures.
_ERRORS: tuple[Color, ...] = ((213, 94, 0), (204, 121, 167), (86, 180, 233), (0, 158, 115))
_DEPTH = 0.035  # of a frustum, of the reach of the scene
_CHOSEN_LARGER = 3.0  # the chosen frustum, so that its photo can be seen
# Side of a point, of the reach, where there are as many points as here: of fewer each is larger,
# so that walls are seen, of more smaller, so that what is on them is.
_POINT, _POINTS = 0.004, 40_000
_SMALLEST, _LARGEST = 0.5, 1.5  # times that
_OVER_A_PHOTO = 0.2  # times as large are points that are held against the photo behind them
_SHOWN_PIXELS = 800  # longer side of a photo that is sent
_MOST_RAYS = 400
_INLIER = 1.3  # size of a photo's inliers, of the map's points
_FOV = float(np.radians(50))
# So much is drawn in place of all while the eye of a slow browser moves.
_FEW_POINTS, _FEW_CAMERAS = 12_000, 100


@dataclass(eq=False)
class Scene:
    """All that is drawn, layer by layer; every method may be called again at any time.

    Attributes:
        server: viser's.
        content: what is drawn.
        layers: by the name that people see.
        depth: of the frusta, in the unit of positions.
        detail: who sees less of it, from `build` on.
    """

    server: viser.ViserServer
    content: Content
    layers: dict[str, list[viser.SceneNodeHandle]] = field(default_factory=dict)
    depth: float = 0.0
    detail: Detail = field(init=False)

    def __post_init__(self) -> None:
        self.depth = _DEPTH * self.content.reach
        self._few = np.arange(len(self.content.points))
        if len(self._few) > _FEW_POINTS:
            self._few = np.random.default_rng(0).choice(self._few, _FEW_POINTS, replace=False)
        self._cloud: viser.PointCloudHandle | None = None
        self._cameras: list[viser.LineSegmentsHandle] = []
        self._chosen: viser.CameraFrustumHandle | None = None
        self._photos: list[viser.CameraFrustumHandle] = []
        self._inliers: viser.PointCloudHandle | None = None
        self._around_the_photo: list[viser.SceneNodeHandle] = []
        self._point_factor = 1.0
        self._hidden: set[str] = set()
        self._is_looked_through = False

    def build(self, on_camera: Callable[[viser.ClientHandle, int, int], None]) -> None:
        """Draw points, cameras, floor and gravity.

        Args:
            on_camera: is called with the browser, the walk's number and the image's number in it
                when a frustum is clicked.
        """
        content, scene = self.content, self.server.scene
        scene.set_up_direction(content.axes[2])
        scene.world_axes.visible = False
        self._first_view()
        if len(content.points):
            self._cloud = self._draw_points(scene, slice(None))
            self.layers["points"] = [self._cloud]
        for number, walk in enumerate(content.walks):
            self._draw_walk(number, walk)
        self._draw_ground()
        self._draw_gravity()
        self.detail = Detail(self.server, self._draw_little)

        @scene.on_click()
        def _(event: viser.SceneClickEvent) -> None:
            hit = self._camera_under(np.array(event.ray_origin), np.array(event.ray_direction))
            if hit is not None:
                on_camera(event.client, *hit)

    def _camera_under(self, origin: FloatArray, direction: FloatArray) -> tuple[int, int] | None:
        """Number of the walk and row of the camera on a ray, of those that are visible."""
        best: tuple[float, int, int] | None = None
        for number, walk in enumerate(self.content.walks):
            if not self._cameras[number].visible:
                continue
            rows = self._drawn(walk)
            poses = [walk.world_from_cam[row] for row in rows]
            hit = frustum_under(origin, direction, poses, self.depth)
            if hit is not None and (best is None or hit[1] < best[0]):
                best = (hit[1], number, int(rows[hit[0]]))
        return None if best is None else best[1:]

    @property
    def _overview(self) -> FloatArray:
        """[3] where the eye sees all, from above and behind, beside the panel too."""
        content = self.content
        back = np.array([0.35, -0.8, 0.7]) @ content.axes
        return np.asarray(content.middle + 2.1 * content.reach * back)

    def _first_view(self) -> None:
        content, eye = self.content, self.server.initial_camera
        eye.position, eye.look_at, eye.up = self._overview, content.middle, content.axes[2]
        eye.fov = _FOV
        eye.near, eye.far = 0.002 * content.reach, 200 * content.reach

    def see_all(self, client: viser.ClientHandle) -> None:
        """Put the eye of one browser back where it was at first."""
        with client.atomic():
            eye = client.camera
            eye.position, eye.look_at = self._overview, self.content.middle
            eye.up_direction = self.content.axes[2]
            eye.fov = _FOV

    def _draw_little(self, client: viser.ClientHandle) -> list[viser.SceneNodeHandle]:
        """Draw few points and cameras for one browser, in place of all until these are removed."""
        # A node of a browser's own hides that of the same name which all browsers have.
        nodes: list[viser.SceneNodeHandle] = []
        are_many = len(self._few) < len(self.content.points)
        if are_many and self._cloud is not None and self._cloud.visible:
            nodes.append(self._draw_points(client.scene, self._few))
        walks = self.content.walks
        seen = [number for number in range(len(walks)) if self._cameras[number].visible]
        rows = [self._drawn(walks[number]) for number in seen]
        step = -(-sum(len(one) for one in rows) // _FEW_CAMERAS)
        if step > 1:
            for number, drawn in zip(seen, rows, strict=True):
                nodes.append(self._draw_cameras(client.scene, number, drawn[::step]))
                if walks[number].in_order and len(walks[number].names) > 1:
                    nodes.append(self._draw_path(client.scene, number, every=step))
        return nodes

    def _draw_points(
        self, scene: viser.SceneApi, rows: slice | NDArray[np.int64]
    ) -> viser.PointCloudHandle:
        points = self.content.points[rows]
        return scene.add_point_cloud(
            "/points",
            points,
            self.content.colors[rows],
            point_size=self._point_size(len(points)),
            point_shape="circle",
            point_shading="flat",
            precision="float32",
        )

    def _draw_cameras(
        self, scene: viser.SceneApi, number: int, rows: NDArray[np.int64]
    ) -> viser.LineSegmentsHandle:
        # The lines of all frusta are one object: as instances of a mesh they would cost a browser
        # without a graphics card six times as much.
        walk = self.content.walks[number]
        return scene.add_line_segments(
            f"/walk-{number}/cameras",
            self._lines_of(walk, rows),
            rgb(walk.color),
            thickness=1.2,
            thickness_units="screen",
        )

    def _draw_walk(self, number: int, walk: Walk) -> None:
        edges = self._draw_cameras(self.server.scene, number, self._drawn(walk))
        self._cameras.append(edges)
        self.layers[_cameras(walk)] = [edges]
        if walk.in_order and len(walk.names) > 1:
            path = self._draw_path(self.server.scene, number, every=1)
            self.layers[_cameras(walk)].append(path)

    def _draw_path(
        self, scene: viser.SceneApi, number: int, *, every: int
    ) -> viser.LineSegmentsHandle:
        walk = self.content.walks[number]
        return scene.add_line_segments(
            f"/walk-{number}/path",
            path_lines(walk.centres, every=every),
            rgb(walk.color),
            thickness=2.0,
            thickness_units="screen",
        )

    def _draw_ground(self) -> None:
        ground, scene = self.content.ground, self.server.scene
        # As lines: viser's own grid is a shader over all that it covers, which costs a browser
        # without a graphics card more than the rest of an empty scene.
        grid = scene.add_line_segments(
            "/floor/grid",
            ground.lines.astype(np.float32),
            _GRID,
            thickness=1.0,
            thickness_units="screen",
        )
        label = scene.add_label(
            "/floor/unit",
            f"grid: {ground.cell:g} {self.content.short_unit_of(ground.cell)}",
            position=ground.corner(-1, -1),
            anchor="top-left",
        )
        self.layers[_FLOOR] = [grid, label]

    def _draw_gravity(self) -> None:
        content, ground = self.content, self.content.ground
        up, foot = content.axes[2], ground.corner(-1, 1)
        length = 3 * ground.cell
        arrow = self.server.scene.add_arrows(
            "/gravity/arrow",
            np.stack([foot + length * up, foot])[None].astype(np.float32),
            _INK,
            shaft_radius=0.012 * length,
            head_radius=0.04 * length,
            head_length=0.12 * length,
        )
        says = "gravity" if content.up_is_known else "up is a guess: the map does not know gravity"
        label = self.server.scene.add_label(
            "/gravity/label", says, position=foot + length * up, anchor="bottom-left"
        )
        self.layers[_GRAVITY] = [arrow, label]

    def show(self, layer: str, visible: bool) -> None:
        """Show or hide a layer."""
        (self._hidden.discard if visible else self._hidden.add)(layer)
        self._show_what_is_to_be_seen()

    def look_through(self, on: bool) -> None:
        """Leave only what is held against a photo: its points, small; or show all again."""
        self._is_looked_through = on
        self._size_points()
        self._show_what_is_to_be_seen()

    def _show_what_is_to_be_seen(self) -> None:
        in_the_way = {_cameras(walk) for walk in self.content.walks} | {_FLOOR, _GRAVITY}
        hidden = self._hidden | (in_the_way if self._is_looked_through else set())
        for layer, nodes in self.layers.items():
            for node in nodes:
                node.visible = layer not in hidden
        chosen = [] if self._chosen is None else [self._chosen]
        for node in (*chosen, *self._photos, *self._around_the_photo):
            node.visible = not self._is_looked_through
        self.detail.redraw()

    def resize_points(self, factor: float) -> None:
        """Draw points so many times as large as at first."""
        self._point_factor = factor
        self._size_points()

    def _point_size(self, count: int) -> float:
        """Of each of so many points, in the unit of positions."""
        density = float(np.clip((_POINTS / max(count, 1)) ** 0.25, _SMALLEST, _LARGEST))
        held_against_a_photo = _OVER_A_PHOTO if self._is_looked_through else 1.0
        return _POINT * self.content.reach * density * self._point_factor * held_against_a_photo

    def _size_points(self) -> None:
        size = self._point_size(len(self.content.points))
        if self._cloud is not None:
            self._cloud.point_size = size
        if self._inliers is not None:
            self._inliers.point_size = _INLIER * size
        self.detail.redraw()

    def resize_cameras(self, factor: float) -> None:
        """Draw frusta so many times as large as at first."""
        self.depth = factor * _DEPTH * self.content.reach
        for walk, edges in zip(self.content.walks, self._cameras, strict=True):
            edges.points = self._lines_of(walk, self._drawn(walk))
        self.detail.redraw()

    def _drawn(self, walk: Walk) -> NDArray[np.int64]:
        """Rows of the cameras whose frusta are drawn: all photos, frames of a video apart."""
        if not walk.in_order:
            return np.arange(len(walk.names))
        return spaced(walk.world_from_cam, self.depth)

    def _lines_of(self, walk: Walk, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        poses = [walk.world_from_cam[row] for row in rows]
        return frustum_lines(poses, walk.aspect[rows], self.depth)

    def choose(
        self, world_from_cam: Rigid3, half: FloatArray, pixels: NDArray[np.uint8] | None
    ) -> None:
        """Highlight one camera, with its photo in its frustum where there is one."""
        self._chosen = self._frustum(
            "/chosen", world_from_cam, half, _CHOSEN_LARGER * self.depth, CHOSEN, pixels
        )

    def _frustum(
        self,
        name: str,
        world_from_cam: Rigid3,
        half: FloatArray | tuple[float, float],
        depth: float,
        color: Color,
        pixels: NDArray[np.uint8] | None,
    ) -> viser.CameraFrustumHandle:
        # viser scales a frustum by the cube root of its volume, so that all look equally large.
        volume = np.cbrt(half[0] * half[1] / 3)
        return self.server.scene.add_camera_frustum(
            name,
            fov=2 * float(np.arctan(half[1])),
            aspect=float(half[0] / half[1]),
            scale=float(depth * volume),
            thickness=2.5,
            thickness_units="screen",
            color=color,
            image=pixels,
            format="jpeg",
            wxyz=world_from_cam.quat_wxyz,
            position=world_from_cam.translation,
            cast_shadow=False,
            receive_shadow=False,
        )

    def place_photos(self, photos: Sequence[PlacedPhoto], number: int, exaggeration: float) -> None:
        """Draw localized photos: a frustum each; of one rays to its inliers and the 95% ellipsoid.

        Args:
            photos: those that were not localized are not drawn.
            number: which of them has rays and ellipsoid.
            exaggeration: of the ellipsoid.
        """
        for node in self.layers.pop("localized photos", []):
            node.remove()
        self._photos = [
            self._frustum(
                f"/photos/{row}",
                photo.estimate.world_from_cam,
                photo.half,
                _CHOSEN_LARGER * self.depth,
                PHOTO,
                shrunk(photo.pixels),
            )
            for row, photo in enumerate(photos)
            if photo.estimate.world_from_cam is not None
        ]
        why = self._why_there(photos[number], exaggeration) if photos else []
        self._inliers = next((n for n in why if isinstance(n, viser.PointCloudHandle)), None)
        self._around_the_photo = [node for node in why if node is not self._inliers]
        self.layers["localized photos"] = [*self._photos, *why]
        self._show_what_is_to_be_seen()
        self._size_points()

    def _why_there(self, placed: PlacedPhoto, exaggeration: float) -> list[viser.SceneNodeHandle]:
        """Rays from a photo to its inliers, and the 95% ellipsoid of its centre."""
        estimate, scene = placed.estimate, self.server.scene
        pose = estimate.world_from_cam
        nodes: list[viser.SceneNodeHandle] = []
        if pose is None:
            return nodes
        points = estimate.inlier_points
        if points is not None and len(points):
            rows = np.unique(np.linspace(0, len(points) - 1, _MOST_RAYS).astype(int))
            ends = points[rows].astype(np.float32)
            starts = np.broadcast_to(pose.translation.astype(np.float32), ends.shape)
            nodes.append(
                scene.add_line_segments(
                    "/photo/rays",
                    np.stack([starts, ends], axis=1),
                    PHOTO,
                    thickness=0.7,
                    thickness_units="screen",
                )
            )
            nodes.append(
                scene.add_point_cloud(
                    "/photo/inliers",
                    points.astype(np.float32),
                    PHOTO,
                    point_size=_INLIER * self._point_size(len(self.content.points)),
                    point_shape="circle",
                    precision="float32",
                )
            )
        if estimate.covariance is not None:
            ellipsoid = Ellipsoid.of(estimate.covariance[:3, :3])
            smallest = 1e-5 * self.content.reach  # a sphere of radius 0 cannot be drawn
            x, y, z = np.maximum(exaggeration * ellipsoid.radii, smallest).tolist()
            nodes.append(
                scene.add_icosphere(
                    "/photo/uncertainty",
                    1.0,
                    PHOTO,
                    scale=(x, y, z),
                    opacity=0.35,
                    wxyz=ellipsoid.quat_wxyz,
                    position=pose.translation,
                    cast_shadow=False,
                    receive_shadow=False,
                )
            )
        return nodes

    def draw_errors(
        self, errors: Sequence[ErrorLines], exaggeration: float, visible: set[int]
    ) -> None:
        """Draw those of the error layers whose numbers are in ``visible``."""
        for node in self.layers.pop("errors", []):
            node.remove()
        nodes: list[viser.SceneNodeHandle] = []
        for number in sorted(visible):
            one, color = errors[number], error_color(number)
            if len(one.images):
                nodes.append(
                    self.server.scene.add_line_segments(
                        f"/errors/{number}/lines",
                        one.lines(exaggeration).astype(np.float32),
                        color,
                        thickness=2.5,
                        thickness_units="screen",
                    )
                )
            if len(one.failed):
                nodes.append(
                    self.server.scene.add_point_cloud(
                        f"/errors/{number}/failed",
                        one.failed.astype(np.float32),
                        color,
                        point_size=0.5 * self.depth,
                        point_shape="diamond",
                        precision="float32",
                    )
                )
        self.layers["errors"] = nodes


def _cameras(walk: Walk) -> str:
    """The layer of a capture's cameras."""
    return f"cameras: {walk.name}"


def error_color(number: int) -> Color:
    """The colour of an error layer."""
    return _ERRORS[number % len(_ERRORS)]


def rgb(color: str) -> Color:
    """``#RRGGBB`` as numbers."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A photo [H, W, 3] as large as is shown."""
    height, width = pixels.shape[:2]
    factor = _SHOWN_PIXELS / max(height, width)
    if factor >= 1:
        return pixels
    size = (max(1, round(factor * width)), max(1, round(factor * height)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
