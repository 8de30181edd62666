"""Augmented copies: the pose of each is exact, and each can be made again."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from relocalize.errors import LocalizerError
from relocalize.geometry import Camera, Rigid3
from relocalize.regression.augmentation import augment, copy_rng, draw_view, jitter, show
from relocalize.regression.canonical import FILL, canonical_camera, source_pixels
from relocalize.regression.settings import AugmentSettings

CAMERAS = [
    Camera("SIMPLE_PINHOLE", 320, 240, (262.0, 160.0, 120.0)),
    Camera("OPENCV", 320, 240, (262.0, 260.0, 155.0, 123.0, -0.12, 0.05, 0.001, -0.002)),
    Camera("OPENCV_FISHEYE", 320, 240, (160.0, 160.0, 160.0, 120.0, 0.02, -0.003, 0.0, 0.0)),
]
TURNING = AugmentSettings(roll_deg=15.0, turn_deg=15.0, tilt_deg=8.0, zoom=1.4)
ALL = AugmentSettings(
    roll_deg=10.0,
    turn_deg=12.0,
    zoom=1.3,
    jitter=0.5,
    blur_px=1.5,
    noise=6.0,
    jpeg=0.3,
    occlusion=0.3,
)


def a_photo(camera, seed=0):
    """Smooth random light, so that neighbouring pixels differ and nothing repeats."""
    noise = np.random.default_rng(seed).normal(0, 1, (camera.height, camera.width, 3))
    spectrum = np.fft.rfft2(noise, axes=(0, 1))
    frequency = np.hypot(
        np.fft.fftfreq(camera.height)[:, None], np.fft.rfftfreq(camera.width)[None]
    )
    smooth = np.fft.irfft2(spectrum * np.exp(-((frequency / 0.04) ** 2))[..., None], axes=(0, 1))
    return np.clip(127.5 + 50 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def a_pose(seed):
    rng = np.random.default_rng(seed)
    return Rigid3(Rotation.random(random_state=seed).as_matrix(), rng.normal(0, 5, 3)).matrix


def spot_photo(camera, at):
    """An image of one bright round spot whose centre is ``at`` exactly."""
    y, x = np.mgrid[: camera.height, : camera.width]
    light = np.exp(-((x + 0.5 - at[0]) ** 2 + (y + 0.5 - at[1]) ** 2) / (2 * 3.0**2))
    return np.repeat((250 * light)[..., None], 3, axis=2).round().astype(np.uint8)


@given(
    model=st.integers(0, len(CAMERAS) - 1),
    seed=st.integers(0, 2**31),
    at=st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7)),
    depth=st.floats(0.3, 50.0),
    doubt=st.sampled_from([1.0, 1.2]),
)
def test_a_map_point_is_in_the_copy_where_the_new_pose_puts_it(model, seed, at, depth, doubt):
    camera = CAMERAS[model]
    settings = AugmentSettings(
        roll_deg=15.0, turn_deg=15.0, tilt_deg=8.0, zoom=1.4, focal_doubt=doubt
    )
    target = canonical_camera([camera], 256, 192)
    world_from_cam = a_pose(seed)
    pixel = np.array(at) * [camera.width, camera.height]
    in_cam = np.append(camera.cam_from_img(pixel)[0], 1.0) * depth
    in_world = world_from_cam[:3, :3] @ in_cam + world_from_cam[:3, 3]

    view = draw_view(copy_rng(seed, 0, 0), settings)
    copy_pose = view.world_from_cam(world_from_cam)
    through = view.camera(target)
    expected = through.img_from_cam(Rigid3.from_matrix(copy_pose).inverse() @ in_world[None])[0]
    assert np.array_equal(copy_pose[:3, 3], world_from_cam[:3, 3])

    # By the map of the warp itself: the expected pixel comes from where the point was.
    x, y, _ = source_pixels(camera, through, view.view_from_cam)
    columns, rows = expected - 0.5
    inside = 1 < columns < target.width - 2 and 1 < rows < target.height - 2
    if inside:
        left, top = int(columns), int(rows)
        weights = np.outer([1 - rows + top, rows - top], [1 - columns + left, columns - left])
        found = [float((weights * m[top : top + 2, left : left + 2]).sum()) for m in (x, y)]
        assert np.linalg.norm(np.array(found) - pixel) < 0.05


@pytest.mark.parametrize("camera", CAMERAS[:2], ids=lambda camera: camera.model)
def test_a_spot_in_the_image_lands_where_the_new_pose_puts_it_to_a_twentieth_of_a_pixel(camera):
    target = canonical_camera([camera], 256, 192)
    settings = AugmentSettings(roll_deg=15.0, turn_deg=10.0)
    shifts = []
    for frame in range(25):
        pixel = np.random.default_rng(frame).uniform([130, 90], [190, 150])
        ray = np.append(camera.cam_from_img(pixel)[0], 1.0)
        pose = a_pose(frame)
        image, copy_pose = augment(
            spot_photo(camera, pixel), camera, pose, target, copy_rng(1, 2, frame), settings
        )
        in_copy = copy_pose[:3, :3].T @ pose[:3, :3] @ ray
        expected = target.img_from_cam(in_copy[None])[0]
        light = np.where(image == FILL, 0, image)[..., 0].astype(float)
        light[light < 8] = 0
        y, x = np.mgrid[: target.height, : target.width] + 0.5
        centre = np.array([(x * light).sum(), (y * light).sum()]) / light.sum()
        shifts.append(centre - expected)
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.05
    assert np.linalg.norm(shifts, axis=1).max() < 0.1  # cut at 8 of 255, a spot is a little uneven


def test_copies_do_not_depend_on_who_makes_them_or_in_which_order():
    camera = CAMERAS[1]
    pixels, pose = a_photo(camera), a_pose(3)
    target = canonical_camera([camera], 128, 96)

    def one(key):
        return augment(pixels, camera, pose, target, copy_rng(5, *key), ALL)

    keys = [(epoch, frame, copy) for epoch in (0, 1) for frame in (0, 7) for copy in (0, 1, 2)]
    there = [one(key) for key in keys]
    with ThreadPoolExecutor(3) as pool:
        back = list(pool.map(one, reversed(keys)))[::-1]
    for (first, first_pose), (second, second_pose) in zip(there, back, strict=True):
        assert np.array_equal(first, second)
        assert np.array_equal(first_pose, second_pose)
    poses = np.stack([pose for _, pose in there])
    assert len(np.unique(poses.reshape(len(poses), -1), axis=0)) == len(keys)


def test_light_and_shade_do_not_move_the_camera():
    quiet, loud = (
        TURNING,
        AugmentSettings(
            roll_deg=15.0,
            turn_deg=15.0,
            tilt_deg=8.0,
            zoom=1.4,
            jitter=1.0,
            noise=9.0,
            occlusion=0.5,
        ),
    )
    first, second = (draw_view(copy_rng(1, 2, 3), settings) for settings in (quiet, loud))
    assert np.array_equal(first.view_from_cam, second.view_from_cam)
    assert first.shown == second.shown


def test_turns_fill_their_ranges_and_stay_in_them():
    turns = np.array(
        [
            Rotation.from_matrix(draw_view(copy_rng(0, 0, i), TURNING).view_from_cam).as_euler(
                "yxz", degrees=True
            )
            for i in range(400)
        ]
    )
    assert (np.abs(turns).max(axis=0) <= [15.0, 8.0, 15.0]).all()
    assert (np.abs(turns).max(axis=0) > [14.0, 7.5, 14.0]).all()
    assert np.abs(turns.mean(axis=0)).max() < 1.5


def test_a_positive_turn_looks_to_the_right_as_the_pose_says():
    camera = CAMERAS[0]
    target = canonical_camera([camera], 128, 96)
    for frame in range(5):
        view = draw_view(copy_rng(0, 0, frame), AugmentSettings(turn_deg=15.0, tilt_deg=0.0))
        axis_before = view.world_from_cam(np.eye(4))[:3, 2]
        # The old axis's point has moved against the turn.
        seen_at = target.img_from_cam((view.view_from_cam @ [0, 0, 1.0])[None])[0]
        assert np.sign(axis_before[0]) == -np.sign(seen_at[0] - 64)


def test_no_augmentation_is_the_image_itself():
    camera = CAMERAS[0]
    pixels, pose = a_photo(camera), a_pose(1)
    target = canonical_camera([camera], 128, 96)
    settings = AugmentSettings()
    assert settings.is_none
    assert not ALL.is_none
    copy, copy_pose = augment(pixels, camera, pose, target, copy_rng(0, 0, 0), settings)
    plain, _ = show(pixels, camera, target, draw_view(copy_rng(9, 9, 9), settings))
    assert np.array_equal(copy, plain)
    assert np.array_equal(copy_pose, pose)


def test_another_lens_is_brought_back_so_that_what_it_shows_stays_in_place():
    camera = CAMERAS[0]
    pixels = a_photo(camera)
    target = canonical_camera([camera], 128, 96)
    plain = augment(pixels, camera, np.eye(4), target, copy_rng(0, 0, 0), AugmentSettings())[0]
    settings = AugmentSettings(zoom=2.0)
    shares, shapes = [], []
    for frame in range(40):
        view = draw_view(copy_rng(0, 0, frame), settings)
        shapes.append(view.shown)
        copy, seen = show(pixels, camera, target, view)
        shares.append(seen.mean())
        blurred = np.abs(copy.astype(float) - plain)[seen].mean()
        assert blurred < (0.5 if view.coarseness == 1.0 else 12.0)
    assert min(shares) < 0.4
    # Half have their shape; of these half are by the same lens, and a quarter by a shorter one.
    assert np.mean(np.array(shares) == 1.0) > 0.3
    across, down = np.array(shapes).T
    assert (across[down == 1.0] < 0.6).any()  # held upright
    assert (down[across == 1.0] < 0.9).any()  # 16:9
    alone = [draw_view(copy_rng(0, 0, frame), AugmentSettings(turn_deg=5.0)) for frame in range(40)]
    assert {view.shown for view in alone} == {(1.0, 1.0)}


@pytest.mark.parametrize(
    "settings",
    [
        AugmentSettings(jitter=1.0),
        AugmentSettings(blur_px=3.0),
        AugmentSettings(noise=20.0),
        AugmentSettings(jpeg=1.0),
        AugmentSettings(occlusion=0.5),
    ],
    ids=["jitter", "blur", "noise", "jpeg", "occlusion"],
)
def test_each_effect_changes_images_and_never_moves_or_mirrors_them(settings):
    camera = CAMERAS[0]
    pixels = a_photo(camera)
    before = pixels.copy()
    changed = []
    for frame in range(12):
        copy = jitter(pixels, copy_rng(0, 0, frame), settings)
        assert copy.dtype == np.uint8
        assert copy.shape == pixels.shape
        changed.append(np.abs(copy.astype(float) - pixels).mean())
        flat, mirrored = pixels.astype(float).ravel(), pixels[:, ::-1].astype(float).ravel()
        likeness = np.corrcoef(copy.astype(float).ravel(), flat)[0, 1]
        assert likeness > 0.5
        assert likeness > np.corrcoef(copy.astype(float).ravel(), mirrored)[0, 1] + 0.3
    assert max(changed) > 1.0
    assert np.array_equal(pixels, before)  # the image that was given is as it was


def test_occlusion_covers_no_more_than_it_may():
    grey = np.full((96, 128, 3), 100, np.uint8)
    covered = [
        (jitter(grey, copy_rng(0, 0, frame), AugmentSettings(occlusion=0.3)) != grey)
        .any(axis=2)
        .mean()
        for frame in range(100)
    ]
    assert 0.1 < max(covered) <= 0.32  # sides are whole pixels
    assert np.mean(np.array(covered) == 0) > 0.3


def test_beyond_the_image_is_the_colour_that_photos_of_other_lenses_have_there():
    camera = CAMERAS[0]
    black = np.zeros((240, 320, 3), np.uint8)
    target = canonical_camera([camera], 128, 96)
    settings = AugmentSettings(turn_deg=20.0, jitter=1.0, noise=10.0)
    copy, _ = augment(black, camera, np.eye(4), target, copy_rng(0, 0, 4), settings)
    _, seen = show(black, camera, target, draw_view(copy_rng(0, 0, 4), settings))
    assert seen.mean() < 0.95
    assert (copy[~seen] == FILL).all()
    drawn_out = AugmentSettings(turn_deg=20.0, fill="edge")
    copy, _ = augment(black, camera, np.eye(4), target, copy_rng(0, 0, 4), drawn_out)
    assert (copy == 0).all()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"turn_deg": 90.0}, "augment.turn_deg is 90.0; want float <= 60"),
        ({"tilt_deg": -1.0}, "augment.tilt_deg is -1.0"),
        ({"zoom": 0.5}, "augment.zoom is 0.5; want float >= 1"),
        ({"jitter": float("nan")}, "augment.jitter is nan"),
        ({"occlusion": 1.0}, "augment.occlusion is 1.0"),
        ({"fill": "mirror"}, "augment.fill is .mirror.; want mean . edge"),
    ],
)
def test_settings_that_cannot_be_are_one_line(values, said):
    with pytest.raises(LocalizerError, match=said):
        AugmentSettings(**values)
