"""RealityCapture's tables and sidecars, against their documents and real exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from relocalize.errors import FormatError
from relocalize.formats.reality_capture import detect
from relocalize.formats.reality_capture import read as read_reality_capture
from relocalize.formats.reality_capture_xmp import detect as detect_xmp
from relocalize.formats.reality_capture_xmp import read as read_reality_capture_xmp

HEADING = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2\n"


def written(folder: Path, text: str | bytes, name: str = "poses.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def documented_cam_from_world(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """Epic's forum, "Registration export and camera orientations", EulerRotation."""
    z, y, x = np.radians([yaw_deg, pitch_deg, roll_deg])
    cx, cy, cz, sx, sy, sz = np.cos(x), np.cos(y), np.cos(z), np.sin(x), np.sin(y), np.sin(z)
    return np.array(
        [
            [cx * cz + sx * sy * sz, -cx * sz + cz * sx * sy, -cy * sx],
            [-cy * sz, -cy * cz, -sy],
            [cx * sy * sz - cz * sx, cx * cz * sy + sx * sz, -cx * cy],
        ]
    )


class TestPoses:
    def test_camera_without_angles_looks_down_with_its_top_to_the_north(self, tmp_path):
        path = written(tmp_path, "#name,x,y,z,heading,pitch,roll\na.jpg,1,2,3,0,0,0\n")
        pose = read_reality_capture(path).world_from_cam("a.jpg")
        np.testing.assert_allclose(pose.translation, [1, 2, 3])
        np.testing.assert_allclose(pose.rotation @ [0, 0, 1], [0, 0, -1], atol=1e-12)  # forward
        np.testing.assert_allclose(pose.rotation @ [0, -1, 0], [0, 1, 0], atol=1e-12)  # top

    def test_heading_turns_clockwise_and_pitch_lifts_the_view_to_the_horizon(self, tmp_path):
        path = written(tmp_path, "#name,x,y,z,heading,pitch,roll\na.jpg,0,0,0,90,90,0\n")
        rotation = read_reality_capture(path).world_from_cam("a.jpg").rotation
        np.testing.assert_allclose(rotation @ [0, 0, 1], [1, 0, 0], atol=1e-12)  # looks east
        np.testing.assert_allclose(rotation @ [0, -1, 0], [0, 0, 1], atol=1e-12)  # top is up

    @pytest.mark.parametrize("angles", [(131.4, 81.1, -6.2), (-109.7, -40.3, 37.9), (3, 179, 91)])
    def test_angles_are_those_of_the_document(self, tmp_path, angles):
        row = ",".join(map(str, angles))
        path = written(tmp_path, f"#name,x,y,z,heading,pitch,roll\na.jpg,0,0,0,{row}\n")
        pose, _ = read_reality_capture(path).poses["a.jpg"]
        np.testing.assert_allclose(pose.rotation, documented_cam_from_world(*angles), atol=1e-12)

    def test_omega_phi_kappa_are_photogrammetrys(self, tmp_path):
        path = written(tmp_path, "name,x,y,z,omega,phi,kappa\na.jpg,0,0,0,90,0,0\n")
        rotation = read_reality_capture(path).world_from_cam("a.jpg").rotation
        np.testing.assert_allclose(rotation @ [0, 0, 1], [0, 1, 0], atol=1e-12)
        np.testing.assert_allclose(rotation @ [0, -1, 0], [0, 0, 1], atol=1e-12)


