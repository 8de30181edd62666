"""The same photos through every door: Python, the command line, an evaluation.

Run with a rendered corridor whose photos have a focal length in their EXIF, and a Place that was
mapped from its walk:

    relocalize-synthesize CORRIDOR --focal-in-exif
    relocalize build CORRIDOR/walk.mp4 PLACE --no-train
    python benchmarks/doors.py CORRIDOR PLACE

Two sets of photos: as they are (an approximate camera), and without their EXIF (an unknown one).
Each is localized one at a time and all together, by `Localizer.localize` and `localize_many`, by
`relocalize.localize`, by `relocalize localize` in a process of its own, and by `evaluate` on a copy
of the Place with the photos as the test side of a split. Every door has to give the same poses.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

import relocalize
from relocalize import Camera, Place, PoseEstimate, Rigid3, Similarity3, Split, fitted
from relocalize.errors import QueryError
from relocalize.formats import match_names, read_registration
from relocalize.geometry import align_camera_poses, position_error, rotation_error_deg

_WRONG = 0.5  # metres; a localized photo that is further off is a wrong answer
Poses = list[Rigid3 | None]


@dataclass(frozen=True)
class Doors:
    """Localize the same photos in every way there is."""

    corridor: tyro.conf.Positional[Path]
    """A rendered corridor, with the focal length in its photos' EXIF."""
    place: tyro.conf.Positional[Path]
    """A Place mapped from its walk; it stays as it is."""


def main(doors: Doors) -> None:
    place = Place.open(doors.place)
    metres_from_place = aligned(place, doors.corridor / "walk_poses.txt")
    truth = read_registration(doors.corridor / "visitor_poses.txt")
    true_of = {Path(name).stem: truth.world_from_cam(name) for name in truth.poses}
    given = sorted((doors.corridor / "visitor").iterdir())
    with tempfile.TemporaryDirectory() as folder:
        stripped = [without_exif(path, Path(folder) / path.name) for path in given]
        for what, photos in (("focal length in EXIF", given), ("camera unknown", stripped)):
            true = [true_of[path.stem] for path in photos]
            for together in (False, True):
                ways = localized(place, photos, together=together)
                first, *others = ways.values()
                print(f"{what}, {'all together' if together else 'one at a time'}:")
                print(f"    {summary(first, true, metres_from_place)}")
                for name, poses in zip(list(ways)[1:], others, strict=True):
                    print(f"    {name}: differs from {next(iter(ways))} by {apart(first, poses)}")
        guessed(place, stripped, metres_from_place, true_of)


def aligned(place: Place, truth: Path) -> Similarity3:
    """Moves the Place's frame onto the truth's, by the walk's camera poses."""
    registration = read_registration(truth)
    images = place.map.images
    present_of = match_names(registration.poses, images).present_of
    return align_camera_poses(
        [images[name].world_from_cam for name in present_of.values()],
        [registration.world_from_cam(listed) for listed in present_of],
    ).b_from_a


def without_exif(path: Path, out: Path) -> Path:
    """The same pixels, losslessly, without a word on the camera."""
    out = out.with_suffix(".png")
    with Image.open(path) as image:
        Image.fromarray(np.asarray(image)).save(out)
    return out


