"""Folded backbones compute the same features with fewer layers."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # after the skip

from relocalize.regression.backbones import Backbone, Stage, make_backbone  # noqa: E402
from relocalize.regression.folding import folded  # noqa: E402


def with_statistics(backbone: Backbone) -> Backbone:
    """As after training: batch norms that do something."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean.copy_(0.1 * torch.randn(shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(shape, generator=generator))
            module.weight.data.copy_(0.5 + torch.rand(shape, generator=generator))
            module.bias.data.copy_(0.1 * torch.randn(shape, generator=generator))
    return backbone


@pytest.mark.parametrize("name", ["googlenet", "resnet18", "efficientnet_lite0"])
def test_a_folded_backbone_has_the_same_features_and_no_batch_norm(name):
    backbone = with_statistics(make_backbone(name)).freeze()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    faster = folded(backbone)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in faster.modules())
    image = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = backbone(image), faster(image)
    for stage, maps in expected.items():
        assert (found[stage] - maps).abs().max() < 1e-3 * maps.abs().max()
    assert faster.frozen
    # The one that was given is as it was.
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


class _SharedOutput(Backbone):
    """Its first stage is a convolution's output before the batch norm that follows."""

    def __init__(self) -> None:
        super().__init__("shared", (0, 0, 0), (1, 1, 1), {"a": Stage(4, 1), "b": Stage(4, 1)})
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def _walk(self, images):
        before = self.conv(images)
        yield "a", before
        yield "b", self.norm(before)


def test_a_convolution_whose_output_is_used_elsewhere_keeps_it():
    backbone = with_statistics(_SharedOutput()).freeze()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = backbone(image), folded(backbone)(image)
    for stage, maps in expected.items():
        assert torch.allclose(found[stage], maps)
