"""The corridor's files: exact truth, the same for the same seed, and what a real walk has."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from relocalize.errors import CaptureError
from relocalize.geometry import Camera, Rigid3
from relocalize_synthetic import CorridorSettings, write_corridor
from relocalize_synthetic.layout import cells_of, corridor
from relocalize_synthetic.render import Renderer
from relocalize_synthetic.walk import looking, plan_photos, plan_walk

# The least that can be rendered, for tests that render several.
TINY = replace(CorridorSettings.small(), first_arm=4.0, texel=0.008)
TINY = replace(
    TINY, walk=replace(TINY.walk, rest_s=0.1, fps=10), visitor=replace(TINY.visitor, count=1)
)


@pytest.fixture(scope="module")
def small(corridor):
    return corridor


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_corridor(tmp_path_factory.mktemp("tiny") / "corridor", settings=TINY)


@pytest.fixture(scope="module")
def frames(small):
    with av.open(str(small.folder / "walk.mp4")) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def read_poses(path) -> dict[str, tuple[Rigid3, float]]:
    lines = (line.split() for line in path.read_text().splitlines())
    return {
        name: (
            Rigid3.from_quat_wxyz([float(v) for v in values[:4]], [float(v) for v in values[4:7]]),
            float(values[7]),
        )
        for name, *values in lines
    }


def found_near(image: np.ndarray, expected: np.ndarray) -> np.ndarray:
    # Blurred, because the corner finder is biased on edges as sharp as one pixel.
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
    start = np.float32(expected - 0.5).reshape(1, 1, 2)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-3)
    return cv2.cornerSubPix(grey, start, (3, 3), (-1, -1), stop).reshape(2) + 0.5


def landmark_errors(images: dict, poses: dict, camera: Camera, landmarks: dict) -> list[float]:
    """Pixels between survey targets as the truth projects them and as the image shows them."""
    errors = []
    for name, image in images.items():
        pose, _ = poses[name]
        for point in landmarks.values():
            in_cam = pose @ np.array(point)
            if not 0.8 < in_cam[2] < 4.0:
                continue
            pixel = camera.img_from_cam(in_cam)[0]
            if not (12 < pixel[0] < camera.width - 12 and 12 < pixel[1] < camera.height - 12):
                continue
            column, row = int(pixel[0]), int(pixel[1])
            patch = image[row - 3 : row + 4, column - 3 : column + 4]
            if int(patch.max()) - int(patch.min()) < 90:
                continue  # hidden, or seen too flat to have a corner
            errors.append(float(np.linalg.norm(found_near(image, pixel) - pixel)))
    return errors


def test_the_truth_fits_the_video(small, frames):
    facts = json.loads((small.folder / "truth.json").read_text())
    camera = Camera(**facts["cameras"]["walk"])
    poses = read_poses(small.folder / "walk_poses.txt")
    assert len(poses) == len(frames) == facts["frames"]
    assert all(focal == camera.focal_px for _, focal in poses.values())
    images = {f"frame-{i:06d}.jpg": frames[i] for i in range(len(frames))}
    errors = landmark_errors(images, poses, camera, facts["landmarks"])
    assert len(errors) > 50
    # Blur, noise and H.264 are in these images.
    assert np.median(errors) < 0.15
    assert np.percentile(errors, 90) < 0.5


def test_the_truth_fits_the_photos(small):
    facts = json.loads((small.folder / "truth.json").read_text())
    camera = Camera(**facts["cameras"]["visitor"])
    poses = read_poses(small.folder / "visitor_poses.txt")
    images = {path.name: np.array(Image.open(path)) for path in small.folder.glob("visitor/*.jpg")}
    assert set(images) == set(poses) == set(small.visitor_poses)
    assert all(image.shape == (camera.height, camera.width, 3) for image in images.values())
    errors = landmark_errors(images, poses, camera, facts["landmarks"])
    assert len(errors) >= 4
    assert np.median(errors) < 0.15


def test_the_files_hold_the_poses_of_the_returned_truth(small):
    for file, truth in (
        ("walk_poses.txt", small.walk_poses),
        ("visitor_poses.txt", small.visitor_poses),
    ):
        read = read_poses(small.folder / file)
        assert list(read) == list(truth)
        for name, (pose, _) in read.items():
            assert np.allclose(pose.matrix, truth[name].matrix, atol=1e-7)


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tiny, tmp_path):
    once, again = tiny, write_corridor(tmp_path / "again", settings=TINY)
    files = sorted(p.relative_to(once.folder) for p in once.folder.rglob("*") if p.is_file())
    assert len(files) == 5
    for file in files:
        assert (once.folder / file).read_bytes() == (again.folder / file).read_bytes(), file
    other = plan_walk(replace(TINY, seed=1)).cam_from_world(1.0)
    assert not np.allclose(other.matrix, once_pose(once))


def once_pose(truth) -> np.ndarray:
    return plan_walk(truth.settings).cam_from_world(1.0).matrix


def and_back(settings):
    return replace(settings, walk=replace(settings.walk, return_m=100.0))


@pytest.mark.parametrize(
    "settings",
    [
        CorridorSettings(),
        CorridorSettings.small(),
        and_back(CorridorSettings()),
        and_back(CorridorSettings.small()),
    ],
)
def test_walk_and_photos_stay_inside_the_corridor(settings):
    walk = plan_walk(settings)
    width, first, second = settings.width, settings.first_arm, settings.second_arm

    def room(point):  # metres to the nearest wall, in the arm that the point is in
        x, y, z = point
        in_first = min(x, first - x, y, width - y)
        in_second = min(x - (first - width), first - x, y - width, width + second - y)
        return min(max(in_first, in_second if second else -1), z, settings.height - z)

    times = np.arange(0, walk.duration, 0.05)
    centres = [walk.cam_from_world(t).inverse().translation for t in times]
    aside = np.array([0, 0.5, 0])
    # Where the arms meet, a point is in both; near the joint either margin may be small.
    assert min(max(room(c), room(c + aside), room(c - aside)) for c in centres) > 0.4
    for pose in plan_photos(settings, walk, cells_of(settings)):
        assert room(pose.inverse().translation) > 0.2


@pytest.mark.parametrize("settings", [CorridorSettings(), and_back(CorridorSettings())])
def test_the_walk_is_a_persons(settings):
    walk = plan_walk(settings)
    steps = np.arange(0, walk.duration, 1 / 30)
    poses = [walk.cam_from_world(t).inverse() for t in steps]
    centres = np.array([pose.translation for pose in poses])
    speeds = np.linalg.norm(np.diff(centres, axis=0), axis=1) * 30
    assert 0.5 < np.median(speeds) < 1.3
    assert speeds.max() < 2.0
    turns = [
        np.degrees(np.arccos(np.clip((np.trace(a.rotation.T @ b.rotation) - 1) / 2, -1, 1))) * 30
        for a, b in pairwise(poses)
    ]
    assert max(turns) < 120  # degrees per second: nobody whirls
    assert np.ptp(centres[:, 0]) > 14  # both arms are walked
    assert np.ptp(centres[:, 1]) > 10
    assert 25 < walk.duration < (80 if settings.walk.return_m else 50)


def test_a_walk_back_looks_where_the_way_there_did_not():
    settings = CorridorSettings()
    there, whole = plan_walk(settings), plan_walk(and_back(settings))

    def looks(walk, times):
        poses = [walk.cam_from_world(time).inverse() for time in times]
        return [pose.translation for pose in poses], [pose.rotation[:, 2] for pose in poses]

    way = np.arange(0, there.duration, 0.5)
    centres, looking = looks(there, way)
    # The turn at the far end begins before the way there ends.
    calm = way < there.duration - 4
    again, looking_again = looks(whole, way[calm])
    assert np.allclose(np.array(centres)[calm], again, atol=0.05)
    assert np.allclose(np.array(looking)[calm], looking_again, atol=0.05)
    back, looking_back = looks(whole, np.arange(there.duration + 4, whole.duration, 0.5))
    assert np.linalg.norm(back[-1] - centres[0]) < 0.8
    for centre, direction in zip(back, looking_back, strict=True):
        near = np.argmin(np.linalg.norm(np.array(centres) - centre, axis=1))
        assert np.linalg.norm(centres[near] - centre) < 1.2
        assert direction @ looking[near] < -0.3
    short = plan_walk(replace(settings, walk=replace(settings.walk, return_m=1.0)))
    assert there.distances[-1] + 1 < short.distances[-1] < there.distances[-1] + 4


def test_photos_are_the_same_whether_or_not_the_walk_comes_back(tiny, tmp_path):
    once, returned = tiny, write_corridor(tmp_path / "returned", settings=and_back(TINY))
    assert len(returned.walk_poses) > 1.5 * len(once.walk_poses)
    photos = sorted(path.name for path in once.folder.glob("visitor/*.jpg"))
    assert photos
    for name in photos:
        here, there = (truth.folder / "visitor" / name for truth in (once, returned))
        assert here.read_bytes() == there.read_bytes()


def test_the_walker_rests(small, frames):
    first, last = small.rest_frames
    assert last - first >= 15
    centres = [pose.inverse().translation for pose in small.walk_poses.values()]
    assert np.linalg.norm(centres[last] - centres[first]) < 0.01
    assert np.linalg.norm(centres[first - 20] - centres[first]) > 0.1
    change = [np.abs(frames[i + 3].astype(int) - frames[i]).mean() for i in range(len(frames) - 3)]
    assert np.mean(change[first : last - 3]) < 0.5 * np.mean(change[last + 10 :])


def test_exposure_blurs_noise_roughens(tmp_path):
    clean_walk = replace(
        TINY.walk, exposure_s=0.0, noise=0.0, exposure_drift=0.0, vignetting=0.0, crf=8
    )

    def sharpness(**changes):
        settings = replace(TINY, walk=replace(clean_walk, **changes))
        folder = tmp_path / "-".join(changes) if changes else tmp_path / "clean"
        truth = write_corridor(folder, settings=settings)
        with av.open(str(truth.folder / "walk.mp4")) as container:
            images = [f.to_ndarray(format="gray") for f in container.decode(video=0)][::4]
        return (
            np.median([cv2.Laplacian(i, cv2.CV_32F).var() for i in images]),
            np.mean([i[:40, :40].mean() / i[160:200, 220:260].mean() for i in images]),
        )

    clean, corner = sharpness()
    assert sharpness(exposure_s=1 / 8)[0] < 0.7 * clean
    assert sharpness(noise=6.0)[0] > 1.15 * clean
    assert sharpness(vignetting=0.5)[1] < 0.75 * corner


def test_focal_length_goes_to_exif_when_asked(tiny, tmp_path):
    visitor = replace(TINY.visitor, focal_in_exif=True)
    asked = write_corridor(tmp_path / "asked", settings=replace(TINY, visitor=visitor))
    assert not TINY.visitor.focal_in_exif
    for truth, wanted in ((tiny, False), (asked, True)):
        exif = Image.open(next(truth.folder.glob("visitor/*.jpg"))).getexif().get_ifd(0x8769)
        assert exif.get(0xA405) == (26 if wanted else None)  # 292.5 / 400 * 36 mm


def test_images_are_rich_in_features(frames):
    sift = cv2.SIFT_create(contrastThreshold=0.02)
    for image in frames[:: len(frames) // 5]:
        points = np.array([k.pt for k in sift.detect(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))])
        assert len(points) > 250
        height, width = image.shape[:2]
        filled, _, _ = np.histogram2d(
            points[:, 0], points[:, 1], bins=(4, 3), range=((0, width), (0, height))
        )
        assert (filled > 3).sum() >= 11  # nearly everywhere in the image


def test_every_direction_shows_something():
    renderer = Renderer(corridor(TINY))
    camera = Camera("SIMPLE_PINHOLE", 160, 120, (80.0, 80.0, 60.0))
    for yaw_deg in range(0, 360, 30):
        for pitch_deg in (-50, 0, 50):
            image = renderer.render(
                camera, looking([2.0, 1.2, 1.5], *np.radians([yaw_deg, pitch_deg, 5.0]))
            )
            assert (image.max(axis=2) == 0).mean() < 1e-3, (yaw_deg, pitch_deg)  # no holes


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(CaptureError, match="not empty"):
        write_corridor(tmp_path, settings=CorridorSettings.small())
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_settings_that_cannot_be_rendered_are_refused():
    with pytest.raises(CaptureError, match="at least 4 m"):
        CorridorSettings(first_arm=2.0)
    walk = CorridorSettings().walk
    with pytest.raises(CaptureError, match="even"):
        CorridorSettings(
            walk=replace(walk, camera=Camera.from_focal(641, 480, 500.0, model="SIMPLE_PINHOLE"))
        )
    with pytest.raises(CaptureError, match="distortion"):
        CorridorSettings(walk=replace(walk, camera=Camera.from_focal(640, 480, 500.0)))