class TestLayouts:
    @pytest.mark.parametrize(
        "text",
        [
            "#cameras 1\n#name,x,y,alt,heading,pitch,roll\na.jpg,1.5,2,3,10,20,30\n",
            "name,x,y,z,heading,pitch,roll\na.jpg,1.5,2,3,10,20,30\n",
            "NAME,Roll,Pitch,Yaw,Z,Y,X\na.jpg,30,20,10,3,2,1.5\n",
            "#name;x;y;alt;heading;pitch;roll\r\na.jpg;1,5;2;3;10;20;30\r\n",
            "#name\tx\ty\talt\theading\tpitch\troll\na.jpg\t1.5\t2\t3\t10\t20\t30\n",
            '\ufeff"name","x","y","alt","heading","pitch","roll"\n"a.jpg",1.5,2,3,10,20,30\n',
            "# name, x, y, alt, heading, pitch, roll\n\n# mine\na.jpg, 1.5, 2, 3, 10, 20, 30,\n",
        ],
    )
    def test_every_layout_gives_the_same_pose(self, tmp_path, text):
        path = written(tmp_path, text)
        assert detect(path)
        registration = read_reality_capture(path)
        pose = registration.world_from_cam("a.jpg")
        np.testing.assert_allclose(pose.translation, [1.5, 2, 3])
        want = documented_cam_from_world(10, 20, 30).T
        np.testing.assert_allclose(pose.rotation, want, atol=1e-12)
        assert not registration.problems
        assert not registration.remarks

    def test_further_columns_are_kept(self, tmp_path):
        text = '#name,x,y,z,heading,pitch,roll,Room,sharp\n"a, b.jpg",1,2,3,0,0,0,hall,0.9\n'
        registration = read_reality_capture(written(tmp_path, text))
        assert registration.columns == {"a, b.jpg": {"room": "hall", "sharp": "0.9"}}

    def test_a_file_that_was_cut_off_is_said_to_be(self, tmp_path):
        text = "#cameras 3\n#name,x,y,z,heading,pitch,roll\na.jpg,1,2,3,0,0,0\n"
        remarks = read_reality_capture(written(tmp_path, text)).remarks
        assert len(remarks) == 1
        assert "3 cameras and has 1 rows; was it cut off?" in remarks[0]

    def test_decimal_commas_between_commas_are_said(self, tmp_path):
        text = "#name,x,y,z,heading,pitch,roll\na.jpg,1,5,2,0,3,0,0,0,0,0,0,0\n"
        with pytest.raises(FormatError, match="part cells by semicolons"):
            read_reality_capture(written(tmp_path, text))

    def test_degrees_of_longitude_are_said_to_be_no_lengths(self, tmp_path):
        rows = "".join(f"{i}.jpg,-34.8287{i},7.1633{i},80,0,0,0\n" for i in range(5))
        registration = read_reality_capture(
            written(tmp_path, "#name,x,y,alt,yaw,pitch,roll\n" + rows)
        )
        assert any("longitude" in remark for remark in registration.remarks)


class TestIntrinsics:
    def test_units_are_those_of_35_mm_film_on_the_longer_side(self, tmp_path):
        text = HEADING + "a.jpg,0,0,0,0,0,0,32.4,0.01,-0.02,-0.12,0.03,0.004,0,0.0002,0.0001\n"
        registration = read_reality_capture(written(tmp_path, text))
        for width, height in ((800, 450), (450, 800)):
            camera = registration.camera_of("a.jpg", width, height)
            # OpenCV's p1 is RealityCapture's t2: RealityScan's OpenCV export writes k1,k2,t2,t1,k3.
            want = (720, 720, width / 2 + 8, height / 2 - 16, -0.12, 0.03, 1e-4, 2e-4, 0.004)
            assert camera.model == "FULL_OPENCV"
            np.testing.assert_allclose(camera.params[:9], want, atol=1e-9)
            assert camera.params[9:] == (0, 0, 0)

    def test_newer_column_names(self, tmp_path):
        header = "#name,x,y,alt,yaw,pitch,roll,f_35mm,px_norm,py_norm,k1,k2,k3,k4,t1,t2\n"
        text = header + "a.jpg,0,0,0,0,0,0,18,0.1,0,0,0,0,0,0,0\n"
        camera = read_reality_capture(written(tmp_path, text)).camera_of("a.jpg", 1000, 500)
        assert camera.focal_px == pytest.approx(500)
        np.testing.assert_allclose(camera.principal_point, [600, 250])

    def test_fourth_radial_term_is_followed_by_three_or_its_error_is_said(self, tmp_path):
        def read(k4: float):
            text = HEADING + f"a.jpg,0,0,0,0,0,0,30,0,0,-0.1,0.02,-0.004,{k4},0,0\n"
            registration = read_reality_capture(written(tmp_path, text))
            return registration, registration.camera_of("a.jpg", 4000, 3000)

        registration, camera = read(0.0005)
        assert not registration.remarks
        focal = 4000 * 30 / 36
        radii = np.linspace(0, 2000 / focal, 50)
        points = np.stack([radii, np.zeros(50), np.ones(50)], axis=1)
        r2 = radii**2
        want = radii * (1 - 0.1 * r2 + 0.02 * r2**2 - 0.004 * r2**3 + 0.0005 * r2**4)
        got = camera.img_from_cam(points)[:, 0]
        np.testing.assert_allclose(got, 2000 + focal * want, atol=0.05)

        registration, _ = read(5.0)
        assert any("k4 of 1 images" in remark for remark in registration.remarks)

    def test_a_focal_length_that_no_lens_has_is_left_open(self, tmp_path):
        for lens in ("0,0,0,0,0,0,0,0,0", "30,2,0,0,0,0,0,0,0", "30,0,0,0,0,0,1e300,0,0"):
            text = f"{HEADING}a.jpg,0,0,0,0,0,0,{lens}\n"
            registration = read_reality_capture(written(tmp_path, text))
            assert registration.camera_of("a.jpg", 800, 450).known == "unknown"
            assert any("no lens has" in remark for remark in registration.remarks)


