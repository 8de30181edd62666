"""Features of a frozen backbone: what is kept is what it makes, of copies whose poses are known."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from place_with_images import make_imaged_place

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # after the skip

from relocalize.errors import LocalizerError  # noqa: E402
from relocalize.regression.backbones import Backbone, Stage  # noqa: E402
from relocalize.regression.data import TrainingData  # noqa: E402
from relocalize.regression.device import Device  # noqa: E402
from relocalize.regression.feature_cache import FeatureCache, _Extractor  # noqa: E402
from relocalize.regression.frames import TrainingFrames, cache_folder  # noqa: E402
from relocalize.regression.image_input import ImageInput  # noqa: E402
from relocalize.regression.settings import (  # noqa: E402
    AugmentSettings,
    HeadSettings,
    InputSettings,
    TrainSettings,
    with_fields,
)

INPUT = InputSettings(width=96, height=72)
CPU = Device(torch.device("cpu"), None, channels_last=False)
TURNING = AugmentSettings(roll_deg=10.0, turn_deg=12.0, zoom=1.2, jitter=0.3)
STAGES = ("shallow", "deep")
SETTINGS = TrainSettings(
    input=INPUT, augment=TURNING, head=HeadSettings("posenet"), copies=3, seed=5
)


class TinyBackbone(Backbone):
    """Two convolutions, for tests."""

    def __init__(self, seed=0):
        stages = {"shallow": Stage(8, 4), "deep": Stage(16, 8)}
        super().__init__("tiny", (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), stages)
        torch.manual_seed(seed)
        self.first = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())

    def _walk(self, images):
        shallow = self.first(images)
        yield "shallow", shallow
        yield "deep", self.second(shallow)


class Seen:
    """How many images backbones were shown.

    Attributes:
        images: since it was last set.
    """

    images = 0


@pytest.fixture(autouse=True)
def _counted(monkeypatch):
    maps = _Extractor.maps

    def counting(self, pixels):
        Seen.images += len(pixels)
        return maps(self, pixels)

    monkeypatch.setattr(_Extractor, "maps", counting)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    torch.set_num_threads(1)
    return data_of(make_imaged_place(tmp_path_factory.mktemp("features") / "place"))


def data_of(place):
    """All train frames of a place, to train on."""
    frames = TrainingFrames.prepare(place, place.split("odd"), INPUT)
    images, rows = ImageInput(INPUT, frames.target), np.arange(len(frames))
    return TrainingData(place, SETTINGS, frames, images, train=rows, validation=rows[:0])


def features(data, backbone, *, stages=STAGES, workers=1, seconds=None, **changes):
    """Kept features; ``changes`` are settings, their dots written as two underlines."""
    fields = {name.replace("__", "."): value for name, value in changes.items()}
    data = replace(data, settings=with_fields(data.settings, fields))
    return FeatureCache.prepare(data, backbone, stages, CPU, workers=workers, seconds=seconds)


def raw(backbone, pixels):
    images = torch.from_numpy(np.array(pixels)).movedim(-1, 1).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.mean, backbone.std))
    with torch.no_grad():
        return backbone((images - mean) / std)


def test_rows_are_the_backbone_s_features_of_frames_and_copies(prepared):
    frames, images = prepared.frames, prepared.images
    backbone = TinyBackbone().freeze()
    cache = features(prepared, backbone)
    assert cache.copies == 4
    assert cache.maps["shallow"].shape == (48, 8, 18, 24)
    assert cache.maps["deep"].shape == (48, 16, 9, 12)
    assert cache.maps["deep"].dtype == np.float16
    picked, copies = np.array([0, 3, 3, 11]), np.array([0, 0, 2, 3])
    batch = cache.batch(picked, copies)
    for i, (frame, copy) in enumerate(zip(picked, copies, strict=True)):
        if copy == 0:
            pixels, pose = frames.pixels[frame], frames.world_from_cams[frame]
        else:
            pixels, pose = images.varied(frames, int(frame), TURNING, seed=5, epoch=int(copy))
            assert not np.allclose(pose[:3, :3], frames.world_from_cams[frame, :3, :3])
        expected = raw(backbone, np.asarray(pixels)[None])
        for stage in ("shallow", "deep"):
            assert torch.allclose(batch[stage][i], expected[stage][0], rtol=2e-3, atol=2e-3)
        assert np.array_equal(cache.world_from_cams[frame, copy], pose)


def test_principal_channels_keep_what_varies(prepared):
    backbone = TinyBackbone().freeze()
    whole = features(prepared, backbone)
    reduced = features(prepared, backbone, backbone__channels=6)
    for stage in ("shallow", "deep"):
        channels = reduced.principal[stage]
        basis = channels.basis.numpy()
        assert reduced.maps[stage].shape[1] == 6
        assert np.allclose(basis @ basis.T, np.eye(6), atol=1e-5)
        originals = whole.maps[stage][:12].astype(np.float32)
        cells = np.moveaxis(originals, 1, -1).reshape(-1, originals.shape[1])
        assert np.allclose(channels.mean, cells.mean(axis=0), atol=1e-3)
        # As good as the best there is (numpy's SVD), and it comes back.
        spread = np.linalg.svd(cells - cells.mean(axis=0), compute_uv=False) ** 2
        kept = np.moveaxis(reduced.maps[stage][:12].astype(np.float32), 1, -1).reshape(-1, 6)
        lost = cells - (kept @ basis + channels.mean.numpy())
        assert (lost**2).sum() / spread.sum() == pytest.approx(
            spread[6:].sum() / spread.sum(), abs=2e-3
        )


def test_principal_channels_are_learned_from_the_images_to_train_on(prepared):
    frames = prepared.frames
    backbone = TinyBackbone().freeze()
    some = features(
        replace(prepared, train=np.arange(6)), backbone, stages=("deep",), backbone__channels=4
    )
    cells = raw(backbone, np.asarray(frames.pixels[:6]))["deep"].movedim(1, -1).reshape(-1, 16)
    assert torch.allclose(some.principal["deep"].mean, cells.mean(0), atol=1e-4)


def test_maps_on_a_grid_are_means_of_their_cells(prepared):
    backbone = TinyBackbone().freeze()
    whole = features(prepared, backbone)
    cache = features(prepared, backbone, head__kind="grid", head__grid=(3, 4))
    assert cache.maps["deep"].shape == (48, 16, 3, 4)
    means = whole.maps["deep"].astype(np.float32).reshape(48, 16, 3, 3, 4, 3).mean(axis=(3, 5))
    assert np.allclose(cache.maps["deep"], means, atol=2e-3)


def test_nothing_is_computed_twice_and_other_weights_are_other_features(prepared):
    first = TinyBackbone(seed=1).freeze()
    features(prepared, first)
    Seen.images = 0
    again = features(prepared, first)
    assert Seen.images <= 1  # the image that tells the maps' size
    other = TinyBackbone(seed=2).freeze()
    different = features(prepared, other)
    assert different.key != again.key
    assert not np.array_equal(different.maps["deep"], again.maps["deep"])
    for change in ({"seed": 6}, {"copies": 2}, {"augment": AugmentSettings(turn_deg=3.0)}):
        assert features(prepared, first, **change).key != again.key


def test_workers_change_nothing(prepared):
    backbone = TinyBackbone(seed=3).freeze()
    one = features(prepared, backbone)
    maps = {stage: np.array(array) for stage, array in one.maps.items()}
    for folder in cache_folder(prepared.place).glob("features-*"):
        (folder / "about.json").unlink()
    three = features(prepared, backbone, workers=3)
    for stage, array in three.maps.items():
        assert np.array_equal(array, maps[stage])


def test_short_of_time_there_are_fewer_copies_and_the_rest_is_made_later(prepared):
    backbone = TinyBackbone(seed=7).freeze()
    short = features(prepared, backbone, seconds=1e-6)
    maps = {stage: np.array(array) for stage, array in short.maps.items()}
    assert short.copies == 2
    assert maps["deep"].shape[0] == 24
    Seen.images = 0
    assert features(prepared, backbone, seconds=0).copies == 2
    assert Seen.images <= 1  # the image that tells the maps' size
    whole = features(prepared, backbone)
    assert whole.copies == 4
    for stage, array in maps.items():
        assert np.array_equal(whole.maps[stage][:24], array)


_KILLED = """
    import os, signal, sys
    sys.path.insert(0, sys.argv[2])
    import test_regression_feature_cache as tests
    from relocalize.regression.disk_rows import DiskRows
    from relocalize.place import Place

    tests.torch.set_num_threads(1)
    commit, commits = DiskRows.commit, []

    def second_is_killed(self):
        commits.append(self)
        if len(commits) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self)

    DiskRows.commit = second_is_killed
    place = Place.open(sys.argv[1])
    tests.principal_features(place, tests.TinyBackbone().freeze())