def localized(place: Place, photos: Sequence[Path], *, together: bool) -> dict[str, Poses]:
    """The poses of photos by each door."""
    localizer = fitted(place, "structure")
    if together:
        found = localizer.localize_many(photos)
    else:
        found = [localizer.localize(path) for path in photos]
    flags = [] if together else ["--one-by-one"]
    paths = [str(path) for path in (place.root, *photos)]
    command = [sys.executable, "-m", "relocalize", "localize", *paths, "--json"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=True)
    rows = [json.loads(line)["world_from_cam"] for line in done.stdout.splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "place"
        shutil.copytree(place.root, copy)
        evaluated = by_evaluation(Place.open(copy), photos, together=together)
    return {
        "Localizer": [one.world_from_cam for one in found],
        "relocalize.localize": [
            one.world_from_cam for one in relocalize.localize(place, photos, together=together)
        ],
        "relocalize localize": [None if row is None else Rigid3.from_matrix(row) for row in rows],
        "relocalize.evaluate": evaluated,
    }


def by_evaluation(place: Place, photos: Sequence[Path], *, together: bool) -> Poses:
    """What an evaluation gets, the photos being test images of a split of all the map's images."""
    capture = relocalize.frames(list(photos), place, capture="visitor").capture
    names = capture.image_names
    train = tuple(sorted(place.map.images))
    place.write_split(Split("doors", "list", train, tuple(names)))
    poses = place.root / "everything.txt"
    rows = [f"{name} {numbers(place.map.images[name].cam_from_world)}" for name in train]
    # The truth is not looked at here: any pose makes the photos count.
    rows += [f"{name} {numbers(place.map.images[train[0]].cam_from_world)}" for name in names]
    poses.write_text("\n".join(rows) + "\n", encoding="utf-8")
    found = relocalize.evaluate(place, split="doors", truth=poses, together=together)
    outcomes = zip(found.images, found.outcomes["structure"], strict=True)
    pose_of = {name: outcome.answer.estimate.world_from_cam for name, outcome in outcomes}
    # The Place's copies are named after the photos, in their order.
    return [pose_of[name] for name in names]


def numbers(cam_from_world: Rigid3) -> str:
    """As a pose list has them."""
    values = (*cam_from_world.quat_wxyz, *cam_from_world.translation)
    return " ".join(repr(float(value)) for value in values)


def apart(first: Poses, second: Poses) -> str:
    """The largest difference between the numbers of two ways' poses."""
    if [pose is None for pose in first] != [pose is None for pose in second]:
        return "which photos are localized"
    largest = max(
        float(np.abs(a.matrix - b.matrix).max())
        for a, b in zip(first, second, strict=True)
        if a is not None and b is not None
    )
    return f"{largest:.1e}"


def summary(poses: Poses, true: Sequence[Rigid3], metres_from_place: Similarity3) -> str:
    """Errors against the truth."""
    moved = [None if pose is None else metres_from_place.move_camera(pose) for pose in poses]
    pairs = [(pose, right) for pose, right in zip(moved, true, strict=True)]
    metres = [np.inf if pose is None else position_error(pose, right) for pose, right in pairs]
    degrees = [np.inf if p is None else rotation_error_deg(p, right) for p, right in pairs]
    failed = sum(pose is None for pose in poses)
    wrong = sum(_WRONG < error < np.inf for error in metres)
    return (
        f"{len(poses) - failed} of {len(poses)} localized, {wrong} wrong by more than {_WRONG} m, "
        f"median {100 * float(np.median(metres)):.2f} cm and {float(np.median(degrees)):.2f} deg"
    )


def guessed(
    place: Place,
    photos: Sequence[Path],
    metres_from_place: Similarity3,
    true_of: Mapping[str, Rigid3],
) -> None:
    """Pixels with a camera that is a guess, and with one of another size."""
    localizer = fitted(place, "structure")
    pixels = [relocalize.Query.of(path).pixels for path in photos]
    height, width = pixels[0].shape[:2]
    guess = Camera.from_focal(width, height)
    found: list[PoseEstimate] = [localizer.localize(one, guess) for one in pixels]
    plain: list[PoseEstimate] = [localizer.localize(one) for one in pixels]
    poses = [one.world_from_cam for one in found]
    true = [true_of[path.stem] for path in photos]
    print("pixels with Camera.from_focal(width, height), one at a time:")
    print(f"    {summary(poses, true, metres_from_place)}")
    print(f"    without a camera: differs by {apart(poses, [one.world_from_cam for one in plain])}")
    try:
        localizer.localize(pixels[0], Camera.from_focal(100, 100, 120.0))
    except QueryError as error:
        print(f"a camera of 100 x 100: {error}")


if __name__ == "__main__":
    main(tyro.cli(Doors))
