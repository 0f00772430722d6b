"""The exercises of lesson 04."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcourse.exercises import Lesson
from segcourse.exercises.compare import Mismatch, agree
from segcourse.exercises.drivers import fcn_skips as drivers
from segcourse.exercises.exercise import Case, Draw, Exercise, Misconception, draw_tensor, draw_whole_numbers, varied
from segcourse.exercises.quiz import Option, Question
from segcourse.models.fcn import crop, set_bilinear
from segcourse.transposed import bilinear_kernel, interpolation_matrix
from segcourse.void import VOID

STEM = "04_fcn_skips"
Pair = tuple[int, int]
Triples = Sequence[tuple[int, int, int]]


# --- label_pixels -----------------------------------------------------------------------------------------


def label_pixels(features: Tensor, weight: Tensor, bias: Tensor, factor: int) -> Tensor:
    """Return a label for every pixel, from a coarse map of features."""
    scores = F.conv2d(features, weight[:, :, None, None], bias)
    enlarged = F.interpolate(scores, scale_factor=factor, mode="bilinear", align_corners=False)
    return enlarged.argmax(1)


def _coarse_map(draw: Draw) -> Case:
    n, channels, classes = draw.integer(1, 3), draw.integer(2, 4), draw.integer(3, 5)
    classes += classes == channels
    height, width = draw.integer(2, 3), draw.integer(2, 5)
    width += width == height
    apart = torch.arange(classes) / 1000  # so that no two classes tie, whatever the order of the sums
    return {
        "features": draw_tensor(draw, (n, channels, height, width), -3, 9),
        "weight": draw_tensor(draw, (classes, channels), -4, 4),
        "bias": draw_tensor(draw, (classes,), -9, 9) + apart,
        "factor": draw.integer(2, 4),
    }


def _labels_by_matrices(features: Tensor, weight: Tensor, bias: Tensor, factor: int) -> Tensor:
    """Score pixel by pixel; interpolate by two matrices whose rows are made to sum to one at the border."""
    scores = torch.einsum("kc,nchw->nkhw", weight, features) + bias[:, None, None]
    rows, columns = (m / m.sum(1, keepdim=True) for m in (interpolation_matrix(n, factor) for n in scores.shape[2:]))
    return torch.einsum("ah,bw,nkhw->nkab", rows, columns, scores).argmax(1)


def _scores(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(features, weight[:, :, None, None], bias)


def _enlarge(scores: Tensor, factor: int, **how: Any) -> Tensor:
    how = how or {"mode": "bilinear", "align_corners": False}
    return F.interpolate(scores, scale_factor=factor, **how)


LABEL_PIXELS = Exercise(
    name="label_pixels",
    lesson=STEM,
    title="Labels from a coarse map",
    points=2,
    minutes=8,
    difficulty=1,
    reference=label_pixels,
    oracle=_labels_by_matrices,
    cases=_coarse_map,
    runs=24,
    misconceptions=(
        Misconception(
            "labels_enlarged",
            lambda features, weight, bias, factor: _enlarge(
                _scores(features, weight, bias), factor, mode="nearest"
            ).argmax(1),
            "Every coarse place fills a whole block with one label: you took the largest score before enlarging, or "
            "repeated the scores instead of interpolating. Where can a boundary lie then, and where could it?",
            "A score at every pixel",
        ),
        Misconception(
            "labels_interpolated",
            lambda features, weight, bias, factor: (
                _enlarge(_scores(features, weight, bias).argmax(1, keepdim=True).float(), factor)[:, 0].round().long()
            ),
            "You took the labels first and interpolated between them. Labels are names: halfway between class 2 and "
            "class 6 there is no class 4.",
            "A score at every pixel",
        ),
        Misconception(
            "scores_returned",
            lambda features, weight, bias, factor: _enlarge(_scores(features, weight, bias), factor),
            "These are the enlarged scores. One step is missing: from K scores a pixel to one label.",
            "A score at every pixel",
        ),
        Misconception(
            "bias_dropped",
            lambda features, weight, bias, factor: label_pixels(features, weight, torch.zeros_like(bias), factor),
            "The scores lack the bias. It decides wherever two classes are close.",
            "A score at every pixel",
        ),
        Misconception(
            "corners_aligned",
            lambda features, weight, bias, factor: _enlarge(
                _scores(features, weight, bias), factor, mode="bilinear", align_corners=True
            ).argmax(1),
            "You aligned the centres of the corner pixels, which stretches the map. A coarse place covers "
            "`factor` x `factor` pixels, and its centre is theirs.",
            "A score at every pixel",
        ),
        Misconception(
            "probabilities_enlarged",
            lambda features, weight, bias, factor: _enlarge(_scores(features, weight, bias).softmax(1), factor).argmax(
                1
            ),
            "You turned the scores into probabilities before you enlarged them. Interpolate the scores themselves: a "
            "network does so, and its soft-max comes last.",
            "A score at every pixel",
        ),
        Misconception(
            "class_axis_kept",
            lambda features, weight, bias, factor: label_pixels(features, weight, bias, factor)[:, None],
            "The labels are right, but they still have an axis of length 1 where the classes were.",
            "A score at every pixel",
        ),
        Misconception(
            "largest_over_images",
            lambda features, weight, bias, factor: _enlarge(_scores(features, weight, bias), factor).argmax(0),
            "You took the largest along the first axis: it says which image of the batch scores highest. Which axis "
            "holds the classes?",
            "A score at every pixel",
        ),
        Misconception(
            "largest_over_columns",
            lambda features, weight, bias, factor: _enlarge(_scores(features, weight, bias), factor).argmax(-1),
            "You took the largest along the last axis: it says which column of the image scores highest. Which axis "
            "holds the classes?",
            "A score at every pixel",
        ),
        Misconception(
            "smallest_score",
            lambda features, weight, bias, factor: _enlarge(_scores(features, weight, bias), factor).argmin(1),
            "You took the class with the *smallest* score. A score says how much speaks for a class.",
            "A score at every pixel",
        ),
        Misconception(
            "values_of_the_largest",
            lambda features, weight, bias, factor: _enlarge(_scores(features, weight, bias), factor).amax(1),
            "These are the largest scores themselves. The label says *which* class has it: its number.",
            "A score at every pixel",
        ),
        Misconception(
            "values_and_labels",
            lambda features, weight, bias, factor: tuple(_enlarge(_scores(features, weight, bias), factor).max(1)),
            "`max` along an axis returns two tensors, the values and the indices. Only the indices are labels.",
            "A score at every pixel",
        ),
        Misconception(
            "factor_of_the_example",
            lambda features, weight, bias, factor: label_pixels(features, weight, bias, 4),
            "You always enlarge by 4, as in the example. The number of pixels is given as `factor`.",
            "A score at every pixel",
        ),
    ),
    hints=(
        "Three steps: from C features a place to K scores, from few places to many, from K scores to a label. The "
        "order matters.",
        "A 1x1 convolution makes the scores; its weight needs two more axes of length 1. F.interpolate enlarges a map "
        "(N, K, h, w) by a factor. The classes lie along axis 1.",
        "F.conv2d(features, weight[:, :, None, None], ...), then F.interpolate(..., scale_factor=factor, "
        'mode="bilinear", align_corners=False), then .argmax(...)',
    ),
    property="a pixel has the label whose bilinearly interpolated score is the largest there.",
)


# --- pixel_cross_entropy ----------------------------------------------------------------------------------


def pixel_cross_entropy(scores: Tensor, masks: Tensor) -> Tensor:
    """Return the mean over all labelled pixels of minus the logarithm of the right class's probability."""
    log_p = scores.log_softmax(1)
    labelled = masks != 255
    known = masks.where(labelled, 0)  # void needs some class to be looked up; it is left out below
    of_mask = log_p.gather(1, known[:, None])[:, 0]  # (N, H, W)
    return -of_mask[labelled].mean()


def _scores_and_masks(draw: Draw) -> Case:
    n, classes = draw.integer(1, 3), draw.integer(2, 5)
    height, width = draw.integer(1, 3), draw.integer(2, 4)
    width += width == height
    value = varied(draw)
    labels = [value.integer(0, classes + 1) for _ in range(n * height * width)]  # two of the numbers stand for void
    masks = torch.tensor([label if label < classes else VOID for label in labels]).reshape(n, height, width)
    masks[:, -1, 0] = torch.tensor([value.integer(0, classes - 1) for _ in range(n)])  # something to learn in each
    scores = draw_tensor(draw, (n, classes, height, width), -4, 6) / 2
    kind = draw.integer(0, 7)  # two in eight: their exponentials are too large for float32, and they lie far apart
    return {"scores": scores + 100 if kind == 6 else scores * 60 if kind == 7 else scores, "masks": masks}


