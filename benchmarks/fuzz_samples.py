"""Tiny valid files of every format, from which `fuzz_readers.py` makes invalid ones."""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from relocalize.formats.posed_images import PosedImages
from relocalize.formats.registry import FORMATS
from relocalize.geometry import Camera, Rigid3
from relocalize.place import MapModel, Points, PosedImage

_LARGEST = 20_000  # bytes of a file that is worth mutating 100,000 times


@dataclass(frozen=True)
class Sample:
    """A valid registration.

    Attributes:
        format: key of `FORMATS`.
        files: content by path.
        entry: what is given to the reader: one of the paths, or empty for the folder.
    """

    format: str
    files: dict[str, bytes]
    entry: str = ""


def samples(data: Path | None = None) -> dict[str, list[Sample]]:
    """Samples by format: what our writers write, what is spelled out here, and files of ``data``.

    Args:
        data: a folder of other tools' exports; its small files join the formats that detect them.
    """
    found: dict[str, list[Sample]] = {name: [] for name in FORMATS}
    for sample in (*_written(), *_spelled_out(), *(_of_folder(data) if data else ())):
        if sample.format in found:
            found[sample.format].append(sample)
    missing = [name for name, own in found.items() if not own]
    if missing:
        raise SystemExit(f"no sample of {', '.join(missing)}: add one to {Path(__file__).name}")
    return found


def _of_folder(data: Path) -> list[Sample]:
    found = []
    for path in sorted(data.rglob("*")):
        if path.is_file() and path.stat().st_size <= _LARGEST:
            name = next((name for name, one in FORMATS.items() if one.detect(path)), None)
            if name is not None:
                found.append(Sample(name, {path.name: path.read_bytes()}, path.name))
    return found


