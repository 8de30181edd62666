"""A Place whose localizers are off by known amounts, evaluated, for tests of the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from relocalize.evaluation import evaluate, scoring
from relocalize.geometry import Camera, Rigid3
from relocalize.localization import PoseEstimate
from relocalize.place import MapModel, Place, Points, PosedImage, Split
from relocalize.verbs.import_poses import import_poses

COUNT = 20
REASON = "<b>4</b> matches & no more"
SIGMA = 0.02  # that `Offset` states of each axis, metres


def posed_walk() -> MapModel:
    """Cameras in a row that look at a wall of points 2 m away."""
    camera = Camera.from_focal(64, 48, 60.0, model="SIMPLE_PINHOLE")
    wall = np.array([[x, y, 2.0] for x in np.linspace(-1, 3, 15) for y in np.linspace(-1, 1, 7)])
    images = {}
    for index in range(COUNT):
        pose = Rigid3(np.eye(3), np.array([0.1 * index, 0.01 * index, 0.0]))
        pixels = camera.img_from_cam(pose.inverse() @ wall)
        seen = np.flatnonzero((pixels >= 0).all(axis=1) & (pixels < [64, 48]).all(axis=1))
        name = f"frame-{index:06d}.jpg"
        images[name] = PosedImage(
            name, camera, 1, pose.inverse(), pixels[seen].astype(np.float32), seen
        )
    counts = np.bincount(
        np.concatenate([i.point_rows for i in images.values()]), minlength=len(wall)
    )
    points = Points(
        np.arange(1, len(wall) + 1),
        wall,
        np.full((len(wall), 3), 120, np.uint8),
        np.full(len(wall), 0.3),
        counts,
    )
    return MapModel(images, points)


class Offset:
    """Off by 3 cm and 2 degrees, as it says; every third photo fails."""

    map_noise = None

    def __init__(self, place: Place) -> None:
        self.place = place

    def localize(self, image: np.ndarray, camera: Camera | None = None) -> PoseEstimate:
        index = round(float(image.mean()) / 10)
        if index % 3 == 0:
            return PoseEstimate("failed", "metre", 1.0, reason=REASON)
        true = self.place.map.images[f"walk/frame-{index:06d}.jpg"]
        turn = Rotation.from_rotvec([0, np.radians(2), 0]).as_matrix()
        pose = true.world_from_cam
        return PoseEstimate(
            "localized",
            self.place.unit,
            1.0,
            world_from_cam=Rigid3(pose.rotation @ turn, pose.translation + np.array([0.03, 0, 0])),
            covariance=np.diag([SIGMA] * 3 + [np.radians(2)] * 3) ** 2,
            inliers=77,
        )


class Never:
    """Localizes nothing."""

    map_noise = None

    def __init__(self, place: Place) -> None:
        self.place = place

    def localize(self, image: np.ndarray, camera: Camera | None = None) -> PoseEstimate:
        return PoseEstimate("failed", self.place.unit, 1.0, reason="black")


def evaluated_place(
    folder: Path,
    localizer: type[Offset] | type[Never] = Offset,
    *,
    unit: str | None = "metre",
    test: slice = slice(1, None, 2),
) -> Place:
    """The Place ``a & b`` with split ``odd``, whose localizers are all ``localizer``.

    The one called structure has learning curves, as if it had been trained.
    """
    model, images = folder / "model", folder / "images"
    model.mkdir(parents=True)
    images.mkdir()
    walk = posed_walk()
    walk.write(model)
    for index, name in enumerate(walk.images):
        Image.new("RGB", (64, 48), (10 * index,) * 3).save(images / name, quality=95)
    place = Place.create(folder / "a & b")
    import_poses(model, place, images, convention="stated", capture="walk", unit=unit)
    names = [f"walk/{name}" for name in walk.images]
    tested = names[test]
    train = tuple(name for name in names if name not in tested)
    place.write_split(Split("odd", "list", train, tuple(tested)))
    trained = place.localizer_dir("structure.odd")
    trained.mkdir(parents=True)
    rows = [
        {
            "epoch": epoch,
            "train_loss": 1.0 / epoch - 0.5,
            "validation_position": None if epoch == 2 else 0.1 / epoch,
            "validation_rotation_deg": 4.0 / epoch,
            "seconds": epoch * 2.0,
        }
        for epoch in (1, 2, 3, 4)
    ]
    (trained / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (trained / "localizer.json").write_text(
        json.dumps(
            {
                "settings": {"seed": 7, "nest": {"a": [1, 2]}},
                "validation": {"epoch": 3},
                "training": {"epochs": 4, "images": 8, "seconds": 90.0, "device": "cpu"},
            }
        )
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scoring, "fitted", lambda place, name, split=None: localizer(place))
        evaluate(place)
    return place


def results_of(place: Place) -> dict:
    return json.loads((place.report_dir("odd") / "results.json").read_text())


def write_results(place: Place, results: object) -> None:
    (place.report_dir("odd") / "results.json").write_text(json.dumps(results))
