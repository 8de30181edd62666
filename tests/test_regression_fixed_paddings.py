"""Networks with paddings fixed for one size do to images of that size what they did."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # after the skip

from relocalize.regression.backbones import make_backbone  # noqa: E402
from relocalize.regression.fixed_paddings import with_fixed_paddings  # noqa: E402


class Deepest(nn.Module):
    """A backbone's deepest features as one tensor."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images):
        return self.backbone(images)[self.backbone.deepest]


@pytest.mark.parametrize("size", [(192, 256), (97, 64), (95, 129)])
def test_all_paddings_are_plain_and_the_features_the_same(size):
    torch.set_num_threads(1)
    network = Deepest(make_backbone("efficientnet_lite0")).eval()
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    fixed = with_fixed_paddings(network, image)
    kinds = {type(part) for part in fixed.modules() if isinstance(part, nn.Conv2d)}
    assert kinds == {nn.Conv2d}
    with torch.no_grad():
        assert torch.equal(fixed(image), network(image))
    # The one that was given is as it was, and takes other sizes.
    assert any(type(part) is not nn.Conv2d for part in network.modules() if "Conv2d" in str(part))
    network(torch.randn(1, 3, 128, 160))


class _Scaled(nn.Conv2d):
    """A convolution that does more than its kind says."""

    def forward(self, images):
        return 2 * super().forward(images)


def test_a_layer_that_is_none_of_these_stays():
    network = nn.Sequential(_Scaled(3, 4, 3, stride=2), nn.ReLU()).eval()
    image = torch.randn(1, 3, 16, 16)
    fixed = with_fixed_paddings(network, image)
    assert isinstance(fixed[0], _Scaled)
    with torch.no_grad():
        assert torch.equal(fixed(image), network(image))
