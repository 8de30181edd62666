"""The plain table: its declared and undeclared readings, and its way there and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posed_example import CAMERAS, posed_images
from relocalize.errors import FormatError
from relocalize.formats.plain_csv import detect
from relocalize.formats.plain_csv import read as read_plain_csv
from relocalize.formats.plain_csv import write as write_plain_csv
from relocalize.formats.posed_images import PosedImages
from relocalize.formats.reality_capture import detect as detect_reality_capture
from relocalize.geometry import Camera, Convention
from relocalize.place import MapModel

TURN = Rotation.from_euler("ZYX", [30, -20, 10], degrees=True)
X, Y, Z, W = TURN.as_quat(canonical=True)
CENTRE = np.array([1.0, -2.0, 3.0])


def written(folder: Path, text: str) -> Path:
    path = folder / "poses.csv"
    path.write_text(text)
    return path


def renamed(posed: PosedImages, names: list[str]) -> PosedImages:
    """The same images under other names."""
    old = list(posed.model.images)
    images = {
        new: replace(posed.model.images[name], name=new)
        for name, new in zip(old, names, strict=True)
    }
    files = {new: posed.files[name] for name, new in zip(old, names, strict=True)}
    return PosedImages(MapModel(images, posed.model.points), files, posed.unit)


class TestReading:
    @pytest.mark.parametrize(
        ("columns", "row"),
        [
            ("qw,qx,qy,qz,x,y,z", [W, X, Y, Z, *CENTRE]),
            ("x,y,z,qx,qy,qz,qw", [*CENTRE, X, Y, Z, W]),
            ("qw,qx,qy,qz,tx,ty,tz", [W, -X, -Y, -Z, *TURN.inv().apply(-CENTRE)]),
            (
                "r00,r01,r02,r10,r11,r12,r20,r21,r22,x,y,z",
                [*TURN.as_matrix().ravel(), *CENTRE],
            ),
            ("rx,ry,rz,x,y,z", [10, -20, 30, *CENTRE]),
        ],
    )
    def test_undeclared_names_are_read_as_usual_and_said_to_be_unproven(
        self, tmp_path, columns, row
    ):
        text = f"Name,{columns.upper()}\na.jpg," + ",".join(map(repr, map(float, row))) + "\n"
        path = written(tmp_path, text)
        assert detect(path)
        assert not detect_reality_capture(path)
        registration = read_plain_csv(path)
        pose = registration.world_from_cam("a.jpg")
        np.testing.assert_allclose(pose.rotation, TURN.as_matrix(), atol=1e-12)
        np.testing.assert_allclose(pose.translation, CENTRE, atol=1e-12)
        assert len(registration.remarks) == 1
        assert "not proven" in registration.remarks[0]

    @pytest.mark.parametrize(
        "name",
        [
            "wxyz,world_from_cam,RUB,centre",
            "xyzw,cam_from_world,FLU,centre",
            "wxyz,cam_from_world,RDF,translation,x-zy",
        ],
    )
    def test_the_declared_convention_is_used(self, tmp_path, name):
        text = f"# convention: {name}\nname,qx,qy,qz,qw,x,y,z\na.jpg,{X},{Y},{Z},{W},1,-2,3\n"
        path = written(tmp_path, text)
        assert detect(path)
        registration = read_plain_csv(path)
        convention = Convention.parse(name)
        quat = [X, Y, Z, W] if convention.rotation == "xyzw" else [W, X, Y, Z]
        (want,) = convention.world_from_cam([quat], [CENTRE])
        pose = registration.world_from_cam("a.jpg")
        np.testing.assert_allclose(pose.matrix, want.matrix, atol=1e-12)
        assert registration.stated.convention == convention
        assert not registration.remarks

    def test_declared_angles_are_a_plain_table_and_undeclared_ones_reality_captures(self, tmp_path):
        table = "name,x,y,z,yaw,pitch,roll\na.jpg,1,-2,3,30,-20,10\n"
        path = written(tmp_path, table)
        assert not detect(path)
        assert detect_reality_capture(path)
        path = written(
            tmp_path, "# convention: euler:z0y1x2:deg,world_from_cam,RDF,centre\n" + table
        )
        assert detect(path)
        assert not detect_reality_capture(path)
        pose = read_plain_csv(path).world_from_cam("a.jpg")
        np.testing.assert_allclose(pose.rotation, TURN.as_matrix(), atol=1e-12)

    @pytest.mark.parametrize(
        ("columns", "row", "model", "params"),
        [
            ("focal_px", "500", "SIMPLE_RADIAL", (500, 320, 240, 0)),
            ("f,k1,k2", "500,0.1,0.2", "RADIAL", (500, 320, 240, 0.1, 0.2)),
            ("fx,fy,cx,cy,width,height", "5,6,7,8,640,480", "OPENCV", (5, 6, 7, 8, 0, 0, 0, 0)),
            (
                "width,height,fx,fy,cx,cy,k1,k2,p1,p2,k3,k4",
                "640,480,5,6,7,8,1,2,3,4,5,6",
                "FULL_OPENCV",
                (5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 0, 0),
            ),
            (
                "camera_model,width,height,focal_px,cx,cy",
                "simple_pinhole,640,480,5,7,8",
                "SIMPLE_PINHOLE",
                (5, 7, 8),
            ),
        ],
    )
    def test_intrinsics(self, tmp_path, columns, row, model, params):
        path = written(
            tmp_path,
            f"# convention: wxyz\nname,qw,qx,qy,qz,x,y,z,{columns}\na.jpg,1,0,0,0,1,2,3,{row}\n",
        )
        camera = read_plain_csv(path).camera_of("a.jpg", 640, 480)
        assert (camera.model, camera.params) == (model, params)

    def test_a_commented_header_counts_where_it_begins_with_the_name(self, tmp_path):
        row = "a.jpg,1,0,0,0,1,2,3\n"
        assert detect(written(tmp_path, "# name, qw, qx, qy, qz, x, y, z\n" + row))
        colmaps = "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n"
        assert not detect(written(tmp_path, colmaps + "1 1 0 0 0 1 2 3 1 a.jpg\n"))

    def test_a_principal_point_needs_no_image_size_and_rational_terms_do(self, tmp_path):
        head = "# convention: wxyz\nname,qw,qx,qy,qz,x,y,z,fx,cx,cy,k4\n"
        registration = read_plain_csv(written(tmp_path, head + "a.jpg,1,0,0,0,1,2,3,500,9,8,7\n"))
        assert registration.camera_of("a.jpg", 640, 480).params == (500, 9, 8, 0)
        assert "k4 are not used" in registration.remarks[0]

    def test_split_unit_and_further_columns(self, tmp_path):
        path = written(
            tmp_path,
            "# unit: metre\n# convention: wxyz\nname,qw,qx,qy,qz,x,y,z,split,room\n"
            "a.jpg,1,0,0,0,1,2,3,train,hall\nb.jpg,1,0,0,0,1,2,4,test,\n",
        )
        registration = read_plain_csv(path)
        assert (registration.train, registration.test) == (("a.jpg",), ("b.jpg",))
        assert registration.unit == "metre"
        assert registration.columns["a.jpg"] == {"room": "hall"}


class TestThereAndBack:
    @pytest.mark.parametrize("form", ["file", "folder"])
    def test_poses_and_intrinsics_are_the_same(self, tmp_path, form):
        posed = posed_images(tmp_path, tuple(CAMERAS)[:4])
        out = tmp_path / ("out.csv" if form == "file" else "out")
        write_plain_csv(posed, out)
        assert detect(out)
        registration = read_plain_csv(out)
        assert not registration.remarks + registration.problems
        assert registration.unit == posed.unit
        assert (registration.train, registration.test) == (posed.train, posed.test)
        assert list(registration.poses) == list(posed.model.images)
        for name, image in posed.model.images.items():
            pose, _ = registration.poses[name]
            np.testing.assert_allclose(pose.matrix, image.cam_from_world.matrix, rtol=0, atol=1e-12)
            assert registration.camera_of(name, 64, 48) == image.camera
            assert float(registration.columns[name]["time"]) == posed.times[name]
            if form == "folder":
                assert (out / "images" / name).read_bytes() == posed.files[name].read_bytes()

    @pytest.mark.parametrize("model", sorted(CAMERAS))
    def test_every_lens(self, tmp_path, model):
        posed = posed_images(tmp_path, (model,))
        write_plain_csv(posed, tmp_path / "out.csv")
        registration = read_plain_csv(tmp_path / "out.csv")
        want = Camera(model, 64, 48, CAMERAS[model])
        assert {registration.camera_of(name, 64, 48) for name in registration.poses} == {want}

    def test_names_of_every_kind(self, tmp_path):
        names = ["#1.jpg", 'a "b", c.jpg', " blank.jpg ", "Flur/Übersicht;ß 走廊.jpg"]
        posed = renamed(posed_images(tmp_path), names)
        write_plain_csv(posed, tmp_path / "out.csv")
        assert list(read_plain_csv(tmp_path / "out.csv").poses) == names

    def test_what_no_table_can_hold_is_refused(self, tmp_path):
        posed = posed_images(tmp_path)
        names = [f"{number}\n.jpg" for number in range(len(posed.model.images))]
        with pytest.raises(FormatError, match="line break"):
            write_plain_csv(renamed(posed, names), tmp_path / "out.csv")
        fov = Camera("FOV", 64, 48, (60.0, 60.0, 32.0, 24.0, 0.9))
        images = {name: replace(image, camera=fov) for name, image in posed.model.images.items()}
        with pytest.raises(FormatError, match="FOV"):
            write_plain_csv(
                replace(posed, model=MapModel(images, posed.model.points)), tmp_path / "out.csv"
            )
        assert not (tmp_path / "out.csv").exists()


class TestBadInput:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "name,qw,qx,qy\n",
            "name,qw,qx,qy,qz,x,y,z\n",
            "name,qw,qx,qy,qz,x,y,z,qw\na,1,0,0,0,1,2,3,1\n",
            "# convention: nonsense\nname,qw,qx,qy,qz,x,y,z\na,1,0,0,0,1,2,3\n",
            "# convention: matrix\nname,qw,qx,qy,qz,x,y,z\na,1,0,0,0,1,2,3\n",
            "name,qw,qx,qy,qz,x,y,z\na,0,0,0,0,1,2,3\n",
            "name,qw,qx,qy,qz,x,y,z,width,height,fx\na,1,0,0,0,1,2,3,1e99,-1,2\n",
            "name,qw,qx,qy,qz,x,y,z,camera_model\na,1,0,0,0,1,2,3,PINHOLE\n",
            "name,qw,qx,qy,qz,x,y,z,camera_model\na,1,0,0,0,1,2,3,TELESCOPE\n",
            "name,qw,qx,qy,qz,x,y,z,fx\na,1,0,0,0,1,2,3,-5\n",
        ],
    )
    def test_is_one_line(self, tmp_path, text):
        with pytest.raises(FormatError) as error:
            read_plain_csv(written(tmp_path, text))
        assert "\n" not in str(error.value)


@pytest.mark.data
def test_no_sample_looks_like_it(data_dir):
    assert not [path for path in (data_dir / "formats").rglob("*") if detect(path)]
    assert not detect(data_dir / "redkitchen/second_camera/realitycapture.csv")
    assert not detect(data_dir / "lund_door/colmap_text/images.txt")
