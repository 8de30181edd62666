"""7-Scenes folders: ``seq-XX/frame-XXXXXX.pose.txt`` beside ``frame-XXXXXX.color.png``.

A pose file is the camera-to-world matrix [4, 4] in metres, OpenCV axes. ``TrainSplit.txt`` and
``TestSplit.txt`` list sequences as ``sequence1``, which is the folder ``seq-01``; frames that the
tracker lost have matrices of zeros, NaN or infinity. The page of the data set, "RGB-D Dataset
7-Scenes" (Microsoft Research), says that neither camera was calibrated, and gives 585 px with
(320, 240) as the default that was used for the depth camera.

The color camera's focal length is 525 px here: kapture's importer of the data set takes it, and
the structure-from-motion ground truth of all seven scenes ("On the Limits of Pseudo Ground Truth
in Visual Camera Re-Localisation", Brachmann et al., ICCV 2021) finds 525.1 to 527.7 px.
"""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from relocalize import progress
from relocalize.errors import FormatError, ImageError
from relocalize.formats import ace
from relocalize.formats.images import natural_key
from relocalize.formats.matrix_files import LAYOUT, ending_of, read_matrix
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.posed_images import (
    CAMERAS_FILE,
    PosedImages,
    place_image,
    with_cameras,
    write_cameras,
)
from relocalize.formats.registration import Registration
from relocalize.formats.text import read_lines
from relocalize.geometry import Camera, Convention
from relocalize.place import atomic
from relocalize.place.folder import METRE
from relocalize.place.image_file import image_size, open_image, rgb

NAME = "7-Scenes folder"
CONVENTION = Convention("matrix", "world_from_cam", "RDF", "centre")
_SEQUENCE = re.compile(r"seq-(\d{1,6})")
_LISTED = re.compile(r"(?:sequence|seq-?)\s*0*(\d{1,6})", re.IGNORECASE)
_POSE_ENDING = ".pose.txt"
_COLOR_ENDINGS = (".color.png", ".color.jpg", ".color.jpeg")
_SPLITS = {"train": "TrainSplit.txt", "test": "TestSplit.txt"}
_COLOR_FOCAL_PX = 525.0
_SIZE = (640, 480)
_PNG_LEVEL = 1  # of 9: four times faster than the default for 4% more bytes
_MOST_SEQUENCES, _MOST_FRAMES = 99, 1_000_000  # what two and six digits count


def detect(path: Path) -> bool:
    """Whether ``path`` is a scene, one of its sequences, or one of its split lists."""
    if path.is_file():
        return path.name in _SPLITS.values() and detect(path.parent)
    return bool(_sequences(path))


def read(path: Path) -> Registration:
    """Read a scene with its split, or a single sequence."""
    root = path.parent if path.is_file() else path
    sequences = _sequences(root)
    if ace.detect(root):  # as the scripts of ACE and DSAC* lay it out
        return ace.read(root)
    if not sequences:
        raise FormatError(f"{path} is no {NAME}: it has no seq-01/frame-000000{_POSE_ENDING}")
    rows = PoseRows(root, NAME, CONVENTION, LAYOUT)
    of_sequence: dict[int, list[str]] = {}
    cameras = [_camera(sequence) for sequence in sequences]
    for sequence, camera in zip(sequences, cameras, strict=True):
        prefix = "" if sequence == root else f"{sequence.name}/"
        names = of_sequence.setdefault(_number(sequence), [])
        files = sorted(sequence.glob(f"frame-*{_POSE_ENDING}"))
        for file in progress.track(files, f"poses of {sequence.name}"):
            stem = file.name.removesuffix(_POSE_ENDING)
            name = prefix + stem + ending_of(sequence / stem, _COLOR_ENDINGS)
            with rows.row(prefix + file.name):
                rows.add_matrix(name, read_matrix(file), camera)
                names.append(name)
    remarks: list[str] = []
    known = (root / CAMERAS_FILE).is_file()
    if any(cameras) and not known:
        remarks.append(
            f"the data set has no calibration of its color camera: {_COLOR_FOCAL_PX:g} px with the "
            "principal point in the middle is taken; poses are of the depth camera, 2 to 4 cm aside"
        )
    if not all(cameras) and not known:
        remarks.append(f"images are not of {_SIZE[0]} x {_SIZE[1]} pixels: no focal is known")
    sides = {side: _listed(root / name, remarks) for side, name in _SPLITS.items()}
    missing = sorted({*sides["train"], *sides["test"]} - {*map(_number, sequences)})
    if missing and sequences != [root]:
        named = ", ".join(f"seq-{number:02d}" for number in missing)
        remarks.append(f"listed sequences that are not there: {named}")
    registration = rows.registration(
        unit=METRE,
        scale_from="the data set's depth camera",
        train=[name for number in sides["train"] for name in of_sequence.get(number, ())],
        test=[name for number in sides["test"] for name in of_sequence.get(number, ())],
        remarks=remarks,
    )
    return with_cameras(registration, root)


