"""The check of claimed poses: exact scenes without images, then rendered and real images."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from relocalize.checking import check_claims, proven
from relocalize.checking.check import quick_report
from relocalize.checking.claims import Claims
from relocalize.checking.conventions import Verdict, judge_conventions
from relocalize.checking.intrinsics import fit_intrinsics
from relocalize.checking.measuring import MeasuredPair, View, measure_pairs
from relocalize.checking.motion import implausible_motion
from relocalize.checking.outliers import pose_tests
from relocalize.checking.report import INTRINSICS, CheckReport
from relocalize.checking.sampling import Sample
from relocalize.cli.main import main
from relocalize.errors import CheckError, PlaceError
from relocalize.features.extraction import Features
from relocalize.formats import Registration, StatedPoses, read_registration
from relocalize.formats.images import find_images
from relocalize.geometry import Camera, Convention, Rigid3
from relocalize.place import Place
from relocalize.verbs.check import check

CAMERA = Camera("PINHOLE", 640, 480, (500.0, 500.0, 320.0, 240.0))
MATRIX = Convention("matrix", camera_axes="RDF")
WCRT = "wxyz,cam_from_world,RDF,translation"


class Scene:
    """Cameras on a wavy path that look at random points; matches exact to ``noise`` pixels."""

    def __init__(
        self, count: int = 18, *, noise: float = 0.3, turning: bool = True, camera: Camera = CAMERA
    ) -> None:
        rng = np.random.default_rng(7)
        self.points = rng.uniform([-6, -3, 4], [12, 3, 9], size=(900, 3))
        self.descriptors = rng.integers(0, 256, size=(900, 128), dtype=np.uint8)
        self.poses = []
        for at in np.linspace(0, 1, count):
            centre = np.array([6 * at, 0.8 * np.sin(9 * at), 1.5 * np.cos(5 * at)])
            angles = [8 * np.sin(12 * at), 25 * np.sin(6 * at), 20 * np.cos(9 * at)]
            turn = Rotation.from_euler("xyz", angles if turning else [0, 0, 0], degrees=True)
            self.poses.append(Rigid3(turn.as_matrix(), centre))
        self.views, self.measured = self._seen(camera, rng, noise)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        count = len(self.poses)
        return [(i, j) for i in range(count) for j in (i + 1, i + 2, i + 4) if j < count]

    def _seen(self, camera, rng, noise):
        views, ids = [], []
        for row, pose in enumerate(self.poses):
            in_cam = pose.inverse() @ self.points
            pixels = camera.img_from_cam(in_cam)
            inside = (in_cam[:, 2] > 0.5) & np.all((pixels > 0) & (pixels < [640, 480]), axis=1)
            seen = np.flatnonzero(inside)
            pixels = pixels[seen] + rng.normal(scale=noise, size=(len(seen), 2))
            features = Features(pixels.astype(np.float32), self.descriptors[seen])
            views.append(View(f"{row:03d}.jpg", camera, features, np.zeros((32, 32))))
            ids.append(seen)
        return views, [self._pair(views, ids, i, j) for i, j in self.pairs]

    def _pair(self, views, ids, i, j):
        _, first, second = np.intersect1d(ids[i], ids[j], return_indices=True)
        assert len(first) > 30
        matches = np.stack([first, second], axis=1).astype(np.uint32)
        rays = np.stack([views[i].rays(first), views[j].rays(second)], axis=1)
        relative = self.poses[j].inverse() @ self.poses[i]
        length = np.linalg.norm(relative.translation)
        return MeasuredPair(
            (i, j),
            matches,
            rays,
            Rigid3(relative.rotation, relative.translation / length),
            parallax_deg=5.0,
            max_error=2 / 500,
        )

    def numbers(self, convention: str):
        """Rotations and positions as a file in the convention would have them (no mirrors)."""
        world = {"RDF": np.eye(3), "RUB": np.diag([1, -1, -1]), "FLU": _FLU}
        kind, direction, axes, position = convention.split(",")
        rotations = np.array([pose.rotation @ world[axes].T for pose in self.poses])
        positions = np.array([pose.translation for pose in self.poses])
        if position == "translation":
            positions = -np.einsum("nji,nj->ni", rotations, positions)
        if direction == "cam_from_world":
            rotations = np.swapaxes(rotations, 1, 2)
        turns = Rotation.from_matrix(rotations)
        if kind == "matrix":
            return rotations, positions
        if kind.startswith("euler"):
            return turns.as_euler("ZYX", degrees=kind.endswith("deg")), positions
        return turns.as_quat(scalar_first=kind == "wxyz"), positions


_FLU = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


TRUE = [
    f"{kind},{direction},{axes},{position}"
    for kind in ("wxyz", "xyzw")
    for direction in ("world_from_cam", "cam_from_world")
    for axes in ("RDF", "RUB", "FLU")
    for position in ("centre", "translation")
]


@pytest.mark.parametrize("true", TRUE)
def test_quaternions_of_every_convention_are_told_from_what_is_claimed(
    scene: Scene, true: str
) -> None:
    rotations, positions = scene.numbers(true)
    claimed = Convention.parse("wxyz,cam_from_world,RDF,translation")
    verdict = judge_conventions(claimed, rotations, positions, scene.measured)
    assert verdict is not None
    assert verdict.best.convention.name == true
    assert verdict.consistent == (true == claimed.name)
    assert verdict.decided
    assert verdict.margin > 3
    assert verdict.best.error_px < 1


# Another order, unit, order of columns and sign; and a wrong unit besides.
@pytest.mark.parametrize(
    ("claimed", "true"),
    [
        ("x0y1z2:deg", "deg"),
        ("z0y1x2:rad", "deg"),
        ("z2y1x0:deg", "rad"),
        ("z0-y1x2:deg", "rad"),
    ],
)
def test_angles_are_told_by_order_sign_and_unit(scene: Scene, true: str, claimed: str) -> None:
    rotations, positions = scene.numbers(f"euler:z0y1x2:{true},world_from_cam,RDF,centre")
    verdict = judge_conventions(
        Convention(f"euler:{claimed}", camera_axes="RDF"), rotations, positions, scene.measured
    )
    assert verdict is not None
    assert verdict.decided
    answer = verdict.best.convention.world_from_cam(rotations, positions)
    for found, truth in zip(answer, scene.poses, strict=True):
        relative = answer[0].inverse() @ found
        wanted = scene.poses[0].inverse() @ truth
        assert np.allclose(relative.matrix, wanted.matrix, atol=1e-6)


@pytest.mark.parametrize("columns", ["xzy", "-xyz", "x-zy", "zxy"])
def test_swapped_columns_are_named(scene: Scene, columns: str) -> None:
    rotations, positions = scene.numbers("matrix,world_from_cam,RDF,centre")
    swapped = Convention("matrix", camera_axes="RDF", columns=columns)
    from relocalize.geometry.conventions import column_matrix

    verdict = judge_conventions(
        MATRIX, rotations, positions @ column_matrix(columns), scene.measured
    )
    assert verdict is not None
    assert not verdict.consistent
    assert verdict.best.convention == swapped


def test_a_camera_that_never_turns_leaves_conventions_undecided() -> None:
    scene = Scene(turning=False)
    rotations, positions = scene.numbers("wxyz,world_from_cam,RDF,centre")
    # Without a rotation nothing tells camera-to-world from world-to-camera, but both give the
    # same poses: that is no doubt. Which column is which would be another place.
    verdict = judge_conventions(
        Convention.parse("wxyz,cam_from_world,RDF,centre"), rotations, positions, scene.measured
    )
    assert verdict is not None
    assert verdict.consistent
    verdict = _verdict_of_a_straight_line(scene)
    # On a straight line, up and down cannot be told apart.
    assert not verdict.decided
    assert verdict.margin == pytest.approx(1, abs=0.05)


def test_two_conventions_that_fit_equally_are_both_not_imported(tmp_path, monkeypatch) -> None:
    scene = Scene(turning=False)
    verdict = _verdict_of_a_straight_line(scene)
    assert verdict.runner_up is not None
    either = (verdict.best.convention.name, verdict.runner_up.convention.name)
    report = CheckReport(
        "line.txt",
        len(scene.poses),
        len(scene.measured),
        either[0],
        verdict,
        (),
        (),
        None,
        None,
        False,
    )
    monkeypatch.setattr("relocalize.checking.proof.check_claims", lambda *_, **__: report)
    file, place = tmp_path / "line.txt", tmp_path / "place"
    numbers = zip(*scene.numbers("wxyz,cam_from_world,RDF,translation"), strict=True)
    rows = [
        f"{i}.jpg " + " ".join(map(repr, map(float, [*q, *t]))) for i, (q, t) in enumerate(numbers)
    ]
    file.write_text("\n".join(rows))
    for i in range(len(scene.poses)):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(CheckError, match="equally; choose with --convention NAME") as raised:
        proven(read_registration(file), tmp_path)
    assert all(name in str(raised.value) for name in either)
    with pytest.raises(SystemExit) as ended:
        main(["import", str(file), str(place), "--images", str(tmp_path)])
    assert ended.value.code == 1
    assert not place.exists()
    chosen = proven(read_registration(file), tmp_path, either[1])
    assert chosen.registration.stated.convention.name == either[1]
    assert chosen.said_by == "the user, not tested"


def _verdict_of_a_straight_line(scene: Scene) -> Verdict:
    """Of a camera that neither turns nor leaves its line."""
    rotations, positions = scene.numbers("wxyz,world_from_cam,RDF,centre")
    positions = positions * [1.0, 2e-3, 2e-3]
    straight = [
        replace(
            pair,
            second_from_first=Rigid3(
                np.eye(3), _unit(positions[pair.pair[0]] - positions[pair.pair[1]])
            ),
            rays=_rays_along(scene, pair, positions),
        )
        for pair in scene.measured
    ]
    verdict = judge_conventions(
        Convention.parse("wxyz,world_from_cam,RDF,centre"), rotations, positions, straight
    )
    assert verdict is not None
    return verdict


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _rays_along(scene: Scene, pair: MeasuredPair, positions: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(pair.pair[0])
    points = rng.uniform([-2, -2, 5], [6, 2, 9], size=(80, 3))
    rays = []
    for row in pair.pair:
        in_cam = points - positions[row]
        rays.append(in_cam[:, :2] / in_cam[:, 2:] + rng.normal(scale=0.3 / 500, size=(80, 2)))
    return np.stack(rays, axis=1)


def test_random_poses_fit_no_convention(scene: Scene) -> None:
    rng = np.random.default_rng(0)
    rotations = Rotation.random(len(scene.poses), rng=rng).as_quat(scalar_first=True)
    positions = rng.normal(size=(len(scene.poses), 3))
    verdict = judge_conventions(
        Convention.parse("wxyz,cam_from_world,RDF,translation"),
        rotations,
        positions,
        scene.measured,
    )
    assert verdict is not None
    assert not verdict.best.explains
    assert not verdict.consistent


def test_too_few_pairs_say_nothing(scene: Scene) -> None:
    rotations, positions = scene.numbers("matrix,world_from_cam,RDF,centre")
    assert judge_conventions(MATRIX, rotations, positions, scene.measured[:5]) is None


# -- poses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "spoilt"),
    [
        ("rotation", Rigid3(Rotation.from_rotvec([0, 0.2, 0]).as_matrix(), np.zeros(3))),
        ("translation", Rigid3(np.eye(3), np.array([0.0, 1.0, 0.0]))),
        ("distance", Rigid3(np.eye(3), np.array([0.6, 0.0, 0.0]))),
    ],
)
def test_wrong_poses_are_found_and_what_is_wrong_with_them(fault: str, spoilt: Rigid3) -> None:
    scene = Scene(40)
    poses = list(scene.poses)
    bad = {5, 20, 33}
    for row in bad:
        if fault == "distance":
            # Along the path: the direction to the neighbours stays, the distance does not.
            ahead = poses[row + 1].translation - poses[row - 1].translation
            poses[row] = Rigid3(poses[row].rotation, poses[row].translation + 0.3 * ahead)
        else:
            poses[row] = poses[row] @ spoilt
    tests = pose_tests(poses, scene.measured)
    assert {outlier.row for outlier in tests.outliers} == bad
    if fault != "distance":
        assert {outlier.fault for outlier in tests.outliers} == {fault}
    assert tests.tested.all()
    assert tests.pair_error_px < 1


def test_exact_poses_have_no_outliers(scene: Scene) -> None:
    tests = pose_tests(scene.poses, scene.measured)
    assert not tests.outliers
    assert not tests.contradictions
    assert tests.three_view_error_px is not None
    assert tests.three_view_error_px < 1


def test_isolated_poses_and_jumps_of_a_walk_are_told_apart() -> None:
    steps = np.arange(60.0)[:, None] * [0.1, 0.0, 0.0]
    steps[17] += [0.0, 4.0, 0.0]
    steps[40:] += [0.0, 0.0, 9.0]
    poses = [Rigid3(np.eye(3), centre) for centre in steps]
    assert implausible_motion(poses, range(60)) == ([17], [39])
    rng = np.random.default_rng(0)
    photos = [Rigid3(np.eye(3), centre) for centre in rng.uniform(size=(60, 3))]
    assert implausible_motion(photos, range(60)) == ([], [])


# -- intrinsics ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed", "fault"),
    [
        (Camera("PINHOLE", 640, 480, (550.0, 550.0, 320.0, 240.0)), "focal length"),
        (Camera("PINHOLE", 640, 480, (500.0, 530.0, 320.0, 240.0)), "aspect"),
        (Camera("PINHOLE", 640, 480, (500.0, 500.0, 345.0, 240.0)), "principal point"),
        (Camera("OPENCV", 640, 480, (500.0, 500.0, 320.0, 240.0, -0.2, 0, 0, 0)), "distortion"),
    ],
)
def test_wrong_intrinsics_are_named_with_the_right_ones(
    scene: Scene, claimed: Camera, fault: str
) -> None:
    views = [replace(view, camera=claimed) for view in scene.views]
    (fit,) = fit_intrinsics(views, scene.poses, scene.measured)
    assert fault in fit.faults
    assert claimed.focal_px * fit.correction.focal_ratio == pytest.approx(500, rel=0.01)
    if fault == "principal point":
        assert fit.principal_offset_px == pytest.approx((-25, 0), abs=1.5)
    if fault == "aspect":
        assert fit.correction.aspect == pytest.approx(500 / 530, rel=0.005)
    if fault == "distortion":
        assert fit.distortion_amount == pytest.approx(0, abs=0.1)


def test_right_intrinsics_are_not_suspicious(scene: Scene) -> None:
    (fit,) = fit_intrinsics(scene.views, scene.poses, scene.measured)
    assert fit.faults == ()
    assert fit.correction.focal_ratio == pytest.approx(1, abs=0.005)


WRONG = {
    "f x 0.5": (Camera("PINHOLE", 640, 480, (250.0, 250.0, 320.0, 240.0)), {"focal length"}),
    "f x 1.3": (Camera("PINHOLE", 640, 480, (650.0, 650.0, 320.0, 240.0)), {"focal length"}),
    "4:3 for 16:9": (Camera("PINHOLE", 640, 480, (500.0, 666.7, 320.0, 240.0)), {"aspect"}),
    "another camera, squeezed": (
        Camera("PINHOLE", 640, 480, (330.0, 440.0, 320.0, 240.0)),
        {"focal length", "aspect"},
    ),
    "centre 10% off": (Camera("PINHOLE", 640, 480, (500.0, 500.0, 384.0, 240.0)),
                       {"principal point"}),
    "undistorted twice": (
        Camera("OPENCV", 640, 480, (500.0, 500.0, 320.0, 240.0, -0.3, 0.1, 0, 0)),
        {"distortion"},
    ),
}  # fmt: skip


FAST = ("f x 1.3", "4:3 for 16:9", "undistorted twice")
# Both at once: the intrinsics and the convention.
OTHERS = {
    "another camera, squeezed": "xyzw,world_from_cam,RUB,centre",
    "f x 0.5": "wxyz,world_from_cam,RUB,centre",
}


def _checked(scene: Scene, claims: Claims, camera: Camera) -> CheckReport:
    """What is said where every image is claimed to be of ``camera``."""
    views = [replace(view, camera=camera) for view in scene.views]
    measured = measure_pairs(views, scene.pairs)
    return quick_report(claims, Sample(claims, views, scene.pairs, measured))


def _claims(scene: Scene, true: str, claimed: str) -> Claims:
    names = tuple(view.name for view in scene.views)
    stated = StatedPoses(names, *scene.numbers(true), Convention.parse(claimed))
    return Claims("scene", names, stated, read=_no_pixels, camera_of=lambda *_: CAMERA)


def _no_pixels(name: str) -> np.ndarray:
    raise AssertionError(f"{name} has no pixels")


@pytest.mark.parametrize(
    ("wrong", "claimed"),
    [
        pytest.param(
            wrong, OTHERS.get(wrong, WCRT), marks=[] if wrong in FAST else pytest.mark.slow
        )
        for wrong in WRONG
    ],
)
def test_intrinsics_are_blamed_before_poses(scene: Scene, wrong: str, claimed: str) -> None:
    camera, faults = WRONG[wrong]
    report = _checked(scene, _claims(scene, WCRT, claimed), camera)
    assert not report.consistent
    assert report.to_json()["intrinsics_hold"] is False
    assert report.convention == WCRT
    assert report.verdict is not None
    assert report.verdict.best.error_px < 1
    named = {problem.kind for problem in report.problems if problem.kind in INTRINSICS}
    assert named == faults
    assert report.problems[0].kind in INTRINSICS
    assert "intrinsics do not explain the images" in report.to_text()


def test_right_intrinsics_are_not_blamed_for_wrong_poses(scene: Scene) -> None:
    claims = _claims(scene, WCRT, WCRT)
    order = np.random.default_rng(3).permutation(len(claims.names))
    stated = claims.stated
    mixed = replace(stated, rotations=stated.rotations[order], positions=stated.positions[order])
    report = _checked(scene, replace(claims, stated=mixed), CAMERA)
    assert report.intrinsics_hold
    assert not report.consistent
    assert report.convention is None
    assert not {problem.kind for problem in report.problems} & set(INTRINSICS)


def test_right_poses_and_intrinsics_are_left_alone(scene: Scene) -> None:
    report = _checked(scene, _claims(scene, WCRT, WCRT), CAMERA)
    assert report.consistent
    assert report.intrinsics_hold
    assert report.problems == ()


def test_cameras_that_are_alike_are_fitted_together(scene: Scene) -> None:
    # As where a tool gives each image of one camera its own calibration.
    views = [
        replace(view, camera=Camera("PINHOLE", 640, 480, (400.0 + row, 400.0 + row, 320, 240)))
        for row, view in enumerate(scene.views)
    ]
    (fit,) = fit_intrinsics(views, scene.poses, scene.measured)
    assert fit.faults == ("focal length",)
    assert fit.images == tuple(range(len(views)))
    assert fit.camera.focal_px * fit.correction.focal_ratio == pytest.approx(500, rel=0.02)


# -- images --------------------------------------------------------------------------------


def _registration(place: Place) -> Registration:
    """The Place's poses as a file would have them, in COLMAP's convention."""
    images = place.map.images
    names = tuple(name.split("/", 1)[1] for name in images)
    poses = [image.cam_from_world for image in images.values()]
    camera = next(iter(images.values())).camera
    stated = StatedPoses(
        names,
        np.array([pose.quat_wxyz for pose in poses]),
        np.array([pose.translation for pose in poses]),
        Convention.parse("wxyz,cam_from_world,RDF,translation"),
    )
    return Registration(
        source="poses",
        format="test",
        cameras=(camera,),
        poses=dict(zip(names, [(pose, 0) for pose in poses], strict=True)),
        unit="metre",
        stated_poses=stated,
    )


@pytest.mark.slow
def test_a_place_that_is_right_is_consistent_and_says_so(
    corridor_place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "corridor"
    shutil.copytree(corridor_place.root, root)
    with pytest.raises(SystemExit) as stop:
        main(["check", str(root), "--json"])
    assert stop.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["consistent"] is True
    assert said["convention"] == MATRIX.name
    assert said["margin"] > 2
    assert said["outliers"] == []
    assert json.loads((root / "check.json").read_text()) == said


@pytest.mark.slow
def test_import_takes_the_convention_that_the_images_prove(corridor_place: Place) -> None:
    registration = _registration(corridor_place)
    images = corridor_place.images_dir / "walk"
    misread = registration.under(Convention.parse("wxyz,world_from_cam,RUB,centre"))
    proof = proven(misread, images)
    assert proof.registration.stated.convention.name == "wxyz,cam_from_world,RDF,translation"
    for name, (pose, _) in registration.poses.items():
        assert np.allclose(proof.registration.poses[name][0].matrix, pose.matrix, atol=1e-9)
    stated = proven(misread, images, "stated").registration.stated
    assert stated.convention.name == "wxyz,world_from_cam,RUB,centre"
    report = check_claims(Claims.of_files(misread, find_images(misread, images)), quick=True)
    assert not report.consistent
    assert report.problems[0].kind == "convention"


@pytest.mark.slow
def test_spoilt_images_and_poses_are_named(corridor_place: Place, tmp_path: Path) -> None:
    images = tmp_path / "walk"
    shutil.copytree(corridor_place.images_dir / "walk", images)
    registration = _registration(corridor_place)
    names = list(registration.poses)
    mirrored, twin, wrong = names[10], names[25], names[40]
    image = cv2.imread(str(images / mirrored))
    cv2.imwrite(str(images / mirrored), image[:, ::-1])
    shutil.copyfile(images / names[5], images / twin)
    positions = registration.stated.positions.copy()
    positions[40] += [0.0, 0.8, 0.0]
    stated = replace(registration.stated, positions=positions)
    poses = stated.convention.world_from_cam(stated.rotations, stated.positions)
    spoilt = replace(
        registration,
        stated_poses=stated,
        poses={name: (pose.inverse(), 0) for name, pose in zip(names, poses, strict=True)},
    )
    report = check_claims(Claims.of_files(spoilt, find_images(spoilt, images)))
    kinds = {problem.kind: problem for problem in report.problems}
    assert report.consistent
    assert kinds["mirrored"].images == (mirrored,)
    assert twin in kinds["duplicate"].images
    assert wrong in report.outliers
    assert set(report.outliers) <= {wrong, twin, mirrored}


def test_images_without_overlap_are_not_proven(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"{row}.png" for row in range(4)]
    for name in names:
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 255, (60, 80, 3)).astype(np.uint8))
    poses = [Rigid3(np.eye(3), rng.normal(size=3)) for _ in names]
    registration = Registration(
        source="poses",
        format="test",
        cameras=(),
        poses={name: (pose, None) for name, pose in zip(names, poses, strict=True)},
        unit="metre",
    )
    proof = proven(registration, tmp_path)
    assert proof.said_by == "its format, not proven"
    with pytest.raises(CheckError, match="declares no convention"):
        proven(replace(registration, declared=False), tmp_path)


def test_a_place_without_poses_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="relocalize map"):
        check(Place.create(tmp_path / "empty"))


def test_a_file_without_images_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "poses.txt").write_text("a.jpg 1 0 0 0 0 0 0\n")
    with pytest.raises(SystemExit) as stop:
        main(["check", str(tmp_path / "poses.txt")])
    assert stop.value.code == 1
    assert "--images DIR" in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    "claimed",
    [
        "wxyz,cam_from_world,RDF,translation",
        "xyzw,world_from_cam,RUB,centre",
    ],
)
def test_the_kitchen_poses_are_recognized(data_dir: Path, claimed: str) -> None:
    kitchen = data_dir / "redkitchen"
    registration = read_registration(kitchen / "poses_sfm.txt")
    misread = registration.under(Convention.parse(claimed))
    report = check_claims(
        Claims.of_files(misread, find_images(misread, kitchen / "images")), quick=True
    )
    assert report.convention == "wxyz,cam_from_world,RDF,translation"
    assert report.consistent == (claimed == report.convention)
    assert report.verdict is not None
    assert report.verdict.margin > 5


@pytest.mark.data
@pytest.mark.slow
def test_another_cameras_focal_length_is_named_and_not_imported(data_dir: Path) -> None:
    kitchen = data_dir / "redkitchen"
    registration = read_registration(kitchen / "poses_sfm.txt")
    claimed = replace(
        registration, cameras=(Camera("SIMPLE_PINHOLE", 640, 480, (400.0, 320.0, 240.0)),)
    )
    with pytest.raises(CheckError, match=r"focal length: claimed 400 px, the matches want 52\d"):
        proven(claimed, kitchen / "images")


@pytest.mark.data
@pytest.mark.slow
def test_the_fox_is_right_and_its_missing_images_are_said(data_dir: Path) -> None:
    registration = read_registration(data_dir / "fox" / "transforms.json")
    files = find_images(registration, data_dir / "fox" / "images")
    claims = Claims.of_files(registration, files)
    assert len(claims.names) == 50
    report = check_claims(claims)
    assert report.consistent
    assert report.outliers == ()
    (unused,) = [problem for problem in report.problems if problem.kind == "unused"]
    assert len(unused.images) == 17
