"""What people have comes in right: images, names, intrinsics, coordinates, frames of reference."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from scipy.spatial.transform import Rotation

from localization_place import TEST_POSES, TRAIN_POSES, render
from posed_example import posed_images
from relocalize.cli.main import main
from relocalize.errors import FormatError, MappingError
from relocalize.formats import match_names, read_registration
from relocalize.formats.images import STORED, UPRIGHT, find_images, reread
from relocalize.formats.posed_images import PosedImages
from relocalize.formats.registry import FORMATS
from relocalize.geometry import Camera, Rigid3, position_error, rotation_error_deg
from relocalize.geometry.transforms import rotvec_from_rotation
from relocalize.mapping import map_place
from relocalize.place import MapModel, Place
from relocalize.verbs.align import align
from relocalize.verbs.export import export
from relocalize.verbs.import_poses import import_poses

CAMERA = Camera.from_focal(320, 240, 270.0, model="SIMPLE_PINHOLE")
UTM = np.array([458123.25, 5734211.75, 98.5])
# Of a quarter turn to the right (EXIF orientation 6): upright x is down in the stored image.
UPRIGHT_FROM_STORED = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
UNDO = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(TRANSPOSE[orientation]) if orientation in TRANSPOSE else image


def save_with_orientation(upright: Image.Image, path: Path, orientation: int) -> None:
    """Store an upright image as a camera that was held so does."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    turned(upright, UNDO[orientation]).save(path, exif=tags)