def _written() -> list[Sample]:
    """What every writer makes of three images with four points."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        posed = _posed_images(Path(folder) / "images")
        for name, one in FORMATS.items():
            if one.write is None:
                continue
            out = Path(folder) / name
            one.write(posed, out)
            files = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
            relative = {path.relative_to(out).as_posix(): data for path, data in files.items()}
            found.append(
                Sample(name, relative or {out.name: out.read_bytes()}, "" if files else out.name)
            )
    return found


def _posed_images(folder: Path) -> PosedImages:
    camera = Camera("OPENCV", 8, 6, (7.0, 7.5, 4.0, 3.0, 0.1, -0.02, 0.001, 0.002))
    positions = np.array([[0.2, 0.1, 4.0], [-0.8, 0.3, 5.0], [0.9, -0.6, 3.0], [0.1, 0.0, 4.5]])
    images, files = {}, {}
    for row in range(3):
        name = f"walk/frame-{row:06d}.png"
        turn = Rotation.from_euler("xyz", [0.1 * row, -0.05, 0.02]).as_matrix()
        pose = Rigid3(turn, np.array([0.1 * row, 0.2, -0.3]))
        pixels = camera.img_from_cam(pose @ positions).astype(np.float32)
        images[name] = PosedImage(name, camera, 1, pose, pixels, np.arange(4))
        files[name] = folder / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), "gray").save(files[name])
    colors = np.full((4, 3), 90, np.uint8)
    points = Points(np.arange(1, 5), positions, colors, np.zeros(4), np.full(4, 3))
    names = tuple(images)
    times = {name: 0.1 * row for row, name in enumerate(names)}
    return PosedImages(MapModel(images, points), files, "metre", names[:2], names[2:], times=times)


def _spelled_out() -> list[Sample]:
    """Formats that are not written, and layouts that the writers do not use."""
    texts = {
        ("pose-list", "poses.txt"): _POSE_LIST,
        ("kitti", "00.txt"): _KITTI,
        ("pose-list", "poses_final.txt"): _ACE_ZERO,
        ("matrix-rows", "poses.txt"): _MATRIX_ROWS,
        ("matrix-rows", "named.txt"): _NAMED_MATRICES,
        ("matrix-rows", "columns.txt"): _COLUMNS_OF_MATRICES,
        ("record3d", "metadata"): json.dumps(_RECORD3D),
        ("tum", "t.txt"): _TUM,
        ("alicevision", "cameras.sfm"): json.dumps(_ALICEVISION),
        ("gaussian-splatting", "cameras.json"): json.dumps(_SPLAT),
        ("nvm", "result.nvm"): _NVM,
        ("redwood", "walk.log"): f"0 0 1\n{_MATRIX}1 1 2\n{_MATRIX}",
        ("reality-capture", "poses.csv"): _REALITY_CAPTURE,
        ("reality-capture-xmp", "a.xmp"): _XMP,
        ("metashape", "cameras.xml"): _METASHAPE,
        ("blocks-exchange", "at.xml"): _BLOCKS,
        ("navvis", "2015-08-16_15.34.11_poses.xml"): _NAVVIS,
        ("opensfm", "reconstruction.json"): json.dumps(_OPENSFM),
        ("openmvg", "sfm_data.json"): json.dumps(_OPENMVG),
        ("nerfstudio", "transforms.json"): json.dumps(_INSTANT_NGP),
        ("plain-csv", "poses.csv"): _PLAIN_CSV,
    }
    found = [Sample(name, {file: text.encode()}, file) for (name, file), text in texts.items()]
    # Spreadsheets save tables so.
    found += [
        Sample(name, {file: text.encode("utf-16")}, file)
        for (name, file), text in texts.items()
        if file.endswith((".txt", ".csv"))
    ]
    pair = {"bundle.out": _BUNDLER.encode(), "list.txt": b"a.jpg 0 500.5\nb/c.jpg\n"}
    found.append(Sample("bundler", pair, "bundle.out"))
    found.append(Sample("colmap-text", {name: text.encode() for name, text in _COLMAP.items()}))
    for name, files in _FOLDERS.items():
        found.append(Sample(name, {file: text.encode() for file, text in files.items()}))
    found.append(Sample("colmap-text", {name: text.encode() for name, text in _WITH_RIGS.items()}))
    found.append(Sample("llff", {"poses_bounds.npy": _llff(), **_NINE}))
    files = {"map_poses.txt": _RTABMAP, "map_calib/7.yaml": _RTABMAP_YAML}
    files["map_calib/1000.500000.yaml"] = _RTABMAP_YAML
    found.append(Sample("rtabmap", {name: text.encode() for name, text in files.items()}))
    found.append(Sample("rtabmap", {"poses_id.txt": _RTABMAP.encode()}, "poses_id.txt"))
    folder = {"data.csv": _EUROC, "sensor.yaml": _SENSOR}
    found.append(Sample("euroc", {name: text.encode() for name, text in folder.items()}))
    found.append(Sample("euroc", {"data.csv": _EUROC.encode()}, "data.csv"))
    return found


_NINE = {f"images/{row}.jpg": b"" for row in range(9)}


def _llff() -> bytes:
    matrix = [[0, 1, 0, 0.5, 480], [-1, 0, 0, 0.2, 640], [0, 0, 1, 0.1, 500]]
    file = io.BytesIO()
    np.save(file, np.array([[*np.ravel(matrix), 1.0, 9.0]] * 9))
    return file.getvalue()


_ALICEVISION = {
    "version": ["1", "2", "6"],
    "views": [
        {"viewId": "1", "poseId": "1", "intrinsicId": "7", "path": "D:/a.jpg"},
        {"viewId": "2", "poseId": "2", "intrinsicId": "7", "path": "b.jpg"},
    ],
    "intrinsics": [
        {
            **{"intrinsicId": "7", "width": "640", "height": "480", "type": "radial3"},
            **{"sensorWidth": "36", "focalLength": "28.5", "pixelRatio": "1"},
            **{"principalPoint": ["1.5", "-2"], "distortionParams": ["0.1", "-0.02", "0"]},
        }
    ],
    "poses": [
        {
            "poseId": "1",
            "pose": {
                "transform": {
                    "rotation": ["0", "0", "-1", "0", "1", "0", "1", "0", "0"],
                    "center": ["1.5", "2", "3e0"],
                },
                "locked": "0",
            },
        }
    ],
}
_SPLAT = [
    {
        **{"id": 0, "img_name": "a", "width": 640, "height": 480, "fx": 500, "fy": 500.5},
        **{"position": [1, 2.5, 3], "rotation": [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]},
    }
]
_NVM = """NVM_V3

