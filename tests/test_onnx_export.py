"""Networks as ONNX: onnxruntime says what torch says, in the world's units, or none is written."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from relocalize.errors import LocalizerError  # noqa: E402
from relocalize.regression import onnx_export  # noqa: E402
from relocalize.regression.backbones import BACKBONES, make_backbone  # noqa: E402
from relocalize.regression.heads import resized  # noqa: E402
from relocalize.regression.losses import PoseTarget, make_loss  # noqa: E402
from relocalize.regression.model import PoseRegressor, make_regressor  # noqa: E402
from relocalize.regression.onnx_export import WorldPose, export_onnx  # noqa: E402
from relocalize.regression.presets import PRESETS  # noqa: E402
from relocalize.regression.settings import LossSettings  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def regressor_of(preset: str, height: int, width: int) -> PoseRegressor:
    """The preset's network at another size, with statistics of a place of some tens of metres."""
    settings = PRESETS[preset]
    settings = replace(settings, input=replace(settings.input, height=height, width=width))
    regressor = make_regressor(settings).eval()
    positions = torch.randn(50, 3) * 20 + torch.tensor([100.0, -50.0, 3.0])
    regressor.set_statistics(positions, torch.eye(3).expand(50, 3, 3))
    # Batch norms as after training: without, features grow beyond what a trained network has.
    norms = [part for part in regressor.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for part in norms:
        part.training, part.momentum = True, 1.0
    with torch.no_grad():
        regressor(torch.randn(4, 3, height, width))
    for part in norms:
        part.training = False
    return regressor


def teach(regressor: PoseRegressor, pixels: torch.Tensor) -> None:
    """Poses for images: what cells say at random makes no pose that two programs agree on."""
    rows, columns = regressor.head.cells
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    rays = (torch.stack((x, y), -1).flatten(0, 1) + 0.5) / columns - 0.5
    depth = 2 + torch.rand(len(pixels), rows * columns)
    in_camera = torch.cat((rays, torch.ones(len(rays), 1)), 1) * depth[..., None]
    position = torch.randn(len(pixels), 3)
    rotation = torch.linalg.qr(torch.randn(len(pixels), 3, 3)).Q
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]
    scene = in_camera @ rotation.transpose(1, 2) + position[:, None]
    regressor.head.look_at(rays, scene.flatten(0, 1), 2.5)
    with torch.no_grad():
        features = regressor.features(regressor.normalise(pixels))
    loss = make_loss(LossSettings(kind="coordinates", pretrain=1.0), "6d")
    depths = torch.stack((depth, torch.ones_like(depth)), 1)
    target = PoseTarget(position, rotation, depths=depths)
    optimizer = torch.optim.AdamW(regressor.head.parameters(), lr=2e-3)
    regressor.head.train()
    for norm in regressor.head.norms.values():
        norm.eval()
    for _ in range(150):
        optimizer.zero_grad()
        loss(regressor.from_features(features), target).backward()
        torch.nn.utils.clip_grad_norm_(regressor.head.parameters(), 1.0)
        optimizer.step()
    regressor.eval()


QUICK = {"efficientnet_lite0", "googlenet_caffe", "default"}


