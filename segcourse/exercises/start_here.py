"""The exercises of lesson 00."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from segcourse.datasets import VOID
from segcourse.exercises import Lesson
from segcourse.exercises.exercise import Case, Draw, Exercise, Misconception, varied
from segcourse.exercises.quiz import Option, Question

STEM = "00_start_here"

SIZES = ((2, 3), (3, 4), (2, 4), (3, 5), (4, 3), (1, 3), (3, 1))
"""What (height, width) is drawn from: wide, tall, and a single row or column; the first is the simplest."""


def _labels(draw: Draw, shape: tuple[int, ...], classes: int) -> Tensor:
    """Draw a mask with labels below `classes` and some void; its first row begins with a labelled pixel."""
    value = varied(draw)
    labels = [value.choice((*range(classes), VOID)) for _ in range(math.prod(shape))]
    mask = torch.tensor(labels).reshape(shape)
    mask[..., 0, 0] = mask[..., 0, 0] % VOID  # void becomes 0: a mean over no pixels at all is not asked for
    return mask


def _rows(mask: Tensor) -> list[tuple[int, ...]]:
    """Return (index..., label) of every pixel, for the second way to an answer."""
    return [(*index, int(mask[tuple(index)])) for index in torch.ones_like(mask).nonzero().tolist()]


# --- the first one -------------------------------------------------------------------------------------------


def count_label(mask: Tensor, label: int) -> int:
    """Return how many pixels of the mask carry the label."""
    has_label = mask == label
    return int(has_label.sum())


def _mask_and_label(draw: Draw) -> Case:
    return {"mask": _labels(draw, draw.choice(SIZES), 5), "label": draw.integer(0, 4)}


COUNT_LABEL = Exercise(
    name="count_label",
    lesson=STEM,
    title="Pixels that carry a label",
    points=1,
    minutes=4,
    difficulty=1,
    reference=count_label,
    oracle=lambda mask, label: [x for row in mask.tolist() for x in row].count(label),
    cases=_mask_and_label,
    examples=(
        {"mask": torch.tensor([[0, 0, 2, 0], [1, 2, 2, 3], [3, 3, 2, 3]]), "label": 2},
        {"mask": torch.tensor([[3, 0], [1, 3], [2, 2]]), "label": 10},  # no pixel carries it, and no label is larger
        {"mask": 8 + torch.arange(30 * 27).reshape(30, 27) % 3, "label": 10},  # more pixels than a byte can count
    ),
    misconceptions=(
        Misconception(
            "counts_the_others",
            lambda mask, label: int((mask != label).sum()),
            "You counted the pixels that carry any other label. Which of the two does `has_label` mark with True?",
            "Your first exercise",
        ),
        Misconception(
            "adds_labels",
            lambda mask, label: int(mask[mask == label].sum()),
            "You added up the labels of those pixels. A label is a name that happens to be written as a number; "
            "each pixel counts once, whatever its label is.",
            "Your first exercise",
        ),
        Misconception(
            "counts_rows",
            lambda mask, label: int((mask == label).any(dim=-1).sum()),
            "You counted the rows in which the label occurs. A row may hold it several times.",
            "Your first exercise",
        ),
    ),
    hints=(
        "`has_label` is already there: True where the pixel carries the label. What is left is to count.",
        "In a sum, True counts as 1 and False as 0. Tensors bring a method that adds up all of their entries.",
        "Fill the gap in `return has_label.___()`: the method is called by the English word for what adding up gives.",
    ),
    property="the number of entries of the mask that equal the label.",
)


# --- scores and masks ----------------------------------------------------------------------------------------


def mask_from_scores(scores: Tensor) -> Tensor:
    """Return the mask (N, H, W) of the classes with the highest score; `scores` is (N, C, H, W)."""
    return scores.argmax(dim=1)


def _scores(draw: Draw) -> Case:
    """Whole-numbered scores in which every pixel has one winner."""
    n, classes, level = draw.integer(1, 3), draw.integer(2, 4), -draw.integer(0, 9)
    height, width = draw.choice(SIZES)
    value, pixels = varied(draw), []
    for _ in range(n * height * width):
        scores = [value.integer(0, 4) for _ in range(classes)]
        scores[value.integer(0, classes - 1)] = value.integer(5, 9)
        pixels.append(scores)
    grid = torch.tensor(pixels, dtype=torch.float32).reshape(n, height, width, classes)
    return {"scores": grid.permute(0, 3, 1, 2).contiguous() + level}


def _close_scores() -> Tensor:
    """Four images of 11 classes whose scores, all different, lie within 1 of each other, at four levels."""
    within_one = torch.arange(4 * 11 * 2).reshape(4, 11, 1, 2) * 45 % 101 / 101
    return within_one + torch.tensor([-60, -1, 0, 20]).reshape(4, 1, 1, 1)


def _winners(scores: Tensor) -> Tensor:
    """Visit the pixels one by one."""
    n, classes, height, width = scores.shape
    mask = torch.zeros(n, height, width, dtype=torch.int64)
    for i, row, col, _ in _rows(mask):
        mask[i, row, col] = max(range(classes), key=lambda c: float(scores[i, c, row, col]))
    return mask


MASK_FROM_SCORES = Exercise(
    name="mask_from_scores",
    lesson=STEM,
    title="From scores to a mask",
    points=2,
    minutes=6,
    difficulty=2,
    reference=mask_from_scores,
    oracle=_winners,
    cases=_scores,
    examples=(
        {
            "scores": torch.tensor(
                [
                    [
                        [[4.0, 1.0, 0.0], [2.0, 0.0, 1.0]],
                        [[1.0, 3.0, 2.0], [5.0, 1.0, 0.0]],
                        [[0.0, 2.0, 6.0], [1.0, 4.0, 3.0]],
                    ],
                ]
            ),
        },
        {"scores": _close_scores()},
    ),
    misconceptions=(
        Misconception(
            "last_axis",
            lambda scores: scores.argmax(dim=-1),
            "You compared along the last axis: that asks which column of the picture has the highest score. "
            "Which of the four axes counts the classes?",
            "Scores become a mask",
        ),
        Misconception(
            "row_axis",
            lambda scores: scores.argmax(dim=-2),
            "You compared along axis 2: that asks which row of the picture has the highest score. "
            "Which of the four axes counts the classes?",
            "Scores become a mask",
        ),
        Misconception(
            "batch_axis",
            lambda scores: scores.argmax(dim=0),
            "You compared along axis 0: that asks which image of the batch has the highest score. "
            "Which of the four axes counts the classes?",
            "Scores become a mask",
        ),
        Misconception(
            "score_for_label",
            lambda scores: scores.amax(dim=1),
            "You returned the highest score itself. Asked for is the class that has it, which is a place, not a value.",
            "Scores become a mask",
        ),
        Misconception(
            "keeps_axis",
            lambda scores: scores.argmax(dim=1, keepdim=True),
            "The labels are right, but the axis of classes is still there, with length 1. A mask has three axes: "
            "image, row, column.",
            "Scores become a mask",
        ),
        Misconception(
            "one_winner_for_all",
            lambda scores: scores.argmax(),
            "You looked for one winner in the whole tensor. Every pixel has a winner of its own.",
            "Scores become a mask",
        ),
    ),
    hints=(
        "For one pixel you would take the vector of its scores and ask where the highest one stands. "
        "Along which axis does that vector lie?",
        "The method `argmax` takes the axis to search along as `dim` and removes that axis from the shape. "
        "Left must be the axes of images, rows and columns.",
        "return scores.argmax(dim=...), with the number of the axis that has C entries.",
    ),
    property="for every image, row and column, the label is the index of the class with the highest score there.",
)


# --- right pixels --------------------------------------------------------------------------------------------


def pixel_accuracy(prediction: Tensor, mask: Tensor) -> float:
    """Return the share of the labelled pixels that the prediction has right, a float from 0 to 1."""
    labelled = mask != VOID
    right = (prediction == mask) & labelled
    return float(right.sum() / labelled.sum())


def _prediction_and_mask(draw: Draw) -> Case:
    """Pairs of prediction and truth, drawn pixel by pixel; each image begins with a labelled pixel."""
    n, (height, width) = draw.integer(1, 2), draw.choice(SIZES)
    pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0), (0, VOID), (1, VOID)]
    value = varied(draw)
    drawn = [value.choice(pairs if i % (height * width) else pairs[:-2]) for i in range(n * height * width)]
    prediction, mask = torch.tensor(drawn).reshape(n, height, width, 2).unbind(-1)
    return {"prediction": prediction.contiguous(), "mask": mask.contiguous()}


def _accuracy_by_counting(prediction: Tensor, mask: Tensor) -> float:
    pairs = [(p, m) for p, m in zip(prediction.flatten().tolist(), mask.flatten().tolist()) if m < VOID]
    return sum(p == m for p, m in pairs) / len(pairs)


def _mean_of_accuracies(accuracy: Callable[[Tensor, Tensor], float], prediction: Tensor, mask: Tensor) -> float:
    each = [accuracy(p, m) for p, m in zip(prediction, mask)]
    return sum(each) / len(each)


MEAN_OF_IMAGES = (
    "You took the mean of the accuracies of the single images. Images with much void then weigh as much as images "
    "with none, and one of nothing but void has no accuracy at all. Here every labelled pixel of the batch has the "
    "same weight."
)


PIXEL_ACCURACY = Exercise(
    name="pixel_accuracy",
    lesson=STEM,
    title="Right pixels, void left out",
    points=2,
    minutes=7,
    difficulty=2,
    reference=pixel_accuracy,
    oracle=_accuracy_by_counting,
    cases=_prediction_and_mask,
    examples=(
        {
            "prediction": torch.tensor([[[0, 0, 2, 2], [3, 2, 2, 3], [3, 3, 3, 3]]]),
            "mask": torch.tensor([[[0, 0, 2, 0], [1, 2, 2, 3], [3, 3, VOID, VOID]]]),
        },
        {
            "prediction": torch.tensor([[[1, 1, 0], [2, 2, 2]], [[1, 0, 0], [1, 1, 1]]]),
            "mask": torch.tensor([[[1, 1, 0], [2, 2, 2]], [[1, 2, VOID], [VOID, VOID, VOID]]]),
        },
        {
            "prediction": torch.tensor([[[0], [1], [2]], [[3], [10], [12]], [[11], [20], [5]]]),
            "mask": torch.tensor([[[VOID], [VOID], [VOID]], [[3], [10], [11]], [[11], [20], [5]]]),
        },
    ),
    misconceptions=(
        Misconception(
            "void_is_wrong",
            lambda prediction, mask: float((prediction == mask).float().mean()),
            "You divided by all pixels, or by a selection that looked at the prediction, where no pixel is void. A "
            "void pixel can never be predicted right, so each of them counted as a mistake. Which could be right?",
            "Right pixels, without void",
        ),
        Misconception(
            "void_is_right",
            lambda prediction, mask: float(((prediction == mask) | (mask == VOID)).float().mean()),
            "You counted void pixels as right. Nobody labelled them: they should neither help nor harm.",
            "Right pixels, without void",
        ),
        Misconception(
            "mean_of_images",  # an image of void gives nan
            lambda prediction, mask: _mean_of_accuracies(pixel_accuracy, prediction, mask),
            MEAN_OF_IMAGES,
            "Right pixels, without void",
        ),
        Misconception(
            "mean_of_images_by_counting",  # an image of void raises ZeroDivisionError
            lambda prediction, mask: _mean_of_accuracies(_accuracy_by_counting, prediction, mask),
            MEAN_OF_IMAGES,
            "Right pixels, without void",
        ),
        Misconception(
            "percent",
            lambda prediction, mask: 100 * pixel_accuracy(prediction, mask),
            "You returned percent. Shares in this course run from 0 to 1.",
            "Right pixels, without void",
        ),
        Misconception(
            "number_of_pixels",
            lambda prediction, mask: int(((prediction == mask) & (mask != VOID)).sum()),
            "You returned how many pixels are right. A share sets that number against how many could have been right.",
            "Right pixels, without void",
        ),
    ),
    hints=(
        "The example divides 8 by 10. Which question, asked of a single pixel, do the 8 answer with yes? And which the "
        "10?",
        "Each question is a tensor of True and False. `&` joins two of them: True where both are True. How to count "
        "True, you know from the first exercise.",
        "right = (prediction == mask) & ..., then divide the count of `right` by the count of `labelled`.",
    ),
    property="the number of labelled pixels that are predicted right, divided by the number of labelled pixels; what "
    "is predicted at void changes nothing.",
)


# --- shares --------------------------------------------------------------------------------------------------


def class_shares(mask: Tensor, classes: int) -> Tensor:
    """Return the share that each class has in the labelled pixels, a float tensor (C,)."""
    labels = mask[mask != VOID]
    return torch.bincount(labels, minlength=classes) / len(labels)


def _mask_and_classes(draw: Draw) -> Case:
    """A batch in which the last classes may be absent."""
    n, classes = draw.integer(1, 2), draw.integer(2, 5)
    return {"mask": _labels(draw, (n, *draw.choice(SIZES)), draw.integer(1, classes)), "classes": classes}


def _shares_by_counting(mask: Tensor, classes: int) -> Tensor:
    counts = Counter(mask.flatten().tolist())
    del counts[VOID]
    return torch.tensor([counts[label] / counts.total() for label in range(classes)])


MASK_WITH_VOID = torch.tensor([[[0, 0, 2, 0], [1, 2, 2, 3], [3, 3, VOID, VOID]]])
ONE_IMAGE_VOID = torch.tensor([[[VOID], [VOID], [VOID]], [[10], [3], [VOID]], [[0], [10], [7]]])
ONE_CLASS = torch.tensor([[[0, VOID, 0], [0, 0, VOID]]])

VOID_COUNTED = (
    "255 was counted as a label: where the mask has void, your tensor goes up to entry 255. Void is no class: leave "
    "those pixels out before you count."
)

CLASS_SHARES = Exercise(
    name="class_shares",
    lesson=STEM,
    title="How much of the street is what",
    points=2,
    minutes=8,
    difficulty=2,
    reference=class_shares,
    oracle=_shares_by_counting,
    cases=_mask_and_classes,
    examples=(
        {"mask": MASK_WITH_VOID, "classes": 4},
        {"mask": MASK_WITH_VOID, "classes": 6},
        {"mask": torch.tensor([[[0, 1, 1], [0, 1, 1]]]), "classes": 3},
        {"mask": ONE_IMAGE_VOID, "classes": 12},
        {"mask": ONE_CLASS, "classes": 1},
    ),
    misconceptions=(
        Misconception(
            "void_in_the_total",
            lambda mask, classes: torch.bincount(mask[mask != VOID], minlength=classes) / mask.numel(),
            "You divided by all pixels, void included. The shares then do not add up to 1.",
            "Rare and frequent classes",
        ),
        Misconception(
            "void_as_a_label",
            lambda mask, classes: torch.bincount(mask.flatten(), minlength=classes) / mask.numel(),
            VOID_COUNTED,
            "Rare and frequent classes",
        ),
        Misconception(
            "void_as_a_label_without_minlength",
            lambda mask, classes: torch.bincount(mask.flatten()) / mask.numel(),
            VOID_COUNTED,
            "Rare and frequent classes",
        ),
        Misconception(
            "void_as_class_0",
            lambda mask, classes: (
                torch.bincount(torch.where(mask == VOID, 0, mask).flatten(), minlength=classes) / mask.numel()
            ),
            "Void pixels went into class 0. 0 is a class like any other: leave the void pixels out.",
            "Rare and frequent classes",
        ),
        Misconception(
            "void_as_a_class",
            lambda mask, classes: (
                torch.bincount(mask.clamp(max=classes - 1).flatten(), minlength=classes) / mask.numel()
            ),
            "Void pixels went into the last class. 255 is no class: leave those pixels out.",
            "Rare and frequent classes",
        ),
        Misconception(
            "absent_classes_missing",
            lambda mask, classes: torch.bincount(mask[mask != VOID]) / (mask != VOID).sum(),
            "Your tensor ends with the highest label that occurs. A class without a pixel has the share 0, and the "
            "tensor always has one entry a class.",
            "Rare and frequent classes",
        ),
        Misconception(
            "mean_of_images",
            lambda mask, classes: torch.stack([class_shares(m, classes) for m in mask]).mean(dim=0),
            "You took the mean of the shares of the single images. Images with much void then weigh as much as images "
            "with none. Here every labelled pixel of the batch has the same weight.",
            "Rare and frequent classes",
        ),
        Misconception(
            "percent",
            lambda mask, classes: 100 * class_shares(mask, classes),
            "You returned percent. Shares in this course run from 0 to 1.",
            "Rare and frequent classes",
        ),
        Misconception(
            "counts",
            lambda mask, classes: torch.bincount(mask[mask != VOID], minlength=classes),
            "You returned how many pixels each class has. A share sets that against the labelled pixels in all.",
            "Rare and frequent classes",
        ),
    ),
    hints=(
        "If 255 were counted with the rest, it would be in the counts and in what you divide by. So what has to happen "
        "before anything is counted?",
        "`mask[condition]` picks the entries where the condition holds, as one long vector. `torch.bincount` counts "
        "how often each whole number occurs in a vector; `minlength` says how many numbers to count at least.",
        "labels = mask[mask != VOID], then torch.bincount(labels, minlength=...) divided by how many labels there are.",
    ),
    property="entry c is the number of pixels that carry label c, divided by the number of labelled pixels; there is "
    "one entry for each class, and all of them together make 1.",
)


# --- one plane a class ---------------------------------------------------------------------------------------


def one_hot(mask: Tensor, classes: int) -> Tensor:
    """Return (N, C, H, W): 1 where the pixel carries class c, else 0; void is 0 in every plane."""
    return torch.stack([mask == label for label in range(classes)], dim=1)


def _unified(case: Case, planes: Any) -> Any:
    """Whether the ones are True, 1 or 1.0 is a matter of taste. A complex number would lose a part of itself."""
    return planes.double() if isinstance(planes, Tensor) and not planes.is_complex() else planes


def _planes_by_pixel(mask: Tensor, classes: int) -> Tensor:
    n, height, width = mask.shape
    planes = torch.zeros(n, classes, height, width)
    for i, row, col, label in _rows(mask):
        if label < classes:
            planes[i, label, row, col] = 1
    return planes


def _ready_made(mask: Tensor, classes: int) -> Tensor:
    """Use PyTorch's own one-hot, which refuses 255; the classes come last (N, H, W, C)."""
    return nn.functional.one_hot(mask, classes)


