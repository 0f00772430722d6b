"""The exercises of lesson 09."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segcourse import losses, metrics
from segcourse.exercises import Lesson
from segcourse.exercises.compare import Mismatch, agree, describe_type
from segcourse.exercises.drivers import metrics as drivers
from segcourse.exercises.exercise import Case, Draw, Exercise, Misconception, RandomDraw, draw_tensor, varied
from segcourse.exercises.quiz import Option, Question
from segcourse.void import VOID

STEM = "09_metrics"
Batches = list[tuple[Tensor, Tensor]]


# --- confusion_matrix -------------------------------------------------------------------------------------


def confusion_matrix(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    """Return how many pixels of each class were taken for each class."""
    pairs = target.flatten() * classes + prediction.flatten()
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _labels(draw: Draw, shape: tuple[int, ...], classes: int) -> tuple[Tensor, Tensor]:
    """Predictions and targets, of which about half agree; some classes may be in neither."""
    value = varied(draw)
    used = [c for c in range(classes) if c == 0 or value.integer(0, 3)]
    target = [value.choice(used) for _ in range(math.prod(shape))]
    prediction = [t if value.integer(0, 1) else value.integer(0, classes - 1) for t in target]
    return torch.tensor(prediction).reshape(shape), torch.tensor(target).reshape(shape)


def _two_label_maps(draw: Draw) -> Case:
    """One case in eight has so many pixels that a loop over them is stopped."""
    classes = draw.integer(2, 5)
    if draw.integer(0, 7) == 7:
        pixels = draw.integer(2500, 2700)
        prediction, target = _labels(draw, draw.choice(((pixels,), (2, 25, pixels // 50))), classes)
        return {"prediction": prediction, "target": target, "classes": classes}
    height, width = draw.integer(1, 4), draw.integer(1, 5)
    shape = draw.integer(1, 3), height, width + (width == height)
    prediction, target = _labels(draw, shape[draw.choice((0, 0, 0, 1, 2)) :], classes)
    return {"prediction": prediction, "target": target, "classes": classes}


def _counted_class_by_class(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    rows = [[((target == t) & (prediction == p)).sum() for p in range(classes)] for t in range(classes)]
    return torch.tensor(rows)


def _added_once(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    counts[target, prediction] += 1
    return counts


def _pixel_by_pixel(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for t, p in zip(target.flatten().tolist(), prediction.flatten().tolist()):
        counts[t, p] += 1
    return counts


def _pixel_by_pixel_in_a_list(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    pairs = [t * classes + p for t, p in zip(target.flatten().tolist(), prediction.flatten().tolist())]
    return _counted(torch.tensor(pairs), classes)


def _pixel_by_pixel_of_images(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for n in range(target.shape[0]):
        for i in range(target.shape[1]):
            for j in range(target.shape[2]):
                counts[target[n, i, j], prediction[n, i, j]] += 1
    return counts


def _image_by_image(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for p, t in zip(prediction, target):
        counts += confusion_matrix(p, t, classes)
    return counts


def _one_table_each(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    return torch.stack([confusion_matrix(p, t, classes) for p, t in zip(prediction, target)])


def _size_from(*labels: Tensor) -> int:
    return 1 + max(int(part.max()) for part in labels)


def _pairs_without_a_number_each(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    sums = target.flatten() + prediction.flatten()
    return torch.bincount(sums, minlength=classes**2)[: classes**2].reshape(classes, classes)


def _no_minlength(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    return torch.bincount(target.flatten() * classes + prediction.flatten()).reshape(classes, classes)


def _shares_of_rows(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    counts = confusion_matrix(prediction, target, classes)
    return counts / counts.sum(1, keepdim=True)


def _whole_table(expected: Tensor, got: Any) -> Mismatch | None:
    """Compare the counts, and then their dtype: as the docstring of the exercise promises, and large enough."""
    mismatch = agree(expected, got)
    if mismatch or got.dtype is torch.int64:
        return mismatch
    return Mismatch(f"it returned {describe_type(got)}; the counts are right, but int64 was expected.")


def _pairs(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    return target * classes + prediction


def _counted(pairs: Tensor, classes: int) -> Tensor:
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _example(seed: int, shape: tuple[int, ...], classes: int) -> Case:
    prediction, target = _labels(RandomDraw(seed), shape, classes)
    return {"prediction": prediction, "target": target, "classes": classes}


CONFUSION_MATRIX = Exercise(
    name="confusion_matrix",
    lesson=STEM,
    title="The confusion matrix",
    points=2,
    minutes=9,
    difficulty=1,
    reference=confusion_matrix,
    oracle=_counted_class_by_class,
    cases=_two_label_maps,
    examples=(
        {
            "prediction": torch.tensor([[[0, 0, 1, 2], [0, 1, 1, 1]]]),
            "target": torch.tensor([[[0, 0, 0, 0], [0, 1, 1, 2]]]),
            "classes": 3,
        },
        _example(0, (2, 40, 60), 4),
        _example(1, (2500,), 3),
        _example(2, (1, 4, 9), 23),
        {
            "prediction": torch.tensor([[0, 2, 1], [1, 0, 0]]),
            "target": torch.tensor([[0, 1, 1], [0, 0, 2]]),
            "classes": 4,
        },
        {"prediction": torch.tensor([0, 0, 0]), "target": torch.tensor([0, 0, 0]), "classes": 1},
        {"prediction": torch.zeros(0).long(), "target": torch.zeros(0).long(), "classes": 2},
    ),
    compare=_whole_table,
    drive=drivers.without_pixel_loops,
    runs=30,
    misconceptions=(
        Misconception(
            "rows_and_columns_exchanged",
            lambda prediction, target, classes: confusion_matrix(target, prediction, classes),
            "You exchanged rows and columns. A row belongs to what the pixels are, a column to what they were taken "
            "for: which of the two is multiplied by the number of classes?",
            "One table",
        ),
        Misconception(
            "adds_once",
            _added_once,
            "Each pair was counted once at most. `counts[target, prediction] += 1` reads, adds and writes all places "
            "together; a place that is named twice is written twice with the same number.",
            "How to count without a loop",
        ),
        Misconception(
            "pixel_by_pixel",
            _pixel_by_pixel,
            "Your counts are right, but you go from pixel to pixel. A data set has a hundred million of them: give "
            "each pair of labels a number, and count all numbers at once.",
            "How to count without a loop",
        ),
        Misconception(
            "pixel_by_pixel_in_a_list",
            _pixel_by_pixel_in_a_list,
            "You make a list of the pairs, pixel by pixel. A data set has a hundred million pixels: tensors are "
            "multiplied and added as a whole, too. (And where there is no pixel, `torch.tensor([])` holds floats.)",
            "How to count without a loop",
        ),
        Misconception(
            "pixel_by_pixel_of_images",
            _pixel_by_pixel_of_images,
            "You go from pixel to pixel, along three axes. A data set has a hundred million pixels, and the labels may "
            "have any shape, one axis too: give each pair of labels a number, and count all numbers at once.",
            "How to count without a loop",
        ),
        Misconception(
            "image_by_image",
            _image_by_image,
            "You go along the first axis, image by image. The labels may have any shape; where they have one axis, "
            "that is a loop over pixels. The table does not care which pixel lies where: count all at once.",
            "How to count without a loop",
        ),
        Misconception(
            "one_table_for_each_image",
            _one_table_each,
            "You return a table for each image. All pixels go into one table (C, C).",
            "One table",
        ),
        Misconception(
            "size_from_the_target",
            lambda prediction, target, classes: confusion_matrix(prediction, target, _size_from(target)),
            "You take the number of classes from the largest label of the target. A class may be missing from it, and "
            "the network may name one that is not there: `classes` says how large the table is.",
            "Exercise: the confusion matrix (2 points)",
        ),
        Misconception(
            "size_from_the_labels",
            lambda prediction, target, classes: confusion_matrix(prediction, target, _size_from(prediction, target)),
            "You take the number of classes from the largest label. The last classes may be in neither; their rows and "
            "columns of zeros belong to the table, or two tables could not be added: `classes` says how large it is.",
            "Exercise: the confusion matrix (2 points)",
        ),
        Misconception(
            "pairs_collide",
            _pairs_without_a_number_each,
            "Different pairs got the same number: taken for 1 while it is 0, and taken for 0 while it is 1, both "
            "come to 1. Each pair needs a number of its own.",
            "How to count without a loop",
        ),
        Misconception(
            "no_minlength",
            _no_minlength,
            "Where the last pairs do not occur, `bincount` returns too few numbers, and they do not fill the table. "
            "It can be told how many to return at least.",
            "How to count without a loop",
        ),
        Misconception(
            "only_right_ones",
            lambda prediction, target, classes: confusion_matrix(prediction, target, classes).diag().diag(),
            "You counted the pixels that are right. The others belong into the table too: they tell what was taken "
            "for what.",
            "One table",
        ),
        Misconception(
            "first_image_only",
            lambda prediction, target, classes: confusion_matrix(prediction[0], target[0], classes),
            "You counted the first entry of the first axis alone. All pixels go into one table.",
            "Exercise: the confusion matrix (2 points)",
        ),
        Misconception(
            "shares_of_rows",
            _shares_of_rows,
            "You divided each row by its sum. That is a picture of the table, not the table: shares of two batches "
            "cannot be added up, counts can.",
            "One table",
        ),
        Misconception(
            "as_floats",
            lambda prediction, target, classes: confusion_matrix(prediction, target, classes).float(),
            "Your numbers are right, but they are float32. A float32 counts to 16,777,216, and adding 1 then changes "
            "nothing; a data set has more pixels. Keep counts whole.",
            "How to count without a loop",
        ),
        Misconception(
            "too_few_bits",
            lambda prediction, target, classes: confusion_matrix(prediction, target, classes).int(),
            "Your counts are right, but their dtype is too small for a data set: int32 ends at 2,147,483,647, int16 at "
            "32,767. Return int64.",
            "Exercise: the confusion matrix (2 points)",
        ),
        Misconception(
            "always_11_classes",
            lambda prediction, target, classes: _counted(_pairs(prediction, target, 11).flatten(), 11),
            "Your table has 11 rows and columns whatever `classes` says. The streets have eleven classes, other data "
            "have not.",
            "Exercise: the confusion matrix (2 points)",
        ),
        Misconception(
            "flattened_from_axis_1",
            lambda prediction, target, classes: _counted(_pairs(prediction, target, classes).flatten(1), classes),
            "`flatten(1)` keeps the first axis. `bincount` takes one axis only, and labels may have one axis to begin "
            "with: flatten all of them.",
            "How to count without a loop",
        ),
        Misconception(
            "not_flattened",
            lambda prediction, target, classes: _counted(_pairs(prediction, target, classes), classes),
            "`bincount` takes a tensor with one axis. Labels may have any number of axes: flatten them first.",
            "How to count without a loop",
        ),
        Misconception(
            "view_of_what_is_not_contiguous",
            lambda prediction, target, classes: _counted(_pairs(prediction, target, classes).view(-1), classes),
            "`view(-1)` needs the numbers to lie in memory in the order of the axes; a transposed tensor's do not. "
            "`flatten()` and `reshape(-1)` copy where they must.",
            "Exercise: the confusion matrix (2 points)",
        ),
    ),
    hints=(
        "A pixel is a pair: what it is, what it was taken for. With C classes there are C times C pairs. How can a "
        "pair become one number, a different one for each?",
        "The number of a place in a table of C columns is row times C plus column. `torch.bincount` counts how often "
        "each number occurs in a tensor with one axis; tell it how many numbers there are at least, and reshape.",
        "pairs = target.flatten() * classes + ..., then torch.bincount(pairs, minlength=...).reshape(classes, classes)",
    ),
    property="row t, column p holds the number of pixels that are t and were taken for p; all entries add up to the "
    "number of pixels.",
)


# --- region_metrics ---------------------------------------------------------------------------------------


def region_metrics(counts: Tensor) -> dict[str, float]:
    """Return the four metrics of Long et al. from a confusion matrix."""
    right, target, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    iou = right / (target + predicted - right)  # nan, from 0/0, for a class that is in neither
    return {
        "accuracy": float(right.sum() / counts.sum()),
        "mean accuracy": float((right / target).nanmean()),
        "mean IoU": float(iou.nanmean()),
        "frequency-weighted IoU": float((target * iou).nansum() / counts.sum()),
    }


def _table(draw: Draw) -> Case:
    """Counts with more on the diagonal; a class may be absent, only be predicted, or be missed altogether."""
    classes = draw.choice((3, 2, 3, 2, 4, 3, 5))
    counts = draw_tensor(draw, (classes, classes), 0, 9).long()
    counts += draw_tensor(draw, (classes, classes), 3, 40).long() * torch.eye(classes, dtype=torch.int64)
    fate, which = draw.choice(("none", "none", "absent", "only predicted", "missed")), draw.integer(0, classes - 1)
    other = (which + 1) % classes
    if fate in ("absent", "only predicted"):
        counts[which] = 0
    if fate in ("absent", "missed"):
        counts[:, which] = 0
    if fate == "only predicted":
        counts[other, which] += 2
    elif fate == "missed":
        counts[which, other] += 2
    return {"counts": counts}


def _metrics_of_the_course(counts: Tensor) -> dict[str, float]:
    matrix = metrics.ConfusionMatrix(len(counts))
    matrix.counts = counts
    return {
        "accuracy": matrix.accuracy,
        "mean accuracy": matrix.mean_accuracy,
        "mean IoU": matrix.mean_iou,
        "frequency-weighted IoU": matrix.frequency_weighted_iou,
    }


def _metrics_with(**changed: Callable[[Tensor, Tensor, Tensor], Any]) -> Callable[[Tensor], dict[str, float]]:
    """The metrics with mistakes in some of them, each from (right, target, predicted) of the classes as doubles."""

    def wrong(counts: Tensor) -> dict[str, float]:
        counts = counts.double()
        parts = counts.diagonal(), counts.sum(1), counts.sum(0)
        found = _metrics_of_the_course(counts.long())
        return found | {name.replace("_", " ").replace("fw", "frequency-weighted"): float(change(*parts))
                        for name, change in changed.items()}  # fmt: skip

    return wrong


def _metrics_as(written: Callable[[float], float]) -> Callable[[Tensor], dict[str, float]]:
    """The right metrics, each written in another way."""
    return lambda counts: {name: written(value) for name, value in _metrics_of_the_course(counts).items()}


def _union(right: Tensor, target: Tensor, predicted: Tensor) -> Tensor:
    return target + predicted - right


def _weighted(iou: Tensor, weights: Tensor) -> Tensor:
    return (weights * iou).nansum() / weights.sum()


ABSENT = {
    "mean_IoU": lambda absent: lambda r, t, p: (r / _union(r, t, p)).nan_to_num(absent).mean(),
    "mean_accuracy": lambda absent: lambda r, t, p: (r / t).nan_to_num(absent).mean(),
    "fw_IoU": lambda absent: lambda r, t, p: (t * (r / _union(r, t, p)).nan_to_num(absent)).sum() / t.sum(),
}
"""The means in which a class with 0/0 counts as a number, or as nan."""
ABSENT_AS_ZERO = (
    "A class that is not there counts as 0 in your {}. (So it does where a small number is added to a denominator.) "
    "Nothing was done wrong there: 0/0 is left out here."
)
ABSENT_AS_ONE = (
    "A class that is not there counts as 1 in your {}: a present for every class that an image does not have. 0/0 is "
    "left out here."
)
NAN_IN_THE_MEAN = (
    "Where a class is not there you divide 0 by 0. That is nan, and one nan makes a whole sum or mean nan: your {}. "
    "Leave such classes out there."
)


MISSED_IN_THE_IOU = ("mean_IoU", lambda r, t, p: (r / _union(r, t, p))[p > 0].mean())
MISSED_IN_THE_ACCURACY = ("mean_accuracy", lambda r, t, p: (r / t)[p > 0].nanmean())
"""The means over the classes that are predicted."""


def _absent_classes(name: str, absent: float, says: str) -> list[Misconception]:
    """The mistake in all the means that it changes, and in some of them only: a diagnosis for each choice."""
    means = [
        "mean_IoU",
        "mean_accuracy",
        *(["fw_IoU"] if math.isnan(absent) else []),
    ]  # a share of 0 times a number is 0
    chosen = [part for size in range(len(means), 0, -1) for part in itertools.combinations(means, size)]
    return [
        Misconception(
            name if part == tuple(means) else f"{name}:{'+'.join(part)}",
            _metrics_with(**{metric: ABSENT[metric](absent) for metric in part}),
            says.format(" and ".join(part).replace("_", " ").replace("fw", "frequency-weighted")),
            "Nothing of nothing",
        )
        for part in chosen
    ]


REGION_METRICS = Exercise(
    name="region_metrics",
    lesson=STEM,
    title="Four metrics from one table",
    points=2,
    minutes=10,
    difficulty=2,
    reference=region_metrics,
    oracle=_metrics_of_the_course,
    cases=_table,
    examples=(
        {"counts": torch.tensor([[3, 1, 1], [0, 2, 0], [0, 1, 0]])},
        {"counts": torch.tensor([[90, 0, 3], [0, 0, 0], [2, 0, 5]])},  # class 1 is absent
        {"counts": torch.tensor([[20, 4, 0], [3, 9, 5], [0, 0, 0]])},  # class 2 is only predicted
        {"counts": torch.tensor([[7, 2], [4, 1]])},
        {"counts": torch.tensor([[5, 0], [2, 0]])},  # class 1 is missed
        {"counts": torch.tensor([[30, 2, 0], [5, 12, 0], [3, 1, 0]])},
        {"counts": torch.tensor([[1_500_000_000, 300_000_000], [200_000_000, 900_000_000]])},
        {"counts": torch.tensor([[6]])},
    ),
    runs=30,
    misconceptions=(
        Misconception(
            "union_counts_twice",
            _metrics_with(
                mean_IoU=lambda r, t, p: (r / (t + p)).nanmean(), fw_IoU=lambda r, t, p: _weighted(r / (t + p), t)
            ),
            "Your union counts the pixels that both have twice: they are in the row's sum and in the column's sum.",
            "What the table says",
        ),
        Misconception(
            "dice_for_iou",
            _metrics_with(
                mean_IoU=lambda r, t, p: (2 * r / (t + p)).nanmean(),
                fw_IoU=lambda r, t, p: _weighted(2 * r / (t + p), t),
            ),
            "What you compute for a class is the Dice coefficient: twice the intersection over the sum of the two "
            "sizes. IoU divides the intersection by the union.",
            "What the table says",
        ),
        Misconception(
            "recall_for_iou",
            _metrics_with(mean_IoU=lambda r, t, p: (r / t).nanmean(), fw_IoU=lambda r, t, p: _weighted(r / t, t)),
            "In the IoU you divided by the pixels of the class alone. The union also holds those that were wrongly "
            "taken for it.",
            "What the table says",
        ),
        Misconception(
            "rows_for_columns",
            _metrics_with(
                mean_accuracy=lambda r, t, p: (r / p).nanmean(),
                fw_IoU=lambda r, t, p: _weighted(r / _union(r, t, p), p),
            ),
            "You exchanged rows and columns. The accuracy of a class and its frequency are about the pixels that *are* "
            "of the class: along which axis are they added up?",
            "One table",
        ),
        Misconception(
            "precision_for_accuracy",
            _metrics_with(mean_accuracy=lambda r, t, p: (r / p).nanmean()),
            "For the accuracy of a class you divided by what was *taken for* it: that share is called precision. The "
            "accuracy of a class is a share of the pixels that *are* of the class.",
            "What the table says",
        ),
        Misconception(
            "weights_by_prediction",
            _metrics_with(fw_IoU=lambda r, t, p: _weighted(r / _union(r, t, p), p)),
            "Your weights are the shares of the predictions. A class is as frequent as it is in the targets; otherwise "
            "a network could choose what it is measured by.",
            "What the table says",
        ),
        *_absent_classes("absent_as_zero", 0, ABSENT_AS_ZERO),
        *_absent_classes("absent_as_one", 1, ABSENT_AS_ONE),
        Misconception(
            "only_targets_classes",
            _metrics_with(mean_IoU=lambda r, t, p: (r / _union(r, t, p))[t > 0].mean()),
            "You left out every class that the targets do not have, from the mean IoU too. A class that was predicted "
            "and is not there is no 0/0: its union holds pixels, its intersection none.",
            "Nothing of nothing",
        ),
        *(
            Misconception(
                f"only_predicted_classes{part}",
                _metrics_with(**dict(changed)),
                "You left out a class that the network never names. It is there and missed: its IoU is 0 and counts, "
                "and so does its accuracy, which is 0 too.",
                "Nothing of nothing",
            )
            for part, changed in (
                ("", (MISSED_IN_THE_IOU,)),
                (":both", (MISSED_IN_THE_IOU, MISSED_IN_THE_ACCURACY)),
                (":mean_accuracy", (MISSED_IN_THE_ACCURACY,)),
            )
        ),
        Misconception(
            "only_classes_that_are_both",
            _metrics_with(mean_IoU=lambda r, t, p: (r / _union(r, t, p))[(t > 0) & (p > 0)].mean()),
            "Your mean IoU leaves out every class that is missed altogether or only predicted. Neither is a 0/0: the "
            "union holds pixels, the intersection none, and the IoU is a plain 0.",
            "Nothing of nothing",
        ),
        Misconception(
            "only_classes_with_something_right",
            _metrics_with(mean_IoU=lambda r, t, p: (r / _union(r, t, p))[r > 0].mean()),
            "Your mean IoU leaves out every class of which no pixel is right. Its IoU is 0, and 0 counts; only 0/0 is "
            "left out.",
            "Nothing of nothing",
        ),
        *_absent_classes("nan_in_the_mean", math.nan, NAN_IN_THE_MEAN),
        Misconception(
            "only_predicted_in_the_accuracy",
            _metrics_with(mean_accuracy=lambda r, t, p: (r / t).nan_to_num(0)[_union(r, t, p) > 0].mean()),
            "A class that is only predicted counts as 0 in your mean accuracy. It has no pixels of its own, so its "
            "accuracy is 0/0 and left out, though its IoU is not.",
            "Nothing of nothing",
        ),
        Misconception(
            "one_total_iou",
            _metrics_with(mean_IoU=lambda r, t, p: r.sum() / _union(r, t, p).sum()),
            "You added up the intersections and the unions of all classes and divided once. That is a number over "
            "pixels. Here each class has an IoU of its own, and the mean is over these.",
            "What the table says",
        ),
        Misconception(
            "mean_for_the_weighted_sum",
            _metrics_with(fw_IoU=lambda r, t, p: (t / t.sum() * r / _union(r, t, p)).nanmean()),
            "You took the mean of the weighted IoUs. The weights are shares and add up to 1 already: their *sum* is "
            "the mean.",
            "What the table says",
        ),
        Misconception(
            "in_percent",
            _metrics_as(lambda value: 100 * value),
            "Your values are in percent. Shares from 0 to 1 are asked for.",
            "Exercise: four metrics from one table (2 points)",
        ),
        *(
            Misconception(
                f"rounded_to_{digits}",
                _metrics_as(functools.partial(round, ndigits=digits)),
                f"You rounded to {digits} digits. Return the numbers as they are, and round where you print them.",
                "Exercise: four metrics from one table (2 points)",
            )
            for digits in (2, 3, 4)
        ),
        Misconception(
            "accuracies_exchanged",
            _metrics_with(accuracy=lambda r, t, p: (r / t).nanmean(), mean_accuracy=lambda r, t, p: r.sum() / t.sum()),
            "You exchanged the two accuracies. One is a share of all pixels; the other is a mean over classes, each "
            "with the same weight.",
            "What the table says",
        ),
        Misconception(
            "weights_not_shares",
            _metrics_with(fw_IoU=lambda r, t, p: (t * r / _union(r, t, p)).nansum() / len(r)),
            "You weighted by numbers of pixels and divided by the number of classes. The weights of a mean add up to "
            "1: they are shares of all pixels.",
            "What the table says",
        ),
    ),
    hints=(
        "Three numbers of each class are enough for everything: how many of its pixels are right, how many it has, "
        "how many were taken for it. Where do they stand in the table?",
        "The diagonal, the sums of the rows, the sums of the columns: three tensors of C numbers. A union is the one "
        "sum plus the other, less what both hold. `nanmean` and `nansum` leave nan out.",
        "right, target, predicted = counts.diagonal(), counts.sum(1), counts.sum(0); iou = right / (... - right); then "
        "float(right.sum() / ...), float((right / target).nanmean()), float(iou.nanmean()), a weighted sum of iou",
    ),
    property="all four lie between 0 and 1; classes with 0/0 are in no mean; the weights are the classes' shares "
    "of the target pixels.",
)


# --- dice_from_iou ----------------------------------------------------------------------------------------


def dice_from_iou(iou: Tensor) -> Tensor:
    """Return the Dice coefficients that belong to values of IoU."""
    return 2 * iou / (1 + iou)


def _shares(draw: Draw) -> Case:
    shape = (draw.integer(1, 5),) if draw.integer(0, 1) else (draw.integer(1, 3), draw.integer(4, 5))
    iou = draw_tensor(draw, shape, 0, 20)
    iou = (iou.double() if draw.integer(0, 4) == 4 else iou) / 20
    if draw.integer(0, 2) == 2:
        iou[..., 0] = math.nan
    return {"iou": iou}


def _dice_of_sets(iou: Tensor) -> Tensor:
    """Two sets whose union has 1 in all: the intersection is then the IoU, and the sizes add up to 1 + IoU."""
    union, both = torch.ones_like(iou), iou
    return both / ((union + both) / 2)


def _dice_with_a_small_number(iou: Tensor, small: float, above: bool) -> Tensor:
    return (2 * iou + small * above) / (1 + iou + small)


DICE_FROM_IOU = Exercise(
    name="dice_from_iou",
    lesson=STEM,
    title="Dice from IoU",
    points=1,
    minutes=5,
    difficulty=1,
    reference=dice_from_iou,
    oracle=_dice_of_sets,
    cases=_shares,
    examples=(
        {"iou": torch.tensor([0.0, 0.25, 0.6, 1.0])},
        {"iou": torch.tensor([[0.5], [math.nan], [0.1]])},
        {"iou": torch.tensor([0.2, 0.6], dtype=torch.float64)},
    ),
    misconceptions=(
        Misconception(
            "dice_is_iou",
            lambda iou: iou.clone(),
            "You returned the IoU itself. The two agree at 0 and at 1 only: in between, Dice is larger.",
            "Dice",
        ),
        Misconception(
            "the_other_way",
            lambda iou: iou / (2 - iou),
            "That is the IoU that belongs to a Dice coefficient: the other way round. Which of the two is the larger?",
            "Dice",
        ),
        Misconception(
            "twice_iou",
            lambda iou: 2 * iou,
            "You doubled the intersection and left the union as it is. Dice divides by the sum of the two sizes, and a "
            "share cannot be larger than 1.",
            "Dice",
        ),
        Misconception(
            "minus_in_the_denominator",
            lambda iou: 2 * iou / (1 - iou),
            "Your denominator is the union *less* the intersection. The two sizes together count the intersection "
            "once more than the union does.",
            "Dice",
        ),
        Misconception(
            "no_factor",
            lambda iou: iou / (1 + iou),
            "You forgot the 2: for two equal masks your Dice coefficient is one half.",
            "Dice",
        ),
        Misconception(
            "nan_as_zero",
            lambda iou: (2 * iou / (1 + iou)).nan_to_num(0),
            "You turned nan to 0. A class that is in neither mask has no IoU and no Dice: nan stays nan, and whoever "
            "takes the mean leaves it out.",
            "Nothing of nothing",
        ),
        Misconception(
            "of_the_mean",
            lambda iou: 2 * iou.nanmean() / (1 + iou.nanmean()),
            "You took the mean first. Each IoU has a Dice coefficient of its own; the answer has the input's shape.",
            "Exercise: Dice from IoU (1 point)",
        ),
        Misconception(
            "no_brackets",
            lambda iou: 2 * iou / 1 + iou,
            "You divide by 1 and then add the IoU: `2 * iou / 1 + iou` is read from the left. The sum below the line "
            "needs brackets.",
            "Dice",
        ),
        *(
            Misconception(
                f"{small:g}_added{'_above_too' * above}",
                functools.partial(_dice_with_a_small_number, small=small, above=above),
                "You added a small number, as against a division by 0. 1 + IoU is never 0: nothing need be added, and "
                "what is added makes the number a little wrong.",
                "Dice",
            )
            for small in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12)
            for above in (False, True)
        ),
    ),
    hints=(
        "Call the intersection I and the union U. How large are the two masks together, in I and U?",
        "The two sizes add up to U + I, so that Dice is 2 I over U + I. Divide the numerator and the denominator by U.",
        "numerator: 2 times iou; denominator: 1 plus ...",
    ),
    property="0 stays 0, 1 stays 1, nan stays nan, all between grows; the shape is the input's.",
)


# --- data_set_iou -----------------------------------------------------------------------------------------


def data_set_iou(batches: Batches) -> float:
    """Return the mean IoU over a data set that comes in batches."""
    counts: Any = 0
    for scores, target in batches:
        known = target != 255
        counts = counts + confusion_matrix(scores.argmax(1)[known], target[known], scores.shape[1])
    right = counts.diagonal()
    return float((right / (counts.sum(0) + counts.sum(1) - right)).nanmean())


def _labelled_images(draw: Draw) -> Case:
    """Predicted labels and targets with void; a class may be absent, only be predicted, or be missed altogether."""
    return _labelled(draw, draw.integer(3, 4), draw.choice(((1, 2), (2, 1), (1,), (1, 1, 2), (3, 1), (2, 2), (2,))))


def _labelled(draw: Draw, classes: int, batch_sizes: Sequence[int]) -> Case:
    shape = sum(batch_sizes), draw.integer(2, 3), draw.integer(4, 6)
    generator = torch.Generator().manual_seed(draw.integer(0, 9999))
    target = torch.randint(classes, shape, generator=generator)
    guess = torch.randint(classes, shape, generator=generator)
    labels = torch.where(torch.rand(shape, generator=generator) < 0.5, target, guess)
    target[torch.rand(shape, generator=generator) < 0.2] = VOID
    target[:, 0, 0] = torch.arange(len(target)) % classes  # a pixel of each image is known
    fate, which = draw.choice(("none", "absent", "only predicted", "missed")), draw.integer(0, classes - 1)
    other = (which + 1) % classes
    if fate in ("absent", "only predicted"):
        target[target == which] = other
    if fate in ("absent", "missed"):
        labels[labels == which] = other
    if fate == "missed":
        target[0, 0, 0] = which
    if len(batch_sizes) > 1 and draw.integer(0, 3) == 3:
        target[-batch_sizes[-1] :] = VOID
    return {"labels": labels, "target": target, "classes": classes, "batch_sizes": list(batch_sizes)}


def _of_rows(labels: Sequence[Any], target: Sequence[Any], classes: int, batch_sizes: list[int]) -> Case:
    """A case by hand."""
    return {
        "labels": torch.tensor(labels),
        "target": torch.tensor(target),
        "classes": classes,
        "batch_sizes": batch_sizes,
    }


@dataclass
class Raised:
    """An answer that raised on labels of another shape, told by what it makes of a batch where all axes are as long."""

    on_a_cube: float
    says: str = field(compare=False)


@dataclass
class Changed:
    """An answer that changed its input."""

    changed: str


def _value_or_what_happened(case: Case, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kinds = {name: type(part).__name__ for name, part in value.items()}
    return next((kind(**value) for kind in (Raised, Changed) if kinds == kind.__annotations__), value)


def _same_number(expected: Any, got: Any) -> Mismatch | None:
    if isinstance(got, Raised):
        return Mismatch(got.says)
    if isinstance(got, Changed):
        return Mismatch(f"it changed {got.changed}. Work on a copy, or build a new value.")
    return agree(expected, got)


def _by_the_courses_matrix(batches: Batches) -> float:
    matrix = metrics.ConfusionMatrix(batches[0][0].shape[1])
    for scores, target in batches:
        matrix.add(scores.argmax(1), target)
    return matrix.mean_iou


def _iou(right: Tensor, target: Tensor, predicted: Tensor) -> Tensor:
    return right / _union(right, target, predicted)


def _best(scores: Tensor) -> Tensor:
    return scores.argmax(1)


def _data_set_with(
    mean: Callable[[Tensor], Tensor] = torch.nanmean,
    void: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]] = lambda p, t, classes: (p[t != VOID], t[t != VOID]),
    pieces: Callable[[Batches], list[Batches]] = lambda batches: [batches],
    share: Callable[[Tensor, Tensor, Tensor], Tensor] = _iou,
    labels: Callable[[Tensor], Tensor] = _best,
    weigh: Callable[[Batches], float] = lambda piece: 1.0,
    skip_nan: bool = True,
) -> Callable[[Batches], float]:
    """A mistake in the data set's IoU.

    Args:
        mean: how the classes' IoU (C,), nan where absent, become a number.
        void: (prediction, target, classes) -> what is counted of them.
        pieces: the parts of the data set that have a mean IoU each, whose mean is returned.
        share: (right, target, predicted), (C,) each -> what is averaged in place of the IoU.
        labels: scores -> labels.
        weigh: a piece's weight in the mean of the pieces.
        skip_nan: whether pieces without a value are left out of their mean.
    """

    def wrong(batches: Batches) -> float:
        values, weights = [], []
        for piece in pieces(batches):
            classes = piece[0][0].shape[1]
            pairs = [void(labels(scores).reshape(target.shape), target, classes) for scores, target in piece]
            prediction, target = (torch.cat([pair[i].flatten() for pair in pairs]) for i in (0, 1))
            is_predicted, is_target = (torch.stack([x == c for c in range(classes)]) for x in (prediction, target))
            sums = [(part.sum(1)).double() for part in (is_predicted & is_target, is_target, is_predicted)]
            value = float(mean(share(*sums)))
            if not (skip_nan and math.isnan(value)):
                values.append(value)
                weights.append(weigh(piece))
        return sum(v * w for v, w in zip(values, weights)) / sum(weights)

    return wrong


def _each_image(batches: Batches) -> list[Batches]:
    return [[(s[None], t[None])] for scores, target in batches for s, t in zip(scores, target)]


def _each_batch(batches: Batches) -> list[Batches]:
    return [[batch] for batch in batches]


def _images_of(piece: Batches) -> float:
    return sum(len(target) for _, target in piece)


def _known_of(piece: Batches) -> float:
    return sum(int((target != VOID).sum()) for _, target in piece)


def _each_class_and_image(batches: Batches) -> Tensor:
    """The IoU (N, C) of each class in each image, nan where it is absent."""
    rows = []
    for [(scores, target)] in _each_image(batches):
        matrix = metrics.ConfusionMatrix(scores.shape[1])
        matrix.add(scores.argmax(1), target)
        rows.append(matrix.iou)
    return torch.stack(rows)


def _pixels_in_the_wrong_order(scores: Tensor) -> Tensor:
    return scores.reshape(-1, scores.shape[1]).argmax(1)


def _classes_from_the_targets(batches: Batches) -> float:
    counts: Any = 0
    for scores, target in batches:
        known = target != VOID
        classes = int(target[known].max()) + 1
        counts = counts + confusion_matrix(scores.argmax(1)[known], target[known], classes)
    right = counts.diagonal()
    return float((right / (counts.sum(0) + counts.sum(1) - right)).nanmean())


def _emptied(batches: Batches) -> float:
    every = []
    while batches:
        every.append(batches.pop(0))
    return data_set_iou(every)


def _right_over_known(batches: Batches) -> float:
    prediction = torch.cat([scores.argmax(1) for scores, _ in batches])
    target = torch.cat([target for _, target in batches])
    return float((prediction == target)[target != VOID].double().mean())


def _argmax_over(axis: int) -> Callable[[Batches], float]:
    def wrong(batches: Batches) -> float:
        matrix = metrics.ConfusionMatrix(batches[0][0].shape[1])
        for scores, target in batches:
            labels = scores.argmax(axis)
            if labels.shape != target.shape:
                raise IndexError(f"labels {tuple(labels.shape)}, target {tuple(target.shape)}")
            matrix.add(labels.clamp(max=scores.shape[1] - 1), target)
        return matrix.mean_iou

    return wrong


def _argmax_over_images_compared(batches: Batches) -> float:
    """Class by class: labels (C, H, W) of a batch of one image can be compared with its target, and are."""
    classes = batches[0][0].shape[1]
    both, either = torch.zeros(classes).double(), torch.zeros(classes).double()
    for scores, target in batches:
        labels, known = scores.argmax(0), target != VOID
        for c in range(classes):
            both[c] += ((labels == c) & (target == c) & known).sum()
            either[c] += (((labels == c) | (target == c)) & known).sum()
    return float((both / either).nanmean())


def _only_those_of_targets(batches: Batches) -> float:
    target = torch.cat([target.flatten() for _, target in batches])

    def mean(iou: Tensor) -> Tensor:
        return iou[target[target != VOID].unique()].mean()

    return _data_set_with(mean=mean)(batches)


DATA_SET_IOU = Exercise(
    name="data_set_iou",
    lesson=STEM,
    title="Mean IoU of a data set",
    points=2,
    minutes=10,
    difficulty=2,
    reference=data_set_iou,
    oracle=_by_the_courses_matrix,
    cases=_labelled_images,
    examples=(
        _of_rows(  # class 2 is predicted on void only
            [[[0, 0, 1], [2, 1, 1]], [[1, 1, 0], [0, 0, 2]]],
            [[[0, 1, 1], [VOID, 1, 1]], [[1, 0, 0], [0, 0, VOID]]],
            3,
            [1, 1],
        ),
        _of_rows(  # class 2 is missed
            [[[0, 0, 1], [0, 1, 1]], [[1, 1, 0], [0, 0, 0]]],
            [[[0, 2, 1], [2, 1, 0]], [[1, 0, VOID], [0, 0, 0]]],
            3,
            [2],
        ),
        _of_rows(  # the last image is all void, in a batch with another
            [[[0, 2], [1, 1]], [[1, 1], [0, 0]], [[0, 1], [1, 2]]],
            [[[0, 0], [1, 1]], [[1, 0], [0, 0]], [[VOID] * 2] * 2],
            3,
            [1, 2],
        ),
        _of_rows(  # the last batch is all void
            [[[2, 1, 1], [0, 0, 1]], [[0, 2, 1], [1, 0, 0]]], [[[2, 1, 0], [0, 1, 1]], [[VOID] * 3] * 2], 3, [1, 1]
        ),
        _labelled(RandomDraw(3), 4, (1, 2)),
        _labelled(RandomDraw(5), 23, (3, 1)),
    ),
    compare=_same_number,
    drive=drivers.in_batches,
    measure=_value_or_what_happened,
    runs=30,
    misconceptions=(
        *(
            Misconception(
                f"mean_of_images{':nan' * (not skip_nan)}",
                _data_set_with(pieces=_each_image, skip_nan=skip_nan),
                "You took the mean of the images' mean IoU. An image with two pixels of a class then weighs as much "
                "for it as one with two thousand: count first, over all images, and divide once.",
                "Images or the data set",
            )
            for skip_nan in (True, False)
        ),
        *(
            Misconception(
                f"mean_of_batches{':' * bool(weighted)}{weighted}{':nan' * (not skip_nan)}",
                _data_set_with(pieces=_each_batch, weigh=weigh, skip_nan=skip_nan),
                f"You took the mean of the batches' mean IoU{words}. It changes with the way the images are cut into "
                "batches. Add up the counts, and divide once.",
                "Images or the data set",
            )
            for weighted, weigh, words in (
                ("", lambda piece: 1.0, ""),
                ("by_images", _images_of, ", each weighted by its number of images"),
                ("by_pixels", _known_of, ", each weighted by its number of pixels"),
            )
            for skip_nan in (True, False)
        ),
        Misconception(
            "mean_of_images_for_each_class",
            lambda batches: float(_each_class_and_image(batches).nanmean(0).nanmean()),
            "You took the IoU of each class in each image, and the mean over images first. An image with two pixels of "
            "a class then weighs as much for it as one with two thousand: count first, and divide once.",
            "Images or the data set",
        ),
        Misconception(
            "mean_of_classes_and_images",
            lambda batches: float(_each_class_and_image(batches).nanmean()),
            "You took the mean over all classes of all images. An image with two pixels of a class then weighs as much "
            "for it as one with two thousand: count first, over all images, and divide once.",
            "Images or the data set",
        ),
        Misconception(
            "last_batch_only",
            _data_set_with(pieces=lambda batches: [batches[-1:]]),
            "Only the last batch is in your counts. Those of each batch are added to the ones before.",
            "Images or the data set",
        ),
        Misconception(
            "void_in_the_union",
            _data_set_with(void=lambda p, t, classes: (p, t)),
            "Void pixels are in your unions: whatever is predicted there counts as a mistake. Nobody knows what these "
            "pixels are; take them out of the prediction and of the target.",
            "Void",
        ),
        Misconception(
            "void_is_class_0",
            _data_set_with(void=lambda p, t, classes: (p, t.where(t != VOID, 0))),
            "You made void a pixel of class 0. It is none of the classes.",
            "Void",
        ),
        Misconception(
            "void_is_the_last_class",
            _data_set_with(void=lambda p, t, classes: (p, t.clamp(max=classes - 1))),
            "You made void a pixel of the last class. It is none of the classes.",
            "Void",
        ),
        Misconception(
            "void_is_right",
            _data_set_with(void=lambda p, t, classes: (p, t.where(t != VOID, p))),
            "You count void pixels as right, whatever was predicted there. Nobody knows what they are: they belong "
            "neither to the intersections nor to the unions.",
            "Void",
        ),
        Misconception(
            "absent_as_zero",
            _data_set_with(mean=lambda iou: iou.nan_to_num(0).mean()),
            "A class that is neither in the targets nor in the predictions counts as 0 in your mean. Leave it out.",
            "Nothing of nothing",
        ),
        Misconception(
            "absent_as_one",
            _data_set_with(mean=lambda iou: iou.nan_to_num(1).mean()),
            "A class that is neither in the targets nor in the predictions counts as 1 in your mean. Leave it out.",
            "Nothing of nothing",
        ),
        Misconception(
            "nan_in_the_mean",
            _data_set_with(mean=lambda iou: iou.mean()),
            "For a class that is in neither you divide 0 by 0, and one nan makes the whole mean nan.",
            "Nothing of nothing",
        ),
        Misconception(
            "only_targets_classes",
            _only_those_of_targets,
            "Your mean is over the classes of the targets. A class that was predicted and is not there has an IoU too: "
            "0 of some pixels.",
            "Nothing of nothing",
        ),
        Misconception(
            "only_predicted_classes",
            _data_set_with(share=lambda r, t, p: _iou(r, t, p).where(p > 0, math.nan)),
            "You left out a class that the network never names. It is there and missed: its IoU is 0 and counts.",
            "Nothing of nothing",
        ),
        Misconception(
            "lowest_score",
            _data_set_with(labels=lambda scores: scores.argmin(1)),
            "You took the class with the lowest score. The label is the class with the highest.",
            "Exercise: mean IoU of a data set (2 points)",
        ),
        Misconception(
            "pixels_in_the_wrong_order",
            _data_set_with(labels=_pixels_in_the_wrong_order),
            "`reshape(-1, C)` cuts the memory into pieces of C numbers. In scores (N, C, H, W) these are neighbours in "
            "a row, not the scores of a pixel. Take the argmax first, or bring the classes to the end with `permute`.",
            "Exercise: mean IoU of a data set (2 points)",
        ),
        Misconception(
            "mean_accuracy",
            _data_set_with(share=lambda r, t, p: r / t),
            "That is the mean accuracy: you divided by the pixels of the class alone. The union also holds those that "
            "were wrongly taken for it.",
            "What the table says",
        ),
        Misconception(
            "mean_dice",
            _data_set_with(share=lambda r, t, p: 2 * r / (t + p)),
            "That is the mean Dice coefficient: twice the intersection over the sum of the two sizes. IoU divides the "
            "intersection by the union.",
            "Dice",
        ),
        Misconception(
            "union_counts_twice",
            _data_set_with(share=lambda r, t, p: r / (t + p)),
            "Your union counts the pixels that both have twice: they are in the row's sum and in the column's sum.",
            "What the table says",
        ),
        Misconception(
            "classes_from_the_targets",
            _classes_from_the_targets,
            "You take the number of classes from the labels of the targets. A batch need not hold the last class, nor "
            "any pixel that is known, and the network may name classes that it does not hold. The scores have an axis "
            "for the classes: its length is C.",
            "Exercise: mean IoU of a data set (2 points)",
        ),
        Misconception(
            "changes_the_list",
            _emptied,
            "Your function changes the list of batches, and whoever called it finds another one afterwards. Go through "
            "it with `for`, and leave it as it is.",
            "Exercise: mean IoU of a data set (2 points)",
        ),
        Misconception(
            "argmax_over_images",
            _argmax_over(0),
            "Your argmax goes over the first axis: it asks which *image* has the highest score. The axes of scores are "
            "(N, C, H, W); which one is to go?",
            "Exercise: mean IoU of a data set (2 points)",
        ),
        Misconception(
            "argmax_over_images_compared",
            _argmax_over_images_compared,
            "Your argmax goes over the first axis: it asks which *image* has the highest score. The axes of scores are "
            "(N, C, H, W); which one is to go?",
            "Exercise: mean IoU of a data set (2 points)",
        ),
        Misconception(
            "argmax_over_rows",
            _argmax_over(2),
            "Your argmax goes over the third axis: it asks which *row* has the highest score. The axes of scores are "
            "(N, C, H, W); which one is to go?",
            "Exercise: mean IoU of a data set (2 points)",
        ),
        Misconception(
            "argmax_over_columns",
            _argmax_over(3),
            "Your argmax goes over the last axis: it asks which *column* has the highest score. The axes of scores are "
            "(N, C, H, W); which one is to go?",
            "Exercise: mean IoU of a data set (2 points)",
        ),
        Misconception(
            "accuracy",
            _right_over_known,
            "That is the accuracy: the share of known pixels that are right. IoU is computed class by class.",
            "What the table says",
        ),
    ),
    hints=(
        "Which of your functions counts, and what do its counts of two batches have to do with those of both together?",
        "For each batch: labels by argmax over the classes, keep the pixels whose target is not 255, count, and add "
        "to the counts so far. After the last batch: the IoU of each class, and the mean without nan.",
        "known = target != 255; counts = counts + confusion_matrix(labels[known], target[known], classes); after the "
        "loop, (right / (rows + columns - right)).nanmean()",
    ),
    property="the counts of all known pixels of all batches make one table; the IoUs of its classes, 0/0 left out, are "
    "averaged.",
)


# --- two_predictions --------------------------------------------------------------------------------------


def two_predictions(target: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return two predictions: the first has the higher accuracy, the second the higher mean IoU."""
    sizes = torch.bincount(target.flatten(), minlength=classes)
    large = int(sizes.argmax())
    first = torch.full_like(target, large)  # every other class is missed altogether
    second = target.clone()
    rare = sizes.where(torch.arange(classes) != large, 0).argmax()
    place = (target == large).nonzero()[: target.numel() - sizes[large] + 1]  # one mistake more than the first has
    second[place[:, 0], place[:, 1]] = rare
    return first, second


