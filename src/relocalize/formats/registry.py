"""The foreign formats that relocalize reads, and telling which one a file is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relocalize.errors import FormatError
from relocalize.formats import (
    ace,
    alicevision,
    arkit_scenes,
    blocks_exchange,
    bundler,
    cambridge,
    colmap,
    euroc,
    gaussian_splatting,
    kapture,
    kitti,
    llff,
    matrix_rows,
    metashape,
    mvsnet,
    navvis,
    nerfstudio,
    nvm,
    openmvg,
    opensfm,
    plain_csv,
    polycam,
    pose_list,
    reality_capture,
    reality_capture_xmp,
    record3d,
    redwood,
    rtabmap,
    scanner_app,
    scannet,
    seven_scenes,
    tum,
)
from relocalize.formats.posed_images import PosedImages
from relocalize.formats.registration import Registration
from relocalize.formats.text import first_lines, shortened


@dataclass(frozen=True)
class Format:
    """One foreign format."""

    name: str  # for people
    looks_like: Callable[[Path], bool]  # as `detect`, of paths that can be read
    # the whole of it; raises `FormatError` where the path is missing, something else or damaged, or
    # has no pose. Rows that are no pose are left out and named in `Registration.problems`
    read: Callable[[Path], Registration]
    # to a path that does not exist yet, where the format can be written; raises `FormatError` where
    # it has no place for a camera or name, or an image cannot be placed
    write: Callable[[PosedImages, Path], None] | None = None
    # whether it has no place for intrinsics and unit: its readers take any numbers for metres
    poses_only: bool = False
    lists: bool = False  # whether what is written says which images are train and test

    def detect(self, path: Path) -> bool:
        """Whether a path looks like it, from its names and first row; never raises."""
        try:
            return self.looks_like(path)
        except OSError:
            return False


# By the name that `--format` takes, the most telling detection first.
FORMATS: dict[str, Format] = {
    "colmap": Format(colmap.NAME, colmap.detect, colmap.read, colmap.write),
    "colmap-text": Format(colmap.TEXT_NAME, colmap.detect_text, colmap.read, colmap.write_text),
    "nerfstudio": Format(
        nerfstudio.NAME, nerfstudio.detect, nerfstudio.read, nerfstudio.write, lists=True
    ),
    "ace": Format(ace.NAME, ace.detect, ace.read),
    "scannet": Format(scannet.NAME, scannet.detect, scannet.read),
    "polycam": Format(polycam.NAME, polycam.detect, polycam.read),
    "record3d": Format(record3d.NAME, record3d.detect, record3d.read),
    "3d-scanner-app": Format(scanner_app.NAME, scanner_app.detect, scanner_app.read),
    "arkit-scenes": Format(arkit_scenes.NAME, arkit_scenes.detect, arkit_scenes.read),
    "7-scenes": Format(
        seven_scenes.NAME,
        seven_scenes.detect,
        seven_scenes.read,
        seven_scenes.write,
        poses_only=True,
        lists=True,
    ),
    "kapture": Format(kapture.NAME, kapture.detect, kapture.read, kapture.write),
    "opensfm": Format(opensfm.NAME, opensfm.detect, opensfm.read),
    "openmvg": Format(openmvg.NAME, openmvg.detect, openmvg.read),
    "alicevision": Format(alicevision.NAME, alicevision.detect, alicevision.read),
    "gaussian-splatting": Format(
        gaussian_splatting.NAME, gaussian_splatting.detect, gaussian_splatting.read
    ),
    "llff": Format(llff.NAME, llff.detect, llff.read),
    "mvsnet": Format(mvsnet.NAME, mvsnet.detect, mvsnet.read),
    "redwood": Format(redwood.NAME, redwood.detect, redwood.read),
    "nvm": Format(nvm.NAME, nvm.detect, nvm.read),
    "navvis": Format(navvis.NAME, navvis.detect, navvis.read),
    "cambridge": Format(
        cambridge.NAME,
        cambridge.detect,
        cambridge.read,
        cambridge.write,
        poses_only=True,
        lists=True,
    ),
    "euroc": Format(euroc.NAME, euroc.detect, euroc.read),
    "kitti": Format(kitti.NAME, kitti.detect, kitti.read),
    "matrix-rows": Format(matrix_rows.NAME, matrix_rows.detect, matrix_rows.read),
    "rtabmap": Format(rtabmap.NAME, rtabmap.detect, rtabmap.read),
    "tum": Format(tum.NAME, tum.detect, tum.read, tum.write, poses_only=True),
    "pose-list": Format(pose_list.NAME, pose_list.detect, pose_list.read),
    "reality-capture": Format(reality_capture.NAME, reality_capture.detect, reality_capture.read),
    "metashape": Format(metashape.NAME, metashape.detect, metashape.read),
    "blocks-exchange": Format(blocks_exchange.NAME, blocks_exchange.detect, blocks_exchange.read),
    "reality-capture-xmp": Format(
        reality_capture_xmp.NAME, reality_capture_xmp.detect, reality_capture_xmp.read
    ),
    "bundler": Format(bundler.NAME, bundler.detect, bundler.read),
    "plain-csv": Format(
        plain_csv.NAME, plain_csv.detect, plain_csv.read, plain_csv.write, lists=True
    ),
}
AUTO = "auto"
# What ZIP (.r3d of Record3D, too), gzip, bzip2, xz and 7z archives begin with.
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf")
_TABLES = {".txt", ".csv", ".tsv", ".dat", ""}


def read_registration(path: Path, format_name: str = AUTO) -> Registration:
    """Read poses from a file or folder of the format of that key in `FORMATS`, or ``auto`` to look.

    Raises:
        FormatError: it is missing, of no known format, or not what it claims to be.
    """
    if not path.exists():
        raise FormatError(f"{path} does not exist; give the file or folder that holds the poses")
    if not (path.is_file() or path.is_dir()):
        # A pipe ends only when its writer wants, and looking at it would take its bytes away.
        raise FormatError(f"{path} is a pipe or device; write the poses to a file and give that")
    if format_name != AUTO:
        if format_name not in FORMATS:
            raise FormatError(f"unknown format {format_name!r}; there are auto, {_known()}")
        return FORMATS[format_name].read(path)
    for candidate in FORMATS.values():
        if candidate.detect(path):
            return candidate.read(path)
    if not (any(path.iterdir()) if path.is_dir() else path.stat().st_size):
        raise FormatError(f"{path} is empty; give the file or folder that holds the poses")
    if path.is_file() and _begins(path).startswith(_ARCHIVES):
        raise FormatError(f"{path} is an archive; unpack it and give what is in it")
    what = "folder" if path.is_dir() else "file"
    row = next((line for line in first_lines(path) if line.strip(" #\r\n")), None)
    if row is not None and path.suffix.lower() in _TABLES:
        raise FormatError(
            f"{path} is a table of no known format, which begins with {shortened(row.strip())!r}; "
            "make it a plain CSV by a first line that names its columns, such as "
            "name,x,y,z,qw,qx,qy,qz or name,x,y,z,omega,phi,kappa (docs/reference/formats.md), or "
            "give --format NAME to be told what is wrong with it"
        )
    raise FormatError(
        f"{path} is a {what} of no known format; relocalize reads {_known()}; give "
        "--format NAME to be told what is wrong with it, or write its poses as a plain CSV "
        "(docs/reference/formats.md)"
    )


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError:
        return b""


def _known() -> str:
    return ", ".join(FORMATS)