class TestBadInput:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "#cameras 3\n",
            "a,b,c\n1,2,3\n",
            "#name,x,y,z\na.jpg,1,2,3\n",
            "#name,x,y,z,heading,pitch,roll,x\na.jpg,1,2,3,0,0,0,1\n",
            "#name,x,y,z,heading,pitch,roll\n",
            "#name,x,y,z,heading,pitch,roll\na.jpg,one,2,3,0,0,0\n",
            "#name,x,y,z,heading,pitch,roll\na.jpg,1,2,3,0,0,1e5000\n",
            b"\x00\x01\x02",
            b"#name,x,y,z,heading,pitch,roll\n\xff.jpg,1,2,3,0,0,0\n",
        ],
    )
    def test_is_one_line(self, tmp_path, text):
        with pytest.raises(FormatError) as error:
            read_reality_capture(written(tmp_path, text))
        assert "\n" not in str(error.value)

    def test_bad_rows_are_named_and_left_out(self, tmp_path):
        text = "#name,x,y,z,heading,pitch,roll\n" + "".join(
            f"{i}.jpg,{i},2,3,0,0,0\n" for i in range(6)
        )
        text += 'x.jpg,nan,2,3,0,0,0\ny.jpg,1,2\n0.jpg,0,2,3,0,0,0\n"open,1,2,3,0,0,0\n'
        registration = read_reality_capture(written(tmp_path, text))
        assert len(registration.poses) == 6
        assert [f"line {n}" in registration.problems[i] for i, n in enumerate((8, 9, 10, 11))] == [
            True
        ] * 4


@pytest.mark.data
class TestRealExports:
    def test_corridor(self, data_dir):
        path = data_dir / "formats/realitycapture/renaissance4f_registered_photos.csv"
        assert detect(path)
        registration = read_reality_capture(path)
        assert len(registration.poses) == 16
        assert not registration.problems + registration.remarks
        # Somebody walked through a corridor: the tops of the images are up.
        tops = [registration.world_from_cam(n).rotation @ [0, -1, 0] for n in registration.poses]
        assert min(top[2] for top in tops) > 0.9

    def test_second_camera(self, data_dir):
        path = data_dir / "redkitchen/second_camera/realitycapture.csv"
        registration = read_reality_capture(path)
        assert len(registration.poses) == 30
        camera = registration.camera_of("prame000.jpg", 800, 450)
        assert camera.focal_px == pytest.approx(720)

    def test_no_other_sample_looks_like_it(self, data_dir):
        for path in (data_dir / "formats").rglob("*"):
            assert not detect(path) or "realitycapture" in path.parts, path


# The same camera as a sidecar and as a row of the table: Epic's forum, "Different rotation of
# cameras in XMP and CSV", where the last number is cut off after 0.114.
FORUMS_ROTATION = (
    "0.982594073038806 0.185426733553445 -0.0112166890261935 -0.032113633044729 0.11008102707942 "
    "-0.993403685341366 -0.18296885582437 0.976472781986697 0.114119"
)
FORUMS_ANGLES = "163.736597399311,83.4154313461628,174.386496244756"
SPACES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    'xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#"'
)


def sidecar(elements: str = "", attributes: str = "") -> str:
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {SPACES}><rdf:Description xcr:Version="3" '
        f"{attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


POSE = f"<xcr:Rotation>{FORUMS_ROTATION}</xcr:Rotation><xcr:Position>1 2 3</xcr:Position>"
LENS = 'xcr:FocalLength35mm="32.4" xcr:PrincipalPointU="0.01" xcr:PrincipalPointV="-0.02"'


