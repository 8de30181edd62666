"""The README's image: photos localized in the map of a rendered corridor, against its truth.

relocalize-synthesize corridor
relocalize build corridor/walk.mp4 place
python examples/readme_image.py place corridor demo.png
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from relocalize import Camera, Place, PosedImage, Rigid3, Similarity3
from relocalize.capture.photos import photo_paths, read_photo
from relocalize.formats import match_names, read_registration
from relocalize.geometry import align_camera_poses, position_error, rotation_error_deg
from relocalize.localization import fitted
from relocalize.place.model import NO_POINT

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
RGB = tuple[int, int, int]

SIZE = (1600, 960)
FINER = 2  # drawn so much larger, then shrunk: smooth edges
IMAGE_HEIGHT = 404
LEFT = 32  # pixels of margin
MAP_MARGIN = (28, 84, 66)  # pixels above, right of and below the corridor: error labels stand there
RIGHT_ERROR = 0.1  # metres; a photo further off than this is drawn as wrong
SEEN_HEIGHT = 2.4  # metres; points of the ceiling would hide the way
NEAR_VIEWS = 10  # map images whose points are shown in the photo

BACKGROUND: RGB = (17, 22, 29)
WALL: RGB = (68, 80, 96)
TEXT: RGB = (232, 237, 243)
FAINT: RGB = (150, 162, 176)
PATH: RGB = (255, 193, 77)
GOOD: RGB = (64, 224, 208)
WRONG: RGB = (255, 92, 92)
MISS: RGB = (122, 52, 56)


@dataclass(frozen=True)
class ReadmeImage:
    """Draw a Place made from a rendered corridor, and the corridor's photos localized in it."""

    place: tyro.conf.Positional[Path]
    """The Place made from the corridor's walk."""
    corridor: tyro.conf.Positional[Path]
    """The folder that `relocalize-synthesize` wrote."""
    out: tyro.conf.Positional[Path]
    """The image, a PNG file."""
    photo: str = "photo-022.jpg"
    """The visitor's photo that is shown."""


@dataclass(frozen=True, eq=False)
class LocalizedPhoto:
    """A photo, what the localizer said of it, and the truth, in the truth's frame (metres)."""

    path: Path
    true: Rigid3
    estimated: Rigid3 | None
    camera: Camera | None

    @property
    def error(self) -> float:
        """Of the position, in metres; infinite for a failure."""
        return np.inf if self.estimated is None else position_error(self.estimated, self.true)


def main(arguments: ReadmeImage) -> None:
    """Localize, compare with the truth, draw."""
    place = Place.open(arguments.place)
    metres_from_place = align_with_truth(place, arguments.corridor / "walk_poses.txt")
    photos = localize(place, arguments.corridor, metres_from_place)
    shown = next(photo for photo in photos if photo.path.name == arguments.photo)
    canvas = Canvas(read_outline(arguments.corridor))
    canvas.draw_map(place, metres_from_place)
    canvas.draw_photos(photos, shown)
    frame = nearest_views(place, metres_from_place, shown.true)[0]
    canvas.draw_images(
        with_seen_points(place, frame, metres_from_place),
        with_projected_points(place, shown, metres_from_place),
    )
    canvas.write_legend(photos)
    canvas.save(arguments.out)


def align_with_truth(place: Place, truth: Path) -> Similarity3:
    """Moves the Place's frame onto the truth's, by the walk's camera poses."""
    registration = read_registration(truth)
    images = place.map.images
    present_of = match_names(registration.poses, images).present_of
    return align_camera_poses(
        [images[name].world_from_cam for name in present_of.values()],
        [registration.world_from_cam(listed) for listed in present_of],
    ).b_from_a


def localize(place: Place, corridor: Path, metres_from_place: Similarity3) -> list[LocalizedPhoto]:
    """As `relocalize localize PLACE CORRIDOR/visitor` does, beside the truth."""
    paths = photo_paths((corridor / "visitor",))
    truth = read_registration(corridor / "visitor_poses.txt")
    photos = []
    estimates = fitted(place, "structure").localize_many(paths)
    for path, estimate in zip(paths, estimates, strict=True):
        pose = estimate.world_from_cam
        moved = None if pose is None else metres_from_place.move_camera(pose)
        photos.append(LocalizedPhoto(path, truth.world_from_cam(path.name), moved, estimate.camera))
    return photos