def quick_and_slow(names: Iterable[str]) -> list[Any]:
    """Those that show most, and the rest for when there is time."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", quick_and_slow(BACKBONES))
def test_every_backbone_exports(name: str, tmp_path: Path) -> None:
    class Features(torch.nn.Module):
        """All feature maps as a tuple."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = make_backbone(name)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            """In the order of the stages."""
            return tuple(self.backbone(images).values())

    module = Features()
    stages = list(module.backbone.stages)
    report = export_onnx(module, torch.randn(1, 3, 70, 97), tmp_path / "net.onnx", outputs=stages)
    assert list(report.outputs) == stages
    assert report.difference <= 1e-4
    assert module.training


@pytest.mark.parametrize("preset", quick_and_slow(PRESETS))
def test_every_preset_gives_the_same_world_poses(preset: str, tmp_path: Path) -> None:
    usual = PRESETS[preset].input
    width = 96 if usual.width == usual.height else 128
    regressor = regressor_of(preset, 96, width)
    path = tmp_path / "pose.onnx"
    pixels = torch.randint(0, 256, (2, 96, width, 3), dtype=torch.uint8)
    if regressor.head.cells is not None:
        teach(regressor, pixels)
    images = pixels.movedim(-1, 1).float()
    report = export_onnx(WorldPose(regressor), images, path, {"unit": "m", "size": [width, 96]})
    assert report.inputs == {"images": (1, 3, 96, width)}
    assert report.outputs["position"] == (1, 3)
    assert report.outputs["rotation"] == (1, 3, 3)
    assert report.megabytes == path.stat().st_size / 1e6
    with torch.no_grad():
        positions, rotations = regressor.poses(regressor(regressor.normalise(pixels[1:])))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(["position", "rotation"], {"images": images[1:].numpy()})
    assert np.abs(found[0] - positions.numpy()).max() < 1e-4 * 150
    assert np.abs(found[1] - rotations.numpy()).max() < 1e-4
    model = onnx.load(path)
    assert {item.key: json.loads(item.value) for item in model.metadata_props} == {
        "unit": "m",
        "size": [width, 96],
    }
    assert [item.version for item in model.opset_import] == [onnx_export.OPSET]


def test_a_kill_while_a_network_is_compiled_leaves_nothing_outside_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda *args: made.append(real(*args)) or made[-1])
    regressor = regressor_of("default", 64, 64)
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    teach(regressor, pixels)
    onnx_export.compiled(regressor, pixels.numpy(), tmp_path)
    assert made
    assert all(Path(folder).parent == tmp_path for folder in made)


def test_a_size_that_the_grid_does_not_divide_exports(tmp_path: Path) -> None:
    regressor = regressor_of("default", 120, 200)
    pixels = torch.randint(0, 256, (1, 120, 200, 3), dtype=torch.uint8)
    teach(regressor, pixels)
    images = pixels.movedim(-1, 1).float()
    assert export_onnx(WorldPose(regressor), images, tmp_path / "pose.onnx").difference <= 1e-4
    maps = torch.randn(2, 5, 15, 25)
    pooled = torch.nn.functional.adaptive_avg_pool2d(maps, (6, 8))
    assert torch.allclose(resized(maps, (6, 8)), pooled, atol=1e-6)


def test_a_network_that_onnxruntime_sees_otherwise_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(torch.nn.Module):
        """Says something else when it is traced."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """The mean, or nearly."""
            return images.mean() + (0.01 if torch.jit.is_tracing() else 0.0)

    path = tmp_path / "net.onnx"
    path.write_bytes(b"what was there")
    with pytest.raises(LocalizerError, match=r"differ by 0\.01 in mean, more than 0\.0001"):
        export_onnx(Other(), torch.zeros(1, 3, 8, 8), path, outputs=["mean"])
    with pytest.raises(LocalizerError, match="gives 1 outputs, and there are names for 0"):
        export_onnx(Other(), torch.zeros(1, 3, 8, 8), path, outputs=[])
    assert path.read_bytes() == b"what was there"
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(LocalizerError, match=r"needs onnx, .*relocalize\[export\]"):
        export_onnx(Other(), torch.zeros(1, 3, 8, 8), path, outputs=["mean"])


def test_a_network_beyond_onnx_is_one_line(tmp_path: Path) -> None:
    class Sorted(torch.nn.Module):
        """Uses what ONNX has no operator for."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """Singular values."""
            return torch.linalg.svdvals(images)

    with pytest.raises(LocalizerError, match="cannot be exported to ONNX") as caught:
        export_onnx(Sorted(), torch.rand(1, 3, 8, 8), tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)
