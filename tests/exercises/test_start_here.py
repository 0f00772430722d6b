"""Right answers to lesson 00's exercises, written as different students would."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract import Contract

from segcourse import exercises
from segcourse.datasets import VOID
from segcourse.datasets.camvid import FRAMES

EXERCISES = {exercise.name: exercise for exercise in exercises.lesson("00_start_here").exercises}


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


def winner_above(start):
    """A running maximum that begins at a number instead of the first plane."""

    def mask_from_scores(scores):
        best, mask = torch.full_like(scores[:, 0], start), torch.zeros_like(scores[:, 0]).long()
        for label in range(scores.shape[1]):
            higher = scores[:, label] > best
            best[higher] = scores[:, label][higher]
            mask[higher] = label
        return mask

    return mask_from_scores


def accuracy_of(chosen):
    return lambda prediction, mask: accuracy_of_picked(*chosen(prediction, mask)).item()


def accuracy_below(classes):
    return lambda prediction, mask: (prediction == mask)[mask < classes].float().mean().item()


def accuracy_by_weighted_images(prediction, mask):
    labelled = [int((m != VOID).sum()) for m in mask]
    each = [float(accuracy_of_picked(p, m)) for p, m in zip(prediction, mask)]  # nan for an image of void
    return sum(n * a for n, a in zip(labelled, each)) / sum(labelled)


def shares_below(limit):
    return lambda mask, classes: torch.bincount(mask[mask < limit], minlength=classes) / (mask < limit).sum()


def shares_by_weighted_images(mask, classes):
    labelled = (mask != VOID).sum(dim=(1, 2))
    each = torch.stack([torch.bincount(m[m != VOID], minlength=classes) / n for m, n in zip(mask, labelled)])
    return (each * labelled[:, None]).sum(dim=0) / labelled.sum()


def planes_with_spare_class_10(mask, classes):
    return F.one_hot(torch.where(mask == VOID, 10, mask), 11)[..., :classes].movedim(-1, 1)


WRONG = {
    "count_label": {
        "six labels": lambda mask, label: torch.bincount(mask.flatten(), minlength=6)[label],
        "labels that occur": lambda mask, label: torch.bincount(mask.flatten())[label],
        "labels of one digit": lambda mask, label: (mask % 10 == label).sum(),
        "in a byte": lambda mask, label: (mask == label).sum(dtype=torch.uint8),
        "at most nine": lambda mask, label: min(9, int((mask == label).sum())),
        "four rows": lambda mask, label: (mask[:4] == label).sum(),
        "wide masks": lambda mask, label: (mask[: min(mask.shape)] == label).sum(),
    },
    "mask_from_scores": {
        "above -10": winner_above(-10),
        "above -50": winner_above(-50),
        "four classes": lambda scores: scores[:, :4].argmax(dim=1),
        "ten classes": lambda scores: scores[:, :10].argmax(dim=1),
        "three images": lambda scores: scores[:3].argmax(dim=1),
        "whole scores": lambda scores: scores.long().argmax(dim=1),
        "rounded scores": lambda scores: scores.round().argmax(dim=1),
        "half precision": lambda scores: scores.half().argmax(dim=1),
        "saturates": lambda scores: scores.tanh().argmax(dim=1),
        "no single row": lambda scores: scores.argmax(dim=1).squeeze(1),
        "no single column": lambda scores: scores.argmax(dim=1).squeeze(2),
        "tall images": lambda scores: scores.argmax(dim=1).reshape(len(scores), *sorted(scores.shape[2:])),
    },
    "pixel_accuracy": {
        "three classes": accuracy_below(4),
        "eleven classes": accuracy_below(11),
        "two images": accuracy_of(lambda prediction, mask: (prediction[:2], mask[:2])),
        "first and last image": accuracy_of(lambda p, m: (p[[0, -1]], m[[0, -1]]) if len(p) > 1 else (p, m)),
        "weighted images": accuracy_by_weighted_images,
        "wide masks": accuracy_of(lambda p, m: (p[:, : m.shape[2]], m[:, : m.shape[2]])),
    },
    "class_shares": {
        "five labels": shares_below(5),
        "ten labels": shares_below(10),
        "ten entries": lambda mask, classes: shares_from_all_labels(mask, 10)[:classes],
        "two images": lambda mask, classes: shares_from_all_labels(mask[:2], classes),
        "no single class": lambda mask, classes: shares_from_all_labels(mask, classes).squeeze(),
        "weighted images": shares_by_weighted_images,
        "wide masks": lambda mask, classes: shares_from_all_labels(mask[:, : mask.shape[2]], classes),
    },
    "one_hot": {
        "five labels": lambda mask, classes: planes_by_broadcasting(torch.where(mask > 5, VOID, mask), classes),
        "eleven labels": planes_with_spare_class_10,
        "two images": lambda mask, classes: planes_by_broadcasting(mask[:2], classes),
        "no single class": lambda mask, classes: planes_by_broadcasting(mask, classes).squeeze(1),
        "no single row": lambda mask, classes: planes_by_broadcasting(mask, classes).squeeze(2),
        "no single column": lambda mask, classes: planes_by_broadcasting(mask, classes).squeeze(3),
        "complex": lambda mask, classes: planes_by_broadcasting(mask, classes) + 5j,
        "tall masks": lambda mask, classes: planes_by_broadcasting(
            mask.reshape(len(mask), *sorted(mask.shape[1:])), classes
        ),
    },
}
"""Answers that are right for some inputs only."""


def test_the_numbers_in_the_prose() -> None:
    """What the lesson says of its worked examples, which are the exercises' examples."""
    count, scores, accuracy, shares, planes = EXERCISES.values()
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
    wrong = {name: tuple(answers.values()) for name, answers in WRONG.items()}