def read_outline(corridor: Path) -> Floats:
    """Corners [6, 2] of the corridor's true walls, seen from above, in metres."""
    settings = json.loads((corridor / "truth.json").read_text(encoding="utf-8"))["settings"]
    length, width = settings["first_arm"], settings["width"]
    depth, inner = width + settings["second_arm"], length - width
    return np.array(
        [[0, 0], [length, 0], [length, depth], [inner, depth], [inner, width], [0, width]],
        dtype=np.float64,
    )


def nearest_views(place: Place, metres_from_place: Similarity3, pose: Rigid3) -> list[PosedImage]:
    """The map's images by how near their views are to a pose: a metre counts as 30 degrees."""

    def distance(image: PosedImage) -> float:
        view = metres_from_place.move_camera(image.world_from_cam)
        return position_error(view, pose) + rotation_error_deg(view, pose) / 30

    return sorted(place.posed_images(), key=distance)


def with_seen_points(place: Place, image: PosedImage, metres_from_place: Similarity3) -> Pixels:
    """A map image with its features that are points of the map, coloured by distance."""
    seen = image.point_rows != NO_POINT
    points = image.cam_from_world @ place.points.positions[image.point_rows[seen]]
    depths = metres_from_place.scale * points[:, 2]
    return dotted(place.read_image(image.name), image.keypoints[seen].astype(np.float64), depths)


def with_projected_points(
    place: Place, photo: LocalizedPhoto, metres_from_place: Similarity3
) -> Pixels:
    """A photo with the points that near views of the map see, where its estimated pose puts them.

    A photo that was not localized comes back as it is.
    """
    pixels = read_photo(photo.path).pixels
    if photo.estimated is None or photo.camera is None:
        return pixels
    views = nearest_views(place, metres_from_place, photo.estimated)[:NEAR_VIEWS]
    rows = np.unique(np.concatenate([view.point_rows for view in views]))
    world = metres_from_place @ place.points.positions[rows[rows != NO_POINT]]
    points = photo.estimated.inverse() @ world
    projected = photo.camera.img_from_cam(points)
    height, width = pixels.shape[:2]
    inside = (points[:, 2] > 0) & (projected > 0).all(axis=1)
    inside &= (projected < [width, height]).all(axis=1)
    return dotted(pixels, projected[inside], points[inside, 2])


def dotted(pixels: Pixels, at: Floats, depths: Floats) -> Pixels:
    """An image of `IMAGE_HEIGHT` with dots at pixels [N, 2], red near and blue far (metres)."""
    height, width = pixels.shape[:2]
    finer = FINER * IMAGE_HEIGHT / height
    size = (round(width * finer), FINER * IMAGE_HEIGHT)
    image = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    # Logarithmic, from 1 m to 16 m.
    shade = np.clip(255 - 255 * np.log2(np.maximum(depths, 1)) / 4, 0, 255).astype(np.uint8)[
        :, None
    ]
    colours = cv2.cvtColor(cv2.applyColorMap(shade, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    for index in np.argsort(-depths):
        x, y = at[index] * finer
        red, green, blue = (int(value) for value in colours[index, 0])
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=BACKGROUND)
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=(red, green, blue))
    return np.asarray(image)