2
a/0.jpg 500.5 1 0 0 0 0.5 0 0 -0.1 0
a/1"2.jpg 500.5 0.7071067811865476 0 0 0.7071067811865476 1 2 3 0 0

1
1 2 3 90 90 90 1 0 5 0.5 -2.5

0
"""
_POSE_LIST = """# image qw qx qy qz tx ty tz focal_px
a/0.jpg 1 0 0 0 0.5 0 0 500
a/1.jpg 0.7071067811865476 0 0 0.7071067811865476 1 2 3 500
a/2.jpg 1 0 0 0 0 0 -4 510
"""
_MATRIX = "1 0 0 0.5\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
_ACE_ZERO = """a/0.jpg 1 0 0 0 0.5 0 0 500.5 5230
a/1.jpg 0.7071067811865476 0 0 0.7071067811865476 1 2 3 500.5 900
"""
_MATRIX_ROWS = """1 0 0 0.1 0 1 0 0.2 0 0 1 0.3 0 0 0 1
0 0 1 1.5 0 1 0 2 -1 0 0 3e0 0 0 0 1
"""
_COLUMNS_OF_MATRICES = """1 0 0 0 0 1 0 0 0 0 1 0 0.1 0.2 0.3 1
0 0 -1 0 0 1 0 0 1 0 0 0 1.5 2 3e0 1
"""
_NAMED_MATRICES = """a.jpg 1 0 0 0.1 0 1 0 0.2 0 0 1 0.3 0 0 0 1
b.jpg 0 0 1 1.5 0 1 0 2 -1 0 0 3e0
"""
_ACE = {
    "train/poses/frame-000000.pose.txt": _MATRIX,
    "train/calibration/frame-000000.calibration.txt": "500 0 320\n0 500 240\n0 0 1\n",
    "train/rgb/frame-000000.color.txt": "",
}
_SCANNET = {
    "color/none.txt": "",
    "pose/0.txt": _MATRIX,
    "intrinsic/intrinsic_color.txt": "500 0 320 0\n0 500 240 0\n0 0 1 0\n0 0 0 1\n",
}
_KEYFRAME = {
    **{f"t_{row}{column}": float(row == column) for row in range(3) for column in range(4)},
    **{"fx": 500, "fy": 500.5, "cx": 320, "cy": 240, "width": 640, "height": 480},
}
_POLYCAM = {
    f"keyframes/corrected_cameras/{number}.json": json.dumps(_KEYFRAME) for number in (1, 2)
}
_SCANNER_APP = {
    "frame_00001.json": json.dumps(
        {
            "cameraPoseARFrame": [1, 0, 0, 0.5, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1],
            "intrinsics": [500, 0, 320, 0, 500.5, 240, 0, 0, 1],
        }
    )
}
_ARKIT_SCENES = {
    "lowres_wide.traj": "100.5 0 0 0 0.1 0.2 0.3\n101.5 0.1 -0.2 3 1 2 3\n",
    "lowres_wide_intrinsics/4775_100.501.pincam": "640 480 500 500.5 320 240\n",
    "lowres_wide_intrinsics/4775_101.500.pincam": "640 480 500 500.5 320 240\n",
}
_MVSNET = f"extrinsic\n{_MATRIX}\nintrinsic\n500 0 320\n0 500 240\n0 0 1\n\n0.5 0.01 192 2.4\n"
_FOLDERS = {
    "ace": _ACE,
    "scannet": _SCANNET,
    "polycam": _POLYCAM,
    "3d-scanner-app": _SCANNER_APP,
    "arkit-scenes": _ARKIT_SCENES,
    "mvsnet": {"cams/00000000_cam.txt": _MVSNET},
}
_RECORD3D = {
    **{"w": 640, "h": 480, "fps": 60, "K": [500, 0, 0, 0, 500, 0, 320, 240, 1]},
    "poses": [[0, 0, 0, 1, 0.1, 0.2, 0.3], [0, 0.6, 0, 0.8, 1, 2, 3]],
}
_WITH_RIGS = {
    "cameras.txt": "1 SIMPLE_PINHOLE 64 48 60 32 24\n",
    "images.txt": "1 1 0 0 0 1 2 3 1 a.jpg\n\n2 1 0 0 0 4 5 6 1 b.jpg\n\n",
    "points3D.txt": "",
    "rigs.txt": "1 1 CAMERA 1\n",
    "frames.txt": "1 1 1 0 0 0 1 2 9 1 CAMERA 1 1\n2 1 1 0 0 0 4 5 6 1 CAMERA 1 2\n",
}
_KITTI = """1 0 0 0.1 0 1 0 0.2 0 0 1 0.3
0 0 1 1.5 0 1 0 2 -1 0 0 3e0
1 0 0 0 0 1 0 0 0 0 1 0
"""
_TUM = """# timestamp tx ty tz qx qy qz qw
1305031098.6659 1.3563 0.6305 1.6380 0.6132 0.5962 -0.3311 -0.3986
1305031098.6758 1.3543 0.6306 1.6360 0.6129 0.5966 -0.3316 -0.3980
"""
_EUROC = """#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x []
1403715524907143168,0.515356,1.996773,0.971104,1,0,0,0,0.1,-0.2
1403715524912143104,0.515342,1.996723,0.971077,0.6,0.8,0,0,0.1,-0.2
"""
_SENSOR = """sensor_type: camera
T_BS:
  cols: 4
  rows: 4
  data: [1.0, 0.0, 0.0, 0.1, 0.0, 0.0, 1.0, 0.2, 0.0, -1.0, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0]
