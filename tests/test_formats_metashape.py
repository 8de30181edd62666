"""Metashape's XML, against the manual's formulas and real exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from relocalize.errors import FormatError
from relocalize.formats.metashape import detect
from relocalize.formats.metashape import read as read_metashape
from relocalize.formats.xml_file import read_xml

FRAME = (
    '<calibration type="frame" class="{kind}"><resolution width="1000" height="800"/>'
    "<f>{f}</f>{more}</calibration>"
)
TURN = Rotation.from_euler("zyx", [30, -20, 10], degrees=True).as_matrix()


def sensor(number: int = 0, *, body: str = "", attributes: str = 'type="frame"') -> str:
    return (
        f'<sensor id="{number}" label="s{number}" {attributes}>'
        f'<resolution width="1000" height="800"/>{body}</sensor>'
    )


def calibrated(kind: str = "adjusted", f: float = 900, **more: float) -> str:
    tags = "".join(f"<{name}>{value!r}</{name}>" for name, value in more.items())
    return FRAME.format(kind=kind, f=f, more=tags)


def numbers(values: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(values))


def camera(number: int, *, attributes: str = "", pose: np.ndarray | None = None) -> str:
    body = "" if pose is None else f"<transform>{numbers(pose)}</transform>"
    return f'<camera id="{number}" sensor_id="0" label="p{number}.jpg" {attributes}>{body}</camera>'


def matrix(rotation: np.ndarray, centre: list[float]) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = rotation, centre
    return result


def written(folder: Path, *, sensors: str = "", cameras: str = "", more: str = "") -> Path:
    path = folder / "cameras.xml"
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<document version="2.0.0"><chunk label="c">'
        f"<sensors>{sensors or sensor()}</sensors>{more}<cameras>{cameras}</cameras>"
        "</chunk></document>"
    )
    return path


def manuals_projection(points: np.ndarray, values: dict[str, float], *, fisheye: bool):
    """Agisoft Metashape User Manual, "Camera models", for an image of 1000 x 800."""
    v = {name: values.get(name, 0.0) for name in NAMES}
    x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
    if fisheye:
        r0 = np.hypot(x, y)
        x, y = x * np.arctan(r0) / r0, y * np.arctan(r0) / r0
    r = np.hypot(x, y)
    radial = 1 + v["k1"] * r**2 + v["k2"] * r**4 + v["k3"] * r**6 + v["k4"] * r**8
    xd = x * radial + v["p1"] * (r**2 + 2 * x**2) + 2 * v["p2"] * x * y
    yd = y * radial + v["p2"] * (r**2 + 2 * y**2) + 2 * v["p1"] * x * y
    u = 500 + v["cx"] + xd * v["f"] + xd * v["b1"] + yd * v["b2"]
    return np.stack([u, 400 + v["cy"] + yd * v["f"]], axis=1)


NAMES = ("f", "cx", "cy", "b1", "b2", "k1", "k2", "k3", "k4", "p1", "p2")
DIRECTIONS = np.array([[0.4, 0.3, 1], [-0.5, 0.2, 1], [0.1, -0.4, 1], [-0.3, -0.35, 1]])


class TestPoses:
    def test_a_transform_maps_camera_to_chunk_in_opencv_axes(self, tmp_path):
        path = written(tmp_path, cameras=camera(3, pose=matrix(TURN, [1, 2, 3])))
        assert detect(path)
        registration = read_metashape(path)
        pose = registration.world_from_cam("p3.jpg")
        np.testing.assert_allclose(pose.rotation, TURN, atol=1e-12)
        np.testing.assert_allclose(pose.translation, [1, 2, 3], atol=1e-12)
        assert registration.unit == "map unit"

    @pytest.mark.parametrize("where", ["chunk", "component"])
    def test_chunk_and_component_turn_scale_and_move(self, tmp_path, where):
        about = Rotation.from_euler("xz", [90, 45], degrees=True).as_matrix()
        placed = (
            f'<transform><rotation locked="false">{numbers(about)}</rotation>'
            '<translation>10 20 30</translation><scale locked="true">2.5</scale></transform>'
        )
        component = f'<components><component id="0">{placed}</component></components>'
        path = written(
            tmp_path,
            cameras=camera(0, attributes='component_id="0"', pose=matrix(TURN, [1, 2, 3])),
            more=placed if where == "chunk" else component,
        )
        registration = read_metashape(path)
        pose = registration.world_from_cam("p0.jpg")
        np.testing.assert_allclose(pose.rotation, about @ TURN, atol=1e-12)
        want = 2.5 * about @ [1, 2, 3] + [10, 20, 30]
        np.testing.assert_allclose(pose.translation, want, atol=1e-12)
        assert registration.unit == "metre"

    def test_a_rigs_camera_sits_at_its_sensors_offset_from_the_master(self, tmp_path):
        offset = Rotation.from_euler("y", 15, degrees=True).as_matrix()
        body = f"<rotation>{numbers(offset)}</rotation><translation>0.2 0 0</translation>"
        slave = '<camera id="1" sensor_id="1" master_id="0" label="p1.jpg"/>'
        path = written(
            tmp_path,
            sensors=sensor() + sensor(1, body=body, attributes='type="frame" master_id="0"'),
            cameras=camera(0, pose=matrix(TURN, [1, 2, 3])) + slave,
        )
        registration = read_metashape(path)
        pose = registration.world_from_cam("p1.jpg")
        np.testing.assert_allclose(pose.rotation, TURN @ offset, atol=1e-12)
        np.testing.assert_allclose(pose.translation, TURN @ [0.2, 0, 0] + [1, 2, 3], atol=1e-12)
        assert any("of a rig" in remark for remark in registration.remarks)

    def test_a_rigs_camera_is_in_its_masters_component(self, tmp_path):
        placed = "<transform><scale>2</scale></transform>"
        more = "".join(f'<component id="{i}">{placed if i else ""}</component>' for i in (1, 0))
        body = "<translation>0.2 0 0</translation>"
        slave = '<camera id="1" sensor_id="1" master_id="0" component_id="0" label="p1.jpg"/>'
        master = camera(0, attributes='component_id="1"', pose=matrix(np.eye(3), [1, 2, 3]))
        path = written(
            tmp_path,
            sensors=sensor() + sensor(1, body=body),
            cameras=master + slave,
            more=f"<components>{more}</components>",
        )
        pose = read_metashape(path).world_from_cam("p1.jpg")
        np.testing.assert_allclose(pose.translation, [2.4, 4, 6], atol=1e-12)

    @pytest.mark.parametrize(
        ("place", "geocentric"),
        [
            ([3_100_000.0, 860_000, 5_490_000], True),  # 6.36e6 m from the earth's middle
            ([674_000.0, 6_580_000, 30], False),  # UTM in Sweden
            ([500_000.0, 9_000_000, 0], False),
        ],
    )
    def test_large_coordinates_are_geocentric_on_the_earths_surface(
        self, tmp_path, place, geocentric
    ):
        chunk = f"<transform><translation>{numbers(np.array(place))}</translation>"
        cameras = camera(0, pose=matrix(TURN, [0, 0, 0]))
        path = written(tmp_path, cameras=cameras, more=f"{chunk}<scale>2</scale></transform>")
        read = read_metashape(path)
        np.testing.assert_allclose(read.world_from_cam("p0.jpg").translation, place, atol=1e-6)
        assert any("geocentric" in remark for remark in read.remarks) == geocentric

    def test_what_is_left_out_is_counted(self, tmp_path):
        pose = matrix(TURN, [0, 0, 0])
        ball = '<camera id="9" sensor_id="7" label="ball"><transform>' + numbers(pose)
        path = written(
            tmp_path,
            sensors=sensor() + sensor(7, attributes='type="spherical"'),
            cameras=camera(0, pose=pose)
            + camera(1)
            + camera(2, attributes='enabled="false"', pose=pose)
            + f'<group id="0" label="g">{camera(3, pose=pose)}</group>'
            + ball
            + "</transform></camera>",
        )
        registration = read_metashape(path)
        assert list(registration.poses) == ["p0.jpg", "p3.jpg"]
        assert len(registration.remarks) == 3
        for part in ("not aligned", "disabled", "panoramic"):
            assert any(part in remark for remark in registration.remarks)


class TestLenses:
    @pytest.mark.parametrize("kind", ["frame", "fisheye", "equidistant_fisheye"])
    @pytest.mark.parametrize(
        "values",
        [
            {"f": 900.0},
            {"f": 900.0, "cx": 12.5, "cy": -7.25, "b1": 3.0},
            {"f": 900.0, "k1": -0.1, "k2": 0.03, "k3": -0.01, "p1": 0.004, "p2": -0.0015},
            {"f": 900.0, "k1": -0.1, "k2": 0.03, "k3": -0.01, "k4": 0.001},
        ],
    )
    def test_points_project_where_the_manual_says(self, tmp_path, kind, values):
        body = calibrated(**values)
        path = written(
            tmp_path,
            sensors=sensor(body=body, attributes=f'type="{kind}"'),
            cameras=camera(0, pose=np.eye(4)),
        )
        registration = read_metashape(path)
        assert not registration.remarks
        got = registration.camera_of("p0.jpg", 1000, 800).img_from_cam(DIRECTIONS)
        want = manuals_projection(DIRECTIONS, values, fisheye=kind != "frame")
        np.testing.assert_allclose(got, want, atol=0.05 if "k4" in values else 1e-9)

    def test_skew_that_cannot_be_held_is_said_in_pixels(self, tmp_path):
        path = written(
            tmp_path,
            sensors=sensor(body=calibrated(b2=-9.0)),
            cameras=camera(0, pose=np.eye(4)),
        )
        remarks = read_metashape(path).remarks
        assert len(remarks) == 1
        # 9 / 900 of the 400 pixels from the middle to the upper border.
        assert float(remarks[0].split()[-1]) == pytest.approx(4.0, rel=0.1)

    def test_the_adjusted_calibration_counts(self, tmp_path):
        body = calibrated("initial", 800) + calibrated("adjusted", 900)
        path = written(tmp_path, sensors=sensor(body=body), cameras=camera(0, pose=np.eye(4)))
        assert read_metashape(path).camera_of("p0.jpg", 1000, 800).focal_px == pytest.approx(900)

    @pytest.mark.parametrize(
        "values", [{"f": 1e-300}, {"f": 1e300}, {"cx": 1e9}, {"k4": 1e300}, {"b1": -900.0}]
    )
    def test_numbers_that_no_lens_has_leave_it_open(self, tmp_path, values):
        body = calibrated(**values)
        path = written(tmp_path, sensors=sensor(body=body), cameras=camera(0, pose=np.eye(4)))
        assert read_metashape(path).camera_of("p0.jpg", 1000, 800).known == "unknown"

    def test_without_calibration_the_focal_length_is_that_of_the_exif(self, tmp_path):
        body = '<property name="pixel_width" value="0.004"/>'
        body += '<property name="focal_length" value="3.2"/>'
        path = written(tmp_path, sensors=sensor(body=body), cameras=camera(0, pose=np.eye(4)))
        assert read_metashape(path).camera_of("p0.jpg", 1000, 800).focal_px == pytest.approx(800)

    def test_an_old_calibration_is_said_not_to_be_read(self, tmp_path):
        body = '<property name="pixel_width" value="0.004"/>'
        body += '<property name="focal_length" value="3.2"/>'
        body += '<calibration class="adjusted"><fx>900</fx><fy>901</fy><cx>510</cx></calibration>'
        path = written(tmp_path, sensors=sensor(body=body), cameras=camera(0, pose=np.eye(4)))
        registration = read_metashape(path)
        assert registration.camera_of("p0.jpg", 1000, 800).focal_px == pytest.approx(800)
        assert "before 1.3" in registration.remarks[0]


class TestBadInput:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "<document>",
            "<document/>",
            "<poses><pose/></poses>",
            "<document><chunk><cameras/></chunk></document>",
            '<document><chunk><cameras><camera id="0" label="a"/></cameras></chunk></document>',
            "<document><chunk><cameras/></chunk><chunk><cameras/></chunk></document>",
            '<!DOCTYPE d [<!ENTITY a "aa">]><document><chunk><cameras/></chunk></document>',
            "<a>" * 100_000,
            pytest.param("<document>" + "<b/>" * 2_100_000, marks=pytest.mark.slow),
            '<?xml version="1.0" encoding="nonsense"?><document/>',
            '<?xml version="1.0" encoding="rot13"?><document/>',
            "<document>&who;</document>",
            "<x:document/>",
            "\0\0",
        ],
    )
    def test_is_one_line(self, tmp_path, text):
        path = tmp_path / "cameras.xml"
        path.write_text(text)
        with pytest.raises(FormatError) as error:
            read_metashape(path)
        assert "\n" not in str(error.value)
        assert "cameras.xml" in str(error.value)

    @pytest.mark.parametrize(
        "sensors",
        [
            sensor(body=calibrated(k1=float("nan"))),
            '<sensor id="0"><resolution width="0" height="9"/></sensor>',
            '<sensor id="0"><resolution width="1e99" height="9"/></sensor>',
            sensor(body="<rotation>1 2 3</rotation>"),
            sensor(body="<translation>1e200 0 0</translation>"),
        ],
    )
    def test_sensors_that_are_none_are_one_line(self, tmp_path, sensors):
        with pytest.raises(FormatError) as error:
            read_metashape(written(tmp_path, sensors=sensors, cameras=camera(0, pose=np.eye(4))))
        assert "\n" not in str(error.value)

    def test_bad_cameras_are_named_and_left_out(self, tmp_path):
        good = "".join(camera(i, pose=np.eye(4)) for i in range(4))
        bad = camera(4, pose=2 * np.eye(4)) + camera(5, pose=np.full((4, 4), np.nan))
        bad += '<camera id="6" sensor_id="0" label="p6.jpg"><transform>1 2</transform></camera>'
        registration = read_metashape(written(tmp_path, cameras=good + bad))
        assert list(registration.poses) == [f"p{i}.jpg" for i in range(4)]
        assert len(registration.problems) == 3
        assert all(f"camera {4 + i}" in line for i, line in enumerate(registration.problems))


@pytest.mark.data
class TestRealExports:
    def test_aligned_cameras(self, data_dir):
        path = data_dir / "formats/metashape/adjusted_94_cameras.xml"
        registration = read_metashape(path)
        assert len(registration.poses) == 94
        assert len(registration.cameras) == 94
        assert not registration.problems
        assert "94 sensors" in registration.remarks[0]
        # What was photographed, the middle of the region that Metashape built, is before every
        # camera and in most images; no other direction or axes would have it so.
        middle = np.array([read_xml(path).findtext("chunk/region/center").split()], dtype=float)
        in_cameras = {name: pose @ middle for name, (pose, _) in registration.poses.items()}
        assert min(point[0, 2] for point in in_cameras.values()) > 0
        pixels = [
            registration.camera_of(name, 5184, 3456).img_from_cam(point)[0]
            for name, point in in_cameras.items()
        ]
        assert sum(0 < u < 5184 and 0 < v < 3456 for u, v in pixels) > 70

    @pytest.mark.parametrize("name", ["cameras.xml", "markers.xml"])
    def test_cameras_that_are_not_aligned_are_said_to_be(self, data_dir, name):
        path = data_dir / "formats/metashape" / name
        assert detect(path)
        with pytest.raises(FormatError, match="120 cameras are not aligned"):
            read_metashape(path)

    def test_no_other_sample_looks_like_it(self, data_dir):
        for path in (data_dir / "formats").rglob("*"):
            assert not detect(path) or "metashape" in path.parts, path
