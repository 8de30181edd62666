"""Registrations of other tools, read and imported: what comes in, and what is refused."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from relocalize.cli.main import main
from relocalize.errors import FormatError
from relocalize.formats import match_names, read_registration
from relocalize.formats.images import natural_key
from relocalize.formats.pose_list import read as read_pose_list
from relocalize.geometry import Camera, Rigid3
from relocalize.place import MapModel, Place, Points, PosedImage
from relocalize.verbs.import_poses import ImportReport, import_poses

ROWS = """# image qw qx qy qz tx ty tz focal_px
a.jpg 1 0 0 0 0.5 0 0 500
b.jpg 0.7071067811865476 0 0 0.7071067811865476 1 2 3 500
c.jpg 1 0 0 0 0 0 -4 510
"""


def image_files(folder: Path, names: list[str], size: tuple[int, int] = (64, 48)) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "gray").save(path)
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def import_stated(*arguments, **settings) -> ImportReport:
    """Import under the convention that the format states: these images are grey."""
    return import_poses(*arguments, convention="stated", **settings)


@pytest.fixture
def walk(tmp_path):
    """A pose list of 20 images along x, and their images under other endings."""
    rows = [f"frame-{i:06d}.color.png 1 0 0 0 {-0.1 * i} 0 0 60" for i in range(20)]
    return (
        write(tmp_path / "poses.txt", "\n".join(rows)),
        image_files(tmp_path / "images", [f"frame-{i:06d}.jpg" for i in range(20)]),
    )


def small_model() -> MapModel:
    """Two cameras of one kind that see three points, one of them seen once."""
    camera = Camera("SIMPLE_RADIAL", 640, 480, (500.0, 320.0, 240.0, 0.01))
    images = {
        name: PosedImage(
            name=name,
            camera=camera,
            camera_id=1,
            cam_from_world=Rigid3(np.eye(3), np.array([float(x), 0, 0])),
            keypoints=np.array([[10, 20], [30, 40], [50, 60]], dtype=np.float32),
            point_rows=np.array(rows),
        )
        for name, x, rows in (("one.jpg", 0, [0, 1, -1]), ("two.jpg", -1, [1, -1, 2]))
    }
    points = Points(
        ids=np.array([4, 7, 9]),
        positions=np.arange(9.0).reshape(3, 3),
        colors=np.full((3, 3), 100, dtype=np.uint8),
        reprojection_errors=np.array([0.1, 0.2, 0.3]),
        track_lengths=np.array([1, 2, 1]),
    )
    return MapModel(images, points)


# -- pose lists -----------------------------------------------------------------------------


def test_a_pose_list_is_world_to_camera_with_w_first(tmp_path):
    registration = read_pose_list(write(tmp_path / "poses.txt", ROWS))
    assert list(registration.poses) == ["a.jpg", "b.jpg", "c.jpg"]
    assert registration.unit == "metre"
    np.testing.assert_allclose(registration.world_from_cam("a.jpg").translation, [-0.5, 0, 0])
    turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    np.testing.assert_allclose(registration.poses["b.jpg"][0].rotation, turn, atol=1e-12)
    np.testing.assert_allclose(
        registration.world_from_cam("b.jpg").translation, -turn.T @ [1, 2, 3], atol=1e-12
    )


def test_a_pose_lists_principal_point_is_the_image_centre(tmp_path):
    registration = read_pose_list(write(tmp_path / "poses.txt", ROWS))
    camera = registration.camera_of("c.jpg", 640, 360)
    assert camera.focal_px == 510
    assert camera.known == "exact"
    np.testing.assert_allclose(camera.principal_point, [320, 180])


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("d.jpg nan 0 0 1 0 0 0 500", "not finite"),
        ("d.jpg 1 0 0 0 0 inf 0 500", "not finite"),
        ("d.jpg 0 0 0 0 1 2 3 500", "quaternion of four zeros"),
        ("d.jpg 2 0 0 0 1 2 3", "quaternion of length 2"),
        ("a.jpg 1 0 0 0 0.5 0 0 500", "a.jpg a second time"),
        ("d.jpg 1 0 0 0 1 2", "7 columns"),
        ("d.jpg 1 0 0 0 1 2 3 500 0.1", "10 columns"),
        ("d.jpg 1 0 0 zero 1 2 3 500", "no number"),
        ("d.jpg 1 0 0 0 1 2 3 -500", "focal length of -500"),
        ("d.jpg 1 0 0 0 1e300 2 3 500", "not a place"),
    ],
)
def test_a_bad_row_is_left_out_with_file_line_and_reason(tmp_path, row, what):
    path = write(tmp_path / "poses.txt", ROWS + row + "\n")
    registration = read_pose_list(path)
    assert list(registration.poses) == ["a.jpg", "b.jpg", "c.jpg"]
    (problem,) = registration.problems
    assert problem.startswith(f"{path}, line 5: ")
    assert what in problem
    np.testing.assert_allclose(registration.poses["a.jpg"][0].translation, [0.5, 0, 0])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# only a comment\n",
        b"\xff\xd8\xff\xe0 a JPEG",
        b"a.jpg 1 0 0 0\0 1 2 3 500",
        b"timestamp,x,y,z\n1,2,3,4\n",
    ],
)
def test_a_file_that_is_no_pose_list_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "poses.txt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"poses\.txt") as caught:
        read_registration(path, "pose-list")
    assert "\n" not in str(caught.value)
    with pytest.raises(FormatError, match="no known format" if content else "is empty"):
        read_registration(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_an_archive_is_to_be_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "scan.r3d", "w") as archive:
        archive.writestr("metadata", "{}")
    with pytest.raises(FormatError, match="is an archive; unpack it"):
        read_registration(tmp_path / "scan.r3d")


def test_a_pipe_is_refused_at_once_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "poses.txt")
    with pytest.raises(FormatError, match="is a pipe or device") as raised:
        read_registration(tmp_path / "poses.txt")
    assert "\n" not in str(raised.value)


@given(data=st.binary(max_size=400))
def test_no_bytes_make_the_pose_list_reader_fail_otherwise(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "poses.txt"
    path.write_bytes(b"a.jpg 1 0 0 0 0 0 0 500\n" + data)
    try:
        registration = read_registration(path, "pose-list")
    except FormatError:
        return
    for name in registration.poses:
        assert np.isfinite(registration.world_from_cam(name).matrix).all()


@given(
    names=st.lists(st.from_regex(r"[a-z]{1,8}\.jpg", fullmatch=True), min_size=1, unique=True),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_written_list_is_read_as_it_was(tmp_path_factory, names, seed):
    rng = np.random.default_rng(seed)
    quats = Rotation.random(len(names), rng=rng).as_quat(canonical=True, scalar_first=True)
    moves = rng.normal(size=(len(names), 3)) * 10
    rows = [
        f"{name} {' '.join(repr(float(v)) for v in (*quat, *move))}"
        for name, quat, move in zip(names, quats, moves, strict=True)
    ]
    path = write(tmp_path_factory.mktemp("lists") / "poses.txt", "\n".join(rows))
    registration = read_registration(path)
    assert list(registration.poses) == names
    for name, quat, move in zip(names, quats, moves, strict=True):
        np.testing.assert_allclose(registration.poses[name][0].quat_wxyz, quat, atol=1e-9)
        np.testing.assert_allclose(registration.poses[name][0].translation, move)


# -- COLMAP models --------------------------------------------------------------------------


def test_a_model_written_is_the_model_read(tmp_path):
    model = small_model()
    model.write(tmp_path)
    again = MapModel.read(tmp_path)
    assert list(again.images) == ["one.jpg", "two.jpg"]
    for name, image in model.images.items():
        np.testing.assert_array_equal(again.images[name].keypoints, image.keypoints)
        np.testing.assert_array_equal(again.images[name].point_rows, image.point_rows)
        np.testing.assert_allclose(
            again.images[name].cam_from_world.matrix, image.cam_from_world.matrix, atol=1e-12
        )
        assert again.images[name].camera.params == image.camera.params
    for field in ("ids", "positions", "colors", "reprojection_errors", "track_lengths"):
        np.testing.assert_array_equal(getattr(again.points, field), getattr(model.points, field))


@pytest.mark.parametrize("file", ["images.bin", "points3D.bin", "cameras.bin"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"\xff" * 8 + data[8:],  # a count of 2^64 rows
        lambda data: data[:40] + b"\xff" * (len(data) - 40),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(tmp_path, file, damage):
    small_model().write(tmp_path)
    path = tmp_path / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FormatError) as caught:
        read_registration(tmp_path, "colmap")
    assert "\n" not in str(caught.value)


def test_a_projects_only_model_is_found(tmp_path):
    (tmp_path / "sparse" / "0").mkdir(parents=True)
    small_model().write(tmp_path / "sparse" / "0")
    for path in (tmp_path, tmp_path / "sparse"):
        assert len(read_registration(path).poses) == 2
    shutil.copytree(tmp_path / "sparse" / "0", tmp_path / "sparse" / "1")
    for path in (tmp_path, tmp_path / "sparse"):
        with pytest.raises(FormatError, match="2 COLMAP models"):
            read_registration(path)


def test_a_table_of_no_known_format_is_shown_and_its_next_step_said(tmp_path):
    file = write(tmp_path / "orientation.txt", "476 108687.04 552701.43 887.73 0.12 0.21 -90.1\n")
    with pytest.raises(FormatError, match=r"begins with '476 108687.*name,x,y,z,omega,phi,kappa"):
        read_registration(file)


# -- names ----------------------------------------------------------------------------------


def test_names_match_exactly_or_by_unambiguous_stem():
    match = match_names(
        ["frame-000000.color.png", "x/b.jpg", "c.jpg", "d.png", "nowhere.jpg"],
        [
            "walk/frame-000000.jpg",
            "x/b.jpg",
            "y/b.jpg",
            "p/c.jpg",
            "q/c.jpg",
            "d.jpg",
            "d.png",
            "walk1/e.jpg",
            "walk2/e.jpg",
        ],
    )
    assert match.present_of == {
        "frame-000000.color.png": "walk/frame-000000.jpg",
        "x/b.jpg": "x/b.jpg",
        "d.png": "d.png",
    }
    assert match.ambiguous == {"c.jpg": "'c.jpg' could be 'p/c.jpg' or 'q/c.jpg'"}
    assert match.absent == ("nowhere.jpg",)
    by_folder = match_names(["walk2/e.png"], ["walk1/e.jpg", "walk2/e.jpg"])
    assert by_folder.present_of == {"walk2/e.png": "walk2/e.jpg"}


@given(
    listed=st.lists(st.text("ab./", max_size=6), max_size=8),
    present=st.lists(st.text("ab./", max_size=6), max_size=8),
)
def test_no_image_is_given_to_two_names(listed, present):
    match = match_names(listed, present)
    given_away = list(match.present_of.values())
    assert len(set(given_away)) == len(given_away)
    assert set(given_away) <= set(present)
    assert {*match.present_of, *match.ambiguous, *match.absent} == set(listed)


def test_names_sort_by_their_numbers():
    assert sorted(["f10.jpg", "f9.jpg", "f009.png"], key=natural_key)[-1] == "f10.jpg"


# -- import ---------------------------------------------------------------------------------


def test_an_imported_walk_has_its_poses_cameras_and_split(tmp_path, walk):
    poses, images = walk
    train = write(tmp_path / "train.txt", "\n".join(f"frame-{i:06d}.jpg" for i in range(15)))
    test = write(tmp_path / "test.txt", "\n".join(f"frame-{i:06d}.jpg" for i in range(17, 25)))
    place = Place.create(tmp_path / "place")
    report = import_stated(poses, place, images, train=train, test=test, split="cut")
    assert (report.listed, report.posed, report.train, report.test) == (20, 20, 15, 3)
    assert place.unit == "metre"
    assert place.poses_from == (
        "imported: poses.txt (pose list; wxyz,cam_from_world,RDF,translation by its format, "
        "not tested)"
    )
    image = place.map.images["imported/frame-000012.jpg"]
    np.testing.assert_allclose(image.world_from_cam.translation, [1.2, 0, 0], atol=1e-9)
    np.testing.assert_allclose(image.camera.principal_point, [32, 24])
    assert image.camera.focal_px == 60
    assert len(place.cameras) == 1
    capture = place.capture("imported")
    assert capture.kind == "imported"
    assert [one.frame_index for one in capture.images] == list(range(20))
    assert place.split("cut").test[0] == "imported/frame-000017.jpg"
    assert place.read_image(image.name).shape == (48, 64, 3)
    linked = place.image_path(image.name)
    assert linked.stat().st_ino == (images / "frame-000012.jpg").stat().st_ino


def test_what_has_no_image_or_no_pose_is_said_and_skipped(tmp_path, walk):
    poses, images = walk
    (images / "frame-000003.jpg").unlink()
    (images / "frame-000004.jpg").write_bytes(b"no image")
    image_files(images, ["other.png"])
    place = Place.create(tmp_path / "place")
    report = import_stated(poses, place, images)
    assert report.posed == 18
    assert report.without_image == ("frame-000003.color.png",)
    assert place.capture("imported").settings["without_image"] == ["frame-000003.color.png"]
    assert {drop.source for drop in report.left_out} == {"frame-000004.jpg", "other.png"}
    assert "imported/other.png" not in place.map.images


def test_each_row_that_is_no_pose_has_a_line_with_file_and_number(tmp_path, walk, capsys):
    poses, images = walk
    rows = poses.read_text().splitlines()
    rows[1] = rows[1].replace(" 1 0 0 0 ", " nan 0 0 0 ")
    rows[4] = rows[4].replace(" 1 0 0 0 ", " 0 0 0 0 ")
    rows[7] = rows[6]
    poses.write_text("\n".join(rows))
    arguments = ["import", str(poses), str(tmp_path / "place"), "--images", str(images)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--convention", "stated"])
    assert ended.value.code == 0
    lines = capsys.readouterr().err.splitlines()
    said = [line for line in lines if line.startswith(f"left out: {poses}, line ")]
    assert [line.removeprefix(f"left out: {poses}, ").split(":")[0] for line in said] == [
        "line 2",
        "line 5",
        "line 8",
    ]
    assert "finite" in said[0]
    assert "zeros" in said[1]
    assert "second time" in said[2]


def test_the_same_import_again_changes_nothing_and_new_poses_replace_the_old(tmp_path, walk):
    poses, images = walk
    place = Place.create(tmp_path / "place")
    import_stated(poses, place, images)
    before = {path: path.stat().st_mtime_ns for path in place.map_dir.iterdir()}
    assert import_stated(poses, place, images).unchanged
    assert {path: path.stat().st_mtime_ns for path in place.map_dir.iterdir()} == before
    poses.write_text(poses.read_text().replace("-0.1 0 0 60", "-0.2 0 0 60"))
    assert not import_stated(poses, place, images).unchanged
    centre = place.map.images["imported/frame-000001.jpg"].world_from_cam.translation
    np.testing.assert_allclose(centre, [0.2, 0, 0], atol=1e-9)


def dies_at(step: int, action) -> bool:
    """Run ``action`` in a child that ends without any clean-up before its step-th rename."""
    child = os.fork()
    if child == 0:
        renames = 0

        def counted(original):
            def rename(*args, **kwargs):
                nonlocal renames
                renames += 1
                if renames == step:
                    os._exit(9)
                return original(*args, **kwargs)

            return rename

        Path.rename, Path.replace = counted(Path.rename), counted(Path.replace)
        try:
            action()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("old_poses", [False, True])
def test_an_import_killed_anywhere_is_finished_by_the_next(tmp_path, walk, old_poses):
    poses, images = walk
    for step in range(1, 100):
        root = tmp_path / f"place{step}"
        if old_poses:
            old = write(tmp_path / "poses.txt", poses.read_text().replace(" 0 0 60", " 0 1 60"))
            import_stated(old, root, images)
            write(poses, old.read_text().replace(" 0 1 60", " 0 0 60"))
        died = dies_at(step, lambda root=root: import_stated(poses, root, images))
        if (root / "place.json").is_file():
            killed = Place.open(root)  # usable, with whole files only
            assert {len(capture.images) for capture in killed.captures.values()} <= {20}
            assert killed.has_map or not old_poses  # those stay until the new ones are whole
            assert not killed.has_map or len(killed.map.images) == 20
        report = import_stated(poses, root, images)
        assert report.unchanged != died
        place = Place.open(root)
        assert len(place.map.images) == len(place.capture("imported").images) == 20
        centre = place.map.images["imported/frame-000007.jpg"].world_from_cam.translation
        np.testing.assert_allclose(centre, [0.7, 0, 0], atol=1e-9)
        assert place.unit == "metre"
        assert not [path for path in root.rglob(".*") if path.name != ".lock"]
        if not died:
            break
    assert step > 6


def test_poses_of_another_origin_are_not_mixed_in(tmp_path, walk):
    poses, images = walk
    place = Place.create(tmp_path / "place")
    import_stated(poses, place, images)
    with pytest.raises(FormatError, match="import into a new Place"):
        import_stated(poses, place, images, capture="second")
    assert set(place.captures) == {"imported"}


def test_images_of_another_shape_than_their_camera_are_left_out(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    small_model().write(model)
    images = image_files(tmp_path / "images", ["one.jpg"], (320, 240))
    image_files(images, ["two.jpg"], (240, 320))
    place = Place.create(tmp_path / "place")
    report = import_stated(model, place, images)
    assert (report.posed, report.unit) == (1, "map unit")
    assert "240 x 320" in report.left_out[0].reason
    half = place.map.images["imported/one.jpg"]
    assert half.camera.focal_px == 250
    np.testing.assert_allclose(half.keypoints[0], [5, 10])


def test_points_that_two_imported_images_see_come_along(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    small_model().write(model)
    place = Place.create(tmp_path / "place")
    import_stated(model, place, image_files(tmp_path / "i", ["one.jpg", "two.jpg"], (640, 480)))
    np.testing.assert_array_equal(place.points.ids, [7])
    np.testing.assert_array_equal(place.map.images["imported/two.jpg"].point_rows, [0, -1, -1])


def test_hostile_names_stay_inside_the_place(tmp_path):
    poses = write(tmp_path / "poses.txt", "../../out.jpg 1 0 0 0 0 0 0 50\n")
    images = image_files(tmp_path / "images", ["out.jpg"])
    place = Place.create(tmp_path / "place")
    import_stated(poses, place, images)
    assert list(place.map.images) == ["imported/out.jpg"]
    assert not (tmp_path / "out.jpg").exists()


def test_the_command_prints_one_json_object_or_one_error_line(tmp_path, walk, capsys):
    poses, images = walk
    arguments = ["import", str(poses), str(tmp_path / "place"), "--images", str(images), "--json"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["posed"] == 20
    with pytest.raises(SystemExit) as ended:
        main([*arguments[:-1], "--train", str(poses)])
    assert ended.value.code == 1
    assert capsys.readouterr().err.strip().splitlines()[-1] == (
        "error: give both --train and --test, or neither"
    )


@pytest.mark.data
def test_the_kitchens_pose_list_and_its_splits(tmp_path, data_dir):
    kitchen = data_dir / "redkitchen"
    place = Place.create(tmp_path / "place")
    report = import_stated(
        kitchen / "poses_sfm.txt",
        place,
        kitchen / "images",
        train=kitchen / "splits" / "blocks_train.txt",
        test=kitchen / "splits" / "blocks_test.txt",
    )
    assert (report.posed, report.train, report.test) == (1000, 650, 250)
    (camera,) = place.cameras.values()
    assert (camera.focal_px, *camera.principal_point) == (525.505, 320, 240)


@pytest.mark.data
def test_the_doors_colmap_model_keeps_its_points(tmp_path, data_dir):
    place = Place.create(tmp_path / "place")
    door = data_dir / "lund_door"
    report = import_stated(door / "colmap_text", place, door / "images")
    assert (report.posed, report.points, report.unit) == (12, 11384, "map unit")
    image = place.map.images["imported/DSC_0001.JPG"]
    seen = image.point_rows >= 0
    in_cam = image.cam_from_world @ place.points.positions[image.point_rows[seen]]
    distance = np.linalg.norm(image.camera.img_from_cam(in_cam) - image.keypoints[seen], axis=1)
    assert np.median(distance) < 0.5  # pixels: the model's own reprojection error is 0.36


def test_a_failed_import_makes_no_place(tmp_path, walk):
    poses, images = walk
    for source, folder in ((tmp_path / "none.txt", images), (poses, tmp_path / "nowhere")):
        with pytest.raises(FormatError):
            import_stated(source, tmp_path / "place", folder)
    assert not (tmp_path / "place").exists()
