"""The small network with a context module: its size, its field, and what it refuses."""

import pytest
import torch

from segcourse.cost import profile
from segcourse.models.context import ContextNet
from segcourse.receptive_field import probe


@pytest.mark.parametrize(("halvings", "rates"), [(1, (1, 2)), (2, (3,)), (1, ())])
def test_the_field_is_the_gradients(halvings, rates) -> None:
    torch.manual_seed(0)
    net = ContextNet(3, 5, width=2, halvings=halvings, rates=rates)
    units = torch.nn.Sequential(net.stem, net.context, net.score)
    seen = probe(units, (3, 96, 112)).nonzero()
    sides = seen.amax(0) - seen.amin(0) + 1
    assert sides.tolist() == [net.field, net.field]


def test_rates_change_neither_weights_nor_cost() -> None:
    nets = [ContextNet(3, 4, width=6, halvings=2, rates=rates).eval() for rates in ((1, 1, 1), (1, 2, 4))]
    shapes = [{name: p.shape for name, p in net.named_parameters()} for net in nets]
    assert shapes[0] == shapes[1]
    assert len({profile(net, (1, 3, 40, 52)).total_macs for net in nets}) == 1
    assert nets[0].field < nets[1].field


@pytest.mark.parametrize("size", [(32, 48), (33, 50)])
def test_scores_are_as_large_as_the_image(size) -> None:
    net = ContextNet(1, 7, width=4, halvings=2, rates=(1, 2))
    scores = net(torch.rand(2, 1, *size))
    assert scores.shape == (2, 7, *size)
    scores.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_units_are_centred_on_their_pixels() -> None:
    """Mirror the image and the weights: the scores are mirrored."""
    torch.manual_seed(1)
    net = ContextNet(1, 2, width=3, halvings=2, rates=(2,)).double().eval()
    image = torch.rand(1, 1, 24, 32, dtype=torch.double)
    scores = net(image)
    for weight in net.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.flip(2, 3)
    assert torch.allclose(net(image.flip(2, 3)).flip(2, 3), scores)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"width": 0}, "width"), ({"classes": 0}, "classes"), ({"halvings": 0}, "halvings"), ({"rates": (1, 0)}, "rates")],
)
def test_what_makes_no_network_is_refused(change, words) -> None:
    arguments = {"in_channels": 3, "classes": 2, "width": 4, "halvings": 1, "rates": (1,)} | change
    with pytest.raises(ValueError, match=words):
        ContextNet(**arguments)