def _cross_entropy_by_loops(scores: Tensor, masks: Tensor) -> Tensor:
    """One pixel after the other: how much more speaks for the others, from differences of scores in float64."""
    losses = []
    for n, i, j in (masks != VOID).nonzero().tolist():
        at_pixel = scores[n, :, i, j].double()
        losses.append(torch.stack([torch.exp(s - at_pixel[int(masks[n, i, j])]) for s in at_pixel]).sum().log())
    return torch.stack(losses).mean().float()


def _mean_log(log_p: Tensor, masks: Tensor) -> Tensor:
    """The loss by the mistake of looking every label up, 255 included."""
    return -log_p.gather(1, masks[:, None])[:, 0][masks != VOID].mean()


def _picked(log_p: Tensor, masks: Tensor) -> Tensor:
    """The entry of each pixel's class, (N, H, W); that of class 0 where the pixel is void."""
    return log_p.gather(1, masks.where(masks != VOID, 0)[:, None])[:, 0]


def _nll(log_p: Tensor, masks: Tensor) -> Tensor:
    return -_picked(log_p, masks)[masks != VOID].mean()


def _mean_of_images(scores: Tensor, masks: Tensor) -> Tensor:
    return torch.stack([pixel_cross_entropy(s[None], m[None]) for s, m in zip(scores, masks)]).mean()


def _mean_over_all_pixels(scores: Tensor, masks: Tensor) -> Tensor:
    return pixel_cross_entropy(scores, masks) * (masks != VOID).float().mean()


PIXEL_CROSS_ENTROPY = Exercise(
    name="pixel_cross_entropy",
    lesson=STEM,
    title="Cross-entropy with void",
    points=2,
    minutes=9,
    difficulty=2,
    reference=pixel_cross_entropy,
    oracle=_cross_entropy_by_loops,
    cases=_scores_and_masks,
    drive=drivers.loss_with_gradient,
    runs=30,
    examples=(
        {
            "scores": torch.tensor([[[[0.0, 0.0, 2.0]], [[0.0, 1.0, 2.0]]]]),
            "masks": torch.tensor([[[0, 1, VOID]]]),
        },
        {  # e to the power of these is too large for float32
            "scores": torch.tensor([[[[95.0, 99.0]], [[97.0, 96.0]], [[96.0, 100.0]]]]),
            "masks": torch.tensor([[[0, 1]]]),
        },
        {  # so far apart that one probability is too small for float32: a badly wrong pixel, and a void one
            "scores": torch.tensor([[[[120.0, 0.0, -130.0]], [[0.0, 3.0, 0.0]]]]),
            "masks": torch.tensor([[[1, 1, VOID]]]),
        },
    ),
    misconceptions=(
        Misconception(
            "gradient_lost",
            lambda scores, masks: pixel_cross_entropy(scores.detach(), masks),
            "No gradient flows from your result to the scores, so nothing can learn from it. Something on the way "
            "makes plain numbers: `.item()`, `.detach()`, `.data`, `torch.tensor(...)` or `torch.no_grad()`.",
            "A loss at every pixel",
        ),
        Misconception(
            "number_returned",
            lambda scores, masks: pixel_cross_entropy(scores, masks).item(),
            "You returned a plain number. A gradient can only flow from a tensor: leave out `.item()` or `float(...)`.",
            "A loss at every pixel",
        ),
        Misconception(
            "exponentials_overflow",
            lambda scores, masks: _nll((scores.exp() / scores.exp().sum(1, keepdim=True)).log(), masks),
            "Your loss is right for small scores and nan for large ones: e to the power of 100 is more than a float32 "
            "can hold. `log_softmax` first subtracts the largest score, which changes no probability.",
            "A loss at every pixel",
        ),
        Misconception(
            "logarithm_of_the_softmax",
            lambda scores, masks: _nll(scores.softmax(1).log(), masks),
            "Your loss is infinite where a pixel is badly wrong: a probability of e to the power of -120 is 0 in "
            "float32, and the logarithm of 0 is minus infinity. `log_softmax` never makes the probability.",
            "A loss at every pixel",
        ),
        Misconception(
            "class_axis_not_moved",
            lambda scores, masks: F.cross_entropy(
                scores.reshape(-1, scores.shape[1]), masks.reshape(-1), ignore_index=VOID
            ),
            "You made rows of K scores by a reshape alone. In (N, K, H, W) the K scores of a pixel do not lie beside "
            "each other, so your rows hold scores of different pixels: move the axis of the classes to the end first.",
            "A loss at every pixel",
        ),
        Misconception(
            "first_image_only",
            lambda scores, masks: pixel_cross_entropy(scores[:1], masks[:1]),
            "Your loss is that of the first image. The mean runs over the labelled pixels of all images.",
            "A loss at every pixel",
        ),
        Misconception(
            "void_looked_up",
            lambda scores, masks: _mean_log(scores.log_softmax(1), masks),
            "You looked up class 255. There is no such class: give void pixels some valid index for the look-up, and "
            "leave them out of the mean.",
            "A loss at every pixel",
        ),
        Misconception(
            "void_as_the_last_class",
            lambda scores, masks: pixel_cross_entropy(scores, masks.clamp(max=scores.shape[1] - 1)),
            "You gave void pixels the last class and learned them like all others. Nobody said that they are of it.",
            "A loss at every pixel",
        ),
        Misconception(
            "void_as_a_class",
            lambda scores, masks: -_picked(scores.log_softmax(1), masks).mean(),
            "You gave void pixels the label 0 and learned them like all others. Nobody said that they are class 0.",
            "A loss at every pixel",
        ),
        Misconception(
            "void_in_the_mean",
            _mean_over_all_pixels,
            "Void pixels add nothing to your sum, but you still divide by their number. An image with much void would "
            "count less.",
            "A loss at every pixel",
        ),
        Misconception(
            "mean_of_images",
            _mean_of_images,
            "You took the mean of each image, then the mean of the means. The labelled pixels of all images count "
            "alike here, and some images have fewer of them.",
            "A loss at every pixel",
        ),
        Misconception(
            "softmax_over_columns",
            lambda scores, masks: _nll(scores.log_softmax(-1), masks),
            "Your soft-max runs along the last axis, the columns of the image. At each pixel the *classes* compete.",
            "A loss at every pixel",
        ),
        Misconception(
            "softmax_over_images",
            lambda scores, masks: _nll(scores.log_softmax(0), masks),
            "Your soft-max runs along the first axis, the images of the batch. At each pixel the *classes* compete.",
            "A loss at every pixel",
        ),
        Misconception(
            "softmax_twice",
            lambda scores, masks: _nll(scores.softmax(1).log_softmax(1), masks),
            "You took the soft-max twice. log_softmax and F.cross_entropy contain it: hand them the scores.",
            "A loss at every pixel",
        ),
        Misconception(
            "no_softmax",
            lambda scores, masks: _nll(scores, masks),
            "You took the scores for logarithms of probabilities. What makes probabilities of scores?",
            "A loss at every pixel",
        ),
        Misconception(
            "no_logarithm",
            lambda scores, masks: _nll(scores.softmax(1), masks),
            "You averaged the probabilities of the right classes. The loss is minus their *logarithm*.",
            "A loss at every pixel",
        ),
        Misconception(
            "sign_forgotten",
            lambda scores, masks: -pixel_cross_entropy(scores, masks),
            "Your loss is never positive, and it rises when the network gets better. A logarithm of a probability is "
            "at most 0: what is missing?",
            "A loss at every pixel",
        ),
        Misconception(
            "summed",
            lambda scores, masks: pixel_cross_entropy(scores, masks) * int((masks != VOID).sum()),
            "You added the pixels' losses up. Their mean is asked for, so that a larger image has no larger loss.",
            "A loss at every pixel",
        ),
    ),
    hints=(
        "At one pixel: the soft-max of its K scores, the probability of the class in the mask, minus its logarithm. "
        "Then which pixels does the mean run over?",
        "log_softmax along the class axis; `gather` picks one entry along an axis, and needs an index for every pixel, "
        "a valid one for void too. A boolean mask then selects the labelled pixels.",
        "scores.log_softmax(1).gather(1, index[:, None])[:, 0], where `index` is the mask with void replaced by some "
        "class; then keep [masks != 255], take the mean, and mind the sign",
    ),
    property="the loss is the mean of -log p over the labelled pixels of all images, p the soft-max probability of the "
    "mask's class.",
)


