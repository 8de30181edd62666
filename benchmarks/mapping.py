"""What a map costs and how exact it is: ours beside COLMAP's own pipeline on the same images.

    python benchmarks/mapping.py DATA [--work FOLDER] [--no-alternative] [--sets redkitchen ...]

DATA holds `redkitchen/`, `lund_door/` and `fox/` (docs/contributing/index.md). Accuracy is measured
against the poses that come with each set, after a robust similarity from all common images. CPU
seconds are compared, not wall time: they hold on a shared machine. A keyframe's cost is everything
a map of the keyframes needs (features of the keyframes, choosing them, pairs, matching and
verification, reconstruction, bundle adjustment); the other frames are counted by themselves.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
import tyro
from rich.console import Console
from rich.table import Table

from relocalize import progress
from relocalize.capture.frames import capture_frames
from relocalize.formats.names import match_names
from relocalize.formats.registration import Registration
from relocalize.formats.registry import read_registration
from relocalize.geometry import Rigid3, align_camera_poses
from relocalize.mapping import MapReport, map_place, open_database
from relocalize.place import MapModel, Place


@dataclass(frozen=True)
class Scene:
    """A set of images and poses to compare with."""

    source: str
    truth: str | None
    metric: bool


SCENES = {
    "redkitchen": Scene("redkitchen/walkthrough.mp4", "redkitchen/poses_sfm.txt", metric=True),
    "lund_door": Scene("lund_door/images", "lund_door/colmap_text", metric=False),
    "fox": Scene("fox/images", None, metric=False),
}


@dataclass(frozen=True)
class Settings:
    """Measure mapping."""

    data: tyro.conf.Positional[Path]
    """Folder with the sets."""
    work: Path | None = None
    """Where the Places are made; a new temporary folder by default."""
    alternative: bool = True
    """Map the same keyframes with COLMAP's defaults too."""
    sets: tuple[str, ...] = tuple(SCENES)
    """Which sets."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    registered: str
    median: str
    cpu_keyframe: float
    cpu_other: float | None


def accuracy(poses: dict[str, Rigid3], truth: Registration | None, scene: Scene) -> str:
    """Median error of world_from_cam poses by image name."""
    if truth is None:
        return "no poses to compare"
    present_of = match_names(truth.poses, poses).present_of
    alignment = align_camera_poses(
        [poses[name] for name in present_of.values()],
        [truth.world_from_cam(name) for name in present_of],
    )
    position = float(np.median(alignment.position_residuals))
    angle = float(np.median(alignment.rotation_residuals_deg))
    length = f"{100 * position:.2f} cm" if scene.metric else f"{position:.4f} units"
    return f"{length}, {angle:.2f} deg ({len(present_of)} images)"


def keyframe_cost(report: MapReport) -> tuple[float, float | None]:
    """CPU seconds per keyframe, and per other frame."""
    others = report.images - report.keyframes
    share = report.keyframes / report.images
    shared = ("features", "bundle adjustment of all frames", "gravity, scale, colors")
    own = ("keyframes", "pairs", "matching and verification", "reconstruction")
    stages = report.stages
    both = sum(stages[name].cpu_s for name in shared)
    keyframes = sum(stages[name].cpu_s for name in own) + share * both
    rest = stages["registration of the other frames"].cpu_s + (1 - share) * both
    return keyframes / report.keyframes, rest / others if others else None


def ours(place: Place, scene: Scene, truth: Registration | None) -> Row:
    """`relocalize map` on a Place whose frames are there."""
    report = map_place(place)
    poses = {name: image.world_from_cam for name, image in place.map.images.items()}
    cpu_keyframe, cpu_other = keyframe_cost(report)
    for name, stage in report.stages.items():
        cost = f"{stage.cpu_s:8.1f} CPU s {1000 * stage.cpu_s_each:7.0f} ms each"
        print(f"  {name:34s} {stage.count:6d} {stage.unit:10s} {cost}")
    return Row(
        "relocalize map",
        f"{report.registered} of {report.images} ({report.keyframes} keyframes)",
        accuracy(poses, truth, scene),
        cpu_keyframe,
        cpu_other,
    )


def colmap_defaults(
    place: Place, names: Sequence[str], scene: Scene, truth: Registration | None, folder: Path
) -> Row:
    """COLMAP's extractor, sequential or exhaustive matcher and mapper, as they come."""
    database = folder / "database.db"
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = "SIMPLE_RADIAL"
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.use_gpu = False
    extraction.num_threads = 2
    matching = pycolmap.FeatureMatchingOptions()
    matching.use_gpu = False
    matching.num_threads = 2
    cpu = time.process_time()
    pycolmap.extract_features(
        str(database),
        str(place.images_dir),
        image_names=list(names),
        camera_mode=pycolmap.CameraMode.SINGLE,
        reader_options=reader,
        extraction_options=extraction,
    )
    if next(iter(place.captures.values())).kind == "video":
        pycolmap.match_sequential(str(database), matching_options=matching)
    else:
        pycolmap.match_exhaustive(str(database), matching_options=matching)
    models = folder / "models"
    models.mkdir()
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = 2
    found = pycolmap.incremental_mapping(str(database), str(place.images_dir), str(models), options)
    cpu = time.process_time() - cpu
    best = max(found.values(), key=lambda model: model.num_reg_images())
    poses = {i.name: i.world_from_cam for i in MapModel.from_colmap(best).images.values()}
    return Row(
        "COLMAP's defaults, same keyframes",
        f"{len(poses)} of {len(names)} (best of {len(found)} models)",
        accuracy(poses, truth, scene),
        cpu / len(names),
        None,
    )


def keyframes_of(place: Place) -> list[str]:
    """The frames that were matched with others."""
    with open_database(place) as database:
        return sorted({name for pair in database.verified_matches() for name in pair})


def main(settings: Settings) -> None:
    """Map every set and print one table each."""
    work = settings.work or Path(tempfile.mkdtemp(prefix="relocalize-benchmark-"))
    console = Console(width=140)
    for name in settings.sets:
        scene = SCENES[name]
        truth = read_registration(settings.data / scene.truth) if scene.truth else None
        root = work / name
        with progress.shown():
            capture_frames(settings.data / scene.source, root)
            place = Place.open(root)
            print(f"\n{name}")
            rows = [ours(place, scene, truth)]
            if settings.alternative:
                with tempfile.TemporaryDirectory() as folder:
                    names = keyframes_of(place)
                    rows.append(colmap_defaults(place, names, scene, truth, Path(folder)))
        table = Table(title=name)
        for heading in ("", "posed images", "median error"):
            table.add_column(heading, no_wrap=True)
        for heading in ("CPU s/keyframe", "CPU s/other", "ratio"):
            table.add_column(heading, justify="right")
        for row in rows:
            other = "" if row.cpu_other is None else f"{row.cpu_other:.3f}"
            ratio = f"{row.cpu_keyframe / rows[0].cpu_keyframe:.1f}"
            table.add_row(
                row.what, row.registered, row.median, f"{row.cpu_keyframe:.2f}", other, ratio
            )
        console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Settings))
