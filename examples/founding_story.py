"""The founding story, replayed to its right end, with the price of each of its mistakes.

Students filmed a corridor with one camera, trained a camera pose regressor on the frames, tested
it on a second data set that another camera and another tool had made, and were 12 m off. Here is
the same on a rendered corridor, whose truth is exact:

    python examples/founding_story.py demo/founding

The same command after an interruption goes on where it was. It ends with a table, which it also
writes to FOLDER/table.md, and two images.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: threads that wait cost time

import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from founding_exam import REGRESSOR, STRUCTURE, Exam, Poses, file_name
from founding_images import Seen, draw_corridor, draw_prices
from founding_mistakes import (
    Off,
    OtherTool,
    off,
    reality_capture_table,
    registered_by,
    shuffled_split,
    turned_away_deg,
)
from founding_prices import Beliefs, Price, TwoFrames, prices, said_by
from numpy.typing import NDArray

from relocalize import Camera, Place, Rigid3, Similarity3, Split, evaluation, fitted, progress
from relocalize.capture.frames import capture_frames
from relocalize.formats import read_registration
from relocalize.geometry import align_camera_poses
from relocalize.localization.regressor import RegressorLocalizer
from relocalize.localization.store import folder_of, is_current, store
from relocalize.mapping import MapSettings, MeasuredLength, map_place
from relocalize.mapping.aligning import align_place, read_reference
from relocalize.mapping.moving import move_place
from relocalize.mapping.register_photos import RegisterPhotosSettings, register_photos
from relocalize.place import atomic
from relocalize.place.folder import read_json
from relocalize.regression.presets import preset
from relocalize.regression.settings import AugmentSettings, TrainSettings
from relocalize.verbs.import_poses import import_poses
from relocalize_synthetic import CorridorSettings, write_corridor

WALK, VISITOR, SECOND = "walk", "visitor", "second"  # captures
SPLIT = "story"
STORY_M = 12.0  # how far off the students' regressor was
TIES = 1 / 3  # share of the second camera's photos that are registered into the map too
# Degrees between a photo's viewing direction and that of the nearest frame of the way there.
LOOKING = (
    ("where the walk looked on its way there", 0.0, 25.0),
    ("aside", 25.0, 90.0),
    ("back to where it came from", 90.0, 181.0),
)
SHUFFLED = 0.1  # share of frames drawn at random for validation
FRAMES_ALONE_EPOCHS = 100  # of a training without copies, which knows its frames by then


@dataclass(frozen=True)
class FoundingStory:
    """Replay the founding story, and print what each of its mistakes would have cost."""

    out: tyro.conf.Positional[Path]
    """Folder for all of it; the same again goes on where it was."""
    photos: int = 90
    """By the second camera; a third of them ties the two data sets to each other."""
    minutes: float | None = None
    """Bound on each of the two trainings; without it they run to their last epoch."""
    one_way: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Do not film the way back: what lies behind is never seen."""
    plain: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Train the preset default as it is, for as long as a room needs."""
    seed: int = 0
    """Of the corridor, the walk, the other tool's frame and mistakes, and the trainings."""
    images: Path | None = None
    """Where to write the two images; default: into the folder."""