REFUSES_VOID = (
    "There is a 255 in the mask, and `one_hot` of PyTorch refuses a label that is no class. It also puts the classes "
    "on the last axis. Can you do without it?"
)

ONE_HOT = Exercise(
    name="one_hot",
    lesson=STEM,
    title="One plane a class",
    points=2,
    minutes=8,
    difficulty=3,
    reference=one_hot,
    oracle=_planes_by_pixel,
    cases=_mask_and_classes,
    examples=(
        {"mask": MASK_WITH_VOID, "classes": 4},
        {"mask": torch.tensor([[[0, 1, 1], [2, 1, 0]]]), "classes": 3},
        {"mask": ONE_IMAGE_VOID, "classes": 12},
        {"mask": ONE_CLASS, "classes": 1},
    ),
    measure=_unified,
    misconceptions=(
        Misconception(
            "channels_last",
            lambda mask, classes: torch.stack([mask == label for label in range(classes)], dim=-1),
            "Your planes lie along the last axis: (N, H, W, C). PyTorch keeps the channels second: (N, C, H, W).",
            "One plane a class",
        ),
        Misconception(
            "reshapes",
            lambda mask, classes: torch.stack([mask == label for label in range(classes)], dim=-1).reshape(
                len(mask), classes, *mask.shape[1:]
            ),
            "The shape is right, but the entries are mixed up: `reshape` keeps the order of the entries and only cuts "
            "it at other places. To move an axis takes `permute` or `movedim`, or stack on the right axis at once.",
            "One plane a class",
        ),
        Misconception(
            "classes_before_images",
            lambda mask, classes: torch.stack([mask == label for label in range(classes)]),
            "Your planes lie along the first axis: (C, N, H, W). The first axis counts images.",
            "One plane a class",
        ),
        Misconception("ready_made", _ready_made, REFUSES_VOID, "One plane a class"),
        Misconception(
            "ready_made_moved",
            lambda mask, classes: _ready_made(mask, classes).movedim(-1, 1),
            REFUSES_VOID,
            "One plane a class",
        ),
        Misconception(
            "ready_made_reshaped",
            lambda mask, classes: _ready_made(mask, classes).reshape(len(mask), classes, *mask.shape[1:]),
            REFUSES_VOID,
            "One plane a class",
        ),
        Misconception(
            "label_for_one",
            lambda mask, classes: torch.stack([mask * (mask == label) for label in range(classes)], dim=1),
            "Your planes hold the label where the class is; plane 0 is then empty. Asked for is 1 in every plane.",
            "One plane a class",
        ),
        Misconception(
            "void_as_class_0",
            lambda mask, classes: one_hot(torch.where(mask == VOID, 0, mask), classes),
            "Void pixels have a 1 in plane 0. They belong to no class: all their planes are 0.",
            "One plane a class",
        ),
        Misconception(
            "void_in_last_class",
            lambda mask, classes: one_hot(mask.clamp(max=classes - 1), classes),
            "Void pixels have a 1 in the last plane. They belong to no class: all their planes are 0.",
            "One plane a class",
        ),
        Misconception(
            "void_wraps",
            lambda mask, classes: one_hot(mask % classes, classes),
            "Void pixels have a 1 in a plane: 255 wrapped around to the label of a class. They belong to no class.",
            "One plane a class",
        ),
        Misconception(
            "plane_for_void",
            lambda mask, classes: torch.cat([one_hot(mask, classes), (mask == VOID)[:, None]], dim=1),
            "You made one plane too many, for void. Void is the absence of a label, not one more class.",
            "One plane a class",
        ),
    ),
    hints=(
        "For one class c the plane is easy: it asks of every pixel whether its label is c. You met that comparison in "
        "the first exercise. What does it answer at void?",
        "At void it answers False, whatever the class, so void takes care of itself. Make one plane (N, H, W) for each "
        "class and stack them along a new axis. Which place must that axis have, so that (N, C, H, W) comes out?",
        "torch.stack([... for label in range(classes)], dim=...), with the comparison of mask and label inside.",
    ),
    property="plane c of image n is 1 exactly where the mask of image n is c; a pixel's entries add up to 1 over the "
    "classes, at void to 0.",
)