def _sequences(root: Path) -> list[Path]:
    """The folders of sequences that have pose files, by their number; or the folder itself."""
    try:
        if _has_poses(root):
            return [root]
        folders = [one for one in root.iterdir() if _SEQUENCE.fullmatch(one.name)]
        return sorted((one for one in folders if _has_poses(one)), key=_number)
    except OSError:
        return []


def _has_poses(folder: Path) -> bool:
    return folder.is_dir() and next(folder.glob(f"frame-*{_POSE_ENDING}"), None) is not None


def _number(sequence: Path) -> int:
    match = _SEQUENCE.fullmatch(sequence.name)
    return int(match.group(1)) if match else 0


def _camera(sequence: Path) -> Camera | None:
    """The color camera's default, unless the sequence's first image has another size."""
    for end in _COLOR_ENDINGS:
        image = next(iter(sorted(sequence.glob(f"frame-*{end}"))), None)
        try:
            if image is not None and image_size(image) != _SIZE:
                return None
        except ImageError:
            continue
    return Camera.from_focal(*_SIZE, _COLOR_FOCAL_PX, model="SIMPLE_PINHOLE")


def _listed(path: Path, remarks: list[str]) -> list[int]:
    """The numbers of a list's sequences; what is none of them becomes a remark."""
    if not path.is_file():
        return []
    numbers = []
    for line, text in enumerate(read_lines(path), start=1):
        row = text.strip()
        match = _LISTED.fullmatch(row)
        if match:
            numbers.append(int(match.group(1)))
        elif row and not row.startswith("#"):
            remarks.append(f"{path.name}, line {line}: {row[:40]!a} is no sequence")
    return list(dict.fromkeys(numbers))


def write(posed: PosedImages, out: Path) -> None:
    """Write a scene: a sequence for each capture, and for each side of the split in it.

    The format counts frames and says train or test of whole sequences, so frames are renumbered;
    ``names.txt`` has what each was called. Images become PNG, the one kind that the loaders of
    this format look for.
    """
    sequences: dict[tuple[str, str], list[str]] = {}
    side_of = dict.fromkeys(posed.train, "train") | dict.fromkeys(posed.test, "test")
    for name in sorted(posed.model.images, key=natural_key):
        key = name.rpartition("/")[0], side_of.get(name, "")
        sequences.setdefault(key, []).append(name)
    if len(sequences) > _MOST_SEQUENCES or max(map(len, sequences.values())) > _MOST_FRAMES:
        raise FormatError(f"{len(sequences)} sequences; the format counts {_MOST_SEQUENCES}")
    written: dict[str, str] = {}
    with atomic.new_folder(out) as folder:
        for number, names in enumerate(sequences.values(), start=1):
            sequence = folder / f"seq-{number:02d}"
            sequence.mkdir()
            for frame, name in enumerate(progress.track(names, f"frames of {sequence.name}")):
                stem = f"frame-{frame:06d}"
                matrix = posed.model.images[name].world_from_cam.matrix
                rows = ("\t".join(f"{x:.17g}" for x in row) + "\n" for row in matrix)
                (sequence / f"{stem}{_POSE_ENDING}").write_text("".join(rows))
                _place_png(posed.files[name], sequence / f"{stem}{_COLOR_ENDINGS[0]}")
                written[f"{sequence.name}/{stem}{_COLOR_ENDINGS[0]}"] = name
        for side, file in _SPLITS.items() if side_of else ():
            numbers = [n for n, (_, of) in enumerate(sequences, start=1) if of == side]
            (folder / file).write_text("".join(f"sequence{number}\n" for number in numbers))
        cameras = {file: posed.model.images[name].camera for file, name in written.items()}
        write_cameras(folder, cameras, posed.unit)
        lines = [f"{file} {name}\n" for file, name in written.items()]
        (folder / "names.txt").write_text("".join(lines), encoding="utf-8")


def _place_png(file: Path, target: Path) -> None:
    if file.suffix.lower() == ".png":
        place_image(file, target)
        return
    try:
        pixels = rgb(open_image(file))
    except ImageError as error:
        raise FormatError(str(error)) from error
    Image.fromarray(pixels).save(target, format="PNG", compress_level=_PNG_LEVEL)