# --- crop_offset ------------------------------------------------------------------------------------------


def crop_offset(layers: Triples, kernel: int) -> int:
    """Return where, on a map, the first unit lies after going down these layers and up again."""
    centre, step = 0.0, 1
    for k, stride, padding in layers:
        centre += ((k - 1) / 2 - padding) * step
        step *= stride
    return int(centre - (kernel - 1) / 2)


def _way_down(draw: Draw) -> Case:
    choices = ((3, 1, 1), (2, 2, 0), (3, 1, 0), (5, 1, 2), (3, 3, 0), (3, 2, 1), (7, 1, 0), (1, 1, -5), (4, 4, 1))
    layers = [draw.choice(choices) for _ in range(draw.integer(1, 4))]
    if draw.choice((False, True)):
        padding = draw.integer(1, 20)
        layers.insert(0, (draw.choice((3, 5)), 1, padding))
    strided = draw.choice((2, 4)), draw.choice((2, 2, 3, 4)), draw.choice((0, 0, 1))
    layers.insert(draw.integer(0, len(layers)), strided)
    step = math.prod(stride for _, stride, _ in layers)
    kernel = draw.choice((2 * step, 2 * step - 1, step))
    return {"layers": layers, "kernel": kernel + _twice_the_centre(layers, kernel) % 2}


def _twice_the_centre(layers: Triples, kernel: int) -> int:
    """Twice the place of the first unit: odd where the maps do not lie on each other."""
    step, twice = 1, 1 - kernel
    for k, stride, padding in layers:
        twice += (k - 1 - 2 * padding) * step
        step *= stride
    return twice


def _offset_by_extents(layers: Triples, kernel: int) -> int:
    """From the coarse unit back to what it sees, and from there to what it stamps: both stretches share a middle."""
    first = last = 0
    for k, stride, padding in reversed(layers):
        first, last = first * stride - padding, last * stride - padding + k - 1
    return (first + last - (kernel - 1)) // 2


def _whole(expected: int, got: Any) -> Mismatch | None:
    """Compare, and refuse a float or a fraction with the right value: it can be no end of a slice."""
    number = got.item() if getattr(got, "ndim", None) == 0 else got
    mismatch = agree(expected, got)
    if mismatch is None and not isinstance(number, int):
        return Mismatch(f"it returned the {type(number).__name__.lower()} {number}; a whole number was expected.")
    return mismatch


def _offset_with(
    each: Callable[[int, int, int, int], float] = lambda k, padding, step, stride: ((k - 1) / 2 - padding) * step,
    grow: Callable[[int, int], int] = lambda step, stride: step * stride,
    up: Callable[[int], float] = lambda kernel: (kernel - 1) / 2,
) -> Callable[[Triples, int], float]:
    """A wrong walk: what a layer adds to the centre, how the step grows, what the deconvolution takes back."""

    def offset(layers: Triples, kernel: int) -> float:
        centre, step = 0.0, 1
        for k, stride, padding in layers:
            centre += each(k, padding, step, stride)
            step = grow(step, stride)
        return centre - up(kernel)

    return offset


ROUNDINGS: dict[str, Callable[[float], float]] = {
    "": int,
    "_floored": math.floor,
    "_rounded": round,
    "_as_a_float": float,
}
"""How students make a whole number of a wrong half; the first is the course's own way."""
TWO_WAYS = ("", "_as_a_float")
"""The likely ones."""


def _however_rounded(
    id: str, wrong: Callable[[Triples, int], float], says: str, ways: Sequence[str] = tuple(ROUNDINGS)
) -> list[Misconception]:
    """The same mistake with each of some ways to round."""
    return [
        Misconception(
            id + way,
            lambda layers, kernel, whole=ROUNDINGS[way]: whole(wrong(layers, kernel)),
            says,
            "Where the maps lie",
        )
        for way in ways
    ]


def _always_whole(id: str, wrong: Callable[[Triples, int], float], says: str) -> Misconception:
    return Misconception(id, lambda layers, kernel: int(wrong(layers, kernel)), says, "Where the maps lie")


HALF = "You rounded the middle of even kernels. The middle of two units lies *between* them, and after more poolings "
HALF += "the halves add up."