def main(story: FoundingStory) -> None:
    """Step by step, then the table."""
    story.out.mkdir(parents=True, exist_ok=True)
    with progress.shown():
        with step("1. a corridor of two arms, filmed by one camera"):
            corridor = rendered(story)
        with step("2. its video becomes a map in metres"):
            first = mapped(story.out / "first", corridor)
        with step("3. photos of a second camera are registered into the map"):
            registered(first, corridor)
        with step("4. a second data set: another tool's table, its convention proven"):
            second = imported(story, corridor, first)
        with step("5. both data sets come into one frame"):
            frames = brought_together(story.out, first, second)
        with step("6. localizers learn from the first camera's frames"):
            split = split_of(first)
            localizers = trained(first, split, recipe(story)), fitted(first, STRUCTURE, split)
        with step("7. they are tested on the second camera's photos"):
            camera = first.map.images[split.train[0]].camera
            exam = Exam.of(second, set(corridor.ties), camera, localizers, story.out / "answers")
            there = split.train[: split.train.index(corridor.farthest(split.train)) + 1]
            walk = [first.map.images[name].world_from_cam for name in there]
            said = results(exam, truth_in_map(first, split, corridor), walk)
            progress.say("   " + "\n   ".join(said))
        with step("8. what the mistakes would have cost"):
            rows = prices(exam, frames, beliefs(story, first, split, exam), story.out)
        with step("9. images"):
            draw(story, corridor, first, split, exam, frames, rows)
    (story.out / "table.md").write_text(as_markdown(rows), encoding="utf-8")
    print("\n".join([*said, "", *as_text(rows)]))


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what comes, and then what it cost."""
    progress.say(title)
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    yield
    wall, cpu = time.perf_counter() - wall, sum(os.times()[:4]) - cpu
    progress.say(f"   {wall:.0f} s, {cpu:.0f} CPU s")


# -- the corridor and its map ------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Corridor:
    """The rendered corridor with its exact truth.

    Attributes:
        folder: of `relocalize-synthesize`.
        walk: true poses of the video's frames, by file name.
        visitor: of the second camera's photos.
        visitor_camera: which that was.
        outline: [6, 2] corners of the walls from above, metres.
    """

    folder: Path
    walk: Poses
    visitor: Poses
    visitor_camera: Camera
    outline: NDArray[np.float64]

    def farthest(self, frames: Sequence[str]) -> str:
        """Of these frames of the walk, the one at the far end, where it may turn round."""
        return max(frames, key=lambda name: float(self.walk[file_name(name)].translation[1]))

    @property
    def ties(self) -> list[str]:
        """File names of the photos that both data sets shall have, drawn at random."""
        names = sorted(self.visitor)
        rng = np.random.default_rng(len(names))
        rows = rng.choice(len(names), round(TIES * len(names)), replace=False)
        return [names[row] for row in sorted(rows.tolist())]


def rendered(story: FoundingStory) -> Corridor:
    """The corridor of the demo: `relocalize-synthesize FOLDER/corridor --photos 90`."""
    folder = story.out / "corridor"
    settings = CorridorSettings(seed=story.seed)
    back = 0.0 if story.one_way else settings.first_arm + settings.second_arm
    settings = replace(
        settings,
        walk=replace(settings.walk, return_m=back),
        visitor=replace(settings.visitor, count=story.photos),
    )
    if not (folder / "truth.json").is_file():
        write_corridor(folder, settings=settings)
    long, wide = settings.first_arm, settings.width
    far, inner = wide + settings.second_arm, long - wide
    return Corridor(
        folder,
        true_poses(folder / "walk_poses.txt"),
        true_poses(folder / "visitor_poses.txt"),
        settings.visitor.camera,
        np.array([[0, 0], [long, 0], [long, far], [inner, far], [inner, wide], [0.0, wide]]),
    )


def true_poses(path: Path) -> Poses:
    """Of a pose list."""
    registration = read_registration(path)
    return {name: registration.world_from_cam(name) for name in registration.poses}


def mapped(folder: Path, corridor: Corridor) -> Place:
    """`relocalize frames` and `relocalize map --scale`: metres by two measured lengths."""
    names = capture_frames(corridor.folder / "walk.mp4", folder, name=WALK).image_names
    centres = {name: corridor.walk[file_name(name)].translation for name in names}
    place = Place.open(folder)
    if not place.has_map:
        # What somebody with a tape measures: from where the walk began to the corner, and on.
        corner = max(names, key=lambda name: float(centres[name] @ [1, -1, 0]))
        lengths = [
            MeasuredLength(
                one, other, round(float(np.linalg.norm(centres[one] - centres[other])), 2)
            )
            for one, other in ((names[0], corner), (corner, corridor.farthest(names)))
        ]
        map_place(place, MapSettings(lengths=tuple(lengths)))
    posed = sum(name in place.map.images for name in names)
    progress.say(f"   {posed} of {len(names)} frames have a pose (unit: {place.unit})")
    return place


# -- the second camera, and the second data set ------------------------------------------------


def registered(place: Place, corridor: Corridor) -> None:
    """`relocalize register` of a third of the photos, whose camera it does not know."""
    photos = [corridor.folder / "visitor" / name for name in corridor.ties]
    register_photos(place, photos, RegisterPhotosSettings(capture=VISITOR))
    images, posed = place.capture(VISITOR).image_names, place.map.images
    cameras = [posed[name].camera for name in images if name in posed]
    progress.say(
        f"   {len(cameras)} of {len(images)} photos have a pose; focal length "
        f"{cameras[0].focal_px:.1f} pixels (truth: {corridor.visitor_camera.focal_px:.1f})"
    )


def imported(story: FoundingStory, corridor: Corridor, first: Place) -> Place:
    """`relocalize import second.csv second --images corridor/visitor`: all photos."""
    table = story.out / "second.csv"
    posed = {file_name(name) for name in first.map.images}
    shared = [name for name in corridor.ties if name in posed]
    poses = registered_by(OtherTool(seed=story.seed), corridor.visitor, shared)
    table.write_text(reality_capture_table(poses, corridor.visitor_camera), encoding="utf-8")
    place = Place.open_or_create(story.out / "second")
    if not place.has_map:
        photos = corridor.folder / "visitor"
        report = import_poses(table, place, photos, capture=SECOND)
        said = f"convention: {report.convention} by {report.convention_from}"
        atomic.write_json(story.out / "proof.json", {"said": said})
    progress.say(f"   {read_json(story.out / 'proof.json')['said']}")
    return place


def brought_together(out: Path, first: Place, second: Place) -> TwoFrames:
    """`relocalize align second first --apply`; and what it says when it is to keep the scale."""
    if not second.moves:
        reference = read_reference(first.root)
        found = align_place(second, reference)
        rigid = said_by(lambda: align_place(second, reference, rigid=True))
        atomic.write_json(out / "alignment.json", found.to_json() | {"rigid": rigid})
        move_place(second, found.reference_from_place, onto=found.onto, frame=found.frame)
    facts = read_json(out / "alignment.json")
    wrong = tuple(map(file_name, facts["outliers"]))
    progress.say(
        f"   scale {facts['scale']:.4f}; {facts['inliers']} of {facts['n']} photos agree, median "
        f"{100 * facts['residual_median']:.1f} cm and {facts['residual_median_deg']:.2f} deg; "
        f"not: {', '.join(wrong) or 'none'}"
    )
    turn = Rigid3.from_quat_wxyz(facts["quat_wxyz"], facts["translation"])
    table = read_registration(out / "second.csv")
    posed = first.map.images
    images = [name for name in first.capture(VISITOR).image_names if name in posed]
    return TwoFrames(
        Similarity3(facts["scale"], turn.rotation, turn.translation),
        {name: table.world_from_cam(name) for name in table.poses},
        {file_name(name): posed[name].world_from_cam for name in images},
        wrong,
        str(facts["rigid"]).replace(f"{out}{os.sep}", ""),
        str(read_json(out / "proof.json")["said"]),
    )


# -- learning and testing ----------------------------------------------------------------------


def split_of(place: Place) -> Split:
    """All frames of the first camera train; what the second camera has in the map is test."""
    posed = place.map.images
    train, test = (
        tuple(name for name in place.capture(capture).image_names if name in posed)
        for capture in (WALK, VISITOR)
    )
    split = Split(SPLIT, "captures", train, test)
    if SPLIT not in place.split_names:
        place.write_split(split)
    return split


def trained(place: Place, split: Split, settings: TrainSettings) -> RegressorLocalizer:
    """`relocalize train`."""
    folder = folder_of(place, REGRESSOR, split)
    current = is_current(place, folder, split)
    if not current or RegressorLocalizer.load(folder).facts.settings != settings:
        store(place, folder, split, lambda: RegressorLocalizer.fit(place, split, settings=settings))
    regressor = RegressorLocalizer.load(folder)
    progress.say(f"   {split.name}: {told_of(regressor)}")
    return regressor


def recipe(story: FoundingStory) -> TrainSettings:
    """The preset ``default``, longer, with copies that stand where a visitor may.

    There and back are 52 m, seen both ways: a wider head, and steps for it. Photos are taken half a
    metre beside the line that was walked. Who walks one way has not seen what a visitor sees who
    turns round, and prepares for those who look aside.
    """
    default = replace(preset("default"), minutes=story.minutes, seed=story.seed)
    if story.plain:
        return default
    beside = replace(default.augment, shift=0.08)
    if story.one_way:
        wide = replace(beside, turn_deg=30.0, tilt_deg=10.0)
        longer = replace(default.optimizer, steps=3000)
        return replace(default, augment=wide, copies=14, optimizer=longer)
    return replace(
        default,
        augment=beside,
        head=replace(default.head, width=256, drawn_cells=32),
        optimizer=replace(default.optimizer, steps=9000),
    )


def told_of(regressor: RegressorLocalizer) -> str:
    """What `relocalize train` says at its end."""
    validation, training = regressor.facts.validation, regressor.facts.training
    return (
        f"{training['images']} train images, {training['epochs']} epochs; validation "
        f"({validation['images']} images in blocks of time, not trained on): median "
        f"{validation['position']:.3f} {validation['unit']}, {validation['rotation_deg']:.2f} deg"
    )


def truth_in_map(place: Place, split: Split, corridor: Corridor) -> Poses:
    """The photos' exact poses in the map's frame, which the walk's frames alone tie to it."""
    in_map = [place.map.images[name].world_from_cam for name in split.train]
    in_truth = [corridor.walk[file_name(name)] for name in split.train]
    map_from_truth = align_camera_poses(in_truth, in_map).b_from_a
    return {name: map_from_truth.move_camera(pose) for name, pose in corridor.visitor.items()}


