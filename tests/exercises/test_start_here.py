"""Right answers to lesson 00's exercises, written as different students would."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract import Contract

from segcourse import exercises
from segcourse.datasets import VOID
from segcourse.datasets.camvid import FRAMES


def count_in_a_loop(mask, label):
    pixels = 0
    for row in mask:
        for value in row:
            if value == label:
                pixels += 1
    return pixels


def count_by_picking(mask, label):
    return len(mask[mask == label])


def count_with_numpy(mask, label):
    return np.count_nonzero(mask.numpy() == label)


def winner_of_softmax(scores):
    return torch.softmax(scores, 1).max(1).indices


def winner_of_channels_last(scores):
    return scores.permute(0, 2, 3, 1).sort(descending=True).indices[..., 0]


def accuracy_of_picked(prediction, mask):
    labelled = mask != VOID
    return (prediction[labelled] == mask[labelled]).float().mean()


def accuracy_by_mistakes(prediction, mask):
    labelled = int((mask != 255).sum())
    wrong = int(((prediction != mask) & (mask != 255)).sum())
    return 1 - wrong / labelled


def shares_class_by_class(mask, classes):
    labelled = (mask != VOID).sum()
    return torch.tensor([float((mask == c).sum() / labelled) for c in range(classes)])


def shares_from_all_labels(mask, classes):
    counts = torch.bincount(mask.flatten(), minlength=256)[:classes].double()
    return counts / counts.sum()


def planes_by_broadcasting(mask, classes):
    return (mask.unsqueeze(1) == torch.arange(classes).view(1, -1, 1, 1)).float()


def planes_with_a_spare_class(mask, classes):
    spare = torch.where(mask == VOID, classes, mask)
    return F.one_hot(spare, classes + 1)[..., :classes].movedim(-1, 1)


def planes_filled_in(mask, classes):
    planes = torch.zeros(mask.shape[0], classes, *mask.shape[1:])
    for label in range(classes):
        planes[:, label][mask == label] = 1
    return planes


def test_the_numbers_in_the_prose() -> None:
    """What the lesson says of its worked examples, which are the exercises' examples."""
    count, scores, accuracy, shares, planes = exercises.lesson("00_start_here").exercises
    assert count.reference(*count.examples[0].values()) == 4
    assert scores.reference(*scores.examples[0].values()).tolist() == [[[0, 1, 2], [1, 2, 2]]]
    wrong = {m.id: round(m.wrong(*accuracy.examples[0].values()), 2) for m in accuracy.misconceptions}
    assert accuracy.reference(*accuracy.examples[0].values()) == pytest.approx(0.8)
    assert (wrong["void_is_wrong"], wrong["void_is_right"]) == (0.67, 0.83)
    soft = torch.tensor([0.0, 2.0, 6.0]).softmax(dim=0)
    assert [f"{probability:.3f}" for probability in soft.tolist()] == ["0.002", "0.018", "0.980"]
    quiz = next(q for q in exercises.lesson("00_start_here").quiz if q.name == "all_road")
    void, road = 10, 0.60 * 90  # of 100 pixels
    assert [option.text for option in quiz.options] == [
        f"{value / 100:.2f}" for value in (road, 100 * road / (100 - void), road + void, 100 * 60 / (100 - void))
    ]
    assert shares.reference(*shares.examples[1].values()).tolist() == pytest.approx([0.3, 0.1, 0.3, 0.3, 0, 0])
    small = planes.reference(torch.tensor([[[0, 2, 2], [1, 0, VOID]]]), 3)
    assert small.int().tolist() == [[[[1, 0, 0], [0, 1, 0]], [[0, 0, 0], [1, 0, 0]], [[0, 1, 1], [0, 0, 0]]]]
    assert 144 * 192 == 27_648
    assert sum(FRAMES.values()) == 701


class TestContract(Contract):
    lesson = "00_start_here"
    right = {
        "count_label": (count_in_a_loop, count_by_picking, count_with_numpy),
        "mask_from_scores": (winner_of_softmax, winner_of_channels_last),
        "pixel_accuracy": (accuracy_of_picked, accuracy_by_mistakes),
        "class_shares": (shares_class_by_class, shares_from_all_labels),
        "one_hot": (planes_by_broadcasting, planes_with_a_spare_class, planes_filled_in),
    }