class Canvas:
    """The image: the corridor from above along the bottom and the right, the rest inside."""

    def __init__(self, outline: Floats) -> None:
        self.image = Image.new("RGB", (SIZE[0] * FINER, SIZE[1] * FINER), BACKGROUND)
        self.pen = ImageDraw.Draw(self.image)
        self.outline = outline
        above, right, below = MAP_MARGIN
        self.scale = (SIZE[1] - above - below) / float(outline[:, 1].max())  # pixels a metre
        self.corner = np.array([SIZE[0] - right, above], dtype=np.float64)

    def at(self, points: Floats) -> Floats:
        """Fine pixels of points [..., 2 or 3] in metres, seen from above."""
        top_right = self.outline.max(axis=0)
        fine: Floats = FINER * (self.corner + self.scale * (points[..., :2] - top_right) * [1, -1])
        return fine

    def text(
        self, x: float, y: float, said: str, size: int, fill: RGB = TEXT, anchor: str = "ls"
    ) -> None:
        """Write in pixels of the finished image."""
        font = ImageFont.load_default(size * FINER)
        self.pen.text((x * FINER, y * FINER), said, fill=fill, font=font, anchor=anchor)

    def dot(self, at: Floats, radius: float, fill: RGB) -> None:
        """Of a radius in fine pixels, at fine pixels [2]."""
        x, y = at
        self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

    def draw_map(self, place: Place, metres_from_place: Similarity3) -> None:
        """The map's points in their own colours, and the way of the camera."""
        positions = metres_from_place @ place.points.positions
        corners = [tuple(corner) for corner in self.at(self.outline)]
        self.pen.polygon(corners, fill=(25, 32, 41))
        self.pen.line([*corners, corners[0]], fill=WALL, width=2 * FINER)
        colours = vivid(place.points.colors)
        reliable = place.points.track_lengths >= 3
        for row in np.flatnonzero(reliable & (positions[:, 2] < SEEN_HEIGHT)):
            red, green, blue = (int(value) for value in colours[row])
            self.dot(self.at(positions[row]), 2.6, (red, green, blue))
        way = [
            tuple(self.at(metres_from_place @ image.world_from_cam.translation))
            for image in place.posed_images()
        ]
        self.pen.line(way, fill=PATH, width=2 * FINER, joint="curve")

    def draw_photos(self, photos: list[LocalizedPhoto], shown: LocalizedPhoto) -> None:
        """Each photo where it was localized, with its error in centimetres beside the corridor."""
        bottom: list[LocalizedPhoto] = []
        right: list[LocalizedPhoto] = []
        for photo in photos:
            truth = self.at(photo.true.translation)
            if photo.estimated is None:
                self.cross(*truth)
            elif photo.error > RIGHT_ERROR:
                estimate = self.at(photo.estimated.translation)
                self.pen.line([tuple(estimate), tuple(truth)], fill=MISS, width=FINER)
                self.cross(*truth)
                self.camera(photo.estimated, WRONG)
            else:
                self.camera(photo.estimated, GOOD)
            in_second_arm = photo.true.translation[1] > self.outline[4, 1]
            (right if in_second_arm else bottom).append(photo)
        if shown.estimated is not None:
            x, y = self.at(shown.estimated.translation)
            self.pen.ellipse((x - 36, y - 36, x + 36, y + 36), outline=TEXT, width=2 * FINER)
        self.label(bottom, axis=0, spacing=47)
        self.label(right, axis=1, spacing=23)

    def camera(self, pose: Rigid3, fill: RGB) -> None:
        """A wedge that opens to where the camera looks."""
        centre, x_axis, forward = pose.translation, pose.rotation[:, 0], pose.rotation[:, 2]
        forward = forward * [1, 1, 0] / np.linalg.norm(forward[:2])
        ends = np.stack([centre, centre + 0.44 * forward - 0.2 * x_axis])
        other = centre + 0.44 * forward + 0.2 * x_axis
        corners = [tuple(corner) for corner in self.at(np.vstack([ends, other]))]
        self.pen.polygon(corners, outline=BACKGROUND, fill=fill)
        self.dot(self.at(centre), 7, BACKGROUND)
        self.dot(self.at(centre), 5, fill)

    def cross(self, x: float, y: float) -> None:
        """Where a photo truly was that is not known, or not rightly."""
        for sign in (-1, 1):
            self.pen.line((x - 9, y - 9 * sign, x + 9, y + 9 * sign), fill=WRONG, width=2 * FINER)

    def label(self, photos: list[LocalizedPhoto], axis: int, spacing: int) -> None:
        """Errors below the first arm (axis 0) or right of the second (axis 1)."""
        photos = sorted(photos, key=lambda photo: self.at(photo.true.translation)[axis])
        wanted = [self.at(photo.true.translation)[axis] / FINER for photo in photos]
        edge = self.at(self.outline).max(axis=0)[1 - axis] / FINER
        for photo, true, place in zip(photos, wanted, spread(wanted, spacing), strict=True):
            wrong = photo.error > RIGHT_ERROR
            said = "none" if photo.estimated is None else error_text(photo.error)
            start, end = edge + 5, edge + 15
            ends = [(true, start), (place, end)] if axis == 0 else [(start, true), (end, place)]
            fine = [(x * FINER, y * FINER) for x, y in ends]
            self.pen.line(fine, fill=WRONG if wrong else WALL, width=FINER)
            x, y = (place, end + 1) if axis == 0 else (end + 4, place)
            self.text(x, y, said, 20, WRONG if wrong else GOOD, "ma" if axis == 0 else "lm")

    def draw_images(self, frame: Pixels, photo: Pixels) -> None:
        """The frame of the video and the photo, side by side."""
        x, y = LEFT, 92
        for pixels, title, remark in (
            (
                frame,
                "A frame of the walk's video",
                "and the map's points in it, red near, blue far",
            ),
            (
                photo,
                "A visitor's photo, another camera",
                "and the map's points where the found pose puts them",
            ),
        ):
            image = Image.fromarray(pixels)
            self.image.paste(image, (x * FINER, y * FINER))
            self.text(x, y - 42, title, 28)
            self.text(x, y - 14, remark, 21, FAINT)
            x += image.width // FINER + 20

    def write_legend(self, photos: list[LocalizedPhoto]) -> None:
        """What is to be seen, and the numbers."""
        centimetres = 100 * float(np.median([photo.error for photo in photos]))
        angle = np.median(
            [rotation_error_deg(p.estimated, p.true) if p.estimated else 180 for p in photos]
        )
        x, y = LEFT + 600, 92 + IMAGE_HEIGHT + 38
        self.text(LEFT, y + 30, f"{centimetres:.1f} cm, {angle:.2f}°", 60)
        self.text(LEFT, y + 70, f"median error of {len(photos)} photos by a", 24, FAINT)
        self.text(LEFT, y + 102, "camera that the map has never seen", 24, FAINT)
        right = sum(photo.error <= RIGHT_ERROR for photo in photos)
        refused = sum(photo.estimated is None for photo in photos)
        wrong = len(photos) - right - refused
        rows: list[tuple[Callable[[float, float, RGB], None], RGB, str]] = [
            (self.wedge_sign, GOOD, f"{right} localized; the number is the error in cm")
        ]
        if wrong:
            said = f"{wrong} wrong, taken for a look-alike; the cross is the truth"
            rows.append((self.wedge_sign, WRONG, said))
        if refused:
            rows.append((self.cross_sign, WRONG, f"{refused} refused, with the reason"))
        rows.append((self.line_sign, PATH, "way of the video camera"))
        rows.append((self.ring_sign, TEXT, "the photo shown above"))
        for sign, colour, said in rows:
            sign(FINER * x, FINER * y, colour)
            self.text(x + 44, y + 8, said, 24)
            y += 36
        self.scale_bar(LEFT, SIZE[1] - 100, 5)

    def wedge_sign(self, x: float, y: float, fill: RGB) -> None:
        """A photo in the legend; the signs take fine pixels of their left edge's middle."""
        self.pen.polygon([(x, y), (x + 52, y - 20), (x + 52, y + 20)], fill=fill)

    def cross_sign(self, x: float, y: float, _: RGB) -> None:
        """A refused photo in the legend."""
        self.cross(x + 26, y)

    def line_sign(self, x: float, y: float, fill: RGB) -> None:
        """The camera's way in the legend."""
        self.pen.line([(x, y), (x + 52, y)], fill=fill, width=2 * FINER)

    def ring_sign(self, x: float, y: float, fill: RGB) -> None:
        """The ring around the shown photo in the legend."""
        self.pen.ellipse((x + 6, y - 20, x + 46, y + 20), outline=fill, width=2 * FINER)

    def scale_bar(self, x: float, y: float, metres: int) -> None:
        """With its length."""
        end = x + metres * self.scale
        for a, b in (
            ((x, y), (end, y)),
            ((x, y - 5), (x, y + 5)),
            ((end, y - 5), (end, y + 5)),
        ):
            self.pen.line([*(v * FINER for v in a), *(v * FINER for v in b)], fill=FAINT, width=3)
        self.text((x + end) / 2, y + 28, f"{metres} m", 21, FAINT, "ms")

    def save(self, path: Path) -> None:
        """As PNG with a palette, a third of the size of full colours."""
        image = self.image.resize(SIZE, Image.Resampling.LANCZOS)
        image.quantize(256, kmeans=3, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


def vivid(colours: Pixels) -> Pixels:
    """Colours [N, 3] that can be told apart on a dark ground: saturated, and never dark."""
    hsv = cv2.cvtColor(colours[:, None], cv2.COLOR_RGB2HSV).astype(np.float64)
    hsv[..., 1] = np.minimum(2 * hsv[..., 1], 255)
    hsv[..., 2] = 110 + hsv[..., 2] * 145 / 255
    bright = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    return bright[:, 0].astype(np.uint8)


def error_text(error: float) -> str:
    """Metres as centimetres, without a false last digit."""
    return f"{100 * error:.1f}" if error < 1 else f"{error:.0f} m"


def spread(wanted: list[float], spacing: float) -> list[float]:
    """Places at least ``spacing`` apart, near the ascending ``wanted`` ones."""
    places = list(wanted)
    for _ in range(200):
        for i in range(len(places) - 1):
            lacking = spacing - (places[i + 1] - places[i])
            if lacking > 0:
                places[i] -= lacking / 2
                places[i + 1] += lacking / 2
    return places


if __name__ == "__main__":
    main(tyro.cli(ReadmeImage))
