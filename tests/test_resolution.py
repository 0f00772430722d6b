"""Networks at half the resolution, or at a fixed size: sizes come back, and places stay where they were."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segcourse.models.resolution import AtSizes, HalfResolution
from segcourse.models.unet import UNet


def small(**arguments) -> HalfResolution:
    torch.manual_seed(0)
    unet = UNet(4, 11, width=4, depth=3, padded=True, batch_norm=True, dropout=0.0)
    return HalfResolution(unet, width=4, multiple=8, **arguments)


@pytest.mark.parametrize("size", [(16, 32), (180, 240), (33, 47), (1, 1)])
def test_any_size_comes_back(size):
    assert small().eval()(torch.rand(2, 3, *size)).shape == (2, 11, *size)


def test_works_on_a_quarter_of_the_pixels():
    model, seen = small().eval(), []
    model.network.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].shape, output.shape)))
    model(torch.rand(1, 3, 96, 128))
    model(torch.rand(1, 3, 180, 240))
    assert seen == [
        ((1, 4, 48, 64), (1, 11, 48, 64)),
        ((1, 4, 96, 120), (1, 11, 96, 120)),  # 180 becomes 192, the next multiple of 16
    ]


def test_agrees_with_its_parts():
    model = small().eval()
    image = torch.rand(2, 3, 32, 48)
    conv, norm, _ = model.stem
    x = F.conv2d(image, conv.weight, stride=2, padding=1)
    x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).clamp(min=0)
    expected = F.interpolate(model.network(x), (32, 48), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model(image), expected)


def test_what_is_added_is_the_rim_repeated():
    model = small().eval()
    image = torch.rand(1, 3, 28, 40)
    larger = F.pad(image, (0, 8, 0, 4), mode="replicate")
    torch.testing.assert_close(model(image), model(larger)[..., :28, :40])


def test_gradients_reach_every_parameter():
    model = small()
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["width", "multiple", "in_channels"])
def test_bad_numbers_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        HalfResolution(nn.Identity(), **{name: 0})


def test_the_network_is_given_each_size():
    sizes = []
    network = nn.Conv2d(3, 5, 1)
    network.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape))
    probabilities = AtSizes(network, (120, 160), (90, 120))(torch.rand(2, 3, 180, 240))
    assert sizes == [(2, 3, 120, 160), (2, 3, 90, 120)]
    assert probabilities.shape == (2, 5, 180, 240)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 180, 240))


def test_at_the_size_of_the_image_nothing_changes():
    network, image = nn.Conv2d(3, 5, 3, padding=1), torch.rand(1, 3, 24, 32)
    torch.testing.assert_close(AtSizes(network, (24, 32))(image), network(image).softmax(1))


def test_with_mirrors_left_and_right_are_alike():
    torch.manual_seed(0)
    network, image = nn.Conv2d(3, 5, 3, padding=1), torch.rand(1, 3, 24, 32)
    for mirror in (False, True):
        model = AtSizes(network, (12, 16), (24, 32), mirror=mirror)
        assert torch.allclose(model(image.flip(-1)), model(image).flip(-1), atol=1e-5) is mirror


def test_places_stay():
    """A network that sees in each pixel how bright it is: the edge of a bright half stays where it is."""

    class Bright(nn.Module):
        def forward(self, image):
            return torch.stack([0.5 - image[:, 0], image[:, 0] - 0.5], dim=1)

    image = torch.zeros(1, 3, 36, 48)
    image[..., 24:] = 1
    assert torch.equal(AtSizes(Bright(), (12, 16), (24, 32))(image).argmax(1), image[:, 0].long())


def test_no_size_is_refused():
    with pytest.raises(ValueError, match="no size"):
        AtSizes(nn.Identity())
