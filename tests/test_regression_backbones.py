"""Backbones: torchvision's names and sizes, the numbers of a plain composition, frozen mode."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from relocalize.errors import LocalizerError  # noqa: E402
from relocalize.regression.backbones import BACKBONES, Backbone, make_backbone  # noqa: E402

# Parameters of the whole networks as torchvision.models documents them (num_params) and, for
# EfficientNet-Lite, as TensorFlow's table has them, and those of the classifiers left out here.
CLASSIFIER = {"googlenet": 1024, "resnet18": 512, "resnet34": 512, "resnet50": 2048}
DOCUMENTED = {
    "googlenet": 6_624_904,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "efficientnet_lite0": 4_652_008,
}

# Rows of torchvision's documented state dicts: the names that pretrained files carry.
TORCHVISION = {
    "googlenet": {
        "conv1.conv.weight": (64, 3, 7, 7),
        "conv1.bn.running_mean": (64,),
        "conv3.conv.weight": (192, 64, 3, 3),
        "inception3a.branch1.conv.weight": (64, 192, 1, 1),
        "inception3a.branch3.1.conv.weight": (32, 16, 3, 3),
        "inception4d.branch2.1.conv.weight": (288, 144, 3, 3),
        "inception5b.branch4.1.conv.weight": (128, 832, 1, 1),
        "inception5b.branch4.1.bn.num_batches_tracked": (),
    },
    "resnet18": {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.0.conv1.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.bias": (128,),
        "layer4.1.bn2.weight": (512,),
    },
    "resnet34": {"layer3.5.conv2.weight": (256, 256, 3, 3), "layer4.2.bn2.bias": (512,)},
    "resnet50": {
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer2.0.conv2.weight": (128, 128, 3, 3),
        "layer3.5.conv3.weight": (1024, 256, 1, 1),
        "layer4.2.bn3.running_mean": (2048,),
    },
}
TENSORS = {"googlenet": 342, "resnet18": 120, "resnet34": 216, "resnet50": 318}  # without fc


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def with_lively_statistics(backbone: Backbone, variance: float = 1.0) -> Backbone:
    """Batch norms that do something, so that a wrong order or epsilon shows."""
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5 * variance, 2 * variance)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return backbone.eval()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_parameter_counts_are_the_documented_ones(name: str) -> None:
    counted = sum(weight.numel() for weight in make_backbone(name).parameters())
    width = CLASSIFIER.get(name, 1280)
    assert counted + width * 1000 + 1000 == DOCUMENTED[name]


def test_googlenets_auxiliary_maps_fit_torchvisions_branches() -> None:
    stages = make_backbone("googlenet").stages
    # InceptionAux: 1x1 convolution to 128 with batch norm, 4 x 4 x 128 -> 1024 -> 1000
    auxiliary = sum(
        stages[tap].channels * 128 + 2 * 128 + 2048 * 1024 + 1024 + 1024 * 1000 + 1000
        for tap in ("inception4a", "inception4d")
    )
    assert DOCUMENTED["googlenet"] + auxiliary == 13_004_888


@pytest.mark.parametrize("name", TORCHVISION)
def test_names_and_shapes_are_torchvisions(name: str) -> None:
    state = make_backbone(name).state_dict()
    for tensor, shape in TORCHVISION[name].items():
        assert tuple(state[tensor].shape) == shape, tensor
    assert len(state) == TENSORS[name]


@pytest.mark.parametrize("name", [*BACKBONES])
def test_feature_maps_have_the_promised_channels_and_strides(name: str) -> None:
    height, width = 65, 97  # odd, so that every rounding shows
    backbone = make_backbone(name).eval()
    with torch.no_grad():
        features = backbone(torch.rand(2, 3, height, width))
    assert features[backbone.deepest].shape[:2] == (2, backbone.channels)
    assert list(features) == list(backbone.stages)
    strides = [stage.stride for stage in backbone.stages.values()]
    assert strides == sorted(strides)
    for stage, given in zip(backbone.stages.values(), features.values(), strict=True):
        assert given.shape[:2] == (2, stage.channels)
        for side, cells in ((height, given.shape[2]), (width, given.shape[3])):
            assert side // stage.stride <= cells <= -(-side // stage.stride)


def test_only_the_wanted_feature_maps_are_computed() -> None:
    backbone = make_backbone("resnet18").eval()
    ran: list[str] = []
    backbone.layer3.register_forward_hook(lambda *_: ran.append("layer3"))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert list(backbone(images, stages=["layer2"])) == ["layer2"]
        assert ran == []
        assert torch.equal(
            backbone(images)["layer2"], backbone(images, stages=["layer2"])["layer2"]
        )
    assert ran == ["layer3"]


def test_a_resnet_is_the_composition_that_the_paper_states() -> None:
    for name in ("resnet18", "resnet50"):
        backbone = with_lively_statistics(make_backbone(name))
        state = backbone.state_dict()

        def convolve(x, at, norm, stride=1, state=state):
            weight = state[f"{at}.weight"]
            x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
            mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
            scale = state[f"{norm}.weight"] / torch.sqrt(var + 1e-5)
            return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{norm}.bias"][
                :, None, None
            ]

        images = torch.rand(1, 3, 64, 96)
        x = functional.max_pool2d(convolve(images, "conv1", "bn1", 2).relu(), 3, 2, 1)
        depth = 2 if name == "resnet18" else 3
        for layer, blocks in enumerate((2, 2, 2, 2) if depth == 2 else (3, 4, 6, 3), start=1):
            for block in range(blocks):
                at = f"layer{layer}.{block}"
                stride = 2 if layer > 1 and block == 0 else 1
                strided = 1 if depth == 2 else 2  # the 3x3 convolution of the block
                y = x
                for number in range(1, depth + 1):
                    step = stride if number == strided else 1
                    y = convolve(y, f"{at}.conv{number}", f"{at}.bn{number}", step)
                    y = y.relu() if number < depth else y
                if f"{at}.downsample.0.weight" in state:
                    x = convolve(x, f"{at}.downsample.0", f"{at}.downsample.1", stride)
                x = (x + y).relu()
        with torch.no_grad():
            found = backbone(images)["layer4"]
        assert torch.allclose(found, x, rtol=1e-3, atol=1e-3 * float(x.abs().max()))


@pytest.mark.parametrize("name", ["googlenet", "googlenet_caffe"])
def test_googlenet_is_the_composition_of_table_1(name: str) -> None:
    backbone = with_lively_statistics(make_backbone(name), variance=0.002)
    state = backbone.state_dict()

    def convolve(x, at, stride=1):
        weight = state[f"{at}.conv.weight"]
        x = functional.conv2d(
            x, weight, state.get(f"{at}.conv.bias"), stride, weight.shape[-1] // 2
        )
        if f"{at}.bn.weight" in state:
            norm = [
                state[f"{at}.bn.{part}"]
                for part in ("running_mean", "running_var", "weight", "bias")
            ]
            x = functional.batch_norm(x, *norm, eps=0.001)
        return x.relu()

    def pool(x, size=3):
        # Caffe's rounding: cells that start inside the image, however little they cover
        right, below = (-(x.shape[3] - size) % 2, -(x.shape[2] - size) % 2)
        return functional.max_pool2d(
            functional.pad(x, (0, right, 0, below), value=-torch.inf), size, 2
        )

    def normalise(x):
        if name == "googlenet":
            return x
        # Krizhevsky et al. 2012, section 3.3, with Caffe's alpha divided by the size
        squares = functional.pad(x.square(), (0, 0, 0, 0, 2, 2))
        total = sum(squares[:, row : row + x.shape[1]] for row in range(5))
        return x / (1 + 1e-4 / 5 * total) ** 0.75

    images = torch.rand(1, 3, 96, 64) * (1 if name == "googlenet" else 255)
    x = normalise(pool(convolve(images, "conv1", 2)))
    x = pool(normalise(convolve(convolve(x, "conv2"), "conv3")))
    expected = {}
    for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        if block == "4a":
            x = pool(x)
        if block == "5a":
            x = pool(x, 2 if name == "googlenet" else 3)
        at = f"inception{block}"
        x = torch.cat(
            [
                convolve(x, f"{at}.branch1"),
                convolve(convolve(x, f"{at}.branch2.0"), f"{at}.branch2.1"),
                convolve(convolve(x, f"{at}.branch3.0"), f"{at}.branch3.1"),
                convolve(functional.max_pool2d(x, 3, 1, 1), f"{at}.branch4.1"),
            ],
            dim=1,
        )
        expected[at] = x
    with torch.no_grad():
        found = backbone(images)
    for at in ("inception3b", "inception4a", "inception4d", "inception5b"):
        bound = 1e-3 * float(expected[at].abs().max())
        assert torch.allclose(found[at], expected[at], rtol=1e-3, atol=bound), at


@pytest.mark.parametrize("size", [0, 1, 2])
def test_efficientnet_lite_gives_what_its_package_gives(size: int) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    backbone = with_lively_statistics(make_backbone(f"efficientnet_lite{size}"))
    theirs = package.EfficientNet.from_name(f"efficientnet-lite{size}")
    missing = theirs.load_state_dict(backbone.state_dict(), strict=False)
    assert set(missing.missing_keys) == {"_fc.weight", "_fc.bias"}
    assert not missing.unexpected_keys
    side = (224, 240, 260)[size]  # the one that its padding is built for
    images = torch.rand(1, 3, side, side)
    with torch.no_grad():
        assert torch.allclose(
            backbone(images)["head"], theirs.eval().extract_features(images), atol=1e-5
        )


def test_a_frozen_backbone_does_not_change_in_training() -> None:
    backbone = make_backbone("googlenet").freeze()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    model = torch.nn.Sequential(backbone)
    model.train()
    backbone(torch.rand(2, 3, 64, 64))
    assert not any(weight.requires_grad for weight in backbone.parameters())
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    thawed = make_backbone("googlenet")
    thawed.train()(torch.rand(2, 3, 64, 64))
    assert int(thawed.conv1.bn.num_batches_tracked) == 1


def test_unknown_names_and_small_images_are_told() -> None:
    with pytest.raises(LocalizerError, match=r"no backbone is called 'resnet19'.*resnet18"):
        make_backbone("resnet19")
    backbone = make_backbone("resnet18")
    with pytest.raises(LocalizerError, match=r"no feature map layer9; it has layer1"):
        backbone(torch.rand(1, 3, 64, 64), stages=["layer9"])
    with pytest.raises(LocalizerError, match="60x64 pixels is too small"):
        backbone(torch.rand(1, 3, 64, 60))


def test_timm_that_cannot_be_imported_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(LocalizerError, match=r"timm:vit.* cannot be imported here.*pip install"):
        make_backbone("timm:vit")


def test_a_timm_model_gives_its_feature_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    class Body(torch.nn.Module):
        """What timm's create_model(..., features_only=True) documents."""

        def __init__(self) -> None:
            super().__init__()
            self.shallow = torch.nn.Conv2d(3, 8, 3, 4, 1)
            self.deep = torch.nn.Conv2d(8, 16, 3, 4, 1)
            self.pretrained_cfg = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
            self.feature_info = SimpleNamespace(
                module_name=lambda: ["blocks.0", "blocks.1"],
                channels=lambda: [8, 16],
                reduction=lambda: [4, 16],
            )

        def forward(self, images):
            shallow = self.shallow(images)
            return [shallow, self.deep(shallow)]

    def create_model(name: str, *, pretrained: bool, features_only: bool) -> Body:
        if name != "tiny":
            raise RuntimeError(f"Unknown model ({name})")
        assert features_only
        return Body()

    timm = ModuleType("timm")
    timm.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", timm)
    backbone = make_backbone("timm:tiny")
    features = backbone(torch.rand(1, 3, 64, 64))
    assert backbone.mean == (0.1, 0.2, 0.3)
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        "blocks_0": (1, 8, 16, 16),
        "blocks_1": (1, 16, 4, 4),
    }
    with pytest.raises(LocalizerError, match="does not give 'absent'"):
        make_backbone("timm:absent")