def results(exam: Exam, exact: Mapping[str, Rigid3], walk: Sequence[Rigid3]) -> list[str]:
    """How far off the two localizers are, in lines; also by where the photos look."""
    lines = [
        f"{len(exam.photos)} photos of the second camera, in the aligned second data set; in the "
        f"story the median was {STORY_M:.0f} m"
    ]
    for name, answers in (
        ("regressor", exam.regressed()),
        ("the same, made to answer", exam.regressed_anyway()),
        ("structure localizer", exam.structured()),
    ):
        found, truly = off(answers, exam.truth), off(answers, exact)
        lines.append(
            f"{name}: median {cell(found)} ({found.refused} refused; "
            f"against the exact truth {cell(truly)})"
        )
    away = {name: turned_away_deg(pose, walk) for name, pose in exam.truth.items()}
    for what, least, most in LOOKING:
        truth = {name: pose for name, pose in exam.truth.items() if least <= away[name] < most}
        if truth:
            regressor, structure = exam.errors(truth)
            lines.append(
                f"the {len(truth)} that look {what}: regressor {cell(regressor)}, structure "
                f"localizer {cell(structure)} ({structure.refused} refused)"
            )
    return lines


def beliefs(story: FoundingStory, place: Place, split: Split, exam: Exam) -> Beliefs:
    """Train as the students did: on the frames alone, every tenth of them drawn for validation."""
    shuffled = shuffled_split(split.train, SHUFFLED, seed=story.seed)
    if shuffled.name not in place.split_names:
        place.write_split(shuffled)
    default = recipe(story)
    alone = replace(
        default,
        augment=AugmentSettings(),
        copies=0,
        optimizer=replace(default.optimizer, epochs=FRAMES_ALONE_EPOCHS),
    )
    fooled = trained(place, shuffled, alone)
    found = evaluation.current_results(place, shuffled, (REGRESSOR,), None)
    if found is None:
        done = evaluation.evaluate(place, split=shuffled.name, localizers=(REGRESSOR,))
        found = done.to_json()
    claimed, near = found["localizers"][REGRESSOR], found["nearest_train_view"]
    posed = place.map.images
    frames = [posed[name] for name in split.train[::5]]
    answers = {
        frame.name: exam.regressor.localize(
            place.read_image(frame.name), frame.camera
        ).world_from_cam
        for frame in frames
    }
    return Beliefs(
        shuffled=Off(
            claimed["median_position"],
            claimed["median_rotation_deg"],
            claimed["n"],
            claimed["failed"],
        ),
        truly=off(replace(exam, regressor=fooled).regressed_anyway("by_shuffled"), exam.truth),
        trained_on=off(answers, {frame.name: frame.world_from_cam for frame in frames}),
        leakage=f"Nearest train view of a test image: {100 * near['median_distance']:.1f} cm and "
        f"{near['median_angle_deg']:.1f} deg away (median)",
        blocks=told_of(exam.regressor),
    )


