"""The weighted loss is torch's where torch has it; frequencies follow the definition, image by image."""

import pytest
import torch
import torch.nn.functional as F

from segcourse.datasets import VOID
from segcourse.losses import class_frequencies, median_frequency_weights, weighted_cross_entropy


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (2, 5, 7), generator=draw)
    labels[torch.rand(labels.shape, generator=draw) < 0.2] = VOID
    return torch.randn(2, 4, 5, 7, generator=draw), labels


@pytest.mark.parametrize("seed", range(3))
def test_class_weights_are_torchs(seed: int) -> None:
    scores, labels = batch(seed)
    weights = torch.tensor([0.2, 3.0, 1.0, 0.7])
    ours = weighted_cross_entropy(scores, labels, weights)
    assert ours.item() == pytest.approx(F.cross_entropy(scores, labels, weights, ignore_index=VOID).item(), rel=1e-5)
    plain = weighted_cross_entropy(scores, labels)
    assert plain.item() == pytest.approx(F.cross_entropy(scores, labels, ignore_index=VOID).item(), rel=1e-5)


def test_pixel_weights_repeat_pixels() -> None:
    """A pixel of weight 3 counts as three pixels; one of weight 0 is not there."""
    scores, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1, VOID])
    weighed = weighted_cross_entropy(scores, labels, pixel_weights=torch.tensor([3.0, 1.0, 0.0, 5.0]))
    repeated = F.cross_entropy(scores[[0, 0, 0, 1]], labels[[0, 0, 0, 1]])
    assert weighed.item() == pytest.approx(repeated.item())


def test_void_alone_costs_nothing_and_moves_nothing() -> None:
    scores = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = weighted_cross_entropy(scores, torch.full((1, 2, 2), VOID))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_frequencies_by_hand() -> None:
    """Class 0: 5 of the 12 pixels of both images; class 1: 3 of the 6 of the first; 2: nowhere; 3: 2 of 6."""
    masks = torch.tensor([[[0, 0, 1], [1, 1, VOID]], [[0, 0, 0], [3, 3, VOID]]])
    assert class_frequencies(masks, 4).tolist() == pytest.approx([5 / 12, 3 / 6, 0, 2 / 6])
    weights = median_frequency_weights(masks, 4)
    assert weights.tolist() == pytest.approx([1, 5 / 6, 0, 5 / 4])


def test_the_order_of_images_does_not_matter() -> None:
    masks = torch.randint(3, (6, 4, 5), generator=torch.Generator().manual_seed(1))
    assert torch.equal(class_frequencies(masks, 3), class_frequencies(masks.flip(0), 3))


def test_masks_without_a_class_are_refused() -> None:
    with pytest.raises(ValueError, match="no pixel of any class"):
        median_frequency_weights(torch.full((2, 3, 3), VOID), 3)
    assert class_frequencies(torch.empty(0, 3, 3, dtype=torch.int64), 2).tolist() == [0, 0]