resolution: [752, 480]
camera_model: pinhole
intrinsics: [458.654, 457.296, 367.215, 248.375] #fu, fv, cu, cv
distortion_model: radial-tangential
distortion_coefficients: [-0.28, 0.07, 0.0002, 1.8e-05]
"""
_REALITY_CAPTURE = """#cameras 2
#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2
a.jpg,1.5,2,3,131.4,81.1,-6.2,32.4,0.01,-0.02,-0.1,0.02,0,0,0,0
"b.jpg",-1.5,2,3,10,20,30,32.4,0.01,-0.02,-0.1,0.02,0,0,0,0
"""
_XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#" xcr:Version="3"
   xcr:Coordinates="absolute" xcr:FocalLength35mm="32.4" xcr:PrincipalPointU="0.01"
   xcr:PrincipalPointV="-0.02" xcr:DistortionModel="brown3" xcr:Skew="0" xcr:AspectRatio="1">
   <xcr:Rotation>1 0 0 0 1 0 0 0 1</xcr:Rotation>
   <xcr:Position>1 2 3</xcr:Position>
   <xcr:DistortionCoeficients>-0.1 0.02 0 0 0 0</xcr:DistortionCoeficients>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
_METASHAPE = """<?xml version="1.0" encoding="UTF-8"?>
<document version="1.5.0">
  <chunk label="c" enabled="true">
    <sensors next_id="1">
      <sensor id="0" label="s" type="frame">
        <resolution width="1000" height="800"/>
        <calibration type="frame" class="adjusted">
          <resolution width="1000" height="800"/>
          <f>900.5</f><cx>-1.5</cx><cy>2</cy><b1>0.1</b1><k1>-0.1</k1><k2>0.02</k2><p1>1e-4</p1>
        </calibration>
      </sensor>
    </sensors>
    <components next_id="1"><component id="0" label="Component 1">
      <transform><rotation>1 0 0 0 1 0 0 0 1</rotation><translation>1 2 3</translation>
        <scale>2</scale></transform></component></components>
    <cameras next_id="3">
      <camera id="0" sensor_id="0" component_id="0" label="a.jpg">
        <transform>1 0 0 1 0 1 0 2 0 0 1 3 0 0 0 1</transform></camera>
      <camera id="1" sensor_id="0" component_id="0" label="b.jpg">
        <transform>0 0 1 1 0 1 0 2 -1 0 0 3 0 0 0 1</transform></camera>
      <camera id="2" sensor_id="0" label="c.jpg"/>
    </cameras>
    <transform><rotation>1 0 0 0 0 -1 0 1 0</rotation><translation>1 2 3</translation>
      <scale>3.5</scale></transform>
  </chunk>
