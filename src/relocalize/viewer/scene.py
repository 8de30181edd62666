"""The scene in the browser: few objects, however many cameras and points there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import viser
from numpy.typing import NDArray

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place.image_file import shrunk
from relocalize.plotting.walks import Walk, spaced
from relocalize.viewer.content import Content
from relocalize.viewer.detail import Detail
from relocalize.viewer.placed_photo import PlacedPhoto
from relocalize.viewer.shapes import ellipsoid_95, frustum_lines, frustum_under, path_lines
from relocalize.viewer.stored_errors import ErrorLines

Color = tuple[int, int, int]
Rows = slice | NDArray[np.int64]

_POINTS_LAYER, _INLIERS, _ERRORS_LAYER, PHOTOS = "points", "inliers", "errors", "localized photos"
_OVER_A_PHOTO = (_POINTS_LAYER, _INLIERS, _ERRORS_LAYER)  # layers that are compared with it

CHOSEN: Color = (255, 196, 0)  # the chosen camera
PHOTO: Color = (230, 30, 90)  # the photo that was localized
_GRID: Color = (175, 180, 186)
_INK: Color = (60, 66, 72)
# Of Okabe and Ito's colours for errors, apart from those of the first captures.
_ERRORS: tuple[Color, ...] = ((213, 94, 0), (204, 121, 167), (86, 180, 233), (0, 158, 115))
_DEPTH = 0.035  # of a frustum, of the reach of the scene
# Of a video, a frustum is drawn where the camera has moved by so much of its depth since the last
# one, or turned by so much of a unit vector: those of every frame are one thick band.
_STEP, _TURN = 1.2, 0.3
_CHOSEN_LARGER = 3.0  # the chosen frustum, so that its photo can be seen
# Side of a point, of the reach, where there are as many points as here: of fewer each is larger,
# so that walls are seen, of more smaller, so that what is on them is.
_POINT, _POINTS = 0.004, 40_000
_SMALLEST, _LARGEST = 0.5, 1.5  # times that
_SMALL_OVER_A_PHOTO = 0.2  # times as large are points in front of a photo
SHOWN_PIXELS = 800  # longer side of a photo that is sent
_MOST_RAYS = 400
_INLIER = 1.3  # size of a photo's inliers, of the map's points
_FOV = float(np.radians(50))
# So much is drawn in place of all while the eye of a slow browser moves.
_FEW_POINTS, _FEW_CAMERAS = 12_000, 100


class Scene:
    """All that is drawn, layer by layer; every method but `build` may be called at any time.

    Attributes:
        server: viser's.
        content: what is drawn.
        layers: viser's handles by the name that people see.
        depth: of the frusta, in the unit of positions.
        detail: who sees less of it, from `build` on.
    """

    detail: Detail

    def __init__(self, server: viser.ViserServer, content: Content) -> None:
        self.server, self.content = server, content
        self.layers: dict[str, list[Any]] = {}
        self.depth = _DEPTH * content.reach
        self._few = np.arange(len(content.points))
        if len(self._few) > _FEW_POINTS:
            self._few = np.random.default_rng(0).choice(self._few, _FEW_POINTS, replace=False)
        self._cameras: list[viser.LineSegmentsHandle] = []
        self._point_factor = 1.0
        self._hidden: set[str] = set()
        self._photo_behind = False

    def build(self, on_camera: Callable[[viser.ClientHandle, int, int], None]) -> None:
        """Draw points, cameras, floor and gravity.

        ``on_camera`` is told of a clicked frustum: the browser, the walk's number, the image's.
        """
        content, scene = self.content, self.server.scene
        scene.set_up_direction(content.axes[2])
        scene.world_axes.visible = False
        self._first_view()
        if len(content.points):
            self.layers[_POINTS_LAYER] = [self._draw_points(scene, slice(None))]
        for number, walk in enumerate(content.walks):
            self._cameras.append(self._draw_cameras(scene, number, self.drawn(walk)))
            nodes: list[viser.SceneNodeHandle] = [self._cameras[number]]
            if walk.in_order and len(walk.names) > 1:
                nodes.append(self._draw_path(scene, number, every=1))
            self.layers[f"cameras: {walk.name}"] = nodes
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
        hits = []
        for number, walk in enumerate(self.content.walks):
            if self._cameras[number].visible:
                rows = self.drawn(walk)
                poses = [walk.world_from_cam[row] for row in rows]
                hit = frustum_under(origin, direction, poses, self.depth)
                if hit is not None:
                    hits.append((hit[1], number, int(rows[hit[0]])))
        return min(hits)[1:] if hits else None

    @property
    def _overview(self) -> FloatArray:
        """[3] where the eye sees all, from above and behind, clear of the panel."""
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
        if are_many and all(cloud.visible for cloud in self.layers[_POINTS_LAYER]):
            nodes.append(self._draw_points(client.scene, self._few))
        walks = self.content.walks
        seen = [number for number in range(len(walks)) if self._cameras[number].visible]
        rows = [self.drawn(walks[number]) for number in seen]
        step = -(-sum(len(one) for one in rows) // _FEW_CAMERAS)
        if step > 1:
            for number, drawn in zip(seen, rows, strict=True):
                nodes.append(self._draw_cameras(client.scene, number, drawn[::step]))
                if walks[number].in_order and len(walks[number].names) > 1:
                    nodes.append(self._draw_path(client.scene, number, every=step))
        return nodes

    def _draw_points(self, scene: viser.SceneApi, rows: Rows) -> viser.PointCloudHandle:
        points = self.content.points[rows]
        size = self._point_size(len(points))
        return _add_points(scene, "/points", points, self.content.colors[rows], size)

    def _draw_cameras(
        self, scene: viser.SceneApi, number: int, rows: NDArray[np.int64]
    ) -> viser.LineSegmentsHandle:
        # The lines of all frusta are one object: as instances of a mesh they would cost a browser
        # without a graphics card six times as much.
        walk = self.content.walks[number]
        lines = self._lines_of(walk, rows)
        return _add_lines(scene, f"/walk-{number}/cameras", lines, rgb(walk.color), 1.2)

    def _draw_path(
        self, scene: viser.SceneApi, number: int, *, every: int
    ) -> viser.LineSegmentsHandle:
        walk = self.content.walks[number]
        lines = path_lines(walk.centres, every=every)
        return _add_lines(scene, f"/walk-{number}/path", lines, rgb(walk.color), 2.0)

    def _draw_ground(self) -> None:
        ground, scene = self.content.ground, self.server.scene
        # As lines: viser's own grid is a shader over all that it covers, which costs a browser
        # without a graphics card more than the rest of an empty scene.
        grid = _add_lines(scene, "/floor/grid", ground.lines, _GRID, 1.0)
        label = scene.add_label(
            "/floor/unit",
            f"grid: {ground.cell:g} {self.content.unit_of(ground.cell)}",
            position=ground.corner(-1, -1),
            anchor="top-left",
        )
        self.layers["floor grid"] = [grid, label]

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
        self.layers["gravity"] = [arrow, label]

    def show(self, layer: str, visible: bool) -> None:
        """Show or hide a layer."""
        (self._hidden.discard if visible else self._hidden.add)(layer)
        self._refresh()

    def put_photo_behind(self, on: bool) -> None:
        """Leave only what is compared with a photo: its points, small; or show all again."""
        self._photo_behind = on
        self._refresh()

    def _refresh(self) -> None:
        """Show what is to be seen, in the size that it has now."""
        for layer, nodes in self.layers.items():
            in_the_way = self._photo_behind and layer not in _OVER_A_PHOTO
            for node in nodes:
                node.visible = not in_the_way and layer not in self._hidden
        size = self._point_size(len(self.content.points))
        for layer, factor in ((_POINTS_LAYER, 1.0), (_INLIERS, _INLIER)):
            for cloud in self.layers.get(layer, []):
                cloud.point_size = factor * size
        self.detail.redraw()

    def resize_points(self, factor: float) -> None:
        """Draw points so many times as large as at first."""
        self._point_factor = factor
        self._refresh()

    def _point_size(self, count: int) -> float:
        """Of each of so many points, in the unit of positions."""
        density = float(np.clip((_POINTS / max(count, 1)) ** 0.25, _SMALLEST, _LARGEST))
        small = _SMALL_OVER_A_PHOTO if self._photo_behind else 1.0
        return _POINT * self.content.reach * density * self._point_factor * small

    def resize_cameras(self, factor: float) -> None:
        """Draw frusta so many times as large as at first."""
        self.depth = factor * _DEPTH * self.content.reach
        for walk, edges in zip(self.content.walks, self._cameras, strict=True):
            edges.points = self._lines_of(walk, self.drawn(walk))
        self.detail.redraw()

    def drawn(self, walk: Walk) -> NDArray[np.int64]:
        """Rows of the cameras whose frusta are drawn: all photos, frames of a video apart."""
        if not walk.in_order:
            return np.arange(len(walk.names))
        step = _STEP * self.depth
        return spaced(walk.centres, walk.directions, step=step, turn=_TURN)

    def _lines_of(self, walk: Walk, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        poses = [walk.world_from_cam[row] for row in rows]
        return frustum_lines(poses, walk.aspect[rows], self.depth)

    def choose(
        self, world_from_cam: Rigid3, half: FloatArray, pixels: NDArray[np.uint8] | None
    ) -> None:
        """Highlight one camera, with its photo in its frustum where there is one."""
        chosen = self._frustum("/chosen", world_from_cam, half, CHOSEN, pixels)
        self.layers["chosen"] = [chosen]

    def _frustum(
        self,
        name: str,
        world_from_cam: Rigid3,
        half: FloatArray | tuple[float, float],
        color: Color,
        pixels: NDArray[np.uint8] | None,
    ) -> viser.CameraFrustumHandle:
        # viser scales a frustum by the cube root of its volume, so that all look equally large.
        volume = np.cbrt(half[0] * half[1] / 3)
        return self.server.scene.add_camera_frustum(
            name,
            fov=2 * float(np.arctan(half[1])),
            aspect=float(half[0] / half[1]),
            scale=float(_CHOSEN_LARGER * self.depth * volume),
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

        The ellipsoid is exaggerated so many times.
        """
        for node in (*self.layers.pop(PHOTOS, []), *self.layers.pop(_INLIERS, [])):
            node.remove()
        self.layers[PHOTOS] = [
            self._frustum(
                f"/photos/{row}",
                pose.shifted(-self.content.origin),
                photo.half,
                PHOTO,
                shrunk(photo.pixels, SHOWN_PIXELS),
            )
            for row, photo in enumerate(photos)
            if (pose := photo.estimate.world_from_cam) is not None
        ]
        if photos:
            self._draw_why_there(photos[number], exaggeration)
        self._refresh()

    def _draw_why_there(self, placed: PlacedPhoto, exaggeration: float) -> None:
        """Rays from a photo to its inliers, and the 95% ellipsoid of its centre."""
        estimate, scene = placed.estimate, self.server.scene
        pose, points = estimate.world_from_cam, estimate.inlier_points
        if pose is None:
            return
        pose = pose.shifted(-self.content.origin)
        if points is not None and len(points):
            points = points - self.content.origin
            rows = np.unique(np.linspace(0, len(points) - 1, _MOST_RAYS).astype(int))
            rays = np.stack(np.broadcast_arrays(pose.translation, points[rows]), axis=1)
            self.layers[PHOTOS].append(_add_lines(scene, "/photo/rays", rays, PHOTO, 0.7))
            self.layers[_INLIERS] = [_add_points(scene, "/photo/inliers", points, PHOTO, 1.0)]
        if estimate.covariance is not None:
            radii, quat_wxyz = ellipsoid_95(estimate.covariance[:3, :3])
            smallest = 1e-5 * self.content.reach  # a sphere of radius 0 cannot be drawn
            x, y, z = np.maximum(exaggeration * radii, smallest).tolist()
            ellipsoid = scene.add_icosphere(
                "/photo/uncertainty",
                1.0,
                PHOTO,
                scale=(x, y, z),
                opacity=0.35,
                wxyz=quat_wxyz,
                position=pose.translation,
                cast_shadow=False,
                receive_shadow=False,
            )
            self.layers[PHOTOS].append(ellipsoid)

    def draw_errors(
        self, errors: Sequence[ErrorLines], exaggeration: float, visible: set[int]
    ) -> None:
        """Draw those of the error layers whose numbers are in ``visible``."""
        for node in self.layers.pop(_ERRORS_LAYER, []):
            node.remove()
        nodes: list[viser.SceneNodeHandle] = []
        scene = self.server.scene
        for number in sorted(visible):
            one, color, name = errors[number], error_color(number), f"/errors/{number}"
            if len(one.true):
                lines = one.lines(exaggeration) - self.content.origin
                nodes.append(_add_lines(scene, f"{name}/lines", lines, color, 2.5))
            if len(one.failed):
                nodes.append(
                    _add_points(
                        scene,
                        f"{name}/failed",
                        one.failed - self.content.origin,
                        color,
                        0.5 * self.depth,
                        "diamond",
                    )
                )
        self.layers[_ERRORS_LAYER] = nodes


def _add_lines(
    scene: viser.SceneApi, name: str, ends: NDArray[Any], color: Color, thickness: float
) -> viser.LineSegmentsHandle:
    """Line segments [N, 2, 3], so many pixels thick."""
    return scene.add_line_segments(
        name, ends.astype(np.float32), color, thickness=thickness, thickness_units="screen"
    )


def _add_points(
    scene: viser.SceneApi,
    name: str,
    points: NDArray[Any],
    colors: Color | NDArray[np.uint8],
    size: float,
    shape: Literal["circle", "diamond"] = "circle",
) -> viser.PointCloudHandle:
    """Points [N, 3], so large in the unit of positions."""
    return scene.add_point_cloud(
        name,
        points.astype(np.float32),
        colors,
        point_size=size,
        point_shape=shape,
        point_shading="flat",
        precision="float32",
    )


def error_color(number: int) -> Color:
    """The colour of an error layer."""
    return _ERRORS[number % len(_ERRORS)]


def rgb(color: str) -> Color:
    """``#RRGGBB`` as numbers."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
