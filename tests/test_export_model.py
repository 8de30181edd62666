"""The command export-model: a trained regressor as a file that gives the same poses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from relocalize.cli.export_model import ExportModel, input_camera  # noqa: E402
from relocalize.errors import LocalizerError  # noqa: E402
from relocalize.geometry import (  # noqa: E402
    Camera,
    Rigid3,
    position_error,
    rotation_error_deg,
)
from relocalize.localization import fitted  # noqa: E402
from relocalize.localization.regressor import RegressorLocalizer  # noqa: E402
from relocalize.localization.store import folder_and_kind, folder_of, store  # noqa: E402
from relocalize.place import Place  # noqa: E402
from relocalize.regression.image_input import ImageInput  # noqa: E402
from relocalize.regression.presets import preset  # noqa: E402
from relocalize.regression.settings import InputSettings, with_fields  # noqa: E402
from rendered_walk import CAMERA, SPLIT, copy_of_walk  # noqa: E402

# Little training: what is exported is what counts here.
SETTINGS = with_fields(
    preset("default"),
    {
        "input.width": 128,
        "input.height": 96,
        "copies": 1,
        "answer": "pose",
        "backbone.stages": ("group3", "group5"),
        "backbone.channels": 16,
        "head.width": 32,
        "head.grid": (6, 8),
        "head.blocks": 1,
        "optimizer.batch_size": 30,
        "optimizer.epochs": 60,
        "precision": "float32",
        "device": "cpu",
    },
)


@pytest.fixture(scope="module")
def place(made_once, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A walk on which a regressor is trained, and a constant beside it."""
    made = copy_of_walk(made_once, tmp_path_factory.mktemp("walk"))
    split = made.split(SPLIT)
    store(
        made,
        folder_of(made, "regressor", split),
        split,
        lambda: RegressorLocalizer.fit(made, split, settings=SETTINGS),
    )
    fitted(made, "constant", split)
    return made


@pytest.mark.slow  # for the training
def test_the_file_gives_the_poses_that_localize_gives(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pose.onnx"
    assert ExportModel(place.root, path, json=True).run() == 0
    report = json.loads(capsys.readouterr().out)
    assert report["file"] == str(path)
    assert report["inputs"] == {"images": [1, 3, 96, 128]}
    assert report["outputs"]["position"] == [1, 3]
    assert 0 <= report["difference"] <= 1e-4

    facts = {item.key: json.loads(item.value) for item in onnx.load(path).metadata_props}
    assert (facts["unit"], facts["place"], facts["name"]) == (
        place.unit,
        place.name,
        f"regressor.{SPLIT}",
    )
    camera = Camera(**facts["camera"])
    assert (camera.width, camera.height) == (128, 96)

    localizer = fitted(place, "regressor", place.split(SPLIT))
    # Without what makes one pose of the cells, which the file keeps to itself.
    localizer.calibration = replace(localizer.calibration, agreement=None)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = ["position", "rotation", "log_variance"]
    assert len(facts["turns"]) == 5
    compared = 0
    for name in place.split(SPLIT).test:
        pixels = place.read_image(name)
        expected = localizer.localize(pixels, CAMERA)
        if expected.world_from_cam is None:
            continue
        # As the page says that one averages: positions and rotations by their own variances.
        images = localizer.images.of_photo(pixels, CAMERA).transpose(0, 3, 1, 2)
        position, rotation, log_variance = (
            np.concatenate(parts)
            for parts in zip(
                *(session.run(outputs, {"images": one[None].astype(np.float32)}) for one in images),
                strict=True,
            )
        )
        sure = 1 / np.exp(log_variance).reshape(-1, 2, 3).mean(2)
        turned = Rotation.from_matrix(rotation @ np.array(facts["turns"]))
        pose = np.eye(4)
        pose[:3, :3] = turned.mean(weights=sure[:, 1]).as_matrix()
        pose[:3, 3] = np.average(position, axis=0, weights=sure[:, 0])
        found = Rigid3.from_matrix(pose)
        assert position_error(found, expected.world_from_cam) < 1e-4 * 3
        assert rotation_error_deg(found, expected.world_from_cam) < 0.01
        compared += 1
    assert compared >= 6


@pytest.mark.slow  # for the training
def test_people_are_told_what_the_file_takes_and_gives(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pose.onnx"
    assert ExportModel(place.root, path, localizer=f"regressor.{SPLIT}").run() == 0
    text = capsys.readouterr().out
    assert "takes images [1, 3, 96, 128]: RGB in 0..255" in text
    assert "gives position [1, 3], rotation [1, 3, 3]" in text
    assert "relocalize answers by 5" in text
    assert path.is_file()


@pytest.mark.slow  # for the training
def test_what_is_not_trained_is_told(place: Place, tmp_path: Path) -> None:
    for name, said in (("constant", "no trained regressor"), ("mine", "no localizer")):
        with pytest.raises(LocalizerError, match=rf"{said} '{name}'.* relocalize train"):
            ExportModel(place.root, tmp_path / "pose.onnx", localizer=name).run()
    assert list(tmp_path.iterdir()) == []
    assert folder_and_kind(place, "regressor")[0].name == f"regressor.{SPLIT}"


def test_crops_are_taken_by_the_camera_of_the_middle_one() -> None:
    target = Camera("PINHOLE", 341, 256, (300.0, 300.0, 170.5, 128.0))
    settings = InputSettings(224, 224, geometry="posenet")
    localizer = SimpleNamespace(images=ImageInput(settings, target))
    camera = input_camera(localizer)
    assert (camera.width, camera.height) == (224, 224)
    assert camera.params[:2] == (300.0, 300.0)
    assert abs(camera.params[2] - 112) <= 0.5 and abs(camera.params[3] - 112) <= 0.5