class TestSidecars:
    def test_pose_is_that_of_the_same_camera_in_a_table(self, tmp_path):
        path = written(tmp_path, sidecar(POSE), "a.xmp")
        assert detect_xmp(path)
        pose = read_reality_capture_xmp(path).world_from_cam("a")
        table = written(tmp_path, f"#name,x,y,z,heading,pitch,roll\na.jpg,1,2,3,{FORUMS_ANGLES}\n")
        want = read_reality_capture(table).world_from_cam("a.jpg")
        np.testing.assert_allclose(pose.rotation, want.rotation, atol=2e-4)
        np.testing.assert_allclose(pose.translation, [1, 2, 3], atol=1e-12)

    @pytest.mark.parametrize("form", ["attributes", "elements"])
    def test_intrinsics(self, tmp_path, form):
        names = {
            "DistortionModel": "brown3t2",
            "DistortionCoeficients": "-0.12 0.03 0.004 0 0.0002 0.0001",
            "FocalLength35mm": "32.4",
            "AspectRatio": "1.25",
            "Skew": "0",
            "PrincipalPointU": "0.01",
            "PrincipalPointV": "-0.02",
        }
        if form == "attributes":
            attributes = " ".join(f'xcr:{key}="{value}"' for key, value in names.items())
            text = sidecar(POSE, attributes)
        else:
            text = sidecar(
                POSE + "".join(f"<xcr:{key}>{value}</xcr:{key}>" for key, value in names.items())
            )
        registration = read_reality_capture_xmp(written(tmp_path, text, "a.xmp"))
        camera = registration.camera_of("a", 800, 450)
        want = (720, 900, 408, 209, -0.12, 0.03, 1e-4, 2e-4, 0.004)
        np.testing.assert_allclose(camera.params[:9], want, atol=1e-9)
        assert not registration.remarks

    def test_a_folder_names_images_by_their_sidecars(self, tmp_path):
        (tmp_path / "hall").mkdir()
        written(tmp_path, sidecar(POSE), "a.xmp")
        written(tmp_path, sidecar(POSE), "hall/b.jpg.XMP")
        written(tmp_path, sidecar(attributes=LENS), "c.xmp")
        written(tmp_path, '<x:xmpmeta xmlns:x="adobe:ns:meta/"/>', "d.xmp")
        assert detect_xmp(tmp_path)
        registration = read_reality_capture_xmp(tmp_path)
        assert list(registration.poses) == ["a", "hall/b.jpg"]
        assert registration.remarks == ("2 sidecars have no pose",)

    @pytest.mark.parametrize("other", ["relative", "absolute"])
    def test_of_several_components_the_largest_is_read(self, tmp_path, other):
        hall = 'xcr:Coordinates="relative" xcr:ComponentId="{hall}"'
        for name in "abc":
            attributes = f'xcr:Coordinates="{other}" xcr:ComponentId="{{yard}}"'
            written(tmp_path, sidecar(POSE, attributes if name == "b" else hall), f"{name}.xmp")
        read = read_reality_capture_xmp(tmp_path)
        assert list(read.poses) == ["a", "c"]
        named = "{yard}" if other == "relative" else "absolute coordinates"
        assert any(f"left out: 1 of {named}" in remark for remark in read.remarks)

    @pytest.mark.parametrize(
        ("attributes", "part"),
        [
            (
                f'{LENS} xcr:DistortionModel="division" xcr:DistortionCoeficients="-0.1 0 0 0 0 0"',
                "division",
            ),
            (f'{LENS} xcr:Skew="0.01"', "skew"),
            ('xcr:Coordinates="relative"', "relative"),
            ('xcr:FocalLength35mm="0"', "no lens"),
        ],
    )
    def test_what_is_not_read_is_said(self, tmp_path, attributes, part):
        path = written(tmp_path, sidecar(POSE, attributes), "a.xmp")
        remarks = read_reality_capture_xmp(path).remarks
        assert len(remarks) == 1
        assert part in remarks[0]

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "<x/>",
            sidecar(),
            sidecar("<xcr:Rotation>1 2 3</xcr:Rotation><xcr:Position>1 2 3</xcr:Position>"),
            sidecar(POSE.replace("1 2 3", "1 2 nan")),
            sidecar(POSE, 'xcr:FocalLength35mm="x"'),
            '<!DOCTYPE x [<!ENTITY a "b">]>' + sidecar(POSE),
        ],
    )
    def test_bad_sidecars_are_one_line(self, tmp_path, text):
        with pytest.raises(FormatError) as error:
            read_reality_capture_xmp(written(tmp_path, text, "a.xmp"))
        assert "\n" not in str(error.value)

    @pytest.mark.data
    def test_no_sample_looks_like_it(self, data_dir):
        assert not [path for path in (data_dir / "formats").rglob("*") if detect_xmp(path)]
