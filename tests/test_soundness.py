"""What holds the parts of a map to each other, by the points that both see."""

from dataclasses import replace

import numpy as np
import pytest

from relocalize import Camera, Rigid3
from relocalize.checking.soundness import judge_soundness, loose_images, map_problems
from relocalize.place import MapModel, PosedImage
from relocalize.place.model import NO_POINT, Points

CAMERA = Camera.from_focal(640, 480, 500.0)


def walk(shared: int, *, second: int = 12, seen: int = 300) -> MapModel:
    """Two rooms of 20 and ``second`` images, each with its own points, and some that both see."""
    rng = np.random.default_rng(0)
    own = [rng.uniform((-2, -1.5, 4), (2, 1.5, 6), (seen, 3)) for _ in range(2)]
    both = rng.uniform((-1, -1, 4), (1, 1, 6), (shared, 3))
    positions = np.concatenate([*own, both])
    rooms = [np.arange(seen), np.arange(seen, 2 * seen)]
    common = np.arange(2 * seen, 2 * seen + shared)
    images = {}
    for room, count in enumerate((20, second)):
        rows = np.concatenate([rooms[room], common])
        for number in range(count):
            world_from_cam = Rigid3(np.eye(3), np.array([0.05 * number, 0, 0.02 * number]))
            pose = world_from_cam.inverse()
            name = f"{'ab'[room]}/{number:03}.jpg"
            pixels = CAMERA.img_from_cam(pose @ positions[rows]) + rng.normal(
                0, 0.3, (len(rows), 2)
            )
            images[name] = PosedImage(name, CAMERA, 1, pose, pixels.astype(np.float32), rows)
    lengths = np.bincount(
        np.concatenate([image.point_rows for image in images.values()]), minlength=len(positions)
    )
    ids = np.arange(1, len(positions) + 1)
    colors = np.zeros((len(positions), 3), np.uint8)
    points = Points(ids, positions, colors, np.full(len(positions), 0.5), lengths)
    return MapModel(images, points)


def test_a_map_that_hangs_together_is_one_part_without_a_weak_link() -> None:
    found = judge_soundness(walk(shared=300))
    assert [len(part) for part in found.parts] == [32]
    assert found.links == ()


@pytest.mark.parametrize("shared", [0, 4])
def test_rooms_that_hardly_any_point_ties_are_parts_the_larger_first(shared: int) -> None:
    model = walk(shared)
    found = judge_soundness(model)
    assert [len(part) for part in found.parts] == [20, 12]
    assert all(name.startswith("a/") for name in found.parts[0])
    (problem,) = map_problems(model)
    assert problem.kind == "parts"
    assert set(problem.images) == set(found.parts[1])


def test_a_link_of_few_points_is_named_with_what_it_leaves_open() -> None:
    found = judge_soundness(walk(shared=15))
    assert [len(part) for part in found.parts] == [32]
    (link,) = found.links
    assert {link.first[0], link.second[0]} == {"a", "b"}
    assert (link.images, link.points) == (12, 15)
    assert 0 < link.rotation_sigma_deg < 5
    assert "15 points" in str(link)


def test_fewer_points_leave_more_open() -> None:
    (few,), (more,) = (judge_soundness(walk(shared)).links for shared in (15, 40))
    assert few.rotation_sigma_deg > more.rotation_sigma_deg
    assert few.scale_sigma > more.scale_sigma


def test_sides_of_which_any_two_images_share_few_points_are_parts() -> None:
    model = walk(shared=60)
    names = list(model.images)
    rng = np.random.default_rng(0)
    images = {}
    for name in names:
        image = model.images[name]
        rows = image.point_rows.copy()
        ties = np.flatnonzero(rows >= 600)
        # Two of the 60 are left to each image of the second room, four to each of the first.
        gone = rng.permutation(ties)[4 if name.startswith("a/") else 2 :]
        rows[gone] = NO_POINT
        images[name] = replace(image, point_rows=rows)
    found = judge_soundness(MapModel(images, model.points))
    assert [len(part) for part in found.parts] == [20, 12]


def test_an_image_that_few_points_hold_or_points_close_together_is_loose() -> None:
    model = walk(shared=300)
    names = list(model.images)
    few, narrow = (model.images[name] for name in names[:2])
    rows = few.point_rows.copy()
    rows[5:] = NO_POINT
    close = narrow.point_rows.copy()
    close[15:] = NO_POINT
    positions = model.points.positions.copy()
    spot = positions[close[0]]
    positions[close[:15]] = spot + np.random.default_rng(1).uniform(-0.02, 0.02, (15, 3))
    kept = model.images | {
        few.name: PosedImage(few.name, CAMERA, 1, few.cam_from_world, few.keypoints, rows),
        narrow.name: PosedImage(
            narrow.name, CAMERA, 1, narrow.cam_from_world, narrow.keypoints, close
        ),
    }
    loose = loose_images(MapModel(kept, replace(model.points, positions=positions)))
    assert set(loose) == {few.name, narrow.name}
    assert "5 points" in loose[few.name]
