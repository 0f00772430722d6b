"""Generated signals: what decides lies as far away as is said, and nothing else tells."""

import pytest
import torch
from scipy.ndimage import center_of_mass

from segcourse.datasets import signals as module
from segcourse.datasets.signals import signals
from segcourse.models.context import ContextNet

DATA = signals("train", 60, size=(48, 72))


def test_a_picture_holds_one_box_and_one_signal_at_a_distance() -> None:
    for image, mask in zip(DATA.images, DATA.masks):
        label = int(mask.max())
        assert mask.unique().tolist() == [0, label]
        assert int((mask == label).sum()) == module.BOX**2
        box = (image * 255).round()[:, mask == label]
        assert torch.equal(box, torch.tensor(module.WHITE).float()[:, None].expand_as(box))
        colour = torch.tensor(module.COLOURS[label - 1]).float()[:, None, None]
        signal = ((image * 255).round() == colour).all(0)
        assert int(signal.sum()) == module.SIGNAL**2
        other = torch.tensor(module.COLOURS[2 - label]).float()[:, None, None]
        assert not ((image * 255).round() == other).all(0).any()
        a, b = (torch.tensor(center_of_mass(place.numpy())) for place in (mask == label, signal))
        assert module.NEAR <= (a - b).abs().max() <= module.FAR


def test_a_plain_network_sees_no_signal_from_the_box() -> None:
    """What lesson 07 builds on: a field of 24 pixels, interpolation included, is too small."""
    torch.manual_seed(0)
    net = ContextNet(3, 3, width=4, halvings=1, rates=(1, 1, 1, 1)).eval()
    for image, mask in zip(DATA.images[:20], DATA.masks):
        seen = image[None].clone().requires_grad_()
        net(seen)[0, :, mask > 0].square().sum().backward()
        signal = (image[0] - image[2]).abs() > 0.5
        assert int(signal.sum()) == module.SIGNAL**2
        assert not seen.grad[0, :, signal].any()


def test_both_classes_and_all_directions_occur() -> None:
    labels = DATA.masks.flatten(1).amax(1)
    assert 15 < int((labels == 1).sum()) < 45
    places = torch.stack([(mask > 0).nonzero().float().mean(0) for mask in DATA.masks])
    assert (places.std(0) > 5).all()


def test_splits_and_seeds_differ_and_repeat() -> None:
    again = signals("train", 5, size=(48, 72))
    assert torch.equal(again.images, DATA.images[:5])
    for other in (signals("val", 5, size=(48, 72)), signals("train", 5, size=(48, 72), seed=1)):
        assert not torch.equal(other.images, again.images)
    assert (DATA.classes, DATA.size, len(signals("test", 0))) == (("background", "go", "stop"), (48, 72), 0)


def test_bad_requests_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="unknown split"):
        signals("training", 1)
    with pytest.raises(ValueError, match="count=-1"):
        signals("val", -1)
    with pytest.raises(ValueError, match="at least 48x48"):
        signals("val", 1, size=(40, 60))
