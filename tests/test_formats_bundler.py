"""Bundler's files, against its manual."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from relocalize.errors import FormatError
from relocalize.formats.bundler import detect
from relocalize.formats.bundler import read as read_bundler

SIZE = (640, 480)
CAMERAS = [  # f, k1, k2, R, t
    (500.0, -0.05, 0.01, Rotation.from_euler("xyz", [5, 10, -3], degrees=True), [0.1, 0.2, -4.0]),
    (0.0, 0.0, 0.0, None, [0.0, 0.0, 0.0]),
    (520.0, 0.02, 0.0, Rotation.from_euler("xyz", [-8, -12, 30], degrees=True), [-0.3, 0.1, -5.0]),
]
NAMES = ["walk/a.jpg", "b b.jpg", "c.jpg"]
POINTS = np.array([[0.2, 0.1, 0.3], [-0.4, 0.3, -0.2], [0.3, -0.5, 0.1]])


def manuals_pixel(point: np.ndarray, camera) -> np.ndarray:
    """Bundler v0.3 User's Manual: P = R X + t; p = -P / P.z; p' = f r(p) p, from the middle."""
    f, k1, k2, rotation, translation = camera
    in_camera = rotation.as_matrix() @ point + translation
    p = -in_camera[:2] / in_camera[2]
    return f * (1 + k1 * p @ p + k2 * (p @ p) ** 2) * p


def bundle(points: np.ndarray = POINTS) -> str:
    rows = ["# Bundle file v0.3", f"{len(CAMERAS)} {len(points)}"]
    for f, k1, k2, rotation, translation in CAMERAS:
        matrix = np.zeros((3, 3)) if rotation is None else rotation.as_matrix()
        rows.append(f"{f} {k1} {k2}")
        rows += [" ".join(repr(float(value)) for value in row) for row in matrix]
        rows.append(" ".join(map(repr, translation)))
    for number, point in enumerate(points):
        views = [
            f"{index} {number} " + " ".join(repr(float(v)) for v in manuals_pixel(point, camera))
            for index, camera in enumerate(CAMERAS)
            if camera[3] is not None
        ]
        rows += [" ".join(map(str, point)), "10 20 30", f"{len(views)} " + " ".join(views)]
    return "\n".join(rows) + "\n"


def written(folder: Path, text: str | None = None, *, images: bool = False) -> Path:
    path = folder / "bundle.out"
    path.write_text(bundle() if text is None else text)
    (folder / "list.txt").write_text("walk/a.jpg 0 500.0\nb b.jpg\nc.jpg 0 520\n")
    for name in NAMES if images else []:
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", SIZE).save(folder / name)
    return path


class TestPoses:
    def test_points_project_where_the_manual_says(self, tmp_path):
        path = written(tmp_path)
        assert detect(path)
        assert detect(tmp_path)
        registration = read_bundler(path)
        assert list(registration.poses) == ["walk/a.jpg", "c.jpg"]
        for name, theirs in zip(NAMES, CAMERAS, strict=True):
            if theirs[3] is None:
                continue
            camera = registration.camera_of(name, *SIZE)
            got = camera.img_from_cam(registration.poses[name][0] @ POINTS)
            want = [manuals_pixel(point, theirs) * [1, -1] + [320, 240] for point in POINTS]
            np.testing.assert_allclose(got, want, atol=1e-9)

    def test_cameras_that_are_not_registered_and_points_are_counted(self, tmp_path):
        registration = read_bundler(written(tmp_path))
        assert registration.model is None
        assert len(registration.remarks) == 2
        assert "1 cameras are not registered" in registration.remarks[0]
        assert "3 points are left out" in registration.remarks[1]

    def test_the_list_may_be_in_the_folder_above(self, tmp_path):
        (tmp_path / "bundle").mkdir()
        (tmp_path / "bundle/bundle.out").write_text(bundle())
        (tmp_path / "list.txt").write_text("\n".join(NAMES))
        assert detect(tmp_path)
        assert list(read_bundler(tmp_path).poses) == ["walk/a.jpg", "c.jpg"]

    def test_undistorted_images_have_a_list_of_their_own(self, tmp_path):
        (tmp_path / "bundle.rd.out").write_text(bundle())
        (tmp_path / "list.txt").write_text("\n".join(NAMES))
        (tmp_path / "list.rd.txt").write_text("\n".join(f"{name}.rd.jpg" for name in NAMES))
        read = read_bundler(tmp_path / "bundle.rd.out")
        assert list(read.poses) == ["walk/a.jpg.rd.jpg", "c.jpg.rd.jpg"]


class TestPoints:
    def test_points_and_their_observations_come_along(self, tmp_path):
        registration = read_bundler(written(tmp_path, images=True))
        model = registration.model
        assert model is not None
        np.testing.assert_allclose(model.points.positions, POINTS)
        assert model.points.colors.tolist() == [[10, 20, 30]] * 3
        assert model.points.track_lengths.tolist() == [2, 2, 2]
        assert model.points.reprojection_errors.max() < 1e-6
        want = [manuals_pixel(point, CAMERAS[2]) * [1, -1] + [320, 240] for point in POINTS]
        np.testing.assert_allclose(model.images["c.jpg"].keypoints, want, atol=1e-4)

    def test_a_file_cut_off_in_its_points_keeps_what_is_whole(self, tmp_path):
        text = bundle()
        cut = text[: text.rindex("10 20 30")]
        registration = read_bundler(written(tmp_path, cut, images=True))
        assert len(registration.poses) == 2
        assert len(registration.model.points) == 2
        assert "after the 2." in registration.remarks[-1]

    @pytest.mark.parametrize("bad", ["nan", "1e300", "x"])
    def test_points_that_are_nowhere_end_the_reading_of_points(self, tmp_path, bad):
        text = bundle().replace("-0.4 0.3 -0.2", f"-0.4 {bad} -0.2")
        registration = read_bundler(written(tmp_path, text, images=True))
        assert len(registration.model.points) == 1
        assert "after the 1." in registration.remarks[-1]

    def test_images_outside_the_lists_folder_are_not_opened(self, tmp_path):
        inner = tmp_path / "inner"
        inner.mkdir()
        path = written(inner)
        for name in ("a.jpg", "c.jpg"):
            Image.new("RGB", SIZE).save(tmp_path / name)
        (inner / "list.txt").write_text("../a.jpg\nb.jpg\n../c.jpg\n")
        assert read_bundler(path).model is None


class TestBadInput:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "# Bundle file v0.2\n1 0\n",
            "# Bundle file v0.3\n",
            "# Bundle file v0.3\n3 x\n",
            "# Bundle file v0.3\n-3 0\n",
            "# Bundle file v0.3\nnan inf\n",
            "# Bundle file v0.3\n4 0\n",
            "# Bundle file v0.3\n3 99999999999999\n500 0 0\n",
            "# Bundle file v0.3\n3 0\n" + "0 " * 45,
            "# Bundle file v0.3\n3 0\n" + "500 0 0 2 0 0 0 2 0 0 0 2 0 0 0 " * 3,
            "# Bundle file v0.3\n3 0\n" + "nan " * 45,
        ],
    )
    def test_is_one_line(self, tmp_path, text):
        with pytest.raises(FormatError) as error:
            read_bundler(written(tmp_path, text))
        assert "\n" not in str(error.value)

    def test_without_a_list_there_are_no_names(self, tmp_path):
        path = tmp_path / "bundle.out"
        path.write_text(bundle())
        with pytest.raises(FormatError, match="no list of images"):
            read_bundler(path)


@pytest.mark.data
def test_no_sample_looks_like_it(data_dir):
    assert not [path for path in (data_dir / "formats").rglob("*") if detect(path)]