def _one_class_nearly_everywhere(draw: Draw) -> Case:
    """A large class, one to three small ones with at most a fifth as many pixels together, and maybe an absent one."""
    classes = draw.integer(2, 4)
    height, width = draw.integer(3, 6), draw.integer(7, 10)
    value = varied(draw)
    labels = [value.integer(0, 99) for _ in range(classes)]
    order = sorted(range(classes), key=labels.__getitem__)
    large, *small = order
    if len(small) > 1 and draw.integer(0, 1):
        small.pop()
    target = torch.full((height, width), large)
    if draw.integer(0, 7) == 7:  # a single pixel of one other class: a large share of mistakes would cost too much
        small, width, height = small[:1], width + 3, height + 1
        target = torch.full((height, width), large)
        pixels = 1
    else:
        pixels = value.integer(len(small), max(len(small), height * width // 6))
    places = sorted(range(height * width), key=lambda _: value.integer(0, 10**6))[:pixels]
    for number, place in enumerate(places):
        target[place // width, place % width] = small[number % len(small)]
    return {"target": target, "classes": classes}


@dataclass
class Duel:
    """Which of two predictions wins by which metric; what it shows, but does not compare, are the numbers."""

    accuracy: str
    mean_iou: str
    flawless: bool
    """The first wins by both because it is the target itself."""
    says: str = field(compare=False, repr=False)

    def __repr__(self) -> str:
        return self.says


@dataclass
class NoPrediction:
    """A pair of which one cannot be measured: its kind, and in words what is wrong with it."""

    kind: str
    says: str = field(compare=False)
    pair: str = field(compare=False)

    def __repr__(self) -> str:
        return self.pair


def _why_no_prediction(prediction: Any, target: Tensor, classes: int) -> tuple[str, str] | None:
    """Tell what keeps a prediction from being measured: (kind, words), or None."""
    if not isinstance(prediction, Tensor):
        kind = "array" if isinstance(prediction, np.ndarray) else "type"
        return kind, f"is {describe_type(prediction)}; a torch tensor was expected"
    if prediction.dtype is torch.bool or prediction.is_floating_point() or prediction.is_complex():
        return "dtype", f"is {describe_type(prediction)}; labels are whole numbers, of dtype int64"
    if prediction.shape != target.shape:
        return (
            "flat" if prediction.shape == target.flatten().shape else "shape",
            f"has the shape {tuple(prediction.shape)}; that of the target, {tuple(target.shape)}, was expected",
        )
    wrong = prediction[(prediction < 0) | (prediction >= classes)]
    if len(wrong):
        return "label", f"holds the label {int(wrong[0])}; labels go from 0 to classes - 1 = {classes - 1}"
    return None


def _duel(case: Case, pair: Any) -> Any:
    """Measure the two predictions, if they are predictions."""
    target, classes = case["target"], case["classes"]
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        return pair
    for number, prediction in zip(("first", "second"), pair):
        problem = _why_no_prediction(prediction, target, classes)
        if problem:
            kind, words = problem
            return NoPrediction(kind, f"the {number} prediction {words}.", f"({', '.join(map(describe_type, pair))})")
    values = []
    for prediction in pair:
        matrix = metrics.ConfusionMatrix(classes)
        matrix.add(prediction.long(), target)
        values.append((matrix.accuracy, matrix.mean_iou))

    def winner(which: int) -> str:
        first, second = (v[which] for v in values)
        return (
            "neither" if math.isclose(first, second, abs_tol=1e-9) else "the first" if first > second else "the second"
        )

    says = "; ".join(
        f"{name}: accuracy {accuracy:.3f}, mean IoU {iou:.3f}"
        for name, (accuracy, iou) in zip(("the first", "the second"), values)
    )
    by_accuracy, by_iou = winner(0), winner(1)
    flawless = by_accuracy == by_iou == "the first" and bool((pair[0] == target).all())
    return Duel(by_accuracy, by_iou, flawless, says)


def _won_as_asked(expected: Duel, got: Any) -> Mismatch | None:
    if isinstance(got, NoPrediction):
        return Mismatch(got.says)
    if not isinstance(got, Duel):
        return Mismatch(f"it returned {describe_type(got)}; a pair of predictions was expected.")
    if got == expected:
        return None
    return Mismatch(f"it has {got.accuracy} win by accuracy and {got.mean_iou} by mean IoU ({got.says}).")


def _two_by_hand(target: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Pixel by pixel, in lists."""
    pixels = target.flatten().tolist()
    large = max(set(pixels), key=pixels.count)
    small = max(set(pixels) - {large}, key=pixels.count)
    wrong, left = [], 1 + sum(p != large for p in pixels)
    for p in pixels:
        spoil = p == large and left > 0
        wrong.append(small if spoil else p)
        left -= spoil
    return torch.full_like(target, large), torch.tensor(wrong).reshape(target.shape)


def _large(target: Tensor) -> int:
    return int(target.flatten().mode().values)


def _large_everywhere(target: Tensor) -> Tensor:
    return torch.full_like(target, _large(target))


def _small_everywhere(target: Tensor) -> Tensor:
    return torch.full_like(target, int(target[target != _large(target)][0]))


def _spoilt(target: Tensor, label: int, number: int) -> Tensor:
    """The target with so many pixels of a class taken for another class that occurs."""
    second, place = target.clone(), (target == label).nonzero()[:number]
    others = target[target != label]
    second[place[:, 0], place[:, 1]] = others[0]
    return second


def _two_with_so_many_mistakes(target: Tensor, classes: int, number: int) -> tuple[Tensor, Tensor]:
    return _large_everywhere(target), _spoilt(target, _large(target), number)


def _two_with_the_first_pixels_spoilt(target: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    second, small = target.flatten().clone(), target[target != _large(target)]
    second[: len(small) + 1] = small[0]
    return _large_everywhere(target), second.reshape(target.shape)


def _two_with_a_share_spoilt(target: Tensor, classes: int, share: float) -> tuple[Tensor, Tensor]:
    return _two_with_so_many_mistakes(target, classes, max(1, int(share * target.numel())))


def _two_of_a_batch(target: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    images, height, width = target.shape
    return two_predictions(target.reshape(images * height, width), classes)


TWO_PREDICTIONS = Exercise(
    name="two_predictions",
    lesson=STEM,
    title="Where two metrics disagree",
    points=2,
    minutes=10,
    difficulty=3,
    reference=two_predictions,
    oracle=_two_by_hand,
    cases=_one_class_nearly_everywhere,
    examples=(
        {"target": torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]), "classes": 2},
        {"target": torch.tensor([[2, 2, 2, 2, 2, 2], [2, 0, 2, 2, 2, 2], [2, 2, 2, 2, 0, 2]]), "classes": 3},
        {"target": torch.tensor([*[1] * 11, *[0] * 9, *[2] * 120]).reshape(10, 14), "classes": 3},
        {"target": torch.tensor([*[0] * 43, 1, *[0] * 16]).reshape(5, 12), "classes": 2},
    ),
    compare=_won_as_asked,
    measure=_duel,
    runs=25,
    misconceptions=(
        Misconception(
            "exchanged",
            lambda target, classes: two_predictions(target, classes)[::-1],
            "The two are the wrong way round: the first is to win by accuracy, the second by mean IoU.",
            "Exercise: where two metrics disagree (2 points)",
        ),
        Misconception(
            "first_is_perfect",
            lambda target, classes: (target, _large_everywhere(target)),
            "Your first prediction is the target itself, and wins by both metrics. Whatever has no mistake cannot "
            "lose: the first needs mistakes that accuracy hardly sees and mean IoU sees well. Where are they?",
            "All road",
        ),
        Misconception(
            "first_wins_by_both",
            lambda target, classes: (_large_everywhere(target), _small_everywhere(target)),
            "Your first prediction wins by both metrics: the second has the lower mean IoU too. The second must find "
            "the rare classes, and make its mistakes where they cost the IoU of a class little.",
            "All road",
        ),
        Misconception(
            "class_0_is_large",
            lambda target, classes: (torch.zeros_like(target), _spoilt(target, 0, int((target != 0).sum()) + 1)),
            "You took class 0 for the large one. It is another one in some masks: count the pixels of each class.",
            "Exercise: where two metrics disagree (2 points)",
        ),
        *(
            Misconception(
                f"always_{number}",
                functools.partial(_two_with_so_many_mistakes, number=number),
                f"Your second prediction does as if it had {number} mistake{'s' * (number > 1)} in each mask. How many "
                "it needs depends on how many the first has: one more.",
                "All road",
            )
            for number in (1, 2, 3, 5, 10)
        ),
        Misconception(
            "spoils_the_first_pixels",
            _two_with_the_first_pixels_spoilt,
            "You spoil the first pixels, whatever they are. Where the rare class lies among them, nothing is spoilt, "
            "or the rare class suffers: choose among the pixels of the large class.",
            "Exercise: where two metrics disagree (2 points)",
        ),
        *(
            Misconception(
                f"spoils_a_share:{share:g}",
                functools.partial(_two_with_a_share_spoilt, share=share),
                "Your second prediction spoils the same share of the pixels in each mask. How many it needs depends on "
                "how many the first has wrong: one more. Any more lower its own mean IoU.",
                "All road",
            )
            for share in (0.1, 0.2)
        ),
        Misconception(
            "second_is_perfect",
            lambda target, classes: (_large_everywhere(target), target),
            "Your second prediction wins by both metrics, by accuracy too. It needs more mistakes than the first, "
            "where they hurt the mean IoU little.",
            "All road",
        ),
        Misconception(
            "as_many_mistakes",
            lambda target, classes: (
                _large_everywhere(target),
                _spoilt(target, _large(target), int((target != _large(target)).sum())),
            ),
            "Both of your predictions have as many wrong pixels, so by accuracy neither wins. The first must have "
            "fewer.",
            "What the table says",
        ),
        Misconception(
            "the_same_twice",
            lambda target, classes: (target, target),
            "By both metrics neither of your predictions wins.",
            "All road",
        ),
        Misconception(
            "no_such_label",
            lambda target, classes: (_large_everywhere(target), _large_everywhere(target).where(target < 0, -1)),
            "A label of yours is none of the classes: predictions hold whole numbers from 0 to classes - 1.",
            "Exercise: where two metrics disagree (2 points)",
        ),
        Misconception(
            "float_labels",
            lambda target, classes: (_large_everywhere(target).float(), target.float()),
            "Your predictions are no whole numbers. Labels are int64: `torch.full_like(target, ...)` and "
            "`target.clone()` keep the dtype, `torch.zeros(...)` makes floats.",
            "Exercise: where two metrics disagree (2 points)",
        ),
        Misconception(
            "arrays",
            lambda target, classes: tuple(prediction.numpy() for prediction in two_predictions(target, classes)),
            "Your predictions are NumPy arrays. Tensors are asked for: `torch.from_numpy` makes one of an array.",
            "Exercise: where two metrics disagree (2 points)",
        ),
        Misconception(
            "flat",
            lambda target, classes: tuple(prediction.flatten() for prediction in two_predictions(target, classes)),
            "Your predictions have one axis. They are masks like the target, (H, W): `reshape(target.shape)` gives "
            "them its shape.",
            "Exercise: where two metrics disagree (2 points)",
        ),
        Misconception(
            "unpacks_three_axes",
            _two_of_a_batch,
            "You take the target for a batch (N, H, W). It is one mask: `H, W = target.shape`.",
            "Exercise: where two metrics disagree (2 points)",
        ),
    ),
    hints=(
        "Accuracy counts pixels, so it hardly sees what happens to a rare class. Mean IoU gives each class the same "
        "weight. Which prediction of the text above has a good accuracy and a bad mean IoU?",
        "First: the most frequent class everywhere. Second: begin with the target itself, and spoil pixels of the most "
        "frequent class, one more than the first has wrong. They are few of that class, so its IoU stays high.",
        "second = target.clone(); count the pixels that the first has wrong; give that many + 1 pixels of the large "
        "class the label of another class that occurs",
    ),
    property="the first has fewer wrong pixels than the second, and the second the larger mean IoU over the classes "
    "that occur in target or prediction.",
)


# --- median_weights ---------------------------------------------------------------------------------------


def median_weights(masks: Tensor, classes: int) -> Tensor:
    """Return median-frequency weights of the classes."""
    is_class = torch.stack([masks == c for c in range(classes)])  # (C, N, H, W)
    pixels = is_class.sum((1, 2, 3))
    images = is_class.flatten(2).any(2).sum(1)
    frequency = pixels / (images * masks[0].numel())
    median = frequency[pixels > 0].quantile(0.5)
    return torch.where(pixels > 0, median / frequency, 0.0)


def _masks_with_rare_classes(draw: Draw) -> Case:
    """Masks in which each image holds some of the classes, with void; a class may be in none."""
    classes, images = draw.integer(2, 5), draw.integer(1, 4)
    height, width = draw.integer(2, 3), draw.integer(4, 6)
    value = varied(draw)
    masks = torch.zeros(images, height, width, dtype=torch.int64)
    for image in range(images):
        here = [0, 0, 0, *(c for c in range(1, classes) if value.integer(0, 1))]
        for r in range(height):
            for c in range(width):
                masks[image, r, c] = VOID if value.integer(0, 7) == 0 else value.choice(here)
    masks[0, 0, 0] = classes - 1 if value.integer(0, 2) else 0
    masks[-1, -1, -1] = 0
    return {"masks": masks, "classes": classes}


def _weights_with(
    of: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    middle: Callable[[Tensor], Tensor] = lambda f: f.quantile(0.5),
) -> Callable[[Tensor, int], Tensor]:
    """Weights with a mistake: `of` (pixels (N, C), known (N,), a mask's pixels, all) -> frequencies (C,)."""

    def wrong(masks: Tensor, classes: int) -> Tensor:
        pixels = torch.stack([(masks == c).flatten(1).sum(1) for c in range(classes)], dim=1).double()
        known = (masks != VOID).flatten(1).sum(1).double()
        frequency = of(pixels, known, torch.tensor(float(masks[0].numel())), torch.tensor(float(masks.numel())))
        present = pixels.sum(0) > 0
        return torch.where(present, middle(frequency[present]) / frequency, 0.0).float()

    return wrong


def _by_the_rule(pixels: Tensor, known: Tensor, size: Tensor, everything: Tensor) -> Tensor:
    return pixels.sum(0) / ((pixels > 0).sum(0) * size)


def _inverted(masks: Tensor, classes: int) -> Tensor:
    weights = median_weights(masks, classes)
    return torch.where(weights > 0, 1 / weights, 0.0)


def _median_with_absent(masks: Tensor, classes: int) -> Tensor:
    frequency = losses.class_frequencies(masks, classes).float()
    return torch.where(frequency > 0, frequency.quantile(0.5) / frequency, 0.0)


def _void_in_the_median(masks: Tensor, classes: int) -> Tensor:
    frequency = losses.class_frequencies(torch.where(masks == VOID, classes, masks), classes + 1).float()
    weights = frequency[frequency > 0].quantile(0.5) / frequency[:classes]
    return torch.where(frequency[:classes] > 0, weights, 0.0)


def _one_where_absent(masks: Tensor, classes: int) -> Tensor:
    weights = median_weights(masks, classes)
    return torch.where(weights > 0, weights, 1.0)


def _infinite(masks: Tensor, classes: int) -> Tensor:
    weights = median_weights(masks, classes)
    return torch.where(weights > 0, weights, math.inf)


def _nan_where_absent(masks: Tensor, classes: int) -> Tensor:
    weights = median_weights(masks, classes)
    return torch.where(weights > 0, weights, math.nan)


def _with_nan_in_the_median(masks: Tensor, classes: int, middle: Callable[[Tensor], Tensor], keep_nan: bool) -> Tensor:
    frequency = losses.class_frequencies(masks, classes).float()
    frequency = torch.where(frequency > 0, frequency, math.nan)
    weights = middle(frequency) / frequency
    return weights if keep_nan else torch.where(frequency > 0, weights, 0.0)


MEDIAN_WEIGHTS = Exercise(
    name="median_weights",
    lesson=STEM,
    title="Median-frequency weights",
    points=2,
    minutes=10,
    difficulty=2,
    reference=median_weights,
    oracle=losses.median_frequency_weights,
    cases=_masks_with_rare_classes,
    examples=(
        {"masks": torch.tensor([[[0, 0], [0, 1]], [[0, 0], [0, 0]], [[2, 2], [1, 0]]]), "classes": 3},
        {
            "masks": torch.tensor([[[0, 0, 0], [0, 3, VOID]], [[1, 1, 0], [0, 0, 0]], [[4, 1, VOID], [1, 0, 4]]]),
            "classes": 5,
        },
        {"masks": torch.tensor([[[22, 22, 0, 0, 0], [0, 11, 0, 3, VOID]], [[0, 0, 0, 0, 0], [21] * 5]]), "classes": 23},
        {"masks": torch.tensor([[[0, 0, 0], [0, 1, 1]], [[2, 0, 1], [0, 0, VOID]]]), "classes": 4},  # no class 3
        {"masks": torch.tensor([*[0] * 35, *[1] * 24, 2]).reshape(1, 6, 10), "classes": 3},  # a weight of 24
    ),
    misconceptions=(
        Misconception(
            "all_images",
            _weights_with(lambda pixels, known, size, everything: pixels.sum(0) / everything),
            "You divided by the pixels of all images. The frequency of a class is its share of the images that *hold* "
            "it: how many are they, for each class?",
            "Weights against imbalance",
        ),
        Misconception(
            "void_left_out",
            _weights_with(
                lambda pixels, known, size, everything: pixels.sum(0) / ((pixels > 0) * known[:, None]).sum(0)
            ),
            "You left void out of the images' sizes. In this definition the pixels of an image are all its pixels.",
            "Weights against imbalance",
        ),
        Misconception(
            "lower_of_two_middles",
            _weights_with(_by_the_rule, lambda frequency: frequency.median()),
            "`torch.median` of an even number of values returns the lower one of the two in the middle. The median is "
            "their mean; `quantile(0.5)` computes it.",
            "Weights against imbalance",
        ),
        Misconception(
            "upper_of_two_middles",
            _weights_with(_by_the_rule, lambda frequency: frequency.sort().values[len(frequency) // 2]),
            "With an even number of classes you took the upper one of the two in the middle. The median is their mean; "
            "`quantile(0.5)` computes it.",
            "Weights against imbalance",
        ),
        *(
            Misconception(
                f"nan_in_the_median:{name}{':all' * keep_nan}",
                functools.partial(_with_nan_in_the_median, middle=middle, keep_nan=keep_nan),
                "Where a class occurs nowhere its frequency is 0/0, nan, and the median of values with a nan among "
                "them is nan. Take the classes that occur first, and then the median.",
                "Weights against imbalance",
            )
            for name, middle in (("quantile", lambda f: f.quantile(0.5)), ("median", lambda f: f.median()))
            for keep_nan in (False, True)
        ),
        Misconception(
            "size_from_the_masks",
            lambda masks, classes: median_weights(masks, int(masks[masks != VOID].max()) + 1),
            "You take the number of classes from the largest label. The last classes may occur nowhere; they have a "
            "weight too, 0: `classes` says how many there are.",
            "Exercise: median-frequency weights (2 points)",
        ),
        Misconception(
            "void_is_class_0",
            lambda masks, classes: median_weights(masks.where(masks != VOID, 0), classes),
            "You made void a pixel of class 0. It is none of the classes; its pixels only count to an image's size.",
            "Weights against imbalance",
        ),
        Misconception(
            "first_image_only",
            lambda masks, classes: median_weights(masks[:1], classes),
            "You counted the first image only. The pixels of a class are those in all images that hold it.",
            "Weights against imbalance",
        ),
        Misconception(
            "mean_for_median",
            _weights_with(_by_the_rule, lambda frequency: frequency.mean()),
            "You took the mean of the frequencies. The median is the one in the middle: half of the classes get a "
            "weight above 1, half below.",
            "Weights against imbalance",
        ),
        Misconception(
            "median_with_absent_classes",
            _median_with_absent,
            "Classes that occur nowhere take part in your median, with the frequency 0. It is over those that occur.",
            "Weights against imbalance",
        ),
        Misconception(
            "inverted",
            _inverted,
            "You divided the frequency by the median: the rarer a class, the lighter it is. It is to be the heavier.",
            "Weights against imbalance",
        ),
        Misconception(
            "without_median",
            _weights_with(_by_the_rule, lambda frequency: torch.ones(())),
            "You returned 1 / frequency. Divide the *median* frequency by it: the class in the middle then weighs 1.",
            "Weights against imbalance",
        ),
        Misconception(
            "counts_images",
            _weights_with(lambda pixels, known, size, everything: (pixels > 0).double().mean(0)),
            "Your frequency is the share of images that hold the class. It is a share of pixels, of those images.",
            "Weights against imbalance",
        ),
        Misconception(
            "void_in_the_median",
            _void_in_the_median,
            "Void takes part in your median, as one class more. It is none of the classes; its pixels only count to "
            "the size of an image.",
            "Weights against imbalance",
        ),
        Misconception(
            "absent_as_one",
            _one_where_absent,
            "A class that occurs in no image got the weight 1. Here it gets 0.",
            "Exercise: median-frequency weights (2 points)",
        ),
        Misconception(
            "absent_as_infinity",
            _infinite,
            "A class that occurs in no image got an infinite weight. Here it gets 0.",
            "Exercise: median-frequency weights (2 points)",
        ),
        Misconception(
            "absent_as_nan",
            _nan_where_absent,
            "A class that occurs in no image got the weight nan: its frequency is 0/0. Here it gets 0.",
            "Exercise: median-frequency weights (2 points)",
        ),
    ),
    hints=(
        "Two numbers of each class are needed: its pixels in all images, and how many images hold at least one.",
        "The frequency divides the pixels of a class by the pixels of the images that hold it: their number times H "
        "times W. The median is over the classes that occur, and the mean of the two in the middle if their number is "
        "even.",
        "frequency = pixels / (images * masks[0].numel()); median = frequency[pixels > 0].quantile(0.5); then "
        "torch.where(pixels > 0, ...)",
    ),
    property="weight times frequency is the same for all classes that occur: the median of their frequencies.",
)


# --- hausdorff_distance -----------------------------------------------------------------------------------


def hausdorff_distance(a: Tensor, b: Tensor) -> float:
    """Return the Hausdorff distance of two sets of points."""
    distances = torch.cdist(a, b)  # (n, m): from each point of a to each of b
    return float(max(distances.min(dim=1).values.max(), distances.min(dim=0).values.max()))


def _two_sets(draw: Draw) -> Case:
    n, m = draw.integer(1, 7), draw.integer(1, 7)
    return {"a": draw_tensor(draw, (n, 2), -8, 30) / 2, "b": draw_tensor(draw, (m + (m == n), 2), -8, 30) / 2}


def _one_point_after_another(a: Tensor, b: Tensor) -> float:
    sets = a.tolist(), b.tolist()
    ways = [max(min(math.dist(p, q) for q in other) for p in points) for points, other in (sets, sets[::-1])]
    return max(ways)


def _of_distances(measure: Callable[[Tensor], Any], norm: float = 2.0) -> Callable[[Tensor, Tensor], float]:
    """A mistake as a number from the (n, m) distances."""
    return lambda a, b: float(measure(torch.cdist(a, b, p=norm)))


def _there(distances: Tensor) -> Tensor:
    return distances.min(dim=1).values.max()


def _back(distances: Tensor) -> Tensor:
    return distances.min(dim=0).values.max()


HAUSDORFF_DISTANCE = Exercise(
    name="hausdorff_distance",
    lesson=STEM,
    title="Hausdorff distance",
    points=2,
    minutes=9,
    difficulty=2,
    reference=hausdorff_distance,
    oracle=_one_point_after_another,
    cases=_two_sets,
    examples=(
        {"a": torch.tensor([[0.0, 0.0], [0.0, 4.0]]), "b": torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 10.0]])},
        {"a": torch.tensor([[2.0, 9.0], [5.0, 5.0], [7.0, 1.0]]), "b": torch.tensor([[2.0, 5.0]])},
        {"a": torch.tensor([[0.0, 0.0], [0.0, 9.5]]), "b": torch.tensor([[0.0, 0.0], [0.0, 1.5], [1.0, 0.0]])},
        {"a": torch.tensor([[2.0, 1.0], [2.0, 2.5], [1.0, 1.0]]), "b": torch.tensor([[2.0, 1.0], [-3.5, 1.0]])},
        {"a": torch.tensor([[2.0, 1.0]]), "b": torch.tensor([[2.0, 2.5], [2.0, 1.0], [3.0, 1.0]])},
    ),
    misconceptions=(
        Misconception(
            "one_way_there",
            _of_distances(_there),
            "You went from a to b only. If b has a point far away from all of a, you do not see it.",
            "Hausdorff distance",
        ),
        Misconception(
            "one_way_back",
            _of_distances(_back),
            "You went from b to a only. If a has a point far away from all of b, you do not see it.",
            "Hausdorff distance",
        ),
        Misconception(
            "smaller_of_the_ways",
            _of_distances(lambda d: min(_there(d), _back(d))),
            "You went both ways and took the smaller number. The distance is about the worst point, of either set.",
            "Hausdorff distance",
        ),
        Misconception(
            "nearest_pair",
            _of_distances(torch.min),
            "That is the distance of the two points that are nearest to each other. Sets that share one point would "
            "have the distance 0.",
            "Hausdorff distance",
        ),
        Misconception(
            "farthest_pair",
            _of_distances(torch.max),
            "That is the distance of the two points farthest apart. A set would not have the distance 0 from itself: "
            "for each point, only the *nearest* of the other set counts.",
            "Hausdorff distance",
        ),
        Misconception(
            "mean_of_the_nearest",
            _of_distances(lambda d: max(d.min(1).values.mean(), d.min(0).values.mean())),
            "You took the mean of the distances to the nearest point. That is a useful number too, the average surface "
            "distance; Hausdorff's is about the worst point.",
            "Hausdorff distance",
        ),
        Misconception(
            "sum_of_the_ways",
            _of_distances(lambda d: _there(d) + _back(d)),
            "You added the two ways. The distance is the larger one of the two.",
            "Hausdorff distance",
        ),
        Misconception(
            "mean_of_the_ways",
            _of_distances(lambda d: (_there(d) + _back(d)) / 2),
            "You took the mean of the two ways. The distance is the larger one of the two.",
            "Hausdorff distance",
        ),
        Misconception(
            "max_of_min_exchanged",
            _of_distances(lambda d: min(d.max(1).values.min(), d.max(0).values.min())),
            "You looked for the farthest point first, and then for the least of these distances. It is the other way "
            "round: the nearest point for each, then the worst.",
            "Hausdorff distance",
        ),
        Misconception(
            "max_of_min_exchanged_both_ways",
            _of_distances(lambda d: max(d.max(1).values.min(), d.max(0).values.min())),
            "You looked for the farthest point first, and then for the least of these distances. It is the other way "
            "round: the nearest point for each, then the worst.",
            "Hausdorff distance",
        ),
        Misconception(
            "squared",
            _of_distances(lambda d: max(_there(d), _back(d)) ** 2),
            "You returned the square of the distance: the root is missing.",
            "Hausdorff distance",
        ),
        Misconception(
            "city_blocks",
            _of_distances(lambda d: max(_there(d), _back(d)), norm=1.0),
            "You added the steps along rows and columns. Distances here are straight lines.",
            "Hausdorff distance",
        ),
        Misconception(
            "chessboard",
            _of_distances(lambda d: max(_there(d), _back(d)), norm=math.inf),
            "You took the larger one of the steps along rows and columns, as a king moves. Distances here are straight "
            "lines.",
            "Hausdorff distance",
        ),
        Misconception(
            "from_the_larger_set",
            _of_distances(lambda d: _there(d) if len(d) > len(d.T) else _back(d)),
            "You went from the set with more points to the other, and not back. The other set may have the worst point "
            "though it has fewer: both ways count.",
            "Hausdorff distance",
        ),
        Misconception(
            "from_the_smaller_set",
            _of_distances(lambda d: _there(d) if len(d) < len(d.T) else _back(d)),
            "You went from the set with fewer points to the other, and not back. Both ways count.",
            "Hausdorff distance",
        ),
        Misconception(
            "hd95",
            _of_distances(lambda d: max(d.amin(1).quantile(0.95), d.amin(0).quantile(0.95))),
            "You took the 95th percentile of the ways. That is HD95, which comes below; Hausdorff's distance is about "
            "the worst point, the maximum.",
            "One stray pixel",
        ),
        Misconception(
            "numbers_of_points",
            _of_distances(lambda d: max(d.argmin(1).max(), d.argmin(0).max())),
            "You returned the *number* of a point: `min(dim=...)` returns values and indices, and you went on with the "
            "indices.",
            "Hausdorff distance",
        ),
        Misconception(
            "squeezed",
            _of_distances(lambda d: max(_there(d.squeeze()), _back(d.squeeze()))),
            "`squeeze()` drops every axis of length 1, and where a set has one point that is an axis you need. Leave "
            "the distances (n, m).",
            "Exercise: Hausdorff distance (2 points)",
        ),
    ),
    hints=(
        "For one point, which distance to the other set matters? And of all points of its set, which one decides?",
        "`torch.cdist(a, b)` has all distances, (n, m). The nearest of b for each point of a is a minimum along one "
        "axis, the nearest of a for each point of b along the other. Then the worst of each way, and the larger one.",
        "distances.min(dim=1).values.max() is the way from a to b; the way back takes the other axis; return the max",
    ),
    property="each point of either set has a point of the other within this distance, and not within less.",
)


# --- the quiz ---------------------------------------------------------------------------------------------

QUIZ = (
    Question(
        "accuracy_without_a_network",
        STEM,
        "A binary task: 2 % of the pixels are tumour. A network has 98 % accuracy. What has it learned?",
        (
            Option("To find 98 % of the tumour.", "That would be the accuracy of the class, its recall."),
            Option("Perhaps nothing: 'no tumour' everywhere has 98 %.", "The IoU of tumour is 0 then.", right=True),
            Option("To outline tumours to within 2 %.", "Accuracy knows nothing of outlines."),
        ),
    ),
    Question(
        "from_the_table_alone",
        STEM,
        "Which of these can be computed from the confusion matrix? (More than one can.)",
        (
            Option("Frequency-weighted IoU.", "IoU and frequencies both stand in the table.", right=True),
            Option("Dice of a class.", "Twice the diagonal over row sum plus column sum.", right=True),
            Option("Hausdorff distance.", "The table does not know where a pixel is."),
            Option(
                "The mean of the images' IoU.", "The table has added the images up; they cannot be told apart again."
            ),
        ),
        several=True,
    ),
    Question(
        "absent_or_missed",
        STEM,
        "No target of a data set has class 7, and the network predicts it on 3 pixels. What is its IoU?",
        (
            Option("0/0, so it is left out.", "0/0 it would be if nobody had named the class."),
            Option("0: none of 3.", "The union holds the three pixels, the intersection none.", right=True),
            Option("1: it was right on all pixels of class 7.", "There were none; three others were taken for it."),
        ),
    ),
    Question(
        "dice_ranks_as_iou",
        STEM,
        "For one class and two networks: can Dice prefer the one, and IoU the other?",
        (
            Option("No: Dice grows with IoU.", "2 IoU / (1 + IoU) is increasing: the order stays.", right=True),
            Option("Yes: Dice doubles the intersection.", "It does, and the denominator grows as well."),
            Option("Only where the class is rare.", "The relation of the two does not know how large a class is."),
        ),
    ),
    Question(
        "where_void_goes",
        STEM,
        "A pixel's target is void (255), and the network says 'car' there. Where is the pixel counted?",
        (
            Option("Nowhere.", "Nobody knows what it is, so nothing can be right or wrong about it.", right=True),
            Option("In the union of 'car'.", "Then every network would be punished for not being able to say void."),
            Option("In a class of its own.", "A class that no network can predict would have the IoU 0."),
        ),
    ),
    Question(
        "one_stray_pixel",
        STEM,
        "One stray pixel is added to a perfect mask whose outline has 200 pixels, 50 pixels away from it. What changes "
        "most?",
        (
            Option("IoU.", "By one pixel in the union."),
            Option("Boundary F1.", "By one pixel of the boundary."),
            Option("The Hausdorff distance.", "From 0 to 50: it is the worst point's distance.", right=True),
            Option("HD95.", "One point of 201 is far less than one in twenty: it stays 0."),
        ),
    ),
    Question(
        "frequency_of_a_rare_class",
        STEM,
        "Of 100 images of one size, one holds a bicyclist, and he fills a quarter of it. What is the frequency of the "
        "class in the median-frequency weights?",
        (
            Option("0.25", "Its pixels over those of the one image that holds it.", right=True),
            Option("0.0025", "That divides by the pixels of all images, of which 99 do not hold the class."),
            Option("0.01", "That is the share of images that hold it; a frequency is a share of pixels."),
        ),
    ),
)

LESSON = Lesson(
    stem=STEM,
    title="Metrics",
    promise="Compute what papers report, from one table and from two outlines, and say what each number does not see.",
    reading_minutes=27,
    before=("00_start_here",),
    exercises=(
        CONFUSION_MATRIX,
        REGION_METRICS,
        TWO_PREDICTIONS,
        DICE_FROM_IOU,
        DATA_SET_IOU,
        MEDIAN_WEIGHTS,
        HAUSDORFF_DISTANCE,
    ),
    given=("segcourse.void.VOID",),
    quiz=QUIZ,
)