</document>
"""
_RTABMAP = """#timestamp x y z qx qy qz qw id
0.000000 0.819282 0.488257 0.011752 -0.441424 -0.496760 0.563409 0.490860 -42
1000.500000 1 2 3 0 0 0 1 1
1000.750000 1.5 2 3 0 0.6 0 0.8 7
"""
_RTABMAP_YAML = """%YAML:1.0
---
camera_name: "7"
image_width: 640
image_height: 480
camera_matrix:
   rows: 3
   cols: 3
   data: [ 500.5, 0., 319.5, 0., 500., 239.5, 0., 0., 1. ]
distortion_model: plumb_bob
distortion_coefficients:
   rows: 1
   cols: 5
   data: [ 0.1, -0.02, 1.0e-03, 0., 0. ]
local_transform:
   rows: 3
   cols: 4
   data: [ 0., 0., 1., 0.1, -1., 0., 0., 0., 0., -1., 0., 0.2 ]
"""
_BLOCKS = """<?xml version="1.0" encoding="utf-8"?>
<BlocksExchange version="2.1">
  <SpatialReferenceSystems><SRS><Id>0</Id><Name>L</Name><Definition>EPSG:2154</Definition></SRS>
  </SpatialReferenceSystems>
  <Block><SRSId>0</SRSId><Photogroups><Photogroup>
    <ImageDimensions><Width>640</Width><Height>480</Height></ImageDimensions>
    <CameraModelType>Perspective</CameraModelType><SensorSize>36</SensorSize>
    <FocalLength>28.5</FocalLength><CameraOrientation>XRightYUp</CameraOrientation>
    <PrincipalPoint><x>319.5</x><y>240.5</y></PrincipalPoint><AspectRatio>1.01</AspectRatio>
    <Distortion><K1>-0.1</K1><K2>0.02</K2><K3>0</K3><P1>1e-4</P1><P2>0</P2></Distortion>
    <Photo><Id>1</Id><ImagePath>D:\\a.jpg</ImagePath><Component>1</Component><Pose><Rotation>
      <M_00>1</M_00><M_01>0</M_01><M_02>0</M_02><M_10>0</M_10><M_11>1</M_11><M_12>0</M_12>
      <M_20>0</M_20><M_21>0</M_21><M_22>1</M_22></Rotation>
      <Center><x>652000.5</x><y>6863073.25</y><z>130</z></Center></Pose></Photo>
    <Photo><Id>2</Id><ImagePath>b.jpg</ImagePath><Pose><Rotation><Omega>10</Omega>
      <Phi>-20.5</Phi><Kappa>3e1</Kappa></Rotation>
      <Center><x>652001.5</x><y>6863073.25</y><z>130</z></Center></Pose></Photo>
    <Photo><Id>3</Id><ImagePath>c.jpg</ImagePath></Photo>
  </Photogroup></Photogroups></Block>
</BlocksExchange>
"""
_BUNDLER = """# Bundle file v0.3
2 1
500.5 -0.1 0.01
1 0 0
0 1 0
0 0 1
0.1 0.2 0.3
500.5 -0.1 0.01
0 0 1
0 1 0
-1 0 0
1 2 3
0.5 0.25 -4
255 0 10
2 0 11 1.5 -2.5 1 7 3 4
"""
_NAVVIS = """<?xml version="1.0" encoding="UTF-8" ?>
<poses>
 <pose><id>00000-cam0</id><translation><x>0.5</x><y>0.7</y><z>1.8</z></translation>
  <rotation><w>0.6</w><x>-0.8</x><y>0</y><z>0</z></rotation></pose>
 <pose><id>00000-cam1</id><translation><x>0.6</x><y>0.7</y><z>1.8</z></translation>
  <rotation><w>0</w><x>0.6</x><y>0</y><z>-0.8</z></rotation></pose>