# -- what is shown -----------------------------------------------------------------------------


def draw(
    story: FoundingStory,
    corridor: Corridor,
    place: Place,
    split: Split,
    exam: Exam,
    frames: TwoFrames,
    rows: Sequence[Price],
) -> None:
    """Both images; the corridor in its own frame, where its walls are straight."""
    walk = {file_name(name): place.map.images[name].world_from_cam for name in split.train}
    moved = align_camera_poses(list(walk.values()), [corridor.walk[name] for name in walk]).b_from_a

    def above(poses: Mapping[str, Rigid3 | None]) -> dict[str, NDArray[np.float64]]:
        return {
            name: (moved @ pose.translation)[:2] for name, pose in poses.items() if pose is not None
        }

    folder = story.images or story.out
    folder.mkdir(parents=True, exist_ok=True)
    seen = Seen(
        corridor.outline,
        walk=np.array(list(above(walk).values())),
        before=np.array([pose.translation[:2] for pose in frames.second.values()]),
        truth=above(exam.truth),
        regressed=above(exam.regressed()),
        structured=above(exam.structured()),
    )
    draw_corridor(seen, folder / "founding_corridor.png")
    draw_prices(rows, STORY_M, folder / "founding_mistakes.svg")


def cell(found: Off) -> str:
    """A median error, short."""
    if not np.isfinite(found.position):
        return "no answer"
    metres = found.position
    length = f"{metres:.2f} m" if metres >= 0.3 else f"{100 * metres:.1f} cm"
    return f"{length}, {found.rotation_deg:.1f}°"


def cells(row: Price) -> tuple[str, str]:
    """Of a row: regressor and structure localizer."""
    claims = "claims " if row.believed else ""
    return claims + cell(row.regressor), "–" if row.structure is None else cell(row.structure)


def as_markdown(rows: Sequence[Price]) -> str:
    """Two tables for the docs: the numbers, and what relocalize says."""
    lines = ["| mistake | regressor | structure localizer |", "|---|---|---|"]
    lines += [f"| {row.mistake} | {' | '.join(cells(row))} |" for row in rows]
    lines += ["", "| tried with relocalize | it says |", "|---|---|"]
    lines += [f"| {row.mistake} | {row.said} |" for row in rows]
    return "\n".join(lines) + "\n"


def as_text(rows: Sequence[Price]) -> list[str]:
    """The table for the terminal."""
    lines = [f"{'what one mistake makes of it':40}{'regressor':>24}{'structure':>20}"]
    for row in rows:
        regressor, structure = cells(row)
        lines.append(f"{row.mistake:40}{regressor:>24}{structure:>20}")
        lines += textwrap.wrap(row.said, 96, initial_indent="    ", subsequent_indent="    ")
    return lines


if __name__ == "__main__":
    main(tyro.cli(FoundingStory))