"""


def principal_features(place, backbone):
    return features(data_of(place), backbone, backbone__channels=6)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills a process as posix does")
def test_a_run_that_was_killed_ends_with_the_features_of_one_that_was_not(tmp_path):
    killed, whole = (make_imaged_place(tmp_path / name) for name in ("killed", "whole"))
    for place in (killed, whole):
        TrainingFrames.prepare(place, place.split("odd"), INPUT)
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", textwrap.dedent(_KILLED), str(killed.root), here]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    Seen.images = 0
    other = principal_features(whole, TinyBackbone().freeze())
    assert Seen.images == 1 + 12 + 48  # one for sizes, principal channels, all rows
    Seen.images = 0
    one = principal_features(killed, TinyBackbone().freeze())
    assert Seen.images == 1 + 16  # rows that were not safe yet: 48, less a batch
    for stage in ("shallow", "deep"):
        assert np.array_equal(one.maps[stage], other.maps[stage])


def test_lost_principal_channels_cost_time_and_nothing_else(prepared):
    backbone = TinyBackbone(seed=4).freeze()
    first = features(prepared, backbone, backbone__channels=6)
    maps = np.array(first.maps["deep"])
    (cache_folder(prepared.place) / f"features-{first.key}" / "principal.pt").write_bytes(
        b"PK damaged"
    )
    again = features(prepared, backbone, backbone__channels=6)
    assert np.array_equal(again.maps["deep"], maps)


def test_what_cannot_be_kept_is_one_line(prepared):
    with pytest.raises(LocalizerError, match="freeze it"):
        features(prepared, TinyBackbone())
    with pytest.raises(LocalizerError, match="no feature map middle"):
        features(prepared, TinyBackbone().freeze(), stages=("middle",))
