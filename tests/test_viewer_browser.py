"""What a browser shows of a Place, and what people do there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from headless_browser import browser_page, seen
from relocalize import Place, Rigid3
from relocalize.localization import PoseEstimate
from relocalize.place.folder import METRE
from relocalize.viewer.placed_photo import PhotoPlacer
from viewed_place import Nowhere, jpeg, make_viewed_place, needs_viser, until

pytestmark = [needs_viser, pytest.mark.slow]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_viewed_place(tmp_path / "room")


def test_a_browser_shows_the_place_and_a_click_on_a_camera_shows_its_photo(
    place: Place, tmp_path: Path
) -> None:
    from relocalize.viewer.serving import ViewSettings, serve

    shutil.rmtree(place.images_dir / "visitor")  # those photos are gone
    with serve(place, ViewSettings(port=0)) as viewer, browser_page() as page:
        content = viewer.scene.content
        page.goto(viewer.url)
        until(viewer.server.get_clients, "connected")
        page.get_by_text("Click a camera to see its photo.").wait_for()
        (client,) = viewer.server.get_clients().values()
        until(lambda: drawn_share(seen(page)) > 0.01, "something is drawn")

        def click_on(walk: int, row: int) -> None:
            target = content.walks[walk].world_from_cam[row] @ np.array(
                [0.0, 0.0, 0.6 * viewer.scene.depth]
            )
            page.mouse.click(*pixel_of(client, target))

        # Of a video's cameras those are drawn that are apart, and these can be clicked on.
        first, second = (int(viewer.scene.drawn(walk)[2]) for walk in content.walks)
        click_on(0, first)
        page.get_by_text(f"walk/{first:04d}.jpg").wait_for()
        photo = page.locator("img").last
        photo.wait_for()
        assert photo.evaluate("image => image.naturalWidth") == 64
        color = (200, 20, 10 * first)  # that the photo was painted in
        until(lambda: share_of(seen(page), color) > 0.003, "the photo is on the screen")

        click_on(1, second)
        page.get_by_text(f"visitor/{12 + second:04d}.jpg").first.wait_for()
        page.get_by_text("is missing").wait_for()
        assert not photo.is_visible()

        page.get_by_role("button", name="Go to this camera").click()
        pose = content.walks[1].world_from_cam[second]
        until(lambda: np.allclose(client.camera.position, pose.translation, atol=1e-3), "there")
        page.get_by_role("button", name="See it all").click()
        overview = viewer.server.initial_camera.position
        until(lambda: np.allclose(client.camera.position, overview, atol=1e-3), "back")
        assert page.complaints == []


def test_an_eye_in_a_camera_sees_its_photo_behind_the_points_until_it_moves(
    place: Place,
) -> None:
    from relocalize.viewer.serving import ViewSettings, serve

    with serve(place, ViewSettings(port=0)) as viewer, browser_page() as page:
        page.goto(viewer.url)
        until(viewer.server.get_clients, "connected")
        page.get_by_text("Click a camera to see its photo.").wait_for()
        (client,) = viewer.server.get_clients().values()
        viewer.panel.choose(0, 5, client)
        cameras = viewer.scene.layers["cameras: walk"]
        # The colour that the photo was painted in, B 50 G 20 R 200.
        share = lambda: share_of(seen(page)[:, :600], (200, 20, 50))  # noqa: E731
        page.get_by_role("button", name="Go to this camera").click()
        until(lambda: share() > 0.6, "the photo fills the window")
        assert not any(node.visible for node in cameras)
        image = seen(page)[:, :600]
        points = np.abs(image.astype(int) - 120).max(axis=2) < 10  # the map's points are grey
        assert points.any()

        page.mouse.move(300, 350)
        page.mouse.down()
        page.mouse.move(380, 380, steps=5)
        page.mouse.up()
        until(lambda: share() < 0.3, "the photo is away")
        until(lambda: all(node.visible for node in cameras), "the cameras are back")
        assert page.complaints == []


def test_a_chosen_photo_lands_and_a_hostile_one_is_one_line(place: Place, tmp_path: Path) -> None:
    from relocalize.viewer.serving import ViewSettings, serve

    pose = Rigid3(np.eye(3), np.array([0.5, 0.25, 1.0]))
    covariance = np.diag([0.04, 0.01, 0.09, 1e-4, 1e-4, 1e-4])

    class Knowing(Nowhere):
        def localize(self, image, camera=None) -> PoseEstimate:
            points = np.array([[1.0, 1, 4], [0, 0, 3]])
            return PoseEstimate(
                "localized",
                METRE,
                2.0,
                None,
                pose,
                covariance,
                2,
                image.camera,
                inlier_points=points,
            )

    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(jpeg())
    bad.write_bytes(b"no photo")
    with serve(place, ViewSettings(port=0)) as viewer, browser_page() as page:
        viewer.panel._placer = PhotoPlacer(Knowing, "knowing")
        page.goto(viewer.url)
        until(viewer.server.get_clients, "connected")
        choose = page.locator("input[type=file]")
        choose.set_input_files(bad)
        page.get_by_text("photo bad.jpg is not an image").wait_for()
        choose.set_input_files(good)
        page.get_by_text("at 0.500 0.250 1.000 m").wait_for()
        page.get_by_text("2 inliers").wait_for()
        nodes = viewer.scene.layers["localized photos"]
        ellipsoid = next(node for node in nodes if "uncertainty" in node.name)
        assert np.allclose(ellipsoid.position, pose.translation)
        assert np.allclose(sorted(ellipsoid.scale), 2.7955 * np.array([0.1, 0.2, 0.3]), rtol=1e-4)
        rays = next(node for node in nodes if "rays" in node.name)
        assert np.allclose(rays.points[:, 1], [[1.0, 1, 4], [0, 0, 3]])

        again = tmp_path / "again.jpg"
        again.write_bytes(jpeg())
        choose.set_input_files(again)
        page.get_by_text("again.jpg by knowing").wait_for()
        frusta = [node.name for node in viewer.scene.layers["localized photos"]]
        assert {"/photos/0", "/photos/1"} <= set(frusta)  # the first one stays

        page.get_by_role("combobox", name="photo").click()
        page.get_by_role("option", name="1: good.jpg").click()
        page.get_by_text("good.jpg by knowing").wait_for()
        page.get_by_role("button", name="Forget the photos").click()
        until(lambda: viewer.scene.layers.get("localized photos") == [], "forgotten")
        page.get_by_text("good.jpg by knowing").wait_for(state="hidden")
        assert page.complaints == []


def pixel_of(client, point: np.ndarray) -> tuple[float, float]:
    """Where a point of the world is in a client's window."""
    camera = client.camera
    rotation = Rotation.from_quat(camera.wxyz, scalar_first=True).as_matrix()
    x, y, z = rotation.T @ (point - camera.position)
    focal = camera.image_height / 2 / np.tan(camera.fov / 2)
    return camera.image_width / 2 + focal * x / z, camera.image_height / 2 + focal * y / z


def drawn_share(image: np.ndarray) -> float:
    """The share of the scene's pixels, left of the panel, that are not background."""
    scene = image[:, 50:600].reshape(-1, 3).astype(int)
    background = np.median(scene, axis=0)
    return float((np.abs(scene - background).max(axis=1) > 25).mean())


def share_of(image: np.ndarray, color: tuple[int, int, int]) -> float:
    return float((np.abs(image.astype(int) - color).max(axis=2) < 20).mean())