CROP_OFFSET = Exercise(
    name="crop_offset",
    lesson=STEM,
    title="The crop offset",
    points=3,
    minutes=12,
    difficulty=2,
    reference=crop_offset,
    oracle=_offset_by_extents,
    cases=_way_down,
    examples=(
        {"layers": [(3, 1, 1), (3, 1, 1), (3, 1, 1), (2, 2, 0), (7, 1, 0)], "kernel": 4},
        {"layers": [(3, 1, 1), (2, 2, 0), (1, 1, -5)], "kernel": 4},
        {"layers": [(3, 1, 9), (2, 2, 0), (3, 1, 1), (2, 2, 0)], "kernel": 8},
        {"layers": [(3, 2, 1), (2, 2, 0)], "kernel": 9},  # in the wrong order these two begin at a half,
        {"layers": [(3, 2, 1), (2, 2, 0)], "kernel": 7},  # which each way to round takes elsewhere
        {"layers": [(1, 1, -5), (3, 2, 1)], "kernel": 3},
        {"layers": [(3, 3, 1), (4, 4, 0), (3, 1, 1)], "kernel": 24},
    ),
    compare=_whole,
    misconceptions=(
        Misconception(
            "float_returned",
            lambda layers, kernel: float(crop_offset(layers, kernel)),
            "The value is right, but its type is not: 5.0, say, in place of 5. It will be the end of a slice, and "
            "those are ints: what turns 5.0 into 5?",
            "Exercise: the crop offset (3 points)",
        ),
        _always_whole(
            "padding_forgotten",
            _offset_with(each=lambda k, padding, step, stride: (k - 1) / 2 * step),
            "You left the padding out. Padding puts units before the first one, so the first window begins earlier.",
        ),
        _always_whole(
            "padding_added",
            _offset_with(each=lambda k, padding, step, stride: ((k - 1) / 2 + padding) * step),
            "You added the padding. It puts units *before* the first one: to which side does the first window move?",
        ),
        _always_whole(
            "padding_not_stretched",
            _offset_with(each=lambda k, padding, step, stride: (k - 1) / 2 * step - padding),
            "You stretched half of the kernel by the step and not the padding. Both are counted in units of the map "
            "that the layer reads. (Without brackets a product comes before a difference.)",
        ),
        *_however_rounded(
            "steps_forgotten",
            _offset_with(each=lambda k, padding, step, stride: (k - 1) / 2 - padding),
            "You added each layer's shift as it is. After a pooling, one unit of the smaller map is two units of the "
            "map you count in.",
            TWO_WAYS,
        ),
        *_however_rounded(
            "own_stride_counted",
            _offset_with(each=lambda k, padding, step, stride: ((k - 1) / 2 - padding) * step * stride),
            "You let a layer's own stride stretch its shift. The first window lies where it lies however far away "
            "the second one is: which strides count?",
            TWO_WAYS,
        ),
        *_however_rounded(
            "layers_reversed",
            lambda layers, kernel: _offset_with()(layers[::-1], kernel),
            "You went through the layers from the last to the first while the step grew. The step grows on the way "
            "down: begin with the layer that reads the map.",
            TWO_WAYS,
        ),
        *_however_rounded(
            "upsampling_forgotten",
            _offset_with(up=lambda kernel: 0),
            "You stopped at the coarse unit. The upsampling stamps a whole kernel around it, and the upsampled map "
            "begins where the first stamp begins.",
            TWO_WAYS,
        ),
        *_however_rounded(
            "whole_kernel_back",
            _offset_with(up=lambda kernel: kernel - 1),
            "You went back by the whole kernel of the upsampling. Its stamp lies around the coarse unit, half of it "
            "on each side.",
            TWO_WAYS,
        ),
        *_however_rounded(
            "half_kernel_back",
            _offset_with(up=lambda kernel: kernel / 2),
            "You are off by one half or by one: you went back by half the upsampling's kernel. From the first to the "
            "middle of k units it is not k/2 steps; count them for k = 3.",
        ),
        *_however_rounded(
            "half_kernels_in_the_layers",
            _offset_with(each=lambda k, padding, step, stride: (k / 2 - padding) * step),
            "In the layers you went on by half a kernel, k/2. From the first to the middle of k units it is not k/2 "
            "steps; count them for k = 3.",
            TWO_WAYS,
        ),
        *_however_rounded(
            "half_kernels_everywhere",
            _offset_with(each=lambda k, padding, step, stride: (k / 2 - padding) * step, up=lambda kernel: kernel / 2),
            "You counted half a kernel, k/2, on the way down and on the way up. From the first to the middle of k "
            "units it is not k/2 steps; count them for k = 3.",
            TWO_WAYS,
        ),
        *_however_rounded(
            "upsampling_rounded_down",
            _offset_with(up=lambda kernel: (kernel - 1) // 2),
            HALF,
            TWO_WAYS,
        ),
        *_however_rounded(
            "upsampling_rounded_up",
            _offset_with(up=lambda kernel: kernel // 2),
            HALF,
            TWO_WAYS,
        ),
        _always_whole(
            "centres_rounded_up",
            _offset_with(each=lambda k, padding, step, stride: (k // 2 - padding) * step, up=lambda k: k // 2),
            HALF,
        ),
        _always_whole(
            "centres_rounded_down",
            _offset_with(
                each=lambda k, padding, step, stride: ((k - 1) // 2 - padding) * step, up=lambda k: (k - 1) // 2
            ),
            HALF,
        ),
        *_however_rounded(
            "layers_rounded_up",
            _offset_with(each=lambda k, padding, step, stride: (k // 2 - padding) * step),
            HALF,
            TWO_WAYS,
        ),
        *_however_rounded(
            "layers_rounded_down",
            _offset_with(each=lambda k, padding, step, stride: ((k - 1) // 2 - padding) * step),
            HALF,
            TWO_WAYS,
        ),
        _always_whole(
            "kernels_forgotten",
            _offset_with(each=lambda k, padding, step, stride: -padding * step, up=lambda kernel: 0),
            "You only followed the padding: where the first windows begin. What a unit stands for is the *middle* of "
            "its window.",
        ),
        _always_whole(
            "other_way_round",
            lambda layers, kernel: -crop_offset(layers, kernel),
            "The number is right, the sign is not. Positive means: the upsampled map begins later, so many units of "
            "the finer map come before it.",
        ),
        _always_whole(
            "sign_lost",
            lambda layers, kernel: abs(crop_offset(layers, kernel)),
            "You took the sign away. An upsampled map may begin before the map, and the number is negative then.",
        ),
        _always_whole(
            "cut_at_zero",
            lambda layers, kernel: max(0, crop_offset(layers, kernel)),
            "You return 0 where the number is negative. It says by how much the upsampled map begins *before* the map.",
        ),
    ),
    hints=(
        "Keep two numbers on the way down: the centre of the first unit, and the step to the next one, both in units "
        "of the map you start from. How does each layer change them?",
        "A window of k begins `padding` units before the first one, and its middle lies (k - 1) / 2 further on; both "
        "are counted in steps of the map that the layer reads. At the end, the upsampling has come back to steps of "
        "1, and its first stamp begins (kernel - 1) / 2 before the coarse unit.",
        "centre += ((k - 1) / 2 - padding) * step, then step *= ...; at the end centre - (kernel - ...) / 2",
    ),
    property="the first upsampled unit lies on unit number `offset` of the map; a negative number lies before unit 0.",
)


# --- fuse -------------------------------------------------------------------------------------------------


def fuse(score: Tensor, skip_score: Tensor, weight: Tensor, offset: int) -> Tensor:
    """Return coarse scores upsampled by 2, plus the finer scores that lie under them."""
    upsampled = F.conv_transpose2d(score, weight, stride=2)
    height, width = upsampled.shape[2:]
    return upsampled + skip_score[:, :, offset : offset + height, offset : offset + width]


def _two_score_maps(draw: Draw) -> Case:
    n, classes = draw.integer(1, 3), draw.integer(2, 3)
    height, width = draw.integer(1, 2), draw.integer(1, 3)
    width += width == height
    kernel, offset = draw.choice((4, 3, 2)), draw.integer(1, 4)
    rows, columns = (2 * size - 2 + kernel + offset + draw.integer(0, 3) for size in (height, width))
    return {
        "score": draw_tensor(draw, (n, classes, height, width), -3, 5),
        "skip_score": draw_tensor(draw, (n, classes, rows, columns), 10, 99),
        "weight": draw_whole_numbers(draw, (classes, classes, kernel, kernel), -2, 3),
        "offset": offset,
    }


def _example(room: int, kernel: int) -> Case:
    """Two maps with so many units too many at each far end; the offset is 2."""
    generator = torch.Generator().manual_seed(kernel)
    rows, columns = 4 - 2 + kernel + 2 + room, 6 - 2 + kernel + 2 + room
    shapes = {"score": (1, 2, 2, 3), "skip_score": (1, 2, rows, columns), "weight": (2, 2, kernel, kernel)}
    maps = {name: torch.randint(1, 9, shape, generator=generator).float() for name, shape in shapes.items()}
    return {**maps, "offset": 2}


def _fused_by_stamps(score: Tensor, skip_score: Tensor, weight: Tensor, offset: int) -> Tensor:
    """Stamp by stamp: each coarse place adds its scores, mixed, times the kernel."""
    height, width = score.shape[2:]
    k = weight.shape[2]
    result = skip_score.roll((-offset, -offset), (2, 3))[:, :, : 2 * height - 2 + k, : 2 * width - 2 + k].clone()
    for i in range(height):
        for j in range(width):
            stamp = torch.einsum("nk,kmab->nmab", score[:, :, i, j], weight)
            result[:, :, 2 * i : 2 * i + k, 2 * j : 2 * j + k] += stamp
    return result


def _fused_from(
    skip: Callable[[Tensor, int, int, int], Tensor],
    join: Callable[[Tensor, Tensor], Tensor] = torch.add,
    up: Callable[[Tensor, Tensor], Tensor] = lambda score, weight: F.conv_transpose2d(score, weight, stride=2),
) -> Callable[..., Tensor]:
    """A fusion with a mistake in it: how the skip is cut, how the two are joined, how the coarse one is enlarged."""

    def fused(score: Tensor, skip_score: Tensor, weight: Tensor, offset: int) -> Tensor:
        upsampled = up(score, weight)
        return join(upsampled, skip(skip_score, offset, upsampled.shape[2], upsampled.shape[3]))

    return fused


def _cut(skip: Tensor, offset: int, height: int, width: int) -> Tensor:
    return skip[:, :, offset : offset + height, offset : offset + width]


def _cut_from_the_middle(skip: Tensor, offset: int, height: int, width: int) -> Tensor:
    top, left = (skip.shape[2] - height) // 2, (skip.shape[3] - width) // 2
    return skip[:, :, top : top + height, left : left + width]


def _upsampled_is_cut(score: Tensor, skip_score: Tensor, weight: Tensor, offset: int) -> Tensor:
    upsampled = F.conv_transpose2d(score, weight, stride=2)
    height, width = skip_score.shape[2:]
    return upsampled[:, :, offset : offset + height, offset : offset + width] + skip_score


def _cut_for_a_kernel_of_4(score: Tensor, skip_score: Tensor, weight: Tensor, offset: int) -> Tensor:
    height, width = (2 * size + 2 for size in score.shape[2:])
    return F.conv_transpose2d(score, weight, stride=2) + _cut(skip_score, offset, height, width)


def _resized(skip: Tensor, offset: int, height: int, width: int) -> Tensor:
    return F.interpolate(skip, (height, width), mode="bilinear", align_corners=False)


def _upsampled_by_tents(score: Tensor, weight: Tensor) -> Tensor:
    return F.conv_transpose2d(score, torch.eye(len(weight))[:, :, None, None] * bilinear_kernel(2, ndim=2), stride=2)


FUSE = Exercise(
    name="fuse",
    lesson=STEM,
    title="Fuse two score maps",
    points=2,
    minutes=8,
    difficulty=2,
    reference=fuse,
    oracle=_fused_by_stamps,
    cases=_two_score_maps,
    runs=24,
    examples=(_example(0, 4), _example(2, 4), _example(0, 3), _example(2, 3)),
    misconceptions=(
        Misconception(
            "no_end",
            _fused_from(lambda skip, offset, height, width: skip[:, :, offset:, offset:]),
            "You cropped the finer map at the beginning only. It may be too long at the far ends as well: the crop "
            "must be as high and wide as the upsampled map.",
            "Exercise: fuse two score maps (2 points)",
        ),
        Misconception(
            "offset_at_both_ends",
            _fused_from(lambda skip, offset, height, width: skip[:, :, offset:-offset, offset:-offset]),
            "You left out `offset` units at the far ends too. How many must go there depends on the sizes of the two "
            "maps, not on the offset.",
            "Exercise: fuse two score maps (2 points)",
        ),
        Misconception(
            "end_without_offset",
            _fused_from(lambda skip, offset, height, width: skip[:, :, offset:height, offset:width]),
            "Your slices end at the upsampled map's height and width. A slice's end is a place, not a length: where "
            "does a piece of this length end that begins at the offset?",
            "Exercise: fuse two score maps (2 points)",
        ),
        Misconception(
            "not_cropped",
            _fused_from(lambda skip, offset, height, width: skip),
            "You added the finer map without a crop, or cropped its rows alone. It is larger than the upsampled one "
            "and begins earlier, along both axes.",
            "Exercise: fuse two score maps (2 points)",
        ),
        Misconception(
            "cropped_square",
            _fused_from(lambda skip, offset, height, width: _cut(skip, offset, height, height)),
            "You cropped a square: as many columns as rows. The upsampled map has a height and a width.",
            "Exercise: fuse two score maps (2 points)",
        ),
        Misconception(
            "offset_of_the_paper",
            _fused_from(lambda skip, offset, height, width: _cut(skip, 5, height, width)),
            "You always crop at 5. That is pool4's offset in the paper's network; here it is given as `offset`.",
            "Exercise: fuse two score maps (2 points)",
        ),
        Misconception(
            "upsampled_is_cut",
            _upsampled_is_cut,
            "You cropped the upsampled map. The finer map is the larger one here: it is what has too many units.",
            "Exercise: fuse two score maps (2 points)",
        ),
        Misconception(
            "size_for_a_kernel_of_4",
            _cut_for_a_kernel_of_4,
            "You crop to 2h + 2 and 2w + 2, which holds for a kernel of 4 alone. The upsampled map knows its size.",
            "Exercise: fuse two score maps (2 points)",
        ),
        Misconception(
            "skip_not_added",
            _fused_from(_cut, lambda upsampled, skip: upsampled),
            "You returned the upsampled scores alone. Where are those of the finer map?",
            "Adding scores",
        ),
        Misconception(
            "skip_alone",
            _fused_from(_cut, lambda upsampled, skip: skip),
            "You returned the finer map's scores alone. Where are the upsampled ones?",
            "Adding scores",
        ),
        Misconception(
            "mean_of_both",
            _fused_from(_cut, lambda upsampled, skip: (upsampled + skip) / 2),
            "You took the mean of the two. FCN adds them.",
            "Adding scores",
        ),
        Misconception(
            "tent_in_place_of_the_weight",
            _fused_from(_cut, up=_upsampled_by_tents),
            "You upsampled with bilinear kernels. The upsampling only starts there: what it has learned since is in "
            "`weight`.",
            "Upsampling, set to bilinear and learned",
        ),
        Misconception(
            "concatenates",
            _fused_from(_cut, lambda a, b: torch.cat([a, b], dim=1)),
            "You put the two maps behind each other: twice as many channels. FCN *adds* them: each class has one score "
            "from the coarse map and one from the fine map. (U-Net concatenates, and features at that.)",
            "Adding scores",
        ),
        Misconception(
            "not_cropped_to_its_place",
            _fused_from(lambda skip, offset, height, width: skip[:, :, :height, :width]),
            "You took the finer map from its corner on. The upsampled map begins `offset` units later.",
            "Exercise: fuse two score maps (2 points)",
        ),
        Misconception(
            "cropped_in_the_middle",
            _fused_from(_cut_from_the_middle),
            "You cropped the same number of units from both sides. The two sides are not alike: `offset` says how "
            "many go at the upper left, the rest goes at the lower right.",
            "Exercise: fuse two score maps (2 points)",
        ),
        Misconception(
            "resized",
            _fused_from(_resized),
            "You resized the finer map to the upsampled one's size. That shifts its scores to other places; crop it.",
            "Exercise: fuse two score maps (2 points)",
        ),
        Misconception(
            "kernel_ignored",
            _fused_from(_cut, up=lambda score, weight: _enlarge(score, 2)),
            "You interpolated with a fixed kernel. The upsampling is learned: it has a `weight`, and with a kernel "
            "of 4 its map is two units larger.",
            "Upsampling, set to bilinear and learned",
        ),
        Misconception(
            "padded_upsampling",
            _fused_from(_cut, up=lambda score, weight: F.conv_transpose2d(score, weight, stride=2, padding=1)),
            "Your upsampling crops a border off itself (padding=1). FCN's has no padding; the offset counts on that.",
            "Upsampling, set to bilinear and learned",
        ),
        Misconception(
            "kernel_axes_exchanged",
            _fused_from(_cut, up=lambda score, weight: F.conv_transpose2d(score, weight.transpose(0, 1), stride=2)),
            "You exchanged the first two axes of the weight. For a transposed convolution they are (in, out), and "
            "PyTorch takes them as they are.",
            "Upsampling, set to bilinear and learned",
        ),
    ),
    hints=(
        "Upsample first, and print the shape: so many rows and columns of the finer map are needed, and they do not "
        "begin at its corner.",
        "F.conv_transpose2d with a stride upsamples. Slice both spatial axes of the finer map: from the offset on, as "
        "long as the upsampled map. Then one operation joins two maps of equal shape without changing that shape.",
        "upsampled + skip_score[:, :, offset : offset + upsampled.shape[2], offset : ...]",
    ),
    property="entry (n, k, i, j) is the upsampled score there plus skip_score[n, k, i + offset, j + offset].",
)


# --- fcn8_scores ------------------------------------------------------------------------------------------


def fcn8_scores(
    pool3: Tensor,
    pool4: Tensor,
    fc7: Tensor,
    score_weights: tuple[Tensor, Tensor, Tensor],
    up_weights: tuple[Tensor, Tensor, Tensor],
    offsets: tuple[int, int, int],
    size: Pair,
) -> Tensor:
    """Return the scores of FCN-8s at every pixel, from three maps of features."""
    score_fr, score_pool4, score_pool3 = score_weights
    up2, up4, up = up_weights
    score = F.conv2d(fc7, score_fr)
    score = fuse(score, F.conv2d(pool4, score_pool4), up2, offsets[0])
    score = fuse(score, F.conv2d(pool3, score_pool3), up4, offsets[1])
    score = F.conv_transpose2d(score, up, stride=8)
    rows, columns = (slice(offsets[2], offsets[2] + length) for length in size)
    return score[:, :, rows, columns]


def _three_maps(draw: Draw) -> Case:
    n, classes = draw.integer(1, 2), draw.integer(2, 3)
    same = draw.choice((False, False, True))  # then even features that were not scored can be added up
    channels = [classes if same else classes + 1 + draw.integer(0, 1) + i for i in range(3)]  # of pool3, pool4, fc7
    height, width = draw.integer(1, 2), draw.integer(1, 2)
    width += width == height
    offsets = (draw.integer(1, 3), draw.integer(1, 5), draw.integer(3, 20))
    offsets = (*offsets[:2], offsets[2] + (offsets[2] == offsets[1]))
    fourth = [2 * n + 2 for n in (height, width)]
    eighth = [2 * n + 2 for n in fourth]
    room = [draw.integer(0, 2) for _ in range(4)]
    size = [8 * n + 8 - offsets[2] - draw.integer(1, 30) for n in eighth]
    return {
        "pool3": draw_whole_numbers(draw, (n, channels[0], *(e + offsets[1] + r for e, r in zip(eighth, room))), -3, 9),
        "pool4": draw_whole_numbers(
            draw, (n, channels[1], *(f + offsets[0] + r for f, r in zip(fourth, room[2:]))), -3, 9
        ),
        "fc7": draw_whole_numbers(draw, (n, channels[2], height, width), -3, 9),
        "score_weights": tuple(draw_whole_numbers(draw, (classes, c, 1, 1), -3, 3) for c in reversed(channels)),
        "up_weights": tuple(draw_whole_numbers(draw, (classes, classes, k, k), -2, 3) for k in (4, 4, 16)),
        "offsets": offsets,
        "size": tuple(size),
    }


class _Head(nn.Module):
    """The head of FCN-8s as modules with these weights, cropped by the model's own function."""

    def __init__(self, scores: Sequence[Tensor], ups: Sequence[Tensor]) -> None:
        super().__init__()
        self.scores = nn.ModuleList(nn.Conv2d(w.shape[1], w.shape[0], 1, bias=False) for w in scores)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(w.shape[0], w.shape[1], w.shape[2], w.shape[2] // 2, bias=False) for w in ups
        )
        for layer, weight in zip((*self.scores, *self.ups), (*scores, *ups)):
            layer.weight = nn.Parameter(weight)

    @torch.no_grad()
    def forward(self, maps: Sequence[Tensor], offsets: Sequence[int], size: Pair) -> Tensor:
        last, *earlier = (score(x) for score, x in zip(self.scores, maps))
        for up, skip, offset in zip(self.ups, earlier, offsets):
            last = up(last)
            last = last + crop(skip, offset, last)
        return crop(self.ups[-1](last), offsets[-1], torch.empty(1, 1, *size))


def _by_modules(
    pool3: Tensor, pool4: Tensor, fc7: Tensor, score_weights: Any, up_weights: Any, offsets: Any, size: Pair
) -> Any:
    return _Head(score_weights, up_weights)((fc7, pool4, pool3), offsets, size)


def _assembled(
    first: Callable[..., Tensor] = lambda score, skip, up, offset: fuse(score, skip, up, offset),
    second: Callable[..., Tensor] = lambda score, skip, up, offset: fuse(score, skip, up, offset),
    last: Callable[[Tensor, int, Pair], Tensor] = lambda score, offset, size: _place(score, offset, size),
    enlarge: Callable[[Tensor, Tensor], Tensor] = lambda score, up: F.conv_transpose2d(score, up, stride=8),
    places: tuple[int, int, int] = (0, 1, 2),
    pools: tuple[int, int] = (0, 1),
    ups: tuple[int, int] = (0, 1),
    weights: tuple[int, int, int] = (0, 1, 2),
) -> Callable[..., Tensor]:
    """A head with a mistake in it: in a fusion, at the end, or in the order of offsets, pools, kernels or scores."""

    def scores(
        pool3: Tensor, pool4: Tensor, fc7: Tensor, score_weights: Any, up_weights: Any, offsets: Any, size: Pair
    ) -> Tensor:
        of_fc7, of_pool4, of_pool3 = (score_weights[i] for i in weights)
        skips = [F.conv2d(pool4, of_pool4), F.conv2d(pool3, of_pool3)]
        at = [offsets[i] for i in places]
        score = first(F.conv2d(fc7, of_fc7), skips[pools[0]], up_weights[ups[0]], at[0])
        score = second(score, skips[pools[1]], up_weights[ups[1]], at[1])
        return last(enlarge(score, up_weights[2]), at[2], size)

    return scores


def _place(score: Tensor, offset: int, size: Pair) -> Tensor:
    return score[:, :, offset : offset + size[0], offset : offset + size[1]]


def _without_skip(score: Tensor, skip: Tensor, up: Tensor, offset: int) -> Tensor:
    return F.conv_transpose2d(score, up, stride=2)


def _features_added(
    pool3: Tensor, pool4: Tensor, fc7: Tensor, score_weights: Any, up_weights: Any, offsets: Any, size: Pair
) -> Tensor:
    features = fuse(fuse(fc7, pool4, up_weights[0], offsets[0]), pool3, up_weights[1], offsets[1])
    return _place(F.conv_transpose2d(F.conv2d(features, score_weights[0]), up_weights[2], stride=8), offsets[2], size)


def _skips_not_scored(
    pool3: Tensor, pool4: Tensor, fc7: Tensor, score_weights: Any, up_weights: Any, offsets: Any, size: Pair
) -> Tensor:
    score = fuse(F.conv2d(fc7, score_weights[0]), pool4, up_weights[0], offsets[0])
    score = fuse(score, pool3, up_weights[1], offsets[1])
    return _place(F.conv_transpose2d(score, up_weights[2], stride=8), offsets[2], size)


FCN8_SCORES = Exercise(
    name="fcn8_scores",
    lesson=STEM,
    title="FCN-8s, assembled",
    points=3,
    minutes=12,
    difficulty=3,
    reference=fcn8_scores,
    oracle=_by_modules,
    cases=_three_maps,
    runs=12,
    misconceptions=(
        Misconception(
            "pools_exchanged",
            _assembled(pools=(1, 0)),
            "You fused with pool3 first and with pool4 second. After one upsampling the scores have a step of 16 "
            "pixels: which pool has that step?",
            "Three networks",
        ),
        Misconception(
            "features_added",
            _features_added,
            "You added features and scored the sum. Features of different layers mean different things, and only by "
            "chance are there as many; score each map by itself first, then fuse.",
            "Why scoring comes first",
        ),
        Misconception(
            "skips_not_scored",
            _skips_not_scored,
            "You scored fc7 alone and fused its scores with the features of pool4 and pool3. Each map needs its own "
            "score layer before the sum.",
            "Why scoring comes first",
        ),
        Misconception(
            "skips_left_out",
            _assembled(_without_skip, _without_skip),
            "You upsampled three times and never looked at pool4 and pool3: what and no where.",
            "Where and what",
        ),
        Misconception(
            "pool3_left_out",
            _assembled(second=_without_skip),
            "pool4's scores are in, pool3's are not. That is an FCN-16s with two upsamplings at the end.",
            "Three networks",
        ),
        Misconception(
            "scores_reversed",
            _assembled(weights=(2, 1, 0)),
            "You took the score weights from pool3 to fc7. They are given in the order of use: fc7's come first.",
            "Exercise: FCN-8s, assembled (3 points)",
        ),
        Misconception(
            "kernel_used_twice",
            _assembled(ups=(0, 0)),
            "You upsampled twice with the same kernel. There are two of them, up2 for the first fusion and up4 for the "
            "second.",
            "Exercise: FCN-8s, assembled (3 points)",
        ),
        Misconception(
            "interpolated_at_the_end",
            _assembled(enlarge=lambda score, up: _enlarge(score, 8)),
            "You enlarged the last scores with F.interpolate. `offsets` counts on the transposed convolution with the "
            "third kernel, whose map begins half a kernel earlier.",
            "Upsampling, set to bilinear and learned",
        ),
        Misconception(
            "sides_exchanged",
            _assembled(last=lambda score, offset, size: _place(score, offset, (size[1], size[0]))),
            "You exchanged height and width. `size` begins with the height, which counts rows.",
            "Exercise: FCN-8s, assembled (3 points)",
        ),
        Misconception(
            "cropped_square",
            _assembled(last=lambda score, offset, size: _place(score, offset, (size[0], size[0]))),
            "You cropped a square. The image has a height and a width.",
            "Exercise: FCN-8s, assembled (3 points)",
        ),
        Misconception(
            "offsets_exchanged",
            _assembled(places=(1, 0, 2)),
            "You exchanged the offsets of the two skips. They come in the order in which they are needed, from coarse "
            "to fine.",
            "Where the maps lie",
        ),
        Misconception(
            "first_offset_twice",
            _assembled(places=(0, 0, 2)),
            "You cropped both pools at the first offset. There is one for pool4 and one for pool3.",
            "Where the maps lie",
        ),
        Misconception(
            "offsets_of_the_paper",
            lambda pool3, pool4, fc7, score_weights, up_weights, offsets, size: fcn8_scores(
                pool3, pool4, fc7, score_weights, up_weights, (5, 9, 31), size
            ),
            "You crop at 5, 9 and 31, as the paper's network does. Another geometry has other offsets: they are given.",
            "Where the maps lie",
        ),
        Misconception(
            "not_cropped",
            _assembled(last=lambda score, offset, size: score),
            "The last step is missing: the upsampled map is larger than the image. Where does the image lie on it?",
            "Where the maps lie",
        ),
        Misconception(
            "cropped_at_the_corner",
            _assembled(last=lambda score, offset, size: _place(score, 0, size)),
            "The size is right, but you cropped from the corner of the upsampled map. The image begins `offsets[2]` "
            "units later.",
            "Where the maps lie",
        ),
        Misconception(
            "end_without_offset",
            _assembled(last=lambda score, offset, size: score[:, :, offset : size[0], offset : size[1]]),
            "Your last slices end at the image's height and width. A slice's end is a place, not a length: where does "
            "a piece of this length end that begins at the offset?",
            "Exercise: FCN-8s, assembled (3 points)",
        ),
        Misconception(
            "cropped_in_the_middle",
            _assembled(last=lambda score, offset, size: _cut_from_the_middle(score, offset, *size)),
            "You took the image from the middle of the upsampled map. The two sides are not alike: the image begins "
            "`offsets[2]` units in.",
            "Where the maps lie",
        ),
        Misconception(
            "resized_at_the_end",
            _assembled(
                last=lambda score, offset, size: F.interpolate(score, size, mode="bilinear", align_corners=False)
            ),
            "You resized the upsampled map to the image. It has the image's scale already, and more around it: crop.",
            "Where the maps lie",
        ),
        Misconception(
            "labels_returned",
            lambda *given: fcn8_scores(*given).argmax(1),
            "These are labels. The loss needs the scores of all classes, and so does whoever calls this.",
            "Exercise: FCN-8s, assembled (3 points)",
        ),
    ),
    hints=(
        "Draw it: three maps on the left, each through its own 1x1 convolution; the coarsest goes up, meets the next "
        "one, goes up, meets the last one, goes up. Your `fuse` does one meeting.",
        "Start with the scores of fc7. Call `fuse` twice, from coarse to fine, each time with the scores of a pool, a "
        "kernel and an offset. Then one more transposed convolution, of stride 8, and a crop of the image's size.",
        "score = fuse(F.conv2d(fc7, score_fr), F.conv2d(pool4, ...), up2, offsets[0]); the same with pool3; then "
        "F.conv_transpose2d(score, up, stride=8) and a slice from offsets[2] to offsets[2] + size[0], ...",
    ),
    property="the result has the image's size, and each pixel's scores are those of fc7, pool4 and pool3 that lie "
    "under it, upsampled and added.",
)


# --- start_16s --------------------------------------------------------------------------------------------


def start_16s(score_weight: Tensor, score_bias: Tensor, channels: int) -> dict[str, Tensor]:
    """Return the head with which FCN-16s starts from a trained FCN-32s."""
    classes = len(score_bias)
    head = {"score_fr.weight": score_weight, "score_fr.bias": score_bias}
    head["score_pool4.weight"] = torch.zeros(classes, channels, 1, 1)
    head["score_pool4.bias"] = torch.zeros(classes)
    for name, factor in (("up2.weight", 2), ("up.weight", 16)):
        head[name] = torch.zeros(classes, classes, 2 * factor, 2 * factor)
        for k in range(classes):
            head[name][k, k] = bilinear_kernel(factor, ndim=2)
    return head


def _trained_head(draw: Draw) -> Case:
    classes, units = draw.integer(2, 4), draw.integer(2, 3)
    units += 3 * (units == classes)
    channels = classes + draw.integer(1, 3)
    return {
        "score_weight": draw_tensor(draw, (classes, units, 1, 1), -9, 9),
        "score_bias": draw_tensor(draw, (classes,), -9, 9),
        "channels": channels + (channels == units),
    }


def _head_of_modules(score_weight: Tensor, score_bias: Tensor, channels: int) -> dict[str, Tensor]:
    """The same from layers, each set as the model sets them."""
    classes = len(score_bias)
    layers = nn.ModuleDict(
        {
            "score_fr": nn.Conv2d(score_weight.shape[1], classes, 1),
            "score_pool4": nn.Conv2d(channels, classes, 1),
            "up2": nn.ConvTranspose2d(classes, classes, 4, stride=2, bias=False),
            "up": nn.ConvTranspose2d(classes, classes, 32, stride=16, bias=False),
        }
    )
    for name, parameter in layers.named_parameters():
        if name.startswith("score_pool4"):
            nn.init.zeros_(parameter)
    for deconv in (layers["up2"], layers["up"]):
        assert isinstance(deconv, nn.ConvTranspose2d)
        set_bilinear(deconv)
    return {**layers.state_dict(), "score_fr.weight": score_weight, "score_fr.bias": score_bias}


def _same_head(expected: dict[str, Tensor], got: Any) -> Mismatch | None:
    """Name the entries that are missing or too many, or the first one that is wrong, and no other."""
    if not isinstance(got, dict):
        return agree(expected, got)
    missing = ", ".join(f"`{name}`" for name in expected if name not in got)
    surplus = ", ".join(f"`{name}`" for name in got if name not in expected)
    says = [f"it lacks {missing}"] * bool(missing) + [f"it holds {surplus}, which was not asked for"] * bool(surplus)
    if says:
        return Mismatch(", and ".join(says) + ".")
    for name, value in expected.items():
        mismatch = agree(value, got[name])
        if mismatch and name.startswith("score_pool4") and mismatch.where is not None:
            return Mismatch(f"it begins with `{name}` not at zero. It is new: what may it add to the sum?")
        if mismatch:
            return Mismatch(f"it has a wrong `{name}`: {mismatch.says}", mismatch.where if value.dim() == 4 else None)
    return None


def _head_with(**changed: Callable[[Tensor, int], Tensor]) -> Callable[..., dict[str, Tensor]]:
    """A start with other values: entry (dots written as two underscores) -> (right value, channels) -> wrong value."""

    def head(score_weight: Tensor, score_bias: Tensor, channels: int) -> dict[str, Tensor]:
        right = start_16s(score_weight, score_bias, channels)
        for name, change in changed.items():
            key = name.replace("__", ".")
            right[key] = change(right[key], channels)
        return right

    return head


def _every_pair(weight: Tensor, channels: int) -> Tensor:
    return weight[0, 0].expand_as(weight).clone()


def _nothing(weight: Tensor, channels: int) -> Tensor:
    return torch.zeros_like(weight)


def _diagonal(weight: Tensor, kernel: Tensor) -> Tensor:
    """The kernel from each class to itself, zero between classes."""
    return torch.eye(len(weight))[:, :, None, None] * kernel


def _nearest(weight: Tensor, channels: int) -> Tensor:
    """The kernel that repeats each score: ones in the middle of the stamp."""
    factor = weight.shape[2] // 2
    ones = torch.zeros(2 * factor)
    ones[factor // 2 : factor // 2 + factor] = 1
    return _diagonal(weight, torch.outer(ones, ones))


def _depthwise(weight: Tensor, channels: int) -> Tensor:
    return weight[0, 0].expand(len(weight), 1, -1, -1).clone()


def _copied_bias(score_weight: Tensor, score_bias: Tensor, channels: int) -> dict[str, Tensor]:
    return start_16s(score_weight, score_bias, channels) | {"score_pool4.bias": score_bias}


def _random_kernel(weight: Tensor, channels: int) -> Tensor:
    return nn.Conv2d(channels, len(weight), 1).weight.detach()


def _random_layer(score_weight: Tensor, score_bias: Tensor, channels: int) -> dict[str, Tensor]:
    layer = nn.Conv2d(channels, len(score_bias), 1)
    return start_16s(score_weight, score_bias, channels) | {
        f"score_pool4.{name}": value.detach() for name, value in layer.named_parameters()
    }


def _random_bias(score_weight: Tensor, score_bias: Tensor, channels: int) -> dict[str, Tensor]:
    layer = nn.Conv2d(channels, len(score_bias), 1)
    assert layer.bias is not None
    return start_16s(score_weight, score_bias, channels) | {"score_pool4.bias": layer.bias.detach()}


START_16S = Exercise(
    name="start_16s",
    lesson=STEM,
    title="The next stage's start",
    points=2,
    minutes=9,
    difficulty=2,
    reference=start_16s,
    oracle=_head_of_modules,
    cases=_trained_head,
    drive=drivers.head_from_a_seed,
    compare=_same_head,
    runs=16,
    misconceptions=(
        Misconception(
            "skip_scores_random",
            _random_layer,
            "The new score layer has the random numbers that PyTorch gives to a fresh one, bias included. They are "
            "added to scores that were trained: what must they be for the sum to stay what it was?",
            "One stage at a time",
        ),
        Misconception(
            "skip_bias_random",
            _random_bias,
            "The new score layer's weight is zero, but its bias still has random numbers: every class gets a bonus "
            "that nobody learned.",
            "One stage at a time",
        ),
        Misconception(
            "skip_bias_copied",
            _copied_bias,
            "You gave the new score layer the trained bias as well. It is in the sum already, and would count twice.",
            "One stage at a time",
        ),
        Misconception(
            "every_pair_bilinear",
            _head_with(up2__weight=_every_pair, up__weight=_every_pair),
            "You put the bilinear kernel into every pair of classes: each class then gets the sum of all of them, and "
            "all scores become alike. From which class may a class's upsampled score come?",
            "Upsampling, set to bilinear and learned",
        ),
        Misconception(
            "trained_scores_lost",
            _head_with(score_fr__weight=_nothing, score_fr__bias=_nothing),
            "You set the trained scores of fc7 to zero too. Only what is *new* starts at zero.",
            "One stage at a time",
        ),
        Misconception(
            "trained_bias_lost",
            _head_with(score_fr__bias=_nothing),
            "The weight of fc7's scores is taken over, their bias is zero. It was trained too.",
            "One stage at a time",
        ),
        Misconception(
            "upsampling_at_zero",
            _head_with(up2__weight=_nothing, up__weight=_nothing),
            "Your upsampling starts at zero: nothing gets through, neither scores nor gradients.",
            "Upsampling, set to bilinear and learned",
        ),
        Misconception(
            "kernel_sums_to_one",
            _head_with(up2__weight=lambda w, _: w / 4, up__weight=lambda w, _: w / 256),
            "You divided the kernel by factor², so that it sums to 1, as a blur does. Where stamps of one kernel "
            "overlap, the stamps already add up to 1; yours make scores that are too small.",
            "Upsampling, set to bilinear and learned",
        ),
        Misconception(
            "one_kernel_at_the_end",
            _head_with(up__weight=lambda w, _: _diagonal(w, bilinear_kernel(32, ndim=2))),
            "Your last upsampling is still that of FCN-32s, by 32. After up2 the scores have a step of 16 pixels.",
            "One stage at a time",
        ),
        Misconception(
            "last_kernel_of_8s",
            _head_with(up__weight=lambda w, _: _diagonal(w, bilinear_kernel(8, ndim=2))),
            "Your last upsampling is that of FCN-8s, by 8. After up2 the scores have a step of 16 pixels.",
            "One stage at a time",
        ),
        Misconception(
            "both_kernels_small",
            _head_with(up__weight=lambda w, _: _diagonal(w, bilinear_kernel(2, ndim=2))),
            "Both upsamplings have the kernel for a factor of 2. The second one leads from 16 pixels to one.",
            "One stage at a time",
        ),
        Misconception(
            "repeated_scores",
            _head_with(up2__weight=_nearest, up__weight=_nearest),
            "Your kernels repeat each score in a block. To interpolate, neighbouring stamps must overlap: a tent.",
            "Upsampling, set to bilinear and learned",
        ),
        Misconception(
            "one_kernel_a_class",
            _head_with(up2__weight=_depthwise, up__weight=_depthwise),
            "Your upsampling has one kernel for each class: (K, 1, ...). FCN's leads from all classes to all, (K, K, "
            "...), with zeros between different classes.",
            "Upsampling, set to bilinear and learned",
        ),
    ),
    hints=(
        "Two things are new: the score layer of pool4, and an upsampling by 2 in the middle. What must each do at the "
        "start so that the sum equals what was there before?",
        "Zeros for the new score layer, its bias too. A dense upsampling kernel has an entry for each pair of classes: "
        "zero, except where a class meets itself, and there the bilinear kernel. What was trained is taken over.",
        'for each k: head["up2.weight"][k, k] = bilinear_kernel(2, ndim=2), and the same for "up.weight" with 16; the '
        "score layer is torch.zeros(classes, channels, 1, 1) and torch.zeros(...)",
    ),
    property="the scores of fc7 are taken over, the new score layer is zero, and each class's score is upsampled "
    "bilinearly from its own.",
)


# --- the quiz ---------------------------------------------------------------------------------------------

QUIZ = (
    Question(
        "what_and_where",
        STEM,
        "Why does FCN-8s add scores of pool3 to those of fc7?",
        (
            Option("pool3 knows better which class it is.", "It sees 44 pixels, and fc7 404: of a large thing, more."),
            Option(
                "pool3 knows better where things are.",
                "Its units lie 8 pixels apart, those of fc7 32: the coarse map says what, the fine one where.",
                right=True,
            ),
            Option(
                "To make the network smaller.", "A skip adds a score layer; that 8s has fewer weights is up's doing."
            ),
            Option(
                "To let gradients reach the early layers.",
                "FCN-32s has no skip, and its loss falls too: gradients come through. What it lacks is fine outlines.",
            ),
        ),
    ),
    Question(
        "sum_or_concatenation",
        STEM,
        "Two feature maps of equal size: score both with 1x1 convolutions and add, or concatenate them and score once?",
        (
            Option(
                "Concatenating can do more: it sees both at once.", "The score layer is linear: a sum of two parts."
            ),
            Option(
                "The two are the same function.",
                "A 1x1 kernel over both is one kernel for each, and the sum of what they give.",
                right=True,
            ),
            Option("Adding can do more: it has two biases.", "Two biases add up to one; it can do the same."),
        ),
    ),
    Question(
        "argmax_last",
        STEM,
        "Why are scores enlarged and not labels?",
        (
            Option("Labels take more memory.", "They take less: one number a pixel instead of one for each class."),
            Option(
                "Between two scores there is a meaningful score; between two labels there is none.",
                "Where two classes' interpolated scores cross, the boundary lies, anywhere between coarse places.",
                right=True,
            ),
            Option("It makes no difference.", "Repeated labels have boundaries only at the edges of the blocks."),
        ),
    ),
    Question(
        "context",
        STEM,
        "The loss is a mean over single pixels. Why does FCN not label each pixel by its colour alone?",
        (
            Option("The soft-max compares neighbouring pixels.", "It compares the classes at one pixel."),
            Option("The batch mixes the pixels.", "The loss stays the same if pixels are shuffled with their labels."),
            Option(
                "Each score is computed from a whole region of the image.",
                "The context is in the receptive field, 436 x 436 pixels and more, not in the loss.",
                right=True,
            ),
            Option("The upsampling spreads labels.", "It spreads scores over some pixels; the field is far larger."),
        ),
    ),
    Question(
        "zero_scores",
        STEM,
        "New skip scores start at zero. What does that bring?",
        (
            Option("Nothing: a layer of zeros learns nothing.", "Its gradient is its input times an error: not zero."),
            Option(
                "The new stage begins with the scores of the trained one.",
                "A sum with zero changes nothing; then the skip learns what is missing.",
                right=True,
            ),
            Option("Exactly the same image of labels.", "Nearly: upsampling by 2 and by 16 is not quite that by 32."),
            Option("Faster steps.", "Multiplying by zero takes as long as multiplying by another number."),
        ),
    ),
    Question(
        "why_the_padding",
        STEM,
        "Why does FCN-8s crop its maps at offsets such as 5, 9 and 31? (More than one is true.)",
        (
            Option("To centre them.", "The crops are not symmetric: what lies before and after differs."),
            Option(
                "Upsampling by a kernel without padding adds a border.",
                "The first stamp begins before the unit that it belongs to.",
                right=True,
            ),
            Option(
                "Layers whose padding is not (kernel - 1)/2 shift the first centres.",
                "fc6 shifts it by three units in, which the 5 holds; conv1's padding of 100 by 99 pixels out, which "
                "only the crop to the image holds: 31, 27 and 19.",
                right=True,
            ),
            Option("They were found by trying.", "They follow from kernels, strides and paddings; you computed them."),
        ),
        several=True,
    ),
)

LESSON = Lesson(
    stem=STEM,
    title="FCN: skips",
    promise="Build FCN-32s, FCN-16s and FCN-8s: coarse scores that know what, fine scores that know where, one sum.",
    reading_minutes=30,
    before=("02_transposed", "03_convolutionalize"),
    exercises=(LABEL_PIXELS, PIXEL_CROSS_ENTROPY, CROP_OFFSET, FUSE, FCN8_SCORES, START_16S),
    given=("segcourse.transposed.bilinear_kernel",),
    quiz=QUIZ,
)