def pose_list(path: Path, poses: dict[str, Rigid3], focal: float | None = None) -> Path:
    """A pose list, its numbers in full."""
    lines = []
    for name, pose in poses.items():
        back = pose.inverse()
        values = [*back.quat_wxyz, *back.translation, *([] if focal is None else [focal])]
        lines.append(" ".join([name, *(repr(float(value)) for value in values)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def walk(tmp_path_factory) -> Path:
    """Photos of a room along a walk, and two visitors' photos."""
    folder = tmp_path_factory.mktemp("walk")
    for name, pose in {**TRAIN_POSES, **dict(list(TEST_POSES.items())[:2])}.items():
        target = folder / ("held" if name.startswith("test") else "photos") / name
        target.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(target), render(pose, CAMERA)[:, :, ::-1])
    return folder


# -- images ----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pixels", [STORED, UPRIGHT])
def test_sizes_of_cameras_say_which_pixels_were_seen(tmp_path, orientation, pixels):
    rng = np.random.default_rng(orientation)
    upright = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
    save_with_orientation(upright, tmp_path / "photos" / "a.png", orientation)
    stored = turned(upright, UNDO[orientation])
    told = orientation >= 5  # a half turn or a mirror keeps the size, and then stored is taken
    width, height = (upright if pixels == UPRIGHT else stored).size
    table = tmp_path / "poses.csv"
    table.write_text(
        f"name,qw,qx,qy,qz,tx,ty,tz,width,height,fx\na.png,1,0,0,0,0,0,0,{width},{height},35\n"
    )
    import_poses(table, tmp_path / "place", tmp_path / "photos", convention="stated")
    place = Place.open(tmp_path / "place")
    want = np.asarray(upright if pixels == UPRIGHT and told else stored)
    assert np.array_equal(place.read_image("imported/a.png"), want)
    camera = place.map.images["imported/a.png"].camera
    assert (camera.height, camera.width) == want.shape[:2]


def test_upright_sizes_that_fit_neither_way_are_refused_with_the_word(tmp_path):
    save_with_orientation(Image.new("RGB", (40, 30)), tmp_path / "photos" / "a.png", 6)
    table = tmp_path / "poses.csv"
    table.write_text("name,qw,qx,qy,qz,tx,ty,tz,width,height,fx\na.png,1,0,0,0,0,0,0,40,40,35\n")
    with pytest.raises(FormatError, match="EXIF orientation 6: stored as 30 x 40"):
        import_poses(table, tmp_path / "place", tmp_path / "photos", convention="stated")


def transforms_without_sizes(folder: Path) -> Path:
    """As NeRF data sets have them."""
    frame = {"file_path": "photos/a", "transform_matrix": np.eye(4).tolist()}
    lens = {"camera_angle_x": 1.0, "frames": [frame]}
    (folder / "transforms.json").write_text(json.dumps(lens))
    return folder / "transforms.json"


def bundle(folder: Path) -> Path:
    """Of one camera."""
    (folder / "list.txt").write_text("photos/a.png\n")
    camera = "50 0 0\n1 0 0\n0 1 0\n0 0 1\n0 0 0\n"
    (folder / "bundle.out").write_text(f"# Bundle file v0.3\n1 0\n{camera}")
    return folder / "bundle.out"


@pytest.mark.parametrize("make", [transforms_without_sizes, bundle])
def test_an_image_beside_the_file_does_not_say_how_its_pixels_were_seen(tmp_path, make):
    save_with_orientation(Image.new("RGB", (30, 40)), tmp_path / "photos" / "a.png", 6)
    registration = read_registration(make(tmp_path))
    files = find_images(registration, tmp_path / "photos")
    assert files.pixels_from is None  # the matches have to say
    (upright,) = reread(registration, files, UPRIGHT, "the test").usable
    assert (upright.camera.width, upright.camera.height) == (30, 40)


def test_images_are_left_out_by_name_or_read_the_same_everywhere(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    y, x = np.mgrid[:48, :64]  # smooth, so that JPEG and WebP keep it
    pixels = np.stack([4 * x, 5 * y, 2 * x + 2 * y], axis=2).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.save(photos / "whole.jpg", quality=95)
    (photos / "cut.jpg").write_bytes((photos / "whole.jpg").read_bytes()[:-200])
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "text.png").write_text("no image")
    Image.fromarray(pixels[:, :, 0].astype(np.float32)).save(photos / "float.tif")
    deep = (pixels[:, :, 0].astype(np.uint16) << 8) + 7
    Image.fromarray(deep).save(photos / "deep.png")
    image.convert("CMYK").save(photos / "print.jpg")
    image.save(photos / "moving.webp", save_all=True, append_images=[image.rotate(180)] * 2)
    names = sorted(path.name for path in photos.iterdir())
    poses = {name: Rigid3(np.eye(3), np.array([i, 0.0, 0.0])) for i, name in enumerate(names)}
    file = pose_list(tmp_path / "poses.txt", poses, 60)
    report = import_poses(file, tmp_path / "place", photos, convention="stated")
    left_out = {dropped.source: dropped.reason for dropped in report.left_out}
    assert left_out.keys() == {"cut.jpg", "empty.jpg", "text.png", "float.tif"}
    assert "damaged" in left_out["cut.jpg"]
    assert "empty" in left_out["empty.jpg"]
    assert "32-bit" in left_out["float.tif"]
    place = Place.open(tmp_path / "place")
    assert np.array_equal(place.read_image("imported/deep.png")[:, :, 0], pixels[:, :, 0])
    for name in ("print.jpg", "moving.webp"):
        off = np.abs(place.read_image(f"imported/{name}").astype(int) - pixels).mean()
        assert off < 10  # the first picture, upright, in its own colours


# -- names -----------------------------------------------------------------------------------

A_UMLAUT = "stra\u00dfe-\u00e4.jpg"


@pytest.mark.parametrize(
    ("listed", "present", "found"),
    [
        ("walk.0001", ["walk.0001.jpg", "walk.0002.jpg"], "walk.0001.jpg"),
        ("WALK.0001.JPG", ["walk.0001.jpg", "walk.0002.jpg"], "walk.0001.jpg"),
        ("000000.left.jpg", ["000000.right.jpg"], None),
        (
            A_UMLAUT,
            [unicodedata.normalize("NFD", A_UMLAUT)],
            unicodedata.normalize("NFD", A_UMLAUT),
        ),
        (unicodedata.normalize("NFD", A_UMLAUT), [A_UMLAUT], A_UMLAUT),
        ("/home/bob/scene/day1/a.jpg", ["day1/a.jpg", "day2/a.jpg"], "day1/a.jpg"),
        ("C:\\scene\\day2\\a.jpg", ["day1/a.jpg", "day2/a.jpg"], "day2/a.jpg"),
        ("images/frame-000000.color.png", ["rgb/frame-000000.jpg"], "rgb/frame-000000.jpg"),
        ("a.jpg", ["a.png", "b/a.jpg"], "b/a.jpg"),
        ("a.jpg", ["A.HEIC", "A.JPG"], "A.JPG"),
        ("file:///D:/my%20room/a%20%C3%A4.jpg", ["my room/a a\u0308.jpg"], "my room/a a\u0308.jpg"),
    ],
)
def test_a_name_means_its_image_and_no_other(listed, present, found):
    assert match_names([listed], present).present_of.get(listed) == found


def test_one_name_in_two_folders_is_said_with_both_and_never_taken():
    match = match_names(["IMG_1.jpg"], ["day1/IMG_1.jpg", "day2/IMG_1.jpg"])
    assert not match.present_of
    said = match.ambiguous["IMG_1.jpg"]
    assert "'day1/IMG_1.jpg'" in said
    assert "'day2/IMG_1.jpg'" in said
    both = match_names(["day1/IMG_1.jpg", "day2/IMG_1.jpg"], ["IMG_1.jpg"])
    assert not both.present_of
    assert both.ambiguous.keys() == {"day1/IMG_1.jpg", "day2/IMG_1.jpg"}
    # The folder of the images is part of their paths.
    one = match_names(["day1/IMG_1.jpg", "day2/IMG_1.jpg"], ["IMG_1.jpg"], below="/data/day2")
    assert one.present_of == {"day2/IMG_1.jpg": "IMG_1.jpg"}


@pytest.mark.parametrize("others", [0, 3])
def test_a_name_with_two_poses_is_nobodys(tmp_path, others):
    """As tables without folders have it of two cameras' cards; rows that say the same are one."""
    rows = [f"day{i}.jpg 1 0 0 0 {i} 0 0 500" for i in range(others)]
    rows += ["a.jpg 1 0 0 0 1 2 3 500", "a.jpg 1 0 0 0 4 5 6 500", "a.jpg 1 0 0 0 1 2 3 500"]
    (tmp_path / "poses.txt").write_text("\n".join([*rows, *rows[:others]]))
    if not others:
        with pytest.raises(FormatError, match=r"names have several poses .* such as a\.jpg"):
            read_registration(tmp_path / "poses.txt")
        return
    read = read_registration(tmp_path / "poses.txt")
    assert list(read.poses) == [f"day{i}.jpg" for i in range(others)]
    assert any("1 names have several poses" in remark for remark in read.remarks)
    assert sum("a.jpg" in problem for problem in read.problems) == 3
    assert sum("its first row is kept" in problem for problem in read.problems) == others + 1


@pytest.mark.parametrize("command", ["import", "check"])
def test_what_a_user_should_know_is_said_before_a_refusal(tmp_path, capsys, command):
    Image.new("RGB", (40, 30)).save(tmp_path / "cover.png")
    head = "timestamp,tx,ty,tz,qw,qx,qy,qz\n"
    (tmp_path / "data.csv").write_text(f"{head}1403715524907143168,0,0,0,1,0,0,0\n")
    place = [tmp_path / "place"] if command == "import" else []
    given = [command, tmp_path / "data.csv", *place, "--images", tmp_path]
    with pytest.raises(SystemExit) as ended:
        main([*map(str, given), "--format", "euroc"])
    assert ended.value.code == 1
    assert "poses of the body (the IMU)" in capsys.readouterr().err


@pytest.mark.parametrize("hidden", [".thumbs/a.png", "._a.png"])
def test_hidden_images_are_other_programs_unless_all_are(tmp_path, hidden):
    for name in ("a.png", hidden):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    registration = read_registration(
        pose_list(tmp_path / "poses.txt", {"a.png": Rigid3.identity()})
    )
    (usable,) = find_images(registration, tmp_path).usable
    assert usable.name == "a.png"
    (tmp_path / "a.png").unlink()
    registration = read_registration(pose_list(tmp_path / "poses.txt", {hidden: Rigid3.identity()}))
    (usable,) = find_images(registration, tmp_path).usable
    assert usable.name == hidden


# -- intrinsics ------------------------------------------------------------------------------


def test_a_focal_length_that_nobody_states_is_estimated_by_the_map(walk, tmp_path):
    file = pose_list(tmp_path / "poses.txt", TRAIN_POSES)
    report = import_poses(file, tmp_path / "place", walk / "photos", convention="stated")
    place = Place.open(tmp_path / "place")
    assert report.intrinsics == {"unknown": len(TRAIN_POSES)}
    assert {image.camera.known for image in place.posed_images()} == {"unknown"}
    mapped = map_place(place)
    (camera,) = {image.camera for image in place.posed_images()}
    assert camera.known == "exact"
    assert camera.focal_px == pytest.approx(CAMERA.focal_px, rel=0.01)
    assert mapped.intrinsics[0].startswith(f"focal length of {len(TRAIN_POSES)} images unknown")
    for name, pose in TRAIN_POSES.items():  # which stay
        assert position_error(place.map.images[f"imported/{name}"].world_from_cam, pose) < 1e-9


@pytest.mark.parametrize("focal", [None, CAMERA.focal_px])
def test_an_export_says_which_focal_lengths_are_guesses(walk, tmp_path, focal):
    file = pose_list(tmp_path / "poses.txt", TRAIN_POSES, focal)
    import_poses(file, tmp_path / "place", walk / "photos", convention="stated")
    report = export(tmp_path / "place", tmp_path / "out", "colmap")
    guessed = [remark for remark in report.remarks if "focal length that nobody stated" in remark]
    assert len(guessed) == (focal is None)


def test_a_camera_angle_is_across_the_width_also_of_a_portrait_image(tmp_path):
    frame = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist()}
    angle = 2 * np.arctan(0.5 * 270 / 343.88)
    file = tmp_path / "transforms.json"
    file.write_text(json.dumps({"camera_angle_x": angle, "frames": [frame]}))
    assert read_registration(file).camera_of("a.png", 270, 480).focal_px == pytest.approx(343.88)
    file.write_text(json.dumps({"fl_x": 340, "fl_y": 341, "cx": 138, "cy": 241, "frames": [frame]}))
    camera = read_registration(file).camera_of("a.png", 270, 480)
    assert camera.params[:4] == (340, 341, 138, 241)


def test_images_of_another_size_than_their_cameras_are_said(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (540, 960)).save(tmp_path / "images" / "a.png")
    rows = "name,qw,qx,qy,qz,tx,ty,tz,width,height,fx\na.png,1,0,0,0,0,0,0,533,948,688\n"
    (tmp_path / "poses.csv").write_text(rows)  # as COLMAP undistorts such an image
    given = ["import", tmp_path / "poses.csv", tmp_path / "place", "--images", tmp_path / "images"]
    with pytest.raises(SystemExit) as ended:
        main([*map(str, given), "--convention", "stated"])
    assert ended.value.code == 0
    assert "1 of 540 x 960 whose camera has 533 x 948" in capsys.readouterr().err


def test_a_principal_point_outside_of_the_image_is_said(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (320, 240)).save(tmp_path / "images" / "a.png")
    rows = "name,qw,qx,qy,qz,tx,ty,tz,fx,cx,cy\na.png,1,0,0,0,0,0,0,3280,2000,1500\n"
    (tmp_path / "poses.csv").write_text(rows)  # of images of 4000 x 3000, before they were resized
    given = ["import", tmp_path / "poses.csv", tmp_path / "place", "--images", tmp_path / "images"]
    with pytest.raises(SystemExit) as ended:
        main([*map(str, given), "--convention", "stated"])
    assert ended.value.code == 0
    assert "(2000, 1500) of 320 x 240 pixels" in capsys.readouterr().err


# -- frames of reference ---------------------------------------------------------------------

METASHAPE = """<document version="2.0.0"><chunk><sensors><sensor id="0" type="frame">
<resolution width="64" height="48"/><calibration><f>60</f></calibration></sensor></sensors>
<components><component id="0" label="Hall"><transform><scale>2</scale></transform></component>
<component id="1" label="Yard"/></components><cameras>{cameras}</cameras></chunk></document>"""


def test_of_several_components_the_largest_is_read_and_the_others_are_named(tmp_path):
    rows = [(0, 0), (1, 0), (2, 0), (3, 1)]
    cameras = "".join(
        f'<camera id="{i}" sensor_id="0" component_id="{part}" label="p{i}"><transform>'
        f"1 0 0 {i} 0 1 0 0 0 0 1 0 0 0 0 1</transform></camera>"
        for i, part in rows
    )
    file = tmp_path / "cameras.xml"
    file.write_text(METASHAPE.format(cameras=cameras))
    read = read_registration(file)
    assert list(read.poses) == ["p0", "p1", "p2"]
    assert any("3 cameras of Hall" in one and "1 of Yard" in one for one in read.remarks)


@pytest.mark.parametrize("stale", [False, True])
def test_images_that_contradict_frames_are_said(tmp_path, stale):
    shift = 5 if stale else 0
    files = {
        "cameras.txt": "1 SIMPLE_PINHOLE 64 48 60 32 24\n",
        "images.txt": f"1 1 0 0 0 {1 + shift} 2 3 1 a.jpg\n\n2 1 0 0 0 4 5 6 1 b.jpg\n\n",
        "points3D.txt": "",
        "rigs.txt": "1 1 CAMERA 1\n",
        "frames.txt": "1 1 1 0 0 0 1 2 3 1 CAMERA 1 1\n2 1 1 0 0 0 4 5 6 1 CAMERA 1 2\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    read = read_registration(tmp_path)
    assert read.poses["a.jpg"][0].translation.tolist() == [1, 2, 3]
    assert any("disagree on 1 of 2 poses" in one for one in read.remarks) == stale


# -- files of this field ---------------------------------------------------------------------

TRUTH = {name: pose.shifted(np.array([1.0, 2, 3])) for name, pose in list(TRAIN_POSES.items())[:3]}
GL = np.diag([1.0, -1, -1])


def rows_of(matrix: np.ndarray) -> str:
    return "\n".join(" ".join(repr(float(x)) for x in row) for row in matrix) + "\n"


def ace(folder: Path) -> Path:
    for name, pose in TRUTH.items():
        stem = name.removesuffix(".png")
        side = folder / ("test" if stem.endswith("2") else "train")
        for kind, text in (("poses", rows_of(pose.matrix)), ("calibration", "270.5\n")):
            (side / kind).mkdir(parents=True, exist_ok=True)
            (side / kind / f"{stem}.{kind.removesuffix('s')}.txt").write_text(text)
        (side / "rgb").mkdir(exist_ok=True)
        Image.new("RGB", (4, 3)).save(side / "rgb" / f"{stem}.color.png")
    return folder


def scannet(folder: Path) -> Path:
    for kind in ("color", "pose", "intrinsic"):
        (folder / kind).mkdir(parents=True)
    matrix = np.diag([270.5, 270.5, 1, 1])
    matrix[:2, 2] = 160, 120
    (folder / "intrinsic" / "intrinsic_color.txt").write_text(rows_of(matrix))
    for row, pose in enumerate(TRUTH.values()):
        (folder / "pose" / f"{row}.txt").write_text(rows_of(pose.matrix))
    (folder / "pose" / "3.txt").write_text(rows_of(np.full((4, 4), -np.inf)))
    return folder


def polycam(folder: Path) -> Path:
    cameras = folder / "keyframes" / "corrected_cameras"
    cameras.mkdir(parents=True)
    for row, pose in enumerate(TRUTH.values()):
        matrix = pose.matrix[:3] @ np.diag([1.0, -1, -1, 1])
        values = {f"t_{i}{j}": matrix[i, j] for i in range(3) for j in range(4)}
        lens = {"fx": 270.5, "fy": 270.5, "cx": 160, "cy": 120, "width": 320, "height": 240}
        (cameras / f"{1000 + row}.json").write_text(json.dumps(values | lens))
    return folder


def record3d(folder: Path) -> Path:
    folder.mkdir()
    poses = []
    for pose in TRUTH.values():
        w, x, y, z = Rigid3(pose.rotation @ GL, pose.translation).quat_wxyz
        poses.append([x, y, z, w, *pose.translation])
    K = [270.5, 0, 0, 0, 270.5, 0, 160, 120, 1]
    (folder / "metadata").write_text(json.dumps({"w": 320, "h": 240, "K": K, "poses": poses}))
    return folder


def scanner_app(folder: Path) -> Path:
    folder.mkdir()
    lens = [270.5, 0, 160, 0, 270.5, 120, 0, 0, 1]
    poses = [pose.matrix @ np.diag([1.0, -1, -1, 1]) for pose in TRUTH.values()]
    for row, matrix in enumerate([*poses, np.eye(4)]):
        frame = {"cameraPoseARFrame": matrix.ravel().tolist(), "intrinsics": lens}
        (folder / f"frame_{row:05d}.json").write_text(json.dumps(frame))
    for row in range(len(poses)):  # the last one has a pose, and no image
        Image.new("RGB", (320, 240)).save(folder / f"frame_{row:05d}.jpg")
    return folder


def arkit_scenes(folder: Path) -> Path:
    images, lenses = folder / "lowres_wide", folder / "lowres_wide_intrinsics"
    images.mkdir(parents=True)
    lenses.mkdir()
    rows = []
    for row, pose in enumerate(TRUTH.values()):
        found = pose.inverse()
        numbers = [*rotvec_from_rotation(found.rotation), *found.translation]
        rows.append(" ".join(map(repr, [100.5 + row, *map(float, numbers)])))
        Image.new("RGB", (320, 240)).save(images / f"4775_{100.501 + row:.3f}.png")
        (lenses / f"4775_{100.499 + row:.3f}.pincam").write_text("320 240 270.5 270.5 160 120")
    Image.new("RGB", (320, 240)).save(images / "4775_101.000.png")  # half-way between two poses
    (folder / "lowres_wide.traj").write_text("\n".join(rows))
    return folder


def matrix_rows(folder: Path) -> Path:
    folder.mkdir()
    file = folder / "poses.txt"
    file.write_text("".join(rows_of(pose.matrix.reshape(1, 16)) for pose in TRUTH.values()))
    return file


def acezero(folder: Path) -> Path:
    folder.mkdir()
    file = pose_list(folder / "poses_final.txt", TRUTH, 270.5)
    rows = file.read_text().splitlines()
    file.write_text("\n".join(f"{row} {900 + 200 * i}" for i, row in enumerate(rows)) + "\n")
    return file


MADE = [ace, scannet, polycam, record3d, scanner_app, arkit_scenes, matrix_rows, acezero]


@pytest.mark.parametrize("make", MADE)
def test_files_of_this_field_are_found_and_read(tmp_path, make):
    path = make(tmp_path / "scene")
    read = read_registration(path)
    assert len(read.poses) == len(TRUTH)
    for name, pose in zip(read.poses, TRUTH.values(), strict=True):
        assert position_error(read.world_from_cam(name), pose) < 1e-9
        assert rotation_error_deg(read.world_from_cam(name), pose) < 1e-6
        camera = read.camera_of(name, 320, 240)
        assert camera.focal_px == (384 if make is matrix_rows else 270.5)
        assert (camera.known == "unknown") == (make is matrix_rows)
    if make is ace:
        assert len(read.train) == 2
        assert len(read.test) == 1
    if make is arkit_scenes:
        assert any("1 images have no pose" in one for one in read.remarks)
    if make is acezero:
        assert any("1 of 3 poses have a confidence below 1000" in one for one in read.remarks)


def test_two_errors_at_the_end_of_a_row_are_no_focal_length(tmp_path):
    file = pose_list(tmp_path / "poses.txt", TRUTH)
    rows = file.read_text().splitlines()
    file.write_text("\n".join(f"{row} 0.{i + 1} 0.02 812" for i, row in enumerate(rows)))
    read = read_registration(file)
    name = next(iter(read.poses))
    assert read.camera_of(name, 320, 240).known == "unknown"
    assert read.columns[name] == {
        "rotation_error_deg": "0.1",
        "position_error": "0.02",
        "inliers": "812",
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("heading", ["name qw qx qy qz tx ty tz", "image qw qx qy qz x y z"])
def test_headings_and_other_encodings(tmp_path, encoding, heading):
    rows = {f"stra\u00dfe {i}.jpg".replace(" ", "-"): pose for i, pose in enumerate(TRUTH.values())}
    file = pose_list(tmp_path / "poses.txt", rows)
    text = f"{heading}\n{file.read_text(encoding='utf-8')}"
    if heading.endswith("x y z"):
        text = text.replace(heading, "image qw qx qy qz tx ty tz")
    file.write_bytes(text.encode(encoding))
    if encoding == "cp1252":
        with pytest.raises(FormatError, match="not in UTF-8"):
            read_registration(file)
        return
    read = read_registration(file)
    assert list(read.poses) == list(rows)
    assert not read.problems


def test_a_tum_trajectory_may_name_its_columns(tmp_path):
    file = tmp_path / "trajectory.txt"
    file.write_text("timestamp tx ty tz qx qy qz qw\n1305031098.6659 1 2 3 0 0 0 1\n")
    read = read_registration(file)
    assert read.format == "TUM trajectory"
    assert len(read.poses) == 1
    (tmp_path / "rgb.txt").write_text("timestamp filename\n1305031098.66 rgb/a.png\n")
    assert list(read_registration(file).poses) == ["rgb/a.png"]


def photogrammetry_table(folder: Path) -> Path:
    """Metashape's: a header parted by commas, rows by tabs."""
    rows = ["# Cameras (3)", "# PhotoID, X, Y, Z, Omega, Phi, Kappa, r11, r12, r13"]
    for name, pose in TRUTH.items():
        angles = Rotation.from_matrix(pose.rotation @ GL).as_euler("XYZ", degrees=True)
        rows.append(
            "\t".join(map(repr, [name, *map(float, [*pose.translation, *angles, 1, 0, 0])]))
        )
    file = folder / "omega_phi_kappa.txt"
    file.write_text("\n".join(rows).replace("'", ""))
    return file


def stray_scanner(folder: Path) -> Path:
    rows = ["timestamp, frame, x, y, z, qx, qy, qz, qw"]
    for row, pose in enumerate(TRUTH.values()):
        w, x, y, z = pose.quat_wxyz
        numbers = ", ".join(repr(float(one)) for one in (*pose.translation, x, y, z, w))
        rows.append(f"{100.5 + row}, {row:06d}, {numbers}")
    (folder / "odometry.csv").write_text("\n".join(rows))
    return folder / "odometry.csv"


def named_trajectory(folder: Path) -> Path:
    rows = []
    for name, pose in TRUTH.items():
        w, x, y, z = pose.quat_wxyz
        rows.append(
            " ".join([name, *(repr(float(one)) for one in (*pose.translation, x, y, z, w))])
        )
    (folder / "trajectory.txt").write_text("\n".join(rows))
    return folder / "trajectory.txt"


def matrix_columns(folder: Path) -> Path:
    columns = [f"r{i}{j}" for i in "123" for j in "123"]
    rows = [",".join(["image", *columns, "x", "y", "z"])]
    for name, pose in TRUTH.items():
        numbers = [*pose.rotation.ravel(), *pose.translation]
        rows.append(",".join([name, *(repr(float(one)) for one in numbers)]))
    (folder / "matrices.csv").write_text("\n".join(rows))
    return folder / "matrices.csv"


def rows_with_commas(folder: Path) -> Path:
    rows = [",".join(repr(float(x)) for x in pose.matrix[:3].ravel()) for pose in TRUTH.values()]
    (folder / "poses.csv").write_text("\n".join(rows))
    return folder / "poses.csv"


@pytest.mark.parametrize("beside", [True, False])
def test_rows_of_llff_are_the_images_in_their_order(tmp_path, beside):
    names = [f"image{row:03d}.png" for row in range(3)]
    table = np.zeros((3, 17))
    for row, numbers in enumerate(table):
        numbers[:15] = np.column_stack(
            [np.eye(3)[[1, 0, 2]] * [1, 1, -1], [row, 0, 0], [48, 64, 60]]
        ).ravel()
    np.save(tmp_path / "poses_bounds.npy", table)
    for folder in ["images", "smaller"] if beside else ["smaller"]:
        (tmp_path / folder).mkdir()
        for name in names:
            old = f"IMG_{name}" if folder == "images" else name
            Image.new("RGB", (32, 24)).save(tmp_path / folder / old)
    read = read_registration(tmp_path)
    found = find_images(read, tmp_path / "smaller")
    centres = [read.world_from_cam(image.listed).translation[0] for image in found.usable]
    assert centres == [0, 1, 2]
    assert [image.name for image in found.usable] == names
    (tmp_path / "smaller" / names[1]).unlink()
    with pytest.raises(FormatError, match=r"3 poses and no names.* has 2, want exactly these 3"):
        find_images(read, tmp_path / "smaller")


def columns_of_matrices(folder: Path) -> Path:
    """As glm, Eigen and Unity store them."""
    rows = [pose.matrix.T.reshape(1, 16) for pose in TRUTH.values()]
    (folder / "cam_transforms.txt").write_text("".join(map(rows_of, rows)))
    return folder / "cam_transforms.txt"


TABLES = [
    columns_of_matrices,
    photogrammetry_table,
    stray_scanner,
    named_trajectory,
    matrix_columns,
    rows_with_commas,
]


@pytest.mark.parametrize("make", TABLES)
def test_tables_as_tools_and_scripts_write_them(tmp_path, make):
    read = read_registration(make(tmp_path))
    assert not read.problems
    for name, pose in zip(read.poses, TRUTH.values(), strict=True):
        assert position_error(read.world_from_cam(name), pose) < 1e-9
        assert rotation_error_deg(read.world_from_cam(name), pose) < 1e-6


BLOCKS = """<BlocksExchange version="3.2"><SpatialReferenceSystems><SRS><Id>5</Id>
<Definition>{system}</Definition></SRS></SpatialReferenceSystems><Block><SRSId>5</SRSId><Photogroups>
<Photogroup><ImageDimensions><Width>64</Width><Height>48</Height></ImageDimensions>
<FocalLengthPixels>60</FocalLengthPixels><AspectRatio>1.5</AspectRatio><PrincipalPoint><x>30</x>
<y>20</y></PrincipalPoint><Distortion><K1>0.1</K1><K2>0.2</K2><K3>0.3</K3><P1>0.4</P1><P2>0.5</P2>
</Distortion>{photos}</Photogroup></Photogroups></Block></BlocksExchange>"""
CENTRE = "<Center><x>1</x><y>2</y><z>3</z></Center>"
TURN = "<Rotation><Omega>0</Omega><Phi>0</Phi><Kappa>90</Kappa></Rotation>"
PHOTOS = "".join(
    f"<Photo><ImagePath>{name}.jpg</ImagePath>{component}<Pose>{pose}</Pose></Photo>"
    for name, component, pose in [
        ("a", "", TURN + CENTRE),
        ("b", "<Component>2</Component>", TURN + CENTRE),
        ("c", "<Component>0</Component>", CENTRE),
        ("d", "", ""),
    ]
)


def test_a_block_gives_the_photos_of_its_main_component_and_their_lens(tmp_path):
    file = tmp_path / "at.xml"
    system = 'PROJCS["Lambert 93",GEOGCS["RGF93"],UNIT["metre",1]]'
    file.write_text(BLOCKS.format(system=system, photos=PHOTOS))
    read = read_registration(file)
    assert list(read.poses) == ["a.jpg"]
    assert len(read.remarks) == 3  # one photo each that was left out
    # Kappa turns the camera, whose x then points along the world's y.
    np.testing.assert_allclose(read.world_from_cam("a.jpg").rotation[:, 0], [0, 1, 0], atol=1e-12)
    # Half a pixel from its centre to its corner; P2 and P1 as OpenCV calls them.
    params = (60, 90, 30.5, 20.5, 0.1, 0.2, 0.5, 0.4, 0.3, 0, 0, 0)
    assert read.cameras == (Camera("FULL_OPENCV", 64, 48, params),)


@pytest.mark.parametrize(
    "system",
    [
        *["EPSG:4326", "WGS84", "epsg:4326+5773", "+proj=longlat +datum=WGS84"],
        'COMPD_CS["WGS 84 + height",GEOGCS["WGS 84"],VERT_CS["height"]]',
    ],
)
def test_longitude_and_latitude_are_refused(tmp_path, system):
    file = tmp_path / "at.xml"
    file.write_text(BLOCKS.format(system=system, photos=PHOTOS))
    with pytest.raises(FormatError, match="longitude and latitude"):
        read_registration(file)


@pytest.mark.parametrize("name", ["map_camera_poses.txt", "map_poses.txt", "poses_id.txt"])
def test_poses_of_a_robot_become_its_cameras(tmp_path, name):
    (tmp_path / name).write_text("1000.5 1 2 3 0 0 0 1 42\n")
    calib = tmp_path / ("calib" if name == "poses_id.txt" else "map_calib")
    calib.mkdir()
    (calib / "42.yaml").write_text(
        "image_width: 64\nimage_height: 48\ncamera_matrix:\n   rows: 3\n   cols: 3\n"
        "   data: [ 60., 0., 30., 0., 61.,\n      20., 0., 0., 1. ]\n"
        "distortion_model: equidistant\ndistortion_coefficients:\n   data: [ 0.1, 0.2, 0.3, 0.4 ]\n"
        "local_transform:\n   data: [ 0., 0., 1., 0.5, -1., 0., 0., 0., 0., -1., 0., 0. ]\n"
    )
    read = read_registration(tmp_path / name)
    of_robot = name == "map_poses.txt"
    pose = read.world_from_cam("42")
    assert pose.translation.tolist() == [1.5 if of_robot else 1, 2, 3]
    forward = [1, 0, 0] if of_robot else [0, 0, 1]
    np.testing.assert_allclose(pose.rotation[:, 2], forward, atol=1e-12)
    params = (60, 61, 30.5, 20.5, 0.1, 0.2, 0.3, 0.4)
    assert read.cameras == (Camera("OPENCV_FISHEYE", 64, 48, params),)
    assert any("--poses_camera" in one for one in read.remarks) == (name == "poses_id.txt")
    (calib / "42.yaml").rename(calib / "42_0.yaml")
    with pytest.raises(FormatError, match="several cameras of image 42"):
        read_registration(tmp_path / name)


def test_a_time_beyond_all_times_names_no_file(tmp_path):
    rows = ["1000.5 1 2 3 0 0 0 1 43", "1e300 1 2 3 0 0 0 1 42"]
    (tmp_path / "map_poses.txt").write_text("\n".join(rows))
    (tmp_path / "map_calib").mkdir()
    read = read_registration(tmp_path / "map_poses.txt")
    assert list(read.poses) == ["43"]
    assert "line 2: a time of 1e+300 seconds" in read.problems[0]


@pytest.mark.parametrize("key", ["sensorWidth", "pixelRatio"])
def test_a_lens_of_meshroom_with_nothing_to_divide_by_is_named(tmp_path, key):
    lens = {"intrinsicId": "7", "width": 64, "height": 48, "focalLength": 34, "type": "radial3"}
    lens |= {"principalPoint": [0, 0], "sensorWidth": 36, "pixelRatio": 1, key: 0}
    view = {"viewId": "1", "poseId": "1", "intrinsicId": "7", "path": "a.jpg"}
    transform = {"rotation": np.eye(3).ravel().tolist(), "center": [0, 0, 0]}
    pose = {"poseId": "1", "pose": {"transform": transform}}
    root = {"version": ["1", "2", "6"], "views": [view], "intrinsics": [lens], "poses": [pose]}
    (tmp_path / "cameras.sfm").write_text(json.dumps(root))
    with pytest.raises(FormatError, match=r"a pixelRatio of .* and a sensorWidth of .* mm"):
        read_registration(tmp_path / "cameras.sfm")


# -- exports ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cambridge", "tum", "colmap-text"])
def test_names_with_blanks_are_refused_by_rows_that_part_there(tmp_path, name):
    posed = posed_images(tmp_path)
    images = {
        f"Room 1/{one}": replace(image, name=f"Room 1/{one}")
        for one, image in posed.model.images.items()
    }
    files = {f"Room 1/{one}": file for one, file in posed.files.items()}
    posed = PosedImages(MapModel(images, posed.model.points), files, "metre")
    write = FORMATS[name].write
    assert write is not None
    with pytest.raises(FormatError, match="blank"):
        write(posed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -- GPS -------------------------------------------------------------------------------------


def with_gps(path: Path, latitude: float, longitude: float, height: float) -> None:
    """Write a grey photo that says where it was taken."""
    tags = Image.Exif()

    def angle(value: float) -> tuple[float, float, float]:
        return (float(int(value)), float(int(value * 60 % 60)), value * 3600 % 60)

    ifd = tags.get_ifd(ExifTags.IFD.GPSInfo)
    ifd[ExifTags.GPS.GPSLatitudeRef] = "N" if latitude >= 0 else "S"
    ifd[ExifTags.GPS.GPSLatitude] = angle(abs(latitude))
    ifd[ExifTags.GPS.GPSLongitudeRef] = "E" if longitude >= 0 else "W"
    ifd[ExifTags.GPS.GPSLongitude] = angle(abs(longitude))
    ifd[ExifTags.GPS.GPSAltitudeRef] = b"\x00"
    ifd[ExifTags.GPS.GPSAltitude] = height
    Image.new("RGB", (64, 48), (len(path.stem), 80, 90)).save(path, exif=tags)


@pytest.mark.parametrize("up", ["z", None])
def test_gps_of_photos_says_where_the_map_is(tmp_path, up):
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(5)
    heading, scale = np.radians(40), 0.5  # map units per metre
    turn = np.array(
        [[np.cos(heading), -np.sin(heading), 0], [np.sin(heading), np.cos(heading), 0], [0, 0, 1]]
    )
    poses, east_north_up = {}, rng.uniform([-80, -80, -20], [80, 80, 20], (24, 3))
    for row, place_m in enumerate(east_north_up):
        noisy = place_m + rng.normal(0, 1, 3) * [2, 2, 4]
        if row < 3:
            noisy += [300, 200, 0]  # a fix from a cell tower
        latitude = -33.85 + noisy[1] / 110_922  # metres a degree there
        longitude = 151.2 + noisy[0] / 92_520
        with_gps(photos / f"{row:03d}.jpg", latitude, longitude, 30 + noisy[2])
        poses[f"{row:03d}.jpg"] = Rigid3(np.eye(3), scale * turn @ place_m)
    file = pose_list(tmp_path / "poses.txt", poses, 60)
    import_poses(file, tmp_path / "place", photos, convention="stated")
    place = Place.open(tmp_path / "place")
    place.record_poses(poses_from=str(place.poses_from), frame=replace(place.frame, up=up))
    report = align(place, gps=True, apply=True)
    assert report.changed
    origin = place.frame.enu_origin
    assert origin is not None
    assert (origin.latitude, origin.longitude) == pytest.approx((-33.85, 151.2), abs=5e-4)
    assert place.frame.unit == "metre"
    assert place.frame.up == "z"
    assert report.found.reference_from_place.scale == pytest.approx(1 / scale, rel=0.03)
    middle = np.median(east_north_up, axis=0)
    centres = [place.map.images[f"imported/{name}"].world_from_cam.translation for name in poses]
    off = np.array(centres) - np.median(centres, axis=0) - (east_north_up - middle)
    assert np.abs(off).max() < 8  # of fixes that are off by 2 m and 4 m, and 360 m
    again = align(Place.open(tmp_path / "place"), gps=True)
    assert np.linalg.norm(again.found.reference_from_place.translation) < 1e-3


def test_no_gps_is_said(walk, tmp_path):
    file = pose_list(tmp_path / "poses.txt", TRAIN_POSES, CAMERA.focal_px)
    import_poses(file, tmp_path / "place", walk / "photos", convention="stated")
    with pytest.raises(MappingError, match="0 of the 14 posed images"):
        align(tmp_path / "place", gps=True)