</poses>
"""
_PLAIN_CSV = """image,x,y,z,qw,qx,qy,qz,width,height,fx,fy,cx,cy,k1
a.jpg,1,2,3,1,0,0,0,640,480,500,500,320,240,0.1
b.jpg,1,2,4,0.6,0.8,0,0,640,480,500,500,320,240,0.1
"""
_COLMAP = {
    "cameras.txt": "# Camera list\n1 SIMPLE_RADIAL 640 480 500 320 240 0.1\n"
    "2 OPENCV 64 48 50 51 32 24 0.1 0.02 0 0\n",
    "images.txt": "# Image list\n1 1 0 0 0 0.1 0.2 0.3 1 a.jpg\n10.5 20.5 1 30 40 -1\n"
    "2 0.6 0.8 0 0 1 2 3 2 b/c.jpg\n1.5 2.5 1\n",
    "points3D.txt": "# 3D point list\n1 0.5 0.25 4 255 0 10 0.5 1 0 2 0\n",
}
_OPENSFM = [
    {
        "cameras": {
            "c": {"projection_type": "perspective", "width": 640, "height": 480, "focal": 0.9}
            | {"k1": -0.1, "k2": 0.02}
        },
        "shots": {
            "a.jpg": {"rotation": [0.1, 0.2, 0.3], "translation": [1, 2, 3], "camera": "c"},
            "b.jpg": {"rotation": [0, 1.5, 0], "translation": [1, 2, 4.5], "camera": "c"},
        },
        "points": {"1": {"coordinates": [1, 2, 3.5], "color": [255, 0, 10]}},
        "reference_lla": {"latitude": 52.5, "longitude": 13.4, "altitude": 0},
    }
]
_OPENMVG = {
    "sfm_data_version": "0.3",
    "root_path": "/x",
    "views": [
        {
            "key": key,
            "value": {
                "polymorphic_id": 1073741824,
                "ptr_wrapper": {
                    "id": 2147483649 + key,
                    "data": {"local_path": "", "filename": f"{key}.jpg", "width": 640}
                    | {"height": 480, "id_view": key, "id_intrinsic": 0, "id_pose": key},
                },
            },
        }
        for key in range(2)
    ],
    "intrinsics": [
        {
            "key": 0,
            "value": {
                "polymorphic_id": 2147483649,
                "polymorphic_name": "pinhole_radial_k3",
                "ptr_wrapper": {
                    "id": 2147483660,
                    "data": {"width": 640, "height": 480, "focal_length": 500.5}
                    | {"principal_point": [320.5, 240], "disto_k3": [-0.1, 0.02, 0]},
                },
            },
        }
    ],
    "extrinsics": [
        {
            "key": key,
            "value": {"rotation": [[0, 0, 1], [0, 1, 0], [-1, 0, 0]], "center": [key, 2, 3.5]},
        }
        for key in range(2)
    ],
    "structure": [
        {
            "key": 0,
            "value": {
                "X": [1, 2, 9.5],
                "observations": [
                    {"key": key, "value": {"id_feat": 3, "x": [10.5, 20.5]}} for key in range(2)
                ],
            },
        }
    ],
    "control_points": [],
}
_INSTANT_NGP = {
    "camera_angle_x": 0.75,
    "fl_x": 500.5,
    "k1": 0.05,
    "cx": 320.5,
    "cy": 240,
    "w": 640,
    "h": 480,
    "aabb_scale": 4,
    "frames": [
        {
            "file_path": f"images/{row}.jpg",
            "sharpness": 30.5,
            "transform_matrix": [[1, 0, 0, row], [0, 0, -1, 2], [0, 1, 0, 3.5], [0, 0, 0, 1]],
        }
        for row in range(2)
    ],
}