# --- the quiz ------------------------------------------------------------------------------------------------

QUIZ = (
    Question(
        "shapes",
        STEM,
        "A batch of 4 images, 96 high and 128 wide, goes through a network for 11 classes. What comes out, and what "
        "does the loss compare it with?",
        (
            Option(
                "Scores (4, 11, 96, 128), compared with a mask (4, 96, 128).",
                "One score for each class at each pixel; the mask holds one whole number for each pixel.",
                right=True,
            ),
            Option(
                "Scores (4, 96, 128, 11), compared with a mask (4, 96, 128).",
                "That is the order with channels last. PyTorch keeps the classes on axis 1.",
            ),
            Option(
                "A mask (4, 96, 128), compared with a mask (4, 96, 128).",
                "Labels come only after argmax, which has no gradient; the loss needs the scores.",
            ),
            Option(
                "Scores (4, 11), compared with 4 labels.",
                "That is classification: one label for each image.",
            ),
        ),
    ),
    Question(
        "softmax",
        STEM,
        "Must a soft-max stand between the scores and argmax for the mask to be right?",
        (
            Option(
                "Yes, argmax needs probabilities.",
                "argmax needs an order only, and soft-max keeps the order of the scores of a pixel.",
            ),
            Option(
                "No, the mask is the same without it.",
                "Soft-max turns larger scores into larger probabilities, so the winner of a pixel stays the winner.",
                right=True,
            ),
            Option(
                "Only where scores are negative.",
                "Soft-max keeps the order of negative scores too, so it cannot change the winner.",
            ),
        ),
    ),
    Question(
        "touching_cars",
        STEM,
        "Two cars touch in the picture. What does a semantic mask say about them?",
        (
            Option(
                "Which pixels are car; not how many cars there are.",
                "All these pixels carry the same label. Telling the cars apart is instance segmentation.",
                right=True,
            ),
            Option(
                "Car 1 and car 2, with different labels.",
                "Labels name classes. A number for each object is what instance segmentation adds.",
            ),
            Option(
                "Two regions, because a border of void lies between them.",
                "Some data sets mark such borders as void by hand. Where they don't, it is one region of car.",
            ),
        ),
    ),
    Question(
        "all_road",
        STEM,
        "In another city 60 % of the labelled pixels are road, and 10 % of all pixels are void. A predictor paints "
        "every pixel as road. Somebody counts its right pixels and divides them by all pixels. What comes out?",
        (
            Option(
                "0.54",
                "Of 100 pixels 90 are labelled, 54 of them road. Divided by 90 it would be 0.60, as it should.",
                right=True,
            ),
            Option(
                "0.60",
                "That is the pixel accuracy as it should be. Here void is in what was divided by.",
            ),
            Option(
                "0.64",
                "That would count void as right: 54 and 10 of 100 pixels. Road is not right at void.",
            ),
            Option(
                "0.67",
                "That divides 60 by 90. The 60 % are of the labelled pixels already.",
            ),
        ),
    ),
    Question(
        "void_pixels",
        STEM,
        "Which sentences about void (255) hold in this course?",
        (
            Option(
                "It marks pixels that nobody labelled.",
                "Too far, too small, or none of the classes: there is no right answer to compare with.",
                right=True,
            ),
            Option(
                "Losses and metrics leave it out.",
                "A pixel without an answer can be neither right nor wrong.",
                right=True,
            ),
            Option(
                "It is the class background.",
                "Background in PASCAL VOC is a class of its own, which can be predicted and be wrong.",
            ),
            Option(
                "The network has an output plane for it.",
                "There are as many planes as classes; nobody wants void predicted.",
            ),
        ),
        several=True,
    ),
)

LESSON = Lesson(
    stem=STEM,
    title="Start here",
    promise="Set up, learn how a notebook answers you, and read your first mask.",
    reading_minutes=28,
    before=(),
    exercises=(COUNT_LABEL, MASK_FROM_SCORES, PIXEL_ACCURACY, CLASS_SHARES, ONE_HOT),
    given=("segcourse.void.VOID",),
    quiz=QUIZ,
)
