"""The confusion matrix counts as scikit-learn does; the band is what brute force says."""

import numpy as np
import pytest
import torch
from torch import Tensor

from segcourse.datasets import VOID
from segcourse.metrics import ConfusionMatrix, boundary_band


def counted(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    """Pair by pair."""
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist()):
        if t != VOID:
            counts[t, p] += 1
    return counts


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_a_loop(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    target = torch.randint(5, (3, 4, 7), generator=draw)
    prediction = torch.randint(5, (3, 4, 7), generator=draw)
    target[torch.rand(target.shape, generator=draw) < 0.2] = VOID
    matrix = ConfusionMatrix(5)
    matrix.add(prediction[:2], target[:2])
    matrix.add(prediction[2:], target[2:])
    assert torch.equal(matrix.counts, counted(prediction, target, 5))


def test_iou_by_hand() -> None:
    """Class 0: 2 of 3 pixels; class 1: 1 of 3; class 2 nowhere; one pixel void."""
    matrix = ConfusionMatrix(3)
    matrix.add(torch.tensor([[[0, 0, 1], [1, 1, 2]]]), torch.tensor([[[0, 0, 0], [1, VOID, VOID]]]))
    assert matrix.counts.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert matrix.iou[:2].tolist() == pytest.approx([2 / 3, 1 / 2])
    assert matrix.iou[2].isnan()
    assert matrix.mean_iou == pytest.approx(7 / 12)
    assert matrix.accuracy == pytest.approx(3 / 4)


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    matrix = ConfusionMatrix(2)
    matrix.add(torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert matrix.iou.tolist() == [0.5, 0.0]


def test_labels_of_other_kinds_count_alike() -> None:
    target, prediction = torch.tensor([[0, 1, 255]]), torch.tensor([[1, 1, 0]])
    matrices = []
    for kind in (torch.uint8, torch.int32, torch.int64):
        matrices.append(ConfusionMatrix(2))
        matrices[-1].add(prediction.to(kind), target.to(kind))
    assert all(torch.equal(m.counts, matrices[0].counts) for m in matrices)


@pytest.mark.parametrize(
    ("prediction", "target", "error", "says"),
    [
        (torch.zeros(2, 3, 4), torch.zeros(2, 3, 4).long(), TypeError, "argmax"),
        (torch.zeros(2, 3).long(), torch.zeros(3, 2).long(), ValueError, "differ in shape"),
        (torch.tensor([3]), torch.tensor([0]), ValueError, "label of the prediction"),
        (torch.tensor([0]), torch.tensor([-1]), ValueError, "label of the target"),
        (torch.tensor([255]), torch.tensor([0]), ValueError, "label of the prediction"),
    ],
)
def test_what_cannot_be_counted_is_refused(prediction: Tensor, target: Tensor, error: type, says: str) -> None:
    matrix = ConfusionMatrix(3)
    with pytest.raises(error, match=says):
        matrix.add(prediction, target)
    assert not matrix.counts.any()


def test_no_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ConfusionMatrix(0)


def band_by_hand(mask: np.ndarray, radius: int) -> np.ndarray:
    """The classes in the square around each pixel, counted."""
    band = np.zeros(mask.shape, bool)
    for r, c in np.ndindex(*mask.shape):
        square = mask[max(r - radius, 0) : r + radius + 1, max(c - radius, 0) : c + radius + 1]
        band[r, c] = len(set(square[square != VOID].tolist())) > 1 and mask[r, c] != VOID
    return band


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_band_is_what_brute_force_says(radius: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    masks = np.kron(draw.integers(0, 4, (2, 4, 5)), np.ones((1, 4, 3), np.int64))
    masks[draw.random(masks.shape) < 0.05] = VOID
    expected = np.stack([band_by_hand(mask, radius) for mask in masks])
    assert np.array_equal(boundary_band(torch.from_numpy(masks), radius).numpy(), expected)


def test_the_rim_of_void_is_no_boundary() -> None:
    mask = torch.zeros(1, 9, 11, dtype=torch.int64)
    mask[:, 3:6, 4:7] = VOID
    assert not boundary_band(mask).any()


def test_band_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ValueError, match="N, H, W"):
        boundary_band(torch.zeros(4, 5).long())
    with pytest.raises(ValueError, match="at least 1"):
        boundary_band(torch.zeros(1, 4, 5).long(), 0)
