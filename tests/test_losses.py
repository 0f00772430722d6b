"""The weighted loss is torch's where torch has it; frequencies follow the definition, image by image."""

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from segcourse.datasets import VOID
from segcourse.datasets.camvid import camvid
from segcourse.datasets.labels import CAMVID_TRAIN_IMAGES, CAMVID_TRAIN_PIXELS, Label
from segcourse.datasets.paths import camvid_pack
from segcourse.losses import class_frequencies, median_frequency_weights, weighted_cross_entropy

DATA = Path(os.environ.get("SEGCOURSE_DATA") or Path(__file__).parents[2] / "shared" / "data")


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


# The weights of the SegNet paper's network for CamVid, `class_weighting` in its segnet_train.prototxt
# (github.com/alexgkendall/SegNet-Tutorial), sky to bicyclist.
PUBLISHED = torch.tensor([0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614])
OTHERS = [label for label in Label if label != Label.SIGN]


def test_frequencies_leave_out_images_without_the_class() -> None:
    """Three images; without the rule, shares of all pixels would give 0.25, 1, 1."""
    masks = torch.tensor([[[0, 0], [0, 1]], [[0, 0], [0, 0]], [[2, 2], [1, 0]]])
    assert median_frequency_weights(masks, 3).tolist() == pytest.approx([0.75, 2, 1])


def test_published_weights_follow_from_the_counts_but_for_sign() -> None:
    """Median over the eleven classes and void, as a twelfth: then ten of eleven come out within 11 %."""
    pixels = torch.tensor([*CAMVID_TRAIN_PIXELS, 2_503_995]).double()
    frequency = pixels / (torch.tensor([*CAMVID_TRAIN_IMAGES, 367]) * 360 * 480)
    weights = (frequency.sort().values[5:7].mean() / frequency)[:11]
    assert (weights / PUBLISHED - 1)[OTHERS].abs().max() < 0.11
    assert weights[Label.SIGN].item() == pytest.approx(3.533, abs=5e-4)
    # Even if every image held a sign, its frequency were not low enough for the published weight.
    most = frequency.sort().values[5:7].mean() / (pixels[Label.SIGN] / (367 * 360 * 480))
    assert most < 4 < PUBLISHED[Label.SIGN]


@pytest.mark.skipif(camvid_pack(DATA, "train") is None, reason="no CamVid: set SEGCOURSE_DATA to its folder")
def test_weights_of_the_real_masks_resemble_the_published_ones() -> None:
    """At 240x180, where thin poles keep more of the pixels than they had."""
    masks = camvid("train", root=DATA).masks
    assert len(masks) == 367
    weights = median_frequency_weights(masks.where(masks != VOID, 11), 12)[:11]
    off = (weights / PUBLISHED - 1).abs()
    assert off[[label for label in OTHERS if label not in (Label.POLE, Label.PEDESTRIAN)]].max() < 0.08
    assert off[OTHERS].max() < 0.27
    assert weights[Label.SIGN] < PUBLISHED[Label.SIGN] / 2
    assert [int((masks == label).flatten(1).any(1).sum()) for label in Label] == list(CAMVID_TRAIN_IMAGES)
    assert (masks == VOID).flatten(1).any(1).all()
    without_void = median_frequency_weights(masks, 11)
    assert without_void[Label.PAVEMENT] == 1  # the class in the middle
